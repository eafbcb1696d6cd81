//! What does a node say of itself with each renewal?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cluster::lease::RingReport;
use crate::ids::{Epoch, FeatureLevel, PoolName, ShardId};

/// What a node serves by and what it sees. What one of another release does not say is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// For each pool, the epoch that requests read with nothing older in flight.
    pub epochs: BTreeMap<PoolName, Epoch>,
    /// The rings that it serves by.
    pub rings: BTreeMap<PoolName, RingReport>,
    /// The digest of its file's routes.
    pub routes_digest: String,
    /// What it sees of the shards, by its own evidence alone.
    pub views: Vec<PoolView>,
    /// The release that it runs.
    pub version: String,
    /// The highest feature level that its release speaks.
    pub feature_level: FeatureLevel,
}

/// What one node sees of one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// Which pool.
    pub pool: PoolName,
    /// Each shard: whether it looks down for reads, and for writes.
    pub shards: Vec<(ShardId, bool, bool)>,
    /// Shards in whose place another store than their own answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<ShardId>,
}

/// Where a node's facts come from.
pub type FactsSource = Box<dyn Fn() -> Facts + Send + Sync>;
