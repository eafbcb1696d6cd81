//! Which ring was in force at an epoch that has passed?
//!
//! Whoever asks why a key was found where it was needs the ring of that moment. What made a ring is
//! small and is kept; the ring itself is built when somebody asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pool::PoolState;
use super::state::ClusterState;
use crate::ids::{Epoch, KetamaName, PoolName, ShardId, Weight, Zone};
use crate::ring::{Member, Ring, RingError, RingSpec};

/// Epochs of one pool that are kept after they have passed. One day of a busy operator; at 1000
/// shards each takes about 30 KiB.
pub const PAST_EPOCHS_MAX: usize = 16;

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
        Self { epoch: pool.epoch, vnodes, replicas, members, ketama }
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
            past.map(|past| past.ring_spec(state)).ok_or_else(|| NoRing::NoEpoch {
                pool: pool.clone(),
                epoch,
                oldest: state.past.first().map_or(state.epoch, |past| past.epoch),
                newest: state.epoch,
            })?
        };
        Ring::build(&spec).map_err(|error| NoRing::Ring { pool: pool.clone(), error })
    }
}
