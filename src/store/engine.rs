//! The store itself, without HTTP: how is a folder opened, read, written and closed?
//!
//! A folder has:
//!
//! | name | content |
//! | --- | --- |
//! | `lock` | held by the process that works here |
//! | `identity` | the store's id, for people and for telling a lost index from an empty folder |
//! | `index.redb` | every key's record, and small bodies ([`Index`]) |
//! | `bodies/` | large bodies, one file each; `incoming/` those on their way in ([`Blobs`]) |
//! | `reserve` | blocks held back for a full disk |
//!
//! Opening never begins anew where something was: an index that is missing or damaged is an error
//! that names the file and the cure.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::disk::lock::{FolderLock, LockError};
use crate::ids::StoreId;
use crate::store::blobs::{Blobs, FOLDERS, Incoming};
use crate::store::fence::Fence;
use crate::store::identity::{self, IDENTITY_FILE};
use crate::store::index::{Index, IndexError, IndexOpenError};
use crate::store::index_file::IndexFile;
use crate::store::metrics::Metrics;
use crate::store::options::StoreOptions;
use crate::store::record::BodyId;
use crate::store::replica::damage;
use crate::store::replica::stages::Stages;
use crate::store::replica::view::PoolView;
use crate::store::replica::write::{KeptDone, KeptError, KeptWrite};
use crate::store::reserve::{Reserve, is_no_space};
use crate::store::tables::Totals;
use crate::store::view::View;
use crate::store::writer::{Job, Room, Work, Write, WriteError, Writer, Written};

const INDEX_FILE: &str = "index.redb";
const RESERVE_FILE: &str = "reserve";

/// Writes that wait for the writing thread at once, bodies in memory. Two full batches: one
/// being committed, one ready.
const QUEUE_WRITES_MAX: usize = 512;

/// Transfers of large values that get wide buffers at once; further ones get narrow ones. Bounds
/// the memory of many slow clients without making anybody wait.
const WIDE_TRANSFERS_MAX: usize = 64;

/// Bytes of a wide buffer. Half of it costs a third more CPU for a 64 MiB PUT or GET, by hops to
/// the blocking pool.
const WIDE_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes of a narrow buffer.
const NARROW_BUFFER_BYTES: usize = 32 * 1024;

/// How long a write waits for a place in the queue before it is refused. At one commit a second,
/// which is a sick disk, nobody would be served sooner.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

/// Why a folder could not be opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody works there.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The folder has other things in it, and no store.
    #[error(
        "{} has no store but `{found}`: name an empty folder, or the folder of a store",
        folder.display()
    )]
    NotAStore {
        /// The folder.
        folder: PathBuf,
        /// One of the things that are no store's.
        found: String,
    },
    /// The folder had a store whose index is gone.
    #[error(
        "{} is missing, but {} says that a store was here: put the folder back from a backup whole, or empty it to begin anew as another store",
        index.display(), beside.display()
    )]
    IndexMissing {
        /// Where the index should be.
        index: PathBuf,
        /// What shows that there was one.
        beside: PathBuf,
    },
    /// The index cannot be used.
    #[error(
        "{} is damaged ({reason}): put the folder back from a backup whole, or empty it to begin anew as another store, to be filled again by what writes here",
        index.display()
    )]
    IndexDamaged {
        /// The index.
        index: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The index was written by a later release.
    #[error("{}: {reason}: start the release that wrote it, or a later one", index.display())]
    IndexNewer {
        /// The index.
        index: PathBuf,
        /// Its version and ours.
        reason: String,
    },
    /// Index and identity belong to different stores.
    #[error(
        "{} is of store {index_id}, but {} of store {folder_id}: files of two stores are mixed here, put the folder back from a backup whole",
        index.display(), identity.display()
    )]
    Mixed {
        /// The index.
        index: PathBuf,
        /// The id in it.
        index_id: StoreId,
        /// The identity file.
        identity: PathBuf,
        /// The id in that.
        folder_id: StoreId,
    },
    /// The system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a value could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The file of a large body cannot be opened.
    #[error("the file of the value cannot be opened: {0}")]
    Body(#[from] io::Error),
    /// The body is not what the record says.
    #[error("the value's body is missing or has another length than was written")]
    Damaged,
}

