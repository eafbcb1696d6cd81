//! Which version of a key may a read answer, and what must be done before it does?
//!
//! A read asks a majority for their versions, takes the newest, and sees to it that a majority has
//! it before it answers: else a later read, of another majority, could answer an older one, and the
//! key would seem to go back in time. A tombstone is brought to a majority as a value is.
//!
//! ```text
//!   Ask ─ what is held? ─▶ a majority has told ─▶ newest ─▶ Repair who lacks it ─▶ a majority has it ─▶ answer
//! ```
//!
//! # The rules (DESIGN, section 7)
//!
//! 1. **The newest record among a majority** is at least as new as each write that was acknowledged
//!    before the read began. A watermark is no record ([`Held::record`]): it speaks of the slot.
//! 2. **A majority holds it, or something newer, before the answer.** A repair that is superseded
//!    counts as done: what is newer is concurrent, and a later read finds it. One that is refused for
//!    a watermark does not, unless it is of a tombstone: the replica holds nothing of the key then,
//!    and a later read could answer that.
//! 3. **A read that cannot bring it to a majority gives no answer**, not an old one and not 404.
//!    So it is with a version whose bytes are damaged wherever it is known of: it is the newest, and
//!    nobody can give it. Who holds it damaged is brought it like who lacks it.
//! 4. **The value is served by a replica that holds that very version.** If it was overwritten
//!    there meanwhile, that replica says so (412), and the caller reads anew.
//!
//! At `all`, all replicas are asked and all must have it. At `one`, the caller chooses one replica
//! and gives it as the only one that is up: its word is the answer, and nothing is repaired.
//!
//! # How it is driven
//!
//! As a [`Write`](super::write::Write): replies by methods, then [`Read::poll`] until it says
//! `None`; late, repeated and reordered replies do no harm. [`Output::CheckLease`] is to be answered
//! before the next poll; the operation is pinned from the first of them until the read is told.
//! After the answer, replicas that were late and hold something older are still repaired, if the
//! runner cares to poll: nobody waits for it.

use crate::level::Level;
use crate::protocol::holding::{Effect, Held};
use crate::protocol::quorum::{REPLICAS_MAX, Reason, Replicas, Set, TooFew, needed};
use crate::version::Version;

/// A record that is to be brought to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Its version.
    pub version: Version,
    /// Whether it is a tombstone, which has no body.
    pub is_tombstone: bool,
}

/// What the runner is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Look at the lease and the pin, and answer [`Read::lease_held`] or [`Read::lease_lost`] before
    /// the next poll. (At `one` the runner asks whether stale reads may go on.)
    CheckLease,
    /// Ask these what they hold. Answer [`Read::held`] or [`Read::failed`] for each.
    Ask {
        /// Who.
        to: Set,
    },
    /// Bring these a record, if they hold nothing newer. Answer [`Read::repaired`] or
    /// [`Read::repair_failed`] for each.
    Repair {
        /// What.
        record: Record,
        /// Who has it.
        from: Set,
        /// Who lacks it.
        to: Set,
    },
    /// The answer. Told once, and never changed.
    Done(Answer),
}

/// What a read answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The value of this version.
    Value {
        /// Its version: the entity tag.
        version: Version,
        /// Those that hold it, as far as is known: each can serve the body.
        from: Set,
    },
    /// There is no such key.
    Absent {
        /// Under which version it was deleted, if that is still known.
        deleted: Option<Version>,
    },
    /// The read cannot be answered at its level.
    None(Reason),
}

/// How far a read has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The lease is to be looked at before anything is sent.
    MayBegin,
    /// The question is to be sent.
    Begin,
    /// Replies come in.
    Asking,
    /// The lease is to be looked at after the version round.
    MayDecide,
    /// The newest is to be taken.
    Decide,
    /// It is brought to enough replicas.
    Repairing,
    /// The lease is to be looked at before the answer.
    MayTell,
    /// There is an answer; it is told next.
    Tell(Answer),
    /// It was told.
    Over(Answer),
}

