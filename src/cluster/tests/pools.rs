//! The pools under any sequence of commands, and plans that lead where they say.

use std::collections::BTreeMap;

use proptest::prelude::{prop, prop_assert, prop_assert_eq, prop_assume, proptest};

use super::*;
use crate::ids::{Epoch, PoolName};
use crate::ring::Ring;

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
            prop_assert_eq!(applied.revision, state.revision());
            let [PoolEpochs { pool, before: was, after: is }] = &applied.pools[..] else {
                panic!("one pool was touched, not {:?}", applied.pools);
            };
            let epoch = |state: &ClusterState| state.pools().get(pool).map(|pool| pool.epoch);
            prop_assert_eq!((*was, *is), (epoch(&before), epoch(&state)));
            for (name, state) in state.pools() {
                prop_assert!(state.ring_spec().check().is_ok());
                if name != pool {
                    prop_assert_eq!(Some(state), before.pools().get(name));
                }
            }
            // Of all epochs that ever bore the pool's name, none comes again.
            if let Some(epoch) = is.filter(|_| is != was) {
                prop_assert!(highest.insert(pool.clone(), epoch).is_none_or(|was| was < epoch));
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
    /// refused, in at most three steps a pool; and then there is nothing left to do.
    #[test]
    fn a_plan_reaches_what_is_desired(from in any_desired(), to in any_desired()) {
        let mut state = ClusterState::default();
        for desired in [from, to] {
            let commands = changes(&state, &desired);
            let names: std::collections::BTreeSet<_> =
                state.pools().keys().chain(desired.keys()).collect();
            prop_assert!(commands.len() <= 3 * names.len());
            for command in &commands {
                prop_assert!(state.apply_command(command).is_ok(), "{:?} was refused", command);
            }
            prop_assert_eq!(as_desired(&state), desired.clone());
            prop_assert_eq!(changes(&state, &desired), vec![]);
        }
    }
}
