//! Do the pure machines keep their promises, whatever the network, the clocks and the machines do?
//!
//! A run steps [`ClusterState`](ringway::cluster::ClusterState), leases and verdicts of some nodes
//! in a small discrete-event loop: no threads, no real time, no I/O. One seed rebuilds a run, and a
//! run has two parts: faults first, in which nothing wrong may happen (safety), then healing, after
//! which everybody must serve again (liveness).
//!
//! | file | what is in it |
//! |---|---|
//! | `world` | the queue of events, the network, the run |
//! | `faults` | what goes wrong: stops, sleep, divisions, lag, crashes, copies, clocks, shards |
//! | `group`, `consensus` | Raft as an abstract log |
//! | `process`, `leases`, `operations`, `steward` | the runners of a node's machines |
//! | `clock` | each machine's own clocks, wrong by up to a twentieth |
//! | `invariants/` | what must hold, one file each |
//! | `rules` | the rules, each of which can be switched off |
//! | `replicas/` | another world: stores that keep replicas, and proxies that read and write them |
//!
//! A simulator that finds nothing may be blind. So each rule is switched off in turn, in the
//! driver, and the run must then be caught by a checker.
//!
//! `RINGWAY_SIM_SEED=7 cargo test --test sim one_seed -- --nocapture` prints one run;
//! `RINGWAY_SIM_SEEDS=10000` says how many are tried.

mod clock;
mod consensus;
mod faults;
mod group;
#[path = "../history/mod.rs"]
mod history;
mod invariants;
mod leases;
mod operations;
mod process;
mod replicas;
mod rules;
mod steward;
mod trace;
mod world;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use rules::{Rule, Rules};
use world::{Coverage, Outcome, Violation, run};

/// What a developer waits for with every `cargo test`.
const SEEDS: u64 = 300;

/// How many seeds a scenario that is meant to break may need.
const BROKEN_SEEDS_MAX: u64 = 1_000;

/// What must happen in some run at least: runs in which nothing happens would pass as well.
const HAPPENS: [&str; 23] = [
    "barrier passed",
    "crash",
    "denied: below floor",
    "denied: clock skew",
    "denied: no quorum",
    "denied: not leader",
    "denied: not ready",
    "denied: superseded",
    "denied: unknown",
    "deposed leader heard of it",
    "division",
    "election",
    "granted",
    "lease of another length",
    "node removed",
    "operation acknowledged",
    "operation refused",
    "operation unknown",
    "pool removed",
    "proposal lost",
    "stale pin",
    "verdict",
    "zombie",
];

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number of seeds, or a seed"))
}

fn passes(seed: u64) -> Outcome {
    let outcome = run(seed, Rules::ALL, false);
    if let Some(violation) = &outcome.violation {
        panic!("seed {seed}: {violation}\nlook at it with RINGWAY_SIM_SEED={seed}");
    }
    outcome
}

/// Does something with every seed, on all processors.
fn with_each<T: Send>(seeds: u64, act: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return done;
            }
            done.push(act(seed));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no seed fails")).collect()
    })
}

#[test]
fn one_seed() {
    if let Some(seed) = number_from("RINGWAY_SIM_SEED") {
        let outcome = run(seed, Rules::ALL, true);
        assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
    }
}

#[test]
fn no_rule_is_ever_broken() {
    let seeds = number_from("RINGWAY_SIM_SEEDS").unwrap_or(SEEDS);
    let mut coverage = Coverage::new();
    for outcome in with_each(seeds, passes) {
        for (what, count) in outcome.coverage {
            *coverage.entry(what).or_default() += count;
        }
    }
    println!("{coverage:#?}");
    let missing: Vec<_> = HAPPENS.iter().filter(|what| !coverage.contains_key(**what)).collect();
    assert!(seeds < SEEDS || missing.is_empty(), "never in {seeds} runs: {missing:?}");
}

#[test]
fn a_seed_is_a_run() {
    let digests: BTreeSet<u64> = (0..20)
        .map(|seed| {
            let digest = passes(seed).digest;
            assert_eq!(passes(seed).digest, digest, "seed {seed} is two runs");
            digest
        })
        .collect();
    assert_eq!(digests.len(), 20, "the digest tells runs apart");
}

/// Each rule is switched off in turn. A scenario passes only when one of the checkers that the rule
/// is there for catches it.
#[test]
fn without_a_rule_something_breaks() {
    let rules = u64::try_from(Rule::ALL.len()).expect("a few rules");
    let caught = with_each(rules, |at| {
        let rule = Rule::ALL[usize::try_from(at).expect("a few rules")];
        (rule, caught_without(rule))
    });
    for (rule, caught) in &caught {
        match caught {
            Some((seed, violation)) => println!("without {rule:?}: seed {seed}: {violation}"),
            None => println!("without {rule:?}: nothing"),
        }
    }
    assert!(caught.iter().all(|(_, caught)| caught.is_some()), "some rule is not watched");
}

/// The first seed that breaks without the rule, and how.
fn caught_without(rule: Rule) -> Option<(u64, Violation)> {
    let by: &[&str] = match rule {
        Rule::MajorityOfHolders => &["majority"],
        _ => &["acknowledgements", "floors"],
    };
    (0..BROKEN_SEEDS_MAX).find_map(|seed| {
        let violation = run(seed, Rules::without(rule), false).violation?;
        by.contains(&violation.of).then_some((seed, violation))
    })
}
