//! Does the machine come to what a naive reading of the same replies says, in whatever order, however
//! late and however often they come?

use std::collections::BTreeSet;

use super::*;
use crate::ids::{Incarnation, NodeId};
use crate::version::Stamp;

const NOW_MS: u64 = 1_000_000;

fn v(ms: u64) -> Version {
    Version { stamp: Stamp::of_ms(ms), ..Version::NONE }
}

fn proposer() -> Proposer {
    Proposer { node: NodeId(3), incarnation: Incarnation(1), worker: 0 }
}

/// A reply, or what happens at the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Staged(usize, u64),
    StageFailed(usize),
    Committed(usize, Effect),
    CommitFailed(usize, Fault),
    LeaseEnds,
    Cancel,
    TimeIsUp,
}

/// A machine, what it was told and what it has said.
#[derive(Debug)]
struct Run {
    write: Write,
    clock: HybridClock,
    has_lease: bool,
    said: Vec<Output>,
}

impl Run {
    fn new(level: Level, kind: Kind, replicas: Replicas) -> Self {
        let write = Write::new(level, kind, replicas, proposer()).expect("enough are up");
        let mut run = Self { write, clock: HybridClock::default(), has_lease: true, said: vec![] };
        run.drain();
        run
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Staged(replica, newest_ms) => self.write.staged(replica, v(newest_ms)),
            Input::StageFailed(replica) => self.write.stage_failed(replica),
            Input::Committed(replica, effect) => {
                self.write.committed(replica, effect, v(NOW_MS));
            }
            Input::CommitFailed(replica, fault) => self.write.commit_failed(replica, fault),
            Input::LeaseEnds => self.has_lease = false,
            Input::Cancel => self.write.cancel(),
            Input::TimeIsUp => self.write.time_is_up(),
        }
        self.drain();
    }

    fn drain(&mut self) {
        let mut turns = 0;
        while let Some(output) = self.write.poll(&mut self.clock, NOW_MS) {
            match output {
                Output::CheckLease if self.has_lease => self.write.lease_held(),
                Output::CheckLease => self.write.lease_lost(),
                said => self.said.push(said),
            }
            turns += 1;
            assert!(turns < 100, "it comes to rest: {:?}", self.said);
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        let told = self.said.iter().filter_map(|said| match said {
            Output::Done(outcome) => Some(*outcome),
            _ => None,
        });
        let told: Vec<Outcome> = told.collect();
        assert!(told.len() <= 1, "told once: {told:?}");
        assert_eq!(told.first().copied(), self.write.outcome());
        told.first().copied()
    }

    fn hinted(&self) -> Set {
        let hinted = self.said.iter().filter_map(|said| match said {
            Output::Hint { replica, .. } => Some(*replica),
            _ => None,
        });
        hinted.collect()
    }

    /// Those that were sent something of the second round.
    fn committed_to(&self) -> Vec<usize> {
        let sent = self.said.iter().flat_map(|said| match said {
            Output::Commit { to, .. } | Output::Remove { to, .. } | Output::Put { to, .. } => {
                to.iter().collect()
            }
            _ => vec![],
        });
        sent.collect()
    }
}

/// What a naive reader makes of a quorum PUT: he keeps everything and looks through it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naive {
    Open,
    Acknowledged(usize),
    NotApplied,
    Unknown,
}

