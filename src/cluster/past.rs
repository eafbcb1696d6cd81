//! Which ring was in force at an epoch that has passed?
//!
//! Whoever asks why a key was found where it was needs the ring of that moment. What made a ring is
//! small and is kept; the ring itself is built when somebody asks. The table of a balanced pool
//! follows from no ring, so of each that has passed the way back to it is kept, from the one that
//! came after: with many shards some kilobytes, with few some tens. What is kept has a bound, and
//! beyond it the oldest tables go, which is said to whoever asks for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::placed::HexBytes;
use super::pool::PoolState;
use super::state::ClusterState;
use crate::ids::{Epoch, KetamaName, PoolName, ShardId, Weight, Zone};
use crate::ring::slots::SlotTable;
use crate::ring::{Member, Ring, RingError, RingSpec};

/// Epochs of one pool that are kept after they have passed. One day of a busy operator; at 1000
/// shards each takes about 30 KiB.
pub const PAST_EPOCHS_MAX: usize = 16;

/// Bytes of ways back to tables that one pool keeps. As hexadecimal digits in the agreed state they are
/// twice as many.
const BACK_BYTES_MAX: usize = 256 * 1024;

/// What made the ring of an epoch that has passed, as it was at the epoch's end. The seed is not
/// in it: it is fixed for the life of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastRing {
    /// Which epoch.
    pub epoch: Epoch,
    /// Virtual nodes per unit of weight.
    pub vnodes: u16,
    /// Shards of each replica set.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub replicas: u8,
    /// The shards with their zones and weights, by id.
    pub members: Vec<(ShardId, Zone, Weight)>,
    /// The shards' names, if keys were placed as nginx does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ketama: Option<BTreeMap<ShardId, KetamaName>>,
    /// Of a balanced pool: its table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<PastTable>,
}

/// A table that has passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PastTable {
    digest: HexBytes,
    /// The difference to it from the next table that the pool had; `None` once it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back: Option<HexBytes>,
}

fn one() -> u8 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_one(replicas: &u8) -> bool {
    *replicas == 1
}

impl PastRing {
    pub(super) fn of(pool: &PoolState) -> Self {
        let members = pool
            .shards
            .iter()
            .map(|(id, shard)| (id.clone(), shard.zone.clone(), shard.weight))
            .collect();
        let ketama = pool.ring_spec().ketama;
        let (vnodes, replicas) = (pool.spec.vnodes, pool.spec.replicas());
        let table =
            pool.slots().map(|slots| PastTable { digest: slots.digest.clone(), back: None });
        Self { epoch: pool.epoch, vnodes, replicas, members, ketama, table }
    }

    pub(super) fn ring_spec(&self, pool: &PoolState) -> RingSpec {
        let members = self
            .members
            .iter()
            .map(|(id, zone, weight)| Member {
                id: id.clone(),
                zone: zone.clone(),
                weight: *weight,
            })
            .collect();
        let ketama = self.ketama.clone();
        let (vnodes, replicas) = (self.vnodes, self.replicas);
        RingSpec { members, vnodes, replicas, ketama, ..pool.ring_spec() }
    }
}

impl PoolState {
    /// Keeps the way back from the pool's next table to `before`, which is its last that has passed,
    /// and forgets the oldest ways that are too many.
    pub(super) fn keep_way_back(&mut self, before: &SlotTable, next: &SlotTable) {
        let digest = before.digest();
        let Some(last) = self.past.last() else { return };
        let is_of = |table: &PastTable| table.digest.0[..] == digest.0[..] && table.back.is_none();
        if !last.table.as_ref().is_some_and(is_of) {
            return;
        }
        let back = before.delta_from(Some(next), &last.ring_spec(self)).ok().map(HexBytes);
        let last = self.past.last_mut().map(Arc::make_mut);
        if let Some(table) = last.and_then(|last| last.table.as_mut()) {
            table.back = back;
        }
        let mut room = BACK_BYTES_MAX;
        for past in self.past.iter_mut().rev() {
            let Some(table) = &past.table else { continue };
            let bytes = table.back.as_ref().map_or(0, |back| back.0.len());
            // Without it no earlier one can be reached either.
            room = room.saturating_sub(bytes);
            if room == 0
                && table.back.is_some()
                && let Some(table) = &mut Arc::make_mut(past).table
            {
                table.back = None;
            }
        }
    }
}

