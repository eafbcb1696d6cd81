//! Which nodes are there, and which of them vote?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{FeatureLevel, Incarnation, NodeId, NodeName, Nonce, PeerAddress, Revision};

/// Most nodes of one cluster. Each holds a lease and sends its views, and a barrier waits for all.
pub const NODES_MAX: usize = 64;

/// Most voters. A group of five outlives two, and each further pair makes every decision slower.
pub const VOTERS_MAX: usize = 5;

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It votes, when [`voters`] chooses it.
    Voter,
    /// It never votes: a Raft learner that serves like any other node.
    Observer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voter => "voter",
            Self::Observer => "observer",
        })
    }
}

/// One node as agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeState {
    /// Its label, unlike any other's.
    pub name: NodeName,
    /// Where its peers reach it, unlike any other's.
    pub address: PeerAddress,
    /// What it is for.
    pub role: Role,
    /// Its start that is in force; 0 before the first.
    pub incarnation: Incarnation,
    /// When it was added.
    pub joined: Revision,
    /// The release it runs, in its own words; empty before its first start.
    pub version: String,
    /// The highest level that its release speaks; 0 before its first start.
    pub feature_level: FeatureLevel,
    /// What it drew when it joined.
    pub nonce: Nonce,
}

/// The nodes that shall vote: of those whose role it is, those that vote already first and then the
/// oldest, up to [`VOTERS_MAX`]; and of an even number one less, unless all of them vote already.
///
/// So voters come in pairs. An even number outlives no more nodes than one less, and each decision
/// needs one more: a second voter waits for the third. But they go one by one. Where three vote and
/// one is removed, two go on: a majority is the same two nodes as before, whereas one alone would
/// keep everything that is agreed from then on upon a single disk, just while the replacement of
/// another is awaited. Who wants one voter of two makes the other an observer.
///
/// A node that never began is not chosen: it would count for every majority and answer nobody.
#[must_use]
pub fn voters(nodes: &BTreeMap<NodeId, NodeState>, current: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let may_vote = |(id, node): &(&NodeId, &NodeState)| {
        let began = node.incarnation > Incarnation(0) || current.contains(*id);
        node.role == Role::Voter && began
    };
    let mut candidates: Vec<NodeId> = nodes.iter().filter(may_vote).map(|(id, _)| *id).collect();
    // Stable, so that ids stay in order among those that vote and among those that do not.
    candidates.sort_by_key(|id| !current.contains(id));
    let most = candidates.len().min(VOTERS_MAX);
    let all_vote = candidates[..most].iter().all(|id| current.contains(id));
    let count = if most.is_multiple_of(2) && !all_vote { most - 1 } else { most };
    candidates.into_iter().take(count).collect()
}
