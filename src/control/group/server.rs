//! What does a node answer its peers?
//!
//! Before anything else a message is checked for whom it is meant: the cluster and its generation
//! ([`Group::admission`]), by whom it is sent, and, for what Raft says, the node. A node of an older
//! generation belongs to a group that does not exist any more; its votes would count in the new one.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::part::{Group, Running};
use super::snapshot::Snapshot;
use super::types::{TypeConfig, Vote};
use super::wire::{self, Addressed, Append, Appended, AskVote, Removed};
use crate::ids::NodeId;
use crate::net::peer::{PeerAnswer, PeerRequest};

type Transfer = openraft::raft::TransferLeaderRequest<TypeConfig>;
type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, Bytes>;

impl Group {
    /// Answers one request of a peer.
    pub async fn handle(&self, request: PeerRequest) -> PeerAnswer {
        if let Err(refusal) = self.admission(&request.path, &request.introduction) {
            return refusal;
        }
        if let Err(refusal) = self.vouch_for(&request) {
            return refusal;
        }
        if *self.shared().removed.borrow() {
            return PeerAnswer::problem(
                421,
                "misdirected",
                "This node was removed from the cluster and takes no part.",
            );
        }
        // The sender may go away while this is under way; what was begun is finished all the same.
        let group = self.clone();
        let answered = self.shared().runtime.spawn(async move {
            match request.path.as_str() {
                wire::APPEND | wire::VOTE | wire::PRE_VOTE | wire::TRANSFER | wire::SNAPSHOT => {
                    group.answer_raft(&request.path, &request.body).await
                }
                wire::REMOVED => group.hear_removed(&request.body),
                _ => group.lead(&request.path, request.body).await,
            }
        });
        answered.await.unwrap_or_else(|_| unavailable("the node is stopping"))
    }

    async fn answer_raft(&self, path: &str, body: &Bytes) -> PeerAnswer {
        let Some(running) = self.shared().running() else {
            return unavailable("this node belongs to no cluster yet");
        };
        if let Some(why) = running.writer.failed().borrow().as_ref() {
            return unavailable(why);
        }
        let raft = &running.raft;
        match path {
            wire::APPEND => match self.receive::<Append>(running, body) {
                Ok(append) => {
                    let appended = raft.append_entries(append).await;
                    if let Ok(answer) = &appended
                        && !matches!(answer, Appended::HigherVote(_))
                    {
                        self.hears_a_leader();
                    }
                    reply(appended)
                }
                Err(refusal) => refusal,
            },
            wire::VOTE => match self.receive::<AskVote>(running, body) {
                Ok(vote) => reply(raft.vote(vote).await),
                Err(refusal) => refusal,
            },
            wire::PRE_VOTE => match self.receive::<AskVote>(running, body) {
                Ok(vote) => reply(raft.pre_vote(vote).await),
                Err(refusal) => refusal,
            },
            wire::TRANSFER => match self.receive::<Transfer>(running, body) {
                Ok(transfer) => reply(raft.handle_transfer_leader(transfer).await),
                Err(refusal) => refusal,
            },
            _ => self.install(running, body).await,
        }
    }

    async fn install(&self, running: &Running, body: &Bytes) -> PeerAnswer {
        let at = memchr::memchr(b'\n', body).unwrap_or(body.len());
        let vote: Vote = match self.receive(running, &body[..at]) {
            Ok(vote) => vote,
            Err(refusal) => return refusal,
        };
        let bytes = body.slice((at + 1).min(body.len())..);
        // Looked at before Raft gets it: to Raft a snapshot that cannot be read is a failed disk.
        let snapshot = match Snapshot::decode(&bytes) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let detail = format!("The snapshot cannot be used: {error}.");
                return PeerAnswer::problem(400, "bad-message", &detail);
            }
        };
        self.hears_a_leader();
        let snapshot = RaftSnapshot { meta: snapshot.meta, snapshot: bytes };
        reply(running.raft.install_full_snapshot(vote, snapshot).await)
    }

    /// What Raft says, if it is said to this node and by a member.
    fn receive<M: DeserializeOwned>(
        &self,
        running: &Running,
        body: &[u8],
    ) -> Result<M, PeerAnswer> {
        let Addressed { from, to, message } = wire::decode::<Addressed<M>>(body)?;
        let me = running.member.node;
        if to != me {
            let detail = format!(
                "This is node {me}, and the message is for node {to}: what the cluster knows of \
                 its addresses is old, or two nodes share one."
            );
            return Err(PeerAnswer::problem(421, "misdirected", &detail));
        }
        if self.shared().state.borrow().was_removed(from) {
            return Err(removed(from));
        }
        Ok(message)
    }

    /// A hint, which the node looks into: anybody may have sent it.
    fn hear_removed(&self, body: &[u8]) -> PeerAnswer {
        let me = self.member().map(|member| member.node);
        match wire::decode::<Removed>(body) {
            Ok(removed) if Some(removed.node) == me => {
                self.doubt_membership();
                PeerAnswer::ok(Bytes::from_static(b"{}"))
            }
            Ok(Removed { node: NodeId(node) }) => {
                let detail = format!("This is not node {node}.");
                PeerAnswer::problem(421, "misdirected", &detail)
            }
            Err(refusal) => refusal,
        }
    }
}

/// The answer to a node that was removed, which then looks into it.
pub(super) fn removed(node: NodeId) -> PeerAnswer {
    let detail = format!("Node {node} was removed from the cluster.");
    PeerAnswer::problem(410, wire::REMOVED_PROBLEM, &detail)
}

fn reply<T: Serialize, E: std::fmt::Display>(result: Result<T, E>) -> PeerAnswer {
    match result {
        Ok(message) => PeerAnswer::ok(wire::encode(&message)),
        Err(error) => unavailable(&error.to_string()),
    }
}

fn unavailable(why: &str) -> PeerAnswer {
    PeerAnswer::problem(503, "unavailable", &format!("This node takes no part just now: {why}."))
}
