//! The runs that are tried each time.

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use super::disk::Harm;
use super::world::{AWAY_EACH, Disks, Run, run};

/// How many runs are tried.
const SEEDS: u64 = 20;

/// Runs at once: each is one thread.
const AT_ONCE: usize = 2;

/// The seed that whoever looks into a failure wants to see.
fn asked_for() -> Option<u64> {
    std::env::var("RINGWAY_SEED").ok()?.parse().ok()
}

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
    if let Some(seed) = asked_for() {
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
    // differs a little from the time before (`super::world`), but for what happens in a run for sure.
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
        ("snapshots installed", SEEDS / AWAY_EACH, sum(|run| run.installed)),
    ] {
        assert!(found >= least, "{found} {what}");
    }
}

/// Only where a seed reaches Tokio's own generator, and in processes of their own, since Tokio also
/// drops a runtime's tasks in an order that depends on how many the process has had; see
/// [`super::world`].
#[cfg(tokio_unstable)]
#[test]
fn one_seed_is_one_run() {
    use std::process::{Child, Command, Stdio};
    let start = |seed: u64| -> Child {
        Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "control::simulation::tests::whatever_fails_the_group_keeps_its_word",
            ])
            .arg("--nocapture")
            .env("RINGWAY_SEED", seed.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts")
    };
    let trace = |run: Child| -> Vec<String> {
        let told = run.wait_with_output().expect("it ends").stdout;
        let told = String::from_utf8(told).expect("text");
        let happened = |line: &&str| line.trim_start().starts_with(|at: char| at.is_ascii_digit());
        told.lines().filter(happened).map(str::to_owned).collect()
    };
    for seed in asked_for().map_or(vec![0, 2], |seed| vec![seed]) {
        let [first, second] = [start(seed), start(seed)].map(trace);
        assert!(first.len() > 100, "the run told what happened");
        let same = first.iter().zip(&second).take_while(|(one, other)| one == other).count();
        if same < first.len().max(second.len()) {
            let (first, second) = (first[same..].join("\n"), second[same..].join("\n"));
            panic!("seed {seed} ran in two ways after {same} lines:\n{first}\nand\n{second}");
        }
    }
}

/// The same days on disks that only say that they have synced: what the oracle is worth.
#[test]
fn a_disk_that_lies_is_found_out() {
    let found = (0..SEEDS).find_map(|seed| run(seed, Disks::Lying).wrong.pop());
    let found = found.expect("an acknowledged change was lost, or a log damaged");
    println!("{found}");
}