/// Reads replies one by one. Commits go to whoever has staged, at the moment when enough have.
fn naive(level: Level, replicas: Replicas, inputs: &[Input]) -> Naive {
    let everybody: BTreeSet<usize> = (0..replicas.count).collect();
    let up: BTreeSet<usize> = replicas.up.iter().collect();
    let most = replicas.count / 2 + 1;
    let level_needs = if level == Level::All { replicas.count } else { most };
    let mut is_committed = false;
    let mut has_lease = true;
    let (mut staged, mut unstaged) = (BTreeSet::new(), BTreeSet::new());
    let (mut acked, mut lost, mut touched) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut idle = BTreeSet::new();
    for input in inputs {
        match *input {
            Input::Staged(at, _) if up.contains(&at) => {
                staged.insert(at);
            }
            Input::StageFailed(at) if !staged.contains(&at) => {
                unstaged.insert(at);
            }
            Input::Committed(at, Effect::Forgotten) if is_committed && staged.contains(&at) => {
                lost.insert(at);
                idle.insert(at);
            }
            Input::Committed(at, _) if is_committed && staged.contains(&at) => {
                acked.insert(at);
                touched.insert(at);
            }
            Input::CommitFailed(at, fault) if is_committed && staged.contains(&at) => {
                lost.insert(at);
                if fault == Fault::NotDone {
                    idle.insert(at);
                } else if !acked.contains(&at) {
                    touched.insert(at);
                }
            }
            Input::LeaseEnds => has_lease = false,
            Input::Cancel if !is_committed => return Naive::NotApplied,
            Input::TimeIsUp if !is_committed => return Naive::NotApplied,
            Input::TimeIsUp => {
                let is_nothing_done =
                    touched.is_empty() && staged.iter().all(|at| idle.contains(at));
                return if is_nothing_done { Naive::NotApplied } else { Naive::Unknown };
            }
            _ => {}
        }
        if !is_committed {
            let knowing = staged.iter().filter(|at| !replicas.fresh.contains(**at)).count();
            is_committed = staged.len() >= level_needs && knowing >= most;
            if is_committed && !has_lease {
                return Naive::NotApplied;
            }
            let may: BTreeSet<usize> = up
                .iter()
                .filter(|at| staged.contains(at) || !unstaged.contains(at))
                .copied()
                .collect();
            let may_know = may.iter().filter(|at| !replicas.fresh.contains(**at)).count();
            if may.len() < level_needs || may_know < most {
                return Naive::NotApplied;
            }
        }
        if acked.len() >= level_needs {
            return if has_lease { Naive::Acknowledged(acked.len()) } else { Naive::Unknown };
        }
        let is_out = |at: &usize| {
            let never_staged = !up.contains(at) || (unstaged.contains(at) && !staged.contains(at));
            never_staged || lost.contains(at)
        };
        let hopes = everybody.iter().filter(|at| acked.contains(at) || !is_out(at)).count();
        if hopes < level_needs {
            let is_nothing_done = touched.is_empty() && staged.iter().all(|at| idle.contains(at));
            return if is_nothing_done { Naive::NotApplied } else { Naive::Unknown };
        }
    }
    Naive::Open
}

fn any_input(rng: &mut fastrand::Rng, replicas: usize) -> Input {
    let at = rng.usize(0..replicas);
    match rng.u8(0..40) {
        0..14 => Input::Staged(at, rng.u64(1..900)),
        14..17 => Input::StageFailed(at),
        17..24 => Input::Committed(at, Effect::Applied),
        24..29 => Input::Committed(at, Effect::Superseded),
        29..31 => Input::Committed(at, Effect::Forgotten),
        31..34 => Input::CommitFailed(at, Fault::Unknown),
        34..36 => Input::CommitFailed(at, Fault::NotDone),
        36 => Input::LeaseEnds,
        37 => Input::Cancel,
        _ => Input::TimeIsUp,
    }
}

/// A pool, and replies in any order, some of them several times.
fn any_case(rng: &mut fastrand::Rng) -> (Level, Replicas, Vec<Input>) {
    loop {
        let count = rng.usize(1..=5);
        let some = |rng: &mut fastrand::Rng, percent: u8| -> Set {
            (0..count).filter(|_| rng.u8(0..100) < percent).collect()
        };
        let replicas = Replicas { count, up: some(rng, 85), fresh: some(rng, 10) };
        let level = if rng.u8(0..4) == 0 { Level::All } else { Level::Quorum };
        if replicas.suffice(level, replicas.up).is_ok() {
            let inputs = (0..rng.usize(1..24)).map(|_| any_input(rng, count)).collect();
            return (level, replicas, inputs);
        }
    }
}

#[test]
fn the_outcome_is_what_a_naive_reader_finds() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut seen = [0; 4];
    for _ in 0..5_000 {
        let (level, replicas, inputs) = any_case(&mut rng);
        let mut run = Run::new(level, Kind::Put { is_held: false }, replicas);
        for (at, input) in inputs.iter().enumerate() {
            run.take(*input);
            let told = run.outcome();
            let found = match told {
                None => Naive::Open,
                Some(Outcome::Acknowledged { acks, .. }) => Naive::Acknowledged(acks),
                Some(Outcome::NotApplied(_)) => Naive::NotApplied,
                Some(Outcome::Unknown(_)) => Naive::Unknown,
            };
            let expected = naive(level, replicas, &inputs[..=at]);
            assert_eq!(found, expected, "{level} {replicas:?} {:?}", &inputs[..=at]);
            let kind = match found {
                Naive::Open => 0,
                Naive::Acknowledged(_) => 1,
                Naive::NotApplied => 2,
                Naive::Unknown => 3,
            };
            seen[kind] += usize::from(told.is_some() || kind == 0);
        }
    }
    assert!(seen.iter().all(|count| *count > 300), "each outcome is met: {seen:?}");
}

