//! Three nodes: what they agree on, and what becomes of it when things break.

use std::collections::BTreeSet;

use super::super::{Group, GroupRole, Member, ProposeError, Storage, wire};
use super::nodes::{Three, Wires, address, create, open, until, until_same};
use crate::cluster::{Command, Refusal, Role, Settings};
use crate::disk::lock::FolderLock;
use crate::ids::{ClusterId, Generation, NodeId, PoolName};

fn pools(group: &Group) -> usize {
    group.state().pools().len()
}

fn remove(pool: &str) -> Command {
    Command::RemovePool { pool: PoolName::new(pool).expect("a name") }
}

#[tokio::test]
async fn a_cluster_is_founded_once_joined_and_asked_anywhere() {
    let three = Three::found().await;
    let again = three.groups[0].found("admin@n1", Settings::default(), Vec::new()).await;
    assert!(again.is_err(), "founded twice");
    // Whoever is asked, the answer comes after that node has applied the change.
    for (index, group) in three.groups.iter().enumerate() {
        let applied = group.propose("admin@x", create(&format!("q{index}"))).await.expect("agreed");
        assert_eq!(pools(group), index + 2);
        assert!(group.state().revision() >= applied.revision);
    }
    let refused = three.groups[1].propose("admin@x", create("q0")).await;
    let name = PoolName::new("q0").expect("a name");
    assert_eq!(refused, Err(ProposeError::Refused(Refusal::PoolExists(name))));
    for group in &three.groups {
        let index = group.read_index().await.expect("a majority answers");
        assert!(index >= group.state().revision());
        assert_eq!(pools(group), 4);
    }
    until_same(&three.groups, |group| group.state().encode()).await;
    three.shutdown().await;
}

/// The story: the process died between the cluster's first command and its first pools. The cluster was
/// there, so that it could not be founded, and had nothing to serve.
#[tokio::test]
async fn a_founding_that_was_broken_off_is_ended_at_the_next_start() {
    let (cluster, node, generation) = (ClusterId([5; 16]), NodeId(1), Generation(1));
    for with_cluster in [true, false] {
        let (wires, folder) = (Wires::default(), tempfile::tempdir().expect("a folder"));
        let group = open(&wires, 1, folder.path(), Storage::Files).await.expect("opened");
        if with_cluster {
            group.found("admin@n1", Settings::default(), Vec::new()).await.expect("founded");
        } else {
            let member = Member { cluster, node, generation, removed: false };
            group.be_born(member).await.expect("born");
        }
        wires.unplug(1);
        group.shutdown().await;
        drop(group);
        until("the folder is free", || FolderLock::take(folder.path()).is_ok()).await;
        let group = open(&wires, 1, folder.path(), Storage::Files).await.expect("opened");
        let resume = || group.resume_founding("start@n1", Settings::default(), vec![create("p")]);
        assert!(resume().await.expect("ended"), "there was something to end");
        assert!(group.state().identity().is_some());
        assert_eq!(pools(&group), 1);
        assert!(!resume().await.expect("ended"));
        // Who removes the last pool means that, and no start brings it back.
        group.propose("admin@n1", remove("p")).await.expect("agreed");
        assert!(!resume().await.expect("ended"));
        assert_eq!(pools(&group), 0);
        group.shutdown().await;
    }
}

/// A crash right after the identity was written: there is a node, and no cluster yet.
#[tokio::test]
async fn a_founding_that_was_interrupted_goes_on() {
    let (wires, folder) = (Wires::default(), tempfile::tempdir().expect("a folder"));
    let group = open(&wires, 1, folder.path(), Storage::Files).await.expect("opened");
    let (cluster, node, generation) = (ClusterId([5; 16]), NodeId(1), Generation(1));
    let member = Member { cluster, node, generation, removed: false };
    group.be_born(member).await.expect("born");
    wires.unplug(1);
    group.shutdown().await;
    drop(group);
    until("the folder is free", || FolderLock::take(folder.path()).is_ok()).await;
    let group = open(&wires, 1, folder.path(), Storage::Files).await.expect("opened");
    let founded = group.found("admin@n1", Settings::default(), vec![create("p")]).await;
    assert_eq!(founded.expect("founded"), cluster);
    assert_eq!(pools(&group), 1);
    group.shutdown().await;
}

