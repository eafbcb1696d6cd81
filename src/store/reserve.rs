//! How does the index go on when the disk is full?
//!
//! A write of redb that fails, for want of space or otherwise, ends its database object: redb
//! then refuses everything, reads included, until the file is opened and repaired anew. A full
//! disk must not come to that. So the store keeps a *reserve*: a file of allocated blocks that
//! means nothing. A write of the index that meets a full disk frees a piece of it and is
//! repeated. As long as the reserve is not whole, puts are refused (507), so that one batch of
//! writes, whose size is bounded, is all that ever has to live on it. Space that returns goes
//! into the reserve first; then puts are taken again.
//!
//! Free space is never *measured* beforehand: what was free may be gone a moment later, and a
//! full disk that other programs share is the common case.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Bytes of a whole reserve.
///
/// Must cover what one commit writes to the index at worst: [`super::writer`] bounds a batch to
/// 256 writes and 2 MiB of bodies and fields. redb rounds a body up to twice its size (4 MiB) and
/// copies, per write, a path of some 4 KiB pages in each tree: in a pool that keeps data five trees
/// (256 x 13 x 4 KiB = 13 MiB). A collection of tombstones that comes last in a batch adds as many
/// changes once more, of records that lie together (4 MiB), and folding the sums of all slots
/// rewrites their table (3 MiB).
pub const RESERVE_BYTES: u64 = 24 * 1024 * 1024;

/// What must be left for a batch of deletes, which [`super::writer`] keeps small meanwhile: 16
/// writes that copy 13 pages of 4 KiB each, twice over; and a piece for epochs after it.
const DELETES_BYTES: u64 = 2 * 1024 * 1024 + EPOCHS_BYTES;

/// What must be left to note an epoch that a pool's nodes have come to, without which they could not
/// even read: some pages.
const EPOCHS_BYTES: u64 = PIECE_BYTES;

/// What is given back at the least, so that a commit does not crawl through it page by page.
const PIECE_BYTES: u64 = 1024 * 1024;

/// Whether an error says that the disk, the user's quota or the file-size limit is used up.
#[must_use]
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Blocks held back for the index.
#[derive(Debug)]
pub struct Reserve {
    file: File,
    held: u64,
    whole: u64,
}

impl Reserve {
    /// Opens the reserve at `path` and fills it as far as it goes: a disk that is full already
    /// is no error.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path, whole: u64) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let held = file.metadata()?.len().min(whole);
        let mut reserve = Self { file, held, whole };
        reserve.restore();
        Ok(reserve)
    }

    /// Gives back at least `bytes`, or what is left. False when there was nothing left.
    pub fn release(&mut self, bytes: u64) -> bool {
        if self.held == 0 {
            return false;
        }
        let kept = self.held.saturating_sub(bytes.max(PIECE_BYTES));
        if self.file.set_len(kept).is_err() {
            return false;
        }
        self.held = kept;
        true
    }

    /// Tries to be whole again. Cheap when it is, one failing system call when it cannot be.
    pub fn restore(&mut self) -> bool {
        if self.is_whole() {
            return true;
        }
        if allocate(&self.file, self.held, self.whole - self.held).is_ok() {
            self.held = self.whole;
        } else {
            // Part of it may have been allocated, and belongs to others.
            let _ = self.file.set_len(self.held);
        }
        self.is_whole()
    }

    /// Whether puts may be taken.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.held == self.whole
    }

    /// Whether deletes may be taken though puts may not: they are what makes room.
    #[must_use]
    pub fn covers_deletes(&self) -> bool {
        self.held >= DELETES_BYTES
    }

    /// Whether a new epoch of a pool may be noted though nothing may be deleted.
    #[must_use]
    pub fn covers_epochs(&self) -> bool {
        self.held >= EPOCHS_BYTES
    }
}

fn allocate(mut file: &File, offset: u64, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), offset, len) {
        // A file system without the call (NFS before 4.2, some FUSE): zeros do the same.
        Err(Errno::OPNOTSUPP) => {
            io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
            let zeros = [0; 64 * 1024];
            let mut left = len;
            while left > 0 {
                let part = zeros.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                file.write_all(&zeros[..part])?;
                left -= part as u64;
            }
            Ok(())
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_given_back_in_pieces_and_restored() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("reserve");
        let mut reserve = Reserve::open(&path, 4 * PIECE_BYTES).expect("a writable folder");
        assert!(reserve.is_whole());
        assert!(reserve.release(1));
        assert!(!reserve.is_whole() && reserve.covers_deletes());
        assert!(reserve.release(2 * PIECE_BYTES));
        assert!(!reserve.covers_deletes() && reserve.covers_epochs());
        assert!(reserve.release(1));
        assert!(!reserve.release(1) && !reserve.covers_epochs(), "it is used up");
        assert!(reserve.restore());
        let len = std::fs::metadata(&path).expect("the file is there").len();
        assert_eq!(len, 4 * PIECE_BYTES);
    }
}