#[test]
fn what_is_said_keeps_the_rules() {
    let mut rng = fastrand::Rng::with_seed(2);
    for _ in 0..5_000 {
        let (level, replicas, mut inputs) = any_case(&mut rng);
        inputs.push(Input::TimeIsUp);
        let mut run = Run::new(level, Kind::Put { is_held: false }, replicas);
        let mut newest_ms = 0;
        let mut staged = Set::EMPTY;
        for input in &inputs {
            let before = run.committed_to();
            if let Input::Staged(at, ms) = *input
                && replicas.up.contains(at)
            {
                staged.insert(at);
                if before.is_empty() {
                    newest_ms = newest_ms.max(ms);
                }
            }
            run.take(*input);
            if before.is_empty() && !run.committed_to().is_empty() {
                assert!(staged.len() >= majority(replicas.count) && replicas.knows(staged));
                assert!(run.write.version().expect("chosen") > v(newest_ms), "above what is held");
            }
        }
        let context = || format!("{level} {replicas:?} {inputs:?} {:?}", run.said);
        // One version for ever, no commit twice, and none to who has not staged.
        let versions: BTreeSet<Version> = run.said.iter().filter_map(version_of).collect();
        assert!(versions.len() <= 1, "{}", context());
        let sent = run.committed_to();
        let distinct: BTreeSet<usize> = sent.iter().copied().collect();
        assert_eq!(sent.len(), distinct.len(), "{}", context());
        assert!(distinct.iter().all(|at| staged.contains(*at)), "{}", context());
        // Whoever has not acknowledged got a hint, once; of what is not applied nobody is told more.
        let missing = replicas.every().without(run.write.acks());
        let hints = run.said.iter().filter(|said| matches!(said, Output::Hint { .. })).count();
        assert_eq!(hints, run.hinted().len(), "{}", context());
        match run.outcome().expect("time is up") {
            Outcome::NotApplied(_) => {
                let aborted = run.said.iter().any(|said| matches!(said, Output::Abort { .. }));
                assert!(aborted, "stages are dropped: {}", context());
            }
            _ => assert_eq!(missing.without(run.hinted()), Set::EMPTY, "{}", context()),
        }
        assert_eq!(run.write.owed(), Set::EMPTY);
    }
}

fn version_of(said: &Output) -> Option<Version> {
    match said {
        Output::Commit { version, .. }
        | Output::Put { version, .. }
        | Output::Remove { version, .. }
        | Output::Copy { version, .. }
        | Output::Hint { version, .. }
        | Output::Done(Outcome::Acknowledged { version, .. }) => Some(*version),
        _ => None,
    }
}

/// A reply that comes again, at any later time, changes nothing of what is told or sent.
#[test]
fn repeats_change_nothing() {
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..4_000 {
        let (level, replicas, inputs) = any_case(&mut rng);
        let mut run = Run::new(level, Kind::Put { is_held: true }, replicas);
        let mut again = Run::new(level, Kind::Put { is_held: true }, replicas);
        let mut heard: Vec<Input> = Vec::new();
        for input in &inputs {
            run.take(*input);
            again.take(*input);
            // What was of no effect when it first came, since nothing was sent yet, is no repeat.
            let is_reply = match input {
                Input::Staged(at, _) | Input::StageFailed(at) => replicas.up.contains(*at),
                Input::Committed(at, _) | Input::CommitFailed(at, _) => {
                    run.committed_to().contains(at)
                }
                _ => false,
            };
            if is_reply {
                heard.push(*input);
            }
            for _ in 0..rng.usize(0..3) {
                if let Some(repeat) = rng.choice(&heard)
                    && !is_overtaken(*repeat, &heard)
                {
                    again.take(*repeat);
                }
            }
        }
        assert_eq!(run.said, again.said, "{level} {replicas:?} {inputs:?}");
    }
}

