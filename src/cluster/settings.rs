//! Which numbers must be the same on all nodes?

use serde::{Deserialize, Serialize};

use super::lease::LeaseSettings;
use super::refusal::Refusal;
use super::state::ClusterState;
use super::verdict::VerdictSettings;

/// What is agreed about times. Raft's own timing is not in it: it must hold before anything is
/// agreed, and each node's file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long a serving lease lasts, in milliseconds. At least four times the longest election
    /// timeout, or a change of leader would cost leases; each node checks that against its file.
    pub lease_ms: u64,
    /// How far a node's wall clock may be from the median of all, in milliseconds, before the node
    /// gets no lease.
    pub clock_skew_max_ms: u64,
    /// How long a node without a lease answers reads at level `one` of pools that keep data.
    pub stale_reads_max_ms: u64,
    /// How long an operation may stay pinned to an epoch, and so the longest that one slow shard
    /// can hold up a barrier.
    pub op_pin_max_ms: u64,
    /// How long a majority must see a shard otherwise than agreed before the verdict changes.
    pub verdict_hold_ms: u64,
    /// The longest that a shard that comes and goes must look well before it is up again, so that it
    /// does not fill the log.
    pub verdict_hold_off_max_ms: u64,
    /// How long a shard must be in service for one time down to be forgiven.
    pub verdict_forgive_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_ms: 10_000,
            clock_skew_max_ms: 500,
            stale_reads_max_ms: 60_000,
            op_pin_max_ms: 5_000,
            verdict_hold_ms: 2_000,
            verdict_hold_off_max_ms: 300_000,
            verdict_forgive_ms: 60_000,
        }
    }
}

impl Settings {
    /// # Errors
    /// [`Refusal::Setting`] for the first that is out of range.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        // Under a second, renewals would crowd out the log; over ten minutes, a node that is gone
        // would hold up every barrier for that long.
        for (name, value, least, most) in [
            ("lease_ms", self.lease_ms, 1_000, 600_000),
            ("clock_skew_max_ms", self.clock_skew_max_ms, 10, 60_000),
            ("stale_reads_max_ms", self.stale_reads_max_ms, 0, 86_400_000),
            ("op_pin_max_ms", self.op_pin_max_ms, 100, 60_000),
            ("verdict_hold_ms", self.verdict_hold_ms, 0, 600_000),
            ("verdict_hold_off_max_ms", self.verdict_hold_off_max_ms, 0, 86_400_000),
            ("verdict_forgive_ms", self.verdict_forgive_ms, 1_000, 86_400_000),
        ] {
            if !(least..=most).contains(&value) {
                return Err(Refusal::Setting { name: name.to_owned(), value, least, most });
            }
        }
        Ok(())
    }
}

impl ClusterState {
    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The same, as the rules of leases take them.
    #[must_use]
    pub fn lease_settings(&self) -> LeaseSettings {
        LeaseSettings {
            lease_ms: self.settings.lease_ms,
            lease_longest_ms: self.lease_longest_ms.max(self.settings.lease_ms),
            stale_reads_max_ms: self.settings.stale_reads_max_ms,
            op_pin_max_ms: self.settings.op_pin_max_ms,
            clock_skew_max_ms: self.settings.clock_skew_max_ms,
        }
    }

    /// The same, as the rules of verdicts take them.
    #[must_use]
    pub fn verdict_settings(&self) -> VerdictSettings {
        VerdictSettings {
            hold_ms: self.settings.verdict_hold_ms,
            hold_off_max_ms: self.settings.verdict_hold_off_max_ms,
            forgive_ms: self.settings.verdict_forgive_ms,
        }
    }

    /// Puts checked settings in force.
    pub(super) fn put_settings(&mut self, settings: &Settings) {
        self.lease_longest_ms = self.lease_longest_ms.max(settings.lease_ms);
        self.settings = settings.clone();
    }
}
