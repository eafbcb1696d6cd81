//! Who writes the group's files, and in what order?
//!
//! One writer, in the order of asking: a vote that was given after an entry was appended may not
//! be on the disk without it. It takes everything that waits as one transaction, so that many
//! proposals share one fsync, and tells who asked only when that is durable.
//!
//! The writer is a thread, so that an fsync delays no heartbeat; under a simulated disk it is the
//! caller itself ([`Storage::Injected`]).
//!
//! Invariants:
//! 1. Nothing is acknowledged before it is durable, but for the committed mark, which nobody waits
//!    for: lost, it is learnt again from the leader.
//! 2. After a failed write nothing is written and nothing acknowledged any more, and
//!    [`Writer::failed`] says why. The kernel may have dropped the pages that it could not write
//!    and report success the next time (Rebello et al., *Can Applications Recover from fsync
//!    Failures?*, ATC 2020), so there is no second try.
//! 3. The snapshot's file never goes back to an older one.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::IOFlushed;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::log_file::{Change, LogFile};
use super::storage::Storage;
use super::types::{LogId, TypeConfig};
use crate::disk::atomic;

/// Writes that wait at most; who asks for another one waits for its place. openraft merges what
/// it appends, so that a disk must stand still for very long to fill this.
const QUEUED_MAX: usize = 4096;

/// How long a committed mark waits for a write that takes it along.
const MARK_WAITS: Duration = Duration::from_millis(100);

/// One thing to write.
#[derive(Debug)]
pub enum Write {
    /// Part of the log's transaction.
    Log(Change),
    /// The snapshot's whole file, and the index that it reaches.
    Snapshot(u64, Bytes),
}

/// Who is told, and how.
pub enum Told {
    /// Nobody waits.
    Nobody,
    /// An append.
    Raft(IOFlushed<TypeConfig>),
    /// Whoever holds the other end.
    Waiter(oneshot::Sender<io::Result<()>>),
}

struct Queued {
    write: Write,
    told: Told,
    _place: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Queue {
    writes: VecDeque<Queued>,
    /// The newest of these alone counts.
    committed: Option<LogId>,
    closed: bool,
}

/// What the writer owns.
struct Disk {
    log: LogFile,
    snapshot: PathBuf,
    /// Up to where the snapshot's file reaches.
    snapshot_index: Option<u64>,
}

struct Inner {
    queue: Mutex<Queue>,
    wake: Condvar,
    places: Arc<Semaphore>,
    failed: watch::Sender<Option<String>>,
    /// Present when the caller writes.
    in_place: Option<Mutex<Option<Disk>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The writer; clones are the same one.
#[derive(Clone)]
pub struct Writer(Arc<Inner>);

impl Writer {
    /// Takes over the files.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(
        log: LogFile,
        snapshot: PathBuf,
        snapshot_index: Option<u64>,
        storage: &Storage,
    ) -> io::Result<Self> {
        let disk = Disk { log, snapshot, snapshot_index };
        let (disk, in_place) = match storage {
            Storage::Files => (Some(disk), None),
            Storage::Injected(_) => (None, Some(Mutex::new(Some(disk)))),
        };
        let writer = Self(Arc::new(Inner {
            queue: Mutex::default(),
            wake: Condvar::new(),
            places: Arc::new(Semaphore::new(QUEUED_MAX)),
            failed: watch::Sender::new(None),
            in_place,
            thread: Mutex::new(None),
        }));
        if let Some(disk) = disk {
            let own = writer.clone();
            let thread = std::thread::Builder::new()
                .name("raft-log".to_owned())
                .spawn(move || own.run(disk))?;
            *lock(&writer.0.thread) = Some(thread);
        }
        Ok(writer)
    }

    /// Asks for a write. The order of these calls is the order on the disk.
    pub async fn write(&self, write: Write, told: Told) {
        let place = Arc::clone(&self.0.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        {
            let mut queue = lock(&self.0.queue);
            if queue.closed {
                drop(queue);
                return tell(told, Err(closed()));
            }
            queue.writes.push_back(Queued { write, told, _place: place });
        }
        self.wake();
    }

    /// Asks for a write and waits until it is durable.
    ///
    /// # Errors
    /// Why it is not, or may not be.
    pub async fn write_durably(&self, write: Write) -> io::Result<()> {
        let (told, waiter) = oneshot::channel();
        self.write(write, Told::Waiter(told)).await;
        waiter.await.map_err(|_| closed())?
    }

    /// Notes how far the log is committed; it reaches the disk with the next write, or a moment
    /// later by itself.
    pub fn committed(&self, id: LogId) {
        let mut queue = lock(&self.0.queue);
        let alone = queue.writes.is_empty();
        queue.committed = Some(id);
        drop(queue);
        if alone && self.0.in_place.is_none() {
            self.0.wake.notify_one();
        }
    }

    /// Why nothing is written any more; `None` while all is well.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.0.failed.subscribe()
    }

