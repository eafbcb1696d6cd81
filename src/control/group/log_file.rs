//! What does the log look like on the disk, and when is it damaged?
//!
//! One redb file: entries by index, and beside them the vote, how far the log was purged, how far
//! it is known to be committed, and whose log it is. One call of [`LogFile::write`] is one durable
//! transaction: all of it is there after a crash, or none.
//!
//! What a start reads is checked whole: redb's own sums of every page, our sum of every row, that
//! the indexes leave no hole between what was purged and the end. A log that fails any of that
//! stops the node ([`LogError::Damaged`]); to begin with a shorter log would be to forget votes and
//! entries that others count on.
//!
//! It is also written anew by each start, whole, before anything is built on it ([`write_anew`]).
//!
//! What cannot be told apart: a page of the very last transaction that rots *and* a crash before
//! the file was closed look like a transaction that never ended. Every log without a second copy
//! of its tail has that weakness; the majority's copies are what makes up for it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::record::{self, RecordError};
use super::storage::Storage;
use super::types::{Entry, LogId, Vote};
use crate::disk::atomic;
use crate::ids::{ClusterId, NodeId};

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const MARKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("marks");

const OWNER: &str = "owner";
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";

/// What redb may keep of the file in memory: the log itself is in memory anyway.
const CACHE_BYTES_MAX: usize = 4 << 20;

/// Whose log it is. A log of another node under this node's identity would vote for it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

/// One change of the log, part of a transaction.
#[derive(Debug)]
pub enum Change {
    /// The vote is this now.
    Vote(Vote),
    /// These entries follow.
    Entries(Vec<Entry>),
    /// Nothing at or behind this index is in the log.
    CutFrom(u64),
    /// Nothing up to this one is in the log any more.
    Purge(LogId),
    /// Everything up to this one is committed.
    Committed(LogId),
}

/// What a start finds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The last vote.
    pub vote: Option<Vote>,
    /// Up to where the log was purged.
    pub purged: Option<LogId>,
    /// Up to where it is known to be committed.
    pub committed: Option<LogId>,
    /// What follows what was purged, without a hole.
    pub entries: BTreeMap<u64, Entry>,
}

impl Loaded {
    fn is_empty(&self) -> bool {
        let Self { vote, purged, committed, entries } = self;
        vote.is_none() && purged.is_none() && committed.is_none() && entries.is_empty()
    }
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file is not what was written.
    #[error(
        "{}: the Raft log is damaged ({what}). Do not delete it: this node's vote and entries that \
         others count on are in it. Bring the whole folder back from a copy of this very node, or, \
         if the rest of the cluster has a majority, remove this node there (`ringway cluster \
         remove-node`), empty its `data_dir` and let it join anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The identity says that there must be one.
    #[error(
        "{}: the Raft log is missing, and this node has an identity: without its log it could vote \
         twice in one term. Bring the file back, or remove the node from the cluster (`ringway \
         cluster remove-node`), empty its `data_dir` and let it join anew",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file that says whose it is is gone.
    #[error(
        "{}: this is the log of node {} of cluster {}, which has voted or agreed by it, and the \
         file `identity` beside its folder is missing: bring it back from a copy of this very node, \
         or, if the rest of the cluster has a majority, remove this node there (`ringway cluster \
         remove-node`), empty its `data_dir` and let it join anew",
        path.display(), found.node, found.cluster
    )]
    Ownerless {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: Owner,
    },
    /// It is another node's.
    #[error(
        "{}: this is the log of node {} of cluster {}, and `identity` says node {} of cluster {}: \
         one of the two files was copied from another node; bring back the one that belongs here",
        path.display(), found.node, found.cluster, expected.node, expected.cluster
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: Owner,
        /// Whose it should be.
        expected: Owner,
    },
    /// The file cannot be opened or read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// The open file.
#[derive(Debug)]
pub struct LogFile {
    db: Database,
}

