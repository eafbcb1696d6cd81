//! A second shard, asked besides the first.

use super::Does::{Breaks, Says, SaysAfter, SaysAndTells, SaysAndWaits, Waits, WaitsForReset};
use super::*;

/// Settings in which nothing but a hedge ends a wait; it is sent soon.
fn hedging() -> PoolSettings {
    let mut settings = settings();
    settings.timeouts.response_head = Duration::from_secs(3600);
    settings.retry.hedge_after = Some(Duration::from_millis(20));
    settings
}

/// Hedges sent and won.
fn hedges(pool: &Pool) -> (u64, u64) {
    (pool.metrics.rq_hedge.sum(), pool.metrics.rq_hedge_won.sum())
}

async fn shards(owner: Vec<Does>, next: Vec<Does>) -> (Shard, Shard) {
    (Shard::start(Vec::leak(owner)).await, Shard::start(Vec::leak(next)).await)
}

fn told() -> &'static Notify {
    Box::leak(Box::default())
}

#[tokio::test]
async fn a_silent_shard_is_cut_off_when_another_answers() {
    let cut = told();
    let (owner, next) = shards(vec![WaitsForReset(cut)], vec![Says(OK), Says(OK)]).await;
    let (view, token) = view(&owner, &next, (false, Mode::Any), &hedging());
    let worker = Worker::new(0, Instant::now());
    let pool = &view.pools[0];
    let (result, note) = put(&worker, pool, token, "GET").await;
    assert_eq!(word(&result, &note), "200 by the next");
    assert_eq!((note.attempts, note.owes_head), (2, false));
    assert_eq!((note.shard, note.upstream_status), (Some(0), 200), "the next is the first by id");
    assert_eq!((hedges(pool), pool.budget.repeats()), ((1, 1), 0));
    assert!(pool.shards.iter().all(|shard| shard.in_flight() == 0));
    cut.notified().await;
    // The winner's connection goes on: its shard has but one.
    let (result, note) = put(&worker, pool, token, "GET").await;
    assert_eq!(word(&result, &note), "200 by the next");
}

/// The first shard's word counts, whatever it is; the second's only if it has what was asked for,
/// or if the first has failed.
#[tokio::test]
async fn what_a_second_shard_has_not_found_the_first_may_find() {
    let spoken = || told();
    for (owner, next, expected, count) in [
        // What it says is held until the first has spoken, or has failed.
        (SaysAfter(OK, spoken()), None, "200 by the owner", (1, 0)),
        (SaysAfter(UNAVAILABLE, spoken()), None, "503 by the owner", (1, 0)),
        (SaysAfter(GARBAGE, spoken()), None, "404 by the next", (1, 1)),
        // Both fail, and nobody is left.
        (SaysAfter(GARBAGE, spoken()), Some(GARBAGE), "BadAnswer", (1, 0)),
    ] {
        let SaysAfter(_, told) = owner else { unreachable!("as written above") };
        let next = SaysAndTells(next.unwrap_or(MISSING), told);
        let (owner, next) = shards(vec![owner], vec![next]).await;
        let (view, token) = view(&owner, &next, (false, Mode::Any), &hedging());
        let worker = Worker::new(0, Instant::now());
        let (result, note) = put(&worker, &view.pools[0], token, "GET").await;
        assert_eq!(word(&result, &note), expected);
        assert_eq!(hedges(&view.pools[0]), count, "{expected}");
        assert_eq!(next.asked.load(Ordering::Relaxed), 1, "{expected}");
    }
}

#[tokio::test]
async fn a_first_shard_that_fails_at_once_is_repeated_as_ever() {
    for (owner, expected) in [
        (vec![], "200 by the next"),
        (vec![Breaks], "200 by the next"),
        (vec![Says(OK)], "200 by the owner"),
    ] {
        let (owner, next) = shards(owner, vec![Says(OK)]).await;
        let mut settings = hedging();
        settings.retry.hedge_after = Some(Duration::from_secs(3600));
        let (view, token) = view(&owner, &next, (false, Mode::Any), &settings);
        let worker = Worker::new(0, Instant::now());
        let (result, note) = put(&worker, &view.pools[0], token, "GET").await;
        assert_eq!(word(&result, &note), expected);
        assert_eq!(hedges(&view.pools[0]), (0, 0));
    }
}

