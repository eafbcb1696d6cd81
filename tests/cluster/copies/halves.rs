//! What do two halves of proxies *and* stores do that cannot see each other? Fault row 8.
//!
//! Whoever has most proxies and most stores goes on; the others say no, at once, and read at `one`.
//! Where most proxies are with few stores, nobody writes.

use std::time::{Duration, Instant};

use super::clients::Clients;
use super::judgement::judge;
use super::world::World;
use crate::group::POOL;
use crate::links::Sources;
use crate::support::http::Answer;
use crate::support::say::say;
use crate::support::wait::until_within;
use crate::turns::alone;

/// Until a side knows that the other is gone: probes, a round that waits in vain, and a lease.
const KNOWN_MAX: Duration = Duration::from_secs(30);

/// How long the quickest of some refusals may take. The matrix: "503 < 100 ms, not a hang".
const NO_HANG: Duration = Duration::from_millis(100);

const REFUSALS: usize = 10;

/// Answered operations before the next cut.
const ENOUGH: usize = 500;

/// A cut: the side of each node, and of each store.
struct Split {
    what: &'static str,
    nodes: [bool; 3],
    stores: [bool; 3],
}

const SPLITS: [Split; 3] = [
    Split { what: "n3 with s3", nodes: [true, true, false], stores: [true, true, false] },
    Split { what: "n1 with s1", nodes: [false, true, true], stores: [false, true, true] },
    // Two proxies and one store here, one proxy and two stores there.
    Split { what: "n1 and n2 with s3", nodes: [true, true, false], stores: [false, false, true] },
];

impl Split {
    /// Makes it. A wire and its way back bear the same two numbers in either order, so that what is
    /// cut between a node and a store must be the same between the store's number and the node's.
    fn make(&self, world: &World) {
        let is_cut = |node: usize, store: usize| self.nodes[node] != self.stores[store];
        let views = world.cluster.views.as_ref().expect("wires to the stores");
        for node in 0..3 {
            for other in 0..3 {
                assert_eq!(
                    is_cut(node, other),
                    is_cut(other, node),
                    "not a cut that wires can show"
                );
                if is_cut(node, other) {
                    views.cut(node, other);
                }
                if self.nodes[node] != self.nodes[other] {
                    world.cluster.links().cut(node, other);
                }
            }
        }
    }

    /// Whether this node is with most nodes and with most stores.
    fn goes_on(&self, node: usize) -> bool {
        let side = self.nodes[node];
        let most = |all: &[bool; 3]| all.iter().filter(|own| **own == side).count() >= 2;
        most(&self.nodes) && most(&self.stores)
    }
}

fn mend(world: &World) {
    world.cluster.links().mend();
    world.cluster.views.as_ref().expect("wires to the stores").mend();
}

fn at(world: &World, node: usize, level: &str, method: &str, body: &[u8]) -> Option<Answer> {
    let fields = format!("Ringway-Consistency: {level}\r\n");
    world.ask(node, method, &format!("/half/{node}"), &fields, body)
}

/// Waits until each node's own probes say that each store is up.
#[track_caller]
fn until_all_see_all_stores(world: &World) {
    for node in 0..3 {
        until_within("a node sees all stores", KNOWN_MAX, || {
            let view = world.cluster.view(node)?;
            let mut shards = ["s1", "s2", "s3"].into_iter();
            let is_up = |shard: &str| {
                let shard = view.shard(POOL, shard);
                shard.is_some_and(|shard| shard["reads"] == "up" && shard["writes"] == "up")
            };
            shards.all(is_up).then_some(())
        });
    }
}

