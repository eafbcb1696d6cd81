//! The file under redb: how are failures of the disk kept from redb's readers?
//!
//! redb latches the first error of its file and refuses everything after it. The store promises
//! more: a full disk passes by itself, and after a failed fsync reads go on. So this backend
//! shows redb no failed write:
//!
//! - A write without space draws on the [`Reserve`] and is repeated.
//! - Any other failed write, resize or sync *breaks* the file: the [`Fence`] is raised, nothing
//!   reaches the disk from then on, and what redb still writes goes into memory, where it reads it
//!   back. redb ends its commit in the belief that all is well. The writer looks at
//!   [`IndexFile::is_broken`] after each commit, before it publishes or acknowledges anything.
//!
//! What the disk has after a break is what a crash at that moment would have left, which redb
//! repairs at the next start. What stays in memory is bounded by one batch, because a fenced store
//! begins no other.
//!
//! A failed *read* is passed on and does latch redb: a disk that cannot be read has nothing to
//! serve.
//!
//! Reads may be called from a task of the server. Most find their page in memory, ours or the
//! kernel's, and a hop to the blocking pool would cost them more than all else (measured: GET of
//! 1 KiB at 64 connections 27 µs of CPU with the hop, 11 without). So a read asks the kernel for
//! what it has at hand, and only if that is not all hands the thread's other tasks to another
//! thread and waits for the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::store::fence::Fence;
use crate::store::reserve::{Reserve, is_no_space};

/// One file of an index; clones are the same file.
#[derive(Debug, Clone)]
pub struct IndexFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    /// False for `fsync: never`.
    syncs: bool,
    reserve: Mutex<Reserve>,
    fence: Arc<Fence>,
    broken: AtomicBool,
    /// False once the file system said that it cannot tell what it has at hand.
    tells_at_hand: AtomicBool,
    /// Used once broken.
    overlay: Mutex<Overlay>,
}

/// What redb has written since the break.
#[derive(Debug, Default)]
struct Overlay {
    len: u64,
    /// In the order of writing: the last one counts.
    writes: Vec<(u64, Vec<u8>)>,
}

impl IndexFile {
    /// Takes over an open file.
    #[must_use]
    pub fn new(file: File, syncs: bool, reserve: Reserve, fence: Arc<Fence>) -> Self {
        Self(Arc::new(Inner {
            file,
            syncs,
            reserve: Mutex::new(reserve),
            fence,
            broken: AtomicBool::new(false),
            tells_at_hand: AtomicBool::new(true),
            overlay: Mutex::default(),
        }))
    }

    /// Whether a write was lost: then nothing that redb did since is on the disk.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Acquire)
    }

    /// The blocks held back for a full disk.
    pub fn reserve(&self) -> MutexGuard<'_, Reserve> {
        self.0.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.0.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the kernel has in memory, and says how much of `out` that was.
    fn read_at_hand(&self, offset: u64, out: &mut [u8]) -> usize {
        if !self.0.tells_at_hand.load(Ordering::Relaxed) {
            return 0;
        }
        let bufs = &mut [io::IoSliceMut::new(out)];
        match rustix::io::preadv2(&self.0.file, bufs, offset, ReadWriteFlags::NOWAIT) {
            Ok(count) => count,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.0.tells_at_hand.store(false, Ordering::Relaxed);
                0
            }
            // A true error comes again when the rest is read.
            Err(_) => 0,
        }
    }

    /// Runs a step that may need space, on the reserve if need be.
    fn with_space(&self, bytes: u64, step: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
        loop {
            match step(&self.0.file) {
                Err(error) if is_no_space(&error) && self.reserve().release(bytes) => {}
                other => return other,
            }
        }
    }

    fn break_off(&self, doing: &str, error: &io::Error) {
        let mut overlay = self.overlay();
        if !self.is_broken() {
            overlay.len = self.0.file.metadata().map_or(0, |metadata| metadata.len());
            self.0.broken.store(true, Ordering::Release);
        }
        drop(overlay);
        self.0.fence.raise(format!("{doing} the index failed: {error}"));
    }
}

