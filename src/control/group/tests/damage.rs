//! Disks that fail, and files that are not what was written.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::super::log_file::{LogFile, Owner};
use super::super::{Backend, GroupRole, OpenError, ProposeError, Storage, storage};
use super::nodes::{Wires, create, open, until};
use crate::cluster::{ClusterState, Settings};
use crate::ids::{ClusterId, NodeId};

/// A disk whose fsync fails from some moment on.
#[derive(Debug)]
struct Failing {
    disk: InMemoryBackend,
    fails: Arc<AtomicBool>,
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is broken"));
        }
        self.disk.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(offset, data)
    }
}

#[tokio::test]
async fn after_a_failed_fsync_nothing_is_acknowledged_and_the_node_is_fenced() {
    let fails = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&fails);
    let storage = Storage::Injected(Arc::new(move || {
        let disk = InMemoryBackend::new();
        Ok(Backend::new(Failing { disk, fails: Arc::clone(&told) }))
    }));
    let (wires, folder) = (Wires::default(), tempfile::tempdir().expect("a folder"));
    let group = open(&wires, 1, folder.path(), storage).await.expect("opened");
    group.found("admin@n1", Settings::default(), vec![create("p")]).await.expect("founded");
    fails.store(true, Ordering::Relaxed);
    let lost = group.propose("admin@n1", create("q")).await;
    assert!(
        matches!(lost, Err(ProposeError::Unknown(_) | ProposeError::Unavailable { .. })),
        "{lost:?}"
    );
    until("it stops", || group.status().role == GroupRole::Stopped).await;
    let why = group.status().storage_failed.expect("said so");
    assert!(why.contains("the disk is broken"), "{why}");
    // A disk that works again changes nothing: what was not written is not known any more.
    fails.store(false, Ordering::Relaxed);
    let refused = group.propose("admin@n1", create("q")).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(group.state().pools().len(), 1);
    group.shutdown().await;
}

/// The folder of a node alone with a snapshot, a log behind it, and an orderly end.
async fn node_with_files() -> tempfile::TempDir {
    let (wires, folder) = (Wires::default(), tempfile::tempdir().expect("a folder"));
    let group = open(&wires, 1, folder.path(), Storage::Files).await.expect("opened");
    group.found("admin@n1", Settings::default(), vec![create("p")]).await.expect("founded");
    group.snapshot().await.expect("taken");
    group.propose("admin@n1", create("q")).await.expect("agreed");
    wires.unplug(1);
    group.shutdown().await;
    drop(group);
    until("the folder is free", || crate::disk::lock::FolderLock::take(folder.path()).is_ok())
        .await;
    folder
}

async fn start(folder: &tempfile::TempDir) -> Result<Vec<u8>, OpenError> {
    let wires = Wires::default();
    let group = open(&wires, 1, folder.path(), Storage::Files).await?;
    let state = group.state().encode();
    wires.unplug(1);
    group.shutdown().await;
    drop(group);
    until("the folder is free", || crate::disk::lock::FolderLock::take(folder.path()).is_ok())
        .await;
    Ok(state)
}

#[tokio::test]
async fn a_damaged_missing_or_foreign_file_is_refused_by_its_name() {
    let folder = node_with_files().await;
    let whole = start(&folder).await.expect("starts");
    assert!(!whole.is_empty());
    for path in [
        storage::log_path(folder.path()),
        storage::snapshot_path(folder.path()),
        folder.path().join("identity"),
    ] {
        let bytes = std::fs::read(&path).expect("a file");
        let cut = bytes.len() - bytes.len() / 3;
        std::fs::write(&path, &bytes[..cut]).expect("written");
        let error = start(&folder).await.expect_err("torn");
        let name = path.file_name().expect("a name").to_str().expect("text");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(std::fs::read(&path).expect("still there").len(), cut, "left as it is");
        if name != "log" {
            let mut flipped = bytes.clone();
            flipped[cut] ^= 1;
            std::fs::write(&path, &flipped).expect("written");
            let error = start(&folder).await.expect_err("a bit is another");
            assert!(error.to_string().contains(name), "{error}");
        }
        std::fs::write(&path, &bytes).expect("written");
    }
    let log = storage::log_path(folder.path());
    let bytes = std::fs::read(&log).expect("a file");
    std::fs::remove_file(&log).expect("removed");
    let error = start(&folder).await.expect_err("missing");
    assert!(error.to_string().contains("could vote twice"), "{error}");
    std::fs::write(&log, &bytes).expect("written");
    let other = node_with_files().await;
    let foreign = std::fs::read(storage::log_path(other.path())).expect("a file");
    std::fs::write(&log, foreign).expect("written");
    let error = start(&folder).await.expect_err("another node's");
    assert!(error.to_string().contains("copied from another node"), "{error}");
    std::fs::write(&log, &bytes).expect("written");
    start(&folder).await.expect("starts as before");
}

