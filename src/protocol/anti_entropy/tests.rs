//! Comparing, against plain comparisons.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};

use super::{Circle, Difference, FOLD_SLOTS, Members, Merge, MergeError, Pace, Told, differ, mend};
use crate::ids::Token;
use crate::protocol::holding::Held;
use crate::protocol::replica::{Entry, Sum};
use crate::version::{Stamp, Version};

fn version(stamp: u64) -> Version {
    Version { stamp: Stamp(stamp), ..Version::NONE }
}

fn entry(token: u64, key: &str, stamp: u64) -> Entry {
    let (token, key, version) = (Token(token), key.to_owned(), version(stamp));
    let (tombstone, digest) = (stamp.is_multiple_of(5), String::new());
    let (damaged, modified_ms) = (false, 0);
    Entry { token, key, version, tombstone, size: stamp, digest, damaged, modified_ms }
}

const ALL: (Token, Token) = (Token(0), Token(u64::MAX));

#[test]
fn a_fold_is_compared_at_once_only_if_all_its_slots_have_the_same_shards() {
    let sets: [&[u16]; 3] = [&[2, 0, 1], &[1, 2, 0], &[1, 2, 3]];
    let same = Circle::new(|slot: u16| sets[usize::from(slot % 2)].to_vec());
    assert_eq!(same.members(7), Members::Same(vec![0, 1, 2]), "in whatever order");
    let mixed = Circle::new(|slot: u16| sets[if slot == 0x07ff { 2 } else { 0 }].to_vec());
    assert_eq!(mixed.members(7), Members::Mixed(vec![0, 1, 2, 3]));
    assert_eq!(mixed.members(8), Members::Same(vec![0, 1, 2]));
}

#[test]
fn runs_of_differing_slots_end_where_the_shards_change() {
    let sets: [&[u16]; 2] = [&[0, 1], &[1, 2]];
    let circle = Circle::new(|slot: u16| sets[usize::from(slot >= 0x0105)].to_vec());
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

/// What replicas hold: for each the versions by key, and whether the bytes are lost.
type World = Vec<BTreeMap<u8, (u64, bool)>>;

fn worlds() -> impl Strategy<Value = World> {
    let held = (1u64..30, 0..4u8).prop_map(|(stamp, damaged)| (stamp, damaged == 0));
    prop::collection::vec(prop::collection::btree_map(0u8..40, held, 0..40), 1..5)
}

proptest! {
    #[test]
    fn merging_pages_finds_what_a_plain_comparison_finds(world in worlds(), page in 1usize..7) {
        let place = |key: u8| Token(u64::from(key / 3));
        let named = |key: u8| format!("k{key:02}");
        let lists: Vec<Vec<Entry>> = world
            .iter()
            .map(|held| {
                let entries = held.iter().map(|(key, (stamp, damaged))| Entry {
                    damaged: *damaged,
                    ..entry(place(*key).0, &named(*key), *stamp)
                });
                entries.collect()
            })
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
            let all = || world.iter().filter_map(|held| held.get(&key)).copied();
            let newest = all().map(|(stamp, _)| stamp).max().expect("somebody");
            let who = |wanted: &dyn Fn(Option<(u64, bool)>) -> bool| -> Vec<usize> {
                (0..world.len()).filter(|at| wanted(world[*at].get(&key).copied())).collect()
            };
            let damaged = all().all(|held| held != (newest, false));
            let difference = Difference {
                newest: Entry { damaged, ..entry(place(key).0, &named(key), newest) },
                holders: who(&|held| held == Some((newest, false))),
                damaged: who(&|held| held == Some((newest, true))),
                older: who(&|held| held.is_some_and(|held| held.0 < newest)),
                absent: who(&|held| held.is_none()),
            };
            let is_alike = |all: &Vec<usize>| all.len() == world.len();
            if !is_alike(&difference.holders) && !is_alike(&difference.damaged) {
                meant.push(difference);
            }
        }
        prop_assert_eq!(found, meant);
    }

    #[test]
    fn after_mending_once_all_that_answered_are_alike(
        shape in prop::collection::vec((0u8..5, 1u64..8), 1..6)
    ) {
        // No two kinds of writes share a version.
        let of = |(kind, stamp): &(u8, u64)| match kind {
            0 => Some(Held::Value(version(2 * stamp + 1))),
            1 => Some(Held::Tombstone(version(2 * stamp))),
            2 => Some(Held::Absent { watermark: version(2 * stamp) }),
            3 => Some(Held::Damaged(version(2 * stamp + 1))),
            _ => None,
        };
        let mut held: Vec<Option<Held>> = shape.iter().map(of).collect();
        let records: Vec<_> = held.iter().flatten().filter_map(|held| held.record()).collect();
        let Some(mended) = mend(&held) else {
            prop_assert_eq!(records, []);
            return Ok(());
        };
        prop_assert_eq!(Some(mended.newest.version), records.into_iter().max());
        for at in &mended.to {
            let before = held[*at].expect("it answered");
            let newest = mended.newest.version;
            let is_healed = before == Held::Damaged(newest) && !mended.is_lost;
            prop_assert!(before.newest() < newest || is_healed, "nothing goes back: {:?}", before);
            let loses = mended.is_lost && matches!(before, Held::Value(_));
            prop_assert!(!loses, "no bytes are given up for others that are lost: {:?}", before);
            held[*at] = Some(match mended.newest.is_tombstone {
                true => Held::Tombstone(newest),
                false if mended.is_lost => Held::Damaged(newest),
                false => Held::Value(newest),
            });
        }
        let again = mend(&held).expect("it is held");
        prop_assert_eq!(&again.to, &Vec::<usize>::new(), "once is enough: {:?}", held);
        prop_assert_eq!(&again.stuck, &mended.stuck);
        for (at, held) in held.iter().enumerate() {
            let Some(held) = held else { continue };
            let alike = [&again.holders, &again.stuck, &again.spared].iter().any(|all| all.contains(&at));
            prop_assert!(alike || (mended.newest.is_tombstone && held.covers(mended.newest.version)));
        }
    }
}

