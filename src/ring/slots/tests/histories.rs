//! Does a table stay even, and does little move, however often its shards change?
//!
//! Short histories of few shards here, since nothing is optimised in tests; histories of a thousand
//! changes are a part of `benches/ring.rs`.

use super::history::{History, Kind, gained, least_primary_peak};
use super::oracle::fewest;
use super::{SlotTable, judge, plan};
use crate::ring::slots::SlotStats;

/// What a history came to.
struct Sums {
    moved: u64,
    gained: u64,
}

fn run(
    kind: Kind,
    changes: usize,
    each: impl Fn(&History, &SlotTable, &SlotTable, &SlotStats),
) -> Sums {
    let mut history = History::new(kind, 1);
    let mut table = plan(None, &history.spec).expect("a table");
    let mut sums = Sums { moved: 0, gained: 0 };
    for _ in 0..changes {
        history.change();
        let next = plan(Some(&table), &history.spec).expect("a table");
        let stats = next.stats(&history.spec).expect("it has a table");
        assert_eq!((stats.off_quota, stats.crowded_slots), (0, 0));
        let gained = gained(&table, &stats);
        let moved = next.moved_from(&table).0;
        assert!(moved >= gained, "less cannot move");
        sums = Sums { moved: sums.moved + moved, gained: sums.gained + gained };
        each(&history, &table, &next, &stats);
        table = next;
    }
    judge(&table, &history.spec);
    sums
}

fn judge_shares(history: &History, _: &SlotTable, _: &SlotTable, stats: &SlotStats) {
    // A copy more or less at most.
    for (_, held, quota) in &stats.copies {
        assert_eq!(held, quota);
    }
    // Rounded to thousandths, and no higher than whole slots make it.
    let (peak, least) = (stats.primary_peak.thousandths(), least_primary_peak(&history.spec));
    assert!(peak * 1000 <= least + 1000, "{peak} of {least}");
}

#[test]
fn many_shards_move_what_they_gain_and_no_more() {
    let kind = Kind { shards: 60, zones: 10, weights: 3, vnodes: 16 };
    let sums = run(kind, 8, judge_shares);
    assert!(sums.gained > 0 && sums.moved == sums.gained, "{} of {}", sums.moved, sums.gained);
}

#[test]
fn shards_without_zones_move_what_they_gain_and_no_more() {
    let kind = Kind { shards: 16, zones: 1, weights: 2, vnodes: 16 };
    let sums = run(kind, 8, judge_shares);
    assert_eq!(sums.moved, sums.gained);
}

/// Where zones fill up, more moves than is gained, but never more than must.
#[test]
fn few_shards_in_many_zones_move_as_little_as_can_be() {
    let kind = Kind { shards: 8, zones: 4, weights: 3, vnodes: 16 };
    let sums = run(kind, 8, |history, before, next, stats| {
        judge_shares(history, before, next, stats);
        let quotas: Vec<_> =
            stats.copies.iter().map(|(id, _, quota)| (id.clone(), u64::from(*quota))).collect();
        assert_eq!(next.moved_from(before).0, fewest(before, &history.spec, &quotas));
    });
    assert!(sums.moved * 10 <= sums.gained * 11, "{} of {}", sums.moved, sums.gained);
}