/// Without pre-vote a node that was cut off came back with a higher term and deposed the leader.
#[tokio::test]
async fn a_follower_that_was_cut_off_deposes_nobody_when_it_comes_back() {
    let three = Three::found().await;
    let leader = three.leader().await;
    let (follower, term) = ((leader + 1) % 3, three.groups[leader].status().term);
    three.wires.cut_off(follower + 1);
    let asked = || three.wires.sent(follower + 1, wire::PRE_VOTE);
    let before = asked();
    until("it stands for election, twice", || asked() >= before + 4).await;
    three.groups[leader].propose("admin@x", create("q")).await.expect("two are a majority");
    let cut_off = three.groups[follower].status();
    assert_eq!((cut_off.term, cut_off.role == GroupRole::Leader), (term, false));
    three.wires.heal();
    until_same(&three.groups, |group| group.state().encode()).await;
    let status = three.groups[leader].status();
    assert_eq!((status.term, status.role), (term, GroupRole::Leader));
    three.shutdown().await;
}

#[tokio::test]
async fn a_leader_that_was_cut_off_agrees_to_nothing_and_another_one_leads() {
    let three = Three::found().await;
    let leader = three.leader().await;
    let other = (leader + 1) % 3;
    three.wires.cut_off(leader + 1);
    three.groups[other].propose("admin@x", create("q")).await.expect("two are a majority");
    let index = three.groups[leader].read_index().await;
    assert!(matches!(index, Err(ProposeError::Unavailable { .. })), "{index:?}");
    assert_eq!(pools(&three.groups[leader]), 1);
    three.wires.heal();
    until_same(&three.groups, |group| group.state().encode()).await;
    assert_eq!(pools(&three.groups[leader]), 2);
    three.shutdown().await;
}

#[tokio::test]
async fn leadership_is_handed_over_on_demand_and_before_a_leader_leaves() {
    let mut three = Three::found().await;
    let leader = three.leader().await;
    let next = (leader + 1) % 3;
    let asked = (leader + 2) % 3;
    three.groups[asked].transfer(NodeId(next as u64 + 1)).await.expect("handed over");
    until("all follow", || {
        three.groups.iter().all(|group| group.status().leader == Some(NodeId(next as u64 + 1)))
    })
    .await;
    // Right after it the new leader may refuse for a moment; a proposal waits that out.
    three.groups[asked].propose("admin@x", create("q")).await.expect("agreed");
    let term = three.groups[next].status().term;
    three.restart(next).await;
    until("it is back", || three.groups[next].status().leader.is_some()).await;
    let status = three.groups[asked].status();
    assert_ne!(status.leader, Some(NodeId(next as u64 + 1)));
    assert_eq!(status.term.0, term.0 + 1, "handed over, and no election was lost");
    until_same(&three.groups, |group| group.state().encode()).await;
    three.shutdown().await;
}

/// A lost answer does not mean a lost command: half of the answers are lost, and every command
/// applies once.
#[tokio::test]
async fn two_hundred_proposals_with_lost_answers_apply_once_each() {
    let three = Three::found().await;
    let leader = three.leader().await;
    let follower = &three.groups[(leader + 1) % 3];
    three.wires.lose_answers(Some(wire::PROPOSE));
    // Each of these succeeds only if the one before was applied exactly once.
    for _ in 0..100 {
        follower.propose("admin@x", create("q")).await.expect("made once");
        follower.propose("admin@x", remove("q")).await.expect("removed once");
    }
    three.wires.lose_answers(None);
    follower.propose("admin@x", create("q")).await.expect("made");
    let name = PoolName::new("q").expect("a name");
    assert_eq!(follower.state().pools()[&name].epoch.0, 101);
    until_same(&three.groups, |group| group.state().encode()).await;
    three.shutdown().await;
}

#[tokio::test]
async fn a_removed_node_stops_and_stays_away_and_its_id_is_not_given_again() {
    let mut three = Three::found().await;
    let leader = three.leader().await;
    let (gone, asked) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = NodeId(gone as u64 + 1);
    three.groups[asked].remove_node("admin@x", id).await.expect("removed");
    until("it stops", || three.groups[gone].status().role == GroupRole::Stopped).await;
    assert!(three.groups[gone].status().removed);
    let left = three.groups[asked].status();
    assert!(!left.voters.contains(&id) && !left.learners.contains(&id), "{left:?}");
    assert_eq!(left.voters.len(), 2, "what is agreed until there is a third is on two disks");
    three.restart(gone).await;
    assert!(three.groups[gone].status().removed, "it knows at its next start");
    // With an empty folder it joins as a new node.
    three.stop(gone).await;
    let folder = tempfile::tempdir().expect("a folder");
    let group = open(&three.wires, gone + 1, folder.path(), Storage::Files).await.expect("opened");
    let new = group.join(&[address(asked + 1)], Role::Voter).await.expect("joined");
    assert_eq!(new, NodeId(4));
    until("three voters again", || group.status().voters.len() == 3).await;
    group.shutdown().await;
    three.shutdown().await;
}

