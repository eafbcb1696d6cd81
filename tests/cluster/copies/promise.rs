//! What three copies before three proxies promise, word by word: one store may die and nobody
//! notices; with two gone nothing is written, that is said at once, and reads at `one` go on; when
//! all are back, all are the same, and nobody did anything for it. Fault rows 1 and 2.

use std::time::{Duration, Instant};

use super::clients::Clients;
use super::world::{HEALED_MAX, World};
use crate::support::http::Answer;
use crate::support::say::say;
use crate::support::wait::{until_true, until_within};
use crate::turns::alone;

/// Answered operations after each event.
const ENOUGH: usize = 1_500;

/// How long the quickest of some refusals may take: it waits for nothing and nobody. The matrix
/// asks for 50 ms.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Refusals that are timed: one may fall into a moment when the machine does something else.
const REFUSALS: usize = 20;

fn at(world: &World, node: usize, level: &str, method: &str, path: &str, body: &[u8]) -> Answer {
    let fields = format!("Ringway-Consistency: {level}\r\n");
    let answer = world.ask(node, method, path, &fields, body);
    answer.unwrap_or_else(|| panic!("no answer to {method} {path} at {level}"))
}

fn kill(world: &mut World, store: usize) {
    world.stores[store].get_mut().expect("no test panicked with it").process.kill_9();
}

#[test]
fn a_store_dies_and_nobody_notices_two_die_and_it_is_said_at_once_and_all_come_back_the_same() {
    let _turn = alone();
    let mut world = World::start(None);
    for node in 0..3 {
        let path = format!("/known/{node}");
        assert_eq!(at(&world, node, "all", "PUT", &path, path.as_bytes()).status, 204);
    }
    let clients = Clients::start(&world.cluster.data(&[0, 1, 2]), 7);
    let so_many = |more: usize| {
        let until = clients.done() + more;
        until_within("the load goes on", Duration::from_secs(60), || {
            (clients.done() >= until).then_some(())
        });
    };
    so_many(ENOUGH);
    kill(&mut world, 0);
    so_many(ENOUGH);
    let done = clients.done();
    let (diaries, _) = clients.stop();
    let (mut unique, mut failed) = (Vec::new(), 0);
    for diary in diaries {
        assert!(diary.wrong.is_empty(), "{:#?}", diary.wrong);
        failed += diary.refused + diary.unknown;
        unique.extend(diary.unique);
    }
    // Not even what was in flight on the connections of the dead: the others had enough.
    assert_eq!(failed, 0, "of {done} operations at quorum");

    kill(&mut world, 1);
    let (mut quickest, mut slowest) = (Duration::MAX, Duration::ZERO);
    for node in 0..3 {
        until_true("it is known that two are gone", || {
            let refused = at(&world, node, "quorum", "PUT", "/known/0", b"lost");
            refused.status == 503
        });
        for _ in 0..REFUSALS {
            let begun = Instant::now();
            let refused = at(&world, node, "quorum", "PUT", "/known/0", b"lost");
            let took = begun.elapsed();
            (quickest, slowest) = (quickest.min(took), slowest.max(took));
            assert_eq!((refused.status, refused.problem().as_str()), (503, "no-quorum"));
            assert_eq!(refused.field("Ringway-Outcome"), Some("not-applied"), "{refused:?}");
            assert!(refused.field("Retry-After").is_some(), "{refused:?}");
            let read = at(&world, node, "quorum", "GET", "/known/0", b"");
            assert_eq!((read.status, read.problem().as_str()), (503, "no-quorum"));
        }
        // Reads at `one` go on, through each proxy, of whatever was acknowledged by all.
        for known in 0..3 {
            let path = format!("/known/{known}");
            let read = at(&world, node, "one", "GET", &path, b"");
            assert_eq!((read.status, read.text()), (200, path), "n{}", node + 1);
        }
    }
    assert!(quickest < AT_ONCE, "refused after {quickest:?} at best");

    for store in [0, 1] {
        world.stores[store].get_mut().expect("no test panicked with it").start_again();
    }
    let begun = Instant::now();
    for node in 0..3 {
        until_within("a quorum is back", HEALED_MAX, || {
            (at(&world, node, "quorum", "GET", "/known/0", b"").status == 200).then_some(())
        });
    }
    let back = begun.elapsed();
    world.until_replicas_are_the_same();
    say(&format!(
        "  {done} operations with a store killed: none failed; refusals {:.1} to {:.1} ms; a quorum \
         {} ms, the same everywhere {} ms after the stores' start",
        quickest.as_secs_f64() * 1000.0,
        slowest.as_secs_f64() * 1000.0,
        back.as_millis(),
        begun.elapsed().as_millis()
    ));
    for node in 0..3 {
        let path = format!("/known/{node}");
        assert_eq!(at(&world, node, "all", "GET", &path, b"").text(), path, "nothing was applied");
    }
    for (number, (path, acknowledged)) in unique.iter().enumerate() {
        let read = at(&world, number % 3, "quorum", "GET", path, b"");
        let is_there = read.status == 200 && read.text() == *path;
        assert!(is_there || !acknowledged, "{path} is lost: {read:?}");
    }
}
