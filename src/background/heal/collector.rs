//! When are deleted keys forgotten?
//!
//! Slot by slot, by the rules of [`protocol::tombstone`](crate::protocol::tombstone): every replica
//! of the slot is listed, and what all of them hold as the same old tombstone is dropped by all of
//! them. While one is away, fresh or catching up, nothing is; nor while a node may still act by an
//! older epoch. Each replica has been told the present epoch by the very requests that list it.
//!
//! A replica that was not reached by the second half keeps tombstones that the others have dropped.
//! The others' watermarks say that they had them too, so they are collected the next time.
//!
//! A node without a lease collects nothing: its word for what is agreed may be old, by as much as it
//! has been cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::pool::PoolNow;
use super::turns::{is_ours, period};
use super::world::World;
use crate::drivers::native::Fault;
use crate::ids::{PoolName, Token};
use crate::protocol::quorum::Set;
use crate::protocol::replica::words::WATERMARK_KEYS_MAX;
use crate::protocol::replica::{Entry, SLOTS, slot_of};
use crate::protocol::tombstone::{Facts, Listed, Slot, collectable};
use crate::version::Version;

/// Slots that are seen to in one round; what is beyond waits for the next.
const SLOTS_MAX: usize = 512;

/// Entries of one page.
const PAGE: usize = 1000;

/// Entries of a slot: one with more is left alone, since each replica's are held side by side. At a
/// thousand million keys a slot has 15,000.
const ENTRIES_MAX: usize = 200_000;

/// Rounds come at least this far apart, and at most so far.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// Runs until it is dropped.
pub(super) async fn run(world: Rc<World>) {
    let mut done: BTreeMap<PoolName, u64> = BTreeMap::new();
    loop {
        tokio::time::sleep(INTERVAL.0).await;
        for pool in world.pools() {
            let Some(kept) = &pool.agreed.spec.kept else { continue };
            let interval =
                Duration::from_millis(kept.tombstone_min_age_ms / 4).clamp(INTERVAL.0, INTERVAL.1);
            let now = period(world.unix_ms(), interval);
            let first = done.insert(pool.name().clone(), now) != Some(now);
            if first && is_ours(pool.name(), now, pool.place) {
                round(&world, &pool).await;
            }
        }
    }
}

async fn round(world: &Rc<World>, pool: &Rc<PoolNow>) {
    if let Some(why) = withheld(pool) {
        return world.held_up(pool.name(), WHAT, Some(why));
    }
    match collect(world, pool).await {
        Ok(dropped) => {
            if dropped > 0 {
                world.counts.collected(pool.name(), dropped);
                tracing::debug!(pool = %pool.name(), dropped, "tombstones were collected");
            }
            world.held_up(pool.name(), WHAT, None);
        }
        // While one is away, nothing is forgotten.
        Err(fault) => world.held_up(pool.name(), WHAT, Some(fault.to_string())),
    }
}

/// What is held up, for people.
const WHAT: &str = "the collection of tombstones";

/// Why nothing of a pool may be collected now.
fn withheld(pool: &PoolNow) -> Option<String> {
    if !pool.has_lease {
        return Some("this node may not serve the pool now".to_owned());
    }
    if !pool.alone && pool.agreed.barrier < pool.agreed.epoch {
        return Some("not all nodes have the pool's last change".to_owned());
    }
    pool.agreed.shards.iter().find_map(|shard| {
        let why = match shard {
            _ if shard.store.is_none() => "has no store",
            _ if shard.fresh => "is being filled",
            _ if shard.catching_up => "is catching up",
            _ => return None,
        };
        Some(format!("shard {} {why}", shard.id))
    })
}

