//! The state under any sequence of commands, plans that lead where they say, and the bytes of
//! every version of the persisted state.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::{
    Strategy, any, prop, prop_assert, prop_assert_eq, prop_assume, prop_compose, prop_oneof,
    proptest,
};
use proptest::sample::select;

use super::*;
use crate::ids::{BaseUrl, Epoch, PoolName, ShardId, Weight, Zone};
use crate::ring::{Ring, TOKENS_MAX};

fn pool_name(name: &str) -> PoolName {
    PoolName::new(name).expect("a plain name")
}

fn shard_id(id: &str) -> ShardId {
    ShardId::new(id).expect("a plain name")
}

fn weight(units: u64) -> Weight {
    Weight::try_from(units).expect("a weight in range")
}

fn shard(zone: &str, units: u64) -> ShardSpec {
    ShardSpec {
        url: BaseUrl::parse("http://shard.example:8080/base").expect("a URL"),
        zone: Zone::new(zone).expect("a plain name"),
        weight: weight(units),
        state: AdminState::Ready,
    }
}

fn pool(vnodes: u16) -> PoolSpec {
    PoolSpec {
        kind: Kind::Cache,
        placement: Placement::Ring,
        hash_seed: "seed".to_owned(),
        vnodes,
        immutable: false,
        mode: Mode::Any,
    }
}

/// Few names, so that commands meet; weights and virtual nodes up to the greatest, so that the
/// limit on tokens is met too.
fn any_pool_name() -> impl Strategy<Value = PoolName> {
    select(vec!["p", "q"]).prop_map(pool_name)
}

fn any_shard_id() -> impl Strategy<Value = ShardId> {
    select(vec!["a", "b", "c", "d"]).prop_map(shard_id)
}

prop_compose! {
    fn any_shard()(
        url in select(vec!["http://one", "http://two:81/base", "http://[::1]:8080"]),
        zone in select(vec!["east", "west"]),
        units in select(vec![0_u64, 1, 2, 256]),
        maint in any::<bool>(),
    ) -> ShardSpec {
        ShardSpec {
            url: BaseUrl::parse(url).expect("a URL"),
            state: if maint { AdminState::Maint } else { AdminState::Ready },
            ..shard(zone, units)
        }
    }
}

fn any_pool(seeds: Vec<&'static str>) -> impl Strategy<Value = PoolSpec> {
    (select(seeds), select(vec![0_u16, 1, 2, 16_384, u16::MAX]), any::<bool>()).prop_map(
        |(seed, vnodes, immutable)| PoolSpec {
            hash_seed: seed.to_owned(),
            immutable,
            ..pool(vnodes)
        },
    )
}

fn any_shards() -> impl Strategy<Value = Vec<(ShardId, ShardSpec)>> {
    prop::collection::vec((any_shard_id(), any_shard()), 0..4)
}

fn any_command() -> impl Strategy<Value = Command> {
    let seeds = || any_pool(vec!["seed", "seed", "seed", "other"]);
    prop_oneof![
        (any_pool_name(), seeds(), any_shards())
            .prop_map(|(pool, spec, shards)| Command::CreatePool { pool, spec, shards }),
        (any_pool_name(), seeds()).prop_map(|(pool, spec)| Command::SetPool { pool, spec }),
        any_pool_name().prop_map(|pool| Command::RemovePool { pool }),
        (any_pool_name(), any_shards(), prop::collection::vec(any_shard_id(), 0..3))
            .prop_map(|(pool, put, remove)| Command::SetShards { pool, put, remove }),
    ]
}

fn any_commands() -> impl Strategy<Value = Vec<Command>> {
    prop::collection::vec(any_command(), 0..40)
}

/// What somebody could want, and get: each pool has a ring.
fn any_desired() -> impl Strategy<Value = Desired> {
    let pool =
        (any_pool(vec!["seed"]), prop::collection::btree_map(any_shard_id(), any_shard(), 1..5))
            .prop_map(|(spec, shards)| DesiredPool { spec, shards })
            .prop_filter("no ring", |pool| {
                let units: u64 = pool.shards.values().map(|shard| u64::from(shard.weight)).sum();
                (1..=TOKENS_MAX).contains(&(units * u64::from(pool.spec.vnodes)))
            });
    prop::collection::btree_map(any_pool_name(), pool, 0..3)
}

/// The state that a list of commands leads to, refused ones passed over.
fn state_of(commands: &[Command]) -> ClusterState {
    let mut state = ClusterState::default();
    for command in commands {
        let _: Result<Applied, Refusal> = state.apply_command(command);
    }
    state
}

/// The state's pools without their epochs.
fn as_desired(state: &ClusterState) -> Desired {
    state
        .pools()
        .iter()
        .map(|(name, pool)| {
            let (spec, shards) = (pool.spec.clone(), pool.shards.clone());
            (name.clone(), DesiredPool { spec, shards })
        })
        .collect()
}

