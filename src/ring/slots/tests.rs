//! Tables against what must hold of every slot, the goals at a size that a debug build bears, and
//! pinned digests.

use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::Config as ProptestConfig;

use super::{BALANCED_SHARDS_MAX, DeltaError, PlanError, SLOTS, SlotTable, plan, slot_of};
use crate::ids::{ShardId, Token, Weight, Zone};
use crate::ring::{Member, Ring, RingError, RingSpec};

mod histories;
mod history;
mod oracle;

fn member(id: usize, zone: usize, units: u64) -> Member {
    Member {
        id: ShardId::new(&format!("s{id}")).expect("a name"),
        zone: Zone::new(&format!("z{zone}")).expect("a name"),
        weight: Weight::try_from(units).expect("in range"),
    }
}

fn spec(replicas: u8, members: Vec<Member>) -> RingSpec {
    RingSpec { hash_seed: "seed".to_owned(), vnodes: 16, replicas, members, ketama: None }
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    prop::collection::vec((0_usize..4, 0_u64..5), 3..12)
        .prop_map(|all| (0..).zip(all).map(|(id, (zone, units))| member(id, zone, units)).collect())
}

/// What must hold of every table, found by looking at each slot.
fn judge(table: &SlotTable, spec: &RingSpec) {
    let zone_of = |id: &ShardId| {
        let found = spec.members.iter().find(|member| member.id == *id).expect("a member");
        assert!(found.weight.get() > 0, "{id} owns nothing");
        &found.zone
    };
    let mut zones: Vec<&Zone> =
        spec.members.iter().filter(|m| m.weight.get() > 0).map(|m| &m.zone).collect();
    zones.sort_unstable();
    zones.dedup();
    for slot in 0..SLOTS {
        let keepers: Vec<&ShardId> = table.keepers(slot).collect();
        assert_eq!(keepers.len(), usize::from(spec.replicas));
        let mut distinct = keepers.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), keepers.len(), "slot {slot}: {keepers:?}");
        let mut there: Vec<&Zone> = keepers.iter().map(|id| zone_of(id)).collect();
        there.sort_unstable();
        there.dedup();
        let can = zones.len().min(keepers.len());
        assert_eq!(there.len(), can, "slot {slot}: {keepers:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn tables_meet_their_quotas_after_any_change(
        replicas in 1_u8..4,
        (first, shuffled) in members().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        second in members(),
    ) {
        let (before, after) = (spec(replicas, first), spec(replicas, second));
        let Ok(table) = plan(None, &before) else { return Ok(()) };
        judge(&table, &before);
        let stats = table.stats(&before).expect("it has a table");
        prop_assert_eq!(stats.off_quota, 0);
        // Neither the order of members nor a second time makes a difference.
        let other = plan(None, &spec(replicas, shuffled)).expect("as before");
        prop_assert_eq!(other.digest(), table.digest());
        let again = plan(Some(&table), &before).expect("as before");
        prop_assert_eq!(&again, &table);
        let delta = table.delta_from(None, &before).expect("it has a table");
        let found = SlotTable::apply_delta(None, &before, &delta).expect("our own");
        prop_assert_eq!(&found, &table);

        let Ok(next) = plan(Some(&table), &after) else { return Ok(()) };
        judge(&next, &after);
        prop_assert_eq!(next.stats(&after).expect("it has a table").off_quota, 0);
        let delta = next.delta_from(Some(&table), &after).expect("it has a table");
        let found = SlotTable::apply_delta(Some(&table), &after, &delta).expect("our own");
        prop_assert_eq!(found.digest(), next.digest());
        // Cut off, or of another table, it leads nowhere else unseen.
        for end in [0, delta.len() / 2, delta.len().saturating_sub(1)] {
            let cut = SlotTable::apply_delta(Some(&table), &after, &delta[..end]);
            prop_assert!(end == delta.len() || cut.is_err_or_other(&next));
        }
    }

    #[test]
    fn any_bytes_are_a_table_or_an_error(bytes in prop::collection::vec(0_u8.., 0..64)) {
        let spec = spec(3, (0..6).map(|id| member(id, 0, 1)).collect());
        if let Ok(table) = SlotTable::apply_delta(None, &spec, &bytes) {
            // One encoding of each difference.
            prop_assert_eq!(table.delta_from(None, &spec).expect("it has a table"), bytes);
        }
    }
}

trait OrOther {
    fn is_err_or_other(&self, table: &SlotTable) -> bool;
}

impl OrOther for Result<SlotTable, DeltaError> {
    fn is_err_or_other(&self, table: &SlotTable) -> bool {
        self.as_ref().map_or(true, |found| found.digest() != table.digest())
    }
}

/// Copies that a change must move at least: what each shard has to have more.
fn least(before: &SlotTable, after: &SlotTable, spec: &RingSpec) -> u64 {
    let held = |id: &ShardId| {
        (0..SLOTS).flat_map(|slot| before.keepers(slot)).filter(|keeper| *keeper == id).count()
    };
    let stats = after.stats(spec).expect("it has a table");
    let grown =
        |(id, _, quota): &(ShardId, u32, u32)| u64::from(*quota).saturating_sub(held(id) as u64);
    stats.copies.iter().map(grown).sum()
}

