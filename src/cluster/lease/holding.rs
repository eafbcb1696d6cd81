//! What one node may hold, as the leader must assume.

use std::collections::BTreeMap;

use super::clocks::Offset;
use super::message::Denial;
use crate::ids::{Epoch, Incarnation, PoolName};

/// A lease that may be live somewhere, and the epochs that its process has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holding {
    /// From when on the leader takes it for over, by its own clock, margin included.
    pub(super) until_ms: u64,
    /// What was reported; of one process this only grows.
    pub(super) epochs: BTreeMap<PoolName, Epoch>,
}

impl Holding {
    /// A process that has told nothing, and may hold a lease until then.
    pub(super) fn silent(until_ms: u64) -> Self {
        Self { until_ms, epochs: BTreeMap::new() }
    }

    pub(super) fn is_live(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }

    /// Whether no operation of an epoch before `epoch` can be acknowledged by it any more.
    pub(super) fn is_past(&self, now_ms: u64, pool: &PoolName, epoch: Epoch) -> bool {
        !self.is_live(now_ms) || self.reported(pool) >= epoch
    }

    /// What it has told of a pool; 0 if nothing.
    pub(super) fn reported(&self, pool: &PoolName) -> Epoch {
        self.epochs.get(pool).copied().unwrap_or_default()
    }

    /// Takes a report, as far as it is about pools that exist. One that was overtaken by a later
    /// one changes nothing.
    pub(super) fn report(
        &mut self,
        epochs: &BTreeMap<PoolName, Epoch>,
        exists: impl Fn(&PoolName) -> bool,
    ) {
        for (pool, epoch) in epochs.iter().filter(|(pool, _)| exists(pool)) {
            let known = self.epochs.entry(pool.clone()).or_default();
            *known = (*known).max(*epoch);
        }
    }

    /// Two processes as one: live while either is, and as far as both have told.
    pub(super) fn join(&mut self, other: &Holding) {
        self.until_ms = self.until_ms.max(other.until_ms);
        self.epochs.retain(|pool, _| other.epochs.contains_key(pool));
        for (pool, epoch) in &mut self.epochs {
            *epoch = (*epoch).min(other.reported(pool));
        }
    }
}

/// A node of the cluster, in the incarnation that counts.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) incarnation: Incarnation,
    pub(super) holding: Holding,
    /// When its last renewal came, and what its wall clock said.
    pub(super) heard: Option<(u64, Offset)>,
    /// Why its last renewal was denied; `None` if it was granted.
    pub(super) denial: Option<Denial>,
}

impl Member {
    pub(super) fn new(incarnation: Incarnation, until_ms: u64) -> Self {
        Self { incarnation, holding: Holding::silent(until_ms), heard: None, denial: None }
    }
}
