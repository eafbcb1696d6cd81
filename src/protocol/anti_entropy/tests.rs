use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    Circle, Difference, FOLD_SLOTS, Members, Mend, Merge, MergeError, Pace, Replay, Seen, differ,
    is_collectable, mend, replay,
};
use crate::ids::Token;
use crate::protocol::replica::{Entry, Sum};
use crate::version::{Stamp, Version};

fn version(stamp: u64) -> Version {
    Version { stamp: Stamp(stamp), ..Version::NONE }
}

fn entry(token: u64, key: &str, stamp: u64) -> Entry {
    let (key, version) = (key.to_owned(), version(stamp));
    let (tombstone, digest) = (stamp.is_multiple_of(5), String::new());
    Entry { token: Token(token), key, version, tombstone, size: stamp, digest, modified_ms: 0 }
}

const ALL: (Token, Token) = (Token(0), Token(u64::MAX));

#[test]
fn a_fold_is_compared_at_once_only_if_all_its_slots_have_the_same_shards() {
    let sets: [&[u16]; 3] = [&[2, 0, 1], &[1, 2, 0], &[1, 2, 3]];
    let same = Circle::new(|slot: u16| sets[usize::from(slot % 2)]);
    assert_eq!(same.members(7), Members::Same(vec![0, 1, 2]), "in whatever order");
    let mixed = Circle::new(|slot: u16| sets[if slot == 0x07ff { 2 } else { 0 }]);
    assert_eq!(mixed.members(7), Members::Mixed(vec![0, 1, 2, 3]));
    assert_eq!(mixed.members(8), Members::Same(vec![0, 1, 2]));
}

#[test]
fn runs_of_differing_slots_end_where_the_shards_change() {
    let sets: [&[u16]; 2] = [&[0, 1], &[1, 2]];
    let circle = Circle::new(|slot: u16| sets[usize::from(slot >= 0x0105)]);
    let sums = |odd: &[usize]| -> Vec<Sum> {
        (0..FOLD_SLOTS as usize)
            .map(|at| Sum { digest: u128::from(odd.contains(&at)), count: 0 })
            .collect()
    };
    let sums = BTreeMap::from([(0, sums(&[])), (1, sums(&[3, 4, 5, 6, 9])), (2, sums(&[9]))]);
    let runs = circle.differing(1, &sums);
    let shown: Vec<_> = runs.iter().map(|run| (run.first, run.last, run.shards.clone())).collect();
    assert_eq!(shown, [(0x103, 0x104, vec![0, 1]), (0x105, 0x106, vec![1, 2])]);
    assert_eq!(runs[0].tokens(), (Token(0x0103 << 48), Token(0x0104_ffff_ffff_ffff)));
    // Of a shard that did not answer nothing is concluded.
    let alone = BTreeMap::from([(1, sums[&1].clone())]);
    assert_eq!(circle.differing(1, &alone), []);
}

#[test]
fn an_equal_count_with_another_sum_differs() {
    let sum = |digest, count| Sum { digest, count };
    assert!(differ([sum(1, 1), sum(2, 1)]));
    assert!(differ([sum(0, 1), sum(0, 0)]), "and a sum that happens to be equal");
    assert!(!differ([sum(1, 1)]));
    assert!(!differ([]));
}

#[test]
fn a_page_that_cannot_be_is_refused() {
    let mut merge = Merge::new(2, (Token(5), Token(9)));
    assert_eq!(merge.page(0, [entry(4, "k", 1)], true), Err(MergeError::Range));
    let mut merge = Merge::new(2, (Token(5), Token(9)));
    merge.page(0, [entry(5, "b", 1)], false).expect("in order");
    assert_eq!(merge.page(0, [entry(5, "b", 1)], true), Err(MergeError::Order));
}

/// What replicas hold: for each the versions by key.
type World = Vec<BTreeMap<u8, u64>>;

fn worlds() -> impl Strategy<Value = World> {
    prop::collection::vec(prop::collection::btree_map(0u8..40, 1u64..30, 0..40), 1..5)
}

