//! What is counted about healing?
//!
//! Written by the healing thread, a few times a second at most, and read by scrapes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::proto::MetricFamily;

use super::passes::{PassEnd, Passes};
use crate::disk::hints::HintSink;
use crate::ids::{PoolName, ShardId, StoreId};
use crate::metrics::{Group, Kind, Sample};
use crate::version::Stamp;

/// Why a version was brought to a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    Hint,
    AntiEntropy,
}

#[derive(Debug, Clone, Copy, Default)]
struct OfShard {
    by_hint: u64,
    by_anti_entropy: u64,
    bytes: u64,
    /// Another store than its own answers there.
    foreign: Option<StoreId>,
    /// Values that its store has lost the bytes of, as it last told.
    damaged: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct OfPool {
    differing: u64,
    lost: u64,
    failures: u64,
    collected: u64,
    /// Of the writes that the last pass could not bring to a replica, the oldest.
    unrepaired: Option<Stamp>,
}

/// Since the node's start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    shards: Mutex<BTreeMap<(PoolName, ShardId), OfShard>>,
    pools: Mutex<BTreeMap<PoolName, OfPool>>,
    /// How often each loop of the thread was begun again.
    loops: Mutex<BTreeMap<&'static str, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counts {
    pub(super) fn brought(&self, pool: &PoolName, shard: &ShardId, cause: Cause, bytes: u64) {
        let mut shards = lock(&self.shards);
        let counts = shards.entry((pool.clone(), shard.clone())).or_default();
        match cause {
            Cause::Hint => counts.by_hint += 1,
            Cause::AntiEntropy => counts.by_anti_entropy += 1,
        }
        counts.bytes += bytes;
    }

    /// Notes which other store answers in a shard's place, if any. Says whether that is news.
    pub(super) fn foreign(&self, pool: &PoolName, shard: &ShardId, other: Option<StoreId>) -> bool {
        let mut shards = lock(&self.shards);
        let counts = shards.entry((pool.clone(), shard.clone())).or_default();
        std::mem::replace(&mut counts.foreign, other) != other
    }

    /// Notes what a store tells of its damage.
    pub(super) fn damaged(&self, pool: &PoolName, shard: &ShardId, values: u64) {
        lock(&self.shards).entry((pool.clone(), shard.clone())).or_default().damaged = values;
    }

    /// What a shard's store has last told of its damage.
    pub(super) fn damaged_at(&self, pool: &PoolName, shard: &ShardId) -> u64 {
        let shards = lock(&self.shards);
        shards.get(&(pool.clone(), shard.clone())).map_or(0, |counts| counts.damaged)
    }

    /// The same of all shards of a pool.
    pub(super) fn damaged_of(&self, pool: &PoolName) -> u64 {
        let shards = lock(&self.shards);
        shards.iter().filter(|((own, _), _)| own == pool).map(|(_, counts)| counts.damaged).sum()
    }

    /// Notes that a loop has met a defect.
    pub(super) fn begun_again(&self, which: &'static str) {
        *lock(&self.loops).entry(which).or_default() += 1;
    }

    /// The store that answers in a shard's place, if it is not its own.
    pub(super) fn foreign_at(&self, pool: &PoolName, shard: &ShardId) -> Option<StoreId> {
        lock(&self.shards).get(&(pool.clone(), shard.clone()))?.foreign
    }

    fn of_pool(&self, pool: &PoolName, act: impl FnOnce(&mut OfPool)) {
        act(lock(&self.pools).entry(pool.clone()).or_default());
    }

    pub(super) fn differing(&self, pool: &PoolName) {
        self.of_pool(pool, |counts| counts.differing += 1);
    }

    pub(super) fn lost(&self, pool: &PoolName) {
        self.of_pool(pool, |counts| counts.lost += 1);
    }

    pub(super) fn failure(&self, pool: &PoolName) {
        self.of_pool(pool, |counts| counts.failures += 1);
    }

    pub(super) fn collected(&self, pool: &PoolName, count: u64) {
        self.of_pool(pool, |counts| counts.collected += count);
    }

    pub(super) fn unrepaired(&self, pool: &PoolName, oldest: Option<Stamp>) {
        self.of_pool(pool, |counts| counts.unrepaired = oldest);
    }