/// A connection that was kept alive and is closed under the request says nothing of the shard.
#[tokio::test]
async fn a_closed_connection_is_opened_again_by_a_hedge_too() {
    let script = vec![Says(OK), Breaks, Says(OK)];
    let (owner, next) = shards(script, vec![Says(OK)]).await;
    let mut settings = hedging();
    settings.retry.hedge_after = Some(Duration::from_secs(3600));
    let (view, token) = view(&owner, &next, (false, Mode::Any), &settings);
    let worker = Worker::new(0, Instant::now());
    for _ in 0..2 {
        let (result, note) = put(&worker, &view.pools[0], token, "GET").await;
        assert_eq!(word(&result, &note), "200 by the owner");
    }
    assert_eq!(owner.asked.load(Ordering::Relaxed), 3);
}

/// Only reads, only where one more attempt is allowed, only within the budget.
#[tokio::test]
async fn a_hedge_is_sent_where_a_repeat_is_allowed() {
    for (method, attempts_max, budget, expected) in [
        ("GET", 3, 1, "200 by the next"),
        ("HEAD", 3, 1, "200 by the next"),
        ("GET", 1, 1, "HeadTimeout"),
        ("GET", 3, 0, "HeadTimeout"),
        ("PUT", 3, 1, "HeadTimeout"),
        ("POST", 3, 1, "HeadTimeout"),
    ] {
        let (owner, next) = shards(vec![Waits], vec![Says(OK)]).await;
        let mut settings = hedging();
        settings.retry.attempts_max = attempts_max;
        (settings.retry.budget_min, settings.retry.budget_percent) = (budget, 0);
        if expected == "HeadTimeout" {
            settings.timeouts.response_head = Duration::from_millis(100);
        }
        let (view, token) = view(&owner, &next, (true, Mode::Any), &settings);
        let worker = Worker::new(0, Instant::now());
        let (result, note) = put(&worker, &view.pools[0], token, method).await;
        assert_eq!(word(&result, &note), expected, "{method} {attempts_max} {budget}");
        let sent = u64::from(expected != "HeadTimeout");
        assert_eq!(hedges(&view.pools[0]), (sent, sent), "{method} {attempts_max} {budget}");
    }
}

/// A pool that had one shard, `next`, before `owner` came.
fn joined(owner: &Shard, next: &Shard, settings: &PoolSettings) -> (View, Token) {
    let of = (true, Mode::Any);
    let settings_of = |_: &_| Arc::new(settings.clone());
    let before = View::build(topology(&[("next", next)], of), None, 1, settings_of);
    let (alone, token) = view(owner, next, of, settings);
    (View::build(Arc::clone(&alone.topology), Some(&before), 1, settings_of), token)
}

/// The owner's answer was in hand, and a former owner that hung held it for half a minute.
#[tokio::test]
async fn a_former_owner_that_hangs_does_not_hold_the_owners_answer() {
    let (owner, next) = shards(vec![Says(MISSING)], vec![Waits]).await;
    let mut settings = PoolSettings { warm_up: Some(Duration::from_secs(3600)), ..settings() };
    settings.timeouts.response_head = Duration::from_secs(3600);
    let (view, token) = joined(&owner, &next, &settings);
    let (worker, pool) = (Worker::new(0, Instant::now()), &view.pools[0]);
    let asking = put(&worker, pool, token, "GET");
    let answered = tokio::time::timeout(Duration::from_secs(60), asking).await;
    let (result, note) = answered.expect("long before the former owner's own time is over");
    assert_eq!(word(&result, &note), "404 by the owner");
    assert_eq!((pool.metrics.warm_up.sum(), pool.metrics.warm_up_found.sum()), (1, 0));
    assert_eq!(next.asked.load(Ordering::Relaxed), 1, "it was asked");
}

