//! What holds of leases for any history, and the machines against naive twins.
//!
//! The rules one by one are told in `tests/scripts/lease/`; that they suffice together is tried in
//! `tests/sim/`.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::ids::{Digest, Epoch, Incarnation, NodeId, PoolName, Term};

fn pool(name: &str) -> PoolName {
    PoolName::new(name).expect("a plain name")
}

fn at_epoch(epoch: u64) -> BTreeMap<PoolName, Epoch> {
    BTreeMap::from([(pool("p"), Epoch(epoch))])
}

/// Small numbers, so that they meet; and the greatest, so that nothing overflows.
fn any_ms() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..40_000_u64, 1 => Just(u64::MAX), 1 => any::<u64>()]
}

/// Something happens to a holder; times are waits.
#[derive(Debug, Clone)]
enum Happens {
    Wait(u64),
    Renew,
    Granted { incarnation: u64, number: u64, duration_ms: u64 },
    BelowFloor(u64),
    Superseded(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0..3_000_u64).prop_map(Happens::Wait),
        1 => any_ms().prop_map(Happens::Wait),
        6 => Just(Happens::Renew),
        6 => (1..3_u64, 0..80_u64, any_ms()).prop_map(|(incarnation, number, duration_ms)| {
            Happens::Granted { incarnation, number, duration_ms }
        }),
        1 => (0..4_u64).prop_map(Happens::BelowFloor),
        1 => (1..4_u64).prop_map(Happens::Superseded),
    ]
}

proptest! {
    /// Rule 2, whatever is lost, doubled or late: the lease ends no later than some renewal's
    /// sending plus what was granted to that very renewal.
    #[test]
    fn a_lease_ends_where_one_of_its_grants_says(
        history in prop::collection::vec(happens(), 0..60),
    ) {
        let own = Incarnation(2);
        let mut holder = LeaseHolder::new(LeaseSettings::default(), NodeId(1), own);
        let mut now_ms = 0_u64;
        let mut sent: BTreeMap<u64, u64> = BTreeMap::new();
        let mut latest_ms = 0_u64;
        let mut floor = Epoch(0);
        for happens in history {
            match happens {
                Happens::Wait(ms) => now_ms = now_ms.saturating_add(ms),
                Happens::Renew => {
                    let renewal = holder.renew(now_ms, 0, at_epoch(1), BTreeMap::new());
                    prop_assert!(sent.insert(renewal.number, now_ms).is_none());
                }
                Happens::Granted { incarnation, number, duration_ms } => {
                    let incarnation = Incarnation(incarnation);
                    let before = holder.until_ms();
                    let floors = BTreeMap::new();
                    let grant = Grant { incarnation, number, duration_ms, floors, term: Term(1) };
                    let is_longer = holder.granted(now_ms, &grant);
                    prop_assert!(holder.until_ms() >= before);
                    prop_assert_eq!(is_longer, holder.until_ms() != before);
                    if is_longer {
                        prop_assert_eq!(incarnation, own);
                        prop_assert!(!holder.granted(now_ms, &grant), "a copy adds nothing");
                    }
                    if let Some(sent_ms) = sent.get(&number).filter(|_| incarnation == own) {
                        latest_ms = latest_ms.max(sent_ms.saturating_add(duration_ms));
                    }
                }
                Happens::BelowFloor(epoch) => {
                    floor = floor.max(Epoch(epoch));
                    let (pool, floor) = (pool("p"), Epoch(epoch));
                    let denial = Denial::BelowFloor { pool, reported: Epoch(0), floor };
                    holder.denied(now_ms, &denial);
                }
                Happens::Superseded(current) => {
                    let left_ms = holder.remaining_ms(now_ms);
                    holder.denied(now_ms, &Denial::Superseded { current: Incarnation(current) });
                    let is_over = Incarnation(current) > own;
                    prop_assert_eq!(holder.remaining_ms(now_ms), if is_over { 0 } else { left_ms });
                }
            }
            prop_assert!(holder.until_ms().unwrap_or(0) <= latest_ms);
            let may = holder.check(now_ms, &pool("p"), Epoch(2)).is_ok();
            prop_assert_eq!(may, holder.remaining_ms(now_ms) > 0 && floor <= Epoch(2));
            prop_assert!(!may || holder.reads_at_one(now_ms));
        }
    }
}

#[derive(Debug, Clone)]
enum PinStep {
    Wait(u64),
    Apply,
    Pin {
        back: u64,
    },
    /// Releases the n-th pin that is out.
    Release(usize),
    Report,
}

fn pin_step() -> impl Strategy<Value = PinStep> {
    prop_oneof![
        3 => (0..2_500_u64).prop_map(PinStep::Wait),
        1 => Just(PinStep::Apply),
        4 => (0..2_u64).prop_map(|back| PinStep::Pin { back }),
        3 => (0..4_usize).prop_map(PinStep::Release),
        4 => Just(PinStep::Report),
    ]
}

