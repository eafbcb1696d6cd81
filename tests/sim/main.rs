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
mod invariants;
mod leases;
mod operations;
mod process;
mod rules;
mod steward;
mod trace;
mod world;

use rules::{Rule, Rules};
use world::{Coverage, Outcome, run};

/// What a developer waits for with every `cargo test`.
const SEEDS: u64 = 300;

/// How many seeds a scenario that is meant to break may need.
const BROKEN_SEEDS_MAX: u64 = 500;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number of seeds, or a seed"))
}

fn passes(seed: u64) -> Outcome {
    let outcome = run(seed, Rules::ALL, false);
    if let Some(violation) = &outcome.violation {
        panic!("{violation}\nlook at it with RINGWAY_SIM_SEED={seed}");
    }
    outcome
}

#[test]
fn one_seed() {
    if let Some(seed) = number_from("RINGWAY_SIM_SEED") {
        let outcome = run(seed, Rules::ALL, true);
        assert_eq!(outcome.violation, None);
    }
}

#[test]
fn no_rule_is_ever_broken() {
    let mut coverage = Coverage::new();
    for seed in 0..number_from("RINGWAY_SIM_SEEDS").unwrap_or(SEEDS) {
        for (what, count) in passes(seed).coverage {
            *coverage.entry(what).or_default() += count;
        }
    }
    println!("{coverage:#?}");
}

#[test]
fn a_seed_is_a_run() {
    for seed in 0..20 {
        assert_eq!(passes(seed).digest, passes(seed).digest, "seed {seed}");
    }
}

#[test]
fn without_a_rule_something_breaks() {
    let mut uncaught = Vec::new();
    for rule in Rule::ALL {
        let caught = (0..BROKEN_SEEDS_MAX)
            .find_map(|seed| Some((seed, run(seed, Rules::without(rule), false).violation?)));
        match caught {
            Some((seed, what)) => println!("without {rule:?}: seed {seed}: {what}"),
            None => uncaught.push(rule),
        }
    }
    assert_eq!(uncaught, [], "nothing was caught without these");
}
