//! The runs that are tried each time.

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use super::disk::Harm;
use super::world::{Run, run};

/// How many runs are tried.
const SEEDS: u64 = 20;

/// Runs at once: a run is one thread.
const AT_ONCE: usize = 2;

fn judged(seed: u64) -> Run {
    let run = run(seed);
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
                    let started = Instant::now();
                    let run = judged(seed);
                    println!(
                        "seed {seed}: {:?}, {:?} acknowledged, not done, unknown; {} leaders, {} \
                         nodes with snapshots, {:?}",
                        started.elapsed(),
                        run.outcomes,
                        run.leaders,
                        run.snapshots,
                        run.harm
                    );
                    runs.lock().expect("no run panics holding it").push(run);
                }
            });
        }
    });
    // That the runs tried what they are there for.
    let runs = runs.into_inner().expect("no run panicked");
    let mut harm = Harm::default();
    runs.iter().for_each(|run| harm += run.harm);
    assert!(harm.lost > 20 && harm.torn > 5 && harm.failed_syncs > 5 && harm.full > 5, "{harm:?}");
    let sum = |of: fn(&Run) -> usize| runs.iter().map(of).sum::<usize>();
    let acknowledged = sum(|run| run.outcomes[0]);
    assert!(acknowledged > 1000, "{acknowledged} proposals were acknowledged");
    let leaders = sum(|run| run.leaders);
    assert!(leaders > 40, "{leaders} leaders");
}

#[test]
fn one_seed_is_one_run() {
    for seed in [3, 4] {
        let (first, second) = (run(seed).trace, run(seed).trace);
        let differs = first.iter().zip(&second).position(|(one, other)| one != other);
        if let Some(at) = differs {
            let around = at.saturating_sub(5)..(at + 2).min(first.len()).min(second.len());
            let (first, second) = (first[around.clone()].join("\n"), second[around].join("\n"));
            panic!("seed {seed} ran in two ways:\n{first}\nand\n{second}");
        }
        assert_eq!(first.len(), second.len());
    }
}
