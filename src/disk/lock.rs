//! How does a process own a folder?
//!
//! By a lock on a file in it, which the kernel gives back when the process ends, however it ends.
//! The holder's process id stands in the file, for the message that a second process prints.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A folder that is ours until this is dropped.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Why a folder cannot be owned.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process owns it.
    #[error(
        "{} is in use by {}: stop that process first, or choose another folder",
        folder.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// The other process, if it could be read.
        holder: Option<u32>,
    },
    /// The folder cannot be made or its lock file not be opened.
    #[error("{}: {error}", path.display())]
    Io {
        /// What could not be opened.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl FolderLock {
    /// Makes the folder if need be and takes it.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("lock");
        let io = |error| LockError::Io { path: path.clone(), error };
        std::fs::create_dir_all(folder)
            .map_err(|error| LockError::Io { path: folder.to_owned(), error })?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(io(error)),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.read_to_string(&mut text);
                let holder = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { folder: folder.to_owned(), holder });
            }
        }
        // The id only helps people: a full disk must not keep a store from serving reads.
        let _: io::Result<()> = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("made/on/demand");
        let first = FolderLock::take(&data).expect("free");
        let Err(LockError::Held { holder, .. }) = FolderLock::take(&data) else {
            panic!("two owners");
        };
        assert_eq!(holder, Some(std::process::id()));
        drop(first);
        FolderLock::take(&data).expect("free again");
    }
}
