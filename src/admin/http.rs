//! How does a node answer the few requests that are not its clients'?
//!
//! hyper, one task per connection, on the control runtime: here a clear program counts more than
//! a microsecond.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// A request as it comes.
pub type Request = hyper::Request<Incoming>;

/// An answer, whole.
pub type Response = hyper::Response<Full<Bytes>>;

/// Who answers.
#[allow(async_fn_in_trait, reason = "used in this crate alone, with the bound spelled out")]
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn answer(self: Arc<Self>, request: Request) -> impl Future<Output = Response> + Send;
}

/// Connections at once to one such listener: a scraper, a balancer, a few operators. For a further
/// one the oldest is closed: whoever holds connections and does nothing with them must not keep a
/// balancer from its answer.
const CONNECTIONS_MAX: usize = 64;

/// From the first byte of a request to the end of its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// After an `accept` that failed: how long to leave it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is said that connections cannot be accepted.
const ACCEPT_REPORT: Duration = Duration::from_secs(10);

/// After the listener was told to stop: how long whoever is being answered may take.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// Accepts and answers until the task is dropped.
pub async fn serve<H: Handler>(listener: TcpListener, handler: Arc<H>) {
    let (_never, stop) = watch::channel(false);
    serve_until(listener, handler, stop).await;
}

/// Accepts and answers until `stop` says so, or the task is dropped. When this returns, no
/// connection holds the handler any more.
pub async fn serve_until<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    mut stop: watch::Receiver<bool>,
) {
    let mut reported: Option<Instant> = None;
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if reported.is_none_or(|reported| reported.elapsed() >= ACCEPT_REPORT) {
                    reported = Some(Instant::now());
                    tracing::warn!(%error, "operators' connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let connection = connections.spawn(answer(stream, Arc::clone(&handler), stop.clone()));
        open.push_back(connection);
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_PATIENCE, ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// A sender that is gone says the same as one that spoke.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn answer<H: Handler>(stream: TcpStream, handler: Arc<H>, mut stop: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(handler.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A client that breaks off its request is its own affair.
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

/// An answer with a text.
#[must_use]
pub fn text(status: u16, content_type: &str, body: impl Into<Bytes>) -> Response {
    hyper::Response::builder()
        .status(status)
        .header("Content-Type", content_type)
        .header("Cache-Control", "no-store")
        .body(Full::new(body.into()))
        .expect("a status and field values of ours are valid")
}

/// An answer with a JSON document.
#[must_use]
pub fn json(status: u16, document: &impl serde::Serialize) -> Response {
    let mut body = serde_json::to_vec_pretty(document).expect("documents of ours are JSON");
    body.push(b'\n');
    text(status, "application/json", body)
}

/// Why something was not done (RFC 9457), on its way to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: u16,
    /// For programs; stable.
    kind: &'static str,
    /// A sentence that says what to do.
    detail: String,
    /// What became of the change that was asked for.
    outcome: Option<&'static str>,
}

impl Problem {
    /// A problem of one kind, in a sentence.
    #[must_use]
    pub fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), outcome: None }
    }

    /// The same, with what became of the change that was asked for.
    #[must_use]
    pub fn with_outcome(self, outcome: &'static str) -> Self {
        Self { outcome: Some(outcome), ..self }
    }

    /// The answer.
    #[must_use]
    pub fn answer(&self) -> Response {
        let title = http::StatusCode::from_u16(self.status).ok().and_then(|s| s.canonical_reason());
        let mut document = serde_json::json!({
            "type": format!("urn:ringway:problem:{}", self.kind),
            "title": title,
            "status": self.status,
            "detail": self.detail,
        });
        if let Some(outcome) = self.outcome {
            document["outcome"] = outcome.into();
        }
        let mut answer = json(self.status, &document);
        let fields = answer.headers_mut();
        let content_type = http::HeaderValue::from_static("application/problem+json");
        fields.insert("Content-Type", content_type);
        if self.status == 503 {
            fields.insert("Retry-After", http::HeaderValue::from_static("1"));
        }
        answer
    }
}

/// A problem as an answer at once.
#[must_use]
pub fn problem(status: u16, kind: &'static str, detail: &str) -> Response {
    Problem::new(status, kind, detail).answer()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Semaphore;

    /// Answers once it may.
    struct Slow {
        asked: Semaphore,
        may_answer: Semaphore,
    }

    impl Handler for Slow {
        async fn answer(self: Arc<Self>, _request: Request) -> Response {
            self.asked.add_permits(1);
            self.may_answer.acquire().await.expect("open").forget();
            text(200, "text/plain", "done")
        }
    }

    #[tokio::test]
    async fn who_is_being_answered_at_the_end_is_and_then_nobody_holds_the_handler() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let slow = Arc::new(Slow { asked: Semaphore::new(0), may_answer: Semaphore::new(0) });
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve_until(listener, Arc::clone(&slow), stopped));
        // One that waits for an answer, and one that keeps its connection and asks nothing.
        let idle = TcpStream::connect(address).await.expect("connected");
        let mut asking = TcpStream::connect(address).await.expect("connected");
        asking.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("written");
        slow.asked.acquire().await.expect("open").forget();
        stop.send_replace(true);
        slow.may_answer.add_permits(1);
        serving.await.expect("no panic");
        assert_eq!(Arc::strong_count(&slow), 1);
        let mut answer = String::new();
        asking.read_to_string(&mut answer).await.expect("answered, and closed");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        drop(idle);
    }
}
