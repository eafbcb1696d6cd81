//! Do copies behave as one while everything fails that can fail, one thing after the other?

use super::clients::Clients;
use super::faults::{Fault, REST, pause, strike};
use super::judgement::judge;
use super::world::World;
use crate::links::Sources;
use crate::support::say::say;
use crate::turns::{alone, long};

/// Operations of one run.
const OPERATIONS: usize = 100_000;
const OPERATIONS_OF_A_LONG_RUN: usize = 2_000_000;

#[test]
fn what_clients_are_told_of_three_copies_is_linearizable_while_everything_fails() {
    let _turn = alone();
    let seed = std::env::var("RINGWAY_SEED").ok().and_then(|text| text.parse().ok());
    #[allow(clippy::disallowed_methods, reason = "a run that fails tells its seed")]
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = World::start(Sources::build());
    let clients = Clients::start(&world.cluster.data(&[0, 1, 2]), seed);
    let wanted = if long() { OPERATIONS_OF_A_LONG_RUN } else { OPERATIONS };
    let mut struck = 0;
    // Each fault at least once, whatever the machine's speed.
    while clients.done() < wanted || struck < Fault::ALL.len() {
        let fault = Fault::ALL[struck % Fault::ALL.len()];
        strike(&mut world, fault, &mut rng);
        pause(REST);
        struck += 1;
    }
    let done = clients.done();
    let (diaries, clock) = clients.stop();
    world.cluster.until_agreed();
    let healed = world.until_replicas_are_the_same();

    let (refused, unknown) = judge(&world, diaries, &clock, seed);
    say(&format!(
        "  {done} operations, {struck} faults, {refused} refused, {unknown} unknown; the replicas were \
         the same after {} ms; seed {seed}",
        healed.as_millis()
    ));
}
