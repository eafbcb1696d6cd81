//! What do nodes of a group say to each other?
//!
//! JSON under `/peer/v1/`, one path for each kind of message. What Raft itself says names who
//! speaks and who is meant: behind an address that moved there may be another node, and an answer
//! of another node is worse than none.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::types::{Outcome, TypeConfig};
use crate::cluster::Role;
use crate::ids::{ClusterId, Generation, NodeId, NodeName, Nonce, PeerAddress};
use crate::net::peer::PeerAnswer;

/// Raft: entries, and heartbeats.
pub const APPEND: &str = "/peer/v1/append";
/// Raft: a vote is asked for.
pub const VOTE: &str = "/peer/v1/vote";
/// Raft: would a vote be given?
pub const PRE_VOTE: &str = "/peer/v1/pre-vote";
/// Raft: a snapshot for a member that is far behind.
pub const SNAPSHOT: &str = "/peer/v1/snapshot";
/// Raft: the leader wants this node to lead.
pub const TRANSFER: &str = "/peer/v1/transfer";
/// A command for the leader.
pub const PROPOSE: &str = "/peer/v1/propose";
/// How far must a node have applied to know everything that was agreed before now?
pub const READ_INDEX: &str = "/peer/v1/read-index";
/// An operator wants another leader.
pub const HAND_OVER: &str = "/peer/v1/hand-over";
/// A node wants to join.
pub const JOIN: &str = "/peer/v1/join";
/// The node that this reaches may have been removed: it should ask.
pub const REMOVED: &str = "/peer/v1/removed";
/// Does a node belong to the cluster?
pub const STANDING: &str = "/peer/v1/standing";

/// The kind of the refusal that a node gets which the one that it asks takes for removed.
pub const REMOVED_PROBLEM: &str = "removed";

pub type Append = AppendEntriesRequest<TypeConfig>;
pub type Appended = AppendEntriesResponse<TypeConfig>;
pub type AskVote = VoteRequest<TypeConfig>;
pub type Voted = VoteResponse<TypeConfig>;
pub type Installed = SnapshotResponse<TypeConfig>;

/// One of Raft's messages.
#[derive(Debug, Serialize, Deserialize)]
pub struct Addressed<T> {
    /// Who speaks.
    pub from: NodeId,
    /// Who is meant.
    pub to: NodeId,
    /// What is said.
    pub message: T,
}

/// Where the leader is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// The node.
    pub node: NodeId,
    /// Where it is reached.
    pub address: PeerAddress,
}

/// The answer to what only a leader may do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// It was done.
    Done(T),
    /// The node does not lead; who does, if it knows. Nothing was done.
    NotLeader(Option<Leader>),
    /// Nothing was done.
    Unavailable(String),
    /// It may have been done.
    Unknown(String),
}

/// A command that was agreed on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Committed {
    /// Its place in the log.
    pub index: u64,
    /// What it came to.
    pub outcome: Outcome,
}

/// Another leader is wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HandOver {
    /// Who.
    pub to: NodeId,
}

/// A node wants to join.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Join {
    /// Its label.
    pub name: NodeName,
    /// Where it is reached.
    pub address: PeerAddress,
    /// What it shall be.
    pub role: Role,
    /// What it drew.
    pub nonce: Nonce,
}

/// It has joined.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Joined {
    /// The cluster.
    pub cluster: ClusterId,
    /// How often it was rebuilt.
    pub generation: Generation,
    /// The new node's id.
    pub node: NodeId,
}

/// Whether a node belongs to the cluster is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AskStanding {
    /// Which.
    pub node: NodeId,
}

/// How it stands with a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Standing {
    /// Whether it was removed, and nothing waits for its vote any more.
    pub removed: bool,
}

/// A node was removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Removed {
    /// Which.
    pub node: NodeId,
}

/// The bytes of a message.
pub fn encode(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message).expect("messages are ids, numbers, texts and commands").into()
}

/// A message of bytes.
///
/// # Errors
/// The refusal to answer with.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, PeerAnswer> {
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!("The message cannot be read: {error}. Is the sender a later release?");
        PeerAnswer::problem(400, "bad-message", &detail)
    })
}