/// Nobody told it: it was away when it was removed.
#[tokio::test]
async fn a_node_that_was_removed_while_it_was_away_hears_of_it_when_it_asks() {
    let three = Three::found().await;
    let leader = three.leader().await;
    let gone = (leader + 1) % 3;
    three.wires.cut_off(gone + 1);
    let id = NodeId(gone as u64 + 1);
    three.groups[leader].remove_node("admin@x", id).await.expect("removed");
    until("it is out", || !three.groups[leader].status().voters.contains(&id)).await;
    three.wires.heal();
    until("it hears", || three.groups[gone].status().removed).await;
    three.shutdown().await;
}

#[tokio::test]
async fn a_node_that_is_far_behind_gets_a_snapshot() {
    let three = Three::found().await;
    let leader = three.leader().await;
    let behind = (leader + 1) % 3;
    three.wires.cut_off(behind + 1);
    for _ in 0..530 {
        three.groups[leader].propose("admin@x", create("q")).await.expect("made");
        three.groups[leader].propose("admin@x", remove("q")).await.expect("removed");
    }
    until("the log is purged", || three.groups[leader].status().purged > Some(200)).await;
    three.wires.heal();
    until_same(&three.groups, |group| group.state().encode()).await;
    assert!(three.groups[behind].status().snapshot.is_some(), "it came by snapshot");
    three.shutdown().await;
}

#[tokio::test]
async fn restarts_lose_nothing_and_begin_new_incarnations() {
    let mut three = Three::found().await;
    for round in 0..2 {
        for index in 0..3 {
            let name = format!("q{round}{index}");
            three.groups[index].propose("admin@x", create(&name)).await.expect("agreed");
            let (node, before) = (NodeId(index as u64 + 1), three.groups[index].status());
            three.restart(index).await;
            let group = &three.groups[index];
            until("its vote is kept", || group.status().term >= before.term).await;
            until("it begins anew", || group.status().incarnation > before.incarnation).await;
            assert_eq!(Some(group.state().nodes()[&node].incarnation), group.status().incarnation);
        }
    }
    until_same(&three.groups, |group| group.state().encode()).await;
    assert_eq!(pools(&three.groups[0]), 7);
    three.shutdown().await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_and_an_observer_never_votes() {
    let three = Three::found().await;
    let leader = three.leader().await;
    // Another cluster uses the address of a member.
    let folder = tempfile::tempdir().expect("a folder");
    let elsewhere = Wires::default();
    let stranger = open(&elsewhere, 7, folder.path(), Storage::Files).await.expect("opened");
    stranger.found("admin@n7", Settings::default(), Vec::new()).await.expect("founded");
    let joined = stranger.join(&[address(1)], Role::Voter).await;
    assert!(joined.is_err(), "it belongs to a cluster");
    stranger.shutdown().await;

    let folder = tempfile::tempdir().expect("a folder");
    let observer = open(&three.wires, 4, folder.path(), Storage::Files).await.expect("opened");
    let id = observer.join(&[address(2), address(3)], Role::Observer).await.expect("joined");
    until("it begins", || observer.status().incarnation.is_some()).await;
    observer.propose("admin@n4", create("q")).await.expect("it is asked like any node");
    let status = three.groups[leader].status();
    assert_eq!(status.learners, BTreeSet::from([id]));
    assert_eq!(status.voters.len(), 3);
    // A name or an address that another node has.
    let folder = tempfile::tempdir().expect("a folder");
    three.wires.unplug(4);
    let twin = open(&three.wires, 4, folder.path(), Storage::Files).await.expect("opened");
    let error = twin.join(&[address(1)], Role::Voter).await.expect_err("its name is taken");
    assert!(error.to_string().contains("n4"), "{error}");
    observer.shutdown().await;
    three.shutdown().await;
}
