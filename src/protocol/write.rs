//! How does one write reach the replicas of its key, and when may its success be told?
//!
//! A quorum write does not trust clocks. It asks before it chooses (multi-writer ABD; Lynch and
//! Shvartsman, *Robust emulation of shared memory using dynamic quorum-acknowledged broadcasts*,
//! 1997):
//!
//! ```text
//!          first round                     second round
//!   PUT    Stage  ─ newest held? ─▶        Commit ─ applied, or superseded ─▶ acknowledged
//!   DELETE Ask    ─ newest held? ─▶ version Remove ─ applied, or superseded ─▶ acknowledged
//!   `one`                           version Put or Remove, one round
//! ```
//!
//! # The rules (DESIGN, section 7), and what would go wrong
//!
//! 1. **One version for ever.** It is chosen once; a repeat, a copy and a hint bear it. Whoever
//!    stamped anew after "superseded" would make one write take effect twice.
//! 2. **Above the greatest that a majority answered**, tombstones and watermarks included: so it is
//!    above every write that was acknowledged before this one began.
//! 3. **A commit is sent only when a majority has staged**: else a write that is committed could
//!    never reach its level. At `all`, when all have.
//! 4. **Superseded is an acknowledgement**: by rule 2 whatever is newer is concurrent, and ordered
//!    after this write at once. But only by a *record*: a watermark at or above the version says that
//!    the replica has forgotten deletions of other keys up to there, and will not take this write any
//!    more. It is not done there, and nobody overwrote it.
//! 5. **Whoever stages late still gets the commit**, and whoever lost its stage gets a copy, and
//!    counts when it has it.
//! 6. **A hint is never an acknowledgement**: it is a note at the writer, and the writer can die.
//!    Each replica that has not acknowledged gets one.
//! 7. **Too few up: refused before anything is sent.** Before the first commit was sent, all that
//!    can go wrong is *not applied*; after it, a write is acknowledged or *unknown*. The one
//!    exception: if each replica that was sent one has said that it did nothing, nothing was done.
//!
//! # How it is driven
//!
//! A runner puts replies in by methods, and after each drains [`Write::poll`] until it says `None`.
//! Replies may be late, repeated and in any order; a reply that was not asked for changes nothing.
//! [`Output::CheckLease`] is to be answered at once, before the next poll; the operation is pinned
//! to its epoch from the second of them on (before the commit), until the write is over.
//!
//! What must be before what: a store answers `Stage` when it has the body, durable or not, and
//! `Commit`, `Put`, `Remove` and a copy only when the record is durable. A hint need not be durable
//! before [`Output::Done`] is told, since nobody relies on it; it comes out first all the same.
//!
//! A write goes on after it is told: late replicas get their commit, and count in nobody's answer.
//! [`Write::owed`] says for whom that is; [`Write::time_is_up`] ends it, with hints.

use crate::level::Level;
use crate::protocol::holding::{self, Effect};
use crate::protocol::quorum::{Reason, Replicas, Set, Tally, TooFew, majority, needed};
use crate::version::{HybridClock, Proposer, Version};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value. A body that the runner holds whole can be given to a replica that lost its stage; of
    /// any other a replica that has committed it must give a copy.
    Put {
        /// Whether the runner holds it.
        is_held: bool,
    },
    /// A tombstone: no body, so that the first round only asks.
    Delete,
}

/// What has gone wrong with a replica in the second round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It surely did nothing, and nothing that was sent to it can still arrive: no connection, or a
    /// refusal. If an earlier try of the same may have arrived, it is `Unknown`.
    NotDone,
    /// It may have done it: the answer was lost.
    Unknown,
    /// It does not know the stage (404 `not-staged`): it restarted since, or forgot it.
    NotStaged,
}

