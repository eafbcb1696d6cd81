//! The ring against a naive one that walks the whole circle for every token, the laws that every
//! change of members obeys, and vectors that hold the ring still from release to release.

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, prop_assume, prop_compose, prop_oneof, proptest};

use super::vnodes::{Hashing, Keys, Vnode};
use super::*;
use crate::ids::{ShardId, Token, Weight, Zone};

fn weight(units: u64) -> Weight {
    Weight::try_from(units).expect("a weight in range")
}

fn member(id: &str, zone: &str, units: u64) -> Member {
    let id = ShardId::new(id).expect("a plain name");
    Member { id, zone: Zone::new(zone).expect("a plain name"), weight: weight(units) }
}

fn spec(vnodes: u16, replicas: u8, members: Vec<Member>) -> RingSpec {
    RingSpec { hash_seed: "seed".to_owned(), vnodes, replicas, members, ketama: None }
}

fn build(spec: &RingSpec) -> Ring {
    Ring::build(spec).expect("a good spec")
}

/// The ids of a replica set: indices mean nothing to another ring.
fn ids<'a>(ring: &'a Ring, set: impl IntoIterator<Item = &'a ShardIx>) -> Vec<&'a ShardId> {
    set.into_iter().map(|&shard| &ring.member(shard).id).collect()
}

/// The points of a ring and one more on each side of them, the ends of the circle, and some
/// between.
fn tokens_to_try(rings: &[&Ring]) -> Vec<Token> {
    let mut tokens = vec![0, 1, u64::MAX - 1, u64::MAX];
    for ring in rings {
        for position in 0..ring.vnodes() {
            let token = ring.token_at(position);
            tokens.extend([token.wrapping_sub(1), token, token.wrapping_add(1)]);
        }
    }
    tokens.extend((0..200_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    tokens.into_iter().map(Token).collect()
}

/// The rule of the module doc, word for word: all points from the token on, then those before it.
fn naive_order(spec: &RingSpec, points: &[Vnode], token: Token) -> (Vec<ShardIx>, Vec<ShardIx>) {
    let (before, from): (Vec<&Vnode>, Vec<&Vnode>) =
        points.iter().partition(|vnode| vnode.token < token.0);
    let mut met: Vec<ShardIx> = Vec::new();
    for vnode in from.into_iter().chain(before) {
        if !met.contains(&vnode.owner) {
            met.push(vnode.owner);
        }
    }
    let zone = |shard: &ShardIx| &spec.members[usize::from(shard.0)].zone;
    let mut set: Vec<ShardIx> = Vec::new();
    let mut left = met.clone();
    while set.len() < usize::from(spec.replicas) {
        let in_zone = |shard: &ShardIx| set.iter().filter(|s| zone(s) == zone(shard)).count();
        let fewest = left.iter().map(in_zone).min().expect("the spec was checked");
        let next = left.iter().position(|shard| in_zone(shard) == fewest).expect("it was found");
        set.push(left.remove(next));
    }
    let order = set.iter().copied().chain(left).collect();
    (set, order)
}

fn assert_matches_naive(ring: &Ring, points: &[Vnode]) {
    let mut points = points.to_vec();
    points.sort_by_key(|vnode| (vnode.token, vnode.owner.0));
    for token in tokens_to_try(&[ring]) {
        let (set, order) = naive_order(ring.spec(), &points, token);
        assert_eq!(ring.replicas(token), set, "replica set of {token}");
        assert_eq!(ring.order(token).collect::<Vec<_>>(), order, "order at {token}");
        assert_eq!(ring.order(token).len(), ring.owners());
    }
}

prop_compose! {
    /// Up to nine members in up to four zones, weights 0 to 3.
    fn members()(drawn in prop::collection::vec((0..4_u8, 0..4_u64), 1..10)) -> Vec<Member> {
        drawn
            .into_iter()
            .enumerate()
            .map(|(number, (zone, units))| member(&format!("s{number}"), &format!("z{zone}"), units))
            .collect()
    }
}

prop_compose! {
    /// A spec of which a ring can be built.
    fn specs()(members in members(), vnodes in 1..20_u16, replicas in 1..5_u8) -> RingSpec {
        let mut members = members;
        members[0].weight = Weight::ONE;
        let owners = members.iter().filter(|member| member.weight.get() > 0).count();
        let owners = u8::try_from(owners).expect("a few");
        spec(vnodes, replicas.min(owners), members)
    }
}

/// What may happen to the member numbered by the index.
#[derive(Debug, Clone)]
enum Change {
    Add { zone: u8, units: u64 },
    Remove(prop::sample::Index),
    Weight(prop::sample::Index, u64),
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..5_u8, 1..4_u64).prop_map(|(zone, units)| Change::Add { zone, units }),
        any::<prop::sample::Index>().prop_map(Change::Remove),
        (any::<prop::sample::Index>(), 0..5_u64).prop_map(|(at, units)| Change::Weight(at, units)),
    ]
}

