//! Does a read answer the newest that a majority told, and only when a majority has it?

use super::*;
use crate::protocol::holding::{Decision, decide};
use crate::protocol::quorum::majority;
use crate::version::Stamp;

fn v(stamp: u64) -> Version {
    Version { stamp: Stamp(stamp), ..Version::NONE }
}

/// Replicas that answer when they are let, and what the machine has said.
#[derive(Debug)]
struct Run {
    read: Read,
    has_lease: bool,
    said: Vec<Output>,
    /// The repairs that were sent and not answered.
    repairs: Vec<(usize, Record)>,
}

impl Run {
    fn new(level: Level, replicas: Replicas) -> Self {
        let read = Read::new(level, replicas).expect("enough are up");
        let mut run = Self { read, has_lease: true, said: vec![], repairs: vec![] };
        run.drain();
        run
    }

    fn drain(&mut self) {
        let mut turns = 0;
        while let Some(output) = self.read.poll() {
            if let Output::Repair { record, to, .. } = output {
                self.repairs.extend(to.iter().map(|replica| (replica, record)));
            }
            match output {
                Output::CheckLease if self.has_lease => self.read.lease_held(),
                Output::CheckLease => self.read.lease_lost(),
                said => self.said.push(said),
            }
            turns += 1;
            assert!(turns < 100, "it comes to rest: {:?}", self.said);
        }
    }

    fn held(&mut self, replica: usize, held: Held) {
        self.read.held(replica, held);
        self.drain();
    }

    fn answer(&self) -> Option<Answer> {
        let told = self.said.iter().filter_map(|said| match said {
            Output::Done(answer) => Some(*answer),
            _ => None,
        });
        let told: Vec<Answer> = told.collect();
        assert!(told.len() <= 1, "told once");
        assert_eq!(told.first().copied(), self.read.outcome());
        told.first().copied()
    }
}

fn any_held(rng: &mut fastrand::Rng) -> Held {
    match rng.u8(0..6) {
        0 => Held::NOTHING,
        3 => Held::Damaged(v(2 * rng.u64(1..6) + 1)),
        1 => Held::Absent { watermark: v(rng.u64(1..6)) },
        2 => Held::Tombstone(v(2 * rng.u64(1..6))),
        _ => Held::Value(v(2 * rng.u64(1..6) + 1)),
    }
}

/// Replicas tell and take repairs in any order, some of them never; stores change nothing by
/// themselves. What is answered must be the newest of a majority, and a majority must have it.
#[test]
fn an_answer_is_the_newest_of_a_majority_and_a_majority_has_it() {
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut values, mut absences, mut none) = (0, 0, 0);
    for _ in 0..6_000 {
        let count = rng.usize(1..=5);
        let level = if rng.u8(0..4) == 0 { Level::All } else { Level::Quorum };
        let needed = if level == Level::All { count } else { majority(count) };
        let replicas = Replicas::all_up(count);
        let mut stores: Vec<Held> = (0..count).map(|_| any_held(&mut rng)).collect();
        let mut told: Vec<usize> = Vec::new();
        let mut run = Run::new(level, replicas);
        for _ in 0..rng.usize(1..30) {
            let at = rng.usize(0..count);
            match rng.u8(0..20) {
                0..10 => {
                    let is_first = !told.contains(&at) && run.answer().is_none();
                    run.held(at, stores[at]);
                    if is_first {
                        told.push(at);
                    }
                }
                10..17 if !run.repairs.is_empty() => {
                    let which = rng.usize(0..run.repairs.len());
                    let (at, record) = run.repairs[which];
                    let decision = decide(stores[at], record.version);
                    if decision == Decision::Apply {
                        stores[at] = match record.is_tombstone {
                            true => Held::Tombstone(record.version),
                            false => Held::Value(record.version),
                        };
                    }
                    run.read.repaired(at, decision.effect());
                    run.drain();
                }
                17 => {
                    run.read.failed(at);
                    run.read.repair_failed(at);
                    run.drain();
                }
                18 if rng.u8(0..4) == 0 => run.has_lease = false,
                19 if rng.u8(0..4) == 0 => {
                    run.read.time_is_up();
                    run.drain();
                }
                _ => {}
            }
            let Some(answer) = run.answer() else { continue };
            let newest = stores.iter().filter_map(|held| held.record()).max();
            let having =
                |version: Version| stores.iter().filter(|held| held.newest() >= version).count();
            // Of a value a watermark says nothing, and what is damaged cannot be given.
            let whole = |version: Version| {
                let has =
                    |held: &&Held| held.whole() >= Some(version) || held.record() > Some(version);
                stores.iter().filter(has).count()
            };
            match answer {
                Answer::Value { version, from } => {
                    values += 1;
                    assert!(whole(version) >= needed, "{stores:?} {:?}", run.said);
                    assert!(!from.is_empty());
                    assert!(from.iter().all(|at| stores[at] == Held::Value(version)));
                }
                Answer::Absent { deleted: Some(version) } => {
                    absences += 1;
                    assert!(having(version) >= needed, "{stores:?} {:?}", run.said);
                }
                Answer::Absent { deleted: None } => {
                    absences += 1;
                    let empty = stores.iter().filter(|held| held.record().is_none()).count();
                    assert!(empty >= needed, "{stores:?} {:?}", run.said);
                }
                Answer::None(_) => none += 1,
            }
            // No majority can have had anything newer than what was answered.
            if let (Some(newest), false) = (newest, matches!(answer, Answer::None(_))) {
                let answered = match answer {
                    Answer::Value { version, .. } => version,
                    Answer::Absent { deleted } => deleted.unwrap_or(Version::NONE),
                    Answer::None(_) => Version::NONE,
                };
                let newer = stores
                    .iter()
                    .filter(|held| held.record().is_some_and(|record| record > answered))
                    .count();
                assert!(newest <= answered || newer < majority(count), "{stores:?} {:?}", run.said);
            }
            break;
        }
    }
    assert!(values > 600 && absences > 300 && none > 100, "{values} {absences} {none}");
}