impl LogFile {
    /// Makes an empty log. Only for a node that has never voted: one that anything was written to
    /// is never replaced.
    ///
    /// # Errors
    /// [`LogError`]; what is there is left as it is.
    pub fn create(path: &Path, storage: &Storage, owner: Owner) -> Result<Self, LogError> {
        let io = |error| LogError::Io { path: path.to_owned(), error };
        if matches!(storage, Storage::Injected(_)) {
            let file = Self { db: open_database(path, storage)? };
            file.found(owner).map_err(io)?;
            return Ok(file);
        }
        Self::check_unused(path)?;
        let folder = path.parent().expect("the log is in a folder");
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
        // Aside, and then in its place at once: a file at `path` is always whole.
        let aside = path.with_extension("new");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        drop(options.open(&aside).map_err(io)?);
        let file = Self { db: open_database(&aside, storage)? };
        file.found(owner).map_err(io)?;
        std::fs::rename(&aside, path).map_err(io)?;
        atomic::sync_folder(folder).map_err(io)?;
        atomic::sync_folder(folder.parent().unwrap_or(Path::new("."))).map_err(io)?;
        Ok(file)
    }

    /// Refuses a log that a node has voted or agreed by. One that was made and never written to is
    /// what a birth leaves that was interrupted.
    ///
    /// # Errors
    /// [`LogError::Ownerless`], or that it cannot be read.
    pub fn check_unused(path: &Path) -> Result<(), LogError> {
        if !path.try_exists().map_err(|error| LogError::Io { path: path.to_owned(), error })? {
            return Ok(());
        }
        let (_, found, loaded) = Self::read(path, &Storage::Files)?;
        if loaded.is_empty() {
            return Ok(());
        }
        Err(LogError::Ownerless { path: path.to_owned(), found })
    }

    fn found(&self, owner: Owner) -> io::Result<()> {
        let transaction = self.db.begin_write().map_err(io::Error::other)?;
        {
            transaction.open_table(ENTRIES).map_err(io::Error::other)?;
            let mut marks = transaction.open_table(MARKS).map_err(io::Error::other)?;
            put_mark(&mut marks, OWNER, &owner)?;
        }
        transaction.commit().map_err(io::Error::other)
    }

    /// Opens the log of a node that has one, and checks it whole.
    ///
    /// # Errors
    /// [`LogError`]; the file has the bytes that it had.
    pub fn open(path: &Path, storage: &Storage, owner: Owner) -> Result<(Self, Loaded), LogError> {
        if matches!(storage, Storage::Files) {
            write_anew(path)?;
        }
        let (file, found, loaded) = Self::read(path, storage)?;
        if found != owner {
            return Err(LogError::Foreign { path: path.to_owned(), found, expected: owner });
        }
        if matches!(storage, Storage::Files) {
            let folder = path.parent().expect("the log is in a folder");
            // Releases before left both to the umask.
            for (path, mode) in [(folder, 0o700), (path, 0o600)] {
                let mode = Permissions::from_mode(mode);
                std::fs::set_permissions(path, mode)
                    .map_err(|error| LogError::Io { path: path.to_owned(), error })?;
            }
        }
        Ok((file, loaded))
    }

    /// Reads a log and checks it whole.
    fn read(path: &Path, storage: &Storage) -> Result<(Self, Owner, Loaded), LogError> {
        let damaged = |what: String| LogError::Damaged { path: path.to_owned(), what };
        // redb asserts what it expects of its pages; a damaged file may fail such an assertion.
        let opened = catch_unwind(AssertUnwindSafe(|| -> Result<_, LogError> {
            let mut db = open_database(path, storage)?;
            match db.check_integrity() {
                Ok(true) => {}
                Ok(false) => return Err(damaged("redb had to repair it".to_owned())),
                Err(error) => return Err(classify(path, error)),
            }
            let file = Self { db };
            let (found, loaded) = file.load().map_err(|error| match error {
                LoadError::Damaged(what) => damaged(what),
                LoadError::Io(error) => LogError::Io { path: path.to_owned(), error },
            })?;
            Ok((file, found, loaded))
        }));
        let Ok(opened) = opened else {
            return Err(damaged("its pages contradict each other".to_owned()));
        };
        opened
    }

    fn load(&self) -> Result<(Owner, Loaded), LoadError> {
        let transaction = self.db.begin_read().map_err(LoadError::other)?;
        let marks = transaction.open_table(MARKS).map_err(LoadError::other)?;
        let owner = read_mark(&marks, OWNER)?
            .ok_or_else(|| LoadError::Damaged("it does not say whose log it is".to_owned()))?;
        let mut loaded = Loaded {
            vote: read_mark(&marks, VOTE)?,
            purged: read_mark(&marks, PURGED)?,
            committed: read_mark(&marks, COMMITTED)?,
            entries: BTreeMap::new(),
        };
        let entries = transaction.open_table(ENTRIES).map_err(LoadError::other)?;
        let mut next = loaded.purged.map(|purged| purged.index + 1);
        for row in entries.iter().map_err(LoadError::other)? {
            let (key, value) = row.map_err(LoadError::other)?;
            let index = key.value();
            let entry: Entry = record::decode(&index.to_be_bytes(), value.value())
                .map_err(|error| LoadError::Damaged(format!("entry {index}: {error}")))?;
            if index != next.unwrap_or(0) || entry.log_id.index != index {
                let expected = next.unwrap_or(0);
                let what = format!("entry {expected} is missing, entry {index} follows");
                return Err(LoadError::Damaged(what));
            }
            next = Some(index + 1);
            loaded.entries.insert(index, entry);
        }
        Ok((owner, loaded))
    }

