//! Which key has which value? How the index is made, opened, changed and seen.
//!
//! What the tables are is in [`tables`](crate::store::tables).
//!
//! **Reads see only what was committed, and durably so under `fsync: always`.** They go through a
//! [`View`], a read transaction that is published whole after a commit succeeded, never through a
//! transaction of their own: redb would show them a commit whose sync has failed. The view pins
//! the pages of one commit only.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use redb::{Database, Durability, ReadableDatabase, RepairSession, WriteTransaction};

use crate::ids::StoreId;
use crate::store::change::{Change, Ending};
use crate::store::index_file::IndexFile;
use crate::store::record::RecordError;
use crate::store::replica::sums::count_damaged;
use crate::store::tables::{BODIES, DOOMED, FACTS, FILES, OBJECTS, POOLS, Totals};
use crate::store::view::View;

/// Version of the layout. 1 had no table `pools`, 2 no births of pools and no table `doomed`, and in 3
/// the sums of slots left out what is damaged; all are made 4 when they are opened.
const FORMAT: u32 = 4;

/// Memory that redb may use for pages. Its default of 1 GiB is for a process that does nothing
/// else; the kernel's own cache stands behind this one.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Why the index could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum IndexOpenError {
    /// The file is not what this release or an earlier one left there.
    #[error("{0}")]
    Damaged(String),
    /// The file is of a later release.
    #[error("it has layout {0}, this release reads layout {FORMAT}")]
    Newer(u32),
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why the index could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// redb failed.
    #[error("the index failed: {0}")]
    Redb(#[from] redb::Error),
    /// A record does not decode.
    #[error("the index has a damaged row: {0}")]
    Record(#[from] RecordError),
    /// A record's body is missing or has another length.
    #[error("the index has not the body that a row of it names")]
    Body,
    /// What a step of the change did beside the index failed.
    #[error("making the change durable failed: {0}")]
    Beside(#[from] io::Error),
    /// The index file broke; its fence tells why.
    #[error("the index file broke")]
    Broken,
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for IndexError {
            fn from(error: redb::$error) -> Self {
                Self::Redb(error.into())
            }
        })*
    };
}
from_redb!(StorageError, TableError, TransactionError, CommitError, SetDurabilityError);

/// The index of one store.
pub struct Index {
    // Before the database: its pages must not be looked at once that is closed.
    view: ArcSwap<View>,
    db: Database,
    file: IndexFile,
    id: StoreId,
}

impl Index {
    /// Makes an empty index at `path`, which must not exist, whole and durable or not at all.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(path: &Path, id: StoreId) -> Result<(), IndexOpenError> {
        let aside = path.with_extension("new");
        match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let db = Database::create(&aside).map_err(|error| open_error(error.into()))?;
        fill_empty(&db, id).map_err(open_error)?;
        drop(db);
        std::fs::rename(&aside, path)?;
        crate::disk::atomic::sync_folder(path.parent().unwrap_or(Path::new(".")))?;
        Ok(())
    }

    /// Opens the file of an index.
    ///
    /// What a dead process left is read from the disk and not from the kernel's cache: after a
    /// failed fsync that process was fenced for, the cache has pages which the disk does not.
    ///
    /// # Errors
    /// See [`IndexOpenError`].
    pub fn open_file(path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        file.sync_data()?;
        // Advice: a kernel that does not follow it leaves us as well off as without.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(file)
    }

    /// Opens the index in `file`, repairing it first if the last process did not close it. A file
    /// that breaks meanwhile, on a full disk without a reserve, is opened all the same: its fence
    /// is up, and it can be read.
    ///
    /// # Errors
    /// See [`IndexOpenError`].
    pub fn open(file: IndexFile) -> Result<Self, IndexOpenError> {
        // redb asserts what it expects of its file, so that a damaged one may also panic.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_db(&file)));
        let (db, view, id) = opened
            .unwrap_or_else(|_| Err(IndexOpenError::Damaged("redb panicked on it".to_owned())))?;
        Ok(Self { view: ArcSwap::from_pointee(view), db, file, id })
    }

    fn open_db(file: &IndexFile) -> Result<(Database, View, StoreId), IndexOpenError> {
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_repair_callback(report_repair())
            .create_with_backend(file.clone())
            .map_err(|error| open_error(error.into()))?;
        let (id, format) = check_facts(&db)?;
        if format < FORMAT {
            upgrade(&db)?;
            tracing::info!(from = format, to = FORMAT, "the index has the layout of this release");
        }
        let view = View::new(&db).map_err(|error| IndexOpenError::Damaged(error.to_string()))?;
        Ok((db, view, id))
    }

    /// The id of the store that the index belongs to.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// The file under the index.
    #[must_use]
    pub fn file(&self) -> &IndexFile {
        &self.file
    }

    /// What reads see now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Runs `step` in a write transaction and commits what it changed; if it changed nothing,
    /// nothing is committed. Without `durable` the commit is atomic but survives a crash only
    /// after a later durable one, unless what was changed asks for more. Answers what `step` did,
    /// and whether there was anything to commit.
    ///
    /// # Errors
    /// Whatever `step` or the index says: then nothing of it is visible, and unless the error
    /// came from `step`, it is unknown what a restart will find.
    pub fn change<T>(
        &self,
        durable: bool,
        step: impl FnOnce(&mut Change<'_>) -> Result<T, IndexError>,
    ) -> Result<(T, bool), IndexError> {
        let mut tx = self.db.begin_write()?;
        let mut change = Change::new(&tx)?;
        let out = step(&mut change)?;
        match change.finish()? {
            Ending::Abort => {
                tx.abort()?;
                return Ok((out, false));
            }
            Ending::Commit if !durable => tx.set_durability(Durability::None)?,
            Ending::Commit | Ending::CommitDurably => {}
        }
        self.commit(tx)?;
        Ok((out, true))
    }

    /// Makes durable what was committed without.
    ///
    /// # Errors
    /// As [`Index::change`].
    pub fn flush(&self) -> Result<(), IndexError> {
        self.commit(self.db.begin_write()?)
    }

    fn commit(&self, tx: WriteTransaction) -> Result<(), IndexError> {
        tx.commit()?;
        if self.file.is_broken() {
            return Err(IndexError::Broken);
        }
        self.view.store(Arc::new(View::new(&self.db)?));
        Ok(())
    }
}

