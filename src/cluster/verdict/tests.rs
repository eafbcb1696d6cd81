//! What holds of verdicts for any history. The rules one by one are told in
//! `tests/scripts/verdict/`.

use proptest::prelude::{Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

fn pool() -> PoolName {
    PoolName::new("p").expect("a plain name")
}

fn shard(at: u64) -> ShardId {
    ShardId::new(&format!("s{at}")).expect("a plain name")
}

/// Shards, each with whether its reads and its writes are down, and whether it is foreign.
type Shards = Vec<(u64, bool, bool, bool)>;

/// Some nodes' views of two shards, and which nodes hold a lease.
#[derive(Debug, Clone)]
struct Moment {
    wait_ms: u64,
    seen: Vec<(u64, Shards)>,
    holders: BTreeSet<u64>,
    is_agreed: bool,
}

fn moment() -> impl Strategy<Value = Moment> {
    let shard = (0..2_u64, any::<bool>(), any::<bool>(), any::<bool>());
    let shards = prop::collection::vec(shard, 0..3);
    let wait_ms = prop_oneof![9 => 0..3_000_u64, 1 => any::<u64>()];
    let seen = prop::collection::vec((0..5_u64, shards), 0..4);
    let holders = prop::collection::btree_set(0..5_u64, 0..6);
    (wait_ms, seen, holders, any::<bool>()).prop_map(|(wait_ms, seen, holders, is_agreed)| Moment {
        wait_ms,
        seen,
        holders,
        is_agreed,
    })
}

proptest! {
    /// Every change that is proposed is what more than half of the holders see at that moment, as
    /// counted by hand.
    #[test]
    fn only_a_majority_of_holders_changes_anything(
        moments in prop::collection::vec(moment(), 0..60),
    ) {
        let mut book = VerdictBook::new(VerdictSettings::default());
        let mut now_ms = 0_u64;
        let mut latest: BTreeMap<u64, BTreeMap<ShardId, Seen>> = BTreeMap::new();
        let shards = (0..2).map(|at| (shard(at), Verdict::CLEAR)).collect();
        let mut agreed: Agreed = BTreeMap::from([(pool(), shards)]);
        for Moment { wait_ms, seen, holders, is_agreed } in moments {
            now_ms = now_ms.saturating_add(wait_ms);
            for (node, shards) in seen {
                let shards: BTreeMap<_, _> = shards
                    .into_iter()
                    .map(|(at, reads_down, writes_down, foreign)| {
                        // Of a foreign one nothing else may be known.
                        let told = |down: bool| (!foreign || down).then_some(down);
                        let (reads_down, writes_down) = (told(reads_down), told(writes_down));
                        (shard(at), Seen { reads_down, writes_down, foreign })
                    })
                    .collect();
                book.views(NodeId(node), BTreeMap::from([(pool(), shards.clone())]));
                latest.insert(node, shards);
            }
            let holding: BTreeSet<NodeId> = holders.iter().map(|node| NodeId(*node)).collect();
            latest.retain(|node, _| holders.contains(node));
            for (of, shard, verdict) in book.decide(now_ms, &holding, &agreed) {
                prop_assert_eq!(&of, &pool());
                let was = agreed[&of][&shard];
                prop_assert!(was != verdict);
                let votes = |says: &dyn Fn(Seen) -> bool| {
                    latest.values().filter(|seen| seen.get(&shard).is_some_and(|s| says(*s))).count()
                };
                if was.reads_down != verdict.reads_down {
                    let votes = votes(&|seen| seen.reads_down == Some(verdict.reads_down));
                    prop_assert!(votes * 2 > holders.len());
                }
                if was.writes_down != verdict.writes_down {
                    let votes = votes(&|seen| seen.writes_down == Some(verdict.writes_down));
                    prop_assert!(votes * 2 > holders.len());
                }
                if was.foreign != verdict.foreign {
                    let votes = votes(&|seen| seen.foreign == verdict.foreign);
                    prop_assert!(votes * 2 > holders.len());
                }
                if is_agreed {
                    agreed.entry(of).or_default().insert(shard, verdict);
                }
            }
        }
    }
}

#[test]
fn one_decision_is_bounded_and_the_rest_follows() {
    let all = u64::try_from(DECISIONS_MAX).expect("small") + 10;
    let mut book = VerdictBook::new(VerdictSettings::default());
    let holders = BTreeSet::from([NodeId(1)]);
    let mut agreed: Agreed =
        BTreeMap::from([(pool(), (0..all).map(|at| (shard(at), Verdict::CLEAR)).collect())]);
    let down = Seen { reads_down: Some(true), writes_down: Some(true), foreign: false };
    book.views(
        NodeId(1),
        BTreeMap::from([(pool(), (0..all).map(|at| (shard(at), down)).collect())]),
    );
    assert_eq!(book.decide(0, &holders, &agreed), []);
    for expected in [DECISIONS_MAX, 10, 0] {
        let decided = book.decide(2_000, &holders, &agreed);
        assert_eq!(decided.len(), expected);
        for (pool, shard, verdict) in decided {
            agreed.entry(pool).or_default().insert(shard, verdict);
        }
    }
}

#[test]
fn a_shard_that_always_flaps_is_held_off_for_a_bounded_time() {
    let settings = VerdictSettings::default();
    let mut question = Question::default();
    for round in 0..1_000 {
        question.note(round * 2, false, &settings);
        question.note(round * 2 + 1, true, &settings);
    }
    assert_eq!(settings.hold_off_ms(question.times_down), settings.hold_off_max_ms);
    // Forgiven as fast as if it had flapped just often enough.
    assert!(question.times_down <= 9, "{}", question.times_down);
    assert_eq!(settings.hold_off_ms(u32::MAX), settings.hold_off_max_ms);
}
