//! What may everybody know?
//!
//! `/metrics` for Prometheus; `/livez`: the process turns; `/readyz`: send clients here (not while
//! it drains); `/healthz/quorum`: whether this node holds a lease, and so may serve what needs
//! agreement. A node that stands alone is its own quorum. Losing the lease leaves `/readyz` as it
//! is: all nodes may lose it at once, with their leader, and would leave the balancer together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};

use super::http::{Handler, Request, Response, problem, text};
use crate::control::steward::LeaseStatus;
use crate::metrics::{Group, Kind, Sample};

/// Where families come from at each scrape.
pub type Gather = Box<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// Says how the node's lease stands; `None` where none is needed.
pub type LeaseSource = Box<dyn Fn() -> Option<LeaseStatus> + Send + Sync>;

/// The telemetry listener's answers.
pub struct Telemetry {
    gather: Gather,
    lease: LeaseSource,
    ready: Arc<AtomicBool>,
}

impl Telemetry {
    /// Answers from `gather`; ready while `ready` says so. Needs no lease.
    #[must_use]
    pub fn new(gather: Gather, ready: Arc<AtomicBool>) -> Self {
        Self { gather, lease: Box::new(|| None), ready }
    }

    /// The same, of a process whose lease `lease` tells.
    #[must_use]
    pub fn with_lease(self, lease: LeaseSource) -> Self {
        Self { lease, ..self }
    }

    fn quorum(&self) -> Response {
        match (self.lease)() {
            None => text(200, "text/plain", "standalone\n"),
            Some(lease) if lease.remaining_ms > 0 => {
                text(200, "text/plain", format!("lease for {} ms\n", lease.remaining_ms))
            }
            Some(lease) => {
                let why = lease.trouble.map_or(String::new(), |why| format!(": {why}"));
                text(503, "text/plain", format!("no lease{why}\n"))
            }
        }
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

impl Handler for Telemetry {
    async fn answer(self: Arc<Self>, request: Request) -> Response {
        if !matches!(request.method().as_str(), "GET" | "HEAD") {
            return problem(405, "method-not-allowed", "only GET is answered here");
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            "/livez" => text(200, "text/plain", "live\n"),
            "/readyz" if self.ready.load(Ordering::Relaxed) => text(200, "text/plain", "ready\n"),
            "/readyz" => text(503, "text/plain", "draining\n"),
            "/healthz/quorum" => self.quorum(),
            "/" => text(200, "text/plain", "/metrics /livez /readyz /healthz/quorum\n"),
            _ => problem(404, "not-found", "here are /metrics, /livez, /readyz, /healthz/quorum"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn the_lease_decides_on_quorum_alone() {
        let lease = |remaining_ms, trouble: Option<&str>| LeaseStatus {
            remaining_ms,
            lost_ms_ago: None,
            term: Term(1),
            trouble: trouble.map(str::to_owned),
        };
        for (stands, status, words) in [
            (None, 200, "standalone\n"),
            (Some(lease(812, None)), 200, "lease for 812 ms\n"),
            (Some(lease(0, None)), 503, "no lease\n"),
            (Some(lease(0, Some("nobody leads"))), 503, "no lease: nobody leads\n"),
        ] {
            let source = Box::new(move || stands.clone());
            let ready = Arc::new(AtomicBool::new(true));
            let telemetry = Telemetry::new(Box::new(Vec::new), ready).with_lease(source);
            let (head, body) = telemetry.quorum().into_parts();
            let body = body.collect().await.expect("whole").to_bytes();
            assert_eq!((head.status.as_u16(), &body[..]), (status, words.as_bytes()));
        }
    }
}
