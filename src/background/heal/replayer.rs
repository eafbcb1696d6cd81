//! How is a shard brought what it has missed, as soon as it is back?
//!
//! By asking: a shard that has hints is tried, after half a second and then ever more seldom, until
//! it answers; so nobody waits for a probe to say that it is up. Then its hints are replayed in the
//! order in which they came, several at once: that two copies overtake each other does no harm,
//! because newest wins.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::copy::bring;
use super::metrics::Cause;
use super::pool::PoolNow;
use super::world::World;
use crate::cluster::StoreMark;
use crate::control::wishes::Wish;
use crate::ids::{Birth, PoolName, ShardId, StoreId};
use crate::protocol::handoff::{Hint, Pending};
use crate::protocol::hint::{Replay, replay};

/// Between two looks at what is pending.
const INTERVAL: Duration = Duration::from_millis(250);

/// Waits between two tries of a shard that does not answer, or of a key that nobody can give.
const BACKOFF_MS: (u64, u64) = (500, 4_000);

/// Hints taken at a time.
const BATCH: usize = 64;

/// Copies under way to one shard.
const COPIES_MAX: usize = 8;

/// A shard that lacks something for so long is agreed to be catching up. What is shorter is a
/// hiccup, and not worth an entry of the log.
const LAGS_AFTER: Duration = Duration::from_secs(1);

/// A shard that somebody else has found to be catching up, and of which this node has no hint for
/// so long, has caught up as far as this node knows. Who knows better says so again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// One shard, as the replaying sees it.
#[derive(Debug, Default)]
struct State {
    busy: bool,
    marking: bool,
    next_try_us: u64,
    backoff_ms: u64,
    /// Since when it has had hints; `None` without any.
    lags_since_us: Option<u64>,
    /// Since when it is agreed to be catching up while there is no hint for it here.
    forgiving_since_us: Option<u64>,
    /// Whether this node has had hints for it since it was last seen to have caught up: then it
    /// knows best when that is so.
    knows: bool,
}

type States = Rc<RefCell<BTreeMap<(PoolName, ShardId), State>>>;

/// How a try of a shard ended.
enum Tried {
    /// Nothing is left of what there was.
    Drained,
    /// It does not answer, or something has to wait.
    Later,
}

/// A try under way; dropped, it is over.
struct Busy {
    world: Rc<World>,
    states: States,
    place: (PoolName, ShardId),
    tried: Tried,
}

impl Busy {
    fn end(mut self, tried: Tried) {
        self.tried = tried;
        drop(self);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now_us = self.world.now_us();
        let mut all = self.states.borrow_mut();
        let Some(state) = all.get_mut(&self.place) else { return };
        state.busy = false;
        state.backoff_ms = match self.tried {
            Tried::Drained => 0,
            Tried::Later => (2 * state.backoff_ms).clamp(BACKOFF_MS.0, BACKOFF_MS.1),
        };
        state.next_try_us = now_us + state.backoff_ms * 1000;
    }
}

/// A wish under way; dropped, it is over.
struct Marking {
    states: States,
    place: (PoolName, ShardId),
}

impl Drop for Marking {
    fn drop(&mut self) {
        if let Some(state) = self.states.borrow_mut().get_mut(&self.place) {
            state.marking = false;
        }
    }
}

/// Runs until it is dropped.
pub(super) async fn run(world: Rc<World>) {
    let states = States::default();
    let mut births: BTreeMap<PoolName, Birth> = BTreeMap::new();
    loop {
        let pools = world.pools();
        let hints = world.parts.hints.pending();
        for pool in &pools {
            let born = pool.agreed.born;
            let before = births.insert(pool.name().clone(), born);
            // What was missed was missed in a pool that is no more.
            if before.is_some_and(|before| before < born) {
                for (name, shard, _) in hints.iter().filter(|(name, ..)| name == pool.name()) {
                    world.parts.hints.forget(name, shard);
                }
            }
        }
        for pool in &pools {
            for shard in 0..pool.seats.len() {
                let id = &pool.seats[shard].shard;
                let pending = hints.iter().find(|(name, own, _)| name == pool.name() && own == id);
                let pending = pending.map(|(.., pending)| *pending).unwrap_or_default();
                look_at(&world, pool, shard, pending, &states);
            }
        }
        // A hint for who is no more.
        for (name, shard, _) in &hints {
            let is_gone = match pools.iter().find(|pool| pool.name() == name) {
                Some(pool) => pool.shard(shard).is_none(),
                None => world.is_current(),
            };
            if is_gone {
                world.parts.hints.forget(name, shard);
            }
        }
        let is_there = |name: &PoolName, shard: &ShardId| {
            let pool = pools.iter().find(|pool| pool.name() == name);
            pool.is_some_and(|pool| pool.shard(shard).is_some())
        };
        states.borrow_mut().retain(|(pool, shard), _| is_there(pool, shard));
        tokio::time::sleep(INTERVAL).await;
    }
}

