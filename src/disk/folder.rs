//! How is a data folder owned by one process, and how does a small file in it change whole?
//!
//! The lock is an advisory `flock` on a file of its own: the kernel gives it back when the
//! process ends, however it ends, so that no stale lock ever has to be removed by hand. The
//! holder writes its process id into the file, only to be named to whoever is refused.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The name of the lock's file in the folder.
const LOCK_FILE: &str = "lock";

/// The right to be alone in a folder, given back on drop.
#[derive(Debug)]
pub struct FolderLock {
    // Held for its `flock`, which ends with the descriptor.
    _file: File,
}

/// Why a folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or another part of this one, works in the folder.
    #[error(
        "{} is in use by {}: stop that process first, or choose another folder",
        folder.display(),
        holder(*pid)
    )]
    Held {
        /// The folder that was asked for.
        folder: PathBuf,
        /// The process that holds it, if it has written its id already.
        pid: Option<u32>,
    },
    /// The lock's file could not be made or locked.
    #[error("cannot lock {}: {source}", folder.display())]
    Io {
        /// The folder that was asked for.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl FolderLock {
    /// Takes the lock of `folder`, which must exist, without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] when someone else has it.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { folder: folder.to_owned(), source };
        let path = folder.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let written = std::fs::read_to_string(&path).unwrap_or_default();
                let pid = written.trim().parse().ok();
                return Err(LockError::Held { folder: folder.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The id only helps people: a full disk must not keep a store from serving reads.
        let _ = file.set_len(0);
        let _ = writeln!(file, "{}", std::process::id());
        Ok(Self { _file: file })
    }
}

/// Puts `bytes` at `path`, so that after a crash at any point the file has either its old
/// content or the new, whole and durable.
///
/// # Errors
/// Whatever the file system says; the old content is then still in place, or the new one is in
/// place but its name not yet durable.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Makes the names in `folder` durable.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_by_name_until_the_first_lets_go() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = FolderLock::take(folder.path()).expect("the folder is free");
        let refused = FolderLock::take(folder.path()).expect_err("the folder is taken");
        let own = std::process::id();
        assert!(refused.to_string().contains(&format!("process {own}")), "{refused}");
        drop(first);
        FolderLock::take(folder.path()).expect("the folder is free again");
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("identity");
        for content in ["first", "second, longer"] {
            write_whole(&path, content.as_bytes()).expect("the folder can be written");
            assert_eq!(std::fs::read_to_string(&path).expect("the file is there"), content);
        }
        let names: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
        assert_eq!(names.len(), 1, "only the file itself stays");
    }
}
