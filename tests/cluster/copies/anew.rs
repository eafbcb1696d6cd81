//! A pool is dropped and made again under its name, and one node has not heard of it: does anybody see what
//! was dropped?

use std::time::Duration;

use super::world::World;
use crate::group::{AGREEMENT_MAX, POOL};
use crate::links::Sources;
use crate::support::say::say;
use crate::support::wait::{all_the_while, until_within};
use crate::turns::alone;

const OBJECTS: usize = 20;

/// The status and the text that a node answers with.
fn at(world: &World, node: usize, level: &str, method: &str, path: &str) -> Option<(u16, String)> {
    let fields = format!("Ringway-Consistency: {level}\r\n");
    let body = if method == "PUT" { path } else { "" };
    let answer = world.ask(node, method, path, &fields, body.as_bytes())?;
    Some((answer.status, answer.text()))
}

/// No node shows any of what the pool of before had.
#[track_caller]
fn expect_none_of_the_old(world: &World, node: usize) {
    for number in 0..OBJECTS {
        for level in ["one", "quorum"] {
            let path = format!("/old/{number}");
            let told = at(world, node, level, "GET", &path);
            let is_shown = told.as_ref().is_some_and(|(status, _)| *status == 200);
            assert!(!is_shown, "n{} shows {path} at {level}: {told:?}", node + 1);
        }
    }
}

#[test]
fn a_node_that_has_not_heard_that_its_pool_is_another_shows_nothing_of_the_one_that_was_dropped() {
    let _turn = alone();
    let Some(sources) = Sources::build() else { return };
    let world = World::start(Some(sources));
    for number in 0..OBJECTS {
        let path = format!("/old/{number}");
        until_within("all three take it", AGREEMENT_MAX, || {
            at(&world, number % 3, "all", "PUT", &path).filter(|told| told.0 == 204)
        });
    }
    let cluster = &world.cluster;
    let before = cluster.until_agreed().serves()[POOL].0;
    let lagging = cluster.others(cluster.leader())[0];
    let rest = cluster.others(lagging);
    let told = at(&world, lagging, "quorum", "GET", "/old/0").expect("an answer");
    assert_eq!(told, (200, "/old/0".to_owned()), "it has served all of it");

    // It hears no node any more, and reaches every store.
    cluster.links().isolate(lagging);
    let operator = &cluster.members[rest[0]];
    let dropped = operator.ringway(&["ring", "drop-pool", POOL, "--now"]);
    assert!(dropped.success, "{}{}", dropped.stdout, dropped.stderr);
    let file = operator.folder().join("ringway.yaml").display().to_string();
    let made = operator.ringway(&["ring", "stage", "--config", &file, "--now"]);
    assert!(made.success, "{}{}", made.stdout, made.stderr);
    until_within("the next pool takes writes", AGREEMENT_MAX, || {
        at(&world, rest[1], "quorum", "PUT", "/new").filter(|told| told.0 == 204)
    });

    // From here on nobody may.
    all_the_while(Duration::from_secs(3), || {
        for node in 0..3 {
            expect_none_of_the_old(&world, node);
        }
    });
    let alone = cluster.view(lagging).expect("it answers");
    assert_eq!(alone.serves()[POOL].0, before, "it goes by what it knows");
    cluster.links().mend();
    until_within("it has heard of the next one", AGREEMENT_MAX, || {
        expect_none_of_the_old(&world, lagging);
        at(&world, lagging, "quorum", "GET", "/new").filter(|told| told.0 == 200)
    });
    let after = cluster.until_agreed().serves()[POOL].0;
    assert!(after > before, "{before}, {after}");
    for node in 0..3 {
        for level in ["one", "quorum"] {
            until_within("it knows that it is gone", AGREEMENT_MAX, || {
                let told = at(&world, node, level, "GET", "/old/1")?;
                assert_ne!(told.0, 200, "{told:?}");
                (told.0 == 404).then_some(())
            });
        }
    }
    // The name of an object is free again.
    until_within("it is written anew", AGREEMENT_MAX, || {
        at(&world, lagging, "all", "PUT", "/old/1").filter(|told| told.0 == 204)
    });
    let healed = world.until_replicas_are_the_same();
    say(&format!(
        "  dropped and made anew while n{} was cut off: epochs {before} and {after}; the same everywhere \
         {} ms later",
        lagging + 1,
        healed.as_millis()
    ));
}