/// A late failure of what has come since tells something new only if nothing better was heard:
/// then it is no repeat but the second failure.
fn is_overtaken(repeat: Input, heard: &[Input]) -> bool {
    let last_of = |replica: usize| {
        heard.iter().rposition(|input| match input {
            Input::Staged(at, _) | Input::StageFailed(at) => *at == replica,
            Input::Committed(at, _) | Input::CommitFailed(at, _) => *at == replica,
            _ => false,
        })
    };
    match repeat {
        Input::StageFailed(at)
        | Input::CommitFailed(at, _)
        | Input::Committed(at, Effect::Forgotten) => {
            last_of(at).is_some_and(|last| heard[last] != repeat)
        }
        _ => false,
    }
}

#[test]
fn too_few_are_refused_before_anything_is_sent() {
    let two_down = Replicas { up: Set::only(1), ..Replicas::all_up(3) };
    let put = Kind::Put { is_held: true };
    for (level, is_taken) in [(Level::One, true), (Level::Quorum, false), (Level::All, false)] {
        assert_eq!(Write::new(level, put, two_down, proposer()).is_ok(), is_taken, "{level}");
    }
}

#[test]
fn a_version_from_the_far_future_is_not_followed() {
    let mut run = Run::new(Level::Quorum, Kind::Delete, Replicas::all_up(3));
    run.take(Input::Staged(0, NOW_MS + 5_001));
    run.take(Input::Staged(1, 1));
    assert_eq!(run.outcome(), Some(Outcome::NotApplied(Reason::ClockBehind)));
    assert_eq!(run.clock.next(NOW_MS).unix_ms(), NOW_MS, "the clock is where it was");
}

#[test]
fn a_held_body_is_given_to_whoever_lost_its_stage() {
    let mut run = Run::new(Level::Quorum, Kind::Put { is_held: true }, Replicas::all_up(3));
    for input in [
        Input::Staged(0, 1),
        Input::Staged(1, 1),
        Input::CommitFailed(0, Fault::NotStaged),
        Input::CommitFailed(0, Fault::NotStaged),
        Input::CommitFailed(1, Fault::NotStaged),
    ] {
        run.take(input);
    }
    let version = run.write.version().expect("chosen");
    let copies: Vec<_> =
        run.said.iter().filter(|said| matches!(said, Output::Copy { .. })).collect();
    let copy = |to| Output::Copy { version, to, from: Set::EMPTY };
    assert_eq!(copies, [&copy(0), &copy(1)]);
    assert_eq!(run.outcome(), None, "an order is no acknowledgement");
    run.take(Input::Committed(0, Effect::Applied));
    run.take(Input::Committed(1, Effect::Applied));
    assert_eq!(run.outcome(), Some(Outcome::Acknowledged { version, acks: 2 }));
}

/// A key of the same slot was deleted and collected while the commits were under way: two of the
/// replicas refuse the write and hold nothing of its key. They once counted as acknowledgements, as
/// if somebody had overwritten it, and the client was told that it was done.
#[test]
fn what_is_refused_for_a_watermark_is_not_acknowledged() {
    let staged = [Input::Staged(0, 1), Input::Staged(1, 1), Input::Staged(2, 1)];
    let run = |answers: &[Input]| {
        let mut run = Run::new(Level::Quorum, Kind::Put { is_held: true }, Replicas::all_up(3));
        staged.iter().chain(answers).for_each(|input| run.take(*input));
        run.outcome()
    };
    let [zero, one, two] = [0, 1, 2].map(|at| Input::Committed(at, Effect::Forgotten));
    assert_eq!(run(&[one, one]), None, "one of three may be missing");
    let has_it = Input::Committed(0, Effect::Applied);
    let unknown = Some(Outcome::Unknown(Reason::Forgotten));
    assert_eq!(run(&[has_it, one, two]), unknown, "who has it may give it to others");
    assert_eq!(run(&[one, two]), unknown, "the third may have taken it");
    let refused = [zero, one, two];
    let told = run(&refused);
    assert_eq!(told, unknown, "told when two were sure, and the third was not");
    // Where all have refused before anything is told, nothing was done.
    let mut run = Run::new(Level::One, Kind::Put { is_held: true }, Replicas::all_up(3));
    refused.iter().for_each(|input| run.take(*input));
    assert_eq!(run.outcome(), Some(Outcome::NotApplied(Reason::Forgotten)));
    // It was somebody's else that was newer.
    let mut run = Run::new(Level::One, Kind::Put { is_held: true }, Replicas::all_up(3));
    [zero, Input::Committed(2, Effect::Superseded)].iter().for_each(|input| run.take(*input));
    assert!(matches!(run.outcome(), Some(Outcome::Acknowledged { acks: 1, .. })));
}
