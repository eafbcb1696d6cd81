//! Where do large bodies lie, and how does one become durable?
//!
//! A body over [`INLINE_BYTES_MAX`] is a file named by its [`BodyId`]. Its life:
//!
//! 1. It streams into a file in `incoming/`, hashed on its way, and is synced ([`Incoming`]).
//! 2. Its write is admitted: the file is renamed into `bodies/` and that folder synced.
//! 3. The index commits the record that names it. Only now does it count.
//! 4. Replaced or deleted, it is unlinked after *that* commit. Who has it open reads on.
//!
//! A crash leaves a file without a record at worst, never a record without its file. At start,
//! before anything is served, all of `incoming/` and whatever in `bodies/` the index does not know
//! is removed ([`Blobs::sweep`]).
//!
//! Unlinking a large file takes a while on most file systems, so one thread does nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use prometheus::IntCounter;

use crate::ids::Digest;
use crate::store::record::BodyId;

/// The longest body that is kept in the index; longer ones are files.
///
/// A small body costs a share of one sync in the index and a sync of its own as a file. A large
/// one must be contiguous in redb, passes through its cache and is rounded up to a power of two,
/// and streams as a file (1 MiB: 36 MB/s in redb, 91 as files, on one machine).
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Names of the folders within the store's own.
pub(super) const FOLDERS: [&str; 2] = ["incoming", "bodies"];

/// The folders of large bodies.
#[derive(Debug)]
pub struct Blobs {
    incoming: PathBuf,
    kept: PathBuf,
    kept_folder: File,
    /// False for `fsync: never`.
    syncs: bool,
    next: AtomicU64,
    // `None` only while dropping.
    sweeper: Mutex<Option<(Sender<PathBuf>, JoinHandle<()>)>>,
}

/// What a sweep found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Files without a record, which were removed.
    pub orphans: u64,
    /// Bodies that the index knows and whose file is gone: damage from outside.
    pub lost: Vec<BodyId>,
}

impl Blobs {
    /// Opens, or makes, the folders under `root`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(root: &Path, syncs: bool, failures: IntCounter) -> io::Result<Self> {
        let [incoming, kept] = FOLDERS.map(|name| root.join(name));
        for folder in [&incoming, &kept] {
            std::fs::create_dir_all(folder)?;
        }
        if syncs {
            crate::disk::atomic::sync_folder(root)?;
        }
        #[allow(clippy::disallowed_methods, reason = "the writer must not wait for a removal")]
        let (sender, paths) = mpsc::channel::<PathBuf>();
        let thread =
            std::thread::Builder::new().name("store-sweep".to_owned()).spawn(move || {
                for path in paths {
                    remove(&path, &failures);
                }
            })?;
        Ok(Self {
            kept_folder: File::open(&kept)?,
            incoming,
            kept,
            syncs,
            next: AtomicU64::new(0),
            sweeper: Mutex::new(Some((sender, thread))),
        })
    }

    /// Empties `incoming/` and removes from `bodies/` what `known` does not have. To be called
    /// once, before any body is begun; ids are given from `next` on afterwards.
    ///
    /// # Errors
    /// Whatever the file system says, or `known`.
    pub fn sweep<E: From<io::Error>>(
        &self,
        next: BodyId,
        known: impl Iterator<Item = Result<BodyId, E>>,
        is_known: impl Fn(BodyId) -> Result<bool, E>,
    ) -> Result<Swept, E> {
        self.next.store(next.0, Ordering::Relaxed);
        let mut swept = Swept::default();
        for entry in std::fs::read_dir(&self.incoming)? {
            std::fs::remove_file(entry?.path())?;
        }
        for entry in std::fs::read_dir(&self.kept)? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(parse_name);
            if !id.map_or(Ok(false), &is_known)? {
                std::fs::remove_file(entry.path())?;
                swept.orphans += 1;
            }
        }
        for id in known {
            let id = id?;
            if !self.kept_path(id).try_exists()? {
                swept.lost.push(id);
            }
        }
        Ok(swept)
    }

    /// An id that no body has.
    pub fn next_id(&self) -> BodyId {
        BodyId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Begins a body.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn begin(self: &Arc<Self>) -> io::Result<Incoming> {
        let id = self.next_id();
        let path = self.incoming.join(name(id));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Incoming {
            id,
            file,
            path,
            hasher: Box::new(blake3::Hasher::new()),
            size: 0,
            blobs: Arc::clone(self),
        })
    }

    /// Moves a finished body to where it stays. The move is durable after
    /// [`Blobs::sync_folder`]. On an error the body stays where it was.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn keep(&self, body: &mut Incoming) -> io::Result<()> {
        let kept = self.kept_path(body.id);
        std::fs::rename(&body.path, &kept)?;
        // Dropping the body must not remove it any more.
        body.path = PathBuf::new();
        Ok(())
    }

    /// Makes all moves so far durable.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn sync_folder(&self) -> io::Result<()> {
        if self.syncs { self.kept_folder.sync_all() } else { Ok(()) }
    }

    /// Opens a kept body.
    ///
    /// # Errors
    /// `NotFound` also when it was removed since its record was read.
    pub fn open_body(&self, id: BodyId) -> io::Result<File> {
        File::open(self.kept_path(id))
    }

    /// Removes a kept body, soon. If that fails the next start does it.
    pub fn discard(&self, id: BodyId) {
        self.remove_soon(self.kept_path(id));
    }

    fn remove_soon(&self, path: PathBuf) {
        let sweeper = self.sweeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((sender, _)) = &*sweeper {
            // The thread ends only after this sender is gone.
            let _ = sender.send(path);
        }
    }

    fn kept_path(&self, id: BodyId) -> PathBuf {
        self.kept.join(name(id))
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        let sweeper = self.sweeper.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = sweeper {
            drop(sender);
            // A panic of that thread was reported when it happened; its work waits for the
            // next start.
            let _ = thread.join();
        }
    }
}