#[test]
fn what_is_late_or_repeated_changes_no_answer() {
    let mut run = Run::new(Level::Quorum, Replicas::all_up(3));
    run.held(0, Held::Value(v(5)));
    run.held(0, Held::Value(v(7)));
    run.read.repaired(2, Effect::Applied);
    run.read.repair_failed(1);
    assert_eq!(run.answer(), None, "one replica, however often, is no majority");
    run.held(1, Held::Value(v(5)));
    let from = Set::first(2);
    assert_eq!(run.answer(), Some(Answer::Value { version: v(5), from }));
    // The third has missed it, and is brought it all the same.
    run.held(2, Held::Value(v(3)));
    let record = Record { version: v(5), is_tombstone: false };
    let repair = Output::Repair { record, from, to: Set::only(2) };
    assert_eq!(run.said.last(), Some(&repair));
}

#[test]
fn a_fresh_replica_is_no_witness_of_an_absence() {
    let replicas = Replicas { fresh: Set::only(0), ..Replicas::all_up(3) };
    let mut run = Run::new(Level::Quorum, replicas);
    run.held(0, Held::NOTHING);
    run.held(1, Held::NOTHING);
    assert_eq!(run.answer(), None, "the third may have what the first has lost");
    run.held(2, Held::Value(v(5)));
    let record = Record { version: v(5), is_tombstone: false };
    let to = Set::first(2);
    assert_eq!(run.said.last(), Some(&Output::Repair { record, from: Set::only(2), to }));
    run.read.repaired(0, Effect::Applied);
    run.drain();
    let from = [0, 2].into_iter().collect();
    assert_eq!(run.answer(), Some(Answer::Value { version: v(5), from }));
}

#[test]
fn at_one_a_single_word_is_the_answer() {
    let replicas = Replicas { up: Set::only(2), ..Replicas::all_up(3) };
    let mut run = Run::new(Level::One, replicas);
    run.held(2, Held::Value(v(5)));
    assert_eq!(run.answer(), Some(Answer::Value { version: v(5), from: Set::only(2) }));
    let mut run = Run::new(Level::One, replicas);
    run.read.failed(2);
    run.drain();
    assert!(matches!(run.answer(), Some(Answer::None(Reason::TooFew(_)))));
}

/// The repair was refused for the slot's watermark, and counted as done: the value was answered, and
/// the next read, of the two that hold nothing, would have answered that there is none.
#[test]
fn a_value_that_a_replica_will_not_take_is_not_answered() {
    let mut run = Run::new(Level::Quorum, Replicas::all_up(3));
    run.held(0, Held::Value(v(5)));
    run.held(1, Held::Absent { watermark: v(9) });
    run.read.repaired(1, Effect::Forgotten);
    run.drain();
    assert_eq!(run.answer(), None, "the third may have it");
    run.held(2, Held::Absent { watermark: v(9) });
    run.read.repaired(2, Effect::Forgotten);
    run.drain();
    assert!(matches!(run.answer(), Some(Answer::None(Reason::TooFew(_)))), "{:?}", run.said);
    // Of a deletion it is as good as having it.
    let mut run = Run::new(Level::Quorum, Replicas::all_up(3));
    run.held(0, Held::Tombstone(v(5)));
    run.held(1, Held::Absent { watermark: v(9) });
    run.read.repaired(1, Effect::Forgotten);
    run.drain();
    assert_eq!(run.answer(), Some(Answer::Absent { deleted: Some(v(5)) }));
}

#[test]
fn damaged_bytes_are_brought_anew_and_hide_nothing() {
    // The damaged one still tells that there was a write; what is older is not answered.
    let mut run = Run::new(Level::Quorum, Replicas::all_up(3));
    run.held(0, Held::Damaged(v(7)));
    run.held(1, Held::Value(v(5)));
    assert_eq!((run.answer(), run.said.len()), (None, 1), "nobody can give it yet");
    run.held(2, Held::Value(v(7)));
    let record = Record { version: v(7), is_tombstone: false };
    let repair = Output::Repair { record, from: Set::only(2), to: Set::first(2) };
    assert_eq!(run.said.last(), Some(&repair));
    run.read.repaired(0, Effect::Applied);
    run.drain();
    let from = [0, 2].into_iter().collect();
    assert_eq!(run.answer(), Some(Answer::Value { version: v(7), from }));
    // Where nobody else has it, there is no answer, at `one` neither.
    let mut run = Run::new(Level::Quorum, Replicas::all_up(3));
    run.held(0, Held::Damaged(v(7)));
    run.held(1, Held::Value(v(5)));
    run.held(2, Held::Value(v(5)));
    assert_eq!(run.answer(), Some(Answer::None(Reason::Damaged)));
    let replicas = Replicas { up: Set::only(2), ..Replicas::all_up(3) };
    let mut run = Run::new(Level::One, replicas);
    run.held(2, Held::Damaged(v(7)));
    assert_eq!(run.answer(), Some(Answer::None(Reason::Damaged)));
}
