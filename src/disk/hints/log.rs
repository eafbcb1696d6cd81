//! The thread that writes hints, and what it does at a start.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvError, RecvTimeoutError, SyncSender, TrySendError, sync_channel,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Notify;

use super::file::{MAGIC, Note, Reader, whole};
use super::sink::{HintSink, Order, QUEUE_MAX, Shared};
use crate::disk::atomic::replace;
use crate::ids::{PoolName, ShardId};
use crate::protocol::handoff::{Added, HintBook};

/// Notes that are made durable together.
const BATCH_MAX: usize = 1024;

/// A file that is this much longer than what it says is written anew.
const SLACK_BYTES: u64 = 1024 * 1024;

/// How long after a failed write it is tried again, if nothing comes meanwhile; and how long a hint
/// that found the queue full waits to be noted as lost, if it was the last one.
const RETRY: Duration = Duration::from_secs(1);

/// Why there is no log of hints.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct HintLogError {
    path: PathBuf,
    #[source]
    error: io::Error,
}

/// The durable log of hints. Dropped, it ends the thread, after everything left before is written.
#[derive(Debug)]
pub struct HintLog {
    sink: HintSink,
    thread: Option<JoinHandle<()>>,
}

impl HintLog {
    /// Opens the log in a node's folder, or begins one, for at most `hints_max` hints.
    ///
    /// A damaged tail is cut, with a message. A file that is none of ours is moved aside: it is
    /// no reason not to serve, since comparing finds what its hints named.
    ///
    /// # Errors
    /// When the file can be neither read nor written, or the thread not be started.
    pub fn open(folder: &Path, hints_max: usize) -> Result<Self, HintLogError> {
        Self::open_with(folder, hints_max, take_in)
    }

    /// The same, with what is done with a batch of notes.
    pub(super) fn open_with(
        folder: &Path,
        hints_max: usize,
        take: impl FnMut(&mut Vec<Note>, &Shared, &mut Writer) -> io::Result<()> + Send + 'static,
    ) -> Result<Self, HintLogError> {
        let path = folder.join("hints.log");
        let told = |error| HintLogError { path: path.clone(), error };
        let (book, taken_over) = read(&path, hints_max).map_err(told)?;
        let mut writer = Writer::closed(path.clone());
        match taken_over {
            Some(bytes) => writer.go_on(bytes, &book).map_err(told)?,
            None => writer.begin_anew(&book).map_err(told)?,
        }
        let shared = Arc::new(Shared {
            book: Mutex::new(book),
            overflowed: Mutex::default(),
            taken: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            failed_writes: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            changed: Notify::new(),
        });
        let (orders, received) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("hints".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run_on(&received, &shared, writer, take)
            })
            .map_err(told)?;
        Ok(Self { sink: HintSink { orders, shared }, thread: Some(thread) })
    }

    /// Where hints are left.
    #[must_use]
    pub fn sink(&self) -> HintSink {
        self.sink.clone()
    }

    /// Waits until everything left before is on the disk. Blocks.
    pub fn flush(&self) {
        let (done, waited) = sync_channel(1);
        if self.sink.orders.send(Order::Flush(done)).is_ok() {
            // A thread that is gone has written all that it ever will.
            let _: Result<(), RecvError> = waited.recv();
        }
    }
}

impl Drop for HintLog {
    fn drop(&mut self) {
        drop(self.sink.orders.send(Order::End));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes hints panicked");
        }
    }
}

