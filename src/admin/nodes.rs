//! How does the group of nodes do, for a person?
//!
//! Three sources are put side by side and none is taken for another: what is agreed (the state),
//! what this node's Raft says of itself, and what only the leader knows of the others.

use serde::{Deserialize, Serialize};

use crate::cluster::{ClusterState, NodeState, Role};
use crate::control::group::{GroupRole, GroupStatus};
use crate::control::steward::{LeaseStatus, NodeReport, Overview};
use crate::ids::{Epoch, NodeId, PoolName};

/// A node's serving lease, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lease {
    /// Milliseconds that it still lasts; 0 without one.
    pub remaining_ms: u64,
    /// How long ago it was lost; absent while there is one, and if there never was any.
    pub lost_ms_ago: Option<u64>,
    /// Why the last renewal brought none.
    pub trouble: Option<String>,
}

impl From<LeaseStatus> for Lease {
    fn from(status: LeaseStatus) -> Self {
        let LeaseStatus { remaining_ms, lost_ms_ago, term: _, trouble } = status;
        Self { remaining_ms, lost_ms_ago, trouble }
    }
}

/// The group of nodes, as one of them tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub id: String,
    /// Moves when a cluster is recovered from a survivor.
    pub generation: u64,
    /// What all nodes understand.
    pub feature_level: u64,
    /// The id of the node that answers.
    pub node_id: u64,
    /// Its part: `unborn`, `learner`, `follower`, `candidate`, `leader` or `stopped`.
    pub role: String,
    /// The Raft term.
    pub term: u64,
    /// The name of the leader, if one is known.
    pub leader: Option<String>,
    /// The answering node's lease.
    pub lease: Lease,
    /// Whether a change of voters is under way.
    pub joint: bool,
    /// How far the answering node's log has come.
    pub log: Log,
    /// Its last snapshot; absent before the first.
    pub snapshot: Option<Snapshot>,
    /// On the leader: how long ago a majority last confirmed it.
    pub quorum_acked_ms_ago: Option<u64>,
    /// Why the answering node's disk is not trusted any more; absent if it is.
    pub storage_failed: Option<String>,
    /// For what writing its log waits: space. It goes on by itself; absent if it does not wait.
    pub storage_waits: Option<String>,
    /// Why the answering node takes no part any more: it was removed, or its Raft has stopped.
    pub stopped: Option<String>,
    /// Whether the leader told what it knows of the others. Without that, what stands for each
    /// node is what is agreed, and nothing observed.
    pub observed: bool,
    /// Every node.
    pub nodes: Vec<NodeStatus>,
}

/// Places in the log; absent where there is none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The last entry that the node holds.
    pub last: Option<u64>,
    /// The last one that it knows to be agreed.
    pub committed: Option<u64>,
    /// The last one that it has applied.
    pub applied: Option<u64>,
}

/// A snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last entry that it covers.
    pub index: u64,
    /// How old it is.
    pub age_ms: u64,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its identity.
    pub id: u64,
    /// Its label.
    pub name: String,
    /// Where its peers reach it.
    pub address: String,
    /// `voter`, `observer`, or `waiting`: a voter by role that does not vote, since an even number
    /// of voters survives no more failures than one less.
    pub role: String,
    /// Whether it leads.
    pub leader: bool,
    /// Counts its starts.
    pub incarnation: u64,
    /// Its release.
    pub version: String,
    /// How long ago it renewed its lease.
    pub last_seen_ms_ago: Option<u64>,
    /// How long its lease lasts, by the leader's clock.
    pub lease_remaining_ms: Option<u64>,
    /// Whether it counts as a lease holder, in words.
    pub standing: Option<String>,
    /// Its wall clock against the median of all.
    pub clock_offset_ms: Option<i64>,
    /// Whether its routes are others than those of the node that answers.
    pub routes_differ: Option<bool>,
    /// Pools of which it serves another epoch than the one agreed, as `pool@epoch`.
    pub behind: Vec<String>,
    /// Pools of which it serves the agreed epoch with another ring, as `pool@epoch`. Always empty
    /// unless a machine or this software is broken.
    pub mismatches: Vec<String>,
}

/// What this node serves, in the form of a report.
pub struct Here {
    /// The digest of its routes.
    pub routes_digest: String,
    /// Each pool's epoch and the digest of its ring.
    pub epochs: Vec<(PoolName, Epoch, String)>,
}