fn look_at(world: &Rc<World>, pool: &Rc<PoolNow>, shard: usize, pending: Pending, states: &States) {
    let agreed = &pool.agreed.shards[shard];
    let Some(store) = agreed.store else { return };
    let now_us = world.now_us();
    let lags = pending.count > 0 || pending.overflowed;
    let mut all = states.borrow_mut();
    let place = (pool.name().clone(), agreed.id.clone());
    let state = all.entry(place.clone()).or_default();

    if pending.count > 0 && !state.busy && now_us >= state.next_try_us {
        state.busy = true;
        let (world, pool, states) = (Rc::clone(world), Rc::clone(pool), Rc::clone(states));
        let place = place.clone();
        // A task that meets a defect is one that must be tried later.
        let busy = Busy { world, states, place, tried: Tried::Later };
        tokio::task::spawn_local(async move {
            let tried = drain(&busy.world, &pool, shard).await;
            busy.end(tried);
        });
    }

    let since = |from: Option<u64>| {
        from.map_or(Duration::ZERO, |from| Duration::from_micros(now_us.saturating_sub(from)))
    };
    state.knows |= lags;
    state.lags_since_us = lags.then(|| state.lags_since_us.unwrap_or(now_us));
    let forgiving = !lags && agreed.catching_up && !agreed.fresh;
    state.forgiving_since_us = forgiving.then(|| state.forgiving_since_us.unwrap_or(now_us));
    let mark = if lags && !agreed.catching_up && since(state.lags_since_us) >= LAGS_AFTER {
        StoreMark::CatchingUp
    } else if forgiving && (state.knows || since(state.forgiving_since_us) >= FORGIVEN_AFTER) {
        StoreMark::CaughtUp
    } else {
        return;
    };
    if !state.marking {
        state.marking = true;
        let (world, states) = (Rc::clone(world), Rc::clone(states));
        tokio::task::spawn_local(say(world, states, place, store, mark));
    }
}

async fn say(
    world: Rc<World>,
    states: States,
    place: (PoolName, ShardId),
    store: StoreId,
    mark: StoreMark,
) {
    let (pool, shard) = place.clone();
    let _marking = Marking { states: Rc::clone(&states), place: place.clone() };
    let done = world.parts.wishes.ask(Wish::Mark { pool, shard, store, mark }).await;
    let mut all = states.borrow_mut();
    let Some(state) = all.get_mut(&place) else { return };
    match done {
        Ok(()) => state.knows &= mark == StoreMark::CatchingUp,
        // The next look asks again.
        Err(error) => tracing::debug!(pool = %place.0, shard = %place.1, %error, "not agreed"),
    }
}

/// Replays what a shard has missed, until nothing is left or it must be tried later.
async fn drain(world: &Rc<World>, pool: &Rc<PoolNow>, shard: usize) -> Tried {
    let id = pool.seats[shard].shard.clone();
    let mut from = 0;
    let mut all_settled = true;
    loop {
        let batch = world.parts.hints.batch(pool.name(), &id, from, BATCH);
        let Some((last, _)) = batch.last() else {
            return if all_settled { Tried::Drained } else { Tried::Later };
        };
        from = last + 1;
        let mut under_way: JoinSet<Option<bool>> = JoinSet::new();
        for (_, hint) in batch {
            if under_way.len() >= COPIES_MAX
                && let Some(Ok(settled)) = under_way.join_next().await
            {
                let Some(settled) = settled else { return Tried::Later };
                all_settled &= settled;
            }
            let (world, pool) = (Rc::clone(world), Rc::clone(pool));
            under_way.spawn_local(async move { one(&world, &pool, shard, hint).await });
        }
        while let Some(settled) = under_way.join_next().await {
            let Ok(Some(settled)) = settled else { return Tried::Later };
            all_settled &= settled;
        }
    }
}

/// Replays one hint. Whether it is settled; `None` if the shard does not answer.
async fn one(world: &Rc<World>, pool: &Rc<PoolNow>, shard: usize, hint: Hint) -> Option<bool> {
    let Ok(key) = std::str::from_utf8(&hint.key) else {
        // No key of ours is that; it came with a damaged file that fits its checksum.
        world.parts.hints.settle(hint);
        return Some(true);
    };
    let looked = world.look(pool, key, hint.token).await;
    let Some((_, own)) = looked.iter().find(|(at, _)| *at == shard) else {
        // Its replicas are others now, and whoever moved it has seen to them.
        world.parts.hints.settle(hint);
        return Some(true);
    };
    let own = own.as_ref().ok()?;
    let others: Vec<_> = looked
        .iter()
        .filter(|(at, _)| *at != shard)
        .map(|(at, held)| (*at, held.as_ref().ok().copied()))
        .collect();
    let (record, from) = match replay(hint.version, Some(*own), &others) {
        Replay::Settled | Replay::Nowhere => {
            world.parts.hints.settle(hint);
            return Some(true);
        }
        Replay::Wait => return Some(false),
        Replay::Copy { record, from } => (record, from),
    };
    match bring(world, pool, (key, hint.token), record, (from, shard)).await {
        Ok(brought) => {
            let id = &pool.seats[shard].shard;
            world.counts.brought(pool.name(), id, Cause::Hint, brought.bytes);
            // What the shard has now may be newer than what it missed; then that is settled too.
            world.parts.hints.settle(Hint { version: brought.version.max(hint.version), ..hint });
            Some(true)
        }
        Err(error) => {
            let (pool, shard) = (pool.name(), &pool.seats[shard].shard);
            tracing::debug!(%pool, %shard, key, %error, "a hint has to wait");
            Some(false)
        }
    }
}
