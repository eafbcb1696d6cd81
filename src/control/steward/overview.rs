//! What does the leader know of each node that no other node knows?
//!
//! Leases and reports end at the leader. Whoever is asked for the state of the cluster has the
//! leader tell it; nothing is decided on what stands here.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Incarnation, NodeId, PoolName};

/// Every node, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Overview {
    /// One report for each node of the agreed state, by id.
    pub nodes: Vec<NodeReport>,
}

/// One node, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Which node.
    pub node: NodeId,
    /// The start of the node that the report is of.
    pub incarnation: Incarnation,
    /// The release that it runs.
    pub version: String,
    /// How long ago its last renewal came; `None` if none came to this leader.
    pub last_seen_ms_ago: Option<u64>,
    /// How long its lease still lasts, by the leader's clock; `None` if it has none.
    pub lease_remaining_ms: Option<u64>,
    /// What it has applied: each pool's epoch, and the digest of the ring that it serves under it.
    pub epochs: Vec<(PoolName, Epoch, String)>,
    /// The digest of its routes.
    pub routes_digest: String,
    /// Its wall clock against the median of all reports; positive when it is ahead.
    pub clock_offset_ms: Option<i64>,
    /// Whether it counts as a lease holder, and why, in words.
    pub standing: String,
}
