//! What would the pools be after some changes?
//!
//! Changes are made on a draft, and only a draft that was checked whole goes into the state: that
//! is what makes a command all or nothing, and what lets a plan be shown before it is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bounds::{Bound, POOLS_MAX, SEED_BYTES_MAX, URL_BYTES_MAX};
use super::command::Change;
use super::kept::StoreState;
use super::past::{PAST_EPOCHS_MAX, PastRing};
use super::pool::{PoolSpec, PoolState, ShardSpec, ring_spec};
use super::refusal::{PoolEpochs, Refusal};
use super::state::ClusterState;
use crate::ids::{BaseUrl, Birth, Epoch, PoolName, ShardId};

/// Removed pools of which the last epoch is remembered by name.
const RETIRED_MAX: usize = 256;

/// A pool as it would be.
#[derive(Debug, Clone)]
struct Drafted {
    spec: PoolSpec,
    shards: BTreeMap<ShardId, ShardSpec>,
    stores: BTreeMap<ShardId, StoreState>,
    /// It was removed and made again by this draft: another pool under the same name.
    anew: bool,
}

/// Changes that are being made.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    state: &'a ClusterState,
    /// The pools that were touched; `None` for those that would not be there.
    pools: BTreeMap<PoolName, Option<Drafted>>,
}

/// Changes that can be made: the touched pools as they will be, `None` for those that go.
pub(super) type Checked = BTreeMap<PoolName, Option<Arc<PoolState>>>;

impl<'a> Draft<'a> {
    pub(super) fn of(state: &'a ClusterState) -> Self {
        Self { state, pools: BTreeMap::new() }
    }

    pub(super) fn change(&mut self, change: &Change) -> Result<(), Refusal> {
        match change {
            Change::AddShard { pool, shard, spec } => {
                let drafted = self.pool(pool)?;
                if drafted.shards.contains_key(shard) {
                    return Err(Refusal::ShardExists { pool: pool.clone(), shard: shard.clone() });
                }
                drafted.shards.insert(shard.clone(), spec.clone());
            }
            Change::RemoveShard { pool, shard } => self.remove_shard(pool, shard)?,
            Change::SetWeight { pool, shard, weight } => self.shard(pool, shard)?.weight = *weight,
            Change::SetZone { pool, shard, zone } => self.shard(pool, shard)?.zone = zone.clone(),
            Change::SetUrl { pool, shard, url } => self.shard(pool, shard)?.url = url.clone(),
            Change::SetState { pool, shard, state } => self.shard(pool, shard)?.state = *state,
            Change::CreatePool { pool, spec, shards } => self.create_pool(pool, spec, shards)?,
            Change::SetPool { pool, spec } => self.set_pool(pool, spec)?,
            Change::RemovePool { pool } => self.remove_pool(pool)?,
            Change::ReplaceShard { pool, shard, url, lose } => {
                self.replace_shard(pool, shard, url.as_ref(), *lose)?;
            }
            Change::DropPool { pool } => self.drop_pool(pool)?,
        }
        Ok(())
    }

    pub(super) fn create_pool(
        &mut self,
        name: &PoolName,
        spec: &PoolSpec,
        shards: &[(ShardId, ShardSpec)],
    ) -> Result<(), Refusal> {
        if self.present(name) {
            return Err(Refusal::PoolExists(name.clone()));
        }
        named_once(name, shards)?;
        let anew = self.state.pools.contains_key(name);
        let shards = shards.iter().cloned().collect();
        let (spec, stores) = (spec.clone(), BTreeMap::new());
        self.pools.insert(name.clone(), Some(Drafted { spec, shards, stores, anew }));
        Ok(())
    }

