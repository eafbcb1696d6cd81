//! How does a node take in and answer what other nodes ask?

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::body::{self, BodyError, Room};
use super::message::{Introduction, PeerAnswer, PeerRequest};
use super::socket::{Accept, Stream};
use crate::net::tls::ServerTls;

/// Connections from one address: a node has at most 64 (32 requests in flight on two lanes), and
/// several nodes of a small cluster may share a machine.
const PER_ADDRESS_MAX: usize = 512;

/// Connections in all: every other node of the largest cluster (64) in the middle of a burst.
const CONNECTIONS_MAX: usize = 2048;

/// Connections in the middle of their TLS handshake, from one address and in all: as many as a
/// node opens at once, and of some. Those that never end it are in each other's way alone.
const OPENING_PER_ADDRESS_MAX: usize = 64;
const OPENING_MAX: usize = 512;

/// A node's first message must come soon, or whoever opens connections and says nothing would
/// hold them.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may be idle, and a head may take. Longer than the asking side keeps an
/// idle one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What is asked when the node stops may still be answered for so long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// After an `accept` that failed: how long to leave it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often trouble with connections is said in the log.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Who answers.
pub trait PeerHandler: Send + Sync + 'static {
    /// Whether a request for `path` may be read, and how many bytes of its body, at most
    /// [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX).
    ///
    /// # Errors
    /// The answer to give instead.
    fn admit(&self, path: &str, introduction: &Introduction) -> Result<usize, PeerAnswer>;

    /// Answers one request. It is dropped where it waits when the asking side goes away, so what
    /// must be finished once begun runs in a task of its own.
    fn answer(self: Arc<Self>, request: PeerRequest) -> impl Future<Output = PeerAnswer> + Send;
}

