//! What of a topology is taken from the one before.

use std::sync::Arc;

use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::ids::BaseUrl;

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
    assert_eq!(applied.pools[0].before, applied.pools[0].after);
    let third = Topology::build(&state, Some(&second)).expect("rings");
    let pool = third.pool(&name).expect("there");
    let members = pool.ring.members().iter().map(|member| &member.id);
    assert!(members.eq(pool.shards.iter().map(|shard| &shard.id)));
    assert_eq!(pool.ring.digest(), ring(&second).digest());
    assert!(third.pool(&pool_name("gone")).is_none());
}

proptest! {
    // Building rings is what takes long here.
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    /// What is taken from the topology before is what would be made anew.
    #[test]
    fn a_topology_says_what_its_state_says(log in any_log()) {
        let mut state = founded();
        let mut topology = Topology::build(&state, None).expect("rings");
        for (at, envelope) in log.iter().enumerate() {
            let before = state.clone();
            let _: Result<Applied, Refusal> = state.apply(Revision(at as u64 + 10), envelope);
            // Large rings are as right as small ones, and take long.
            let units = |pool: &PoolState| -> u64 {
                pool.shards.values().map(|shard| u64::from(shard.weight)).sum()
            };
            let large = |pool: &Arc<PoolState>| units(pool) * u64::from(pool.spec.vnodes) > 5_000;
            if state.pools().values().any(large) {
                return Ok(());
            }
            let next = Topology::build(&state, Some(&topology)).expect("rings");
            let anew = Topology::build(&state, None).expect("rings");
            prop_assert_eq!(format!("{next:?}"), format!("{anew:?}"));
            for pool in next.pools() {
                let same = before.pools().get(&pool.name).is_some_and(|was| {
                    let past = state.pools()[&pool.name].past.clone();
                    PoolState { past, ..PoolState::clone(was) } == *state.pools()[&pool.name]
                });
                let kept = topology.pool(&pool.name).is_some_and(|was| Arc::ptr_eq(was, pool));
                prop_assert_eq!(same, kept, "a pool is built anew if, and only if, it changed");
                let ring = state.ring_at(&pool.name, pool.epoch).expect("in force");
                prop_assert!(ring.digest() == pool.digest);
            }
            topology = next;
        }
    }
}
