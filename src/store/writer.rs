//! How do many writes share one commit, and when may they be answered?
//!
//! One thread owns all changes of the index. It takes what waits in its queue, up to
//! [`BATCH_WRITES_MAX`] writes, carries it out in one transaction and answers all of it after the
//! commit: while one commit waits for the disk, the next batch gathers by itself. There is no
//! timer that holds a lonely write back.
//!
//! Invariants:
//!
//! 1. A write is answered as done only after its commit, and what its commit needs, is durable
//!    (under `fsync: always`), is visible to reads, and the fence is down.
//! 2. Conditions are evaluated inside the transaction, after all writes before them in the queue.
//! 3. A file is unlinked only after the durable commit of the change that made it superfluous.
//! 4. Any failure of the index, the folder or this code raises the fence. What was in the batch
//!    then is *unknown*: a restart may find it or not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::ids::Digest;
use crate::store::blobs::Incoming;
use crate::store::change::Change;
use crate::store::conditions::{Conditions, Current, Verdict};
use crate::store::engine::Core;
use crate::store::index::IndexError;
use crate::store::meta::Meta;
use crate::store::metrics::{COMMIT_FAILED, COMMIT_OK};
use crate::store::options::{Clock, Fsync};
use crate::store::record::{BodyId, Place, Record};
use crate::store::replica::write::{KeptDone, KeptError, KeptWrite, apply as apply_kept};
use crate::store::reserve::is_no_space;

/// Writes in one commit. More would make each wait longer and gain little: the sync is shared by
/// all of them already.
const BATCH_WRITES_MAX: usize = 256;

/// Writes in one commit while the disk is full, so that deletes find room for it in what is left
/// of the reserve.
const BATCH_WRITES_WHEN_FULL_MAX: usize = 16;

/// Bytes of bodies and kept fields in one commit; see [`crate::store::reserve::RESERVE_BYTES`],
/// which must cover it.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Rows of a dropped pool that one commit takes: as many as a batch has writes.
const DROP_ROWS_MAX: usize = BATCH_WRITES_MAX;

/// Between two such commits, at least.
const DROP_PAUSE: Duration = Duration::from_millis(10);

/// The same, as many times what the last one took: so writes have four fifths of the thread.
const DROP_SHARE: u32 = 4;

/// The same while the disk has no room for a commit.
const DROP_PAUSE_WHEN_FULL: Duration = Duration::from_secs(1);

/// A change that a client asks for.
#[derive(Debug)]
pub struct Write {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// Under which it may happen.
    pub conditions: Conditions,
    /// What is to happen.
    pub action: Action,
}

/// What a write does to its key.
#[derive(Debug)]
pub enum Action {
    /// Gives it this value.
    Put(Meta, NewBody),
    /// Forgets it.
    Delete,
}

/// A body that was received whole.
#[derive(Debug)]
pub enum NewBody {
    /// In memory, to go into the index.
    Small(Bytes, Digest),
    /// In a file, synced already.
    Large(Incoming),
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The key had no value before.
    Created(Record),
    /// The key had another value before.
    Replaced(Record),
    /// The key has no value any more.
    Deleted,
    /// The key to be deleted had no value.
    Missing,
    /// The conditions do not hold; nothing changed.
    ConditionFailed,
}

/// Why a write was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The disk is full. Nothing changed; the same write may succeed later.
    #[error("the disk is full")]
    Full,
    /// The store takes no writes. Nothing changed.
    #[error("the store takes no writes until it is started again: {0}")]
    Fenced(String),
    /// Too many writes wait. Nothing changed.
    #[error("too many writes are waiting")]
    Busy,
    /// The write may or may not be found after a restart.
    #[error("whether the write survives is unknown: {0}")]
    Unknown(String),
}

/// A write on its way through the queue.
pub(super) struct Job {
    pub(super) work: Work,
    /// The write's place in the queue, free again once it is answered.
    pub(super) _place: OwnedSemaphorePermit,
}

type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// What is to be done, and who is to be told.
pub(super) enum Work {
    /// For a cache pool.
    Plain(Write, Reply<Written, WriteError>),
    /// For a pool that keeps data.
    Kept(KeptWrite, Reply<KeptDone, KeptError>),
}

