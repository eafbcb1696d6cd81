//! What is agreed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::{Change, FIRST_LEVEL};
use super::history::{History, Record};
use super::node::NodeState;
use super::pool::PoolState;
use super::session::Sessions;
use super::settings::Settings;
use super::verdict::Agreed;
use crate::ids::{ClusterId, Epoch, FeatureLevel, Generation, NodeId, Nonce, PoolName, Revision};

/// Which cluster this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Drawn when it was founded.
    pub id: ClusterId,
    /// Counts its rebirths.
    pub generation: Generation,
}

/// Everything that is agreed. What is large in it is shared, so that a copy is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterState {
    pub(super) revision: Revision,
    pub(super) identity: Option<Identity>,
    /// As whom a node without a cluster speaks to its stores.
    pub(super) alone: Option<Identity>,
    pub(super) feature_level: FeatureLevel,
    pub(super) settings: Settings,
    /// The longest lease that was ever agreed on, in milliseconds: a leader may have granted it
    /// before the lease was made shorter. 0 before there was a cluster.
    pub(super) lease_longest_ms: u64,
    pub(super) nodes: BTreeMap<NodeId, NodeState>,
    /// The id that was given last.
    pub(super) last_node: NodeId,
    /// Nodes that were removed lately, by what they drew: a copy of their joining that is late in
    /// the log must not bring them back.
    pub(super) removed: BTreeMap<NodeId, Nonce>,
    /// Of every node that has begun.
    pub(super) sessions: Sessions,
    pub(super) pools: BTreeMap<PoolName, Arc<PoolState>>,
    /// The last epoch of pools that were removed, so that a pool made anew under the same name
    /// does not begin at an epoch that was in force before.
    pub(super) retired: BTreeMap<PoolName, Epoch>,
    /// The same for all names that are too many to be in `retired`.
    pub(super) retired_floor: Epoch,
    pub(super) staged: Arc<Vec<Change>>,
    pub(super) history: History,
}

impl Default for ClusterState {
    fn default() -> Self {
        Self {
            revision: Revision::default(),
            identity: None,
            alone: None,
            feature_level: FIRST_LEVEL,
            settings: Settings::default(),
            lease_longest_ms: 0,
            nodes: BTreeMap::new(),
            last_node: NodeId::default(),
            removed: BTreeMap::new(),
            sessions: Sessions::new(),
            pools: BTreeMap::new(),
            retired: BTreeMap::new(),
            retired_floor: Epoch::default(),
            staged: Arc::default(),
            history: History::default(),
        }
    }
}

impl ClusterState {
    /// Counts every change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Which cluster this is; `None` before it is founded, and without one.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// As whom stores are spoken to: the cluster, or a node without one. `None`: a node that began
    /// before such nodes had names.
    #[must_use]
    pub fn speaks_as(&self) -> Option<Identity> {
        self.identity.or(self.alone)
    }

    /// Names a node without a cluster, before anything else is agreed. A state that is begun anew
    /// where one was lost has a generation of its own, so that its epochs are later than all before.
    pub fn begin_alone(&mut self, own: Identity) {
        self.alone = Some(own);
    }

    /// The level up to which commands may be proposed.
    #[must_use]
    pub fn feature_level(&self) -> FeatureLevel {
        self.feature_level
    }

    /// The longest lease that was ever agreed on. A new leader waits for that one.
    #[must_use]
    pub fn lease_longest_ms(&self) -> u64 {
        self.lease_longest_ms
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeState> {
        &self.nodes
    }

    /// Whether `node` was a member once and is none any more.
    #[must_use]
    pub fn was_removed(&self, node: NodeId) -> bool {
        node > NodeId(0) && node <= self.last_node && !self.nodes.contains_key(&node)
    }

    /// The pools.
    #[must_use]
    pub fn pools(&self) -> &BTreeMap<PoolName, Arc<PoolState>> {
        &self.pools
    }

    /// Whether there is a pool, or ever was one.
    #[must_use]
    pub fn had_pools(&self) -> bool {
        !self.pools.is_empty() || !self.retired.is_empty()
    }

    /// What is held against shards, of the pools where something is.
    #[must_use]
    pub fn verdicts(&self) -> Agreed {
        let has_some = self.pools.iter().filter(|(_, pool)| !pool.verdicts.is_empty());
        has_some.map(|(name, pool)| (name.clone(), pool.verdicts.clone())).collect()
    }

    /// The epoch in force of every pool.
    #[must_use]
    pub fn epochs(&self) -> BTreeMap<PoolName, Epoch> {
        self.pools.iter().map(|(name, pool)| (name.clone(), pool.epoch)).collect()
    }

    /// The epoch of every pool below which no node may hold a lease.
    #[must_use]
    pub fn barriers(&self) -> BTreeMap<PoolName, Epoch> {
        self.pools.iter().map(|(name, pool)| (name.clone(), pool.barrier)).collect()
    }

    /// What is staged, in the order in which it was.
    #[must_use]
    pub fn staged(&self) -> &[Change] {
        &self.staged
    }

    /// What was done lately, the oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<Arc<Record>> {
        self.history.records()
    }
}
