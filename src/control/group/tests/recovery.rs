//! A cluster that lost its quorum for good goes on with a survivor.

use super::super::{GroupRole, RecoverError, Storage, recover};
use super::nodes::{Three, create, open, until};
use crate::cluster::Role;
use crate::ids::{Generation, NodeId};

#[tokio::test]
async fn a_survivor_goes_on_alone_and_the_others_join_anew() {
    let mut three = Three::found().await;
    let leader = three.leader().await;
    let (survivor, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = NodeId(survivor as u64 + 1);
    three.groups[survivor].propose("admin@x", create("q")).await.expect("agreed");
    three.stop(leader).await;
    three.stop(survivor).await;
    let folder = three.folders[survivor].path();
    let before = open(&three.wires, survivor + 1, folder, Storage::Files).await.expect("opened");
    let (revision, term) = (before.state().revision(), before.status().term);
    three.wires.unplug(survivor + 1);
    before.shutdown().await;
    drop(before);
    until("the folder is free", || crate::disk::lock::FolderLock::take(folder).is_ok()).await;

    let declined = recover(folder, "admin@x", 7, |_| false);
    assert!(matches!(declined, Err(RecoverError::Declined)));
    let mut shown = String::new();
    let recovered = recover(folder, "admin@x", 7, |survey| {
        shown = survey.to_string();
        assert_eq!((survey.node, survey.lost.len()), (id, 2));
        true
    });
    let recovered = recovered.expect("recovered");
    assert_eq!(recovered.generation, Generation(2));
    assert!(recovered.kept.join("raft/log").exists() && recovered.kept.join("identity").exists());
    assert!(shown.contains("Given up: node"), "{shown}");

    let group = open(&three.wires, survivor + 1, folder, Storage::Files).await.expect("opened");
    until("it leads", || group.status().role == GroupRole::Leader).await;
    group.propose("admin@x", create("r")).await.expect("it agrees alone");
    let state = group.state();
    assert_eq!(state.pools().len(), 3, "nothing that it knew is lost");
    assert!(state.revision() > revision && group.status().term > term);
    assert_eq!(state.nodes().keys().copied().collect::<Vec<_>>(), [id]);

    // Who is left of the old generation neither leads nor follows the new one.
    let stray = &three.groups[other];
    let lost = stray.propose("admin@x", create("s")).await;
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(group.state().pools().len(), 3);
    assert_eq!(group.status().voters.len(), 1);

    three.stop(other).await;
    for index in [leader, other] {
        three.folders[index] = tempfile::tempdir().expect("a folder");
        let folder = three.folders[index].path();
        let new = open(&three.wires, index + 1, folder, Storage::Files).await.expect("opened");
        let address = super::nodes::address(survivor + 1);
        let new_id = new.join(&[address], Role::Voter).await.expect("joined");
        assert!(new_id > NodeId(3), "ids are never given twice");
        three.groups[index] = new;
    }
    until("three vote again", || group.status().voters.len() == 3).await;
    group.shutdown().await;
    three.shutdown().await;
}

/// Each step of a recovery may be the last one before a crash.
#[tokio::test]
async fn a_recovery_that_was_interrupted_is_run_again() {
    let mut three = Three::found().await;
    for index in 0..3 {
        three.stop(index).await;
    }
    let folder = three.folders[0].path();
    let identity = std::fs::read(folder.join("identity")).expect("a file");
    recover(folder, "admin@x", 7, |_| true).expect("recovered");
    let kept = folder.join("before-recovery-2");
    // Before the identity was written.
    std::fs::write(folder.join("identity"), &identity).expect("written");
    let torn = open(&three.wires, 1, folder, Storage::Files).await.map(drop);
    let torn = torn.expect_err("half of a recovery");
    assert!(torn.to_string().contains("run it again"), "{torn}");
    recover(folder, "admin@x", 7, |_| false).expect("ended without a question");
    // Between the two renames.
    std::fs::write(folder.join("identity"), &identity).expect("written");
    std::fs::remove_dir_all(folder.join("raft")).expect("removed");
    let recovered = recover(folder, "admin@x", 7, |_| true).expect("recovered again");
    assert_eq!(recovered.kept, kept);
    let group = open(&three.wires, 1, folder, Storage::Files).await.expect("opened");
    until("it leads", || group.status().role == GroupRole::Leader).await;
    group.propose("admin@x", create("r")).await.expect("it agrees alone");
    group.shutdown().await;
    three.shutdown().await;
}