proptest! {
    /// Rule 6, against a list of all operations.
    #[test]
    fn a_report_is_below_whatever_may_still_succeed(
        history in prop::collection::vec(pin_step(), 0..80),
    ) {
        let mut pins = Pins::new(5_000);
        let (mut now_ms, mut applied, mut pinned_ms) = (0_u64, 5_u64, 0_u64);
        let mut running: Vec<Pin> = Vec::new();
        let mut reported = Epoch(0);
        for step in history {
            match step {
                PinStep::Wait(ms) => now_ms += ms,
                PinStep::Apply => applied += 1,
                PinStep::Pin { back } => match pins.pin(now_ms, &pool("p"), Epoch(applied - back)) {
                    Ok(pin) => {
                        prop_assert!(pin.epoch() >= reported);
                        running.push(pin);
                        pinned_ms = now_ms;
                    }
                    Err(stale) => prop_assert!(stale.epoch < reported),
                },
                PinStep::Release(at) => {
                    if at < running.len() {
                        pins.release(running.remove(at));
                    }
                }
                PinStep::Report => {
                    let live = running.iter().filter(|pin| pin.is_live(now_ms));
                    let oldest = live.map(Pin::epoch).min().unwrap_or(Epoch(applied));
                    let report = pins.report(now_ms, &at_epoch(applied))[&pool("p")];
                    prop_assert!(report <= oldest.min(Epoch(applied)));
                    // Operations of one epoch are counted together: one that is over counts as long
                    // as the youngest of its epoch might live, and no longer.
                    if running.is_empty() || now_ms >= pinned_ms + 5_000 {
                        prop_assert_eq!(report, Epoch(applied));
                    }
                    prop_assert!(report >= reported);
                    reported = report;
                }
            }
        }
    }

    /// Numbers come from other machines: none of them may stop this one.
    #[test]
    fn a_book_is_total(
        steps in prop::collection::vec(
            (any_ms(), 0..4_u64, 0..3_u64, 0..4_u64, any_ms(), any_ms(), 0..9_u8), 0..60
        ),
    ) {
        let settings = LeaseSettings::default();
        let mut book = LeaseBook::new(settings);
        let mut term = Term(0);
        for (now_ms, node, incarnation, epoch, wall_ms, sent_ms, what) in steps {
            let node = NodeId(node);
            match what {
                0 => {
                    term = term.next();
                    book.elected(term, now_ms);
                }
                1 => book.first_entry_applied(term),
                2 => book.quorum_confirmed(term, sent_ms),
                3 => book.members(now_ms, &BTreeMap::from([(node, Incarnation(incarnation))])),
                4 => {
                    let digest = Digest([7; 32]);
                    let agreed = AgreedPool { epoch: Epoch(epoch), digest: Some(digest), barrier: Epoch(1) };
                    book.agreed(BTreeMap::from([(pool("p"), agreed)]));
                }
                5 => {
                    let may = book.unsettled(now_ms, &pool("p"), Epoch(epoch)).is_ok();
                    let advanced = book.advance(now_ms, &pool("p"), Epoch(epoch));
                    prop_assert_eq!(advanced.is_ok(), may);
                }
                6 => {
                    prop_assert!(book.holders(now_ms).len() <= book.standing(now_ms).len());
                }
                _ => {
                    let incarnation = Incarnation(incarnation);
                    let (epochs, rings) = (at_epoch(epoch), BTreeMap::new());
                    let renewal =
                        Renewal { node, incarnation, number: 1, epochs, rings, wall_ms };
                    if let Ok(grant) = book.renewal(now_ms, &renewal) {
                        prop_assert!((1..=settings.lease_ms).contains(&grant.duration_ms));
                        prop_assert!(grant.floors.values().all(|floor| *floor <= Epoch(epoch)));
                        prop_assert!(book.holders(now_ms).contains(&node) || now_ms == u64::MAX);
                    }
                }
            }
        }
    }
}

#[test]
fn a_pin_that_was_forgotten_releases_no_other() {
    let mut pins = Pins::new(5_000);
    let forgotten = pins.pin(0, &pool("p"), Epoch(1)).expect("nothing was reported");
    assert_eq!(pins.report(5_000, &at_epoch(1)), at_epoch(1));
    let young = pins.pin(5_000, &pool("p"), Epoch(1)).expect("still the present epoch");
    pins.release(forgotten);
    assert_eq!(pins.report(5_001, &at_epoch(2)), at_epoch(1));
    pins.release(young);
    assert_eq!(pins.report(5_002, &at_epoch(2)), at_epoch(2));
    // An operation that had read the topology before the report comes too late.
    let stale = pins.pin(5_003, &pool("p"), Epoch(1)).expect_err("2 was reported");
    assert_eq!(stale, StalePin { epoch: Epoch(1), reported: Epoch(2) });
}