/// One read.
///
/// Always true: `newest` is decided once, when enough have told what they hold.
#[derive(Debug, Clone)]
pub struct Read {
    level: Level,
    replicas: Replicas,
    step: Step,
    told: [Option<Held>; REPLICAS_MAX],
    /// Those that did not tell.
    failed: Set,
    /// What is answered, once that is decided: nothing is a record of its own.
    newest: Option<Record>,
    /// Those that hold `newest`, or something newer by their own word.
    done: Set,
    /// Those that hold just it.
    holders: Set,
    /// Those that it was sent to …
    sent: Set,
    /// … and those of them that did not take it.
    unrepaired: Set,
    is_stopped: bool,
}

impl Read {
    /// A read that has asked nobody yet.
    ///
    /// # Errors
    /// [`TooFew`] when the level cannot be reached with the replicas that are up.
    pub fn new(level: Level, replicas: Replicas) -> Result<Self, TooFew> {
        let up = replicas.up.and(replicas.every());
        replicas.suffice(level, up)?;
        Ok(Self {
            level,
            replicas: Replicas { up, ..replicas },
            step: Step::MayBegin,
            told: [None; REPLICAS_MAX],
            failed: replicas.every().without(up),
            newest: None,
            done: Set::EMPTY,
            holders: Set::EMPTY,
            sent: Set::EMPTY,
            unrepaired: Set::EMPTY,
            is_stopped: false,
        })
    }

    /// The lease, looked at just now, is good.
    pub fn lease_held(&mut self) {
        self.step = match self.step {
            Step::MayBegin => Step::Begin,
            Step::MayDecide => Step::Decide,
            Step::MayTell => Step::Tell(self.answer()),
            other => other,
        };
    }

    /// The lease or the pin is lost: there is no answer, and nothing more is repaired.
    pub fn lease_lost(&mut self) {
        self.is_stopped = true;
        self.end(Reason::NoLease);
    }

    /// A replica has told what it holds.
    pub fn held(&mut self, replica: usize, held: Held) {
        if !self.replicas.up.contains(replica) || self.told[replica].is_some() {
            return;
        }
        self.told[replica] = Some(held);
        self.failed.remove(replica);
        self.note(replica, held);
    }

    /// A replica did not tell, and is not waited for.
    pub fn failed(&mut self, replica: usize) {
        if self.replicas.up.contains(replica) && self.told[replica].is_none() {
            self.failed.insert(replica);
        }
    }

    /// A replica has answered a repair.
    pub fn repaired(&mut self, replica: usize, effect: Effect) {
        if !self.sent.contains(replica) {
            return;
        }
        let is_tombstone = self.newest.is_some_and(|newest| newest.is_tombstone);
        if effect == Effect::Forgotten && !is_tombstone {
            return self.repair_failed(replica);
        }
        self.done.insert(replica);
        self.unrepaired.remove(replica);
        if effect == Effect::Applied {
            self.holders.insert(replica);
        }
    }

    /// A repair failed, or is not waited for.
    pub fn repair_failed(&mut self, replica: usize) {
        if self.sent.contains(replica) && !self.done.contains(replica) {
            self.unrepaired.insert(replica);
        }
    }

    /// Nothing is waited for any longer.
    pub fn time_is_up(&mut self) {
        self.is_stopped = true;
        if self.step != Step::MayTell {
            self.end(Reason::TimedOut);
        }
    }

    /// What was answered, once that was told.
    #[must_use]
    pub fn outcome(&self) -> Option<Answer> {
        match self.step {
            Step::Over(answer) => Some(answer),
            _ => None,
        }
    }

    /// How many replicas hold what was answered, or something newer: for a read, what `acks` counts.
    #[must_use]
    pub fn acks(&self) -> usize {
        match self.newest {
            Some(_) => self.done.len(),
            None => self.told().len(),
        }
    }