/// The goals at a size that a debug build bears: shares to a thousandth, and no copy too many.
#[test]
fn a_shard_that_comes_or_goes_moves_no_more_than_it_must() {
    let all: Vec<Member> = (0..20).map(|id| member(id, id % 5, 1 + id as u64 % 3)).collect();
    let whole = spec(3, all.clone());
    let table = plan(None, &whole).expect("a table");
    let stats = table.stats(&whole).expect("it has a table");
    assert!(stats.peak.thousandths() <= 1001 && stats.least.thousandths() >= 999, "{stats:?}");
    assert!(stats.primary_peak.thousandths() <= 1010, "{stats:?}");
    assert_eq!((stats.crowded_slots, stats.zones_short), (0, false));

    let more = spec(3, [all.clone(), vec![member(20, 0, 2)]].concat());
    let added = plan(Some(&table), &more).expect("a table");
    assert_eq!(added.moved_from(&table).0, least(&table, &added, &more));
    let newcomer = &more.members[20].id;
    for slot in 0..SLOTS {
        let mut came = added.keepers(slot).filter(|id| !table.keepers(slot).any(|was| was == *id));
        assert!(came.all(|id| id == newcomer), "a bystander moved in slot {slot}");
    }

    let fewer = spec(3, all[1..].to_vec());
    let removed = plan(Some(&table), &fewer).expect("a table");
    let (moved, least) = (removed.moved_from(&table).0, least(&table, &removed, &fewer));
    assert!(moved * 100 <= least * 101, "{moved} of {least}");
}

#[test]
fn fewer_zones_than_replicas_are_filled_evenly() {
    let members = (0..9).map(|id| member(id, usize::from(id > 5), 1)).collect();
    let spec = spec(3, members);
    let table = plan(None, &spec).expect("a table");
    judge(&table, &spec);
    assert!(table.stats(&spec).expect("it has a table").zones_short);
}

#[test]
fn shards_may_be_too_light_for_a_slot_or_own_nothing() {
    let mut all: Vec<Member> = (0..1100).map(|id| member(id, id % 5, 256)).collect();
    all.push(member(1100, 0, 1));
    all.push(member(1101, 1, 0));
    let spec = RingSpec { vnodes: 1, ..spec(1, all) };
    let table = plan(None, &spec).expect("a table");
    let stats = table.stats(&spec).expect("it has a table");
    assert_eq!(stats.too_light, [spec.members[1100].id.clone()]);
    assert_eq!(table.shards().len(), 1101);
}

#[test]
fn what_has_no_table_is_refused() {
    let one = vec![member(0, 0, 1)];
    let few = PlanError::Ring(RingError::TooFewShards { replicas: 3, shards: 1 });
    assert_eq!(plan(None, &spec(3, one)).err(), Some(few));
    assert_eq!(plan(None, &spec(3, vec![])).err(), Some(PlanError::Ring(RingError::Empty)));
    let crowd = (0..=BALANCED_SHARDS_MAX).map(|id| member(id, 0, 1)).collect();
    let spec = RingSpec { vnodes: 1, ..spec(3, crowd) };
    assert_eq!(plan(None, &spec).err(), Some(PlanError::TooManyShards(BALANCED_SHARDS_MAX + 1)));
}

/// Requests see the table by the places of a ring in which shards stand that own nothing.
#[test]
fn requests_find_what_the_table_says() {
    let mut all: Vec<Member> = (0..5).map(|id| member(id, id, 1)).collect();
    all.insert(0, member(10, 0, 0));
    let spec = spec(3, all);
    let ring = Ring::build(&spec).expect("a ring");
    let table = plan(None, &spec).expect("a table");
    let sets = table.sets_for(&ring);
    let step = u64::MAX / 9_973;
    for token in (0..9_973).map(|n| Token(n * step)).chain([Token(0), Token(u64::MAX)]) {
        let found: Vec<&ShardId> =
            sets.replicas(token).iter().map(|shard| &ring.member(*shard).id).collect();
        let expected: Vec<&ShardId> = table.keepers(slot_of(token)).collect();
        assert_eq!(found, expected);
    }
    let placed = table.explain(Token(7), &spec).expect("it has a table");
    assert_eq!(placed.slot, 0);
    assert!(placed.keepers.iter().map(|k| &k.shard).eq(table.keepers(0)));
}

/// Every machine plans the same. A planner that plans otherwise gets vectors of its own, and the log
/// bears it: deltas are applied and not plans, so tables that were agreed stay what they are.
#[test]
fn every_machine_plans_the_same() {
    let plain = spec(3, (0..12).map(|id| member(id, id % 4, 1 + id as u64 % 4)).collect());
    let table = plan(None, &plain).expect("a table");
    let more = spec(3, [plain.members.clone(), vec![member(12, 1, 3)]].concat());
    let added = plan(Some(&table), &more).expect("a table");
    let fewer = spec(3, more.members[2..].to_vec());
    let removed = plan(Some(&added), &fewer).expect("a table");
    let short = spec(5, (0..8).map(|id| member(id, id % 2, 1)).collect());
    let few_zones = plan(None, &short).expect("a table");
    let digests = [&table, &added, &removed, &few_zones].map(|table| table.digest().to_string());
    assert_eq!(digests, PINNED);
}

const PINNED: [&str; 4] = [
    "7cc8de149a39e4305647e9a59186cd785795d6d4b4d29c9e99407606f9ae60ba",
    "0936b8fd797c089622acc3c7d18f1e6262ce50330f60471bd1635545b534053b",
    "608dd1973dd098b310762aa1cad71bba09cc1401e363780c9b8099665bcb3dac",
    "fea8ba4e88f6d97cde1ef13a0afcc3a8919f08bbfff4f28773da6b2ad53fe48c",
];
