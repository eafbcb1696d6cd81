//! What can be asked of the agreed state?

use serde::{Deserialize, Serialize};

use super::state::{ClusterState, Kind, PoolSpec, PoolState, ShardSpec};
use crate::ids::{Epoch, PoolName, ShardId};
use crate::ring::RingError;

/// One change. Each says what shall hold afterwards, so that applying one twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Makes a pool with all its shards, which must not exist.
    CreatePool {
        /// Its name.
        pool: PoolName,
        /// What concerns it as a whole.
        spec: PoolSpec,
        /// Its shards.
        shards: Vec<(ShardId, ShardSpec)>,
    },
    /// Changes what concerns a pool as a whole.
    SetPool {
        /// Its name.
        pool: PoolName,
        /// What shall hold.
        spec: PoolSpec,
    },
    /// Removes a pool.
    RemovePool {
        /// Its name.
        pool: PoolName,
    },
    /// Changes a pool's shards: one step, one epoch, however many they are.
    SetShards {
        /// The pool's name.
        pool: PoolName,
        /// Shards that are added, or whose description shall be this.
        put: Vec<(ShardId, ShardSpec)>,
        /// Shards that leave.
        remove: Vec<ShardId>,
    },
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The pool.
    pub pool: PoolName,
    /// Its epoch before; `None` if it did not exist.
    pub before: Option<Epoch>,
    /// Its epoch after; `None` if it was removed.
    pub after: Option<Epoch>,
}

/// Why a command was refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pool is there already.
    #[error("pool `{0}` exists already")]
    PoolExists(PoolName),
    /// The pool is not there.
    #[error("pool `{0}` does not exist")]
    NoPool(PoolName),
    /// The shard is not there.
    #[error("pool `{pool}` has no shard `{shard}`")]
    NoShard {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
    },
    /// A shard is named twice by one command.
    #[error("pool `{pool}`: shard `{shard}` is named twice by one change")]
    NamedTwice {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
    },
    /// The kind is fixed.
    #[error("pool `{0}`: the kind of a pool is fixed for its life: make a pool with another name")]
    KindIsFixed(PoolName),
    /// The seed is fixed.
    #[error(
        "pool `{0}`: `hash_seed` is fixed for the life of a pool, since another one moves every key: \
         make a pool with another name"
    )]
    SeedIsFixed(PoolName),
    /// No ring could be made any more.
    #[error("pool `{pool}`: {error}")]
    Ring {
        /// The pool.
        pool: PoolName,
        /// Why there would be none.
        error: RingError,
    },
}

impl ClusterState {
    /// Applies one command.
    ///
    /// # Errors
    /// [`Refusal`]; the state is as it was.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, Refusal> {
        let applied = match command {
            Command::CreatePool { pool, spec, shards } => self.create_pool(pool, spec, shards)?,
            Command::SetPool { pool, spec } => self.set_pool(pool, spec)?,
            Command::RemovePool { pool } => self.remove_pool(pool)?,
            Command::SetShards { pool, put, remove } => self.set_shards(pool, put, remove)?,
        };
        self.revision = self.revision.next();
        Ok(applied)
    }

    fn create_pool(
        &mut self,
        name: &PoolName,
        spec: &PoolSpec,
        shards: &[(ShardId, ShardSpec)],
    ) -> Result<Applied, Refusal> {
        if self.pools.contains_key(name) {
            return Err(Refusal::PoolExists(name.clone()));
        }
        let epoch = self.retired.get(name).copied().unwrap_or_default().next();
        let mut pool = PoolState { epoch, spec: spec.clone(), shards: Default::default() };
        put_shards(&mut pool, name, shards)?;
        check_ring(name, &pool)?;
        self.retired.remove(name);
        self.pools.insert(name.clone(), pool);
        Ok(Applied { pool: name.clone(), before: None, after: Some(epoch) })
    }

    fn set_pool(&mut self, name: &PoolName, spec: &PoolSpec) -> Result<Applied, Refusal> {
        let before = self.pool(name)?;
        let Kind::Cache = spec.kind;
        if before.spec.kind != spec.kind {
            return Err(Refusal::KindIsFixed(name.clone()));
        }
        if before.spec.hash_seed != spec.hash_seed {
            return Err(Refusal::SeedIsFixed(name.clone()));
        }
        let after = PoolState { spec: spec.clone(), ..before.clone() };
        self.replace(name, after)
    }

    fn remove_pool(&mut self, name: &PoolName) -> Result<Applied, Refusal> {
        let Some(pool) = self.pools.remove(name) else {
            return Err(Refusal::NoPool(name.clone()));
        };
        self.retired.insert(name.clone(), pool.epoch);
        Ok(Applied { pool: name.clone(), before: Some(pool.epoch), after: None })
    }

    fn set_shards(
        &mut self,
        name: &PoolName,
        put: &[(ShardId, ShardSpec)],
        remove: &[ShardId],
    ) -> Result<Applied, Refusal> {
        let mut after = self.pool(name)?.clone();
        for shard in remove {
            if put.iter().any(|(id, _)| id == shard) {
                return Err(Refusal::NamedTwice { pool: name.clone(), shard: shard.clone() });
            }
            if after.shards.remove(shard).is_none() {
                return Err(Refusal::NoShard { pool: name.clone(), shard: shard.clone() });
            }
        }
        put_shards(&mut after, name, put)?;
        self.replace(name, after)
    }

    fn pool(&self, name: &PoolName) -> Result<&PoolState, Refusal> {
        self.pools.get(name).ok_or_else(|| Refusal::NoPool(name.clone()))
    }

    /// Puts a pool's new state in place, at the next epoch if it places keys otherwise.
    fn replace(&mut self, name: &PoolName, mut after: PoolState) -> Result<Applied, Refusal> {
        check_ring(name, &after)?;
        let before = self.pool(name)?;
        let epoch = before.epoch;
        if before.ring_spec().deciding() != after.ring_spec().deciding() {
            after.epoch = epoch.next();
        }
        let applied = Applied { pool: name.clone(), before: Some(epoch), after: Some(after.epoch) };
        self.pools.insert(name.clone(), after);
        Ok(applied)
    }
}

fn put_shards(
    pool: &mut PoolState,
    name: &PoolName,
    put: &[(ShardId, ShardSpec)],
) -> Result<(), Refusal> {
    let mut named: Vec<&ShardId> = put.iter().map(|(id, _)| id).collect();
    named.sort_unstable();
    if let Some(twice) = named.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Refusal::NamedTwice { pool: name.clone(), shard: twice[0].clone() });
    }
    pool.shards.extend(put.iter().cloned());
    Ok(())
}

fn check_ring(name: &PoolName, pool: &PoolState) -> Result<(), Refusal> {
    pool.ring_spec().check().map_err(|error| Refusal::Ring { pool: name.clone(), error })
}
