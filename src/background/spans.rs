//! How do finished spans reach a collector?
//!
//! Workers hand in the spans of a request when its answer has ended; one task on the control
//! runtime gathers them and posts them as OTLP over HTTP, in JSON, to one URL. Nothing here ever
//! delays a request: the queue is bounded, and what does not fit, or what the collector does not
//! take, is dropped and counted.
//!
//! A batch that fails in a way that may pass (no connection, no answer, 429, 502, 503, 504) is
//! tried again three times, later each time; meanwhile the queue fills, and then drops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prometheus::proto::MetricFamily;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout, timeout_at};

use crate::ids::BaseUrl;
use crate::metrics::{Counter, Group, Kind, Sample, Stripe};
use crate::trace::{Resource, Span, encode};

/// Traced requests that wait to be gathered. With three spans each of about 700 bytes, 3 MiB.
const QUEUE_MAX: usize = 1024;

/// Spans of one post: about 350 KiB of JSON, far below what collectors take (4 MiB and more).
const BATCH_MAX: usize = 512;

/// How long spans wait for others.
const GATHER: Duration = Duration::from_secs(1);

/// For one post, from the lookup of the name to the end of the answer.
const POST_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an answer. A collector's has a few.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Before the second, third and fourth post of a batch.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// What is counted of spans.
#[derive(Debug)]
pub struct SpanMetrics {
    exported: Counter,
    queue_full: Counter,
    failed: Counter,
    rejected: Counter,
}

impl SpanMetrics {
    fn new(workers: usize) -> Self {
        let counter = || Counter::new(workers);
        Self { exported: counter(), queue_full: counter(), failed: counter(), rejected: counter() }
    }

    /// Writes out what was counted.
    #[must_use]
    pub fn export(&self) -> Vec<MetricFamily> {
        let mut exported = Group::new(
            "ringway_trace_spans_exported_total",
            "Spans that the collector took.",
            Kind::Counter,
            &[],
        );
        exported.push(&[], Sample::Counter(self.exported.sum()));
        let mut dropped = Group::new(
            "ringway_trace_spans_dropped_total",
            "Spans that were dropped: the queue was full, the collector could not be reached, or \
             it rejected them.",
            Kind::Counter,
            &["reason"],
        );
        for (reason, counter) in [
            ("queue_full", &self.queue_full),
            ("failed", &self.failed),
            ("rejected", &self.rejected),
        ] {
            dropped.push(&[reason], Sample::Counter(counter.sum()));
        }
        [exported, dropped].into_iter().filter_map(Group::finish).collect()
    }
}

/// The end at which workers hand spans in.
#[derive(Debug, Clone)]
pub struct SpanSender {
    queue: Sender<Vec<Span>>,
    metrics: Arc<SpanMetrics>,
}

impl SpanSender {
    /// Hands the spans of one request over, or drops them.
    pub fn send(&self, stripe: Stripe, spans: Vec<Span>) {
        let count = spans.len() as u64;
        if self.queue.try_send(spans).is_err() {
            self.metrics.queue_full.add(stripe, count);
        }
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> Arc<SpanMetrics> {
        Arc::clone(&self.metrics)
    }
}

/// What sends the spans. To be run by [`Exporter::run`].
pub struct Exporter {
    queue: Receiver<Vec<Span>>,
    metrics: Arc<SpanMetrics>,
    collector: Collector,
    resource: Resource,
    /// Now, in microseconds: on the wall clock, and on the clock of the spans.
    clock: Box<dyn Fn() -> (u64, u64) + Send + Sync>,
}

/// Where spans go.
struct Collector {
    host: String,
    port: u16,
    authority: String,
    path: String,
}

/// Where a collector takes traces unless its URL says otherwise (OTLP specification).
const USUAL_PATH: &str = "/v1/traces";

impl Exporter {
    /// An exporter to `url`, and the end at which spans are handed in. `clock` tells the present
    /// moment, in microseconds since 1970 and since the zero of the spans' clock.
    #[must_use]
    pub fn new(
        url: &BaseUrl,
        resource: Resource,
        workers: usize,
        clock: Box<dyn Fn() -> (u64, u64) + Send + Sync>,
    ) -> (Self, SpanSender) {
        let (sender, queue) = channel(QUEUE_MAX);
        let metrics = Arc::new(SpanMetrics::new(workers));
        let path = Some(url.base_path()).filter(|path| !path.is_empty()).unwrap_or(USUAL_PATH);
        let collector = Collector {
            host: url.host().to_owned(),
            port: url.port(),
            authority: url.authority(),
            path: path.to_owned(),
        };
        let exporter = Self { queue, metrics: Arc::clone(&metrics), collector, resource, clock };
        (exporter, SpanSender { queue: sender, metrics })
    }

