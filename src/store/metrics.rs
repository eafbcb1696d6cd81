//! What does a store count?
//!
//! Handles are resolved when the store is made, so that a request touches atomics only. Several
//! stores of one process share the names and differ by the constant label `store`; a store that
//! is stopped and opened again goes on with its old [`Metrics`].

use std::sync::Arc;

use http::{Method, StatusCode};
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::store::replica::metrics::ReplicaMetrics;

const METHODS: [&str; 6] = ["get", "head", "put", "delete", "options", "other"];
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// One store's counters, gauges and histograms.
#[derive(Debug)]
pub struct Metrics {
    /// By method, then by status class.
    requests: Vec<[IntCounter; CLASSES.len()]>,
    /// Bytes of request bodies taken.
    pub(super) received_bytes: IntCounter,
    /// Bytes of values handed to connections.
    pub(super) sent_bytes: IntCounter,
    /// Commits of the index that succeeded and that failed.
    pub(super) commits: [IntCounter; 2],
    /// Seconds of one commit, from the first write looked at until all may be answered.
    pub(super) commit_seconds: Histogram,
    /// Writes that one commit carried.
    pub(super) commit_writes: Histogram,
    /// Values held.
    pub(super) objects: IntGauge,
    /// Bytes of the values held.
    pub(super) object_bytes: IntGauge,
    /// 1 once the store takes no writes until it is started again.
    pub(super) fenced: IntGauge,
    /// 1 while the disk is too full for writes.
    pub(super) full: IntGauge,
    /// Files of bodies that could not be removed; the next start tries again.
    pub(super) sweep_failures: IntCounter,
    /// Of the pools that keep data.
    pub(super) replica: ReplicaMetrics,
}

/// Makes and registers what one store counts.
pub(super) struct Maker<'a> {
    registry: &'a Registry,
    store: &'a str,
}

impl Maker<'_> {
    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("ringway_store_{name}"), help).const_label("store", self.store)
    }

    fn registered<C: Collector + Clone + 'static>(&self, made: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    /// What only grows.
    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.registered(IntCounter::with_opts(self.opts(name, help))?)
    }

    /// What grows and shrinks.
    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.registered(IntGauge::with_opts(self.opts(name, help))?)
    }

    /// Counters told apart by labels.
    pub(super) fn labelled(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.registered(IntCounterVec::new(self.opts(name, help), labels)?)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
    ) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts { common_opts: self.opts(name, help), buckets };
        self.registered(Histogram::with_opts(opts)?)
    }
}

/// Index of [`Metrics::commits`].
pub(super) const COMMIT_OK: usize = 0;
/// Index of [`Metrics::commits`].
pub(super) const COMMIT_FAILED: usize = 1;

impl Metrics {
    /// Makes the metrics of the store called `store` and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of this store already.
    pub fn register(registry: &Registry, store: &str) -> Result<Arc<Self>, prometheus::Error> {
        let maker = Maker { registry, store };
        let requests = maker.labelled(
            "requests_total",
            "Requests answered, by method and status class.",
            &["method", "code_class"],
        )?;
        let commits =
            maker.labelled("commits_total", "Commits of the index, by result.", &["result"])?;
        Ok(Arc::new(Self {
            requests: METHODS
                .iter()
                .map(|method| CLASSES.map(|class| requests.with_label_values(&[method, &class])))
                .collect(),
            received_bytes: maker
                .counter("received_bytes_total", "Bytes of request bodies taken.")?,
            sent_bytes: maker.counter("sent_bytes_total", "Bytes of values sent.")?,
            commits: ["ok", "failed"].map(|result| commits.with_label_values(&[result])),
            commit_seconds: maker.histogram(
                "commit_duration_seconds",
                "Time of one commit of the index, folder and index made durable.",
                prometheus::exponential_buckets(0.000_25, 2.0, 14)?,
            )?,
            commit_writes: maker.histogram(
                "commit_writes",
                "Writes that one commit of the index carried.",
                prometheus::exponential_buckets(1.0, 2.0, 9)?,
            )?,
            objects: maker.gauge("objects", "Values held.")?,
            object_bytes: maker.gauge("object_bytes", "Bytes of the values held.")?,
            fenced: maker
                .gauge("fenced", "1 once no write is taken until the store is restarted.")?,
            full: maker.gauge("full", "1 while the disk is too full for writes.")?,
            sweep_failures: maker.counter(
                "sweep_failures_total",
                "Files of removed values that could not be deleted.",
            )?,
            replica: ReplicaMetrics::register(&maker)?,
        }))
    }

    /// Counts one answered request.
    pub(super) fn answered(&self, method: &Method, status: StatusCode) {
        let row = match *method {
            Method::GET => 0,
            Method::HEAD => 1,
            Method::PUT => 2,
            Method::DELETE => 3,
            Method::OPTIONS => 4,
            _ => 5,
        };
        let class = match status.as_u16() {
            ..300 => 0,
            300..400 => 1,
            400..500 => 2,
            500.. => 3,
        };
        self.requests[row][class].inc();
    }

    /// Says what is held.
    pub(super) fn held(&self, objects: u64, bytes: u64) {
        self.objects.set(i64::try_from(objects).unwrap_or(i64::MAX));
        self.object_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_of_one_process_share_names_and_differ_by_label() {
        let registry = Registry::new();
        let first = Metrics::register(&registry, "s1").expect("a fresh registry");
        Metrics::register(&registry, "s2").expect("another label");
        assert!(Metrics::register(&registry, "s1").is_err(), "one store twice");
        first.answered(&Method::GET, StatusCode::NOT_FOUND);
        first.answered(&Method::PATCH, StatusCode::METHOD_NOT_ALLOWED);
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .expect("metrics encode");
        for line in [
            "ringway_store_requests_total{code_class=\"4xx\",method=\"get\",store=\"s1\"} 1",
            "ringway_store_requests_total{code_class=\"4xx\",method=\"other\",store=\"s1\"} 1",
            "ringway_store_requests_total{code_class=\"4xx\",method=\"get\",store=\"s2\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
    }
}
