//! Who is spared, and who is not: the rules alone, and as `choose` follows them.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use super::super::choose::{Asked, Chosen, choose};
use super::super::view::{PoolSettings, View};
use super::*;
use crate::cluster::{
    AdminState, ClusterState, Command, Kind, Mode, Placement, PoolSpec, ShardSpec, Topology,
};
use crate::ids::{BaseUrl, PoolName, ShardId, Weight, Zone};
use crate::metrics::Stripe;
use crate::protocol::health::ProbeFailure;

proptest! {
    /// What bounded loads rest on: as long as less than all is placed, somebody may take more.
    #[test]
    fn somebody_is_always_below_the_bound(
        percent in 101_u64..400,
        shards in prop::collection::vec((1_u64..257, 0_u64..50), 1..12),
    ) {
        let weights: u64 = shards.iter().map(|(weight, _)| weight).sum();
        // All that is placed, and the one that is not.
        let total = shards.iter().map(|(_, placed)| placed).sum::<u64>() + 1;
        let below = |(weight, placed): &(u64, u64)| *placed < bound(percent, total, *weight, weights);
        prop_assert!(shards.iter().any(below));
    }

    #[test]
    fn the_bound_is_the_papers(
        percent in 101_u64..10_001, total in 1_u64..1_000_000, weight in 1_u64..257, more in 0_u64..100_000,
    ) {
        let weights = weight + more;
        let found = u128::from(bound(percent, total, weight, weights));
        let exact = u128::from(percent) * u128::from(total) * u128::from(weight);
        let unit = 100 * u128::from(weights);
        // The least whole number that is not below the exact one.
        prop_assert!(found * unit >= exact);
        prop_assert!((found - 1) * unit < exact);
        prop_assert_eq!(found > 0, true);
    }
}

