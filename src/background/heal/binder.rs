//! Which store answers at each shard's address?
//!
//! A shard that is bound to no store gets the first one that answers there and is free: it is told
//! whose copies it keeps, and then the group is. In this order, since a store that belongs to
//! another cluster says so before anything is agreed.
//!
//! The stores of bound shards are asked who they are now and then. The driver refuses another
//! store's answers anyway; here it becomes known to people.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::pool::PoolNow;
use super::world::World;
use crate::control::wishes::{Wish, WishError};
use crate::drivers::native::{Fault, Refused};
use crate::ids::{PoolName, ShardId};

/// Between two looks at all shards.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks between two questions to a shard that is bound: every few seconds.
const BOUND_LOOKS: u64 = 5;

/// What was last said about a shard, so that it is said once.
type Said = Rc<RefCell<BTreeMap<(PoolName, ShardId), String>>>;

/// Runs until it is dropped.
pub(super) async fn run(world: Rc<World>) {
    let said = Said::default();
    let mut look = 0;
    loop {
        let pools = world.pools();
        let mut asking = tokio::task::JoinSet::new();
        for pool in &pools {
            for shard in 0..pool.seats.len() {
                let is_bound = pool.agreed.shards[shard].store.is_some();
                if is_bound && look % BOUND_LOOKS != 0 {
                    continue;
                }
                let (world, pool, said) = (Rc::clone(&world), Rc::clone(pool), Rc::clone(&said));
                asking.spawn_local(async move {
                    match is_bound {
                        true => recognise(&world, &pool, shard).await,
                        false => bind(&world, &pool, shard, &said).await,
                    }
                });
            }
        }
        while asking.join_next().await.is_some() {}
        world.forget_seats(&pools);
        let is_there = |name: &PoolName, shard: Option<&ShardId>| {
            let pool = pools.iter().find(|pool| pool.name() == name);
            pool.is_some_and(|pool| shard.is_none_or(|shard| pool.shard(shard).is_some()))
        };
        world.counts.keep(is_there);
        said.borrow_mut().retain(|(pool, shard), _| is_there(pool, Some(shard)));
        look += 1;
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn bind(world: &World, pool: &PoolNow, shard: usize, said: &Said) {
    let id = &pool.seats[shard].shard;
    let replica = pool.anybody(shard);
    let state = match replica.state(&world.means, &world.timer()).await {
        Ok(state) => state,
        Err(Fault::Refused(refused)) => return tell(pool, shard, said, Some(refused.to_string())),
        // It is not there yet.
        Err(Fault::NotSent(_) | Fault::Unsure(_)) => return,
    };
    let has_copies = state.pool.is_some_and(|held| held.values + held.tombstones > 0);
    if has_copies && pool.agreed.shards[shard].fresh {
        // What was deleted since it left is forgotten by the others, and would come back with it.
        let why = "it stands for a lost store, and what answers there has copies of this pool from \
                   before: stop that store, empty its folder, and start it again";
        return tell(pool, shard, said, Some(why.to_owned()));
    }
    let trouble = match replica.bind(&world.means, &world.timer(), id).await {
        Ok(store) => {
            let wish = Wish::Bind { pool: pool.name().clone(), shard: id.clone(), store };
            match world.parts.wishes.ask(wish).await {
                Ok(()) => {
                    // What answers there is its own from now on.
                    world.counts.foreign(pool.name(), id, None);
                    tracing::info!(pool = %pool.name(), shard = %id, %store, "bound to its store");
                    if has_copies && !pool.agreed.filled {
                        adopt(world, pool).await;
                    }
                    None
                }
                Err(WishError::Refused(refusal)) => Some(refusal.to_string()),
                // No leader, or a moment of haste: next time.
                Err(_) => None,
            }
        }
        // It is not there yet.
        Err(Fault::NotSent(_) | Fault::Unsure(_)) => None,
        Err(Fault::Refused(refused)) => Some(refused.to_string()),
    };
    tell(pool, shard, said, trouble);
}

/// A pool whose stores have copies from before, since the node's folder was lost or the pool was
/// dropped and made again, keeps them: so its shards must stay as they are.
async fn adopt(world: &World, pool: &PoolNow) {
    let wish = Wish::Fill { pool: pool.name().clone() };
    match world.parts.wishes.ask(wish).await {
        Ok(()) => tracing::warn!(
            pool = %pool.name(),
            "its stores have copies from before, which are the pool's again"
        ),
        Err(error) => tracing::warn!(
            pool = %pool.name(),
            %error,
            "its stores have copies from before: change no shards before the first write"
        ),
    }
}

fn tell(pool: &PoolNow, shard: usize, said: &Said, trouble: Option<String>) {
    let id = &pool.seats[shard].shard;
    let place = (pool.name().clone(), id.clone());
    match trouble {
        None => drop(said.borrow_mut().remove(&place)),
        Some(why) => {
            let before = said.borrow_mut().insert(place, why.clone());
            if before.as_ref() != Some(&why) {
                let (pool, url) = (pool.name(), &pool.seats[shard].url);
                tracing::warn!(%pool, shard = %id, %url, "the shard gets no store: {why}");
            }
        }
    }
}

async fn recognise(world: &World, pool: &PoolNow, shard: usize) {
    let id = &pool.seats[shard].shard;
    let Some(replica) = pool.replica(shard) else { return };
    let other = match replica.state(&world.means, &world.timer()).await {
        Ok(state) => {
            let damaged = state.pool.map_or(0, |held| held.damaged);
            world.counts.damaged(pool.name(), id, damaged);
            None
        }
        Err(Fault::Refused(Refused::Foreign(other))) => other,
        // Nobody answers: who it was last is not known to have changed.
        Err(_) => return,
    };
    if !world.counts.foreign(pool.name(), id, other) {
        return;
    }
    let (pool, own) = (pool.name(), replica.store.expect("it is bound"));
    match other {
        Some(other) => tracing::error!(
            %pool,
            shard = %id,
            %own,
            %other,
            "another store than its own answers at the shard's address, and is not used: bring its \
             own back, or say `ringway ring replace {pool}/{id}` if that is lost"
        ),
        None => tracing::info!(%pool, shard = %id, "the shard's own store answers again"),
    }
}
