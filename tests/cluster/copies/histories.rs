//! Is what clients were told linearizable, key by key, and is every acknowledged write there?

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::clients::{Clients, Diary, KEYS, Operation, What, shared};
use super::faults::{Fault, REST, pause, strike};
use super::world::World;
use crate::history::{Event, Kind, linearizable};
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

    let mut by_key: BTreeMap<usize, Vec<Operation>> = BTreeMap::new();
    let mut sums = Diary::default();
    for diary in diaries {
        for operation in diary.operations {
            by_key.entry(operation.key).or_default().push(operation);
        }
        sums.unique.extend(diary.unique);
        sums.refused += diary.refused;
        sums.unknown += diary.unknown;
        sums.wrong.extend(diary.wrong);
    }
    say(&format!(
        "  {done} operations, {struck} faults, {} refused, {} unknown; the replicas were the same \
         after {} ms; seed {seed}",
        sums.refused,
        sums.unknown,
        healed.as_millis()
    ));
    assert!(sums.wrong.is_empty(), "seed {seed}: {:#?}", sums.wrong);
    for at in 0..3 {
        for key in 0..KEYS {
            let begun = clock.fetch_add(1, Ordering::SeqCst);
            let value = last_value(&world, at, &shared(key));
            let ended = Some(clock.fetch_add(1, Ordering::SeqCst));
            let what = What::Read(value.map(|text| text.parse().expect("a number")));
            by_key.entry(key).or_default().push(Operation { key, what, begun, ended });
        }
    }
    for (key, operations) in &by_key {
        let events: Vec<Event> = operations.iter().map(event).collect();
        if let Err(why) = linearizable(&events) {
            panic!("seed {seed}: the history of {} is not linearizable: {why}", shared(*key));
        }
    }
    let mut lost = Vec::new();
    for (path, acknowledged) in &sums.unique {
        let found = last_value(&world, 0, path);
        match found {
            Some(text) => assert_eq!(text, *path, "seed {seed}: another's value"),
            None if *acknowledged => lost.push(path),
            None => {}
        }
    }
    assert!(lost.is_empty(), "seed {seed}: {} acknowledged writes are lost: {lost:?}", lost.len());
}

#[track_caller]
fn last_value(world: &World, at: usize, path: &str) -> Option<String> {
    let answer = world.ask(at, "GET", path, "Ringway-Consistency: quorum\r\n", b"");
    let answer = answer.unwrap_or_else(|| panic!("no answer for {path}"));
    match answer.status {
        200 => Some(answer.text()),
        404 => None,
        _ => panic!("{path}: {answer:?}"),
    }
}

fn event(operation: &Operation) -> Event {
    let kind = match operation.what {
        What::Write(value) => Kind::Write(Some(value)),
        What::Delete => Kind::Write(None),
        What::Read(value) => Kind::Read(value),
    };
    Event { kind, begun: operation.begun, ended: operation.ended }
}