/// Accepts and answers until `stop` is ready; then answers what was asked, for a short while.
pub async fn serve<A: Accept, H: PeerHandler>(
    mut listener: A,
    tls: Option<Arc<ServerTls>>,
    handler: Arc<H>,
    stop: impl Future<Output = ()>,
) {
    let gate = Arc::new(Gate::default());
    let room = Room::default();
    let (stopping, stopped) = watch::channel(false);
    // Dropped with this future: no connection outlives it.
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                gate.report(|| tracing::warn!(%error, "connections of nodes cannot be accepted"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(mut place) = Gate::enter(&gate, from.ip(), tls.is_some()) else {
            gate.report(|| tracing::warn!(%from, "too many connections of nodes: one was refused"));
            continue;
        };
        let (tls, handler, stopped) = (tls.clone(), Arc::clone(&handler), stopped.clone());
        let room = room.clone();
        connections.spawn(async move {
            match open(stream, tls.as_deref()).await {
                Ok((stream, certificate)) => {
                    place.opened();
                    let caller = Caller { from, certificate, room };
                    converse(stream, caller, handler, stopped).await;
                }
                Err(error) => place
                    .gate
                    .report(|| tracing::warn!(%from, %error, "a connection of a node was refused")),
            }
            drop(place);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    drop(timeout(DRAIN_TIMEOUT, all_ended).await);
}

async fn open(
    stream: Box<dyn Stream>,
    tls: Option<&ServerTls>,
) -> io::Result<(Box<dyn Stream>, Option<Arc<str>>)> {
    let Some(tls) = tls else { return Ok((stream, None)) };
    let (stream, certificate) = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok((Box::new(stream), certificate))
}

/// Who is on the other end of a connection.
struct Caller {
    from: SocketAddr,
    certificate: Option<Arc<str>>,
    room: Room,
}

async fn converse<H: PeerHandler>(
    stream: Box<dyn Stream>,
    caller: Caller,
    handler: Arc<H>,
    mut stopped: watch::Receiver<bool>,
) {
    let caller = Arc::new(caller);
    let service = service_fn(move |request| {
        let (caller, handler) = (Arc::clone(&caller), Arc::clone(&handler));
        async move { Ok::<_, Infallible>(response(answer(request, &caller, handler).await)) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    // A node that breaks off is noticed by whoever waits for it.
    tokio::select! {
        biased;
        _ended = &mut connection => return,
        _stopping = stopped.wait_for(|stopping| *stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}

async fn answer<H: PeerHandler>(
    request: http::Request<Incoming>,
    caller: &Caller,
    handler: Arc<H>,
) -> PeerAnswer {
    if request.method() != Method::POST {
        return PeerAnswer::problem(405, "method", "Nodes ask each other with POST alone.");
    }
    let (head, body) = request.into_parts();
    let introduction = match Introduction::read(&head.headers) {
        Ok(introduction) => introduction,
        Err(refusal) => return refusal,
    };
    let path = head.uri.path();
    let bytes_max = match handler.admit(path, &introduction) {
        Ok(bytes_max) => bytes_max,
        Err(refusal) => {
            body::discard(body).await;
            return refusal;
        }
    };
    // Given back when it is answered: until then somebody works on it.
    let (body, _place) = match caller.room.read(body, bytes_max).await {
        Ok(read) => read,
        Err(error) => {
            let status = match error {
                BodyError::TooLong(_) => 413,
                BodyError::NoLength => 411,
                BodyError::NoRoom => 503,
                BodyError::Stalled => 408,
                BodyError::Broken(_) => 400,
            };
            return PeerAnswer::problem(status, "body", &format!("The request has {error}."));
        }
    };
    let request = PeerRequest {
        path: path.to_owned(),
        body,
        introduction,
        certificate: caller.certificate.clone(),
        from: caller.from,
    };
    handler.answer(request).await
}

fn response(answer: PeerAnswer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    let status = StatusCode::from_u16(answer.status);
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = match answer.status {
        400.. => "application/problem+json",
        _ => "application/octet-stream",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Counts who is inside, and how often trouble is told.
#[derive(Default)]
struct Gate {
    inside: Mutex<BTreeMap<IpAddr, Inside>>,
    reported: Mutex<Option<Instant>>,
}

/// Connections from one address.
#[derive(Debug, Default, Clone, Copy)]
struct Inside {
    all: usize,
    /// Of them, those in their handshake.
    opening: usize,
}

/// A place inside, given back when dropped.
struct Place {
    gate: Arc<Gate>,
    from: IpAddr,
    opening: bool,
}

impl Gate {
    fn enter(gate: &Arc<Self>, from: IpAddr, opening: bool) -> Option<Place> {
        let mut inside = gate.inside();
        let all: usize = inside.values().map(|inside| inside.all).sum();
        let all_opening: usize = inside.values().map(|inside| inside.opening).sum();
        let here = inside.get(&from).copied().unwrap_or_default();
        let full = all >= CONNECTIONS_MAX || here.all >= PER_ADDRESS_MAX;
        let crowded = all_opening >= OPENING_MAX || here.opening >= OPENING_PER_ADDRESS_MAX;
        if full || (opening && crowded) {
            return None;
        }
        let opening_here = here.opening + usize::from(opening);
        inside.insert(from, Inside { all: here.all + 1, opening: opening_here });
        Some(Place { gate: Arc::clone(gate), from, opening })
    }

    fn inside(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Inside>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, say: impl FnOnce()) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|reported| reported.elapsed() >= REPORT_INTERVAL) {
            *reported = Some(Instant::now());
            say();
        }
    }
}

impl Place {
    /// The handshake has ended.
    fn opened(&mut self) {
        if std::mem::take(&mut self.opening)
            && let Some(here) = self.gate.inside().get_mut(&self.from)
        {
            here.opening -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.opened();
        let mut inside = self.gate.inside();
        match inside.get_mut(&self.from) {
            Some(here) if here.all > 1 => here.all -= 1,
            _ => drop(inside.remove(&self.from)),
        }
    }
}
