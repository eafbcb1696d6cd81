//! What may everybody know?
//!
//! `/metrics` for Prometheus; `/livez`: the process turns; `/readyz`: send clients here (not while
//! it drains, nor before anything is agreed); `/healthz/quorum`: whether this node may serve what
//! needs agreement.

use std::sync::Arc;

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};

use super::http::{Handler, Request, Response, problem, text};
use crate::metrics::{Group, Kind, Sample};

/// Where families come from at each scrape.
pub type Gather = Box<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// Says whether something holds, in words either way.
pub type Judge = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// The telemetry listener's answers.
pub struct Telemetry {
    gather: Gather,
    ready: Judge,
    quorum: Judge,
}

impl Telemetry {
    /// Answers from `gather`; ready while `ready` says so, and with a quorum while `quorum` does.
    #[must_use]
    pub fn new(gather: Gather, ready: Judge, quorum: Judge) -> Self {
        Self { gather, ready, quorum }
    }

    fn metrics(&self) -> Response {
        let mut families = (self.gather)();
        families.push(build_info());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut out = Vec::new();
        match TextEncoder::new().encode(&families, &mut out) {
            Ok(()) => text(200, prometheus::TEXT_FORMAT, out),
            Err(error) => {
                problem(500, "metrics", &format!("the metrics cannot be written: {error}"))
            }
        }
    }
}

fn build_info() -> MetricFamily {
    let help = "The running release, as a label; the value is 1.";
    let mut group = Group::new("ringway_build_info", help, Kind::Gauge, &["version"]);
    group.push(&[env!("CARGO_PKG_VERSION")], Sample::Gauge(1.0));
    group.finish().expect("one series")
}

fn judged(judgement: Result<String, String>) -> Response {
    let (status, words) = match judgement {
        Ok(words) => (200, words),
        Err(words) => (503, words),
    };
    text(status, "text/plain", format!("{words}\n"))
}

impl Handler for Telemetry {
    async fn answer(self: Arc<Self>, request: Request) -> Response {
        if !matches!(request.method().as_str(), "GET" | "HEAD") {
            return problem(405, "method-not-allowed", "only GET is answered here");
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/livez" => text(200, "text/plain", "live\n"),
            "/readyz" => judged((self.ready)()),
            "/healthz/quorum" => judged((self.quorum)()),
            "/" => text(200, "text/plain", "/metrics /livez /readyz /healthz/quorum\n"),
            _ => problem(404, "not-found", "here are /metrics, /livez, /readyz, /healthz/quorum"),
        }
    }
}
