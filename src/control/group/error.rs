//! What can go wrong, by what the caller may do about it?

use super::identity::IdentityError;
use super::log_file::LogError;
use super::snapshot::SnapshotError;
use crate::cluster::Refusal;
use crate::disk::lock::LockError;
use crate::ids::{ClusterId, NodeId};

/// Why a node cannot start. Nothing on its disk has changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Who the node is cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Files of the folder do not belong together.
    #[error("{0}")]
    Torn(String),
    /// The timing cannot work.
    #[error("the group's timing cannot work: {0}")]
    Timing(String),
    /// Raft refuses to start.
    #[error("the Raft group cannot start: {0}")]
    Raft(String),
}

/// Why a command is not agreed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Everybody refused it. To repeat it as it is is pointless.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing was done. It may be repeated.
    #[error("nothing was changed: {why}")]
    Unavailable {
        /// What stood in the way.
        why: String,
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// It may have been done, or may still be.
    #[error(
        "it is not known whether this was changed: the answer of the leader was lost ({0}); look before you repeat it"
    )]
    Unknown(String),
}

/// Why no cluster was founded.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The node belongs to one.
    #[error("this node belongs to cluster {0} already: a cluster is founded once")]
    Member(ClusterId),
    /// Its files cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The first command was not agreed.
    #[error("the cluster could not be founded: {0}")]
    First(#[source] ProposeError),
    /// The cluster is founded; what it should begin with is not in it, or not all.
    #[error("the cluster is founded, but its first pools are not all in it: {0}")]
    Seed(#[source] ProposeError),
}

/// Why the node has not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The node belongs to a cluster.
    #[error("this node belongs to cluster {0} already")]
    Member(ClusterId),
    /// The cluster refuses it. To ask again is pointless.
    #[error("the cluster does not take this node: {0}")]
    Refused(String),
    /// Nobody could say. It may be asked again.
    #[error("no leader could be asked: {0}")]
    Unavailable(String),
    /// Its files cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
}
