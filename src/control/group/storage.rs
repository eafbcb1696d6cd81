//! Where are the group's bytes kept?

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::StorageBackend;

use crate::ids::Generation;

/// The folder of the group within the node's.
const FOLDER: &str = "raft";

/// The names of the files in it.
pub const LOG: &str = "log";
pub const SNAPSHOT: &str = "snapshot";

/// The log, the vote, and where each is kept.
pub fn log_path(data_dir: &Path) -> PathBuf {
    folder(data_dir).join(LOG)
}

/// The newest snapshot.
pub fn snapshot_path(data_dir: &Path) -> PathBuf {
    folder(data_dir).join(SNAPSHOT)
}

/// The folder of both.
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER)
}

/// Where the folder of a cluster that begins anew is made, before it takes the other's place.
pub fn anew(data_dir: &Path) -> PathBuf {
    data_dir.join("raft.new")
}

/// Where the files of before `generation` are kept.
pub fn before(data_dir: &Path, generation: Generation) -> PathBuf {
    data_dir.join(format!("before-recovery-{generation}"))
}

/// Opens what stands in for the log's file: once for every start.
pub type OpenBackend = Arc<dyn Fn() -> io::Result<Backend> + Send + Sync>;

/// What the log is written on.
#[derive(Clone, Default)]
pub enum Storage {
    /// A file, by a thread of its own: an fsync delays no heartbeat.
    #[default]
    Files,
    /// What a test injects under redb: disks that fail, or that forget what was not synced.
    /// Written in place, since a simulation's clock does not see a thread.
    Injected(OpenBackend),
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "Files",
            Self::Injected(_) => "Injected",
        })
    }
}

/// A backend of any kind, since redb takes none that is boxed.
#[derive(Debug)]
pub struct Backend(Box<dyn StorageBackend>);

impl Backend {
    /// Boxes a backend.
    #[must_use]
    pub fn new(backend: impl StorageBackend) -> Self {
        Self(Box::new(backend))
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}
