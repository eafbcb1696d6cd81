//! How is a question put to another node?

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::body::{self, BODY_BYTES_MAX, BodyError};
use super::message::{Introduction, PeerAnswer};
use super::pool::{Connection, Opening, Pool};
use super::socket::{Dial, Stream};
use crate::ids::PeerAddress;
use crate::net::tls::ClientTls;

/// How long a connection may take to open, TLS included, however patient the caller is: a
/// snapshot may take a minute, but a node that does not even answer a SYN is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// More than is ever sent.
    #[error("a message of {0} bytes, of which {BODY_BYTES_MAX} may be sent")]
    TooLong(usize),
    /// No connection could be opened.
    #[error("cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// One side does not accept the other's certificate, or does not speak TLS: the connection
    /// never came to carry a request.
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke after the request was sent.
    #[error("the connection broke before the answer: {0}")]
    Lost(#[source] Box<dyn Error + Send + Sync>),
    /// The other side speaks something else than we do, or too much of it.
    #[error("an answer that is none: {0}")]
    Protocol(#[source] Box<dyn Error + Send + Sync>),
}

impl CallError {
    /// Whether the other node has certainly seen nothing of the request. Otherwise it may have
    /// acted on it.
    #[must_use]
    pub fn is_surely_unsent(&self) -> bool {
        matches!(self, Self::TooLong(_) | Self::Unreachable(_) | Self::Tls(_))
    }

    /// What broke when the first request of a connection was under way. In TLS 1.3 a client learns
    /// that its certificate was refused when it first reads, and a server that refused has read no
    /// request. Any other failure of TLS may strike an answer as well as a question.
    fn broken_at_first(error: hyper::Error) -> Self {
        match tls_error(&error) {
            Some(error) if refuses_certificate(&error) => Self::Tls(error),
            _ => Self::broken(error),
        }
    }

    fn unreachable(error: io::Error) -> Self {
        match tls_error(&error) {
            Some(error) => Self::Tls(error),
            None => Self::Unreachable(error),
        }
    }

    fn broken(error: hyper::Error) -> Self {
        match error.is_parse() {
            true => Self::Protocol(Box::new(error)),
            false => Self::Lost(Box::new(error)),
        }
    }
}

/// Whether this is what a server says of a client's certificate, instead of reading on.
fn refuses_certificate(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let rustls::Error::AlertReceived(alert) = error else { return false };
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::HandshakeFailure
    )
}

fn tls_error(error: &(dyn Error + 'static)) -> Option<rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error.clone());
        }
        // `io::Error` shows what it wraps through `get_ref`, and only that one's source.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Asks other nodes. Cheap to clone; clones share connections. Belongs to one runtime.
#[derive(Clone)]
pub struct PeerClient {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
}

struct Shared {
    dialer: Box<dyn Dial>,
    tls: Option<Arc<ClientTls>>,
    introduction: ArcSwap<Introduction>,
}

impl PeerClient {
    /// A client that belongs to no cluster yet.
    pub fn new(dialer: impl Dial, tls: Option<Arc<ClientTls>>) -> Self {
        let introduction = ArcSwap::from_pointee(Introduction::default());
        let shared = Shared { dialer: Box::new(dialer), tls, introduction };
        Self { shared: Arc::new(shared), pool: Arc::default() }
    }

    /// The same client with connections of its own, so that a burst on one lane (forwarded
    /// commands) never makes the other (heartbeats) wait.
    #[must_use]
    pub fn lane(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), pool: Arc::default() }
    }

    /// From now on requests of all lanes are introduced so.
    pub fn introduce(&self, introduction: Introduction) {
        self.shared.introduction.store(Arc::new(introduction));
    }

    /// Asks the node at `to` and waits for its whole answer. An answer of any status is an answer.
    ///
    /// # Errors
    /// See [`CallError`]; whether the request may have been acted on,
    /// [`CallError::is_surely_unsent`].
    pub async fn call(
        &self,
        to: &PeerAddress,
        path: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<PeerAnswer, CallError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(CallError::TooLong(body.len()));
        }
        match timeout(within, self.exchange(to, path, body)).await {
            Ok(answered) => answered,
            Err(_) => Err(CallError::Timeout(within)),
        }
    }

    async fn exchange(
        &self,
        to: &PeerAddress,
        path: &str,
        body: Bytes,
    ) -> Result<PeerAnswer, CallError> {
        let peer = self.pool.peer(to);
        let _permit = peer.permits.acquire().await.expect("this semaphore is never closed");
        let mut request = self.request(to, path, body);
        let mut kept = peer.checkout().await;
        loop {
            let reused = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => peer.open(|| self.begin_to_connect(to)).await?,
            };
            let mut refused = match connection.sender.try_send_request(request).await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let body = body::read(response.into_body(), BODY_BYTES_MAX).await.map_err(
                        |error| match error {
                            BodyError::Broken(error) => CallError::broken(error),
                            error => CallError::Protocol(Box::new(error)),
                        },
                    )?;
                    peer.checkin(connection);
                    return Ok(PeerAnswer { status, body });
                }
                Err(refused) => refused,
            };
            // A kept connection may have been closed at the moment it was taken. hyper gives the
            // request back only if not one byte of it was written.
            match refused.take_message() {
                Some(unsent) if reused => {
                    peer.forget_idle();
                    request = unsent;
                }
                _ if reused => return Err(CallError::broken(refused.into_error())),
                _ => return Err(CallError::broken_at_first(refused.into_error())),
            }
        }
    }

    fn request(&self, to: &PeerAddress, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().expect("paths between nodes are written in this crate");
        let fields = request.headers_mut();
        let host = HeaderValue::try_from(to.to_string()).expect("an address is a field value");
        fields.insert(header::HOST, host);
        self.shared.introduction.load().write(fields);
        request
    }

    fn begin_to_connect(&self, to: &PeerAddress) -> Opening {
        let (opened, opening) = oneshot::channel();
        let (client, to) = (self.clone(), to.clone());
        tokio::spawn(async move { drop(opened.send(client.connect(&to).await)) });
        Opening::new(opening)
    }

    async fn connect(&self, to: &PeerAddress) -> Result<Connection, CallError> {
        let opening = async {
            let stream = self.shared.dialer.dial(to).await?;
            match &self.shared.tls {
                Some(tls) => Ok(Box::new(tls.connect(to.host(), stream).await?) as Box<dyn Stream>),
                None => Ok(stream),
            }
        };
        let stream = timeout(CONNECT_TIMEOUT, opening)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(CallError::unreachable)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(CallError::broken)?;
        // Ends when the sender is dropped or the other side closes; what broke, the sender tells.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection::new(sender))
    }
}