#[tokio::test]
async fn what_a_new_shard_has_not_found_the_former_owner_may_find() {
    let window = Some(Duration::from_secs(3600));
    let none: fn() -> Vec<Does> = Vec::new;
    for (warm_up, method, owner, next, budget, expected, count) in [
        (window, "GET", vec![Says(MISSING)], vec![Says(OK)], 1, "200 by the next", (1, 1)),
        (window, "GET", vec![Says(OK)], vec![Says(OK)], 1, "200 by the owner", (0, 0)),
        // These are said of what is there.
        (
            window,
            "GET",
            vec![Says(MISSING)],
            vec![Says(CONDITION_FAILED)],
            1,
            "412 by the next",
            (1, 1),
        ),
        (
            window,
            "GET",
            vec![Says(MISSING)],
            vec![Says(BEYOND_ITS_END)],
            1,
            "416 by the next",
            (1, 1),
        ),
        // Whoever else does not have it, or cannot say: the owner's word counts.
        (window, "GET", vec![Says(MISSING)], vec![Says(MISSING)], 1, "404 by the owner", (1, 0)),
        (
            window,
            "GET",
            vec![Says(MISSING)],
            vec![Says(UNAVAILABLE)],
            1,
            "404 by the owner",
            (1, 0),
        ),
        (window, "GET", vec![Says(MISSING)], vec![Breaks], 1, "404 by the owner", (1, 0)),
        (window, "GET", vec![Says(MISSING)], none(), 1, "404 by the owner", (1, 0)),
        // Other errors of the owner are its answers, and other methods none of this.
        (window, "GET", vec![Says(UNAVAILABLE)], vec![Says(OK)], 1, "503 by the owner", (0, 0)),
        (window, "PUT", vec![Says(MISSING)], vec![Says(OK)], 1, "404 by the owner", (0, 0)),
        (window, "GET", vec![Says(MISSING)], vec![Says(OK)], 0, "404 by the owner", (0, 0)),
        (None, "GET", vec![Says(MISSING)], vec![Says(OK)], 1, "404 by the owner", (0, 0)),
    ] {
        let case = format!("{method} {owner:?} {next:?} {warm_up:?}");
        let (owner, next) = shards(owner, next).await;
        let mut settings = PoolSettings { warm_up, ..settings() };
        (settings.retry.budget_min, settings.retry.budget_percent) = (budget, 0);
        let (view, token) = joined(&owner, &next, &settings);
        let worker = Worker::new(0, Instant::now());
        let pool = &view.pools[0];
        let (result, note) = put(&worker, pool, token, method).await;
        assert_eq!(word(&result, &note), expected, "{case}");
        let found = (pool.metrics.warm_up.sum(), pool.metrics.warm_up_found.sum());
        assert_eq!((found, pool.budget.repeats()), (count, 0), "{case}");
        assert!(pool.shards.iter().all(|shard| shard.in_flight() == 0), "{case}");
    }
}

/// Interim answers are held with the answer that they belong to, and those of the other are dropped.
#[tokio::test]
async fn interim_answers_go_on_with_their_answer() {
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    const BOTH: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n\
                        HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (owner, expected, interims) in [
        (vec![Says(BOTH)], "200 by the owner", vec![103, 102]),
        (vec![SaysAndWaits(HINTS)], "200 by the next", vec![]),
    ] {
        let (owner, next) = shards(owner, vec![Says(OK)]).await;
        let mut settings = hedging();
        if expected.ends_with("owner") {
            settings.retry.hedge_after = Some(Duration::from_secs(3600));
        }
        let (view, token) = view(&owner, &next, (false, Mode::Any), &settings);
        let worker = Worker::new(0, Instant::now());
        let (result, note) = put(&worker, &view.pools[0], token, "GET").await;
        assert_eq!(word(&result, &note), expected);
        assert_eq!(result.expect("an answer").interims, interims, "{expected}");
    }
}
