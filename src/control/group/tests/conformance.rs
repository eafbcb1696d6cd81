//! openraft's own suite for log stores and state machines, on ours.

use openraft::storage::RaftLogStorageExt;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{RaftLogReader, StorageError};
use tempfile::TempDir;

use super::super::log::LogStore;
use super::super::log_file::{Loaded, LogFile, Owner};
use super::super::machine::{Machine, Published};
use super::super::storage::{self, Storage};
use super::super::types::{Entry, TypeConfig};
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

/// A member that is behind gets large entries a few at a time: hundreds of them in one message
/// would be refused by the transport, again and again.
#[tokio::test]
async fn large_entries_are_sent_a_few_at_a_time() {
    let (_guard, mut store, _machine) = Builder.build().await.expect("made");
    let seed = "s".repeat(1 << 20);
    let entry = |index: u64| -> Entry {
        let json = format!(
            r#"{{"log_id":{{"leader_id":1,"index":{index}}},"payload":{{"Normal":{{"actor":"a",
            "at_ms":0,"command":{{"set_pool":{{"pool":"p","spec":{{"kind":"cache",
            "placement":"ring","hash_seed":"{seed}","vnodes":1,"immutable":false}}}}}}}}}}}}"#
        );
        serde_json::from_str(&json).expect("an entry")
    };
    store.blocking_append((0..9).map(entry)).await.expect("appended");
    for (start, count) in [(0, 4), (4, 4), (8, 1)] {
        let entries = store.limited_get_log_entries(start, 9).await.expect("read");
        assert_eq!(entries.len(), count);
        assert_eq!(entries[0].log_id.index, start);
    }
}
