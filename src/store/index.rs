//! Which key has which value? The redb tables, their transactions, and the view that reads use.
//!
//! Four tables:
//!
//! - `objects`: key → [`Record`], all that HEAD, a condition or a listing asks for;
//! - `bodies`: body id → bytes, for bodies that are in the index. Apart from the records, so that a
//!   listing does not read through them and a new record beside an old body does not copy it;
//! - `files`: the ids of bodies that are files, so that orphans are known without a full scan;
//! - `facts`: version of this layout, store id, totals.
//!
//! Further namespaces (one per pool) will be further `objects` tables beside this one, over the
//! same bodies; staged bodies are bodies that no record names yet.
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
use bytes::Bytes;
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, RepairSession, Table,
    TableDefinition, WriteTransaction,
};

use crate::ids::StoreId;
use crate::store::index_file::IndexFile;
use crate::store::list::{Page, Query};
use crate::store::record::{BodyId, Place, Record, RecordError};

const OBJECTS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("objects");
const BODIES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("bodies");
const FILES: TableDefinition<'static, u64, ()> = TableDefinition::new("files");
const FACTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("facts");

/// Version of the layout above.
const FORMAT: u32 = 1;

/// Memory that redb may use for pages. Its default of 1 GiB is for a process that does nothing
/// else; the kernel's own cache stands behind this one.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// What the index holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of values.
    pub objects: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

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
        let id = check_facts(&db)?;
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
    /// after a later durable one.
    ///
    /// # Errors
    /// Whatever `step` or the index says: then nothing of it is visible, and unless the error
    /// came from `step`, it is unknown what a restart will find.
    pub fn change<T>(
        &self,
        durable: bool,
        step: impl FnOnce(&mut Change<'_>) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let mut tx = self.db.begin_write()?;
        if !durable {
            tx.set_durability(Durability::None)?;
        }
        let mut change = Change::new(&tx)?;
        let out = step(&mut change)?;
        if change.finish()? {
            self.commit(tx)?;
        } else {
            tx.abort()?;
        }
        Ok(out)
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
        let mut facts = tx.open_table(FACTS)?;
        facts.insert("format", &FORMAT.to_le_bytes()[..])?;
        facts.insert("store", &id.0[..])?;
        facts.insert("totals", &Totals::default().encode()[..])?;
    }
    tx.commit()?;
    Ok(())
}

fn check_facts(db: &Database) -> Result<StoreId, IndexOpenError> {
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
    Ok(StoreId(array("store")?.try_into().map_err(odd)?))
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

/// The state after one commit, for as many reads as want it.
pub struct View {
    objects: ReadOnlyTable<&'static [u8], &'static [u8]>,
    bodies: ReadOnlyTable<u64, &'static [u8]>,
    files: ReadOnlyTable<u64, ()>,
    totals: Totals,
}

impl View {
    fn new(db: &Database) -> Result<Self, IndexError> {
        let tx = db.begin_read()?;
        let facts = tx.open_table(FACTS)?;
        Ok(Self {
            objects: tx.open_table(OBJECTS)?,
            bodies: tx.open_table(BODIES)?,
            files: tx.open_table(FILES)?,
            totals: Totals::read(&facts)?,
        })
    }

    /// The record of a key.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn record(&self, key: &[u8]) -> Result<Option<Record>, IndexError> {
        let Some(row) = self.objects.get(key)? else { return Ok(None) };
        Ok(Some(Record::decode(row.value())?))
    }

    /// A copy of a body that is in the index. A copy, because a slow client that held the page
    /// would hold back the reuse of every page freed since.
    ///
    /// # Errors
    /// When the index cannot be read, or has no such body of that length.
    pub fn body(&self, record: &Record) -> Result<Bytes, IndexError> {
        let row = self.bodies.get(record.body.0)?;
        let bytes = row.as_ref().map(redb::AccessGuard::value);
        let whole = bytes.filter(|bytes| bytes.len() as u64 == record.size);
        whole.map(Bytes::copy_from_slice).ok_or(IndexError::Body)
    }

    /// One page of the keys.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(&self, query: &Query) -> Result<Page, IndexError> {
        let (start, inclusive) = query.start();
        let mut page = Page::default();
        let mut last: Vec<u8> = Vec::new();
        for row in self.objects.range::<&[u8]>(start..)? {
            let (key, row) = row?;
            let key = key.value();
            if !inclusive && key == start {
                continue;
            }
            if !key.starts_with(&query.prefix) {
                break;
            }
            if page.keys.len() == query.limit {
                page.more_after(&last);
                break;
            }
            page.push(key, &Record::decode(row.value())?);
            key.clone_into(&mut last);
        }
        Ok(page)
    }

    /// Whether a body is known to be a file.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn has_file(&self, id: BodyId) -> Result<bool, IndexError> {
        Ok(self.files.get(id.0)?.is_some())
    }

    /// The ids of all bodies that are files.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn files(&self) -> Result<impl Iterator<Item = Result<BodyId, IndexError>>, IndexError> {
        Ok(self.files.iter()?.map(|row| Ok(BodyId(row?.0.value()))))
    }

    /// An id above that of every body held.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn next_body(&self) -> Result<BodyId, IndexError> {
        let inline = self.bodies.last()?.map_or(0, |(id, _)| id.value() + 1);
        let file = self.files.last()?.map_or(0, |(id, _)| id.value() + 1);
        Ok(BodyId(inline.max(file)))
    }

    /// What is held.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

