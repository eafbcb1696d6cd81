//! How is the state kept on disk, and sent whole?
//!
//! As JSON that names its version. Each version stays readable, and `tests` pins its bytes; the
//! newest is what is written. A field that this release does not know is refused: to pass over it
//! would be to forget something agreed with the next write.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::Change;
use super::history::History;
use super::node::NodeState;
use super::pool::PoolState;
use super::session::{Session, Sessions};
use super::settings::Settings;
use super::state::{ClusterState, Identity};
use crate::ids::{Epoch, FeatureLevel, NodeId, Nonce, PoolName, Revision};
use crate::ring::RingError;

/// What every version begins with.
#[derive(Deserialize)]
struct Head {
    version: String,
}

/// Before clusters: a node's own pools.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct V1 {
    #[serde(rename = "version")]
    _version: String,
    revision: Revision,
    pools: BTreeMap<PoolName, Arc<PoolState>>,
    #[serde(default)]
    retired: BTreeMap<PoolName, Epoch>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct V2 {
    version: String,
    revision: Revision,
    identity: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alone: Option<Identity>,
    feature_level: FeatureLevel,
    settings: Settings,
    lease_longest_ms: u64,
    nodes: BTreeMap<NodeId, NodeState>,
    last_node: NodeId,
    removed: BTreeMap<NodeId, Nonce>,
    sessions: BTreeMap<NodeId, Arc<Session>>,
    pools: BTreeMap<PoolName, Arc<PoolState>>,
    retired: BTreeMap<PoolName, Epoch>,
    retired_floor: Epoch,
    staged: Arc<Vec<Change>>,
    history: History,
}

/// Why persisted bytes are no state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// They cannot be read.
    #[error("the agreed state cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// They are of a later release.
    #[error("the agreed state is written in version `{0}`, which this release does not know")]
    Version(String),
    /// They can be read, and a pool's table cannot be made of them.
    #[error("pool `{pool}`: {why}")]
    Table {
        /// Which pool.
        pool: PoolName,
        /// What is wrong with it.
        why: String,
    },
    /// They can be read, and no ring can be made of them.
    #[error("pool `{pool}`: {error}")]
    Ring {
        /// Which pool.
        pool: PoolName,
        /// What is wrong with it.
        error: RingError,
    },
}

impl ClusterState {
    /// The state as bytes, to be persisted. Equal states have equal bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self {
            revision,
            identity,
            alone,
            feature_level,
            settings,
            lease_longest_ms,
            nodes,
            last_node,
            removed,
            sessions,
            pools,
            retired,
            retired_floor,
            staged,
            history,
        } = self.clone();
        let persisted = V2 {
            version: "2".to_owned(),
            revision,
            identity,
            alone,
            feature_level,
            settings,
            lease_longest_ms,
            nodes,
            last_node,
            removed,
            sessions,
            pools,
            retired,
            retired_floor,
            staged,
            history,
        };
        serde_json::to_vec(&persisted).expect("names, numbers and texts are always JSON")
    }

    /// The state that [`encode`](Self::encode) made bytes of, in this release or an earlier one.
    ///
    /// # Errors
    /// [`StateError`] for bytes that are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let Head { version } = serde_json::from_slice(bytes)?;
        let mut state = match version.as_str() {
            "1" => {
                let V1 { revision, pools, retired, .. } = serde_json::from_slice(bytes)?;
                Self { revision, pools, retired, ..Self::default() }
            }
            "2" => Self::of(serde_json::from_slice(bytes)?),
            _ => return Err(StateError::Version(version.chars().take(64).collect())),
        };
        for (name, pool) in &state.pools {
            pool.ring_spec()
                .check()
                .map_err(|error| StateError::Ring { pool: name.clone(), error })?;
        }
        for (name, pool) in &mut state.pools {
            let restored = Arc::make_mut(pool).restore_table();
            restored.map_err(|why| StateError::Table { pool: name.clone(), why })?;
        }
        Ok(state)
    }

    fn of(persisted: V2) -> Self {
        let V2 {
            version: _,
            revision,
            identity,
            alone,
            feature_level,
            settings,
            lease_longest_ms,
            nodes,
            last_node,
            removed,
            sessions,
            pools,
            retired,
            retired_floor,
            staged,
            history,
        } = persisted;
        let sessions: Sessions = sessions;
        Self {
            revision,
            identity,
            alone,
            feature_level,
            settings,
            lease_longest_ms,
            nodes,
            last_node,
            removed,
            sessions,
            pools,
            retired,
            retired_floor,
            staged,
            history,
        }
    }
}
