//! Which epochs are operations of this node still running under?
//!
//! Rule 6: a node reports an epoch only when no operation pinned to an earlier one is running in
//! it. The obvious way, to report what is applied, tells the leader that a write begun under the
//! old ring is over while it is on its way to the old shards.
//!
//! An operation is pinned during its version round and its commit only, for at most
//! `op_pin_max_ms`. A longer one is no longer counted, and may no longer succeed: both are decided
//! by one number on one clock, so that a shard that hangs cannot hold up a barrier for ever.

use std::collections::BTreeMap;

use crate::ids::{Epoch, PoolName};

/// The operations of one node, or of one of its workers, by pool and epoch.
///
/// Several may be put behind each other: the report of one is what is applied for the next.
///
/// Always true: what was reported of a pool only grows, and no operation is pinned below it.
#[derive(Debug, Default)]
pub struct Pins {
    op_pin_max_ms: u64,
    running: BTreeMap<PoolName, BTreeMap<Epoch, Running>>,
    reported: BTreeMap<PoolName, Epoch>,
    groups: u64,
}

/// The operations pinned to one epoch.
#[derive(Debug, Clone, Copy)]
struct Running {
    /// Tells a pin that was forgotten, and is released late, from those that came after it.
    group: u64,
    count: u64,
    /// When the youngest of them may no longer succeed.
    until_ms: u64,
}

/// One operation's hold on an epoch. It is given back to [`Pins::release`], whatever became of it;
/// one that is lost counts until its time is over.
#[derive(Debug)]
#[must_use = "an operation that is not released holds its epoch until its time is over"]
pub struct Pin {
    pool: PoolName,
    epoch: Epoch,
    group: u64,
    until_ms: u64,
}

/// The epoch is over in this node: load the topology anew and begin under the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("epoch {epoch} is over in this node, which has reported {reported}")]
pub struct StalePin {
    /// What the operation wanted to run under.
    pub epoch: Epoch,
    /// What the node has reported.
    pub reported: Epoch,
}

impl Pin {
    /// The epoch that the operation runs under.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the operation may still succeed. Asked with the lease, right before success.
    #[must_use]
    pub fn is_live(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }
}

impl Pins {
    /// No operation runs, and nothing was reported.
    #[must_use]
    pub fn new(op_pin_max_ms: u64) -> Self {
        Self { op_pin_max_ms, ..Self::default() }
    }

    /// Another limit was agreed. Operations that run keep theirs.
    pub fn set_op_pin_max_ms(&mut self, op_pin_max_ms: u64) {
        self.op_pin_max_ms = op_pin_max_ms;
    }

    /// An operation begins.
    ///
    /// # Errors
    /// [`StalePin`] when a later epoch was reported between the operation's reading of the
    /// topology and this call.
    pub fn pin(&mut self, now_ms: u64, pool: &PoolName, epoch: Epoch) -> Result<Pin, StalePin> {
        let reported = self.reported.get(pool).copied().unwrap_or_default();
        if epoch < reported {
            return Err(StalePin { epoch, reported });
        }
        let until_ms = now_ms.saturating_add(self.op_pin_max_ms);
        let running =
            self.running.entry(pool.clone()).or_default().entry(epoch).or_insert_with(|| {
                self.groups = self.groups.wrapping_add(1);
                Running { group: self.groups, count: 0, until_ms }
            });
        running.count = running.count.saturating_add(1);
        running.until_ms = running.until_ms.max(until_ms);
        Ok(Pin { pool: pool.clone(), epoch, group: running.group, until_ms })
    }

    /// An operation has ended.
    #[allow(clippy::needless_pass_by_value, reason = "a pin is given back once")]
    pub fn release(&mut self, pin: Pin) {
        let Some(epochs) = self.running.get_mut(&pin.pool) else { return };
        let found = epochs.get_mut(&pin.epoch).filter(|running| running.group == pin.group);
        let Some(running) = found else { return };
        running.count = running.count.saturating_sub(1);
        if running.count == 0 {
            epochs.remove(&pin.epoch);
        }
        if epochs.is_empty() {
            self.running.remove(&pin.pool);
        }
    }

    /// What may be reported, given what this node has applied *and published*: for each pool the
    /// applied epoch, or the earliest one with an operation in flight. From now on nothing is
    /// pinned below it. Operations whose time is over are forgotten; they cannot succeed.
    ///
    /// Of a pool that is gone nothing is reported.
    pub fn report(
        &mut self,
        now_ms: u64,
        applied: &BTreeMap<PoolName, Epoch>,
    ) -> BTreeMap<PoolName, Epoch> {
        for epochs in self.running.values_mut() {
            epochs.retain(|_, running| now_ms < running.until_ms);
        }
        self.running.retain(|_, epochs| !epochs.is_empty());
        // A pool made anew under an old name begins above the epochs of the old one, so that
        // nothing is lost by forgetting what was reported of a pool that is gone.
        self.reported
            .retain(|pool, _| applied.contains_key(pool) || self.running.contains_key(pool));
        let mut report = BTreeMap::new();
        for (pool, applied) in applied {
            let oldest = self.running.get(pool).and_then(|epochs| epochs.keys().next());
            let epoch = oldest.map_or(*applied, |oldest| (*oldest).min(*applied));
            let reported = self.reported.entry(pool.clone()).or_default();
            *reported = (*reported).max(epoch);
            report.insert(pool.clone(), *reported);
        }
        report
    }
}