proptest! {
    #[test]
    fn merging_pages_finds_what_a_plain_comparison_finds(world in worlds(), page in 1usize..7) {
        let place = |key: u8| Token(u64::from(key / 3));
        let named = |key: u8| format!("k{key:02}");
        let lists: Vec<Vec<Entry>> = world
            .iter()
            .map(|held| held.iter().map(|(k, v)| entry(place(*k).0, &named(*k), *v)).collect())
            .collect();
        let mut merge = Merge::new(world.len(), ALL);
        let mut given = vec![0; world.len()];
        let mut found: Vec<Difference> = Vec::new();
        while !merge.is_done() {
            while let Some(replica) = merge.wants() {
                let rest = &lists[replica][given[replica]..];
                let part = &rest[..rest.len().min(page)];
                given[replica] += part.len();
                merge.page(replica, part.iter().cloned(), part.len() == rest.len()).expect("in order");
            }
            while let Some(difference) = merge.next() {
                found.push(difference);
            }
        }
        let keys: BTreeSet<u8> = world.iter().flat_map(|held| held.keys().copied()).collect();
        prop_assert_eq!(merge.compared(), keys.len() as u64);
        let mut meant = Vec::new();
        for key in keys {
            let newest = world.iter().filter_map(|held| held.get(&key)).max().expect("somebody");
            let who = |wanted: &dyn Fn(Option<&u64>) -> bool| -> Vec<usize> {
                (0..world.len()).filter(|at| wanted(world[*at].get(&key))).collect()
            };
            let difference = Difference {
                newest: entry(place(key).0, &named(key), *newest),
                holders: who(&|held| held == Some(newest)),
                older: who(&|held| held.is_some_and(|held| held < newest)),
                absent: who(&|held| held.is_none()),
            };
            if difference.holders.len() < world.len() {
                meant.push(difference);
            }
        }
        prop_assert_eq!(found, meant);
    }

    /// A replica as a store has it: newest wins, at or under its watermark nothing is taken in.
    #[test]
    fn mending_ends_with_all_alike_and_brings_nothing_back(
        held in prop::collection::vec((0u8..4, 1u64..8), 1..6)
    ) {
        let mut replicas: Vec<Option<Seen>> = held
            .iter()
            .map(|(kind, stamp)| match kind {
                0 => Some(Seen::Value(version(*stamp))),
                1 => Some(Seen::Tombstone(version(*stamp))),
                2 => Some(Seen::Absent(version(*stamp))),
                _ => None,
            })
            .collect();
        // No two kinds of writes share a version, and a watermark is that of a tombstone.
        for seen in replicas.iter_mut().flatten() {
            let kind = u64::from(matches!(seen, Seen::Value(_)));
            let (Seen::Value(v) | Seen::Tombstone(v) | Seen::Absent(v)) = seen;
            v.stamp = Stamp(v.stamp.0 * 2 + kind);
        }
        let before = replicas.clone();
        let newest = before.iter().flatten().map(|seen| seen.version()).max();
        match mend(&before) {
            Mend::Nothing => {}
            Mend::Copy { version, from, to } => {
                prop_assert!(from.iter().all(|at| before[*at] == Some(Seen::Value(version))));
                for at in to {
                    prop_assert!(before[at].is_some_and(|seen| seen.version() < version));
                    replicas[at] = Some(Seen::Value(version));
                }
            }
            Mend::Delete { version, to } => {
                for at in to {
                    prop_assert!(before[at].is_some());
                    replicas[at] = Some(Seen::Tombstone(version));
                }
            }
        }
        let answered: Vec<Seen> = replicas.iter().flatten().copied().collect();
        let values: BTreeSet<_> = answered
            .iter()
            .map(|seen| match seen {
                Seen::Value(version) => Some(*version),
                Seen::Tombstone(_) | Seen::Absent(_) => None,
            })
            .collect();
        prop_assert!(values.len() <= 1, "a reader sees one thing wherever it asks: {answered:?}");
        if let Some(Some(value)) = values.first() {
            prop_assert_eq!(Some(*value), newest, "and that is the newest");
        }
        prop_assert_eq!(mend(&replicas), Mend::Nothing, "once is enough: {:?}", replicas);
    }
}