#[test]
fn a_value_under_a_watermark_is_told_and_not_acted_on() {
    let watermark = Held::Absent { watermark: version(9) };
    let mended = mend(&[Some(watermark), Some(Held::Value(version(5))), None]).expect("held");
    assert_eq!((mended.to, mended.stuck), (vec![], vec![0]));
    // One that was written later is copied.
    let mended = mend(&[Some(watermark), Some(Held::Value(version(10))), None]).expect("held");
    assert_eq!((mended.holders, mended.to, mended.stuck), (vec![1], vec![0], vec![]));
    // A tombstone that another has collected is left for whoever collects.
    let mended = mend(&[Some(watermark), Some(Held::Tombstone(version(9)))]).expect("held");
    assert!(mended.is_alike());
}

#[test]
fn damaged_bytes_are_brought_anew_or_lost() {
    let damaged = Some(Held::Damaged(version(7)));
    let older = Some(Held::Value(version(5)));
    let mended = mend(&[damaged, Some(Held::Value(version(7))), older, None]).expect("held");
    assert_eq!(
        (&mended.holders[..], &mended.to[..], mended.is_lost),
        (&[1][..], &[0, 2][..], false)
    );
    // Who has an older one has nothing to give, and the newer one is not forgotten for it; nor are the
    // last bytes that there are given up.
    let mended = mend(&[damaged, older]).expect("held");
    assert!(mended.is_lost && mended.to.is_empty() && !mended.is_alike());
    assert_eq!(mended.spared, [1]);
    // Who has no bytes is told what is lost, once.
    let gone = Some(Held::Tombstone(version(6)));
    let mended = mend(&[damaged, Some(Held::NOTHING), gone, None]).expect("held");
    assert_eq!(
        (mended.is_lost, &mended.holders[..], &mended.to[..]),
        (true, &[0][..], &[1, 2][..])
    );
    let mended = mend(&[damaged, damaged, damaged]).expect("held");
    assert!(mended.is_lost && mended.is_alike());
    // Overwritten, it does not matter.
    assert_eq!(mend(&[damaged, Some(Held::Value(version(8)))]).expect("held").to, [0]);
}

/// The story: C is fresh, and V4 was acknowledged by A and C. V5 reached A alone, nobody was told of it,
/// and A's bytes rotted. C was told of V5 at once, and V4 was nowhere any more.
#[test]
fn the_last_bytes_of_a_key_are_not_given_up_because_a_store_is_fresh() {
    let damaged = Some(Held::Damaged(version(5)));
    let older = Some(Held::Value(version(4)));
    let nothing = Some(Held::NOTHING);
    let told =
        |held: &[Option<Held>]| mend(held).expect("somebody holds it").told(held, |at| at == 2);
    // B gets what C has first, and is not told: it would take it no more.
    let first = told(&[damaged, nothing, older]);
    let rescued = Some((version(4), vec![2], vec![1]));
    assert_eq!(first, Told { rescued, waiting: vec![2], ..Told::default() });
    // Then B keeps it, and C may count.
    let then = told(&[damaged, older, older]);
    assert_eq!(then, Told { to: vec![2], spared: vec![1], ..Told::default() });
    // While one is silent that may have it, nothing is given up.
    assert_eq!(told(&[damaged, None, older]), Told { waiting: vec![2], ..Told::default() });
    // What B has is older than what C would give up.
    let oldest = Some(Held::Value(version(3)));
    let held = [damaged, oldest, older];
    let rescued = Some((version(4), vec![2], vec![1]));
    let waiting = Told { rescued, waiting: vec![2], spared: vec![1], ..Told::default() };
    assert_eq!(told(&held), waiting);
    // The key was deleted after it.
    let deleted = Some(Held::Tombstone(version(4)));
    assert_eq!(told(&[damaged, deleted, oldest]).to, [1, 2]);
    // A majority had V5: it may have been acknowledged, and V4 is no more.
    assert_eq!(told(&[damaged, damaged, older]), Told { to: vec![2], ..Told::default() });
    // Who has nothing has nothing to give up.
    assert_eq!(told(&[damaged, nothing, nothing]), Told { to: vec![1, 2], ..Told::default() });
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