impl StorageBackend for IndexFile {
    fn len(&self) -> io::Result<u64> {
        if self.is_broken() {
            return Ok(self.overlay().len);
        }
        Ok(self.0.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if !self.is_broken() {
            let done = self.read_at_hand(offset, out);
            if done == out.len() {
                return Ok(());
            }
            let read = || self.0.file.read_exact_at(&mut out[done..], offset + done as u64);
            return without_others(read);
        }
        let overlay = self.overlay();
        let mut filled = 0;
        while filled < out.len() {
            match self.0.file.read_at(&mut out[filled..], offset + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        out[filled..].fill(0);
        for (at, bytes) in &overlay.writes {
            patch(out, offset, bytes, *at);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !self.is_broken() {
            match self.with_space(0, |file| file.set_len(len)) {
                Ok(()) => return Ok(()),
                Err(error) => self.break_off("resizing", &error),
            }
        }
        self.overlay().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.is_broken()
            && self.0.syncs
            && let Err(error) = self.0.file.sync_data()
        {
            self.break_off("syncing", &error);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if !self.is_broken() {
            match self.with_space(data.len() as u64, |file| file.write_all_at(data, offset)) {
                Ok(()) => return Ok(()),
                Err(error) => self.break_off("writing", &error),
            }
        }
        let mut overlay = self.overlay();
        overlay.len = overlay.len.max(offset + data.len() as u64);
        overlay.writes.push((offset, data.to_vec()));
        Ok(())
    }
}

/// Runs what waits for the disk. On a thread that serves other tasks as well, those go elsewhere
/// meanwhile; a runtime of one thread has no elsewhere.
#[allow(
    clippy::disallowed_methods,
    reason = "for stores' runtimes only, which have threads to spare"
)]
fn without_others<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Lays `bytes`, which begin at `at`, over `out`, which begins at `offset`.
fn patch(out: &mut [u8], offset: u64, bytes: &[u8], at: u64) {
    let from = offset.max(at);
    let to = (offset + out.len() as u64).min(at + bytes.len() as u64);
    if from < to {
        let index = |place: u64, start: u64| {
            usize::try_from(place - start).expect("a place within a buffer fits usize")
        };
        out[index(from, offset)..index(to, offset)]
            .copy_from_slice(&bytes[index(from, at)..index(to, at)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    fn index_file(folder: &tempfile::TempDir, writable: bool) -> IndexFile {
        let path = folder.path().join("index");
        std::fs::write(&path, [1; 8]).expect("a writable folder");
        let file = OpenOptions::new().read(true).write(writable).open(&path).expect("the file");
        let reserve = Reserve::open(&folder.path().join("reserve"), 0).expect("a reserve");
        let gauge = prometheus::IntGauge::new("fenced", "test").expect("a gauge");
        IndexFile::new(file, true, reserve, Arc::new(Fence::new(gauge)))
    }

    #[test]
    fn a_sound_file_is_written_and_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let index = index_file(&folder, true);
        index.write(4, &[2; 8]).expect("a write");
        index.sync_data().expect("a sync");
        let mut out = [0; 12];
        index.read(0, &mut out).expect("a read");
        assert_eq!(out, [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert!(!index.is_broken());
    }

    #[test]
    fn a_lost_write_raises_the_fence_and_is_read_back_from_memory() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let index = index_file(&folder, false);
        index.write(4, &[2; 8]).expect("redb sees no failure");
        assert!(index.is_broken());
        let reason = index.0.fence.reason().expect("the fence is up");
        assert!(reason.starts_with("writing the index failed"), "{reason}");
        index.write(6, &[3; 2]).expect("redb sees no failure");
        index.set_len(16).expect("redb sees no failure");
        index.sync_data().expect("redb sees no failure");
        assert_eq!(index.len().expect("a length"), 16);
        let mut out = [9; 14];
        index.read(2, &mut out).expect("a read");
        assert_eq!(out, [1, 1, 2, 2, 3, 3, 2, 2, 2, 2, 0, 0, 0, 0]);
        let on_disk = std::fs::read(folder.path().join("index")).expect("the file");
        assert_eq!(on_disk, [1; 8], "nothing reached the disk");
    }

    #[test]
    fn patches_cover_every_overlap() {
        for (at, expected) in [
            (0, [0, 0, 0, 0]),
            (2, [7, 0, 0, 0]),
            (3, [7, 7, 0, 0]),
            (4, [7, 7, 7, 0]),
            (5, [0, 7, 7, 7]),
            (7, [0, 0, 0, 7]),
            (8, [0, 0, 0, 0]),
        ] {
            let mut out = [0; 4];
            patch(&mut out, 4, &[7; 3], at);
            assert_eq!(out, expected, "at {at}");
        }
        let mut out = [0; 2];
        patch(&mut out, 4, &[1, 2, 3, 4], 3);
        assert_eq!(out, [2, 3]);
    }
}
