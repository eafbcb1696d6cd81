//! Which store has a shard's data, and what has it of what it should?

use std::sync::Arc;

use super::command::StoreMark;
use super::kept::StoreState;
use super::placed::too_many_fresh;
use super::pool::PoolState;
use super::refusal::{Applied, Refusal};
use super::state::ClusterState;
use crate::ids::{Birth, PoolName, ShardId, StoreId};

impl ClusterState {
    pub(super) fn mark_filled(&mut self, name: &PoolName) -> Result<Applied, Refusal> {
        let pool = self.kept(name)?;
        if pool.filled {
            return Ok(Applied::default());
        }
        // A node that still goes by an earlier epoch, of this pool or of one that had its name, would
        // not see what is written from here on, and be asked all the same.
        if self.identity.is_some() && !pool.is_settled() {
            return Err(Refusal::NotSettled { pool: name.clone(), epoch: pool.epoch });
        }
        if let Some(pool) = self.pools.get_mut(name) {
            Arc::make_mut(pool).filled = true;
        }
        Ok(Applied::default())
    }

    pub(super) fn adopt_pool(
        &mut self,
        name: &PoolName,
        born: Birth,
        fresh: &[ShardId],
    ) -> Result<Applied, Refusal> {
        let pool = self.kept(name)?;
        if pool.filled && pool.born == born {
            return Ok(Applied::default());
        }
        // In a cluster no state is lost, and what this state has made itself needs no adoption. A store
        // that was bound has been told of this pool's birth, and would refuse what the former one's says.
        let is_former = self.alone.is_some_and(|own| born.generation < own.generation);
        let is_begun = pool.filled || pool.stores.values().any(|state| state.store.is_some());
        if self.identity.is_some() || is_begun || !is_former {
            return Err(Refusal::NotAdopted { pool: name.clone(), born });
        }
        if let Some(shard) = fresh.iter().find(|shard| !pool.shards.contains_key(*shard)) {
            return Err(Refusal::NoShard { pool: name.clone(), shard: shard.clone() });
        }
        let mut adopted = PoolState { born, filled: true, ..PoolState::clone(pool) };
        for shard in fresh {
            let state = StoreState { fresh: true, catching_up: true, ..adopted.store(shard) };
            adopted.stores.insert(shard.clone(), state);
        }
        if too_many_fresh(&adopted, Some(pool)).is_some() {
            let (pool, empty) = (name.clone(), fresh.len());
            return Err(Refusal::TooFewKnow { pool, born, empty });
        }
        self.pools.insert(name.clone(), Arc::new(adopted));
        Ok(Applied::default())
    }

    pub(super) fn bind_store(
        &mut self,
        name: &PoolName,
        shard: &ShardId,
        store: StoreId,
    ) -> Result<Applied, Refusal> {
        let pool = self.kept_shard(name, shard)?;
        let state = pool.store(shard);
        match state.store {
            Some(bound) if bound == store => return Ok(Applied::default()),
            Some(bound) => {
                let (pool, shard) = (name.clone(), shard.clone());
                return Err(Refusal::StoreBound { pool, shard, store: bound });
            }
            None => {}
        }
        // Of any shard: what was replaced lacks what came after, wherever it is put.
        if let Some((shard, _)) = pool.stores.iter().find(|(_, s)| s.former == Some(store)) {
            let (pool, shard) = (name.clone(), shard.clone());
            return Err(Refusal::StoreReplaced { pool, shard, store });
        }
        if let Some((by, _)) = pool.stores.iter().find(|(_, s)| s.store == Some(store)) {
            let (pool, by) = (name.clone(), by.clone());
            return Err(Refusal::StoreTaken { pool, store, by });
        }
        self.set_store(name, shard, StoreState { store: Some(store), ..state });
        Ok(Applied::default())
    }

    pub(super) fn mark_store(
        &mut self,
        name: &PoolName,
        shard: &ShardId,
        store: StoreId,
        mark: StoreMark,
    ) -> Result<Applied, Refusal> {
        let pool = self.kept_shard(name, shard)?;
        let mut state = pool.store(shard);
        if state.store != Some(store) {
            return Err(Refusal::OtherStore { pool: name.clone(), shard: shard.clone() });
        }
        // A node that has not heard of the replacement may still count the former store, and what it
        // acknowledges until then the pass that filled this one has not seen. A node without a
        // cluster is the only one.
        let may_be_missed = self.identity.is_some() && !pool.is_settled();
        match mark {
            StoreMark::Filled if state.fresh && may_be_missed => {
                return Err(Refusal::StillFresh { pool: name.clone(), shard: shard.clone() });
            }
            StoreMark::CatchingUp => state.catching_up = true,
            StoreMark::CaughtUp if state.fresh => {
                return Err(Refusal::StillFresh { pool: name.clone(), shard: shard.clone() });
            }
            StoreMark::CaughtUp => state.catching_up = false,
            StoreMark::Filled => {
                state.fresh = false;
                state.catching_up = false;
            }
        }
        self.set_store(name, shard, state);
        Ok(Applied::default())
    }

    fn set_store(&mut self, name: &PoolName, shard: &ShardId, state: StoreState) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        // Who has a copy of the state keeps it; so a pool is copied only if it changes.
        if pool.store(shard) != state {
            Arc::make_mut(pool).stores.insert(shard.clone(), state);
        }
    }

    fn kept(&self, name: &PoolName) -> Result<&Arc<PoolState>, Refusal> {
        let pool = self.pool(name)?;
        if pool.spec.kept.is_none() {
            return Err(Refusal::NotKept(name.clone()));
        }
        Ok(pool)
    }

    fn kept_shard(&self, name: &PoolName, shard: &ShardId) -> Result<&Arc<PoolState>, Refusal> {
        let pool = self.kept(name)?;
        if !pool.shards.contains_key(shard) {
            return Err(Refusal::NoShard { pool: name.clone(), shard: shard.clone() });
        }
        Ok(pool)
    }
}
