//! How are the runs of a world made, and how is it shown that each of its rules is watched?
//!
//! There are two worlds, and one way to run either. A world says what a run is, which rules it has
//! and which checkers must notice that one is missing; the tests of each are four lines.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::world::{Coverage, Outcome, Violation};

/// How many seeds a scenario that is meant to break may need.
const BROKEN_SEEDS_MAX: u64 = 1_000;

/// All rules of a world, or all but one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules<R> {
    off: Option<R>,
}

impl<R: PartialEq> Rules<R> {
    pub const ALL: Self = Self { off: None };

    pub fn without(rule: R) -> Self {
        Self { off: Some(rule) }
    }

    pub fn keep(self, rule: R) -> bool {
        self.off != Some(rule)
    }
}

/// A world in which seeds are run.
pub trait World {
    /// Its rules, each of which can be switched off.
    type Rule: Copy + Debug + PartialEq + Send + Sync + 'static;

    /// What a developer waits for with every `cargo test`.
    const SEEDS: u64;

    /// The environment's name for the one seed that is printed.
    const SEED_FROM: &'static str;

    /// What must happen in some run at least: runs in which nothing happens would pass as well.
    const HAPPENS: &'static [&'static str];

    /// All of them.
    const RULES: &'static [Self::Rule];

    /// Runs a seed.
    fn run(seed: u64, rules: Rules<Self::Rule>, is_printed: bool) -> Outcome;

    /// The checkers that a rule is there for: one of them must notice when it is switched off.
    fn watched_by(rule: Self::Rule) -> &'static [&'static str];
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number of seeds, or a seed"))
}

fn passes<W: World>(seed: u64) -> Outcome {
    let outcome = W::run(seed, Rules::ALL, false);
    if let Some(violation) = &outcome.violation {
        panic!("seed {seed}: {violation}\nlook at it with {}={seed}", W::SEED_FROM);
    }
    outcome
}

/// Does something with every number, on all processors.
fn with_each<T: Send>(count: u64, act: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return done;
            }
            done.push(act(number));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no seed fails")).collect()
    })
}

/// Prints the run of the seed that the environment names, if it does.
pub fn show_the_seed_asked_for<W: World>() {
    if let Some(seed) = number_from(W::SEED_FROM) {
        let outcome = W::run(seed, Rules::ALL, true);
        assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
    }
}

/// Runs every seed; none may break, and everything must have happened.
pub fn every_seed_passes<W: World>() {
    let seeds = number_from("RINGWAY_SIM_SEEDS").unwrap_or(W::SEEDS);
    let mut coverage = Coverage::new();
    for outcome in with_each(seeds, passes::<W>) {
        for (what, count) in outcome.coverage {
            *coverage.entry(what).or_default() += count;
        }
    }
    println!("{coverage:#?}");
    let missing: Vec<_> = W::HAPPENS.iter().filter(|what| !coverage.contains_key(**what)).collect();
    assert!(seeds < W::SEEDS || missing.is_empty(), "never in {seeds} runs: {missing:?}");
}

/// Runs so many seeds twice: a seed is a run, and no other seed's.
pub fn seeds_are_runs<W: World>(seeds: u64) {
    let digests: BTreeSet<u64> = (0..seeds)
        .map(|seed| {
            let digest = passes::<W>(seed).digest;
            assert_eq!(passes::<W>(seed).digest, digest, "seed {seed} is two runs");
            digest
        })
        .collect();
    assert_eq!(digests.len() as u64, seeds, "the digest tells runs apart");
}

/// Switches each rule off in turn. A scenario passes only when one of the checkers that the rule is
/// there for catches it.
pub fn each_rule_is_watched<W: World>() {
    let caught = with_each(W::RULES.len() as u64, |at| {
        let rule = W::RULES[usize::try_from(at).expect("a few rules")];
        (rule, caught_without::<W>(rule))
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
fn caught_without<W: World>(rule: W::Rule) -> Option<(u64, Violation)> {
    let by = W::watched_by(rule);
    (0..BROKEN_SEEDS_MAX).find_map(|seed| {
        let violation = W::run(seed, Rules::without(rule), false).violation?;
        by.contains(&violation.of).then_some((seed, violation))
    })
}