    pub(super) fn set_pool(&mut self, name: &PoolName, spec: &PoolSpec) -> Result<(), Refusal> {
        let drafted = self.pool(name)?;
        if drafted.spec.kind != spec.kind {
            return Err(Refusal::KindIsFixed(name.clone()));
        }
        if drafted.spec.hash_seed != spec.hash_seed {
            return Err(Refusal::SeedIsFixed(name.clone()));
        }
        drafted.spec = spec.clone();
        Ok(())
    }

    pub(super) fn remove_pool(&mut self, name: &PoolName) -> Result<(), Refusal> {
        // One that was dropped and made anew by this draft has nothing to lose.
        let is_anew = matches!(self.pools.get(name), Some(Some(drafted)) if drafted.anew);
        if !is_anew && self.state.pools.get(name).is_some_and(|pool| pool.filled) {
            return Err(Refusal::WouldLose(name.clone()));
        }
        self.drop_pool(name)
    }

    fn drop_pool(&mut self, name: &PoolName) -> Result<(), Refusal> {
        if !self.present(name) {
            return Err(Refusal::NoPool(name.clone()));
        }
        self.pools.insert(name.clone(), None);
        Ok(())
    }

    pub(super) fn set_shards(
        &mut self,
        name: &PoolName,
        put: &[(ShardId, ShardSpec)],
        remove: &[ShardId],
    ) -> Result<(), Refusal> {
        self.pool(name)?;
        let named: BTreeSet<&ShardId> = put.iter().map(|(id, _)| id).collect();
        for shard in remove {
            if named.contains(shard) {
                return Err(Refusal::NamedTwice { pool: name.clone(), shard: shard.clone() });
            }
            self.remove_shard(name, shard)?;
        }
        named_once(name, put)?;
        self.pool(name)?.shards.extend(put.iter().cloned());
        Ok(())
    }

    /// Checks all of it: whatever is found in what this returns may be put in force.
    pub(super) fn check(self) -> Result<Checked, Refusal> {
        let mut checked = Checked::new();
        for (name, drafted) in self.pools {
            let before = self.state.pools.get(&name);
            let after = match drafted {
                Some(drafted) => {
                    check_pool(&name, &drafted, before)?;
                    Some(Arc::new(self.state.next_pool(&name, before, drafted)))
                }
                // Made and removed by one draft: it was never there.
                None if before.is_none() => continue,
                None => None,
            };
            checked.insert(name, after);
        }
        let come = checked
            .iter()
            .filter(|(name, after)| after.is_some() && !self.state.pools.contains_key(*name));
        let go = checked.values().filter(|after| after.is_none());
        let (come, go) = (come.count(), go.count());
        if come > go && self.state.pools.len() + come - go > POOLS_MAX {
            return Err(Refusal::TooMuch(Bound::Pools));
        }
        Ok(checked)
    }

    fn present(&self, name: &PoolName) -> bool {
        let drafted = self.pools.get(name).map(Option::is_some);
        drafted.unwrap_or_else(|| self.state.pools.contains_key(name))
    }

    fn pool(&mut self, name: &PoolName) -> Result<&mut Drafted, Refusal> {
        if !self.pools.contains_key(name) {
            let present = self.state.pools.get(name).map(|pool| Drafted {
                spec: pool.spec.clone(),
                shards: pool.shards.clone(),
                stores: pool.stores.clone(),
                anew: false,
            });
            let present = present.ok_or_else(|| Refusal::NoPool(name.clone()))?;
            self.pools.insert(name.clone(), Some(present));
        }
        self.pools
            .get_mut(name)
            .and_then(Option::as_mut)
            .ok_or_else(|| Refusal::NoPool(name.clone()))
    }

    fn shard(&mut self, pool: &PoolName, shard: &ShardId) -> Result<&mut ShardSpec, Refusal> {
        let none = || Refusal::NoShard { pool: pool.clone(), shard: shard.clone() };
        self.pool(pool)?.shards.get_mut(shard).ok_or_else(none)
    }

