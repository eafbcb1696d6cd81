//! openraft's own suite for log stores and state machines, on ours.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::super::log::LogStore;
use super::super::log_file::{Loaded, LogFile, Owner};
use super::super::machine::{Machine, Published};
use super::super::storage::{self, Storage};
use super::super::types::TypeConfig;
use super::super::writer::Writer;
use crate::ids::{ClusterId, NodeId};

struct Builder;

/// Closes the files before the folder goes.
struct Guard {
    writer: Writer,
    _folder: TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.writer.close();
    }
}

impl StoreBuilder<TypeConfig, LogStore, Machine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, Machine), StorageError<TypeConfig>> {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = Owner { cluster: ClusterId([1; 16]), node: NodeId(1) };
        let path = storage::log_path(folder.path());
        let file = LogFile::create(&path, &Storage::Files, owner).expect("made");
        let snapshot = storage::snapshot_path(folder.path());
        let writer = Writer::new(file, snapshot, None, &Storage::Files).expect("a thread");
        let published = Published { agreed: Default::default(), state: Default::default() };
        let machine = Machine::new(None, None, published, writer.clone(), || 0);
        let store = LogStore::new(Loaded::default(), writer.clone());
        Ok((Guard { writer, _folder: folder }, store, machine))
    }
}

#[tokio::test]
async fn the_store_and_the_machine_pass_openrafts_suite() {
    let suite = Suite::<TypeConfig, LogStore, Machine, Builder, Guard>::test_all(Builder);
    super::super::types::Runtime::scope(7, suite).await.expect("conforms");
}
