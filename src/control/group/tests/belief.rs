//! What a node believes of what others say, and of what they do not say any more.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::super::ask::read;
use super::super::wire::{self, Answer, Committed, Removed};
use super::super::{GroupRole, Leadership, Storage};
use super::nodes::{Three, address, create, open, until};
use crate::cluster::Role;
use crate::ids::NodeId;
use crate::net::peer::{Introduction, PeerAnswer, PeerRequest};

/// A command that had been committed was reported as not applied, because a later release said more
/// in its answer than was known here, or because the leader's end broke the answer.
#[test]
fn only_a_refusal_says_that_nothing_was_done() {
    let done = r#"{"done":{"index":7,"outcome":{"applied":{"revision":7,"shown":"later",
        "pools":[{"pool":"p","before":1,"after":2,"why":"later"}]}}}}"#;
    let read_it = |answer: &PeerAnswer| read::<Committed>(answer);
    assert!(matches!(read_it(&PeerAnswer::ok(done)), Ok(Answer::Done(_))), "what is new is left");
    for unknown in [r#"{"done":{"place":7}}"#, r#"{"finished":null}"#, "<html>", ""] {
        assert!(read_it(&PeerAnswer::ok(unknown)).expect_err("unreadable").maybe, "{unknown}");
    }
    for (status, maybe) in [(400, false), (404, false), (410, false), (413, false), (421, false)]
        .into_iter()
        .chain([(500, true), (502, true), (503, true), (204, true), (302, true)])
    {
        let answer = PeerAnswer::problem(status, "any", "Said.");
        assert_eq!(read_it(&answer).expect_err("a refusal").maybe, maybe, "{status}");
    }
}

#[test]
fn a_refusal_of_a_stranger_is_not_one_of_ours() {
    let ours = PeerAnswer::problem(410, wire::REMOVED_PROBLEM, "Node 3 was removed.");
    assert!(ours.is_problem(410, wire::REMOVED_PROBLEM));
    for body in ["", "<h1>Gone</h1>", r#"{"type":"about:blank","status":410}"#] {
        let theirs = PeerAnswer { status: 410, body: Bytes::from_static(body.as_bytes()) };
        assert!(!theirs.is_problem(410, wire::REMOVED_PROBLEM), "{body}");
    }
}

/// One message, which any process could send, ended a node for ever.
#[tokio::test]
async fn a_node_that_is_told_that_it_was_removed_asks_and_stays() {
    let three = Three::found().await;
    let leader = three.leader().await;
    let node = (leader + 1) % 3;
    let group = &three.groups[node];
    let member = group.member().expect("it is born");
    let told = PeerRequest {
        path: wire::REMOVED.to_owned(),
        body: wire::encode(&Removed { node: member.node }),
        introduction: Introduction { cluster: Some((member.cluster, member.generation)) },
        certificate: None,
        from: ([127, 0, 0, 1], 1).into(),
    };
    assert_eq!(group.handle(told.clone()).await.status, 200);
    until("it asks", || three.wires.sent(node + 1, wire::STANDING) > 0).await;
    // The leader looks into it just the same.
    let to_leader = Removed { node: NodeId(leader as u64 + 1) };
    let told = PeerRequest { body: wire::encode(&to_leader), ..told };
    assert_eq!(three.groups[leader].handle(told).await.status, 200);
    until("it asks", || three.wires.sent(leader + 1, wire::STANDING) > 0).await;
    for index in [node, leader] {
        let name = format!("q{index}");
        three.groups[index].propose("admin@x", create(&name)).await.expect("it belongs");
        assert!(!three.groups[index].status().removed);
    }
    three.shutdown().await;
}

/// A learner asks nobody for a vote. One that missed the one message that told it served an old ring
/// for ever.
#[tokio::test]
async fn a_removed_node_that_nobody_tells_asks_because_of_the_silence() {
    let three = Three::found().await;
    let leader = three.leader().await;
    let folder = tempfile::tempdir().expect("a folder");
    let observer = open(&three.wires, 4, folder.path(), Storage::Files).await.expect("opened");
    let id = observer.join(&[address(leader + 1)], Role::Observer).await.expect("joined");
    until("it begins", || observer.status().incarnation.is_some()).await;
    three.wires.swallow(wire::REMOVED);
    three.groups[leader].remove_node("admin@x", id).await.expect("removed");
    until("it finds out", || observer.status().removed).await;
    until("it stops", || observer.status().role == GroupRole::Stopped).await;
    observer.shutdown().await;
    three.shutdown().await;
}

/// It waited in vain to apply its own removal.
#[tokio::test]
async fn a_node_that_is_asked_to_remove_itself_answers_at_once() {
    let three = Three::found().await;
    let leader = three.leader().await;
    let gone = (leader + 1) % 3;
    let removing = three.groups[gone].remove_node("admin@x", NodeId(gone as u64 + 1));
    let removed = timeout(Duration::from_secs(8), removing).await;
    removed.expect("far less than it was").expect("removed");
    until("it knows", || three.groups[gone].status().removed).await;
    three.shutdown().await;
}

/// For as long as it was cut off, the status of a node went on naming the leader that it had heard
/// last.
#[tokio::test]
async fn a_node_that_hears_nobody_names_no_leader() {
    let three = Three::found().await;
    let leader = three.leader().await;
    let follower = (leader + 1) % 3;
    for node in 0..3 {
        three.wires.cut_off(node + 1);
    }
    until("none is named", || three.groups.iter().all(|group| group.status().leader.is_none()))
        .await;
    // A leader that was cut off does not know better; leases are what ends its power.
    assert_eq!(three.groups[leader].status().role, GroupRole::Leader);
    let leads = *three.groups[leader].leadership().borrow();
    assert!(matches!(leads, Leadership::Leader { .. }), "{leads:?}");
    assert_ne!(three.groups[follower].status().role, GroupRole::Leader);
    three.wires.heal();
    three.leader().await;
    three.shutdown().await;
}
