//! How does Raft see its log?
//!
//! The whole log that is not purged yet is in memory, and the file behind it exists for the next
//! start alone. So an entry can be read the moment [`append`](RaftLogStorage::append) returns,
//! while the [`Writer`] makes it durable, and a follower that is a little behind costs no read of
//! the disk. The log is short: a snapshot is taken every
//! [`SNAPSHOT_ENTRIES`](super::part::SNAPSHOT_ENTRIES) entries, and commands are small.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::log_file::{Change, Loaded};
use super::types::{Entry, LogId, TypeConfig, Vote};
use super::writer::{Told, Write, Writer};

/// What one message brings a member of the log, and one entry more: a pool with thousands of shards
/// is a few mebibytes, and a message of hundreds of those would be longer than any that is taken.
const APPEND_BYTES_MAX: usize = 4 << 20;

/// The log; clones are the same one.
#[derive(Clone)]
pub struct LogStore {
    tail: Arc<Mutex<Tail>>,
    writer: Writer,
}

struct Tail {
    vote: Option<Vote>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

impl LogStore {
    /// A log with what a start found.
    #[must_use]
    pub fn new(loaded: Loaded, writer: Writer) -> Self {
        let Loaded { vote, purged, committed, entries } = loaded;
        let tail = Tail { vote, purged, committed, entries };
        Self { tail: Arc::new(Mutex::new(tail)), writer }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(at) => *at,
            Bound::Excluded(at) => at.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(at) => at.saturating_add(1),
            Bound::Excluded(at) => *at,
            Bound::Unbounded => u64::MAX,
        };
        if start >= end {
            return Ok(Vec::new());
        }
        Ok(self.tail().entries.range(start..end).map(|(_, entry)| entry.clone()).collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let mut entries = self.try_get_log_entries(start..end).await?;
        let mut bytes = Counted(0);
        let begin_below_the_limit = entries.iter().take_while(|entry| {
            let before = bytes.0;
            serde_json::to_writer(&mut bytes, entry).expect("entries are JSON");
            before < APPEND_BYTES_MAX
        });
        let count = begin_below_the_limit.count();
        entries.truncate(count);
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.tail().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.tail();
        let last = tail.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: last.or(tail.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.writer.write_durably(Write::Log(Change::Vote(*vote))).await?;
        // Only now: a reader of the vote may tell it to others.
        self.tail().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.tail().committed = Some(committed);
            self.writer.committed(committed);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.tail().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.tail().entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
        self.writer.write(Write::Log(Change::Entries(entries)), Told::Raft(callback)).await;
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index + 1);
        self.tail().entries.split_off(&from);
        self.writer.write(Write::Log(Change::CutFrom(from)), Told::Nobody).await;
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut tail = self.tail();
            tail.purged = tail.purged.max(Some(upto));
            tail.entries = tail.entries.split_off(&(upto.index + 1));
        }
        self.writer.write(Write::Log(Change::Purge(upto)), Told::Nobody).await;
        Ok(())
    }
}

/// Counts what is written to it.
struct Counted(usize);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
