//! Which store answers at each shard's address, and for which pool does it keep what it has?
//!
//! A shard that is bound to no store gets the first one that answers there and is free: it is told
//! whose copies it keeps, and then the group is. In this order, since a store that belongs to
//! another cluster says so before anything is agreed.
//!
//! The stores of bound shards are asked who they are now and then. The driver refuses another
//! store's answers anyway; here it becomes known to people.
//!
//! # Copies from before
//!
//! A store may have copies of a pool that nobody has written to. What they are, their pool's birth says:
//!
//! - The same: what was agreed of the first write was lost with the end of a log. The pool counts as
//!   written to.
//! - An earlier one: that pool was dropped with all that it kept, and its copies go when the store is
//!   bound to the new one.
//! - One of an earlier generation, on a node without a cluster: *its* state was lost, and nobody has
//!   dropped anything. The pool is that one again ([`Wish::Adopt`]).
//! - One of an earlier generation, in a cluster that was rescued: who knows. Nothing is done to it.
//! - A later one: this node goes by what was, and the store refuses it.
//!
//! A node without a cluster that a store was told later epochs of goes by an older copy of its state, put
//! back from somewhere. It may have given a birth for the second time, so that births say nothing: no
//! store of such a pool is used.
//!
//! A node without a cluster that begins anew uses no store of a pool until all of its shards have told what
//! they were bound to. The latest of it counts, and be it empty: what a store has of earlier ones was
//! dropped, and a disk that lay in a drawer, or one that was put in a lost one's place, does not speak
//! for all. Stores that know nothing of that pool are taken for replacements of lost ones, and filled.
//!
//! What is taken over must be found again: each copy has to lie in a slot that its shard holds by the
//! table of now. All copies of a key were on its replicas of then; so if each is on one of now, as many
//! as there are, these are the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::pool::PoolNow;
use super::world::World;
use crate::control::standalone::NAME_FILE;
use crate::control::wishes::{Wish, WishError};
use crate::drivers::native::{Fault, Refused, Replica};
use crate::ids::{Generation, PoolName, ShardId, Token};
use crate::protocol::replica::{Bound, PoolEpoch, SLOTS, State, Sum};

/// Between two looks at all shards.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks between two questions to a shard that is bound: every few seconds.
const BOUND_LOOKS: u64 = 5;

/// What was last said about a shard, so that it is said once.
type Said = Rc<RefCell<BTreeMap<(PoolName, ShardId), String>>>;

/// What was told by each shard that answered.
type Told = BTreeMap<usize, Result<State, Refused>>;