/// Read and write health, apart: a full disk serves reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Why reads fail, if they do.
    pub read: Result<(), String>,
    /// Why writes fail, if they do.
    pub write: Result<(), String>,
}

/// How much one transfer of a large value may hold in each of its two buffers.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) buffer_bytes: usize,
    // Given back when the transfer ends.
    _permit: Option<OwnedSemaphorePermit>,
}

/// What readers, the writing thread and uploads share. The order of the fields is the order in
/// which they are let go: the lock last, so that nobody else opens what is still in use.
pub(super) struct Core {
    pub(super) index: Index,
    pub(super) stages: Stages,
    pub(super) blobs: Arc<Blobs>,
    pub(super) fence: Arc<Fence>,
    pub(super) metrics: Arc<Metrics>,
    /// As the disk was when it was last looked at.
    is_full: AtomicBool,
    _lock: FolderLock,
    /// Tells [`Store::close`] that the lock is gone.
    _closed: watch::Sender<()>,
}

/// An open store.
pub struct Store {
    core: Arc<Core>,
    options: StoreOptions,
    /// The store's id as a field.
    id: HeaderValue,
    places: Arc<Semaphore>,
    wide: Arc<Semaphore>,
    // `None` only while dropping.
    writer: Option<(Mutex<Sender<Job>>, JoinHandle<()>)>,
    closed: watch::Receiver<()>,
}

