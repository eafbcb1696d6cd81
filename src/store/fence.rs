//! May this store still be trusted with a write?
//!
//! After a failed fsync nobody knows what is on the disk, and asking again proves nothing: Linux
//! marks the pages clean that it could not write, and the next fsync succeeds without them
//! (Rebello et al., *Can Applications Recover from fsync Failures?*, 2020). So the first such
//! failure *fences* the store: no write is acknowledged from then on, until the process starts
//! again and reads what the disk really has. Reads go on.

use std::sync::OnceLock;

use prometheus::IntGauge;

/// Up at first failure, never down again.
#[derive(Debug)]
pub struct Fence {
    reason: OnceLock<String>,
    gauge: IntGauge,
}

impl Fence {
    /// A fence that is down, shown by `gauge`.
    #[must_use]
    pub fn new(gauge: IntGauge) -> Self {
        gauge.set(0);
        Self { reason: OnceLock::new(), gauge }
    }

    /// Raises the fence. The first reason stays; it is the one that explains the others.
    pub fn raise(&self, reason: String) {
        if self.reason.set(reason).is_ok() {
            self.gauge.set(1);
            let reason = self.reason().unwrap_or_default();
            tracing::error!(reason, "the store takes no writes until it is started again");
        }
    }

    /// Why no write is taken; `None` while the fence is down.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }
}
