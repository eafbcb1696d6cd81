//! How is a hint handed over by somebody who may not wait?

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::file::Note;
use crate::ids::{PoolName, ShardId};
use crate::protocol::handoff::{Hint, HintBook, Pending};

/// Notes that wait for the disk: what a worker leaves behind in a second or two at worst.
pub(super) const QUEUE_MAX: usize = 8192;

/// What came of the hints since the node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HintCounts {
    /// Taken in.
    pub taken: u64,
    /// Lost because more came than the disk takes, or than there is room for.
    pub lost: u64,
    /// Batches that could not be written: what they held is in memory alone.
    pub failed_writes: u64,
    /// Defects that the thread met, and went on after.
    pub restarts: u64,
}

/// What both sides hold.
pub(super) struct Shared {
    pub(super) book: Mutex<HintBook>,
    /// Shards of which a hint found the queue full; the thread takes them from here.
    pub(super) overflowed: Mutex<BTreeSet<(PoolName, ShardId)>>,
    pub(super) taken: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) failed_writes: AtomicU64,
    pub(super) restarts: AtomicU64,
    /// Told after each batch.
    pub(super) changed: Notify,
}

impl Shared {
    pub(super) fn book(&self) -> MutexGuard<'_, HintBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread is sent.
pub(super) enum Order {
    Note(Note),
    /// Answered when everything sent before is on the disk, or was counted as failed.
    Flush(SyncSender<()>),
    End,
}

/// Where hints are left; clones lead to the same log. It never waits for the disk.
#[derive(Clone)]
pub struct HintSink {
    pub(super) orders: SyncSender<Order>,
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for HintSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HintSink").finish_non_exhaustive()
    }
}

impl HintSink {
    /// Leaves a hint. If it cannot be taken, that is counted, and its shard will be compared in
    /// full.
    pub fn leave(&self, hint: Hint) {
        self.send(Note::Missed(hint));
    }

    /// Says that a shard has this version of a key, or a newer one.
    pub fn settle(&self, hint: Hint) {
        self.send(Note::Settled(hint));
    }

    /// Says that a shard was compared in full; that comparison began when it was not overflowed
    /// for reasons that came later.
    pub fn compared(&self, pool: &PoolName, shard: &ShardId) {
        self.send(Note::Compared(pool.clone(), shard.clone()));
    }

    /// Drops what was kept for a shard that is no more, or has another store now.
    pub fn forget(&self, pool: &PoolName, shard: &ShardId) {
        self.send(Note::Forgotten(pool.clone(), shard.clone()));
    }

    fn send(&self, note: Note) {
        let refused = match self.orders.try_send(Order::Note(note)) {
            Ok(()) => return,
            Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) => order,
        };
        // Another note that is lost is found out again: a shard that has what a hint names says
        // so the next time, and one that is no more is forgotten again.
        if let Order::Note(Note::Missed(hint)) = refused {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            let mut overflowed =
                self.shared.overflowed.lock().unwrap_or_else(PoisonError::into_inner);
            overflowed.insert((hint.pool, hint.shard));
        }
    }

    /// Who has missed what, as far as it has been taken in.
    #[must_use]
    pub fn pending(&self) -> Vec<(PoolName, ShardId, Pending)> {
        let book = self.shared.book();
        let pending = book.pending();
        pending.map(|(pool, shard, pending)| (pool.clone(), shard.clone(), pending)).collect()
    }

    /// What one shard has missed.
    #[must_use]
    pub fn pending_of(&self, pool: &PoolName, shard: &ShardId) -> Pending {
        self.shared.book().pending_of(pool, shard)
    }

    /// At most `limit` hints for a shard, from a place on; each with its place.
    #[must_use]
    pub fn batch(
        &self,
        pool: &PoolName,
        shard: &ShardId,
        from: u64,
        limit: usize,
    ) -> Vec<(u64, Hint)> {
        self.shared.book().batch(pool, shard, from, limit)
    }

    /// What came of the hints since the node started.
    #[must_use]
    pub fn counts(&self) -> HintCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HintCounts {
            taken: read(&self.shared.taken),
            lost: read(&self.shared.lost),
            failed_writes: read(&self.shared.failed_writes),
            restarts: read(&self.shared.restarts),
        }
    }

    /// Ready when something has been taken in or settled since the last time. For one waiter.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}
