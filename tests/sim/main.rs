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
//! | `runner` | the runs of a world, and how each of its rules is shown to be watched |
//! | `replicas/` | another world: stores that keep replicas, and proxies that read and write them |
//!
//! A simulator that finds nothing may be blind. So each rule is switched off in turn, in the
//! driver, and the run must then be caught by a checker.
//!
//! `RINGWAY_SIM_SEED=7 cargo test --test sim one_seed -- --nocapture` prints one run;
//! `RINGWAY_SIM_SEEDS=10000` says how many are tried.

#![allow(clippy::print_stdout, reason = "what happened is read when a test fails")]

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
mod runner;
mod steward;
mod trace;
mod world;

use rules::{Rule, Rules};
use world::Outcome;

/// The world of nodes that agree, hold leases and give verdicts.
struct Agreement;

impl runner::World for Agreement {
    type Rule = Rule;

    const SEEDS: u64 = 300;
    const SEED_FROM: &'static str = "RINGWAY_SIM_SEED";
    const RULES: &'static [Rule] = &Rule::ALL;
    const HAPPENS: &'static [&'static str] = &[
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

    fn run(seed: u64, rules: Rules, is_printed: bool) -> Outcome {
        world::run(seed, rules, is_printed)
    }

    fn watched_by(rule: Rule) -> &'static [&'static str] {
        match rule {
            Rule::MajorityOfHolders => &["majority"],
            _ => &["acknowledgements", "floors"],
        }
    }
}

#[test]
fn one_seed() {
    runner::show_the_seed_asked_for::<Agreement>();
}

#[test]
fn no_rule_is_ever_broken() {
    runner::every_seed_passes::<Agreement>();
}

#[test]
fn a_seed_is_a_run() {
    runner::seeds_are_runs::<Agreement>(20);
}

#[test]
fn without_a_rule_something_breaks() {
    runner::each_rule_is_watched::<Agreement>();
}