/// What became of it.
enum Outcome {
    Plain(Result<Written, WriteError>),
    Kept(Result<KeptDone, KeptError>),
}

impl Job {
    fn cost_bytes(&self) -> usize {
        match &self.work {
            Work::Kept(write, _) => write.cost_bytes,
            Work::Plain(write, _) => match &write.action {
                Action::Put(meta, NewBody::Small(bytes, _)) => meta.len_bytes() + bytes.len(),
                Action::Put(meta, NewBody::Large(_)) => meta.len_bytes(),
                Action::Delete => 0,
            },
        }
    }

    /// For how many writes it counts.
    fn writes(&self) -> usize {
        match &self.work {
            Work::Plain(..) => 1,
            Work::Kept(write, _) => write.action.writes(),
        }
    }

    // Who does not wait any more does not want the answer.
    fn answer(self, outcome: Outcome) {
        match (self.work, outcome) {
            (Work::Plain(_, reply), Outcome::Plain(result)) => drop(reply.send(result)),
            (Work::Kept(_, reply), Outcome::Kept(result)) => drop(reply.send(result)),
            (Work::Plain(..), Outcome::Kept(_)) | (Work::Kept(..), Outcome::Plain(_)) => {
                unreachable!("a batch answers each job in its own kind")
            }
        }
    }

    fn fail(self, error: WriteError) {
        match self.work {
            Work::Plain(_, reply) => drop(reply.send(Err(error))),
            Work::Kept(_, reply) => drop(reply.send(Err(error.into()))),
        }
    }
}

/// The writing thread's state.
pub(super) struct Writer {
    core: Arc<Core>,
    queue: Receiver<Job>,
    fsync: Fsync,
    clock: Clock,
    /// When the oldest commit was made that is not durable yet; only under `fsync: interval`.
    undurable_since: Option<Instant>,
    /// Files to be unlinked after the next durable commit.
    superfluous: Vec<BodyId>,
    /// When the next of what dropped pools left behind is taken; `None` when nothing is left.
    next_drop: Option<Instant>,
}