impl Store {
    /// Opens the store in `options.folder`; makes it if the folder is empty. Blocks: an index
    /// that was not closed is checked first, at about a second per GiB.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(options: StoreOptions) -> Result<Self, OpenError> {
        let folder = &options.folder;
        std::fs::create_dir_all(folder).map_err(failed("make", folder))?;
        let lock = FolderLock::take(folder)?;
        let metrics = Arc::clone(&options.metrics);
        let fence = Arc::new(Fence::new(metrics.fenced.clone()));
        let index = open_index(&options, &fence)?;
        let syncs = options.fsync != super::Fsync::Never;
        let blobs = Blobs::open(folder, syncs, metrics.sweep_failures.clone())
            .map_err(failed("make folders in", folder))?;
        let lost = sweep(&blobs, &index.view(), folder)?;
        let damaged = damage::note_lost(&index, &lost).unwrap_or_else(|error| {
            tracing::error!(%error, "values whose files are gone cannot be noted as damaged");
            0
        });
        let (closed_sender, closed) = watch::channel(());
        let stages =
            Stages::new(metrics.replica.stages.clone(), metrics.replica.stage_bytes.clone());
        let core = Arc::new(Core {
            index,
            stages,
            blobs: Arc::new(blobs),
            fence,
            metrics,
            is_full: AtomicBool::new(false),
            _lock: lock,
            _closed: closed_sender,
        });
        core.metrics.replica.damage_found[damage::AT_START].inc_by(damaged);
        core.show_totals();
        core.show_damaged();
        core.room();
        #[allow(clippy::disallowed_methods, reason = "each job holds one of `places`")]
        let (sender, queue) = mpsc::channel();
        let writer = Writer::new(Arc::clone(&core), queue, options.fsync, options.clock);
        let thread = std::thread::Builder::new()
            .name("store-write".to_owned())
            .spawn(move || writer.run())
            .map_err(failed("start a thread for", folder))?;
        let id = core.index.id().to_string();
        Ok(Self {
            core,
            options,
            id: HeaderValue::from_str(&id).expect("hexadecimal digits"),
            places: Arc::new(Semaphore::new(QUEUE_WRITES_MAX)),
            wide: Arc::new(Semaphore::new(WIDE_TRANSFERS_MAX)),
            writer: Some((Mutex::new(sender), thread)),
            closed,
        })
    }

    /// The store's identity.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.core.index.id()
    }

    /// The same as a field's value.
    pub(super) fn id_field(&self) -> &HeaderValue {
        &self.id
    }

    /// What the store was told when it was opened.
    #[must_use]
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// What reads see now.
    pub(super) fn view(&self) -> Arc<View> {
        self.core.index.view()
    }

    /// Opens the file of a large body; `None` when its value was replaced or deleted since its
    /// record was read, and a later view will show that. An open file stays readable. Blocks.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub(super) fn open_body(&self, id: BodyId, size: u64) -> Result<Option<File>, ReadError> {
        match self.core.blobs.open_body(id) {
            Ok(file) if file.metadata()?.len() == size => Ok(Some(file)),
            Ok(_) => Err(ReadError::Damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.view().has_file(id)? {
                    Err(ReadError::Damaged)
                } else {
                    Ok(None)
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The buffers for one transfer of a large value.
    pub(super) fn share(&self) -> Share {
        let permit = Arc::clone(&self.wide).try_acquire_owned().ok();
        let buffer_bytes = if permit.is_some() { WIDE_BUFFER_BYTES } else { NARROW_BUFFER_BYTES };
        Share { buffer_bytes, _permit: permit }
    }

    /// Begins a large body. Blocks.
    ///
    /// # Errors
    /// As a write.
    pub(super) fn begin_body(&self) -> Result<Incoming, WriteError> {
        self.core.blobs.begin().map_err(|error| self.body_failed("opening", &error))
    }

    /// Appends to a large body. Blocks.
    ///
    /// # Errors
    /// As a write.
    pub(super) fn write_body(&self, body: &mut Incoming, bytes: &[u8]) -> Result<(), WriteError> {
        body.write(bytes).map_err(|error| self.body_failed("writing", &error))
    }

    /// Makes a large body durable. Blocks.
    ///
    /// # Errors
    /// As a write.
    pub(super) fn sync_body(&self, body: &mut Incoming) -> Result<(), WriteError> {
        body.sync().map_err(|error| self.body_failed("syncing", &error))
    }

    /// No record names the body yet, so that nothing has changed. A full disk is no reason to
    /// fence; after any other failure of the disk nobody knows what the next one will hit.
    fn body_failed(&self, doing: &str, error: &io::Error) -> WriteError {
        if is_no_space(error) {
            return WriteError::Full;
        }
        let reason = format!("{doing} a file for a value failed: {error}");
        let errno = rustix::io::Errno::from_io_error(error);
        if matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)) {
            // Too many open files say nothing about the disk.
            return WriteError::Busy;
        }
        self.core.fence.raise(reason.clone());
        WriteError::Fenced(reason)
    }

    /// Has a write carried out and answers once that is durable. Dropping the future does not
    /// take the write back.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub(super) async fn write(&self, write: Write) -> Result<Written, WriteError> {
        let place = self.place().await?;
        let (reply, answer) = oneshot::channel();
        self.enqueue(Job { work: Work::Plain(write, reply), _place: place });
        answer.await.unwrap_or_else(|_| Err(self.no_answer()))
    }

    /// As [`Store::write`], for a pool that keeps data.
    ///
    /// # Errors
    /// See [`KeptError`].
    pub(super) async fn write_kept(&self, write: KeptWrite) -> Result<KeptDone, KeptError> {
        let place = self.place().await?;
        let (reply, answer) = oneshot::channel();
        self.enqueue(Job { work: Work::Kept(write, reply), _place: place });
        answer.await.unwrap_or_else(|_| Err(self.no_answer().into()))
    }

    /// A place in the queue.
    async fn place(&self) -> Result<OwnedSemaphorePermit, WriteError> {
        self.check_fence()?;
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let place = tokio::time::timeout(QUEUE_WAIT, Arc::clone(&self.places).acquire_owned());
        Ok(place.await.map_err(|_| WriteError::Busy)?.expect("the semaphore is never closed"))
    }

    /// No answer comes from a thread that panicked over the write.
    fn no_answer(&self) -> WriteError {
        WriteError::Unknown(self.core.fence.reason().unwrap_or_default().to_owned())
    }

    /// The bodies that wait for their commit.
    pub(super) fn stages(&self) -> &Stages {
        &self.core.stages
    }

    /// Why no write is taken until the store is started again, if so.
    pub(super) fn fenced(&self) -> Option<&str> {
        self.core.fence.reason()
    }

    /// Whether there was room for puts when the disk was last looked at; if not, it is looked at
    /// again, so that nobody is refused for long who would write the first byte that fits.
    pub(super) fn has_room(&self) -> bool {
        !self.core.is_full.load(Ordering::Relaxed) || self.core.room() == Room::Puts
    }

    fn enqueue(&self, job: Job) {
        let (sender, _) = self.writer.as_ref().expect("the writer lives as long as the store");
        let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that is gone drops the job, and with it its `reply`.
        let _ = sender.send(job);
    }

    /// # Errors
    /// [`WriteError::Fenced`] when the store takes no writes.
    pub(super) fn check_fence(&self) -> Result<(), WriteError> {
        match self.core.fence.reason() {
            Some(reason) => Err(WriteError::Fenced(reason.to_owned())),
            None => Ok(()),
        }
    }

    /// Whether the store can do its work now. Blocks.
    #[must_use]
    pub fn health(&self) -> Health {
        let read = self.view().record(b"").map(drop).map_err(|error| error.to_string());
        let write = match (self.core.fence.reason(), self.core.room()) {
            (Some(reason), _) => Err(reason.to_owned()),
            (None, Room::Puts) => Ok(()),
            (None, _) => Err("the disk is full".to_owned()),
        };
        Health { read, write }
    }

    /// What the store holds.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.view().totals()
    }

    /// Where the store counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    /// Lets go of the store and returns once its folder may be opened again. Whoever else holds
    /// the store, or reads one of its files, is waited for: stop its server first.
    pub async fn close(self: Arc<Self>) {
        let mut closed = self.closed.clone();
        // The last one to let go waits for the writing thread.
        let dropped = tokio::task::spawn_blocking(move || drop(self));
        // An error says that the sender is gone, which is what we wait for.
        while closed.changed().await.is_ok() {}
        let _ = dropped.await;
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.writer.take() {
            drop(sender);
            // It catches its panics, and what it did is durable.
            let _ = thread.join();
        }
    }
}