/// A write transaction at work.
pub struct Change<'t> {
    objects: Table<'t, &'static [u8], &'static [u8]>,
    bodies: Table<'t, u64, &'static [u8]>,
    files: Table<'t, u64, ()>,
    facts: Table<'t, &'static str, &'static [u8]>,
    totals: Totals,
    changed: bool,
}

impl<'t> Change<'t> {
    fn new(tx: &'t WriteTransaction) -> Result<Self, IndexError> {
        let facts = tx.open_table(FACTS)?;
        Ok(Self {
            objects: tx.open_table(OBJECTS)?,
            bodies: tx.open_table(BODIES)?,
            files: tx.open_table(FILES)?,
            totals: Totals::read(&facts)?,
            facts,
            changed: false,
        })
    }

    /// The record of a key, with what this transaction has done to it.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn record(&self, key: &[u8]) -> Result<Option<Record>, IndexError> {
        let Some(row) = self.objects.get(key)? else { return Ok(None) };
        Ok(Some(Record::decode(row.value())?))
    }

    /// Gives `key` the value `record`, whose bytes are `body` unless they are in a file. Answers
    /// the record that was replaced; if its body is a file, that is the caller's to remove, after
    /// the commit.
    ///
    /// # Errors
    /// When the index cannot be read or changed.
    pub fn put(
        &mut self,
        key: &[u8],
        record: &Record,
        body: &[u8],
    ) -> Result<Option<Record>, IndexError> {
        let old = self.remove(key)?;
        self.objects.insert(key, &record.encode()[..])?;
        match record.place {
            Place::Index => drop(self.bodies.insert(record.body.0, body)?),
            Place::File => drop(self.files.insert(record.body.0, ())?),
        }
        self.totals.objects += 1;
        self.totals.bytes += record.size;
        self.changed = true;
        Ok(old)
    }

    /// Forgets `key` and answers its record; a file is the caller's to remove as in
    /// [`Change::put`].
    ///
    /// # Errors
    /// When the index cannot be read or changed.
    pub fn remove(&mut self, key: &[u8]) -> Result<Option<Record>, IndexError> {
        let old = match self.objects.remove(key)? {
            Some(row) => Record::decode(row.value())?,
            None => return Ok(None),
        };
        match old.place {
            Place::Index => drop(self.bodies.remove(old.body.0)?),
            Place::File => drop(self.files.remove(old.body.0)?),
        }
        self.totals.objects = self.totals.objects.saturating_sub(1);
        self.totals.bytes = self.totals.bytes.saturating_sub(old.size);
        self.changed = true;
        Ok(Some(old))
    }

    /// Ends the work on the tables; whether there is anything to commit.
    fn finish(mut self) -> Result<bool, IndexError> {
        if self.changed {
            self.facts.insert("totals", &self.totals.encode()[..])?;
        }
        Ok(self.changed)
    }
}

impl Totals {
    fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.objects.to_le_bytes());
        out[8..].copy_from_slice(&self.bytes.to_le_bytes());
        out
    }

    fn read(facts: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Self, IndexError> {
        let row = facts.get("totals")?;
        let bytes = row.as_ref().map(redb::AccessGuard::value);
        let parts = bytes.and_then(|bytes| {
            let (objects, rest) = bytes.split_first_chunk()?;
            Some((u64::from_le_bytes(*objects), u64::from_le_bytes(rest.try_into().ok()?)))
        });
        let (objects, bytes) = parts.ok_or(RecordError::Malformed)?;
        Ok(Self { objects, bytes })
    }
}