/// Puts the three sources side by side, measured by what this node serves. `None` when this node belongs to no cluster yet.
#[must_use]
pub fn cluster_status(
    group: &GroupStatus,
    state: &ClusterState,
    lease: Lease,
    overview: Option<&Overview>,
    here: &Here,
) -> Option<ClusterStatus> {
    let identity = state.identity()?;
    let report = |node: NodeId| overview?.nodes.iter().find(|report| report.node == node);
    let nodes = state.nodes().iter().map(|(&id, node)| {
        let mut status = agreed(id, node, group);
        if let Some(report) = report(id) {
            observe(&mut status, report, state, here);
        }
        status
    });
    Some(ClusterStatus {
        id: identity.id.to_string(),
        generation: identity.generation.0,
        feature_level: state.feature_level().0,
        node_id: group.node.unwrap_or_default().0,
        role: role(group).to_owned(),
        term: group.term.0,
        leader: group.leader.map(|leader| name_of(state, leader)),
        lease,
        joint: group.joint,
        log: Log {
            last: group.last_log,
            committed: group.committed.map(|place| place.index),
            applied: group.applied.map(|place| place.index),
        },
        snapshot: group
            .snapshot
            .map(|snapshot| Snapshot { index: snapshot.index, age_ms: snapshot.age_ms }),
        quorum_acked_ms_ago: group.quorum_acked_ms_ago,
        storage_failed: group.storage_failed.clone(),
        storage_waits: group.storage_waits.clone(),
        stopped: match group.removed {
            true => Some("the cluster has removed it".to_owned()),
            false => group.stopped.clone(),
        },
        observed: overview.is_some(),
        nodes: nodes.collect(),
    })
}

fn role(group: &GroupStatus) -> &'static str {
    match group.role {
        GroupRole::Leader if group.leader.is_none() => "leader without a quorum",
        GroupRole::Unborn => "unborn",
        GroupRole::Learner => "learner",
        GroupRole::Follower => "follower",
        GroupRole::Candidate => "candidate",
        GroupRole::Leader => "leader",
        GroupRole::Stopped => "stopped",
    }
}

fn agreed(id: NodeId, node: &NodeState, group: &GroupStatus) -> NodeStatus {
    let role = match node.role {
        Role::Observer => "observer",
        Role::Voter if group.voters.contains(&id) => "voter",
        Role::Voter => "waiting",
    };
    NodeStatus {
        id: id.0,
        name: node.name.to_string(),
        address: node.address.to_string(),
        role: role.to_owned(),
        leader: group.leader == Some(id),
        incarnation: node.incarnation.0,
        version: node.version.clone(),
        last_seen_ms_ago: None,
        lease_remaining_ms: None,
        standing: None,
        clock_offset_ms: None,
        routes_differ: None,
        behind: Vec::new(),
        mismatches: Vec::new(),
    }
}

fn observe(status: &mut NodeStatus, report: &NodeReport, state: &ClusterState, here: &Here) {
    status.last_seen_ms_ago = report.last_seen_ms_ago;
    status.lease_remaining_ms = report.lease_remaining_ms;
    status.standing = Some(report.standing.clone());
    status.clock_offset_ms = report.clock_offset_ms;
    // A leader that has not heard of the node yet knows nothing of its routes and epochs.
    if report.last_seen_ms_ago.is_none() {
        return;
    }
    status.routes_differ = Some(report.routes_digest != here.routes_digest);
    let digest_here = |pool: &PoolName, epoch: Epoch| {
        let (_, _, digest) = here.epochs.iter().find(|(p, e, _)| p == pool && *e == epoch)?;
        Some(digest)
    };
    let mismatches = report.epochs.iter().filter(|(pool, epoch, digest)| {
        digest_here(pool, *epoch).is_some_and(|here| here != digest)
    });
    status.mismatches = mismatches.map(|(pool, epoch, _)| format!("{pool}@{epoch}")).collect();
    let behind = report.epochs.iter().filter(|(pool, epoch, _)| {
        state.pools().get(pool).is_some_and(|agreed| agreed.epoch != *epoch)
    });
    status.behind = behind.map(|(pool, epoch, _)| format!("{pool}@{epoch}")).collect();
}

/// A node as people call it; by its number if it is not a member any more.
fn name_of(state: &ClusterState, node: NodeId) -> String {
    state.nodes().get(&node).map_or_else(|| format!("node {node}"), |node| node.name.to_string())
}
