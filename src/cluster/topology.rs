//! What does a request need of the agreed state?

use std::sync::Arc;

use super::persist::StateError;
use super::placed::Slots;
use super::pool::{AdminState, PoolSpec, PoolState, ShardSpec, Verdict, is_settled};
use super::state::{ClusterState, Identity};
use crate::ids::{
    BaseUrl, Birth, Digest, Epoch, PoolName, Revision, ShardId, StoreId, Token, Zone,
};
use crate::ring::slots::{SlotSets, SlotTable};
use crate::ring::{Ratio, Ring, ShardIx};

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
    /// What is agreed to be held against it.
    pub verdict: Verdict,
    /// The store that has its data, of a pool that keeps data. `None`: none is bound yet.
    pub store: Option<StoreId>,
    /// Its store may lack writes: reads at `one` avoid it.
    pub catching_up: bool,
    /// Its store stands for one that was replaced, and has not been filled: what it says of a
    /// key's newest version counts for nothing, neither to a read nor to a write's first round.
    pub fresh: bool,
}

/// One pool, with its ring built.
#[derive(Debug)]
pub struct PoolTopology {
    /// Its name.
    pub name: PoolName,
    /// The epoch of its ring.
    pub epoch: Epoch,
    /// The epoch below which no node may hold a lease.
    pub barrier: Epoch,
    /// The digest of its ring: nodes at one epoch have one digest.
    pub digest: Digest,
    /// When it came to be, of a pool that keeps data.
    pub born: Birth,
    /// What concerns it as a whole.
    pub spec: PoolSpec,
    /// Whether writes are admitted; of pools that keep data.
    pub filled: bool,
    /// Its ring.
    pub ring: Arc<Ring>,
    /// The table of a balanced pool, which says instead of the ring who holds a token.
    pub table: Option<Arc<SlotTable>>,
    /// The same, by the ring's indices.
    sets: Option<Arc<SlotSets>>,
    /// Its shards, in the order of the ring's [`ShardIx`].
    pub shards: Vec<ShardTopology>,
}

/// Everything agreed that requests read. Immutable; a change makes a new one.
#[derive(Debug, Default)]
pub struct Topology {
    revision: Revision,
    identity: Option<Identity>,
    alone: Option<Identity>,
    pools: Vec<Arc<PoolTopology>>,
}