/// What the thread does next.
enum Next {
    Batch(Vec<Job>, Room),
    Flush,
    Drop,
    Stop,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, queue: Receiver<Job>, fsync: Fsync, clock: Clock) -> Self {
        // The last process may have left something to be taken.
        let (undurable_since, superfluous, next_drop) = (None, Vec::new(), Some(Instant::now()));
        Self { core, queue, fsync, clock, undurable_since, superfluous, next_drop }
    }

    /// Works until all senders of the queue are gone, and leaves everything durable.
    pub(super) fn run(mut self) {
        loop {
            match self.next() {
                Next::Batch(jobs, room) => self.guarded(|writer| writer.carry_out(jobs, room)),
                Next::Flush => self.guarded(Self::flush),
                Next::Drop => self.guarded(Self::drop_some),
                Next::Stop => break,
            }
        }
        self.guarded(Self::flush);
    }

    /// A panic of redb, whose state is then anyone's guess, ends all writing but not the process.
    /// The writes at hand get no answer, which their callers take for *unknown*.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.core.fence.raise("the writing thread panicked".to_owned());
        }
    }

    fn next(&self) -> Next {
        let until_drop = self.next_drop.map(|at| at.saturating_duration_since(Instant::now()));
        let due = [(self.until_flush(), Next::Flush), (until_drop, Next::Drop)];
        let due = due.into_iter().filter_map(|(wait, next)| Some((wait?, next)));
        let first = match due.min_by_key(|(wait, _)| *wait) {
            Some((Duration::ZERO, next)) => return next,
            Some((wait, next)) => match self.queue.recv_timeout(wait) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => return next,
                Err(RecvTimeoutError::Disconnected) => return Next::Stop,
            },
            None => match self.queue.recv() {
                Ok(job) => job,
                Err(_) => return Next::Stop,
            },
        };
        let room = self.core.room();
        let writes_max =
            if room == Room::Puts { BATCH_WRITES_MAX } else { BATCH_WRITES_WHEN_FULL_MAX };
        let (mut bytes, mut writes) = (first.cost_bytes(), first.writes());
        let mut jobs = vec![first];
        while writes < writes_max && bytes < BATCH_BYTES_MAX {
            let Ok(job) = self.queue.try_recv() else { break };
            bytes += job.cost_bytes();
            writes += job.writes();
            jobs.push(job);
        }
        Next::Batch(jobs, room)
    }

    /// How long until a durable commit is due; `None` when all is durable.
    fn until_flush(&self) -> Option<Duration> {
        let Fsync::Interval(interval) = self.fsync else { return None };
        Some(interval.saturating_sub(self.undurable_since?.elapsed()))
    }

    fn carry_out(&mut self, mut jobs: Vec<Job>, room: Room) {
        if let Some(reason) = self.core.fence.reason() {
            let error = WriteError::Fenced(reason.to_owned());
            return jobs.into_iter().for_each(|job| job.fail(error.clone()));
        }
        let started = Instant::now();
        let now_ms = (self.clock)();
        let core = Arc::clone(&self.core);
        let durable = !matches!(self.fsync, Fsync::Interval(_));
        let outcome = core.index.change(durable, |change| {
            let (moved, freed, hurt, doomed) = (false, vec![], false, false);
            let mut batch = Batch { core: &core, room, now_ms, moved, freed, hurt, doomed };
            let apply = |job: &mut Job| batch.apply(change, &mut job.work);
            let results = jobs.iter_mut().map(apply).collect::<Result<_, _>>()?;
            let Batch { moved, freed, hurt, doomed, .. } = batch;
            if moved {
                core.blobs.sync_folder()?;
            }
            Ok((results, freed, hurt, doomed))
        });
        let ((results, freed, hurt, doomed), has_committed): ((Vec<_>, _, _, _), bool) =
            match outcome {
                Ok(outcome) => outcome,
                Err(error) => return self.give_up(jobs, &error),
            };
        if let Some(reason) = core.fence.reason() {
            // Raised by a body's failed sync while this batch was under way. The batch may well
            // be on the disk, but "nothing after a failed fsync" has no exceptions to think about.
            return self.answer_unknown(jobs, reason);
        }
        if has_committed {
            core.metrics.commits[COMMIT_OK].inc();
            core.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
            #[allow(clippy::cast_precision_loss, reason = "a batch is far below 2^53")]
            core.metrics.commit_writes.observe(jobs.len() as f64);
            core.show_totals();
            if hurt {
                core.show_damaged();
            }
            if !durable {
                self.undurable_since.get_or_insert(started);
            }
        }
        jobs.into_iter().zip(results).for_each(|(job, result)| job.answer(result));
        self.superfluous.extend(freed);
        if durable {
            self.unlink_superfluous();
        }
        if doomed {
            self.next_drop.get_or_insert_with(Instant::now);
        }
    }

    /// Takes some of what dropped pools left behind.
    fn drop_some(&mut self) {
        let started = Instant::now();
        self.next_drop = None;
        if self.core.fence.reason().is_some() {
            return;
        }
        let rows_max = match self.core.room() {
            Room::Puts => DROP_ROWS_MAX,
            Room::Deletes => BATCH_WRITES_WHEN_FULL_MAX,
            Room::Epochs | Room::Nothing => {
                self.next_drop = Some(started + DROP_PAUSE_WHEN_FULL);
                return;
            }
        };
        let durable = !matches!(self.fsync, Fsync::Interval(_));
        let step = match self.core.index.change(durable, |change| change.drop_some(rows_max)) {
            Ok((Some(step), _)) => step,
            Ok((None, _)) => return,
            Err(error) => return self.fail(&error),
        };
        if let Some(pool) = step.done {
            tracing::info!(pool, "nothing is left of what a dropped pool of this name kept");
        }
        self.superfluous.extend(step.freed);
        if durable {
            self.unlink_superfluous();
        } else {
            self.undurable_since.get_or_insert(started);
        }
        let took = started.elapsed();
        self.next_drop = Some(Instant::now() + DROP_PAUSE.max(took * DROP_SHARE));
    }

    fn flush(&mut self) {
        if self.undurable_since.take().is_none() || self.core.fence.reason().is_some() {
            return;
        }
        match self.core.index.flush() {
            Ok(()) => self.unlink_superfluous(),
            Err(error) => self.fail(&error),
        }
    }

    fn unlink_superfluous(&mut self) {
        self.superfluous.drain(..).for_each(|id| self.core.blobs.discard(id));
    }

    fn give_up(&self, jobs: Vec<Job>, error: &IndexError) {
        self.fail(error);
        let reason = self.core.fence.reason().unwrap_or_default();
        self.answer_unknown(jobs, reason);
    }

    fn fail(&self, error: &IndexError) {
        self.core.metrics.commits[COMMIT_FAILED].inc();
        self.core.fence.raise(error.to_string());
    }

    fn answer_unknown(&self, jobs: Vec<Job>, reason: &str) {
        let error = WriteError::Unknown(reason.to_owned());
        jobs.into_iter().for_each(|job| job.fail(error.clone()));
    }
}

