//! The runs that are tried each time.

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use super::disk::Harm;
use super::world::{Disks, Run, run};

/// How many runs are tried.
const SEEDS: u64 = 20;

/// Runs at once: each is one thread.
const AT_ONCE: usize = 2;

fn judged(seed: u64) -> Run {
    let started = Instant::now();
    let run = run(seed, Disks::Honest);
    println!(
        "seed {seed}: {:.1?}, {:?} acknowledged, not done, unknown; {} terms with a leader, {} \
         snapshots installed, {:?}",
        started.elapsed(),
        run.outcomes,
        run.leaders,
        run.installed,
        run.harm
    );
    if run.wrong.is_empty() {
        return run;
    }
    let (trace, wrong) = (run.trace.join("\n"), run.wrong.join("\n"));
    panic!("{trace}\nseed {seed} (RINGWAY_SEED={seed} runs it alone):\n{wrong}");
}

#[test]
fn whatever_fails_the_group_keeps_its_word() {
    if let Some(seed) = std::env::var("RINGWAY_SEED").ok().and_then(|text| text.parse().ok()) {
        return println!("{}", judged(seed).trace.join("\n"));
    }
    let seeds = Mutex::new(0..SEEDS);
    let next = || seeds.lock().expect("no run panics holding it").next();
    let runs = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    let run = judged(seed);
                    runs.lock().expect("no run panics holding it").push(run);
                }
            });
        }
    });
    // That the runs tried what they are there for: about half of what they usually do, since each
    // differs a little from the time before (`super::world`).
    let runs = runs.into_inner().expect("no run panicked");
    let mut harm = Harm::default();
    runs.iter().for_each(|run| harm += run.harm);
    let sum = |of: fn(&Run) -> usize| runs.iter().map(of).sum::<usize>() as u64;
    for (what, least, found) in [
        ("writes lost", 15, harm.lost),
        ("writes torn", 10, harm.torn),
        ("syncs that failed", 10, harm.failed_syncs),
        ("writes without room", 20, harm.full),
        ("proposals acknowledged", 7_000, sum(|run| run.outcomes[0])),
        ("outcomes unknown", 100, sum(|run| run.outcomes[2])),
        ("terms with a leader", 40, sum(|run| run.leaders)),
        ("snapshots installed", 2, sum(|run| run.installed)),
    ] {
        assert!(found >= least, "{found} {what}");
    }
}

/// Only where a seed reaches Tokio's own generator; see [`super::world`].
#[cfg(tokio_unstable)]
#[test]
fn one_seed_is_one_run() {
    for seed in [2, 3] {
        let [first, second] = [(), ()].map(|()| run(seed, Disks::Honest).trace);
        let differs = first.iter().zip(&second).position(|(one, other)| one != other);
        if let Some(at) = differs {
            let (first, second) = (first[..=at].join("\n"), &second[at]);
            panic!("{first}\nseed {seed} ran in two ways; the other one said\n{second}");
        }
        assert_eq!(first.len(), second.len());
    }
}

/// The same days on disks that only say that they have synced: what the oracle is worth.
#[test]
fn a_disk_that_lies_is_found_out() {
    let found = (0..3).find_map(|seed| run(seed, Disks::Lying).wrong.pop());
    let found = found.expect("an acknowledged change was lost, or a log damaged");
    println!("{found}");
}