/// Why there is no ring to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRing {
    /// The pool is not there.
    #[error("pool `{0}` does not exist")]
    NoPool(PoolName),
    /// The epoch is too long ago, or was never.
    #[error("pool `{pool}`: epoch {epoch} is not known; epochs {oldest} to {newest} are")]
    NoEpoch {
        /// The pool.
        pool: PoolName,
        /// What was asked for.
        epoch: Epoch,
        /// The oldest that is kept.
        oldest: Epoch,
        /// The one in force.
        newest: Epoch,
    },
    /// The table of that epoch is forgotten.
    #[error(
        "pool `{pool}`: the table of epoch {epoch} is not kept any more: of a balanced pool \
         {BACK_BYTES_MAX} bytes of former tables are, which reach back to epoch {oldest}"
    )]
    NoTable {
        /// The pool.
        pool: PoolName,
        /// What was asked for.
        epoch: Epoch,
        /// The oldest of which the table is known.
        oldest: Epoch,
    },
    /// What is kept makes no ring, which applied commands exclude.
    #[error("pool `{pool}`: {error}")]
    Ring {
        /// The pool.
        pool: PoolName,
        /// Why not.
        error: RingError,
    },
}

impl ClusterState {
    /// The ring of `pool` at `epoch`, which is the one in force or one of the
    /// [`PAST_EPOCHS_MAX`] before it. Builds it, which may take milliseconds.
    ///
    /// # Errors
    /// [`NoRing`], which says which epochs are known.
    pub fn ring_at(&self, pool: &PoolName, epoch: Epoch) -> Result<Ring, NoRing> {
        let state = self.pools.get(pool).ok_or_else(|| NoRing::NoPool(pool.clone()))?;
        let spec = if epoch == state.epoch {
            state.ring_spec()
        } else {
            let past = state.past.iter().find(|past| past.epoch == epoch);
            past.map(|past| past.ring_spec(state))
                .ok_or_else(|| NoRing::no_epoch(pool, state, epoch))?
        };
        Ring::build(&spec).map_err(|error| NoRing::Ring { pool: pool.clone(), error })
    }

    /// The table of `pool` at `epoch`, and what it was planned for; `None` if the pool was not
    /// balanced then. An epoch that began for another reason than its table, as `ring replace` does,
    /// has that of the one before it.
    ///
    /// # Errors
    /// [`NoRing`], which says which epochs are known.
    pub fn table_at(
        &self,
        pool: &PoolName,
        epoch: Epoch,
    ) -> Result<Option<(SlotTable, RingSpec)>, NoRing> {
        let state = self.pools.get(pool).ok_or_else(|| NoRing::NoPool(pool.clone()))?;
        let now = || state.slots().and_then(|slots| slots.table()).map(|table| (**table).clone());
        let oldest = state.past.first().map_or(state.epoch, |past| past.epoch);
        if epoch < oldest || epoch > state.epoch {
            return Err(NoRing::no_epoch(pool, state, epoch));
        }
        // Epochs that are not there had the table of the next that is.
        let Some(at) = state.past.iter().position(|past| past.epoch >= epoch) else {
            return Ok(now().map(|table| (table, state.ring_spec())));
        };
        if state.past[at].table.is_none() {
            return Ok(None);
        }
        let mut found = now();
        let mut known = state.epoch;
        for past in state.past[at..].iter().rev() {
            let back = past.table.as_ref().and_then(|kept| Some((kept, kept.back.as_ref()?)));
            let table = found.as_ref().zip(back).and_then(|(next, (kept, back))| {
                let spec = past.ring_spec(state);
                let table = SlotTable::apply_delta(Some(next), &spec, &back.0).ok()?;
                (table.digest().0[..] == kept.digest.0[..]).then_some(table)
            });
            let Some(table) = table else {
                return Err(NoRing::NoTable { pool: pool.clone(), epoch, oldest: known });
            };
            (found, known) = (Some(table), past.epoch);
        }
        Ok(found.map(|table| (table, state.past[at].ring_spec(state))))
    }
}

impl NoRing {
    fn no_epoch(pool: &PoolName, state: &PoolState, epoch: Epoch) -> Self {
        Self::NoEpoch {
            pool: pool.clone(),
            epoch,
            oldest: state.past.first().map_or(state.epoch, |past| past.epoch),
            newest: state.epoch,
        }
    }
}