impl Core {
    /// Looks what the disk has room for, after trying to make the reserve whole.
    pub(super) fn room(&self) -> Room {
        let mut reserve = self.index.file().reserve();
        let room = if reserve.restore() {
            Room::Puts
        } else if reserve.covers_deletes() {
            Room::Deletes
        } else if reserve.covers_epochs() {
            Room::Epochs
        } else {
            Room::Nothing
        };
        drop(reserve);
        self.is_full.store(room != Room::Puts, Ordering::Relaxed);
        self.metrics.full.set(i64::from(room != Room::Puts));
        room
    }

    /// Shows how many values are damaged.
    pub(super) fn show_damaged(&self) {
        let view = self.index.view();
        let counts = view.pools().map(|pool| view.damaged(pool));
        match counts.sum::<Result<u64, IndexError>>() {
            Ok(count) => self.metrics.replica.damaged.set(i64::try_from(count).unwrap_or(i64::MAX)),
            Err(error) => tracing::warn!(%error, "damaged values cannot be counted"),
        }
    }

    /// Shows what the store holds in the metrics.
    pub(super) fn show_totals(&self) {
        let view = self.index.view();
        let totals = view.totals();
        self.metrics.held(totals.objects, totals.bytes);
        self.metrics.replica.held(view.pools().map(PoolView::facts));
    }
}

fn failed<'p>(doing: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> OpenError + 'p {
    move |source| OpenError::Io { doing, path: path.to_owned(), source }
}