    fn replace_shard(
        &mut self,
        name: &PoolName,
        shard: &ShardId,
        url: Option<&BaseUrl>,
        lose: bool,
    ) -> Result<(), Refusal> {
        if let Some(url) = url {
            self.shard(name, shard)?.url = url.clone();
        }
        self.shard(name, shard)?;
        let filled = self.state.pools.get(name).is_some_and(|pool| pool.filled);
        let drafted = self.pool(name)?;
        if drafted.spec.kept.is_none() {
            return Err(Refusal::NotKept(name.clone()));
        }
        let filled = filled && !drafted.anew;
        let has_others = drafted.spec.replicas() > 1;
        let state = drafted.stores.entry(shard.clone()).or_default();
        if filled && !has_others && !lose && state.store.is_some() {
            return Err(Refusal::OnlyCopy { pool: name.clone(), shard: shard.clone() });
        }
        if let Some(lost) = state.store.take() {
            // What it acknowledged, the fresh one does not know. Where nobody else does either, there
            // is nothing to be filled with.
            state.former = Some(lost);
            state.fresh |= filled && has_others;
            state.catching_up |= filled && has_others;
        }
        Ok(())
    }

    fn remove_shard(&mut self, pool: &PoolName, shard: &ShardId) -> Result<(), Refusal> {
        let none = || Refusal::NoShard { pool: pool.clone(), shard: shard.clone() };
        self.pool(pool)?.shards.remove(shard).map(|_| ()).ok_or_else(none)
    }
}

fn named_once(pool: &PoolName, shards: &[(ShardId, ShardSpec)]) -> Result<(), Refusal> {
    let mut named: Vec<&ShardId> = shards.iter().map(|(id, _)| id).collect();
    named.sort_unstable();
    match named.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(Refusal::NamedTwice { pool: pool.clone(), shard: twice[0].clone() }),
        None => Ok(()),
    }
}

fn check_pool(
    name: &PoolName,
    drafted: &Drafted,
    before: Option<&Arc<PoolState>>,
) -> Result<(), Refusal> {
    if !drafted.spec.is_consistent() {
        return Err(Refusal::KindAndPlacement(name.clone()));
    }
    if let Some(before) = before.filter(|before| before.filled && !drafted.anew)
        && !keeps_places(before, drafted)
    {
        return Err(Refusal::KeepsData(name.clone()));
    }
    if drafted.spec.hash_seed.len() > SEED_BYTES_MAX {
        return Err(Refusal::TooMuch(Bound::SeedBytes));
    }
    for (id, shard) in &drafted.shards {
        // Writing a URL out costs more than all else here, and most of them are old.
        let old =
            before.and_then(|pool| pool.shards.get(id)).is_some_and(|was| was.url == shard.url);
        if !old && shard.url.to_string().len() > URL_BYTES_MAX {
            return Err(Refusal::TooMuch(Bound::UrlBytes));
        }
    }
    ring_spec(&drafted.spec, &drafted.shards)
        .check()
        .map_err(|error| Refusal::Ring { pool: name.clone(), error })
}

/// Whether everything stays where it is, and is found by the same keys.
fn keeps_places(before: &PoolState, drafted: &Drafted) -> bool {
    let places = |shards: &BTreeMap<ShardId, ShardSpec>| {
        let place = |(id, shard): (&ShardId, &ShardSpec)| {
            (id.clone(), shard.zone.clone(), shard.weight.get())
        };
        shards.iter().map(place).collect::<Vec<_>>()
    };
    let rules = |spec: &PoolSpec| {
        let key = spec.kept.as_ref().map(|kept| kept.key.clone());
        (spec.placement, spec.vnodes, spec.replicas(), key)
    };
    rules(&before.spec) == rules(&drafted.spec) && places(&before.shards) == places(&drafted.shards)
}