/// Collects what may be. Says how many tombstones stores have dropped.
async fn collect(world: &Rc<World>, pool: &Rc<PoolNow>) -> Result<u64, Fault> {
    let Some(kept) = &pool.agreed.spec.kept else { return Ok(0) };
    let now_unix_ms = world.unix_ms();
    let before_ms = now_unix_ms.saturating_sub(kept.tombstone_min_age_ms);
    let mut slots: BTreeSet<u16> = BTreeSet::new();
    let mut marks: Vec<BTreeMap<u16, Version>> = Vec::new();
    for shard in 0..pool.seats.len() {
        let replica = pool.replica(shard).expect("all are bound");
        let mut cursor: Option<String> = None;
        while slots.len() < SLOTS_MAX {
            let (timer, after) = (world.timer(), cursor.as_deref());
            let page = replica.tombstones(&world.means, &timer, before_ms, after, PAGE).await?;
            slots.extend(page.keys.iter().map(|entry| slot_of(entry.token)));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let told = replica.watermarks(&world.means, &world.timer(), 0, SLOTS).await?;
        marks.push(told.watermarks.into_iter().map(|mark| (mark.slot, mark.version)).collect());
    }
    let mut dropped = 0;
    for slot in slots.into_iter().take(SLOTS_MAX) {
        dropped += one_slot(world, pool, slot, &marks, kept.tombstone_min_age_ms).await?;
    }
    Ok(dropped)
}

async fn one_slot(
    world: &Rc<World>,
    pool: &Rc<PoolNow>,
    slot: u16,
    marks: &[BTreeMap<u16, Version>],
    age_ms_min: u64,
) -> Result<u64, Fault> {
    let shards = pool.replicas(Token(u64::from(slot) << 48));
    let mut lists: Vec<Vec<Entry>> = Vec::new();
    for shard in &shards {
        match list(world, pool, slot, *shard).await? {
            Some(entries) => lists.push(entries),
            None => return Ok(0),
        }
    }
    let listed: Vec<Vec<Listed<'_>>> = lists
        .iter()
        .map(|entries| {
            let listed = entries.iter().map(|entry| Listed {
                key: &entry.key,
                version: entry.version,
                is_tombstone: entry.tombstone,
                is_damaged: entry.damaged,
            });
            listed.collect()
        })
        .collect();
    let slots: Vec<Option<Slot<'_, '_>>> = listed
        .iter()
        .zip(&shards)
        .map(|(records, shard)| {
            let watermark = marks[*shard].get(&slot).copied().unwrap_or(Version::NONE);
            Some(Slot { records, watermark })
        })
        .collect();
    let facts = Facts {
        // DESIGN has tombstones wait for an epoch that begins after them, so that puts from before
        // are refused; but the epoch of a pool that nobody changes never moves, and nothing would
        // ever be collected there. The watermark refuses the same puts, by their versions and for
        // good; and no operation is pinned to its epoch for longer than `op_pin_max`, a small part
        // of the least age. So the present epoch serves, once its barrier has passed.
        begun_unix_ms: world.unix_ms(),
        age_ms_min,
        replicas: shards.len(),
        told: Set::first(shards.len()),
        is_moving: false,
    };
    let old = match collectable(&facts, &slots) {
        Ok(old) => old,
        Err(withheld) => {
            tracing::debug!(pool = %pool.name(), slot, %withheld, "tombstones stay");
            return Ok(0);
        }
    };
    let mut old: Vec<(String, Version)> =
        old.into_iter().map(|(key, version)| (key.to_owned(), version)).collect();
    old.sort_by_key(|(_, version)| *version);
    let mut dropped = 0;
    if !old.is_empty() {
        // The oldest first, as many as a store takes at once: whatever is below what was told to all
        // of them is the same on all of them.
        for some in old.chunks(WATERMARK_KEYS_MAX) {
            for shard in &shards {
                let replica = pool.replica(*shard).expect("all are bound");
                let (means, timer) = (&world.means, world.timer());
                let done = replica.watermark(means, &timer, slot, None, some).await?;
                dropped += done.dropped;
            }
        }
    }
    Ok(dropped)
}

/// Everything that a replica holds of a slot; `None` if that is too much.
async fn list(
    world: &World,
    pool: &PoolNow,
    slot: u16,
    shard: usize,
) -> Result<Option<Vec<Entry>>, Fault> {
    let replica = pool.replica(shard).expect("all are bound");
    let from = u64::from(slot) << 48;
    let range = (Token(from), Token(from | ((1 << 48) - 1)));
    let mut entries = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let after = cursor.as_deref();
        let page = replica.keys(&world.means, &world.timer(), range, after, PAGE).await?;
        world.pay(pool, page.keys.len() as u64 * 256).await;
        entries.extend(page.keys);
        if entries.len() > ENTRIES_MAX {
            tracing::warn!(pool = %pool.name(), slot, "too many keys to collect tombstones");
            return Ok(None);
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(Some(entries));
        }
    }
}
