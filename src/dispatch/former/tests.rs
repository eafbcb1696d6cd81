//! Who is asked, after which change, and for how long.

use super::super::view::View;
use super::*;
use crate::cluster::{
    AdminState, ClusterState, Command, Kind, Mode, Placement, PoolSpec, ShardSpec, Topology,
};
use crate::ids::{BaseUrl, PoolName, ShardId, Token, Weight, Zone};
use crate::protocol::health::ProbeFailure;

const WINDOW_MS: u64 = 60_000;

fn settings() -> PoolSettings {
    PoolSettings { warm_up: Some(Duration::from_millis(WINDOW_MS)), ..PoolSettings::default() }
}

/// A pool of the shards with these names, after `before`.
fn view(
    shards: &[&str],
    (seed, immutable): (&str, bool),
    before: Option<&View>,
    settings: &PoolSettings,
) -> View {
    let spec = PoolSpec {
        kind: Kind::Cache,
        placement: Placement::Ring,
        hash_seed: seed.to_owned(),
        vnodes: 64,
        immutable,
        mode: Mode::Any,
        kept: None,
    };
    let shard = |name: &&str| {
        let spec = ShardSpec {
            url: BaseUrl::parse(&format!("http://{name}")).expect("a URL"),
            zone: Zone::default(),
            weight: Weight::ONE,
            state: AdminState::Ready,
            ketama_name: None,
        };
        (ShardId::new(name).expect("a name"), spec)
    };
    let shards = shards.iter().map(shard).collect();
    let pool = PoolName::new("p").expect("a name");
    let mut agreed = ClusterState::default();
    agreed.apply_command(&Command::CreatePool { pool, spec, shards }).expect("a pool");
    let topology = Arc::new(Topology::build(&agreed, None).expect("a topology"));
    View::build(topology, before, 1, |_| Arc::new(settings.clone()))
}

const KEPT: (&str, bool) = ("seed", true);

/// The owner of a token, by name.
fn owner(view: &View, token: Token) -> &str {
    let ring = &view.pools[0].agreed.ring;
    ring.member(ring.replicas(token)[0]).id.as_str()
}

/// Those who are asked for what the owner does not find, by name.
fn asked(view: &View, token: Token, now_ms: u64) -> Vec<&str> {
    let pool = &view.pools[0];
    let owner = usize::from(pool.agreed.ring.replicas(token)[0].0);
    let asked = Asked { token, class: Class::Read, panic: false, now_ms };
    holders(pool, asked, owner).into_iter().map(|shard| pool.shards[shard].id.as_str()).collect()
}

fn tokens() -> impl Iterator<Item = Token> {
    (0..300_u64).map(|n| Token(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[test]
fn who_had_a_key_before_is_asked_for_a_time() {
    let two = view(&["a", "b"], KEPT, None, &settings());
    let three = view(&["a", "b", "c"], KEPT, Some(&two), &settings());
    // A change of the settings is none of the ring.
    let mut other = settings();
    other.retry.attempts_max = 2;
    let three = view(&["a", "b", "c"], KEPT, Some(&three), &other);
    let mut moved = 0;
    for token in tokens() {
        assert!(asked(&two, token, 0).is_empty(), "nobody had it before");
        let before = owner(&two, token);
        let expected = if owner(&three, token) == before { vec![] } else { vec![before] };
        moved += expected.len();
        // The time begins with the first question.
        assert_eq!(asked(&three, token, 500_000), expected);
        assert_eq!(asked(&three, token, 500_000 + WINDOW_MS - 1), expected);
    }
    assert!((50..150).contains(&moved), "{moved}");
    for token in tokens() {
        assert!(asked(&three, token, 500_000 + WINDOW_MS).is_empty(), "the time is over");
    }
}

#[test]
fn several_changes_are_remembered_and_shards_that_left_are_not_asked() {
    let mut views = vec![view(&["a"], KEPT, None, &settings())];
    for shards in [&["a", "b"][..], &["a", "b", "c"], &["b", "c"], &["b", "c", "d"], &["c", "d"]] {
        let next = view(shards, KEPT, views.last(), &settings());
        views.push(next);
    }
    let last = views.last().expect("there is one");
    assert_eq!(last.pools[0].formers.len(), FORMERS_MAX);
    let mut longest = 0;
    for token in tokens() {
        let asked = asked(last, token, 0);
        let mut expected: Vec<&str> = Vec::new();
        for former in views.iter().rev().skip(1).take(FORMERS_MAX) {
            let before = owner(former, token);
            if ["c", "d"].contains(&before)
                && before != owner(last, token)
                && !expected.contains(&before)
            {
                expected.push(before);
            }
        }
        assert_eq!(asked, expected);
        longest = longest.max(asked.len());
    }
    assert_eq!(longest, 1, "of two shards only one is another");
}

#[test]
fn nobody_is_asked_where_a_copy_may_be_old_or_the_tokens_are_others() {
    let off = PoolSettings::default();
    for (before, after, settings) in [
        (KEPT, ("seed", false), settings()),
        (KEPT, ("other", true), settings()),
        (KEPT, KEPT, off),
    ] {
        let two = view(&["a", "b"], before, None, &settings);
        let three = view(&["a", "b", "c"], after, Some(&two), &settings);
        assert!(tokens().all(|token| asked(&three, token, 0).is_empty()), "{after:?}");
    }
}

#[test]
fn after_its_return_a_shard_finds_what_the_next_one_took() {
    let mut settings = settings();
    settings.health.panic_percent = 100;
    let view = view(&["a", "b", "c"], KEPT, None, &settings);
    let pool = &view.pools[0];
    let token = tokens().find(|token| owner(&view, *token) == "a").expect("a key");
    let order: Vec<usize> = pool.agreed.ring.order(token).map(|ix| usize::from(ix.0)).collect();
    let name = |place: usize| pool.shards[order[place]].id.as_str();
    let fails = |shard: usize, now_ms: u64| {
        for _ in 0..3 {
            pool.health.probe_result(now_ms, shard, Err(ProbeFailure::Connect));
        }
    };
    assert!(asked(&view, token, 0).is_empty(), "nobody was away");
    fails(0, 1);
    for _ in 0..2 {
        pool.health.probe_result(2, 0, Ok(()));
    }
    assert_eq!(asked(&view, token, 100), [name(1)]);
    assert_eq!(asked(&view, token, 100 + WINDOW_MS - 1), [name(1)]);
    // One that looks down is not asked; the next after it took the writes then.
    fails(order[1], 101);
    assert_eq!(asked(&view, token, 102), [name(2)]);
    assert!(asked(&view, token, 100 + WINDOW_MS).is_empty(), "the time is over");
}