/// A node whose identity was lost joined or founded anew, over a log that its votes were in.
#[tokio::test]
async fn a_log_without_an_identity_is_not_begun_anew() {
    let folder = node_with_files().await;
    let identity = folder.path().join("identity");
    let kept = std::fs::read(&identity).expect("a file");
    std::fs::remove_file(&identity).expect("removed");
    let (log, snapshot) = (storage::log_path(folder.path()), storage::snapshot_path(folder.path()));
    let error = start(&folder).await.expect_err("whose log is it?").to_string();
    assert!(error.contains("raft/log") && error.contains("`identity`"), "{error}");
    let aside = folder.path().join("aside");
    std::fs::rename(&log, &aside).expect("renamed");
    let error = start(&folder).await.expect_err("whose snapshot is it?").to_string();
    assert!(error.contains("raft/snapshot") && error.contains("`identity`"), "{error}");
    std::fs::rename(&aside, &log).expect("renamed");
    std::fs::write(&identity, kept).expect("written");
    // Only what the log says is compared: redb gives free pages back when it closes a file, so the
    // bytes may be fewer after a look that refused it.
    let state = ClusterState::decode(&start(&folder).await.expect("starts")).expect("a state");
    let pools: Vec<_> = state.pools().keys().map(ToString::to_string).collect();
    assert_eq!(pools, ["p", "q"], "nothing was begun anew");
    for (path, mode) in
        [(log.parent().expect("a folder"), 0o700), (&log, 0o600), (&snapshot, 0o600)]
    {
        let found = std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
}

/// A crash between the log and the identity: nobody has voted by it.
#[tokio::test]
async fn a_birth_that_was_interrupted_is_begun_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let owner = Owner { cluster: ClusterId([5; 16]), node: NodeId(3) };
    let log = storage::log_path(folder.path());
    drop(LogFile::create(&log, &Storage::Files, owner).expect("made"));
    let wires = Wires::default();
    let group = open(&wires, 1, folder.path(), Storage::Files).await.expect("opened");
    group.found("admin@n1", Settings::default(), vec![create("p")]).await.expect("founded");
    group.shutdown().await;
}

/// Bits flip wherever they like: a node refuses to start, or the bit was in no use.
#[tokio::test]
async fn flipped_bits_are_noticed_or_harmless() {
    let folder = node_with_files().await;
    let log = storage::log_path(folder.path());
    let whole = std::fs::read(&log).expect("a file");
    let pools = |state: &[u8]| {
        let state = ClusterState::decode(state).expect("a state");
        (state.pools().clone(), state.nodes().keys().copied().collect::<Vec<_>>())
    };
    let snapshot = std::fs::read(storage::snapshot_path(folder.path())).expect("a file");
    let state = start(&folder).await.expect("starts");
    std::fs::write(&log, &whole).expect("written");
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut refused = 0;
    for at in used.iter().step_by(used.len() / 150 + 1) {
        let mut damaged = whole.clone();
        damaged[*at] ^= 0x10;
        std::fs::write(&log, &damaged).expect("written");
        match start(&folder).await {
            Ok(found) => assert_eq!(pools(&found), pools(&state), "byte {at} went unnoticed"),
            Err(error) => {
                assert!(error.to_string().contains("log"), "{error}");
                refused += 1;
            }
        }
        std::fs::write(storage::snapshot_path(folder.path()), &snapshot).expect("written");
    }
    assert!(refused > 5, "only {refused} were noticed");
}
