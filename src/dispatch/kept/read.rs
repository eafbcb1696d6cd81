//! How is the version that a read answers found?

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::super::outcome::{Failure, KeptFailure};
use super::exchanges::{Exchanges, Reply};
use super::job::Job;
use super::tail::{Tails, go_on_repairing};
use crate::cluster::lease::Held as Pinned;
use crate::drivers::native::{Held, Value};
use crate::net::timers::Timer;
use crate::protocol::holding;
use crate::protocol::quorum::{REPLICAS_MAX, Set};
use crate::protocol::read::{Answer, Output, Read};

/// How long a read waits in all for versions and repairs, in milliseconds: as long as an operation
/// may be pinned to an epoch. A value that takes longer to be brought to a majority is brought there
/// behind the read, which is answered 503 meanwhile.
const ROUND_MS: u64 = 5_000;

/// A version round under way.
pub(super) struct Reading {
    pub(super) job: Rc<Job>,
    machine: Read,
    pub(super) exchanges: Exchanges,
    /// What each replica told.
    values: [Option<Value>; REPLICAS_MAX],
    held: Option<Pinned>,
    /// From which replica the value begins to come at once.
    eager: Option<usize>,
}

/// What a version round found.
pub(super) enum Found {
    /// The value, and who has it.
    Value { value: Value, from: Set, acks: usize },
    /// Nothing.
    Nothing { acks: usize },
}

impl Reading {
    pub(super) fn new(job: Rc<Job>, machine: Read, eager: Option<usize>) -> Self {
        Self {
            job,
            machine,
            exchanges: Exchanges::default(),
            values: [const { None }; REPLICAS_MAX],
            held: None,
            eager,
        }
    }

    /// Does what the machine wants, until it waits; gives the answer when it is told.
    pub(super) fn drain(&mut self) -> Option<Answer> {
        let mut told = None;
        while let Some(output) = self.machine.poll() {
            match output {
                Output::CheckLease => self.check_lease(),
                Output::Ask { to } => {
                    for at in to.iter() {
                        let job = Rc::clone(&self.job);
                        match self.eager == Some(at) {
                            true => self.exchanges.begin(at, job.look_and_fetch(at)),
                            false => self.exchanges.begin(at, job.look(at)),
                        }
                    }
                }
                Output::Repair { record, from, to } => {
                    self.job.pool().metrics.kept.divergent.inc(self.job.stripe);
                    for at in to.iter() {
                        let job = Rc::clone(&self.job);
                        match record.is_tombstone {
                            true => self.exchanges.begin(at, job.remove(at, record.version)),
                            false => self.exchanges.begin(at, job.copy(at, from, record.version)),
                        }
                    }
                }
                Output::Done(answer) => {
                    self.held = None;
                    told = Some(answer);
                }
            }
        }
        told
    }

    fn check_lease(&mut self) {
        let (kept, pool) = (&self.job.kept, self.job.pool());
        let held = match self.held.take() {
            Some(held) => kept.check(&held).map(|()| held),
            None => kept.hold(&pool.agreed.name, pool.agreed.epoch),
        };
        match held {
            Ok(held) => {
                self.held = Some(held);
                self.machine.lease_held();
            }
            Err(_) => self.machine.lease_lost(),
        }
    }

    /// Puts what a replica answered to the machine.
    pub(super) fn take(&mut self, place: usize, reply: Reply) {
        match reply {
            Reply::Held(Ok(held)) => {
                let told = match held {
                    Held::Value(value) => {
                        let version = value.version;
                        self.values[place] = Some(value);
                        holding::Held::Value(version)
                    }
                    Held::Damaged(version) => holding::Held::Damaged(version),
                    Held::Tombstone(version) => holding::Held::Tombstone(version),
                    Held::Absent(watermark) => holding::Held::Absent { watermark },
                };
                self.machine.held(place, told);
            }
            Reply::Held(Err(_)) => self.machine.failed(place),
            Reply::Committed(Ok(done)) => self.machine.repaired(place, done.effect),
            Reply::Committed(Err(_)) | Reply::NotStaged => self.machine.repair_failed(place),
            Reply::Staged(_) | Reply::Dropped => {}
        }
    }

    /// Finds what is to be answered. What is under way then goes on.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn run(mut self, timer: &Timer, tails: &Rc<Tails>) -> Result<Found, Failure> {
        let until_ms = timer.timers().now_ms() + ROUND_MS;
        let mut is_late = false;
        let answer = loop {
            if let Some(answer) = self.drain() {
                break answer;
            }
            let event = poll_fn(|cx| match self.exchanges.poll_next(cx) {
                Poll::Pending if !is_late && timer.poll_expired(cx, until_ms) => Poll::Ready(None),
                polled => polled.map(Some),
            });
            match event.await {
                Some((place, reply)) => self.take(place, reply),
                None => {
                    is_late = true;
                    self.machine.time_is_up();
                }
            }
        };
        let acks = self.machine.acks();
        let found = match answer {
            Answer::Value { version, from } => {
                let told = self
                    .values
                    .iter_mut()
                    .find_map(|value| value.take_if(|value| value.version == version));
                let value = told.expect("whoever told of a version described its value");
                Ok(Found::Value { value, from, acks })
            }
            Answer::Absent { .. } => Ok(Found::Nothing { acks }),
            Answer::None(reason) => Err(Failure::Kept(KeptFailure::NotApplied(reason, None))),
        };
        if !self.exchanges.is_empty() {
            go_on_repairing(tails, self);
        }
        found
    }
}
