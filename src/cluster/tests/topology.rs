//! What of a topology is taken from the one before.

use std::sync::Arc;

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