#[test]
fn keys_are_drawn_evenly_and_for_each_shard_anew() {
    let tokens = (0..100_000_u64).map(|n| Token(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let (mut one, mut both) = (0, 0);
    for token in tokens {
        one += u32::from(draw(token, 3) < 250);
        both += u32::from(draw(token, 3) < 250 && draw(token, 4) < 250);
    }
    assert!((24_000..26_000).contains(&one), "{one}");
    assert!((5_500..7_000).contains(&both), "{both}");
}

const SHARDS: usize = 5;

/// Who asks in these tests.
const WORKER: Stripe = Stripe::of_worker(0);

fn pool_name() -> PoolName {
    PoolName::new("p").expect("a name")
}

fn view(
    immutable: bool,
    mode: Mode,
    state: AdminState,
    before: Option<&View>,
    settings: &PoolSettings,
) -> View {
    let shard = |number: usize| {
        let spec = ShardSpec {
            url: BaseUrl::parse(&format!("http://s{number}")).expect("a URL"),
            zone: Zone::default(),
            weight: Weight::ONE,
            state: if number == 0 { state } else { AdminState::Ready },
            ketama_name: None,
        };
        (ShardId::new(&format!("s{number}")).expect("a name"), spec)
    };
    let spec = PoolSpec {
        kind: Kind::Cache,
        placement: Placement::Ring,
        hash_seed: "seed".to_owned(),
        vnodes: 64,
        immutable,
        mode,
        kept: None,
    };
    let shards = (0..SHARDS).map(shard).collect();
    let mut agreed = ClusterState::default();
    agreed.apply_command(&Command::CreatePool { pool: pool_name(), spec, shards }).expect("a pool");
    let topology = Arc::new(Topology::build(&agreed, None).expect("a topology"));
    View::build(topology, before, 1, |_| Arc::new(settings.clone()))
}

fn ask(view: &View, token: Token, class: Class, now_ms: u64) -> Chosen {
    let panic = view.pools[0].health.in_panic(class);
    choose(&view.pools[0], Asked { token, class, panic, now_ms }, &[]).expect("a shard")
}

/// The places along the ring, from the owner on.
fn order(view: &View, token: Token) -> Vec<usize> {
    view.pools[0].agreed.ring.order(token).map(|shard| usize::from(shard.0)).collect()
}

/// Tokens that `s0` owns.
fn owned(view: &View) -> impl Iterator<Item = Token> {
    let tokens = (0..4000_u64).map(|n| Token(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    tokens.filter(|token| order(view, *token)[0] == 0)
}

/// All requests are for keys of one shard: without a bound it has all of them, with one no shard has
/// more than its bound, and each goes no further than it must.
#[test]
fn a_hot_shard_passes_on_what_is_above_its_bound() {
    for (factor, most) in [(None, 40), (Some(125), 10), (Some(200), 16)] {
        let settings = PoolSettings { hash_balance_factor: factor, ..PoolSettings::default() };
        let view = view(false, Mode::Any, AdminState::Ready, None, &settings);
        let pool = &view.pools[0];
        let token = owned(&view).next().expect("a key");
        let order = order(&view, token);
        let (mut places, mut in_flight) = (Vec::new(), Vec::new());
        for number in 1..=40_u64 {
            in_flight.push(pool.budget.request(WORKER));
            let chosen = ask(&view, token, Class::Read, 0);
            let bound = |_: usize| factor.map_or(u64::MAX, |f| bound(u64::from(f), number, 1, 5));
            let below = |shard: &&usize| (pool.shards[**shard].in_flight() as u64) < bound(**shard);
            assert_eq!(Some(chosen.shard), order.iter().find(below).copied(), "{number}");
            assert_eq!(chosen.spilled, chosen.shard != order[0]);
            assert_eq!(chosen.spared.is_some(), chosen.spilled);
            places.push(pool.shards[chosen.shard].places.try_take(WORKER).expect("a place"));
        }
        let loads: Vec<usize> = pool.shards.iter().map(|shard| shard.in_flight()).collect();
        assert_eq!(loads.iter().copied().max(), Some(most), "{loads:?}");
        // A write that may be nowhere else stays, whatever its owner bears.
        let put = ask(&view, token, Class::Write, 0);
        assert_eq!((put.shard, put.spared), (order[0], None));
    }
}

#[test]
fn only_what_may_go_elsewhere_is_passed_on() {
    let settings = PoolSettings { hash_balance_factor: Some(125), ..PoolSettings::default() };
    for (immutable, mode, class, moves) in [
        (false, Mode::Any, Class::Read, true),
        (false, Mode::Any, Class::Write, false),
        (true, Mode::Any, Class::Read, true),
        (true, Mode::Any, Class::Write, false),
        (true, Mode::Primary, Class::Read, false),
        (true, Mode::Primary, Class::Write, false),
    ] {
        let view = view(immutable, mode, AdminState::Ready, None, &settings);
        let pool = &view.pools[0];
        let token = owned(&view).next().expect("a key");
        let _one = pool.budget.request(WORKER);
        let _other = pool.budget.request(WORKER);
        let _place = pool.shards[0].places.try_take(WORKER).expect("a place");
        let chosen = ask(&view, token, class, 0);
        assert_eq!(chosen.shard != 0, moves, "{immutable} {mode:?} {class:?}");
    }
}

/// Bounds are shares of what serves: two of five shards bear all, and none is refused.
#[test]
fn shards_that_are_away_have_no_share() {
    let mut settings = PoolSettings { hash_balance_factor: Some(150), ..PoolSettings::default() };
    settings.health.panic_percent = 100;
    let view = view(false, Mode::Any, AdminState::Ready, None, &settings);
    let pool = &view.pools[0];
    let token = owned(&view).next().expect("a key");
    for shard in 2..SHARDS {
        for _ in 0..3 {
            pool.health.probe_result(1, shard, Err(ProbeFailure::Connect));
        }
    }
    let (mut places, mut in_flight) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        in_flight.push(pool.budget.request(WORKER));
        let chosen = ask(&view, token, Class::Read, 1);
        assert!(chosen.shard < 2);
        places.push(pool.shards[chosen.shard].places.try_take(WORKER).expect("a place"));
    }
    assert_eq!((pool.shards[0].in_flight(), pool.shards[1].in_flight()), (15, 5));
}

fn slow() -> PoolSettings {
    let mut settings = PoolSettings::default();
    settings.health.slow_start = Some(Duration::from_secs(10));
    settings
}

/// What part of its keys `s0` gets, in percent, and for whom.
fn part(view: &View, class: Class, now_ms: u64) -> (usize, Vec<Token>) {
    let keys: Vec<Token> = owned(view).collect();
    let got = keys.iter().copied().filter(|token| {
        let chosen = ask(view, *token, class, now_ms);
        let order = order(view, *token);
        assert_eq!(chosen.shard, order[usize::from(chosen.spilled)], "the owner, or the next");
        chosen.shard == 0
    });
    let got: Vec<Token> = got.collect();
    (got.len() * 100 / keys.len(), got)
}

fn grows(view: &View, begun_ms: u64) {
    let (none, _) = part(view, Class::Read, begun_ms);
    assert_eq!(none, 0);
    let mut before: Vec<Token> = Vec::new();
    for (after_ms, percent) in [(1000, 10), (5000, 50), (9000, 90)] {
        let (part, got) = part(view, Class::Read, begun_ms + after_ms);
        assert!(part.abs_diff(percent) <= 5, "{part} after {after_ms} ms");
        assert!(before.iter().all(|token| got.contains(token)), "what it has again it keeps");
        before = got;
    }
    assert_eq!(part(view, Class::Read, begun_ms + 10_000).0, 100);
    // The window does not begin again.
    assert_eq!(part(view, Class::Read, begun_ms + 10_001).0, 100);
}

#[test]
fn a_shard_that_was_down_gets_its_keys_back_bit_by_bit() {
    let view = view(false, Mode::Any, AdminState::Ready, None, &slow());
    let health = &view.pools[0].health;
    assert_eq!(part(&view, Class::Read, 0).0, 100, "nobody has been away at the beginning");
    for _ in 0..3 {
        health.probe_result(1, 0, Err(ProbeFailure::Connect));
    }
    assert_eq!(part(&view, Class::Read, 2).0, 0);
    for _ in 0..2 {
        health.probe_result(100_000, 0, Ok(()));
    }
    // A write that may be nowhere else goes to the owner at once.
    assert_eq!(part(&view, Class::Write, 100_000).0, 100);
    grows(&view, 100_000);
}

#[test]
fn and_so_does_one_that_was_in_maintenance() {
    let away = view(false, Mode::Any, AdminState::Maint, None, &slow());
    assert_eq!(part(&away, Class::Read, 0).0, 0);
    let back = view(false, Mode::Any, AdminState::Ready, Some(&away), &slow());
    grows(&back, 5000);
    // Another change while it is on its way does not send it back.
    let again = view(false, Mode::Any, AdminState::Maint, Some(&back), &slow());
    let again = view(false, Mode::Any, AdminState::Ready, Some(&again), &slow());
    assert_eq!(part(&again, Class::Read, 20_000).0, 0);
    let mut settings = slow();
    settings.health.panic_percent = 70;
    let changed = view(false, Mode::Any, AdminState::Ready, Some(&again), &settings);
    assert!((45..=55).contains(&part(&changed, Class::Read, 25_000).0));
}

/// A reload that begins with slow starts sent shards back that had returned long ago.
#[test]
fn who_was_back_before_slow_starts_began_has_all_keys() {
    let before = view(false, Mode::Any, AdminState::Ready, None, &PoolSettings::default());
    for _ in 0..3 {
        before.pools[0].health.probe_result(1, 0, Err(ProbeFailure::Connect));
    }
    for _ in 0..2 {
        before.pools[0].health.probe_result(2, 0, Ok(()));
    }
    let after = view(false, Mode::Any, AdminState::Ready, Some(&before), &slow());
    assert_eq!(part(&after, Class::Read, 100_000).0, 100);
    // The next return is eased.
    for _ in 0..3 {
        after.pools[0].health.probe_result(100_001, 0, Err(ProbeFailure::Connect));
    }
    for _ in 0..2 {
        after.pools[0].health.probe_result(100_002, 0, Ok(()));
    }
    grows(&after, 200_000);
}