/// Runs until it is dropped.
pub(super) async fn run(world: Rc<World>) {
    let said = Said::default();
    let mut look = 0;
    loop {
        let pools = world.pools();
        let mut asking = JoinSet::new();
        for pool in &pools {
            let (world, pool, said) = (Rc::clone(&world), Rc::clone(pool), Rc::clone(&said));
            asking.spawn_local(async move { look_at(&world, &pool, &said, look).await });
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

async fn look_at(world: &Rc<World>, pool: &Rc<PoolNow>, said: &Said, look: u64) {
    let is_bound = |shard: usize| pool.agreed.shards[shard].store.is_some();
    let asks_all = !pool.agreed.filled || look.is_multiple_of(BOUND_LOOKS);
    let asked: Vec<usize> =
        (0..pool.seats.len()).filter(|shard| asks_all || !is_bound(*shard)).collect();
    let told = states(world, pool, asked).await;
    for (shard, state) in told.iter().filter(|(shard, _)| is_bound(**shard)) {
        recognise(world, pool, *shard, state, said);
    }
    if !pool.agreed.filled && !take_over(world, pool, &told, said, look).await {
        return;
    }
    for (shard, state) in told.iter().filter(|(shard, _)| !is_bound(**shard)) {
        let trouble = match state {
            Ok(state) => bind(world, pool, *shard, state).await,
            Err(refused) => Some(refused.to_string()),
        };
        tell(pool, *shard, said, trouble);
    }
}

/// Asks shards at once how they do. Who does not answer is not there yet.
async fn states(world: &Rc<World>, pool: &Rc<PoolNow>, shards: Vec<usize>) -> Told {
    let mut asking = JoinSet::new();
    for shard in shards {
        let (world, pool) = (Rc::clone(world), Rc::clone(pool));
        asking.spawn_local(async move {
            match pool.anybody(shard).state(&world.means, &world.timer()).await {
                Ok(state) => Some((shard, Ok(state))),
                Err(Fault::Refused(refused)) => Some((shard, Err(refused))),
                Err(Fault::NotSent(_) | Fault::Unsure(_)) => None,
            }
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}

/// What a store was bound to for this cluster under the pool's name.
fn held<'s>(pool: &PoolNow, state: &'s State) -> Option<&'s Bound> {
    state.pool.as_ref().filter(|held| held.cluster == pool.cluster)
}

/// As [`held`], if it keeps anything.
fn copies<'s>(pool: &PoolNow, state: &'s State) -> Option<&'s Bound> {
    held(pool, state).filter(|held| held.values + held.tombstones > 0)
}

/// Whether a node without a cluster has yet to hear of some shard what its store was bound to, before
/// it may use any: it has lost its state, and the one that is missing may be the one that knows.
fn waits_for_all(pool: &PoolNow, told: &Told, said: &Said) -> bool {
    let is_first = pool.agreed.born.generation <= Generation(1);
    let is_begun = pool.agreed.shards.iter().any(|shard| shard.store.is_some());
    if !pool.alone || is_first || is_begun {
        return false;
    }
    let mut waits = false;
    for shard in 0..pool.seats.len() {
        let trouble = match told.get(&shard) {
            Some(Ok(_)) => continue,
            Some(Err(refused)) => refused.to_string(),
            None => "it does not answer, and this node has lost its state: no shard of the pool is used \
                     until each has told what it keeps; start it, or an empty one in its place if it is \
                     lost"
                .to_owned(),
        };
        tell(pool, shard, said, Some(trouble));
        waits = true;
    }
    waits
}

/// Whether a store was told a later epoch than this node, which has no cluster, has come to.
fn goes_by_older_copy(pool: &PoolNow, told: &Told, said: &Said) -> bool {
    let mut is_older = false;
    for (shard, state) in told {
        let Ok(state) = state else { continue };
        if let Some(why) = held(pool, state).and_then(|held| is_ahead(pool, held)) {
            tell(pool, *shard, said, Some(why));
            is_older = true;
        }
    }
    is_older
}

/// What is said of a store that was told of what this node knows nothing of.
fn is_ahead(pool: &PoolNow, held: &Bound) -> Option<String> {
    let own = PoolEpoch { generation: pool.generation, epoch: pool.agreed.epoch };
    (pool.alone && (held.birth > pool.agreed.born || held.epoch > own)).then(|| {
        format!(
            "it was told of epoch {}, and this node is at {own}: its `state.json` is an older copy; put \
             the newest back, or stop the node, move the file away, and start it: it takes over what its \
             stores keep",
            held.epoch
        )
    })
}

/// Takes over what the stores of a pool keep that nobody has written to, as far as this node knows.
/// Whether its shards may be bound now.
async fn take_over(
    world: &Rc<World>,
    pool: &Rc<PoolNow>,
    told: &Told,
    said: &Said,
    look: u64,
) -> bool {
    if waits_for_all(pool, told, said) || goes_by_older_copy(pool, told, said) {
        return false;
    }
    let answers = || told.iter().filter_map(|(shard, state)| Some((*shard, state.as_ref().ok()?)));
    let born = pool.agreed.born;
    let births = answers().filter_map(|(_, state)| Some(held(pool, state)?.birth));
    let Some(latest) = births.filter(|birth| *birth <= born).max() else { return true };
    let is_former = pool.alone && latest.generation < born.generation;
    if latest != born && !is_former {
        return true;
    }
    let of_latest = |(shard, state)| {
        let held = copies(pool, state).filter(|held| held.birth == latest)?;
        Some((shard, state.store, held.birth, held.epoch))
    };
    let kept: Vec<_> = answers().filter_map(of_latest).collect();
    if kept.is_empty() {
        return true;
    }
    // To look at each slot of each store costs them something.
    if !look.is_multiple_of(BOUND_LOOKS) {
        return !is_former;
    }
    for (shard, store, birth, epoch) in kept {
        let replica = Replica { store: Some(store), birth, epoch, ..pool.anybody(shard) };
        let sums = replica.digests(&world.means, &world.timer(), 0, SLOTS, 1).await;
        let Ok(sums) = sums else { return !is_former };
        let holds = |slot: u16| pool.replicas(Token(u64::from(slot) << 48)).contains(&shard);
        if (0..=u16::MAX).zip(&sums).any(|(slot, sum)| *sum != Sum::default() && !holds(slot)) {
            let why = "it keeps objects of this pool that the pool's present table has elsewhere: its \
                       shards, zones or weights were others when they were written; give them as they \
                       were, or empty the folders of all its stores if nothing of it is needed";
            tell(pool, shard, said, Some(why.to_owned()));
            return false;
        }
    }
    let name = || pool.name().clone();
    let wish = if is_former {
        let knows = |state| held(pool, state).is_some_and(|held| held.birth == latest);
        let new = answers().filter(|(_, state)| !knows(state));
        let fresh = new.map(|(shard, _)| pool.seats[shard].shard.clone()).collect();
        Wish::Adopt { pool: name(), born: latest, fresh }
    } else {
        Wish::Fill { pool: name() }
    };
    match world.parts.wishes.ask(wish).await {
        Ok(()) => tracing::warn!(
            pool = %pool.name(),
            born = %latest,
            "its stores have copies from before, which are the pool's again"
        ),
        Err(WishError::Refused(refusal)) => {
            for shard in 0..pool.seats.len() {
                tell(pool, shard, said, Some(refusal.to_string()));
            }
        }
        // The next look asks again.
        Err(error) => tracing::debug!(pool = %pool.name(), %error, "not agreed"),
    }
    !is_former
}

/// Binds a store; or says why not.
async fn bind(world: &World, pool: &PoolNow, shard: usize, state: &State) -> Option<String> {
    let id = &pool.seats[shard].shard;
    let born = pool.agreed.born;
    if let Some(held) = state.pool.as_ref().filter(|held| held.cluster != pool.cluster) {
        return Some(of_another(pool, world, held));
    }
    if let Some(held) = copies(pool, state) {
        if held.birth.generation < born.generation {
            let why = "it keeps objects of a pool of this name from before this node lost its state, or \
                       its cluster was rescued: if they are not needed, empty its folder, and start it \
                       again";
            return Some(why.to_owned());
        }
        if pool.agreed.shards[shard].fresh && held.birth >= born {
            // What was deleted since it left is forgotten by the others, and would come back with it.
            let why = "it stands for a lost store, and what answers there has copies of this pool from \
                       before: stop that store, empty its folder, and start it again";
            return Some(why.to_owned());
        }
    }
    let replica = pool.anybody(shard);
    let store = match replica.bind(&world.means, &world.timer(), id).await {
        Ok(store) => store,
        Err(Fault::NotSent(_) | Fault::Unsure(_)) => return None,
        Err(Fault::Refused(refused)) => return Some(refused.to_string()),
    };
    let wish = Wish::Bind { pool: pool.name().clone(), shard: id.clone(), store };
    match world.parts.wishes.ask(wish).await {
        Ok(()) => {
            // What answers there is its own from now on.
            world.counts.foreign(pool.name(), id, None);
            tracing::info!(pool = %pool.name(), shard = %id, %store, "bound to its store");
            None
        }
        Err(WishError::Refused(refusal)) => Some(refusal.to_string()),
        // No leader, or a moment of haste: next time.
        Err(_) => None,
    }
}

/// What is said of a store that keeps the pool for somebody else.
fn of_another(pool: &PoolNow, world: &World, held: &Bound) -> String {
    let (theirs, own, generation) = (held.cluster, pool.cluster, held.epoch.generation);
    if !pool.alone {
        return format!(
            "it keeps a pool of this name for {theirs}, and this cluster is {own}: give the shard a \
             store of its own"
        );
    }
    format!(
        "it keeps a pool of this name for {theirs}, and this node is {own}: two nodes without a cluster \
         do not share a store. If that was this node before its folder was lost, stop it, leave nothing \
         in {} but a file `{NAME_FILE}` with the line `ringway-standalone {theirs} {generation}`, and \
         start it; else give the shard a store of its own",
        world.parts.folder.display()
    )
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
                tracing::warn!(%pool, shard = %id, %url, "the shard's store is not used: {why}");
            }
        }
    }
}