#[test]
fn a_value_under_a_watermark_is_deleted_where_it_has_survived() {
    let seen = [Some(Seen::Absent(version(9))), Some(Seen::Value(version(5))), None];
    assert_eq!(mend(&seen), Mend::Delete { version: version(9), to: vec![1] });
    // One that was written later is copied.
    let seen = [Some(Seen::Absent(version(9))), Some(Seen::Value(version(10))), None];
    let (from, to) = (vec![1], vec![0]);
    assert_eq!(mend(&seen), Mend::Copy { version: version(10), from, to });
    // A tombstone that others have collected is brought to nobody, and left to be collected.
    let seen = [Some(Seen::Absent(version(12))), Some(Seen::Tombstone(version(9)))];
    assert_eq!(mend(&seen), Mend::Nothing);
    let seen = [Some(Seen::Absent(version(9))), Some(Seen::Tombstone(version(9)))];
    assert_eq!(mend(&seen), Mend::Nothing);
}

#[test]
fn a_hint_is_replayed_with_what_is_newest_and_dropped_only_for_a_reason() {
    let (value, tombstone) =
        (|v| Some(Seen::Value(version(v))), |v| Some(Seen::Tombstone(version(v))));
    let absent = |v| Some(Seen::Absent(version(v)));
    let hinted = version(5);
    let decide = |seen: [Option<Seen>; 3]| replay(0, hinted, &seen);
    assert_eq!(
        decide([absent(0), value(5), value(5)]),
        Replay::Copy { from: 2, version: version(5) }
    );
    assert_eq!(
        decide([value(2), value(5), value(8)]),
        Replay::Copy { from: 2, version: version(8) }
    );
    assert_eq!(decide([value(2), tombstone(7), None]), Replay::Delete(version(7)));
    assert_eq!(decide([value(5), value(8), value(8)]), Replay::Drop, "it has what it missed");
    assert_eq!(decide([None, value(5), value(5)]), Replay::Wait, "it is still away");
    assert_eq!(decide([absent(0), absent(0), None]), Replay::Drop, "nobody of a majority has it");
    assert_eq!(decide([absent(0), None, None]), Replay::Wait, "who has it may be away");
    assert_eq!(decide([absent(0), absent(6), None]), Replay::Drop, "deleted and collected");
    assert_eq!(decide([value(3), absent(6), None]), Replay::Delete(version(6)));
}

#[test]
fn a_tombstone_is_collected_when_it_is_old_and_all_have_it() {
    let tombstone = Version { stamp: Stamp::of_ms(10_000), ..Version::NONE };
    let later = Version { stamp: Stamp::of_ms(10_001), ..Version::NONE };
    let held = Some(Seen::Tombstone(tombstone));
    let seen = [held, Some(Seen::Value(later)), Some(Seen::Absent(tombstone))];
    assert!(is_collectable(tombstone, &seen, 13_000, 3_000));
    assert!(!is_collectable(tombstone, &seen, 12_999, 3_000), "too young");
    let missed = [held, held, Some(Seen::Absent(Version::NONE))];
    assert!(!is_collectable(tombstone, &missed, 99_000, 3_000), "one has never heard of it");
    assert!(!is_collectable(tombstone, &[held, held, None], 99_000, 3_000), "one is away");
}

#[test]
fn the_pace_yields_to_stores_that_suffer_and_comes_back() {
    let mut pace = Pace::new(8_000_000);
    assert_eq!(pace.spend(0, 4_000_000), 500_000);
    assert_eq!(pace.spend(100_000, 0), 400_000, "what was spent is still being paid");
    assert_eq!(pace.spend(10_000_000, 8_000_000), 1_000_000, "idle time is not saved up");
    let mut now = 0;
    let mut answered = |pace: &mut Pace, took| {
        now += 100_000;
        pace.answered(now, took);
        pace.rate()
    };
    for _ in 0..10 {
        assert_eq!(answered(&mut pace, 1_000), 8_000_000);
    }
    assert_eq!(answered(&mut pace, 9_000), 4_000_000);
    for _ in 0..20 {
        answered(&mut pace, 9_000);
    }
    assert_eq!(pace.rate(), 125_000, "it never stops");
    for _ in 0..8 {
        answered(&mut pace, 1_500);
    }
    assert_eq!(pace.rate(), 8_000_000);
    // Many slow answers at one moment are one sign.
    pace.answered(now + 50_000, 90_000);
    assert_eq!(pace.rate(), 8_000_000);
}
