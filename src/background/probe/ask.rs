//! One probe: a name, a connection, a request, an answer, all within one timeout.

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::ids::BaseUrl;
use crate::net::tls::{Reason, ShardTls};
use crate::net::upstream::{ConnectError, Endpoint, UpstreamStream, is_local};
use crate::protocol::health::{ActiveSettings, ProbeFailure};

/// Bytes of an answer's head. Health pages have a few hundred; 16 KiB leaves room for the cookies
/// of whatever stands before the shard.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of an answer's body that are read. A shorter one must come whole; of a longer one, this
/// much is proof enough.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What is asked of one shard.
#[derive(Debug, Clone)]
pub(super) struct Question {
    host: String,
    port: u16,
    endpoint: Endpoint,
    tls: Arc<ShardTls>,
    authority: String,
    /// Base path, path and query.
    target: String,
    settings: ActiveSettings,
}

impl Question {
    pub(super) fn new(url: &BaseUrl, settings: &ActiveSettings, tls: &Arc<ShardTls>) -> Self {
        Self {
            endpoint: Endpoint::of(url),
            tls: Arc::clone(tls),
            host: url.host().to_owned(),
            port: url.port(),
            authority: url.authority(),
            target: format!("{}{}", url.base_path(), settings.path.as_str()),
            settings: settings.clone(),
        }
    }
}

/// Why a probe did not pass: what the machine is told, and what the log may add.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
pub(super) struct AskError {
    pub(super) failure: ProbeFailure,
    source: Option<Box<dyn Error + Send + Sync>>,
    /// The shard was not even asked, for want of something of this process's own.
    pub(super) local: bool,
}

impl From<ProbeFailure> for AskError {
    fn from(failure: ProbeFailure) -> Self {
        Self { failure, source: None, local: false }
    }
}

impl AskError {
    fn new(failure: ProbeFailure, source: impl Error + Send + Sync + 'static) -> Self {
        Self { failure, source: Some(Box::new(source)), local: false }
    }

    fn connect(error: io::Error) -> Self {
        let local = is_local(&error);
        Self { local, ..Self::new(ProbeFailure::Connect, error) }
    }

    fn untrusted(error: ConnectError) -> Self {
        let reason = match &error {
            ConnectError::Tls(refused) => refused.reason().label(),
            _ => Reason::Other.label(),
        };
        Self::new(ProbeFailure::Tls(reason), error)
    }
}

/// Asks once.
pub(super) async fn ask(question: &Question, names: &mut Names) -> Result<(), AskError> {
    let until = Instant::now() + question.settings.timeout;
    let addresses = timeout_at(until, names.addresses(&question.host, question.port))
        .await
        .map_err(|_| ProbeFailure::Lookup)?
        .map_err(|error| AskError::new(ProbeFailure::Lookup, error))?;
    let stream = timeout_at(until, TcpStream::connect(&*addresses))
        .await
        .map_err(|_| ProbeFailure::ConnectTimeout)?
        .map_err(AskError::connect)?;
    let stream = timeout_at(until, question.endpoint.secure(stream, &question.tls))
        .await
        .map_err(|_| ProbeFailure::ConnectTimeout)?
        .map_err(AskError::untrusted)?;
    timeout_at(until, exchange(question, stream)).await.map_err(|_| ProbeFailure::AnswerTimeout)?
}

async fn exchange(question: &Question, stream: UpstreamStream) -> Result<(), AskError> {
    let broken = |error: hyper::Error| match of_own_certificate(&error) {
        Some(reason) => AskError::new(ProbeFailure::Tls(reason.label()), error),
        None => AskError::new(ProbeFailure::Broken, error),
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = http::Request::builder()
        .method(question.settings.method.as_str())
        .uri(&question.target)
        .header(HOST, &question.authority)
        .header(USER_AGENT, concat!("ringway/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("method, path and authority were checked when they were made");

    let answer = async {
        let mut response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        if !question.settings.expects(status) {
            return Err(ProbeFailure::Status(status).into());
        }
        let mut read = 0;
        while read < BODY_BYTES_MAX {
            match response.body_mut().frame().await {
                Some(frame) => read += frame.map_err(broken)?.data_ref().map_or(0, Bytes::len),
                None => break,
            }
        }
        Ok(())
    };
    // The connection moves the bytes; what it has to say about its end, the answer says too.
    let moved = async {
        let _ = connection.await;
        pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        result = answer => result,
        never = moved => match never {},
    }
}

/// What a shard says of this node's certificate, which by TLS 1.3 it does behind the handshake.
fn of_own_certificate(error: &hyper::Error) -> Option<Reason> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Reason::of_own_certificate(error);
        }
        source = error.source();
    }
    None
}

/// Looks names up, one at a time.
///
/// A lookup blocks a thread for as long as the system's resolver likes, and cannot be cancelled.
/// One that outlives its probe is therefore kept, and the next probe waits for it instead of
/// beginning another: a dead name server costs each shard one thread, not one more every interval.
#[derive(Debug, Default)]
pub(super) struct Names {
    under_way: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl Names {
    async fn addresses(&mut self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let lookup = self.under_way.get_or_insert_with(|| {
            let host = host.to_owned();
            tokio::task::spawn_blocking(move || {
                (host.as_str(), port).to_socket_addrs().map(Iterator::collect)
            })
        });
        let found = lookup.await;
        self.under_way = None;
        let addresses: Vec<_> = found.map_err(io::Error::other)??;
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(addresses)
    }
}
