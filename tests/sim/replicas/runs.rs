//! The runs of CI, and the scenarios that are meant to break.

use super::rules::{Rule, Rules};
use super::world;
use crate::runner;
use crate::world::Outcome;

/// The world of stores that keep replicas.
struct Replicas;

impl runner::World for Replicas {
    type Rule = Rule;

    const SEEDS: u64 = 150;
    const SEED_FROM: &'static str = "RINGWAY_SIM_REPLICAS_SEED";
    const RULES: &'static [Rule] = &Rule::ALL;
    const HAPPENS: &'static [&'static str] = &[
        "acknowledged",
        "collected",
        "copy",
        "damaged",
        "division",
        "epoch",
        "filled",
        "hint",
        "hint settled",
        "lease lost",
        "lost",
        "mended",
        "no answer",
        "not applied",
        "not staged",
        "proxy killed",
        "proxy stopped",
        "read",
        "read repair",
        "refused",
        "replaced",
        "replayed",
        "stale epoch",
        "superseded",
        "told of a loss",
        "unknown",
    ];

    fn run(seed: u64, rules: Rules, is_printed: bool) -> Outcome {
        world::run(seed, rules, is_printed)
    }

    fn watched_by(rule: Rule) -> &'static [&'static str] {
        match rule {
            Rule::HintsAreNoAcks | Rule::DurableBeforeAnswer => &["visible", "linearizable"],
            Rule::OneVersion | Rule::RepairBeforeAnswer => &["linearizable"],
            Rule::LossesAreTold => &["linearizable", "visible"],
            Rule::AskBeforeChoosing | Rule::FreshProvesNothing => &["linearizable", "visible"],
            _ => &["linearizable", "deleted", "converged", "visible"],
        }
    }
}

#[test]
fn one_seed_of_replicas() {
    runner::show_the_seed_asked_for::<Replicas>();
}

#[test]
fn replicas_keep_what_was_acknowledged() {
    runner::every_seed_passes::<Replicas>();
}

#[test]
fn a_seed_of_replicas_is_a_run() {
    runner::seeds_are_runs::<Replicas>(10);
}

#[test]
fn without_a_rule_of_replicas_something_breaks() {
    runner::each_rule_is_watched::<Replicas>();
}
