//! How do the spans of requests get from the workers to the collector that the file names?

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::background::spans::{Exporter, SpanMetrics, SpanSender};
use crate::config::Config;
use crate::ids::NodeName;
use crate::proxy::traces::Tracer;
use crate::trace::Resource;

/// What sends spans, for as long as a node runs.
pub(super) struct Spans {
    sender: SpanSender,
    exporter: JoinHandle<()>,
}

/// At the end: how long to wait for the collector to take the last spans.
const LAST_WAIT: Duration = Duration::from_secs(5);

impl Spans {
    /// Begins, if the file wants it. `origin` is where the workers' clocks begin.
    pub(super) fn start(
        config: &Config,
        node: &NodeName,
        workers: usize,
        origin: Instant,
        control: &Handle,
    ) -> Option<Self> {
        let tracing = config.tracing.as_ref()?;
        let resource = Resource { node: node.to_string() };
        let clock = Box::new(move || now(origin));
        let (exporter, sender) = Exporter::new(&tracing.otlp, resource, workers, clock);
        Some(Self { sender, exporter: control.spawn(exporter.run()) })
    }

    /// A worker's part.
    pub(super) fn tracer(&self) -> Tracer {
        #[allow(clippy::disallowed_methods, reason = "seeds are drawn here, and handed down")]
        let seeds = [fastrand::u64(..), fastrand::u64(..)];
        Tracer::new(self.sender.clone(), seeds)
    }

    /// What is counted.
    pub(super) fn metrics(&self) -> Arc<SpanMetrics> {
        self.sender.metrics()
    }

    /// Ends, when all workers have: what they handed in last is sent, if that takes no long while.
    pub(super) async fn stop(self) {
        let Self { sender, mut exporter } = self;
        drop(sender);
        if tokio::time::timeout(LAST_WAIT, &mut exporter).await.is_err() {
            tracing::warn!("the collector did not take the last spans; they are lost");
            exporter.abort();
        }
    }
}

/// The present moment, in microseconds: since 1970, and since `origin`.
fn now(origin: Instant) -> (u64, u64) {
    let micros = |long: Duration| u64::try_from(long.as_micros()).unwrap_or(u64::MAX);
    #[allow(clippy::disallowed_methods, reason = "a collector is told the wall clock")]
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (micros(since_1970), micros(origin.elapsed()))
}