impl Change {
    /// The changed spec, who changed, and whether it may only gain or only lose.
    fn apply(&self, before: &RingSpec) -> (RingSpec, ShardId, bool) {
        let mut after = before.clone();
        let (id, gains) = match self {
            Change::Add { zone, units } => {
                after.members.push(member("new", &format!("z{zone}"), *units));
                (after.members[before.members.len()].id.clone(), true)
            }
            Change::Remove(at) => (after.members.remove(at.index(before.members.len())).id, false),
            Change::Weight(at, units) => {
                let changed = &mut after.members[at.index(before.members.len())];
                let former = std::mem::replace(&mut changed.weight, weight(*units));
                (changed.id.clone(), changed.weight >= former)
            }
        };
        (after, id, gains)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn lookups_agree_with_a_naive_walk(spec in specs()) {
        let ring = build(&spec);
        let points = Hashing::of(&spec).vnodes_of(ring.spec());
        assert_matches_naive(&ring, &points);
    }

    /// Points that hashing would not bring together in a lifetime: equal tokens of several
    /// shards, crowds in one bucket, and both ends of the circle.
    #[test]
    fn lookups_agree_with_a_naive_walk_where_tokens_collide(
        spec in specs(),
        drawn in prop::collection::vec((0..4_u8, 0..3_u64, any::<prop::sample::Index>()), 1..40),
    ) {
        let mut spec = spec;
        let owning: Vec<usize> = (0..spec.members.len())
            .filter(|&at| spec.members[at].weight.get() > 0)
            .collect();
        let everyone = owning.iter().map(|&at| (2, 7, at));
        let points: Vec<Vnode> = drawn
            .iter()
            .map(|(place, offset, at)| (*place, *offset, *at.get(&owning)))
            .chain(everyone)
            .map(|(place, offset, at)| Vnode {
                token: match place {
                    0 => offset,
                    1 => u64::MAX - offset,
                    2 => 1 << 40 | offset,
                    _ => 0x5555_5555_0000_0000 | offset << 8,
                },
                owner: ShardIx(u16::try_from(at).expect("a few")),
            })
            .collect();
        spec.members.sort_by(|a, b| a.id.cmp(&b.id));
        let ring = Ring::of_vnodes(spec.clone(), Hashing::of(&spec), &points);
        assert_matches_naive(&ring, &points);
    }

    /// Invariant 3, for every replica and not only for owners: nobody gains a key but the shard
    /// that was added or gained weight, nobody loses one but the shard that left or lost weight,
    /// and only it becomes or ceases to be a key's primary.
    #[test]
    fn a_change_moves_only_what_it_must(before in specs(), change in changes()) {
        let (after, id, gains) = change.apply(&before);
        prop_assume!(after.check().is_ok());
        let (before, after) = (build(&before), build(&after));
        for token in tokens_to_try(&[&before, &after]) {
            let old = ids(&before, before.replicas(token));
            let new = ids(&after, after.replicas(token));
            let (from, to) = if gains { (&old, &new) } else { (&new, &old) };
            prop_assert!(to.iter().all(|shard| from.contains(shard) || **shard == id));
            prop_assert!(to[0] == from[0] || *to[0] == id);
        }
    }

    #[test]
    fn replicas_are_distinct_and_spread_over_zones(spec in specs()) {
        let ring = build(&spec);
        let mut zones: Vec<&Zone> = Vec::new();
        for owner in ring.members().iter().filter(|member| member.weight.get() > 0) {
            if !zones.contains(&&owner.zone) {
                zones.push(&owner.zone);
            }
        }
        for token in tokens_to_try(&[&ring]) {
            let set = ring.replicas(token);
            let distinct: std::collections::BTreeSet<_> = set.iter().collect();
            prop_assert_eq!(distinct.len(), usize::from(spec.replicas));
            prop_assert!(set.iter().all(|&shard| ring.member(shard).weight.get() > 0));
            let count = |zone: &Zone| set.iter().filter(|&&s| ring.member(s).zone == *zone).count();
            let used = zones.iter().filter(|zone| count(zone) > 0).count();
            prop_assert_eq!(used, zones.len().min(set.len()));
            // A zone with two fewer than another has no shard left to give.
            for (a, b) in zones.iter().flat_map(|a| zones.iter().map(move |b| (a, b))) {
                let owners = ring.members().iter().filter(|m| m.zone == **a && m.weight.get() > 0);
                prop_assert!(count(a) + 1 >= count(b) || count(a) == owners.count());
            }
        }
    }

    #[test]
    fn the_order_of_members_makes_no_difference(
        (shuffled, spec) in specs().prop_flat_map(|spec| {
            (Just(spec.members.clone()).prop_shuffle(), Just(spec))
        })
    ) {
        let ring = build(&spec);
        let other = build(&RingSpec { members: shuffled, ..spec });
        prop_assert_eq!(ring.digest(), other.digest());
        prop_assert!(ring.moved(&other).is_zero());
    }

    #[test]
    fn shares_and_moves_agree_with_counting_every_piece(
        before in specs(),
        change in changes(),
    ) {
        let (after, _, _) = change.apply(&before);
        prop_assume!(after.check().is_ok());
        let (before, after) = (build(&before), build(&after));
        let mut ends = vec![u64::MAX];
        for ring in [&before, &after] {
            ends.extend((0..ring.vnodes()).map(|position| ring.token_at(position)));
        }
        ends.sort_unstable();
        let (mut from, mut moved, mut primary) = (0_u128, 0_u128, 0_u128);
        for end in ends {
            let length = u128::from(end) + 1 - from;
            from += length;
            let old = ids(&before, before.replicas(Token(end)));
            let new = ids(&after, after.replicas(Token(end)));
            moved += length * new.iter().filter(|shard| !old.contains(shard)).count() as u128;
            primary += if new[0] == &after.members()[0].id { length } else { 0 };
        }
        let copies = u128::from(after.spec().replicas) << 64;
        prop_assert_eq!(before.moved(&after).thousandths(), (moved * 2000 + copies) / (copies * 2));
        let share = after.shares().shards[0].primary;
        prop_assert_eq!(share.thousandths(), (primary * 2000 + (1 << 64)) / (1 << 65));
    }
}

/// What places no key leaves the digest alone, and what does changes it: an epoch has one digest.
#[test]
fn digests_tell_of_what_decides_and_of_nothing_else() {
    let two = |zone: &str, replicas| {
        spec(16, replicas, vec![member("a", zone, 1), member("b", "z", 2), member("c", "z", 1)])
    };
    let with = |mut spec: RingSpec, member: Member| {
        spec.members.insert(0, member);
        spec
    };
    let alone = build(&two("z", 1)).digest();
    assert_eq!(build(&two("y", 1)).digest(), alone);
    assert_eq!(build(&with(two("z", 1), member("aa", "x", 0))).digest(), alone);
    assert_ne!(build(&with(two("z", 1), member("aa", "x", 1))).digest(), alone);
    assert_ne!(build(&two("y", 2)).digest(), build(&two("z", 2)).digest());
}

#[test]
fn weight_only_adds_tokens() {
    let hashing = Keys::new("seed");
    let id = ShardId::new("s1").expect("a plain name");
    let few: Vec<u64> = hashing.tokens_of(&id, 256).collect();
    let many: Vec<u64> = hashing.tokens_of(&id, 1024).collect();
    assert_eq!(few, many[..256]);
}

/// At 256 virtual nodes a unit, a share strays from its weight by about 1/16; five times that
/// would be chance once in two million.
#[test]
fn shares_follow_weights() {
    let members = (0..40).map(|n| member(&format!("s{n}"), &format!("z{}", n % 5), 1 + n % 4));
    let shares = build(&spec(256, 1, members.collect())).shares();
    for share in &shares.shards {
        let (primary, fair) = (share.primary.as_f64(), share.fair.as_f64());
        assert!((primary / fair - 1.0).abs() < 5.0 / 16.0, "{primary} for {fair}");
    }
    let total: f64 = shares.shards.iter().map(|share| share.held.as_f64()).sum();
    assert!((total - 1.0).abs() < 1e-9);
    assert!((1000..1300).contains(&shares.peak_to_mean.thousandths()));
}

/// One shard of weight 1 alone in its zone beside heavy ones: a walk from every virtual node
/// would take minutes here.
#[test]
fn a_light_zone_does_not_make_the_build_slow() {
    let mut members: Vec<Member> = (0..60).map(|n| member(&format!("s{n}"), "big", 256)).collect();
    members.push(member("light", "small", 1));
    for replicas in [2, 3] {
        let ring = build(&spec(16, replicas, members.clone()));
        let light = ring.find(&members[60].id).expect("a member");
        assert!(ring.replicas(Token(0)).contains(&light));
    }
}

#[test]
fn what_cannot_be_a_ring_is_refused() {
    let refusal = |vnodes, replicas, members| Ring::build(&spec(vnodes, replicas, members)).err();
    let two = || vec![member("a", "z", 1), member("b", "z", 1)];
    assert_eq!(refusal(256, 1, vec![]), Some(RingError::Empty));
    assert_eq!(refusal(256, 1, vec![member("a", "z", 0)]), Some(RingError::Empty));
    let few = RingError::TooFewShards { replicas: 3, shards: 2 };
    assert_eq!(refusal(256, 3, [two(), vec![member("c", "z", 0)]].concat()), Some(few));
    assert_eq!(refusal(256, 0, two()), Some(RingError::ReplicasOutOfRange(0)));
    assert_eq!(refusal(256, 17, two()), Some(RingError::ReplicasOutOfRange(17)));
    assert_eq!(refusal(0, 1, two()), Some(RingError::NoVnodes));
    let twice = RingError::Duplicate(ShardId::new("a").expect("a plain name"));
    assert_eq!(refusal(256, 1, [two(), two()].concat()), Some(twice));
    let heavy = vec![member("a", "z", 256); 1];
    assert_eq!(refusal(u16::MAX, 1, heavy), Some(RingError::TooManyTokens(65_535 * 256)));
    let crowd: Vec<Member> = (0..=MEMBERS_MAX).map(|n| member(&format!("s{n}"), "z", 0)).collect();
    assert_eq!(refusal(1, 1, crowd), Some(RingError::TooManyMembers(65_536)));
}

/// A ring of one virtual node has one bucket bit, and the largest has the most that there are.
#[test]
fn the_smallest_and_the_largest_ring_answer() {
    let one = build(&spec(1, 1, vec![member("a", "z", 1)]));
    assert_eq!(one.replicas(Token(0)), one.replicas(Token(u64::MAX)));
    assert_eq!(one.shares().shards[0].primary.to_string(), "100.00 %");
    let members = (0..64).map(|n| member(&format!("s{n}"), "z", 256)).collect();
    let most = build(&spec(256, 1, members));
    assert_eq!(most.vnodes() as u64, TOKENS_MAX);
    assert_eq!(most.order(Token(u64::MAX)).count(), 64);
}

#[test]
fn ratios_print_as_percentages() {
    let ring = build(&spec(256, 1, vec![member("a", "z", 1), member("b", "z", 0)]));
    let shares = ring.shares();
    assert_eq!(shares.shards[0].held.to_string(), "100.00 %");
    assert_eq!(shares.shards[1].held.to_string(), "0.00 %");
    assert_eq!(shares.peak_to_mean.thousandths(), 1000);
    assert_eq!(Ratio::ZERO.to_string(), "0.00 %");
    let light = build(&spec(1, 1, vec![member("a", "z", 256), member("b", "z", 1)])).shares();
    assert_eq!(light.shards[1].fair.to_string(), "0.39 %");
}

mod vectors {
    use serde::{Deserialize, Serialize};