/// What the file says, and how many of its bytes are good; `None` if it is to be begun anew.
fn read(path: &Path, hints_max: usize) -> io::Result<(HintBook, Option<u64>)> {
    let mut book = HintBook::new(hints_max);
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((book, None)),
        Err(error) => return Err(error),
    };
    let Some(mut reader) = Reader::new(&bytes) else {
        if !MAGIC.starts_with(&bytes) {
            let aside = path.with_extension("log.unknown");
            std::fs::rename(path, &aside)?;
            tracing::warn!(
                "{} is no log of hints of this release and was moved to {}: what it named is \
                 found by the next `ringway repair`",
                path.display(),
                aside.display()
            );
        }
        return Ok((book, None));
    };
    for note in &mut reader {
        note.apply(&mut book);
    }
    let good = reader.good_bytes();
    if good < bytes.len() {
        tracing::warn!(
            "{}: the last {} of {} bytes are damaged and were cut: what they named is found by \
             the next `ringway repair`",
            path.display(),
            bytes.len() - good,
            bytes.len()
        );
    }
    Ok((book, Some(u64::try_from(good).expect("a file is shorter than 2^64 bytes"))))
}

/// Works until it is told to end. A defect costs the batch that met it, whose shards are then to be
/// compared in full; with the thread gone, hints would be lost without a word.
fn run_on(
    orders: &Receiver<Order>,
    shared: &Shared,
    mut writer: Writer,
    mut take: impl FnMut(&mut Vec<Note>, &Shared, &mut Writer) -> io::Result<()>,
) {
    let mut hand = Hand::default();
    loop {
        let work = AssertUnwindSafe(|| run(orders, shared, &mut writer, &mut take, &mut hand));
        if catch_unwind(work).is_ok() {
            return;
        }
        shared.restarts.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            "the thread that writes hints met a defect and goes on: please report this; what it had \
             at hand is found by the next comparison"
        );
        // What the file has is not known.
        writer = Writer::closed(std::mem::take(&mut writer.path));
        let mut overflowed = shared.overflowed.lock().unwrap_or_else(PoisonError::into_inner);
        overflowed.append(&mut hand.at_risk);
        drop(overflowed);
        // Whoever waits for the batch does not wait for another defect.
        let was_repeated = hand.is_repeated;
        hand.is_repeated = hand.is_waited_for();
        if was_repeated {
            hand.flushes.clear();
            hand.is_repeated = false;
            if hand.is_ended {
                return;
            }
        }
    }
}

/// What is owed for the batch at hand, should it meet a defect.
#[derive(Default)]
struct Hand {
    /// The shards of its notes.
    at_risk: BTreeSet<(PoolName, ShardId)>,
    /// Those who wait until it is on the disk.
    flushes: Vec<SyncSender<()>>,
    /// It is the last one. The order for that does not come twice.
    is_ended: bool,
    /// It has met a defect before.
    is_repeated: bool,
}

impl Hand {
    fn is_waited_for(&self) -> bool {
        self.is_ended || !self.flushes.is_empty()
    }
}

fn run(
    orders: &Receiver<Order>,
    shared: &Shared,
    writer: &mut Writer,
    take: &mut impl FnMut(&mut Vec<Note>, &Shared, &mut Writer) -> io::Result<()>,
    hand: &mut Hand,
) {
    let mut notes = Vec::new();
    loop {
        let mut next = match hand.is_waited_for() {
            true => None,
            false => match orders.recv_timeout(RETRY) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            },
        };
        while let Some(order) = next {
            match order {
                Order::Note(note) => notes.push(note),
                Order::Flush(done) => hand.flushes.push(done),
                Order::End => hand.is_ended = true,
            }
            next = match notes.len() < BATCH_MAX && !hand.is_ended {
                true => orders.try_recv().ok(),
                false => None,
            };
        }
        let refused =
            std::mem::take(&mut *shared.overflowed.lock().unwrap_or_else(PoisonError::into_inner));
        notes.extend(refused.into_iter().map(|(pool, shard)| Note::Overflowed(pool, shard)));
        if notes.is_empty() && !hand.is_waited_for() && !writer.is_broken() {
            continue;
        }
        hand.at_risk.extend(notes.iter().filter_map(|note| match note {
            Note::Missed(hint) => Some((hint.pool.clone(), hint.shard.clone())),
            Note::Overflowed(pool, shard) => Some((pool.clone(), shard.clone())),
            Note::Settled(_) | Note::Compared(..) | Note::Forgotten(..) => None,
        }));
        let written = take(&mut notes, shared, writer);
        hand.at_risk.clear();
        hand.is_repeated = false;
        if let Err(error) = written {
            shared.failed_writes.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut writer.told, true) {
                tracing::error!(
                    "{}: hints cannot be written: {error}: free space or replace the disk; until \
                     then they are kept in memory alone",
                    writer.path.display()
                );
            }
        }
        shared.changed.notify_one();
        for done in hand.flushes.drain(..) {
            // Whoever waited may have gone.
            let _: Result<(), TrySendError<()>> = done.try_send(());
        }
        if hand.is_ended {
            return;
        }
    }
}