/// What the runner is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Look at the lease, and whether the operation's pin is live, and answer
    /// [`Write::lease_held`] or [`Write::lease_lost`] before the next poll.
    CheckLease,
    /// Send the body to these. Answer [`Write::staged`] or [`Write::stage_failed`] for each.
    Stage {
        /// Who.
        to: Set,
    },
    /// Ask these what they hold. Answer as to `Stage`.
    Ask {
        /// Who.
        to: Set,
    },
    /// Tell these to make what they staged the value. Answer [`Write::committed`] or
    /// [`Write::commit_failed`] for each, as to the three that follow.
    Commit {
        /// Under this version.
        version: Version,
        /// Who.
        to: Set,
    },
    /// Send the body to these, as the value under this version, if they hold nothing newer.
    Put {
        /// Under this version.
        version: Version,
        /// Who.
        to: Set,
    },
    /// Bring these a tombstone, if they hold nothing newer.
    Remove {
        /// Under this version.
        version: Version,
        /// Who.
        to: Set,
    },
    /// Bring this one the value under this version: from the body if the runner holds it, else from
    /// one of those that have committed it.
    Copy {
        /// Under this version.
        version: Version,
        /// Who.
        to: usize,
        /// Who has it; none if the runner holds the body and nobody else does yet.
        from: Set,
    },
    /// Note that this one may lack the version. It will be brought it by a copy, from whoever has
    /// it.
    Hint {
        /// This version.
        version: Version,
        /// Who.
        replica: usize,
    },
    /// What became of the write. Told once, and never changed.
    Done(Outcome),
    /// Tell these to forget what they staged; their answers are not waited for.
    Abort {
        /// Who.
        to: Set,
    },
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done at its level.
    Acknowledged {
        /// Its version: the entity tag.
        version: Version,
        /// How many replicas had acknowledged it by now.
        acks: usize,
    },
    /// It is not done, and never will be.
    NotApplied(Reason),
    /// It may be done, now or later.
    Unknown(Reason),
}

/// How far a write has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The lease is to be looked at before anything is sent.
    MayBegin,
    /// The first messages are to be sent.
    Begin,
    /// Replies of the first round come in.
    First,
    /// The lease is to be looked at before the commit.
    MayCommit,
    /// The version is to be chosen, and the commit sent.
    Commit,
    /// Replies of the second round come in.
    Second,
    /// The lease is to be looked at before success is told.
    MayTell,
    /// There is an outcome; it is told next.
    Tell(Outcome),
    /// It was told.
    Over(Outcome),
}

/// One write.
///
/// Always true: `version` is chosen before anything of the second round is sent, and once. Nothing
/// of the second round is sent to a replica that has not staged, unless it needs no stage.
#[derive(Debug, Clone)]
pub struct Write {
    level: Level,
    kind: Kind,
    replicas: Replicas,
    proposer: Proposer,
    step: Step,
    /// Those that answered the first round.
    staged: Set,
    /// The greatest version that any replica has answered.
    newest: Version,
    version: Option<Version>,
    /// Those that something of the second round was sent to …
    sent: Set,
    /// … those of them that said that they did nothing …
    idle: Set,
    /// … and those that may have done it nonetheless.
    unsure: Set,
    /// Acknowledgements. Replicas that are not up, or failed to stage, have failed.
    tally: Tally,
    /// Those that hold this very version.
    applied: Set,
    /// Those that lost their stage and wait for a copy.
    wanting: Set,
    /// Those that a copy was ordered for.
    copying: Set,
    hinted: Set,
    aborted: Set,
    /// Those that would not take it, since they have forgotten newer deletions.
    forgetful: Set,
    /// The lease was lost, or the time is up: nothing more of the second round is sent.
    is_stopped: bool,
}

impl Write {
    /// A write that has sent nothing yet.
    ///
    /// # Errors
    /// [`TooFew`] when the level cannot be reached with the replicas that are up: not applied.
    pub fn new(
        level: Level,
        kind: Kind,
        replicas: Replicas,
        proposer: Proposer,
    ) -> Result<Self, TooFew> {
        let up = replicas.up.and(replicas.every());
        replicas.suffice(level, up)?;
        let mut tally = Tally::new(replicas.count, needed(level, replicas.count));
        replicas.every().without(up).iter().for_each(|replica| tally.fail(replica));
        Ok(Self {
            level,
            kind,
            replicas: Replicas { up, ..replicas },
            proposer,
            step: Step::MayBegin,
            staged: Set::EMPTY,
            newest: Version::NONE,
            version: None,
            sent: Set::EMPTY,
            idle: Set::EMPTY,
            unsure: Set::EMPTY,
            tally,
            applied: Set::EMPTY,
            wanting: Set::EMPTY,
            copying: Set::EMPTY,
            hinted: Set::EMPTY,
            aborted: Set::EMPTY,
            forgetful: Set::EMPTY,
            is_stopped: false,
        })
    }