fn remove(path: &Path, failures: &IntCounter) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            failures.inc();
            tracing::warn!(path = %path.display(), %error, "a file of a removed value stays");
        }
    }
}

fn name(id: BodyId) -> String {
    format!("{:016x}", id.0)
}

fn parse_name(text: &str) -> Option<BodyId> {
    let plain = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| u64::from_str_radix(text, 16).ok().map(BodyId)).flatten()
}

/// A large body on its way in. Dropped before [`Blobs::keep`], it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    id: BodyId,
    file: File,
    /// Empty once the body is kept.
    path: PathBuf,
    // Two KiB of state.
    hasher: Box<blake3::Hasher>,
    size: u64,
    blobs: Arc<Blobs>,
}

impl Incoming {
    /// Appends bytes. Blocks on the disk.
    ///
    /// # Errors
    /// Whatever the file system says; the body is then of no use.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Makes the bytes durable. Blocks on the disk.
    ///
    /// # Errors
    /// Whatever the file system says. Anything but a lack of space must raise the fence.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.blobs.syncs { self.file.sync_all() } else { Ok(()) }
    }

    /// Which body this will be.
    #[must_use]
    pub fn id(&self) -> BodyId {
        self.id
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// BLAKE3 of the bytes so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            self.blobs.remove_soon(std::mem::take(&mut self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn blobs(root: &Path) -> Arc<Blobs> {
        let failures = IntCounter::new("failures", "test").expect("a counter");
        Arc::new(Blobs::open(root, true, failures).expect("a writable folder"))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn sweep(blobs: &Blobs, known: &[u64]) -> Swept {
        let ids = || known.iter().copied().map(BodyId);
        blobs
            .sweep(BodyId(100), ids().map(Ok::<_, io::Error>), |id| Ok(ids().any(|k| k == id)))
            .expect("a sweep")
    }

    #[test]
    fn a_kept_body_stays_and_an_abandoned_one_goes() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let all = blobs(root.path());
        let mut kept = all.begin().expect("a body");
        kept.write(b"hel").and_then(|()| kept.write(b"lo")).expect("a write");
        kept.sync().expect("a sync");
        assert_eq!((kept.size(), kept.digest().0), (5, *blake3::hash(b"hello").as_bytes()));
        all.keep(&mut kept).and_then(|()| all.sync_folder()).expect("a move");
        let id = kept.id();
        drop(kept);
        let mut abandoned = all.begin().expect("a body");
        abandoned.write(b"half").expect("a write");
        drop(abandoned);
        let mut open = all.open_body(id).expect("the kept body");
        all.discard(id);
        // Dropping the last handle waits until all is removed.
        drop(all);
        assert_eq!(names(&root.path().join("incoming")), [""; 0]);
        assert_eq!(names(&root.path().join("bodies")), [""; 0]);
        let mut content = String::new();
        open.read_to_string(&mut content).expect("an open file outlives its name");
        assert_eq!(content, "hello");
    }

    #[test]
    fn a_sweep_leaves_what_the_index_knows_and_names_what_is_lost() {
        let root = tempfile::tempdir().expect("a temporary folder");
        drop(blobs(root.path()));
        for file in [
            "incoming/0000000000000009",
            "bodies/0000000000000001",
            "bodies/0000000000000002",
            "bodies/000000000000000A",
            "bodies/x",
        ] {
            std::fs::write(root.path().join(file), "x").expect("a writable folder");
        }
        let all = blobs(root.path());
        let swept = sweep(&all, &[1, 3]);
        assert_eq!(swept, Swept { orphans: 3, lost: vec![BodyId(3)] });
        assert_eq!(names(&root.path().join("bodies")), ["0000000000000001"]);
        assert_eq!(names(&root.path().join("incoming")), [""; 0]);
        assert_eq!((all.next_id(), all.next_id()), (BodyId(100), BodyId(101)));
    }
}
