//! What follows when a shard has been compared in full?
//!
//! A fresh store that has been brought everything counts from now on like any other; one that
//! lagged behind further than hints say has caught up. The watermarks come last: with one raised
//! before the records, the store would refuse what lies under it.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::pool::PoolNow;
use super::world::World;
use crate::cluster::StoreMark;
use crate::control::wishes::Wish;
use crate::drivers::native::Fault;
use crate::ids::Token;
use crate::protocol::replica::SLOTS;
use crate::version::Version;

/// What is held up, for people.
const WHAT: &str = "the filling of a shard";

/// Concludes a whole pass, from the first slot to the last, in which nothing failed. Of the shards
/// `sure` it is known that they lack nothing that was acknowledged before it began. `lost_before`:
/// hints that this node had lost until then.
pub(super) async fn conclude(
    world: &Rc<World>,
    pool: &Rc<PoolNow>,
    sure: &[usize],
    lost_before: u64,
) {
    let hints = &world.parts.hints;
    for shard in sure {
        let state = &pool.agreed.shards[*shard];
        let Some(store) = state.store else { continue };
        if hints.counts().lost == lost_before {
            hints.compared(pool.name(), &state.id);
        }
        let mark = match (state.fresh, state.catching_up) {
            (true, _) => {
                if let Err(fault) = bring_watermarks(world, pool, *shard).await {
                    let why = format!("shard {} was not brought watermarks: {fault}", state.id);
                    world.held_up(pool.name(), WHAT, Some(why));
                    continue;
                }
                StoreMark::Filled
            }
            (false, true) if hints.pending_of(pool.name(), &state.id).count == 0 => {
                StoreMark::CaughtUp
            }
            (false, _) => continue,
        };
        let (name, id) = (pool.name().clone(), state.id.clone());
        let wish = Wish::Mark { pool: name, shard: id, store, mark };
        match world.parts.wishes.ask(wish).await {
            Ok(()) if mark == StoreMark::Filled => {
                world.held_up(pool.name(), WHAT, None);
                tracing::info!(pool = %pool.name(), shard = %state.id, "the fresh store is filled");
            }
            Ok(()) => {}
            // The next pass asks again.
            Err(error) => world.held_up(pool.name(), WHAT, Some(format!("not agreed: {error}"))),
        }
    }
}

/// Has a store refuse what the others of its slots refuse.
async fn bring_watermarks(world: &World, pool: &PoolNow, shard: usize) -> Result<(), Fault> {
    let mut highest: BTreeMap<u16, Version> = BTreeMap::new();
    for other in 0..pool.seats.len() {
        let Some(replica) = pool.replica(other) else { continue };
        let told = match replica.watermarks(&world.means, &world.timer(), 0, SLOTS).await {
            Ok(told) => told,
            Err(fault) if other == shard => return Err(fault),
            // Those that answered are enough to have filled it.
            Err(_) => continue,
        };
        for mark in told.watermarks {
            let version = highest.entry(mark.slot).or_insert(Version::NONE);
            *version = (*version).max(mark.version);
        }
    }
    let replica = pool.replica(shard).expect("it is bound");
    let own = replica.watermarks(&world.means, &world.timer(), 0, SLOTS).await?;
    let own: BTreeMap<u16, Version> =
        own.watermarks.into_iter().map(|mark| (mark.slot, mark.version)).collect();
    for (slot, version) in highest {
        let is_its = pool.replicas(Token(u64::from(slot) << 48)).contains(&shard);
        if is_its && own.get(&slot).is_none_or(|own| *own < version) {
            replica.watermark(&world.means, &world.timer(), slot, Some(version), &[]).await?;
        }
    }
    Ok(())
}