    /// What is to be done next; `None` until there is a further input.
    pub fn poll(&mut self) -> Option<Output> {
        match self.step {
            Step::Begin => {
                self.step = Step::Asking;
                return Some(Output::Ask { to: self.replicas.up });
            }
            Step::Asking => {
                let told = self.told();
                if self.replicas.suffice(self.level, told).is_ok() {
                    self.step = Step::MayDecide;
                } else if let Err(why) =
                    self.replicas.suffice(self.level, self.replicas.every().without(self.failed))
                {
                    self.tell(Answer::None(Reason::TooFew(why)));
                }
            }
            Step::Decide => self.decide(),
            _ => {}
        }
        if let Some(repair) = self.poll_repair() {
            return Some(repair);
        }
        if self.step == Step::Repairing {
            let needed = needed(self.level, self.replicas.count);
            let left = self.replicas.every().without(self.failed).without(self.unrepaired);
            let available = left.or(self.done).len();
            if self.newest.is_none() || self.done.len() >= needed {
                self.step = Step::MayTell;
            } else if self.holders.is_empty() && self.pending().is_empty() {
                self.tell(Answer::None(Reason::Damaged));
            } else if available < needed {
                self.tell(Answer::None(Reason::TooFew(TooFew { available, needed })));
            }
        }
        match self.step {
            Step::MayBegin | Step::MayDecide | Step::MayTell => Some(Output::CheckLease),
            Step::Tell(answer) => {
                self.step = Step::Over(answer);
                Some(Output::Done(answer))
            }
            _ => None,
        }
    }

    fn told(&self) -> Set {
        self.replicas.every().iter().filter(|replica| self.told[*replica].is_some()).collect()
    }

    /// Those that may still tell.
    fn pending(&self) -> Set {
        self.replicas.up.without(self.told()).without(self.failed)
    }

    fn decide(&mut self) {
        let records = self.told.iter().flatten().filter_map(|held| {
            let is_tombstone = matches!(held, Held::Tombstone(_));
            held.record().map(|version| Record { version, is_tombstone })
        });
        self.newest = records.max_by_key(|record| record.version);
        self.step = Step::Repairing;
        for replica in 0..REPLICAS_MAX {
            if let Some(held) = self.told[replica] {
                self.note(replica, held);
            }
        }
    }

    /// Compares what a replica told with what was decided.
    fn note(&mut self, replica: usize, held: Held) {
        let (Some(newest), Some(record)) = (self.newest, held.record()) else { return };
        if record > newest.version || held.whole() == Some(newest.version) {
            self.done.insert(replica);
        }
        if held.whole() == Some(newest.version) {
            self.holders.insert(replica);
        }
    }

    /// Whoever has told, and holds something older.
    fn poll_repair(&mut self) -> Option<Output> {
        let record = self.newest?;
        let is_given_up =
            matches!(self.step, Step::Tell(Answer::None(_)) | Step::Over(Answer::None(_)));
        // Without a holder there is nothing to bring: one may still tell.
        let has_none = self.holders.is_empty();
        if self.is_stopped || is_given_up || has_none || self.level == Level::One {
            return None;
        }
        let to = self.told().without(self.done).without(self.sent);
        self.sent = self.sent.or(to);
        (!to.is_empty()).then_some(Output::Repair { record, from: self.holders, to })
    }

    fn answer(&self) -> Answer {
        match self.newest {
            Some(Record { version, is_tombstone: false }) => {
                Answer::Value { version, from: self.holders }
            }
            Some(Record { version, is_tombstone: true }) => {
                Answer::Absent { deleted: Some(version) }
            }
            None => Answer::Absent { deleted: None },
        }
    }

    /// There will be no answer.
    fn end(&mut self, reason: Reason) {
        self.tell(Answer::None(reason));
    }

    /// The first answer is the answer.
    fn tell(&mut self, answer: Answer) {
        if !matches!(self.step, Step::Tell(_) | Step::Over(_)) {
            self.step = Step::Tell(answer);
        }
    }
}

#[cfg(test)]
mod tests;