/// Opens the index of the folder, or makes one where nothing else is, and checks that it and the
/// identity belong together.
fn open_index(options: &StoreOptions, fence: &Arc<Fence>) -> Result<Index, OpenError> {
    let folder = &options.folder;
    let path = folder.join(INDEX_FILE);
    let identity = folder.join(IDENTITY_FILE);
    let folder_id = identity::read(folder).map_err(failed("read", &identity))?;
    let exists = path.try_exists().map_err(failed("look for", &path))?;
    let failed_with = |error| match error {
        IndexOpenError::Io(source) => OpenError::Io { doing: "open", path: path.clone(), source },
        IndexOpenError::Damaged(reason) => OpenError::IndexDamaged { index: path.clone(), reason },
        newer @ IndexOpenError::Newer(_) => {
            OpenError::IndexNewer { index: path.clone(), reason: newer.to_string() }
        }
    };
    if !exists {
        if folder_id.is_some() {
            return Err(OpenError::IndexMissing { index: path, beside: identity });
        }
        check_empty(folder, &path)?;
        let id = identity::draw().map_err(failed("draw an id for", folder))?;
        Index::create(&path, id).map_err(failed_with)?;
    }
    let reserve_path = folder.join(RESERVE_FILE);
    let reserve = Reserve::open(&reserve_path, options.reserve_bytes)
        .map_err(failed("open", &reserve_path))?;
    let file = Index::open_file(&path).map_err(failed("open", &path))?;
    let syncs = options.fsync != super::Fsync::Never;
    let file = IndexFile::new(file, syncs, reserve, Arc::clone(fence));
    let index = Index::open(file).map_err(failed_with)?;
    match folder_id {
        Some(folder_id) if folder_id != index.id() => {
            Err(OpenError::Mixed { index_id: index.id(), index: path, identity, folder_id })
        }
        Some(_) => Ok(index),
        // A start that was cut short between the two.
        None => {
            identity::write(folder, index.id()).map_err(failed("write", &identity))?;
            Ok(index)
        }
    }
}

/// A store is begun only where nothing is that could have been one, or anything else.
fn check_empty(folder: &Path, index: &Path) -> Result<(), OpenError> {
    // What an interrupted first start, or a fresh file system, may have left.
    let harmless = ["lock", "lost+found", "index.new", RESERVE_FILE, FOLDERS[0], FOLDERS[1]];
    let listed = |path: &Path| -> Result<Vec<String>, OpenError> {
        std::fs::read_dir(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map(|all| all.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
            .map_err(failed("list", path))
    };
    for found in listed(folder)? {
        if !harmless.contains(&found.as_str()) {
            return Err(OpenError::NotAStore { folder: folder.to_owned(), found });
        }
        if found == FOLDERS[1] && !listed(&folder.join(&found))?.is_empty() {
            let beside = folder.join(&found);
            return Err(OpenError::IndexMissing { index: index.to_owned(), beside });
        }
    }
    Ok(())
}

/// Answers which bodies' files are gone.
fn sweep(blobs: &Blobs, view: &View, folder: &Path) -> Result<Vec<BodyId>, OpenError> {
    let swept = view
        .next_body()
        .and_then(|next| blobs.sweep::<IndexError>(next, view.files()?, |id| view.has_file(id)));
    let swept = swept.map_err(|error| match error {
        IndexError::Beside(source) => {
            OpenError::Io { doing: "sweep the bodies of", path: folder.to_owned(), source }
        }
        other => {
            OpenError::IndexDamaged { index: folder.join(INDEX_FILE), reason: other.to_string() }
        }
    })?;
    if swept.orphans > 0 {
        tracing::info!(files = swept.orphans, "removed files that no value names");
    }
    if !swept.lost.is_empty() {
        let examples: Vec<BodyId> = swept.lost.iter().copied().take(5).collect();
        tracing::error!(
            values = swept.lost.len(),
            ?examples,
            "files of values are gone: those of replicated pools are brought by other replicas, all \
             others answer 500 until they are written again"
        );
    }
    Ok(swept.lost)
}