    /// The lease, looked at just now, is good.
    pub fn lease_held(&mut self) {
        self.step = match self.step {
            Step::MayBegin => Step::Begin,
            Step::MayCommit => Step::Commit,
            Step::MayTell => {
                let version = self.version.expect("nothing is acknowledged without a version");
                let acks = self.tally.acks().len();
                Step::Tell(Outcome::Acknowledged { version, acks })
            }
            other => other,
        };
    }

    /// The lease or the pin is lost. May be said at any time; nothing more of the second round is
    /// sent from then on.
    pub fn lease_lost(&mut self) {
        self.is_stopped = true;
        self.end(Reason::NoLease);
    }

    /// A replica has the body, or was asked: and the newest that it holds for the key is this.
    pub fn staged(&mut self, replica: usize, newest: Version) {
        if self.level == Level::One || !self.replicas.up.contains(replica) {
            return;
        }
        let is_first = self.staged.insert(replica);
        self.newest = self.newest.max(newest);
        if self.sent.contains(replica) {
            return; // Only a repeat: what it failed since stays.
        }
        // What was given up as failed, and came after all, did not fail. A stage that is over is
        // told so again, since that word may have come before the stage did.
        self.tally.hope(replica);
        if is_first {
            self.aborted.remove(replica);
        }
    }

    /// A replica did not stage, or did not answer, and is not waited for.
    pub fn stage_failed(&mut self, replica: usize) {
        if !self.staged.contains(replica) {
            self.tally.fail(replica);
        }
    }

    /// A replica has answered a commit, a put, a tombstone or a copy. To have it, or something
    /// newer, acknowledges it. It is [`Effect::Forgotten`] only if no earlier try of the same may
    /// have come to something else; then it is [`Fault::Unknown`].
    pub fn committed(&mut self, replica: usize, effect: Effect, newest: Version) {
        if !self.sent.contains(replica) {
            return;
        }
        self.newest = self.newest.max(newest);
        match effect {
            Effect::Applied | Effect::Superseded => {
                self.tally.ack(replica);
                self.wanting.remove(replica);
                if effect == Effect::Applied {
                    self.applied.insert(replica);
                }
            }
            Effect::Forgotten if self.tally.acks().contains(replica) => {}
            Effect::Forgotten => {
                self.idle.insert(replica);
                self.wanting.remove(replica);
                self.tally.fail(replica);
                self.forgetful.insert(replica);
            }
        }
    }

    /// A commit, a put, a tombstone or a copy has failed at a replica, or is not waited for.
    pub fn commit_failed(&mut self, replica: usize, fault: Fault) {
        if !self.sent.contains(replica) || self.tally.acks().contains(replica) {
            return;
        }
        match fault {
            Fault::NotStaged if !self.copying.contains(replica) => {
                self.idle.insert(replica);
                self.wanting.insert(replica);
            }
            // The late repeat of an answer that a copy was ordered for.
            Fault::NotStaged => {}
            Fault::NotDone => {
                self.idle.insert(replica);
                self.tally.fail(replica);
            }
            Fault::Unknown => {
                self.unsure.insert(replica);
                self.tally.fail(replica);
            }
        }
    }

    /// The client's body broke off, so that no replica has it whole. Without effect once a commit
    /// was sent: then the body had been whole.
    pub fn cancel(&mut self) {
        let is_begun = self.version.is_some() && self.level != Level::One;
        if !is_begun && self.kind != Kind::Delete && self.tally.acks().is_empty() {
            self.is_stopped = true;
            self.tell(Outcome::NotApplied(Reason::Cancelled));
        }
    }

