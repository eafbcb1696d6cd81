//! Listing, while shards fail: all of the keys, or an error that says so.

use std::time::Duration;

use super::store::Does;
use super::{Bench, old, on_a_worker};
use crate::dispatch::kept::list::{Asked, Listed, list};
use crate::dispatch::outcome::{Failure, KeptFailure, Note};
use crate::level::Level;
use crate::protocol::quorum::{Reason, TooFew};

/// Each shard has more of these keys than it is asked for at once, so that listing them takes rounds.
const MANY: usize = 900;

fn key(number: usize) -> String {
    format!("k/{number:04}")
}

/// A pool whose keys are on the majorities that acknowledged them, each on another one; and one that
/// was deleted, which one replica has not heard of.
async fn bench(count: usize) -> Bench {
    let bench = Bench::new(Level::Quorum).await;
    for number in 0..count {
        for (at, store) in bench.stores.iter().enumerate() {
            if at != number % 3 {
                store.hold(&key(number), old(1), Some(b"x"));
            }
        }
    }
    for (at, store) in bench.stores.iter().enumerate() {
        let body: Option<&[u8]> = (at == 0).then_some(b"deleted since");
        store.hold("k/0007x", old(if at == 0 { 1 } else { 2 }), body);
        store.hold("other", old(1), Some(b"x"));
    }
    bench
}

async fn keys(bench: &Bench, limit: usize) -> Result<Vec<String>, Failure> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let timer = bench.worker.timers.register();
        let asked = Asked { prefix: "k/".to_owned(), delimiter: None, after, limit };
        let mut note = Note::default();
        let page = list(&bench.worker, &timer, &bench.pool, &asked, None, &mut note).await?;
        for line in page.lines {
            let Listed::Key(entry) = line else { panic!("there is no delimiter") };
            found.push(entry.key);
        }
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// All of the keys with one store that does so; a clear error with two.
async fn with_some_that_fail(bench: &Bench, does: Does, at: usize, limits: &[usize], count: usize) {
    let all: Vec<String> = (0..count).map(key).collect();
    let (store, other) = (&bench.stores[at], &bench.stores[(at + 1) % 3]);
    store.does(does);
    bench.worker.upstreams.clear();
    for limit in limits.iter().copied() {
        let found = keys(bench, limit).await.expect("two are a majority");
        assert!(found == all, "{does:?} at {at}: {} of {count}", found.len());
    }
    other.does(does);
    bench.worker.upstreams.clear();
    let refused = keys(bench, 300).await.expect_err("one is no majority");
    let too_few = TooFew { available: 1, needed: 2 };
    assert!(
        matches!(
            &refused,
            Failure::Kept(KeptFailure::NotApplied(Reason::TooFew(found), None)) if *found == too_few
        ),
        "{does:?}: {refused:?}"
    );
    other.does(Does::Well);
    store.does(Does::Well);
    bench.worker.upstreams.clear();
    assert!(keys(bench, 5_000).await.expect("all are there") == all, "{does:?}");
}

#[test]
fn a_listing_is_whole_with_a_majority_and_an_error_without() {
    on_a_worker(|| async {
        let bench = bench(MANY).await;
        for does in [Does::Breaks, Does::CutsBodies(2_000), Does::Garbles] {
            for at in 0..3 {
                with_some_that_fail(&bench, does, at, &[250, 5_000], MANY).await;
            }
        }
    });
}

#[test]
fn a_shard_that_hangs_holds_a_listing_up_and_takes_nothing_from_it() {
    on_a_worker(|| async {
        let mut bench = bench(20).await;
        // Long enough for those that do answer.
        bench.answer_within(Duration::from_secs(4));
        with_some_that_fail(&bench, Does::Deaf, 0, &[5_000], 20).await;
    });
}

/// A shard that fails between two stretches of one page takes nothing with it.
#[test]
fn a_shard_that_fails_in_the_middle_of_a_page_is_left_out_of_all_of_it() {
    on_a_worker(|| async {
        let bench = bench(MANY).await;
        let all: Vec<String> = (0..MANY).map(key).collect();
        // Of its stretches it gives the first.
        bench.stores[1].does(Does::BreaksFrom(1));
        assert!(keys(&bench, 5_000).await.expect("two are a majority") == all);
        assert!(bench.stores[1].state.borrow().asked.len() > 1, "it was asked for the next");
    });
}
