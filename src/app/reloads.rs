//! How did the last reload go?

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::proto::MetricFamily;

use crate::metrics::{Group, Kind, Sample};

/// What is told of reloads. The start counts as a reload that succeeded.
pub struct Reloads {
    /// Why the last one was refused.
    pub error: Arc<Mutex<Option<String>>>,
    /// Seconds since 1970.
    last_success: AtomicU64,
}

impl Reloads {
    /// The node has just started.
    #[must_use]
    pub fn begun() -> Self {
        let reloads = Self { error: Arc::default(), last_success: AtomicU64::new(0) };
        reloads.succeeded();
        reloads
    }

    /// A file was taken over.
    pub fn succeeded(&self) {
        #[allow(clippy::disallowed_methods, reason = "the metric is a moment of the wall clock")]
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success.store(since_1970.as_secs(), Ordering::Relaxed);
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A file was refused.
    pub fn failed(&self, error: String) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The series.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
    pub fn export(&self) -> Vec<MetricFamily> {
        let failed = self.error.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let gauges = [
            (
                "ringway_config_reload_success",
                "Whether the last reload was taken over; 1 before the first.",
                f64::from(u8::from(!failed)),
            ),
            (
                "ringway_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was taken over, in seconds since 1970.",
                self.last_success.load(Ordering::Relaxed) as f64,
            ),
        ];
        let families = gauges.into_iter().filter_map(|(name, help, value)| {
            let mut group = Group::new(name, help, Kind::Gauge, &[]);
            group.push(&[], Sample::Gauge(value));
            group.finish()
        });
        families.collect()
    }
}