/// Takes a batch into the book, and what that changed onto the disk.
pub(super) fn take_in(
    notes: &mut Vec<Note>,
    shared: &Shared,
    writer: &mut Writer,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    let live = {
        let mut book = shared.book();
        for note in notes.drain(..) {
            match note {
                Note::Missed(hint) => match book.add(hint.clone()) {
                    Added::New | Added::Newer => {
                        shared.taken.fetch_add(1, Ordering::Relaxed);
                        Note::Missed(hint).write(&mut bytes);
                    }
                    Added::Known => {}
                    Added::Refused => {
                        shared.lost.fetch_add(1, Ordering::Relaxed);
                        Note::Overflowed(hint.pool, hint.shard).write(&mut bytes);
                    }
                },
                other => {
                    other.write(&mut bytes);
                    other.apply(&mut book);
                }
            }
        }
        // Copied only if it is to be written anew, since that may take a while.
        let grown = writer.bytes + bytes.len() as u64;
        let anew = writer.is_broken()
            || grown > 2 * writer.live_bytes + SLACK_BYTES
            || (book.is_empty() && grown > MAGIC.len() as u64);
        anew.then(|| book.clone())
    };
    match live {
        Some(book) => writer.begin_anew(&book),
        None if bytes.is_empty() => Ok(()),
        None => writer.append(&bytes),
    }
}

/// The file.
pub(super) struct Writer {
    path: PathBuf,
    /// `None` after a failed write: what is in the file then is not known.
    file: Option<File>,
    /// Its length.
    bytes: u64,
    /// Its length when it last said no more than there was.
    live_bytes: u64,
    /// Whether the log has heard of the present failure.
    told: bool,
}

impl Writer {
    fn closed(path: PathBuf) -> Self {
        Self { path, file: None, bytes: 0, live_bytes: 0, told: false }
    }

    fn is_broken(&self) -> bool {
        self.file.is_none()
    }

    /// Goes on behind the first `bytes` of the file that is there.
    fn go_on(&mut self, bytes: u64, book: &HintBook) -> io::Result<()> {
        let file = self.open()?;
        file.set_len(bytes)?;
        file.sync_all()?;
        self.file = Some(file);
        self.bytes = bytes;
        self.live_bytes = whole(book).len() as u64;
        Ok(())
    }

    /// Replaces the file by one that says what the book holds, and no more.
    fn begin_anew(&mut self, book: &HintBook) -> io::Result<()> {
        self.file = None;
        let bytes = whole(book);
        replace(&self.path, &bytes, 0o600)?;
        self.file = Some(self.open()?);
        self.bytes = bytes.len() as u64;
        self.live_bytes = self.bytes;
        self.told = false;
        Ok(())
    }

    /// Appends, durably. After a failure the file is not written any more: after a failed fsync
    /// nobody can say what is in it (Rebello et al., *Can Applications Recover from fsync
    /// Failures?*, ATC 2020). The next batch begins another.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.file.take().expect("a broken file is begun anew");
        file.write_all(bytes)?;
        file.sync_data()?;
        self.file = Some(file);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().append(true).mode(0o600).open(&self.path)
    }
}
