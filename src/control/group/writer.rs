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
//! 4. Nothing is begun on a file system that is nearly full: what is asked waits, unacknowledged,
//!    until there is room again ([`Writer::waits`]), and then goes on by itself. A write that ran
//!    out of room halfway would be a failed write, and its node out of the group, whereas a full
//!    disk is nothing that a restart cures, and often all nodes' at once.
//! 5. A snapshot that could not be written is that snapshot's trouble alone: its file is made aside
//!    and from nothing each time, and the log still holds what it stands for. The log is not purged
//!    behind one that is not there.
//!
//! Known weakness: between the look at the free space and the write another process may take it.
//! The reserve makes that unlikely; if it happens, the write has failed (2).

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
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

/// What must be free on the file system before anything is written. Far more than a transaction
/// takes (some entries and the pages that lead to them), because others write to the same disk.
const RESERVE_BYTES: u64 = 16 << 20;

/// How often the free space is looked at while there is too little.
const SPACE_LOOK: Duration = Duration::from_millis(250);

/// Tells how many bytes are free where the files are.
pub type Free = Box<dyn Fn() -> io::Result<u64> + Send>;

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
    /// The last attempt to write a snapshot has failed.
    snapshot_owed: bool,
}

struct Inner {
    queue: Mutex<Queue>,
    wake: Condvar,
    places: Arc<Semaphore>,
    failed: watch::Sender<Option<String>>,
    waits: watch::Sender<Option<String>>,
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
        let free = match storage {
            Storage::Files => {
                let folder = snapshot.parent().unwrap_or(Path::new(".")).to_owned();
                Some(Box::new(move || free_bytes(&folder)) as Free)
            }
            Storage::Injected(_) => None,
        };
        Self::with_space(log, snapshot, snapshot_index, free)
    }

    /// The same where `free` tells the free space. Without it the caller writes.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn with_space(
        log: LogFile,
        snapshot: PathBuf,
        snapshot_index: Option<u64>,
        free: Option<Free>,
    ) -> io::Result<Self> {
        let disk = Disk { log, snapshot, snapshot_index, snapshot_owed: false };
        let (threaded, in_place) = match free {
            Some(free) => (Some((disk, free)), None),
            None => (None, Some(Mutex::new(Some(disk)))),
        };
        let writer = Self(Arc::new(Inner {
            queue: Mutex::default(),
            wake: Condvar::new(),
            places: Arc::new(Semaphore::new(QUEUED_MAX)),
            failed: watch::Sender::new(None),
            waits: watch::Sender::new(None),
            in_place,
            thread: Mutex::new(None),
        }));
        if let Some((disk, free)) = threaded {
            let own = writer.clone();
            let thread = std::thread::Builder::new()
                .name("raft-log".to_owned())
                .spawn(move || own.run(disk, &free))?;
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

    /// For what writing waits; `None` while it does not.
    #[must_use]
    pub fn waits(&self) -> watch::Receiver<Option<String>> {
        self.0.waits.subscribe()
    }

    /// Whether nothing will be written any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.failed.borrow().is_some() || lock(&self.0.queue).closed
    }

    /// Does what takes long and touches no file: not on the caller's thread, unless the caller is
    /// the one that writes.
    pub async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        if self.0.in_place.is_some() {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and with it whoever asked.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Writes what still waits and lets go of the files. Blocks for that long. What waits for space
    /// is not written.
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
            self.perform(disk, writes, committed, u64::MAX);
        }
    }

    fn run(&self, mut disk: Disk, free: &Free) {
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
            drop(queue);
            // Looked at without the lock, which callers wait for. A file system that does not tell
            // is written to.
            let space = free().unwrap_or(u64::MAX);
            let has_space = self.has_space(space);
            let mut queue = lock(&self.0.queue);
            if !has_space && !queue.closed {
                drop(self.0.wake.wait_timeout(queue, SPACE_LOOK));
                continue;
            }
            let writes = std::mem::take(&mut queue.writes);
            let committed = queue.committed.take();
            let closed = queue.closed;
            drop(queue);
            if has_space {
                self.perform(&mut disk, writes, committed, space);
            } else {
                writes.into_iter().for_each(|queued| tell(queued.told, Err(self::closed())));
            }
            if closed {
                return;
            }
        }
    }

    /// Whether `space` is enough to go on. What has failed goes on to say so.
    fn has_space(&self, space: u64) -> bool {
        let enough = space >= RESERVE_BYTES || self.0.failed.borrow().is_some();
        self.0.waits.send_if_modified(|waits| {
            let changed = enough == waits.is_some();
            if enough {
                *waits = None;
            } else {
                *waits = Some(format!(
                    "the file system of the Raft log has {} MiB free, and {} MiB must be",
                    space >> 20,
                    RESERVE_BYTES >> 20
                ));
            }
            match (changed, enough) {
                (true, true) => tracing::info!("there is space again: the Raft log goes on"),
                (true, false) => tracing::error!(
                    free_bytes = space,
                    "no space for the Raft log: this node acknowledges nothing until there is; it \
                     goes on by itself"
                ),
                (false, _) => {}
            }
            changed
        });
        enough
    }

    /// Writes a batch and tells everyone in it. `space` is what is free.
    fn perform(
        &self,
        disk: &mut Disk,
        writes: VecDeque<Queued>,
        committed: Option<LogId>,
        space: u64,
    ) {
        let already = self.0.failed.borrow().clone();
        let (mut changes, mut told) = (Vec::with_capacity(writes.len() + 1), Vec::new());
        for queued in writes {
            match queued.write {
                Write::Log(change) => {
                    changes.push(change);
                    told.push(queued.told);
                }
                // A purge that waits behind it may rely on it, and what is before it does not.
                Write::Snapshot(index, bytes) => tell(
                    queued.told,
                    match &already {
                        Some(why) => Err(io::Error::other(why.clone())),
                        None => disk.keep(index, &bytes, space),
                    },
                ),
            }
        }
        changes.extend(committed.map(Change::Committed));
        let result = match already {
            Some(why) => Err(why),
            // redb may assert on pages that rotted while it ran; that is a failed disk too.
            None => catch_unwind(AssertUnwindSafe(|| disk.write(&changes)))
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
    fn keep(&mut self, index: u64, bytes: &[u8], space: u64) -> io::Result<()> {
        if self.snapshot_index.is_some_and(|newest| newest >= index) {
            return Ok(());
        }
        self.snapshot_owed = true;
        let room = RESERVE_BYTES + bytes.len() as u64;
        if space < room {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        atomic::replace(&self.snapshot, bytes, 0o600)?;
        self.snapshot_index = Some(index);
        self.snapshot_owed = false;
        Ok(())
    }

    fn write(&mut self, changes: &[Change]) -> io::Result<()> {
        let purges_too_far = |change: &Change| match change {
            Change::Purge(upto) => self.snapshot_owed && Some(upto.index) > self.snapshot_index,
            _ => false,
        };
        if changes.iter().any(purges_too_far) {
            let what = "a purge of what no snapshot on the disk stands for";
            return Err(io::Error::other(what));
        }
        if changes.is_empty() { Ok(()) } else { self.log.write(changes) }
    }
}

/// What an ordinary process may still write on the file system of `folder`.
fn free_bytes(folder: &Path) -> io::Result<u64> {
    let told = rustix::fs::statvfs(folder)?;
    Ok(told.f_bavail.saturating_mul(told.f_frsize))
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