/// One batch inside its transaction.
pub(super) struct Batch<'a> {
    pub(super) core: &'a Core,
    pub(super) room: Room,
    now_ms: u64,
    /// Whether a file was moved to where it stays.
    pub(super) moved: bool,
    /// Files that the transaction makes superfluous.
    pub(super) freed: Vec<BodyId>,
    /// Whether a pool's tables are to be emptied now.
    pub(super) doomed: bool,
    /// Whether a value was found damaged, or one that was is no more.
    pub(super) hurt: bool,
}

/// What the disk has room for, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Nothing.
    Nothing,
    /// To note that a pool has come to a later epoch: else nobody could read of it any more.
    Epochs,
    /// Deletes as well, which make room.
    Deletes,
    /// Everything.
    Puts,
}

impl Batch<'_> {
    /// Carries out one piece of work. The error ends the batch.
    fn apply(&mut self, change: &mut Change<'_>, work: &mut Work) -> Result<Outcome, IndexError> {
        match work {
            Work::Plain(write, _) => self.apply_plain(change, write).map(Outcome::Plain),
            Work::Kept(write, _) => apply_kept(self, change, write).map(Outcome::Kept),
        }
    }

    fn apply_plain(
        &mut self,
        change: &mut Change<'_>,
        write: &mut Write,
    ) -> Result<Result<Written, WriteError>, IndexError> {
        let current = change.record(&write.key)?;
        let tag = current.as_ref().map(|record| record.digest.to_string());
        let current = current.as_ref().zip(tag.as_ref()).map(|(record, tag)| Current {
            tag: tag.as_bytes(),
            modified_s: record.modified_ms / 1000,
        });
        if write.conditions.for_write(current) == Verdict::Failed {
            return Ok(Ok(Written::ConditionFailed));
        }
        match &mut write.action {
            Action::Put(meta, body) => self.put(change, &write.key, std::mem::take(meta), body),
            Action::Delete if current.is_none() => Ok(Ok(Written::Missing)),
            Action::Delete if self.room < Room::Deletes => Ok(Err(WriteError::Full)),
            Action::Delete => {
                let old = change.remove(&write.key)?;
                self.note_freed(old.as_ref());
                Ok(Ok(Written::Deleted))
            }
        }
    }

    fn put(
        &mut self,
        change: &mut Change<'_>,
        key: &[u8],
        meta: Meta,
        body: &mut NewBody,
    ) -> Result<Result<Written, WriteError>, IndexError> {
        if self.room != Room::Puts {
            return Ok(Err(WriteError::Full));
        }
        let (place, id, size, digest, bytes) = match body {
            NewBody::Small(bytes, digest) => {
                let id = self.core.blobs.next_id();
                (Place::Index, id, bytes.len() as u64, *digest, &bytes[..])
            }
            NewBody::Large(incoming) => {
                match self.core.blobs.keep(incoming) {
                    Ok(()) => self.moved = true,
                    Err(error) if is_no_space(&error) => return Ok(Err(WriteError::Full)),
                    Err(error) => return Err(error.into()),
                }
                (Place::File, incoming.id(), incoming.size(), incoming.digest(), &[][..])
            }
        };
        let record = Record { body: id, place, size, digest, modified_ms: self.now_ms, meta };
        let old = change.put(key, &record, bytes)?;
        self.note_freed(old.as_ref());
        Ok(Ok(if old.is_some() { Written::Replaced(record) } else { Written::Created(record) }))
    }

    fn note_freed(&mut self, old: Option<&Record>) {
        self.freed.extend(old.filter(|old| old.place == Place::File).map(|old| old.body));
    }
}
