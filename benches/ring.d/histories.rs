//! A thousand changes of a pool's shards, one after another: how even are the tables, how much more
//! moves than shards gain, and how long does a change take?
//!
//! What moves is the least that any table with the same quotas would move (the tests of
//! `ring::slots` compare it with an independent flow); where it is more than was gained, zones stand
//! in the way.

use std::time::{Duration, Instant};

use crate::history::{History, Kind, gained, least_primary_peak};
use crate::ring::slots::plan;

const CHANGES: usize = 1000;

/// Shards, zones, greatest weight.
const KINDS: [(u64, u64, u64); 11] = [
    (10, 1, 1),
    (10, 5, 1),
    (10, 5, 4),
    (30, 5, 4),
    (100, 1, 1),
    (100, 5, 1),
    (100, 5, 4),
    (100, 20, 4),
    (1000, 1, 1),
    (1000, 5, 4),
    (1000, 20, 4),
];

pub fn run() {
    println!(
        "histories of {CHANGES} changes; shares of 1, the worst of all tables; ms of one change\n"
    );
    println!(
        "{:>6} {:>5} {:>6} | {:>10} {:>8} {:>9} {:>7} | {:>7} {:>6} {:>6} {:>6}",
        "shards",
        "zones",
        "weight",
        "move/gain",
        "peak",
        "primaries",
        "least",
        "full",
        "median",
        "p99",
        "worst"
    );
    for (shards, zones, weights) in KINDS {
        one(Kind { shards, zones, weights, vnodes: 256 });
    }
}

fn one(kind: Kind) {
    let mut history = History::new(kind, 1);
    let start = Instant::now();
    let mut table = plan(None, &history.spec).expect("a table");
    let full = start.elapsed();
    let (mut moved, mut gain, mut times) = (0, 0, Vec::new());
    let (mut peak, mut primaries, mut least) = (0_f64, 0_f64, 0);
    for _ in 0..CHANGES {
        history.change();
        let start = Instant::now();
        let next = plan(Some(&table), &history.spec).expect("a table");
        times.push(start.elapsed());
        let stats = next.stats(&history.spec).expect("it has a table");
        assert_eq!((stats.off_quota, stats.crowded_slots), (0, 0), "all quotas are met");
        gain += gained(&table, &stats);
        moved += next.moved_from(&table).0;
        peak = peak.max(stats.peak.as_f64());
        primaries = primaries.max(stats.primary_peak.as_f64());
        least = least.max(least_primary_peak(&history.spec));
        table = next;
    }
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{:>6} {:>5} {:>6} | {:>10.5} {:>8.5} {:>9.5} {:>7.5} | {:>7.1} {:>6.1} {:>6.1} {:>6.1}",
        kind.shards,
        kind.zones,
        kind.weights,
        moved as f64 / gain as f64,
        peak,
        primaries,
        least as f64 / 1e6,
        ms(full),
        ms(times[CHANGES / 2]),
        ms(times[CHANGES * 99 / 100]),
        ms(times[CHANGES - 1]),
    );
}