    /// Writes one transaction. When this returns, it survives a loss of power.
    ///
    /// # Errors
    /// What the file system says. Whether the transaction is there is then unknown, and nothing
    /// more may be written.
    pub fn write(&self, changes: &[Change]) -> io::Result<()> {
        let transaction = self.db.begin_write().map_err(io::Error::other)?;
        {
            let mut entries = transaction.open_table(ENTRIES).map_err(io::Error::other)?;
            let mut marks = transaction.open_table(MARKS).map_err(io::Error::other)?;
            for change in changes {
                match change {
                    Change::Vote(vote) => put_mark(&mut marks, VOTE, vote)?,
                    Change::Committed(id) => put_mark(&mut marks, COMMITTED, id)?,
                    Change::Entries(new) => {
                        for entry in new {
                            let index = entry.log_id.index;
                            let bytes = record::encode(&index.to_be_bytes(), entry);
                            entries.insert(index, bytes.as_slice()).map_err(io::Error::other)?;
                        }
                    }
                    Change::CutFrom(index) => {
                        entries.retain_in(*index.., |_, _| false).map_err(io::Error::other)?;
                    }
                    Change::Purge(id) => {
                        entries.retain_in(..=id.index, |_, _| false).map_err(io::Error::other)?;
                        put_mark(&mut marks, PURGED, id)?;
                    }
                }
            }
        }
        transaction.commit().map_err(io::Error::other)
    }
}

/// Makes durable what a start finds. After an fsync that failed, the kernel goes on showing bytes
/// that are not on the disk, as if they were; a process that was only started again would build on
/// them, and the next loss of power would take them from under it (Rebello et al., section 5).
fn write_anew(path: &Path) -> Result<(), LogError> {
    let written = std::fs::read(path).and_then(|bytes| atomic::replace(path, &bytes, 0o600));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LogError::Missing { path: path.to_owned() },
        _ => LogError::Io { path: path.to_owned(), error },
    })
}

fn open_database(path: &Path, storage: &Storage) -> Result<Database, LogError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES_MAX);
    match storage {
        Storage::Files => builder.create(path),
        Storage::Injected(open) => {
            let backend = open().map_err(|error| LogError::Io { path: path.to_owned(), error })?;
            builder.create_with_backend(backend)
        }
    }
    .map_err(|error| classify(path, error))
}

fn classify(path: &Path, error: DatabaseError) -> LogError {
    let path = path.to_owned();
    match error {
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() != io::ErrorKind::InvalidData
                && error.kind() != io::ErrorKind::UnexpectedEof =>
        {
            LogError::Io { path, error }
        }
        DatabaseError::DatabaseAlreadyOpen => LogError::Io { path, error: io::Error::other(error) },
        other => LogError::Damaged { path, what: other.to_string() },
    }
}

enum LoadError {
    Damaged(String),
    Io(io::Error),
}

impl LoadError {
    fn other(error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::Io(error) => Self::Io(error),
            other => Self::Damaged(other.to_string()),
        }
    }
}

type Marks<'t> = redb::Table<'t, &'static str, &'static [u8]>;

fn put_mark(marks: &mut Marks<'_>, key: &str, value: &impl Serialize) -> io::Result<()> {
    let bytes = record::encode(key.as_bytes(), value);
    marks.insert(key, bytes.as_slice()).map_err(io::Error::other)?;
    Ok(())
}

fn read_mark<T: DeserializeOwned>(
    marks: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>, LoadError> {
    let Some(value) = marks.get(key).map_err(LoadError::other)? else { return Ok(None) };
    let decoded = record::decode(key.as_bytes(), value.value());
    decoded.map(Some).map_err(|error: RecordError| LoadError::Damaged(format!("{key}: {error}")))
}