impl ClusterState {
    /// The state of a pool that is changed to what was drafted, at the next epoch if it places keys
    /// otherwise.
    fn next_pool(
        &self,
        name: &PoolName,
        before: Option<&Arc<PoolState>>,
        drafted: Drafted,
    ) -> PoolState {
        let Drafted { spec, shards, mut stores, anew } = drafted;
        let Some(before) = before.filter(|_| !anew) else {
            let last = before.map_or_else(|| self.last_epoch(name), |before| before.epoch);
            let epoch = last.next();
            let generation = self.speaks_as().map(|own| own.generation).unwrap_or_default();
            let born = match spec.kept {
                Some(_) => Birth { generation, epoch },
                None => Birth::default(),
            };
            return PoolState {
                epoch,
                born,
                // Whatever ran by the name's earlier epochs ran in another pool: nobody shall hold
                // a lease by them, and nothing of this pool waits for a barrier so low.
                barrier: last,
                spec,
                shards,
                filled: false,
                stores: BTreeMap::new(),
                slots: None,
                verdicts: BTreeMap::new(),
                past: Vec::new(),
            };
        };
        stores.retain(|id, state| shards.contains_key(id) && !state.is_default());
        let mut after = PoolState { spec, shards, stores, ..PoolState::clone(before) };
        // A verdict is about what answers at a URL.
        let (shards, stores) = (&after.shards, &after.stores);
        let store_of = |id: &ShardId| stores.get(id).and_then(|state| state.store);
        after.verdicts.retain(|id, _| {
            let same = |was: &ShardSpec| shards.get(id).is_some_and(|is| is.url == was.url);
            before.shards.get(id).is_some_and(same) && before.store(id).store == store_of(id)
        });
        // A replica set is made of stores: with another in a shard's place its majorities need not
        // meet those of before, so that whoever counts the former one must be kept out.
        let is_replaced = |(id, state): (&ShardId, &StoreState)| {
            state.store.is_none() && before.store(id).store.is_some()
        };
        let stores_differ = after.stores.iter().any(is_replaced);
        let places_differ = before.ring_spec().deciding() != after.ring_spec().deciding();
        if places_differ || stores_differ {
            after.epoch = before.epoch.next();
        }
        if places_differ {
            after.past.push(Arc::new(PastRing::of(before)));
            let surplus = after.past.len().saturating_sub(PAST_EPOCHS_MAX);
            after.past.drain(..surplus);
        }
        after
    }

    /// The last epoch that bore the name of a pool that is not there; 0 if there was none.
    fn last_epoch(&self, name: &PoolName) -> Epoch {
        self.retired.get(name).copied().unwrap_or(self.retired_floor)
    }

    /// Puts in force what was checked against this very state.
    pub(super) fn put(&mut self, checked: Checked) -> Vec<PoolEpochs> {
        let mut touched = Vec::with_capacity(checked.len());
        for (name, after) in checked {
            let after_epoch = after.as_ref().map(|pool| pool.epoch);
            let before = match after {
                Some(pool) => {
                    self.retired.remove(&name);
                    self.pools.insert(name.clone(), pool)
                }
                None => self.pools.remove(&name),
            };
            let before = before.map(|pool| pool.epoch);
            if let (Some(epoch), None) = (before, after_epoch) {
                self.retire(name.clone(), epoch);
            }
            touched.push(PoolEpochs { pool: name, before, after: after_epoch });
        }
        touched
    }

    /// Remembers a removed pool's last epoch. What is too much to be remembered by name raises the
    /// floor for all names that are not: an epoch may be left out, and none ever comes again.
    fn retire(&mut self, name: PoolName, epoch: Epoch) {
        self.retired.insert(name, epoch);
        while self.retired.len() > RETIRED_MAX {
            let lowest = self.retired.iter().min_by_key(|(_, epoch)| **epoch);
            let Some((name, epoch)) = lowest.map(|(name, epoch)| (name.clone(), *epoch)) else {
                return;
            };
            self.retired.remove(&name);
            self.retired_floor = self.retired_floor.max(epoch);
        }
    }
}
