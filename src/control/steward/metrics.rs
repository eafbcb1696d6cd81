//! What is counted of leases on this node?

use std::time::Duration;

use prometheus::proto::MetricFamily;

use super::holder::LeaseStatus;
use super::message::Answer;
use crate::metrics::{Counter, Group, Kind, Latency, Sample, Stripe};

/// The counters of one node.
pub struct Metrics {
    granted: Counter,
    denied: Counter,
    unanswered: Counter,
    took: Latency,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            granted: Counter::new(0),
            denied: Counter::new(0),
            unanswered: Counter::new(0),
            took: Latency::new(0),
        }
    }
}

impl Metrics {
    /// A renewal was answered.
    pub fn answered(&self, answer: &Answer, took: Duration) {
        match answer {
            Answer::Granted(_) => self.granted.inc(Stripe::SHARED),
            Answer::Denied(_) => self.denied.inc(Stripe::SHARED),
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.took.observe(Stripe::SHARED, micros);
    }

    /// A renewal was not answered.
    pub fn unanswered(&self) {
        self.unanswered.inc(Stripe::SHARED);
    }

    /// The series.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a lease is far below 2^53 ms")]
    pub fn export(&self, lease: &LeaseStatus) -> Vec<MetricFamily> {
        let help = "How long this node's serving lease lasts yet; 0 without one.";
        let mut remaining = Group::new("ringway_lease_remaining_seconds", help, Kind::Gauge, &[]);
        remaining.push(&[], Sample::Gauge(lease.remaining_ms as f64 / 1000.0));
        let help = "Renewals of this node's lease, by how they ended.";
        let name = "ringway_lease_renewals_total";
        let mut renewals = Group::new(name, help, Kind::Counter, &["outcome"]);
        for (outcome, counter) in
            [("granted", &self.granted), ("denied", &self.denied), ("unanswered", &self.unanswered)]
        {
            renewals.push(&[outcome], Sample::Counter(counter.sum()));
        }
        let help = "How long the leader's answers to renewals took.";
        let name = "ringway_lease_renewal_seconds";
        let mut took = Group::new(name, help, Kind::Latency, &[]);
        took.push(&[], Sample::Latency(&self.took));
        [remaining, renewals, took].into_iter().filter_map(Group::finish).collect()
    }
}
