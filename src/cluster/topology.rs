//! What does a request need of the agreed state?

use std::sync::Arc;

use super::state::{AdminState, ClusterState, PoolSpec, PoolState, StateError};
use crate::ids::{BaseUrl, Epoch, PoolName, Revision, ShardId, Zone};
use crate::ring::Ring;

/// One shard of a pool, at its place in the ring's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardTopology {
    /// Its name within the pool.
    pub id: ShardId,
    /// Where it is.
    pub url: BaseUrl,
    /// Its failure domain.
    pub zone: Zone,
    /// Whether it is in service.
    pub state: AdminState,
}

/// One pool, with its ring built.
#[derive(Debug)]
pub struct PoolTopology {
    /// Its name.
    pub name: PoolName,
    /// The epoch of its ring.
    pub epoch: Epoch,
    /// What concerns it as a whole.
    pub spec: PoolSpec,
    /// Its ring.
    pub ring: Arc<Ring>,
    /// Its shards, in the order of the ring's [`ShardIx`](crate::ring::ShardIx).
    pub shards: Vec<ShardTopology>,
}

/// Everything agreed that requests read. Immutable; a change makes a new one.
#[derive(Debug, Default)]
pub struct Topology {
    revision: Revision,
    pools: Vec<Arc<PoolTopology>>,
}

impl Topology {
    /// The topology of a state. Rings of unchanged epochs are taken from `previous`, since
    /// building one costs milliseconds; so are pools of which nothing changed, that readers may
    /// see from the pointer that they need not look.
    ///
    /// # Errors
    /// [`StateError::Ring`], which [`ClusterState::apply`] keeps from happening.
    pub fn build(state: &ClusterState, previous: Option<&Topology>) -> Result<Self, StateError> {
        let mut pools = Vec::with_capacity(state.pools().len());
        for (name, pool) in state.pools() {
            let before = previous.and_then(|topology| topology.pool(name));
            let built = build_pool(name, pool, before.map(|pool| &**pool))?;
            pools.push(match before {
                Some(before) if before.is_same(&built) => Arc::clone(before),
                _ => Arc::new(built),
            });
        }
        Ok(Self { revision: state.revision(), pools })
    }

    /// Counts every change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The pools, by name.
    #[must_use]
    pub fn pools(&self) -> &[Arc<PoolTopology>] {
        &self.pools
    }

    /// The pool with this name.
    #[must_use]
    pub fn pool(&self, name: &PoolName) -> Option<&Arc<PoolTopology>> {
        let place = self.pools.binary_search_by(|pool| pool.name.cmp(name)).ok()?;
        Some(&self.pools[place])
    }
}

impl PoolTopology {
    /// Whether `other` says the same, over the very same ring.
    fn is_same(&self, other: &PoolTopology) -> bool {
        let PoolTopology { name, epoch, spec, ring, shards } = other;
        Arc::ptr_eq(&self.ring, ring)
            && (&self.name, &self.epoch) == (name, epoch)
            && (&self.spec, &self.shards) == (spec, shards)
    }
}

fn build_pool(
    name: &PoolName,
    pool: &PoolState,
    before: Option<&PoolTopology>,
) -> Result<PoolTopology, StateError> {
    let same_ring = before
        .filter(|before| before.epoch == pool.epoch && *before.ring.spec() == pool.ring_spec());
    let ring = match same_ring {
        Some(before) => Arc::clone(&before.ring),
        None => Arc::new(
            pool.build_ring().map_err(|error| StateError::Ring { pool: name.clone(), error })?,
        ),
    };
    let shards = pool
        .shards
        .iter()
        .map(|(id, shard)| ShardTopology {
            id: id.clone(),
            url: shard.url.clone(),
            zone: shard.zone.clone(),
            state: shard.state,
        })
        .collect();
    Ok(PoolTopology {
        name: name.clone(),
        epoch: pool.epoch,
        spec: pool.spec.clone(),
        ring,
        shards,
    })
}