    /// Runs until all senders are gone and what they handed in is sent.
    pub async fn run(mut self) {
        let mut in_trouble = false;
        while let Some(batch) = self.gather().await {
            let count = batch.len() as u64;
            let (unix, own) = (self.clock)();
            let body = Bytes::from(encode(&batch, &self.resource, unix.saturating_sub(own)));
            match self.deliver(body).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.metrics.rejected.add(Stripe::SHARED, rejected);
                    self.metrics.exported.add(Stripe::SHARED, count - rejected);
                    in_trouble = false;
                }
                Err(error) => {
                    self.metrics.failed.add(Stripe::SHARED, count);
                    // Said once per trouble.
                    if !in_trouble {
                        tracing::warn!(%error, "spans cannot be sent to the collector; they are dropped");
                    }
                    in_trouble = true;
                }
            }
        }
    }

    /// The next batch: as many spans as come within a while of the first.
    async fn gather(&mut self) -> Option<Vec<Span>> {
        let mut batch = self.queue.recv().await?;
        let until = tokio::time::Instant::now() + GATHER;
        while batch.len() < BATCH_MAX {
            match timeout_at(until, self.queue.recv()).await {
                Ok(Some(more)) => batch.extend(more),
                Ok(None) | Err(_) => break,
            }
        }
        Some(batch)
    }

    /// Posts a batch, again if that may help. How many of its spans the collector rejected.
    async fn deliver(&self, body: Bytes) -> Result<u64, PostError> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let posted = timeout(POST_TIMEOUT, self.collector.post(body.clone())).await;
            let error = match posted.unwrap_or(Err(PostError::TimedOut)) {
                Ok(rejected) => return Ok(rejected),
                Err(error) => error,
            };
            match pauses.next() {
                // Nobody hands in more when the process ends, and it does not wait long.
                Some(pause) if error.may_pass() && !self.queue.is_closed() => sleep(pause).await,
                _ => return Err(error),
            }
        }
    }
}

/// Why a post failed.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    #[error("the exchange broke: {0}")]
    Broken(#[source] hyper::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("it answered {0}")]
    Status(u16),
}

impl PostError {
    fn may_pass(&self) -> bool {
        !matches!(self, Self::Status(status) if ![429, 502, 503, 504].contains(status))
    }
}

impl Collector {
    async fn post(&self, body: Bytes) -> Result<u64, PostError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port));
        let stream = stream.await.map_err(PostError::Connect)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(PostError::Broken)?;
        let request = http::Request::post(&self.path)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("ringway/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .body(Full::new(body))
            .expect("path and authority were checked when the file was read");
        let answer = async {
            let response = sender.send_request(request).await.map_err(PostError::Broken)?;
            let status = response.status();
            if !status.is_success() {
                return Err(PostError::Status(status.as_u16()));
            }
            // What cannot be read of a success changes nothing about it.
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok(body.map_or(0, |body| rejected(&body.to_bytes())))
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // The connection moves the bytes; when it has ended, the answer is here or never.
            _ = connection => answer.await,
        }
    }
}

/// How many spans a collector says that it did not take.
fn rejected(answer: &[u8]) -> u64 {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let count = &answer["partialSuccess"]["rejectedSpans"];
    // 64-bit numbers are texts in this form, but numbers are understood as well.
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::rejected;

    #[test]
    fn a_partial_success_says_how_much_is_lost() {
        assert_eq!(rejected(b"{}"), 0);
        assert_eq!(rejected(b""), 0);
        assert_eq!(rejected(b"\x0a\x00"), 0);
        assert_eq!(rejected(br#"{"partialSuccess":{}}"#), 0);
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":"3"}}"#), 3);
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":3,"errorMessage":"x"}}"#), 3);
    }
}
