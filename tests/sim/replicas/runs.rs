//! The runs of CI, and the scenarios that are meant to break.

use std::collections::BTreeSet;

use super::rules::{Rule, Rules};
use super::world::run;
use crate::world::{Coverage, Outcome, Violation};
use crate::{number_from, with_each};

/// What a developer waits for with every `cargo test`.
const SEEDS: u64 = 150;

/// How many seeds a scenario that is meant to break may need.
const BROKEN_SEEDS_MAX: u64 = 1_000;

/// What must happen in some run at least.
const HAPPENS: [&str; 23] = [
    "acknowledged",
    "collected",
    "copy",
    "division",
    "epoch",
    "filled",
    "hint",
    "hint settled",
    "lease lost",
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
    "unknown",
];

fn passes(seed: u64) -> Outcome {
    let outcome = run(seed, Rules::ALL, false);
    if let Some(violation) = &outcome.violation {
        panic!("seed {seed}: {violation}\nlook at it with RINGWAY_SIM_REPLICAS_SEED={seed}");
    }
    outcome
}

#[test]
fn one_seed_of_replicas() {
    if let Some(seed) = number_from("RINGWAY_SIM_REPLICAS_SEED") {
        let outcome = run(seed, Rules::ALL, true);
        assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
    }
}

#[test]
fn replicas_keep_what_was_acknowledged() {
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
fn a_seed_of_replicas_is_a_run() {
    let digests: BTreeSet<u64> = (0..10)
        .map(|seed| {
            let digest = passes(seed).digest;
            assert_eq!(passes(seed).digest, digest, "seed {seed} is two runs");
            digest
        })
        .collect();
    assert_eq!(digests.len(), 10, "the digest tells runs apart");
}

/// Each rule is switched off in turn. A scenario passes only when one of the checkers that the rule
/// is there for catches it.
#[test]
fn without_a_rule_of_replicas_something_breaks() {
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
        Rule::HintsAreNoAcks | Rule::DurableBeforeAnswer => &["visible", "linearizable"],
        Rule::OneVersion | Rule::RepairBeforeAnswer => &["linearizable"],
        Rule::AskBeforeChoosing | Rule::FreshProvesNothing => &["linearizable", "visible"],
        _ => &["linearizable", "deleted", "converged", "visible"],
    };
    (0..BROKEN_SEEDS_MAX).find_map(|seed| {
        let violation = run(seed, Rules::without(rule), false).violation?;
        by.contains(&violation.of).then_some((seed, violation))
    })
}