    /// The oldest write that some replica of the pool is known to lack.
    pub(super) fn oldest_unrepaired(&self, pool: &PoolName, hints: &HintSink) -> Option<Stamp> {
        let known = lock(&self.pools).get(pool).and_then(|counts| counts.unrepaired);
        let hinted = hints.pending().into_iter().filter(|(own, ..)| own == pool);
        hinted.filter_map(|(.., pending)| pending.oldest).chain(known).min()
    }

    /// Forgets shards and pools that are no more.
    pub(super) fn keep(&self, mut is_there: impl FnMut(&PoolName, Option<&ShardId>) -> bool) {
        lock(&self.shards).retain(|(pool, shard), _| is_there(pool, Some(shard)));
        lock(&self.pools).retain(|pool, _| is_there(pool, None));
    }
}

/// All series, for a scrape.
pub(super) fn export(
    counts: &Counts,
    passes: &Passes,
    hints: &HintSink,
    now_unix_ms: u64,
) -> Vec<MetricFamily> {
    let mut families = hint_families(hints, now_unix_ms);
    families.extend(shard_families(counts));
    families.extend(pool_families(counts, passes, hints, now_unix_ms));
    let mut again = Group::new(
        "ringway_heal_loop_restarts_total",
        "Loops of the healing thread that met a defect and were begun again.",
        Kind::Counter,
        &["loop"],
    );
    for (which, count) in lock(&counts.loops).iter() {
        again.push(&[which], Sample::Counter(*count));
    }
    families.push(again);
    families.into_iter().filter_map(Group::finish).collect()
}

const SHARD: &[&str] = &["pool", "shard"];
const POOL: &[&str] = &["pool"];

#[allow(clippy::cast_precision_loss, reason = "the exposition format has doubles only")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn age(stamp: Stamp, now_unix_ms: u64) -> f64 {
    seconds(now_unix_ms.saturating_sub(stamp.unix_ms()))
}

fn hint_families(hints: &HintSink, now_unix_ms: u64) -> Vec<Group> {
    let gauge = |name, help| Group::new(name, help, Kind::Gauge, SHARD);
    let counter = |name, help| Group::new(name, help, Kind::Counter, &[]);
    let mut pending = gauge("ringway_hints_pending", "Keys of which a shard has missed a write.");
    let mut oldest = gauge("ringway_hints_oldest_age_seconds", "Age of the oldest of them.");
    let mut overflowed = gauge(
        "ringway_hints_overflowed",
        "1 while the shard has missed more than there was room for, until a pass of repair.",
    );
    for (pool, shard, left) in hints.pending() {
        let labels = [pool.as_str(), shard.as_str()];
        #[allow(clippy::cast_precision_loss, reason = "the exposition format has doubles only")]
        pending.push(&labels, Sample::Gauge(left.count as f64));
        let age = left.oldest.map_or(0.0, |stamp| age(stamp, now_unix_ms));
        oldest.push(&labels, Sample::Gauge(age));
        overflowed.push(&labels, Sample::Gauge(f64::from(u8::from(left.overflowed))));
    }
    let counts = hints.counts();
    let mut taken = counter("ringway_hints_taken_total", "Hints taken in.");
    taken.push(&[], Sample::Counter(counts.taken));
    let mut lost = counter("ringway_hints_lost_total", "Hints lost for want of room.");
    lost.push(&[], Sample::Counter(counts.lost));
    let mut failed =
        counter("ringway_hints_write_failures_total", "Batches of hints that are in memory alone.");
    failed.push(&[], Sample::Counter(counts.failed_writes));
    let mut again = counter(
        "ringway_hints_thread_restarts_total",
        "Defects that the thread which writes hints met, and went on after.",
    );
    again.push(&[], Sample::Counter(counts.restarts));
    vec![pending, oldest, overflowed, taken, lost, failed, again]
}

