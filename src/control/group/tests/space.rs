//! Disks without room.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::super::log_file::{Change, LogFile, Owner};
use super::super::storage;
use super::super::writer::{Write, Writer};
use super::super::{Group, Storage};
use super::nodes::{Wires, create, open};
use crate::cluster::Settings;
use crate::ids::{ClusterId, NodeId};

const MIB: u64 = 1 << 20;

const OWNER: Owner = Owner { cluster: ClusterId([1; 16]), node: NodeId(1) };

/// A writer on a file system with as much room as the number says.
fn writer(folder: &TempDir, free: &Arc<AtomicU64>) -> Writer {
    let log = LogFile::create(&storage::log_path(folder.path()), &Storage::Files, OWNER);
    let (log, free) = (log.expect("made"), Arc::clone(free));
    let free = Box::new(move || Ok(free.load(Ordering::Relaxed)));
    let snapshot = storage::snapshot_path(folder.path());
    Writer::with_space(log, snapshot, None, Some(free)).expect("a thread")
}

fn vote(term: u64) -> Write {
    let vote = format!(r#"{{"leader_id":{{"term":{term},"voted_for":1}},"committed":false}}"#);
    Write::Log(Change::Vote(serde_json::from_str(&vote).expect("a vote")))
}

/// An access log on the same file system had filled it on all three nodes. Each was fenced by the
/// failed write until somebody started it again.
#[tokio::test]
async fn writes_wait_for_space_and_go_on_by_themselves() {
    let (folder, free) = (tempfile::tempdir().expect("a folder"), Arc::default());
    let writer = writer(&folder, &free);
    let (mut waits, failed) = (writer.waits(), writer.failed());
    let mut write = pin!(writer.write_durably(vote(1)));
    let why = tokio::select! {
        biased;
        written = &mut write => panic!("acknowledged without space: {written:?}"),
        why = waits.wait_for(Option::is_some) => why.expect("it lives").clone(),
    };
    assert!(why.is_some_and(|why| why.contains("0 MiB free")));
    free.store(100 * MIB, Ordering::Relaxed);
    let written = timeout(Duration::from_secs(60), write).await.expect("it goes on");
    written.expect("written");
    assert_eq!((&*waits.borrow(), &*failed.borrow()), (&None, &None));
    writer.close();
}

#[tokio::test]
async fn who_ends_while_it_waits_for_space_has_written_nothing_and_said_so() {
    let (folder, free) = (tempfile::tempdir().expect("a folder"), Arc::default());
    let writer = writer(&folder, &free);
    let (waiting, ending) = (writer.clone(), writer.clone());
    let mut waits = writer.waits();
    let write = tokio::spawn(async move { waiting.write_durably(vote(1)).await });
    waits.wait_for(Option::is_some).await.expect("it lives");
    tokio::task::spawn_blocking(move || ending.close()).await.expect("closed");
    assert!(write.await.expect("told").is_err());
    let log = storage::log_path(folder.path());
    let (_log, loaded) = LogFile::open(&log, &Storage::Files, OWNER).expect("whole");
    assert_eq!(loaded.vote, None);
}

#[tokio::test]
async fn a_snapshot_leaves_the_log_its_reserve() {
    let (folder, free) =
        (tempfile::tempdir().expect("a folder"), Arc::new(AtomicU64::new(20 * MIB)));
    let writer = writer(&folder, &free);
    let snapshot = || Write::Snapshot(5, vec![0; 10 << 20].into());
    let full = writer.write_durably(snapshot()).await.expect_err("too large");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    writer.write_durably(vote(1)).await.expect("the log goes on");
    free.store(100 * MIB, Ordering::Relaxed);
    writer.write_durably(snapshot()).await.expect("there is room");
    let reached = std::fs::metadata(storage::snapshot_path(folder.path())).expect("there").len();
    assert_eq!(reached, 10 * MIB);
    writer.close();
}

async fn alone(folder: &TempDir) -> Group {
    let group = open(&Wires::default(), 1, folder.path(), Storage::Files).await.expect("opened");
    group.found("admin@n1", Settings::default(), vec![create("p")]).await.expect("founded");
    group
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_is_tried_again_and_fences_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let group = alone(&folder).await;
    // In the way of the file that is made aside.
    let aside = folder.path().join("raft/snapshot.new");
    std::fs::create_dir(&aside).expect("created");
    let taken = tokio::spawn({
        let group = group.clone();
        async move { group.snapshot().await }
    });
    tokio::task::yield_now().await;
    group.propose("admin@n1", create("q")).await.expect("agreed all the same");
    assert_eq!(group.status().storage_failed, None);
    assert!(!taken.is_finished());
    std::fs::remove_dir(&aside).expect("removed");
    taken.await.expect("no panic").expect("taken at last");
    group.shutdown().await;
}