proptest! {
    #[test]
    fn numbers_only_grow_and_a_refusal_changes_nothing(commands in any_commands()) {
        let mut state = ClusterState::default();
        let mut highest: BTreeMap<PoolName, Epoch> = BTreeMap::new();
        for command in &commands {
            let before = state.clone();
            let Ok(applied) = state.apply_command(command) else {
                prop_assert_eq!(&state, &before);
                continue;
            };
            prop_assert_eq!(state.revision(), before.revision().next());
            let epoch = |state: &ClusterState| state.pools().get(&applied.pool).map(|p| p.epoch);
            prop_assert_eq!((applied.before, applied.after), (epoch(&before), epoch(&state)));
            for (name, pool) in state.pools() {
                prop_assert!(pool.ring_spec().check().is_ok());
                if *name != applied.pool {
                    prop_assert_eq!(Some(pool), before.pools().get(name));
                }
            }
            // Of all epochs that ever bore the pool's name, none comes again.
            if let Some(epoch) = applied.after.filter(|_| applied.after != applied.before) {
                prop_assert!(highest.insert(applied.pool, epoch).is_none_or(|was| was < epoch));
            }
        }
        prop_assert_eq!(state_of(&commands), state);
    }

    /// One epoch, one digest, and no key that moves within an epoch.
    #[test]
    fn keys_move_only_with_the_epoch(
        shards in prop::collection::btree_map(any_shard_id(), any_shard(), 1..5),
        put in any_shards(),
        remove in prop::collection::vec(any_shard_id(), 0..2),
    ) {
        // The greatest weights are not needed here, and make rings that take long to build.
        let lighter = |shard: ShardSpec| {
            ShardSpec { weight: weight(u64::from(shard.weight).min(3)), ..shard }
        };
        let shards = shards.into_iter().map(|(id, shard)| (id, lighter(shard))).collect();
        let put = put.into_iter().map(|(id, shard)| (id, lighter(shard))).collect();
        let name = pool_name("p");
        let mut state = ClusterState::default();
        let create = Command::CreatePool { pool: name.clone(), spec: pool(8), shards };
        prop_assume!(state.apply_command(&create).is_ok());
        let before = state.clone();
        let change = Command::SetShards { pool: name.clone(), put, remove };
        prop_assume!(state.apply_command(&change).is_ok());

        let ring = |state: &ClusterState| Ring::build(&state.pools()[&name].ring_spec());
        let (old, new) = (ring(&before).expect("applied"), ring(&state).expect("applied"));
        let moved = state.pools()[&name].epoch != before.pools()[&name].epoch;
        prop_assert!(moved || old.moved(&new).is_zero());
        prop_assert_eq!(moved, old.digest() != new.digest());

        let report = report(&before, &state).expect("both have rings");
        prop_assert_eq!(report.is_empty(), before.pools() == state.pools());
        for pool in &report {
            prop_assert_eq!(pool.epoch_before != pool.epoch_after, moved);
            prop_assert!(moved || pool.moved.is_zero());
            for (sum, is) in [(0, before.pools()), (1, state.pools())] {
                let share = |both: &(crate::ring::Ratio, crate::ring::Ratio)| {
                    [both.0, both.1][sum].as_f64()
                };
                let total: f64 = pool.shares.values().map(share).sum();
                prop_assert!((total - 1.0).abs() < 1e-9);
                prop_assert!(is[&name].shards.keys().all(|id| pool.shares.contains_key(id)));
            }
        }
    }

    /// Whatever was in force, the plan reaches what is desired, by commands none of which is
    /// refused, in at most two steps a pool; and then there is nothing left to do.
    #[test]
    fn a_plan_reaches_what_is_desired(from in any_desired(), to in any_desired()) {
        let mut state = ClusterState::default();
        for desired in [from, to] {
            let commands = changes(&state, &desired);
            let names: std::collections::BTreeSet<_> =
                state.pools().keys().chain(desired.keys()).collect();
            prop_assert!(commands.len() <= 2 * names.len());
            for command in &commands {
                prop_assert!(state.apply_command(command).is_ok(), "{:?} was refused", command);
            }
            prop_assert_eq!(as_desired(&state), desired.clone());
            prop_assert_eq!(changes(&state, &desired), vec![]);
        }
    }

    #[test]
    fn bytes_bring_back_the_state(commands in any_commands()) {
        let state = state_of(&commands);
        let bytes = state.encode();
        prop_assert_eq!(ClusterState::decode(&bytes).expect("our own bytes"), state);
        // What is cut off is never taken for something smaller.
        for end in 0..bytes.len() {
            prop_assert!(ClusterState::decode(&bytes[..end]).is_err());
        }
    }
}