/// Says that the index is being checked, and every few seconds how far that is.
fn report_repair() -> impl Fn(&mut RepairSession) {
    let told = Cell::new(None::<Instant>);
    move |session| match told.get() {
        None => {
            tracing::warn!("the index was not closed when the store last ended: checking it");
            told.set(Some(Instant::now()));
        }
        Some(last) if last.elapsed() >= Duration::from_secs(5) => {
            tracing::warn!("checking the index: {:.0} % done", session.progress() * 100.0);
            told.set(Some(Instant::now()));
        }
        Some(_) => {}
    }
}

fn fill_empty(db: &Database, id: StoreId) -> Result<(), redb::Error> {
    let tx = db.begin_write()?;
    {
        tx.open_table(OBJECTS)?;
        tx.open_table(BODIES)?;
        tx.open_table(FILES)?;
        tx.open_table(POOLS)?;
        tx.open_table(DOOMED)?;
        let mut facts = tx.open_table(FACTS)?;
        facts.insert("format", &FORMAT.to_le_bytes()[..])?;
        facts.insert("store", &id.0[..])?;
        facts.insert("totals", &Totals::default().encode()[..])?;
    }
    tx.commit()?;
    Ok(())
}

/// Makes the layout of an earlier release this one's, at once or not at all.
fn upgrade(db: &Database) -> Result<(), IndexOpenError> {
    let upgrade = || {
        let tx = db.begin_write()?;
        tx.open_table(POOLS)?;
        tx.open_table(DOOMED)?;
        count_damaged(&tx)?;
        tx.open_table(FACTS)?.insert("format", &FORMAT.to_le_bytes()[..])?;
        tx.commit()?;
        Ok(())
    };
    upgrade().map_err(|error: IndexError| match error {
        IndexError::Redb(error) => open_error(error),
        other => IndexOpenError::Damaged(other.to_string()),
    })
}

/// Whose the index is, and of which layout.
fn check_facts(db: &Database) -> Result<(StoreId, u32), IndexOpenError> {
    let fact = |name: &str| -> Result<Option<Vec<u8>>, redb::Error> {
        let table = db.begin_read()?.open_table(FACTS)?;
        Ok(table.get(name)?.map(|value| value.value().to_vec()))
    };
    let array = |name: &str| {
        fact(name)
            .map_err(|error| IndexOpenError::Damaged(error.to_string()))?
            .ok_or_else(|| IndexOpenError::Damaged(format!("it has no fact `{name}`")))
    };
    let odd = |_| IndexOpenError::Damaged("one of its facts has an odd length".to_owned());
    let format = u32::from_le_bytes(array("format")?.try_into().map_err(odd)?);
    if format > FORMAT {
        return Err(IndexOpenError::Newer(format));
    }
    Ok((StoreId(array("store")?.try_into().map_err(odd)?), format))
}

/// Tells a refusal of the system from a file that redb does not recognise.
fn open_error(error: redb::Error) -> IndexOpenError {
    match error {
        redb::Error::Io(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            IndexOpenError::Io(error)
        }
        other => IndexOpenError::Damaged(other.to_string()),
    }
}
