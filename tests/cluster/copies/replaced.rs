//! A shard whose machine is gone for good gets a fresh store elsewhere, while clients go on.

use std::time::Instant;

use super::clients::Clients;
use super::judgement::judge;
use super::world::{HEALED_MAX, World};
use crate::group::POOL;
use crate::support::ringway::Store;
use crate::support::say::say;
use crate::support::wait::until_within;
use crate::turns::alone;

/// Answered operations after each event.
const ENOUGH: usize = 1_000;

/// The lost store had acknowledged its part of each write. Once the fresh one is filled, any other
/// may die, and nothing that was ever acknowledged is missed.
#[test]
fn a_dead_shard_is_replaced_elsewhere_under_load_and_then_another_may_die() {
    let _turn = alone();
    #[allow(clippy::disallowed_methods, reason = "a run that fails tells its seed")]
    let seed = fastrand::u64(..);
    let mut world = World::start(None);
    let clients = Clients::start(&world.cluster.data(&[0, 1, 2]), seed);
    let so_many = |more: usize| {
        let until = clients.done() + more;
        until_within("the load goes on", HEALED_MAX, || (clients.done() >= until).then_some(()));
    };
    so_many(ENOUGH);
    // Killed, and its folder gone with it.
    let fresh = Store::start();
    let url = format!("http://{}", fresh.address);
    *world.stores[1].get_mut().expect("no test panicked with it") = fresh;
    so_many(ENOUGH);

    let before = world.cluster.view(0).and_then(|view| Some(view.serves().get(POOL)?.0));
    let said = world.cluster.members[0].ringway(&["ring", "replace", "objects/s2", &url, "--now"]);
    assert!(said.success, "{}{}", said.stdout, said.stderr);
    let begun = Instant::now();
    for node in world.cluster.running() {
        until_within("the fresh store is filled", 3 * HEALED_MAX, || {
            let view = world.cluster.view(node)?;
            let shard = view.shard(POOL, "s2")?;
            let is_whole = shard["copies"]["standing"] == "whole" && shard["url"] == url.as_str();
            is_whole.then_some(())
        });
    }
    let filled = begun.elapsed();
    let after = world.cluster.until_agreed().serves().get(POOL).map(|serves| serves.0);
    assert!(
        after > before,
        "another store in a shard's place is another epoch: {before:?} {after:?}"
    );

    // Whoever had all of it dies, and is gone as well.
    world.stores[0].get_mut().expect("no test panicked with it").process.kill_9();
    so_many(ENOUGH);
    let done = clients.done();
    let (diaries, clock) = clients.stop();
    // What every client was ever told is judged with two stores: one that had it, and the fresh one.
    let (refused, unknown) = judge(&world, diaries, &clock, seed);
    say(&format!(
        "  {done} operations, a store replaced and filled within {} ms, another killed: {refused} \
         refused, {unknown} unknown; seed {seed}",
        filled.as_millis()
    ));
}