/// Looks whether what answers for a bound shard is its store, and keeps what it should.
fn recognise(
    world: &World,
    pool: &PoolNow,
    shard: usize,
    state: &Result<State, Refused>,
    said: &Said,
) {
    let id = &pool.seats[shard].shard;
    let other = match state {
        Ok(state) => {
            let damaged = state.pool.as_ref().map_or(0, |held| held.damaged);
            world.counts.damaged(pool.name(), id, damaged);
            tell(pool, shard, said, differs(pool, world, state));
            None
        }
        Err(Refused::Foreign(other)) => *other,
        // Who it was last is not known to have changed.
        Err(_) => return,
    };
    if !world.counts.foreign(pool.name(), id, other) {
        return;
    }
    let (pool, own) = (pool.name(), pool.agreed.shards[shard].store.expect("it is bound"));
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

/// Why the shard's own store will refuse what is asked of it.
fn differs(pool: &PoolNow, world: &World, state: &State) -> Option<String> {
    let born = pool.agreed.born;
    let Some(held) = &state.pool else {
        let why = "it knows nothing of the pool: its folder was put back from before it was bound; say \
                   `ringway ring replace`";
        return Some(why.to_owned());
    };
    if held.cluster != pool.cluster {
        return Some(of_another(pool, world, held));
    }
    if held.birth < born {
        return Some(format!(
            "it keeps a pool of this name that was dropped, of {}: its folder was put back from then; \
             empty it, and say `ringway ring replace`",
            held.birth
        ));
    }
    is_ahead(pool, held)
}