/// A pool under construction and one that was removed.
fn small_state() -> ClusterState {
    let maint = ShardSpec { state: AdminState::Maint, ..shard("west", 2) };
    state_of(&[
        Command::CreatePool {
            pool: pool_name("objects"),
            spec: PoolSpec { immutable: true, ..pool(256) },
            shards: vec![(shard_id("s1"), shard("east", 1)), (shard_id("s2"), maint)],
        },
        Command::CreatePool {
            pool: pool_name("gone"),
            spec: pool(16),
            shards: vec![(shard_id("s1"), shard("default", 1))],
        },
        Command::RemovePool { pool: pool_name("gone") },
    ])
}

/// The bytes of version 1, as the first release wrote them.
const VERSION_1: &str = r#"{
  "version": "1",
  "revision": 3,
  "pools": {
    "objects": {
      "epoch": 1,
      "spec": {
        "kind": "cache",
        "placement": "ring",
        "hash_seed": "seed",
        "vnodes": 256,
        "immutable": true
      },
      "shards": {
        "s1": {
          "url": "http://shard.example:8080/base",
          "zone": "east",
          "weight": 1,
          "state": "ready"
        },
        "s2": {
          "url": "http://shard.example:8080/base",
          "zone": "west",
          "weight": 2,
          "state": "maint"
        }
      }
    }
  },
  "retired": {
    "gone": 1
  }
}"#;

#[test]
fn version_1_stays_readable_and_is_what_we_write() {
    assert_eq!(ClusterState::decode(VERSION_1.as_bytes()).expect("version 1"), small_state());
    assert_eq!(String::from_utf8(small_state().encode()).expect("JSON"), VERSION_1);
}

#[test]
fn what_this_release_does_not_understand_is_refused() {
    for (known, other) in [
        (r#""version": "1""#, r#""version": "2""#),
        (r#""revision": 3"#, r#""revision": 3, "lease": 7"#),
        (r#""immutable": true"#, r#""immutable": true, "mode": "any""#),
        (r#""state": "maint""#, r#""state": "maint", "store": "x""#),
        (r#""state": "maint""#, r#""state": "drain""#),
        (r#""weight": 2"#, r#""weight": 257"#),
        (r#""s1": {"#, r#""no name": {"#),
    ] {
        assert!(VERSION_1.contains(known), "{known}");
        let text = VERSION_1.replacen(known, other, 1);
        let error = ClusterState::decode(text.as_bytes()).expect_err(other);
        assert!(matches!(error, StateError::Unreadable(_)), "{other}: {error}");
    }
    let nobody = VERSION_1.replace(r#""weight": 1"#, r#""weight": 0"#);
    let nobody = nobody.replace(r#""weight": 2"#, r#""weight": 0"#);
    let error = ClusterState::decode(nobody.as_bytes()).expect_err("no ring");
    assert!(matches!(error, StateError::Ring { .. }), "{error}");
}

#[test]
fn a_topology_keeps_the_rings_that_did_not_change() {
    let name = pool_name("objects");
    let mut state = small_state();
    let first = Topology::build(&state, None).expect("rings");
    let ring = |topology: &Topology| Arc::clone(&topology.pool(&name).expect("there").ring);

    // Maintenance and address are not the ring's business, but a new topology shows them.
    let ready = ShardSpec { url: BaseUrl::parse("http://new").expect("a URL"), ..shard("west", 2) };
    let put = vec![(shard_id("s2"), ready.clone())];
    let command = Command::SetShards { pool: name.clone(), put, remove: vec![] };
    state.apply_command(&command).expect("applied");
    let second = Topology::build(&state, Some(&first)).expect("rings");
    assert!(Arc::ptr_eq(&ring(&first), &ring(&second)));
    assert_eq!(second.revision(), state.revision());
    let shards = &second.pool(&name).expect("there").shards;
    assert_eq!((&shards[1].url, shards[1].state), (&ready.url, AdminState::Ready));

    // A shard of weight 0 moves no key and no epoch, yet takes a place among the ring's members:
    // the old ring would name the wrong shards.
    let put = vec![(shard_id("s0"), shard("east", 0))];
    let command = Command::SetShards { pool: name.clone(), put, remove: vec![] };
    let applied = state.apply_command(&command).expect("applied");
    assert_eq!(applied.before, applied.after);
    let third = Topology::build(&state, Some(&second)).expect("rings");
    let pool = third.pool(&name).expect("there");
    let members = pool.ring.members().iter().map(|member| &member.id);
    assert!(members.eq(pool.shards.iter().map(|shard| &shard.id)));
    assert_eq!(pool.ring.digest(), ring(&second).digest());
    assert!(third.pool(&pool_name("gone")).is_none());
}