/// A node of the lesser half says no, at once, with a reason; and reads at `one`.
#[track_caller]
fn expect_refusals(world: &World, node: usize) -> Duration {
    until_within("it is known that the others are gone", KNOWN_MAX, || {
        let refused = at(world, node, "quorum", "PUT", b"lost")?;
        (refused.status == 503).then_some(())
    });
    let mut quickest = Duration::MAX;
    for method in ["PUT", "GET"].into_iter().cycle().take(2 * REFUSALS) {
        let body: &[u8] = if method == "PUT" { b"lost" } else { b"" };
        let begun = Instant::now();
        let refused = at(world, node, "quorum", method, body).expect("an answer");
        quickest = quickest.min(begun.elapsed());
        assert_eq!(refused.status, 503, "{method}: {refused:?}");
        let why = refused.problem();
        assert!(matches!(why.as_str(), "no-quorum" | "no-lease"), "{method}: {refused:?}");
        if method == "PUT" {
            assert_eq!(refused.field("Ringway-Outcome"), Some("not-applied"), "{refused:?}");
        }
        assert!(refused.field("Retry-After").is_some(), "{refused:?}");
    }
    let read = at(world, node, "one", "GET", b"").expect("an answer");
    assert_eq!((read.status, read.text()), (200, format!("of {node}")));
    assert!(quickest < NO_HANG, "n{} says no after {quickest:?} at best", node + 1);
    quickest
}

#[test]
fn of_two_halves_of_proxies_and_stores_at_most_one_goes_on_and_nothing_is_lost() {
    let _turn = alone();
    let Some(sources) = Sources::build() else { return };
    #[allow(clippy::disallowed_methods, reason = "a run that fails tells its seed")]
    let seed = fastrand::u64(..);
    let world = World::wired(sources);
    for node in 0..3 {
        let written = at(&world, node, "all", "PUT", format!("of {node}").as_bytes());
        assert_eq!(written.expect("an answer").status, 204);
    }
    let clients = Clients::start(&world.cluster.data(&[0, 1, 2]), seed);
    for split in &SPLITS {
        until_all_see_all_stores(&world);
        split.make(&world);
        let begun = Instant::now();
        let (on, off): (Vec<usize>, Vec<usize>) = (0..3).partition(|node| split.goes_on(*node));
        for &node in &on {
            until_within("the greater half goes on", KNOWN_MAX, || {
                let written = at(&world, node, "quorum", "PUT", format!("of {node}").as_bytes())?;
                let read = at(&world, node, "quorum", "GET", b"")?;
                for answer in [&written, &read] {
                    // It sees both of its stores, whatever is agreed about them at this moment. (The
                    // lease may lapse where a leader is chosen anew on a busy machine.)
                    let is_short = answer.status == 503 && answer.problem() == "no-quorum";
                    assert!(!is_short, "n{}: {answer:?}", node + 1);
                }
                (written.status == 204 && read.status == 200).then_some(())
            });
        }
        let went_on = begun.elapsed();
        let refused = off.iter().map(|node| expect_refusals(&world, *node)).min();
        if !on.is_empty() {
            let until = clients.done() + ENOUGH;
            until_within("clients are served", Duration::from_secs(60), || {
                (clients.done() >= until).then_some(())
            });
        }
        mend(&world);
        let begun = Instant::now();
        world.cluster.until_agreed();
        for node in 0..3 {
            until_within("all take writes again", KNOWN_MAX, || {
                let written = at(&world, node, "quorum", "PUT", format!("of {node}").as_bytes())?;
                (written.status == 204).then_some(())
            });
        }
        say(&format!(
            "  {}: {} of 3 proxies go on, after {} ms; the others refuse in {:.1} ms; all take writes {} \
             ms after it was mended",
            split.what,
            on.len(),
            if on.is_empty() { 0 } else { went_on.as_millis() },
            refused.unwrap_or_default().as_secs_f64() * 1000.0,
            begun.elapsed().as_millis()
        ));
        let until = clients.done() + ENOUGH;
        until_within("clients are served", Duration::from_secs(60), || {
            (clients.done() >= until).then_some(())
        });
    }
    let done = clients.done();
    let (diaries, clock) = clients.stop();
    let healed = world.until_replicas_are_the_same();
    let (refused, unknown) = judge(&world, diaries, &clock, seed);
    assert!(refused > 0, "the lesser halves had clients");
    say(&format!(
        "  halves: {done} operations, {refused} refused, {unknown} unknown; the replicas were the same \
         after {} ms; seed {seed}",
        healed.as_millis()
    ));
}