    /// Writes what still waits and lets go of the files. Blocks for that long.
    pub fn close(&self) {
        lock(&self.0.queue).closed = true;
        self.wake();
        self.0.wake.notify_all();
        if let Some(in_place) = &self.0.in_place {
            lock(in_place).take();
        }
        let thread = lock(&self.0.thread).take();
        if let Some(thread) = thread {
            // A panic of the thread was caught and told where it happened.
            let _: std::thread::Result<()> = thread.join();
        }
    }

    fn wake(&self) {
        let Some(in_place) = &self.0.in_place else { return self.0.wake.notify_one() };
        let mut disk = lock(in_place);
        let (writes, committed) = {
            let mut queue = lock(&self.0.queue);
            (std::mem::take(&mut queue.writes), queue.committed.take())
        };
        if let Some(disk) = &mut *disk {
            self.perform(disk, writes, committed);
        }
    }

    fn run(&self, mut disk: Disk) {
        loop {
            let mut queue = lock(&self.0.queue);
            while queue.writes.is_empty() && !queue.closed {
                if queue.committed.is_none() {
                    queue = self.0.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                let (again, waited) = self
                    .0
                    .wake
                    .wait_timeout(queue, MARK_WAITS)
                    .unwrap_or_else(PoisonError::into_inner);
                queue = again;
                if waited.timed_out() {
                    break;
                }
            }
            let writes = std::mem::take(&mut queue.writes);
            let committed = queue.committed.take();
            let closed = queue.closed;
            drop(queue);
            self.perform(&mut disk, writes, committed);
            if closed {
                return;
            }
        }
    }

    /// Writes a batch and tells everyone in it.
    fn perform(&self, disk: &mut Disk, writes: VecDeque<Queued>, committed: Option<LogId>) {
        let already = self.0.failed.borrow().clone();
        let (writes, told): (Vec<_>, Vec<_>) =
            writes.into_iter().map(|queued| (queued.write, queued.told)).unzip();
        let result = match already {
            Some(why) => Err(why),
            // redb may assert on pages that rotted while it ran; that is a failed disk too.
            None => catch_unwind(AssertUnwindSafe(|| disk.write(writes, committed)))
                .unwrap_or_else(|_| Err(io::Error::other("redb stopped at a contradiction")))
                .map_err(|error| format!("writing the Raft log failed: {error}")),
        };
        if let Err(why) = &result {
            self.0.failed.send_if_modified(|failed| {
                let first = failed.is_none();
                if first {
                    tracing::error!(
                        error = %why,
                        "the Raft log cannot be written: this node acknowledges nothing more and \
                         leaves the group until it is started again on a disk that works"
                    );
                    *failed = Some(why.clone());
                }
                first
            });
        }
        for told in told {
            tell(told, result.clone().map_err(io::Error::other));
        }
    }
}

impl Disk {
    fn write(&mut self, writes: Vec<Write>, committed: Option<LogId>) -> io::Result<()> {
        let mut changes = Vec::with_capacity(writes.len() + 1);
        for write in writes {
            match write {
                Write::Log(change) => changes.push(change),
                Write::Snapshot(index, bytes) => {
                    // A purge that waits behind it may rely on it, and one before it does not.
                    if self.snapshot_index.is_none_or(|newest| newest < index) {
                        atomic::replace(&self.snapshot, &bytes, 0o600)?;
                        self.snapshot_index = Some(index);
                    }
                }
            }
        }
        changes.extend(committed.map(Change::Committed));
        if changes.is_empty() { Ok(()) } else { self.log.write(&changes) }
    }
}

fn tell(told: Told, result: io::Result<()>) {
    match told {
        Told::Nobody => {}
        Told::Raft(callback) => callback.io_completed(result),
        // Who waited may have been cancelled meanwhile.
        Told::Waiter(waiter) => drop(waiter.send(result)),
    }
}

fn closed() -> io::Error {
    io::Error::other("the Raft log is closed")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