    use super::{Member, Ring, RingSpec, member};

    /// One frozen ring.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Vector {
        hash_seed: String,
        vnodes: u16,
        replicas: u8,
        /// Id, zone, weight.
        members: Vec<(String, String, u64)>,
        digest: String,
        keys: Vec<Frozen>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Frozen {
        key: String,
        token: String,
        vnode: String,
        number: usize,
        /// The replica set, then the two shards after it.
        shards: Vec<String>,
    }

    fn vector(vector: &Vector) -> Vector {
        let members: Vec<Member> =
            vector.members.iter().map(|(id, zone, units)| member(id, zone, *units)).collect();
        let Vector { vnodes, replicas, .. } = *vector;
        let hash_seed = vector.hash_seed.clone();
        let spec =
            RingSpec { hash_seed: hash_seed.clone(), vnodes, replicas, members, ketama: None };
        let ring = Ring::build(&spec).expect("a good spec");
        let keys = vector.keys.iter().map(|frozen| {
            let explanation = ring.explain(frozen.key.as_bytes(), 2);
            let shards = ring.order(explanation.token).take(usize::from(replicas) + 2);
            Frozen {
                key: frozen.key.clone(),
                token: explanation.token.to_string(),
                vnode: explanation.vnode.token.to_string(),
                number: explanation.vnode.number,
                shards: shards.map(|shard| ring.member(shard).id.to_string()).collect(),
            }
        });
        Vector {
            hash_seed,
            vnodes,
            replicas,
            members: vector.members.clone(),
            digest: ring.digest().to_string(),
            keys: keys.collect(),
        }
    }

    /// Nothing here may ever change: a moved token is moved data. A new version of the ring gets
    /// vectors of its own.
    #[test]
    fn every_release_places_keys_as_the_first_did() {
        let text = include_str!("../../tests/vectors/ring.json");
        let frozen: Vec<Vector> = serde_json::from_str(text).expect("the vectors are JSON");
        let found: Vec<Vector> = frozen.iter().map(vector).collect();
        assert!(frozen.len() == 5 && frozen.iter().all(|vector| vector.keys.len() == 10));
        assert!(
            frozen == found,
            "the ring moved; it would be:\n{}",
            serde_json::to_string_pretty(&found).expect("vectors are plain")
        );
    }
}