impl Topology {
    /// The topology of a state. Rings of unchanged epochs are taken from `previous`, since
    /// building one costs milliseconds, and so are pools of which nothing changed.
    ///
    /// # Errors
    /// [`StateError::Ring`], which [`ClusterState::apply`] keeps from happening.
    pub fn build(state: &ClusterState, previous: Option<&Topology>) -> Result<Self, StateError> {
        let pools = state
            .pools()
            .iter()
            .map(|(name, pool)| {
                let before = previous.and_then(|topology| topology.pool(name));
                match before {
                    Some(before) if before.shows(pool) => Ok(Arc::clone(before)),
                    _ => build_pool(name, pool, before.map(|pool| &**pool)).map(Arc::new),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let (identity, alone) = (state.identity, state.alone);
        Ok(Self { revision: state.revision(), identity, alone, pools })
    }

    /// Counts every change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Which cluster this is of; `None` without one.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// As whom stores are spoken to: see [`ClusterState::speaks_as`].
    #[must_use]
    pub fn speaks_as(&self) -> Option<Identity> {
        self.identity.or(self.alone)
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
    /// Whether no node can act by an earlier epoch any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        is_settled(self.barrier, self.epoch)
    }

    /// The shards that hold a token, the primary first: indices into [`Self::shards`].
    #[inline]
    #[must_use]
    pub fn replicas(&self, token: Token) -> &[ShardIx] {
        match &self.sets {
            Some(sets) => sets.replicas(token),
            None => self.ring.replicas(token),
        }
    }

    /// Why a key lies where it lies, in lines for people, and the `next` shards after its replica set.
    /// Of a balanced pool this builds a ring, which may take milliseconds.
    #[must_use]
    pub fn explain(&self, key: &[u8], next: usize) -> String {
        let token = self.ring.token(key);
        let placed =
            self.table.as_ref().and_then(|table| table.explain(token, self.ring.spec()).ok());
        let Some(placed) = placed else { return self.ring.explain(key, next).to_string() };
        let mut text = format!("token   {token}\n{placed}");
        for keeper in &placed.keepers {
            let shard = self.shards.iter().find(|shard| shard.id == keeper.shard);
            let Some(shard) = shard else { continue };
            let store = shard.store.map_or("no store yet".to_owned(), |id| format!("store {id}"));
            let filling = if shard.fresh { ", fresh: being filled" } else { "" };
            let behind = if shard.catching_up && !shard.fresh { ", catching up" } else { "" };
            text.push_str(&format!("store   {}: {store}{filling}{behind}\n", shard.id));
        }
        text
    }

    /// Each shard's share, in their order: of the keys that it owns, or in a balanced pool of all
    /// copies.
    #[must_use]
    pub fn shares(&self) -> Vec<Ratio> {
        let Some(table) = &self.table else {
            return self.ring.shares().shards.iter().map(|share| share.primary).collect();
        };
        let mut shares = vec![Ratio::ZERO; self.shards.len()];
        for (id, _, held) in table.shares() {
            if let Some(shard) = self.ring.find(id) {
                shares[usize::from(shard.0)] = held;
            }
        }
        shares
    }

    /// Whether this is what would be made of `pool`.
    fn shows(&self, pool: &PoolState) -> bool {
        let Self {
            name: _,
            epoch,
            barrier,
            digest: _,
            born,
            spec,
            filled,
            ring,
            table,
            sets: _,
            shards,
        } = self;
        let same_shard = |(shown, (id, shard)): (&ShardTopology, (&ShardId, &ShardSpec))| {
            shown.id == *id
                && shown.url == shard.url
                && shown.zone == shard.zone
                && shown.state == shard.state
                && shown.verdict == pool.verdict(id)
                && (shown.store, shown.catching_up, shown.fresh) == store_of(pool, id)
        };
        (*epoch, *barrier, *filled) == (pool.epoch, pool.barrier, pool.filled)
            && *born == pool.born
            && *spec == pool.spec
            && shards.len() == pool.shards.len()
            && shards.iter().zip(&pool.shards).all(same_shard)
            && *ring.spec() == pool.ring_spec()
            && same_table(table.as_ref(), pool)
    }
}

fn table_of(pool: &PoolState) -> Option<&Arc<SlotTable>> {
    pool.slots().and_then(Slots::table)
}

fn same_table(shown: Option<&Arc<SlotTable>>, pool: &PoolState) -> bool {
    match (shown, table_of(pool)) {
        (None, None) => true,
        (Some(shown), Some(agreed)) => Arc::ptr_eq(shown, agreed) || shown == agreed,
        _ => false,
    }
}

fn both(ring: Digest, table: Digest) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("ringway balanced pool v1: digest");
    hasher.update(&ring.0).update(&table.0);
    Digest(*hasher.finalize().as_bytes())
}

fn store_of(pool: &PoolState, id: &ShardId) -> (Option<StoreId>, bool, bool) {
    let state = pool.store(id);
    (state.store, state.catching_up, state.fresh)
}

fn build_pool(
    name: &PoolName,
    pool: &PoolState,
    before: Option<&PoolTopology>,
) -> Result<PoolTopology, StateError> {
    let same_ring = before.filter(|before| {
        before.epoch == pool.epoch
            && *before.ring.spec() == pool.ring_spec()
            && same_table(before.table.as_ref(), pool)
    });
    let (ring, sets, digest) = match same_ring {
        Some(before) => (Arc::clone(&before.ring), before.sets.clone(), before.digest),
        None => {
            let ring = pool
                .build_ring()
                .map_err(|error| StateError::Ring { pool: name.clone(), error })?;
            let sets = table_of(pool).map(|table| Arc::new(table.sets_for(&ring)));
            let digest = match table_of(pool) {
                None => ring.digest(),
                // The ring says where keys lie, the table who has them.
                Some(table) => both(ring.digest(), table.digest()),
            };
            (Arc::new(ring), sets, digest)
        }
    };
    let shards = pool
        .shards
        .iter()
        .map(|(id, shard)| {
            let (store, catching_up, fresh) = store_of(pool, id);
            ShardTopology {
                id: id.clone(),
                url: shard.url.clone(),
                zone: shard.zone.clone(),
                state: shard.state,
                verdict: pool.verdict(id),
                store,
                catching_up,
                fresh,
            }
        })
        .collect();
    Ok(PoolTopology {
        name: name.clone(),
        epoch: pool.epoch,
        barrier: pool.barrier,
        digest,
        born: pool.born,
        spec: pool.spec.clone(),
        filled: pool.filled,
        ring,
        table: table_of(pool).cloned(),
        sets,
        shards,
    })
}