#[test]
fn a_node_with_another_ring_gets_no_lease_and_loses_the_one_it_has() {
    let mut book = LeaseBook::new(LeaseSettings::default());
    let mut holder = LeaseHolder::new(LeaseSettings::default(), NodeId(1), Incarnation(1));
    book.elected(Term(1), 1_000);
    book.members(1_000, &BTreeMap::from([(NodeId(1), Incarnation(1))]));
    let agreed =
        AgreedPool { epoch: Epoch(1), digest: Some(Digest([1; 32])), barrier: Epoch::default() };
    book.agreed(BTreeMap::from([(pool("p"), agreed)]));
    book.first_entry_applied(Term(1));
    book.quorum_confirmed(Term(1), 1_000);
    let mut renew = |epoch: u64, digest: u8| {
        let ring = RingReport { epoch: Epoch(epoch), digest: Digest([digest; 32]) };
        let rings = BTreeMap::from([(pool("p"), ring)]);
        let renewal = holder.renew(1_000, 0, at_epoch(epoch), rings);
        match book.renewal(1_000, &renewal) {
            Ok(grant) => assert!(holder.granted(1_000, &grant) || digest == 2),
            Err(denial) => holder.denied(1_000, &denial),
        }
        holder.remaining_ms(1_000)
    };
    assert_eq!(renew(1, 1), 10_000);
    // The leader has not applied epoch 2 yet, and cannot compare.
    assert_eq!(renew(2, 2), 10_000);
    assert_eq!(renew(1, 3), 0);
}

#[test]
fn the_margin_covers_clocks_that_differ_by_a_tenth() {
    // A holder 5 % slow, a granter 5 % fast, in thousandths of a true millisecond.
    for lease_ms in [1_000, 3_000, 10_000, 18_000] {
        let held = lease_ms * 1_000_000 / 950;
        let waited = LeaseSettings::with_margin(lease_ms) * 1_000_000 / 1_050;
        assert!(held <= waited, "{lease_ms} ms: held {held}, waited {waited}");
    }
    assert_eq!(LeaseSettings::with_margin(u64::MAX), u64::MAX);
}

/// Nodes of two releases speak with each other: this is how.
#[test]
fn messages_are_written_as_they_were() {
    let ring = RingReport { epoch: Epoch(7), digest: Digest([0xab; 32]) };
    let renewal = Renewal {
        node: NodeId(2),
        incarnation: Incarnation(3),
        number: 4,
        epochs: at_epoch(6),
        rings: BTreeMap::from([(pool("p"), ring)]),
        wall_ms: 1_795_000_000_000,
    };
    let grant = Grant {
        incarnation: Incarnation(3),
        number: 4,
        duration_ms: 9_990,
        floors: at_epoch(5),
        term: Term(8),
    };
    let digits = "ab".repeat(32);
    let renewal_text = format!(
        r#"{{"node":2,"incarnation":3,"number":4,"epochs":{{"p":6}},"rings":{{"p":{{"epoch":7,"digest":"{digits}"}}}},"wall_ms":1795000000000}}"#
    );
    let grant_text = r#"{"incarnation":3,"number":4,"duration_ms":9990,"floors":{"p":5},"term":8}"#;
    assert_eq!(serde_json::to_string(&renewal).expect("JSON"), renewal_text);
    assert_eq!(serde_json::to_string(&grant).expect("JSON"), grant_text);
    assert_eq!(serde_json::from_str::<Renewal>(&renewal_text).expect("JSON"), renewal);
    assert_eq!(serde_json::from_str::<Grant>(grant_text).expect("JSON"), grant);
    for (bad, why) in
        [("ab", "short"), (&*"äb".repeat(22), "no digits"), (&"g".repeat(64), "no digits")]
    {
        let text = renewal_text.replace(&digits, bad);
        assert!(serde_json::from_str::<Renewal>(&text).is_err(), "{why}");
    }
    for (denial, text) in [
        (Denial::NotLeader, r#""not_leader""#),
        (Denial::NotReady, r#""not_ready""#),
        (Denial::NoQuorum, r#""no_quorum""#),
        (Denial::Unknown, r#""unknown""#),
        (Denial::Superseded { current: Incarnation(9) }, r#"{"superseded":{"current":9}}"#),
        (
            Denial::BelowFloor { pool: pool("p"), reported: Epoch(1), floor: Epoch(2) },
            r#"{"below_floor":{"pool":"p","reported":1,"floor":2}}"#,
        ),
        (
            Denial::DigestMismatch { pool: pool("p"), epoch: Epoch(1) },
            r#"{"digest_mismatch":{"pool":"p","epoch":1}}"#,
        ),
        (Denial::ClockSkew { off_by_ms: -600 }, r#"{"clock_skew":{"off_by_ms":-600}}"#),
    ] {
        assert_eq!(serde_json::to_string(&denial).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<Denial>(text).expect("JSON"), denial);
    }
}