fn shard_families(counts: &Counts) -> Vec<Group> {
    let labels = &["pool", "shard", "kind"];
    let mut repairs = Group::new(
        "ringway_repairs_total",
        "Versions brought to the shard, by what told that it lacked them.",
        Kind::Counter,
        labels,
    );
    let counter = |name, help| Group::new(name, help, Kind::Counter, SHARD);
    let mut bytes = counter("ringway_repair_bytes_total", "Bytes of values brought to the shard.");
    let mut foreign = Group::new(
        "ringway_store_foreign",
        "1 while another store than the shard's own answers at its address.",
        Kind::Gauge,
        SHARD,
    );
    let mut damaged = Group::new(
        "ringway_store_damaged_values",
        "Values that the shard's store says it has lost the bytes of.",
        Kind::Gauge,
        SHARD,
    );
    for ((pool, shard), counts) in lock(&counts.shards).iter() {
        let (pool, shard) = (pool.as_str(), shard.as_str());
        repairs.push(&[pool, shard, "hint"], Sample::Counter(counts.by_hint));
        repairs.push(&[pool, shard, "anti_entropy"], Sample::Counter(counts.by_anti_entropy));
        bytes.push(&[pool, shard], Sample::Counter(counts.bytes));
        let is_foreign = f64::from(u8::from(counts.foreign.is_some()));
        foreign.push(&[pool, shard], Sample::Gauge(is_foreign));
        #[allow(clippy::cast_precision_loss, reason = "the exposition format has doubles only")]
        damaged.push(&[pool, shard], Sample::Gauge(counts.damaged as f64));
    }
    vec![repairs, bytes, foreign, damaged]
}

fn pool_families(
    counts: &Counts,
    passes: &Passes,
    hints: &HintSink,
    now_unix_ms: u64,
) -> Vec<Group> {
    let counter = |name, help| Group::new(name, help, Kind::Counter, POOL);
    let gauge = |name, help| Group::new(name, help, Kind::Gauge, POOL);
    let mut differing = counter(
        "ringway_repair_keys_differing_total",
        "Keys that passes of repair found in different versions.",
    );
    let mut lost = counter(
        "ringway_repair_keys_lost_total",
        "Keys of which passes of repair found no replica that has the newest value whole.",
    );
    let mut failures =
        counter("ringway_repair_failures_total", "Versions that could not be brought.");
    let mut collected =
        counter("ringway_tombstones_collected_total", "Tombstones that stores have dropped.");
    let mut unrepaired = gauge(
        "ringway_repair_oldest_unrepaired_seconds",
        "Age of the oldest write that a replica is known to lack.",
    );
    let mut known = lock(&counts.pools).clone();
    // A pool that was never compared may have hints already.
    for (pool, _, _) in hints.pending() {
        known.entry(pool).or_default();
    }
    for (pool, of) in &known {
        let labels = [pool.as_str()];
        differing.push(&labels, Sample::Counter(of.differing));
        lost.push(&labels, Sample::Counter(of.lost));
        failures.push(&labels, Sample::Counter(of.failures));
        collected.push(&labels, Sample::Counter(of.collected));
        let oldest = counts.oldest_unrepaired(pool, hints);
        let oldest = oldest.map_or(0.0, |stamp| age(stamp, now_unix_ms));
        unrepaired.push(&labels, Sample::Gauge(oldest));
    }
    let mut running = gauge("ringway_repair_running", "1 while a pass of repair is under way.");
    let mut slots = gauge("ringway_repair_slots_compared", "Slots that the latest pass compared.");
    let mut last = gauge(
        "ringway_repair_last_pass_timestamp_seconds",
        "When the last pass that compared the whole pool ended (Unix time).",
    );
    let mut took =
        gauge("ringway_repair_last_pass_duration_seconds", "How long that pass had taken.");
    for pool in passes.pools() {
        let labels = [pool.as_str()];
        if let Some(pass) = passes.of(&pool) {
            let is_running = f64::from(u8::from(pass.end == PassEnd::Running));
            running.push(&labels, Sample::Gauge(is_running));
            slots.push(&labels, Sample::Gauge(f64::from(pass.slots)));
        }
        if let Some(pass) = passes.whole(&pool) {
            last.push(&labels, Sample::Gauge(seconds(pass.begun_unix_ms + pass.took_ms)));
            took.push(&labels, Sample::Gauge(seconds(pass.took_ms)));
        }
    }
    vec![differing, failures, collected, unrepaired, running, slots, last, took]
}