    /// Nothing is waited for any longer: neither for an outcome nor, after it, for replicas that are
    /// late. These get hints.
    pub fn time_is_up(&mut self) {
        self.is_stopped = true;
        self.tally.pending().iter().for_each(|replica| self.tally.fail(replica));
        if !self.tally.is_reached() {
            self.end(Reason::TimedOut);
        }
    }

    /// Those from which an acknowledgement may still come.
    #[must_use]
    pub fn owed(&self) -> Set {
        match self.step {
            Step::Tell(Outcome::NotApplied(_)) | Step::Over(Outcome::NotApplied(_)) => Set::EMPTY,
            _ if self.is_stopped => self.tally.pending().and(self.sent),
            _ => self.tally.pending(),
        }
    }

    /// What became of it, once that was told.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self.step {
            Step::Over(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Those that have acknowledged until now.
    #[must_use]
    pub fn acks(&self) -> Set {
        self.tally.acks()
    }

    /// Its version, once it is chosen.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// What is to be done next; `None` until there is a further input. `now_unix_ms` is the wall
    /// clock's.
    pub fn poll(&mut self, clock: &mut HybridClock, now_unix_ms: u64) -> Option<Output> {
        // A version from the far future must not carry this node's clock there.
        if !holding::is_ahead(self.newest, now_unix_ms) {
            clock.observe(self.newest.stamp);
        }
        match self.step {
            Step::MayBegin => return Some(Output::CheckLease),
            Step::Begin => return Some(self.begin(clock, now_unix_ms)),
            Step::First => {
                if self.may_commit() {
                    self.step = Step::MayCommit;
                    return Some(Output::CheckLease);
                }
                let left = self.staged.or(self.tally.pending());
                match self.replicas.suffice(self.level, left) {
                    Ok(()) => return None,
                    Err(why) => self.tell(Outcome::NotApplied(Reason::TooFew(why))),
                }
            }
            Step::MayCommit => return Some(Output::CheckLease),
            Step::Commit => {
                if let Some(output) = self.commit(clock, now_unix_ms) {
                    return Some(output);
                }
            }
            Step::Second | Step::MayTell | Step::Tell(_) | Step::Over(_) => {}
        }
        self.poll_second()
    }

    fn begin(&mut self, clock: &mut HybridClock, now_unix_ms: u64) -> Output {
        let to = self.replicas.up;
        if self.level == Level::One {
            let version = self.choose(clock, now_unix_ms);
            self.sent = to;
            self.step = Step::Second;
            return match self.kind {
                Kind::Put { .. } => Output::Put { version, to },
                Kind::Delete => Output::Remove { version, to },
            };
        }
        self.step = Step::First;
        match self.kind {
            Kind::Put { .. } => Output::Stage { to },
            Kind::Delete => Output::Ask { to },
        }
    }

    /// A majority has told what it holds, and enough have staged.
    fn may_commit(&self) -> bool {
        let needed = match self.level {
            Level::All => self.replicas.count,
            Level::One | Level::Quorum => majority(self.replicas.count),
        };
        self.staged.len() >= needed && self.replicas.knows(self.staged)
    }

    /// Chooses the version, if a store would take it.
    fn commit(&mut self, clock: &mut HybridClock, now_unix_ms: u64) -> Option<Output> {
        if holding::is_ahead(self.newest, now_unix_ms) {
            self.tell(Outcome::NotApplied(Reason::ClockBehind));
            return None;
        }
        let version = self.choose(clock, now_unix_ms);
        assert!(version > self.newest, "a write is above what a majority holds");
        self.step = Step::Second;
        Some(self.send_second(version, self.ready()))
    }

    fn choose(&mut self, clock: &mut HybridClock, now_unix_ms: u64) -> Version {
        assert!(self.version.is_none(), "a write has one version for ever");
        let version = Version { stamp: clock.next(now_unix_ms), proposer: self.proposer };
        self.version = Some(version);
        version
    }

    /// Those that the second round can be sent to, and was not.
    fn ready(&self) -> Set {
        let able = match self.kind {
            Kind::Put { .. } => self.staged,
            Kind::Delete => self.replicas.up,
        };
        able.without(self.sent).without(self.tally.failed())
    }

    fn send_second(&mut self, version: Version, to: Set) -> Output {
        self.sent = self.sent.or(to);
        match self.kind {
            Kind::Put { .. } => Output::Commit { version, to },
            Kind::Delete => Output::Remove { version, to },
        }
    }

    /// What there is to do once there may be a version.
    fn poll_second(&mut self) -> Option<Output> {
        if let (Some(version), false) = (self.version, self.is_not_applied())
            && let Some(output) = self.poll_replicas(version)
        {
            return Some(output);
        }
        match self.step {
            Step::Second if self.tally.is_reached() => {
                self.step = Step::MayTell;
                Some(Output::CheckLease)
            }
            Step::MayTell => Some(Output::CheckLease),
            Step::Second if self.tally.is_impossible() => {
                let left = self.tally.acks().or(self.tally.pending()).len();
                let needed = needed(self.level, self.replicas.count);
                self.end(match self.forgetful.is_empty() {
                    true => Reason::TooFew(TooFew { available: left, needed }),
                    false => Reason::Forgotten,
                });
                self.poll_second()
            }
            Step::Tell(outcome) => {
                self.step = Step::Over(outcome);
                Some(Output::Done(outcome))
            }
            Step::Over(_) => {
                // A commit ends a stage, if it was done.
                let has_no_use = self.is_not_applied();
                let done = if has_no_use { Set::EMPTY } else { self.sent };
                let to = self.asked().without(done).without(self.aborted);
                let is_given_up = has_no_use || self.is_stopped;
                let is_staged = self.kind != Kind::Delete && self.level != Level::One;
                if !is_given_up || !is_staged || to.is_empty() {
                    return None;
                }
                self.aborted = self.aborted.or(to);
                Some(Output::Abort { to })
            }
            _ => None,
        }
    }

    /// What single replicas need.
    fn poll_replicas(&mut self, version: Version) -> Option<Output> {
        if !self.is_stopped {
            let late = self.ready();
            if !late.is_empty() && self.level != Level::One {
                return Some(self.send_second(version, late));
            }
            let is_held = self.kind == Kind::Put { is_held: true };
            if let Some(to) = self.wanting.least()
                && (is_held || !self.applied.is_empty())
            {
                self.wanting.remove(to);
                self.copying.insert(to);
                self.idle.remove(to);
                return Some(Output::Copy { version, to, from: self.applied });
            }
        }
        // Nobody is left that could have what these lack.
        if self.is_stopped || self.tally.pending().without(self.wanting).is_empty() {
            std::mem::take(&mut self.wanting).iter().for_each(|replica| self.tally.fail(replica));
        }
        // Of what nobody may have there is nothing to bring anyone.
        if self.tally.acks().is_empty() && !matches!(self.step, Step::Tell(_) | Step::Over(_)) {
            return None;
        }
        let replica = self.tally.failed().without(self.hinted).least()?;
        self.hinted.insert(replica);
        Some(Output::Hint { version, replica })
    }

    /// Those that were sent something of the first round.
    fn asked(&self) -> Set {
        if matches!(self.step, Step::MayBegin | Step::Begin) {
            return Set::EMPTY;
        }
        self.replicas.up
    }

    fn is_not_applied(&self) -> bool {
        let (Step::Tell(outcome) | Step::Over(outcome)) = self.step else { return false };
        matches!(outcome, Outcome::NotApplied(_))
    }

    /// There will be no success.
    fn end(&mut self, reason: Reason) {
        let touched = self.sent.without(self.idle).or(self.unsure).or(self.tally.acks());
        self.tell(if touched.is_empty() {
            Outcome::NotApplied(reason)
        } else {
            Outcome::Unknown(reason)
        });
    }

    /// The first outcome is the outcome.
    fn tell(&mut self, outcome: Outcome) {
        match self.step {
            Step::Tell(_) | Step::Over(_) => {}
            Step::MayBegin | Step::Begin => {
                // Nothing was sent, so that nothing is to be forgotten.
                self.aborted = self.replicas.up;
                self.step = Step::Tell(outcome);
            }
            _ => self.step = Step::Tell(outcome),
        }
    }
}

#[cfg(test)]
mod tests;
