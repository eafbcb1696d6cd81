//! What is agreed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{BaseUrl, Epoch, PoolName, Revision, ShardId, Weight, Zone};
use crate::ring::{Member, Ring, RingError, RingSpec};

/// What an operator set for a shard. What nodes observe of it is kept apart, and shown apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    /// In service.
    #[default]
    Ready,
    /// Asked nothing, and keeps what it owns: for work on its machine.
    Maint,
}

/// The discipline of a pool (DESIGN, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One copy of what can be fetched again.
    Cache,
}

/// How keys are placed on shards (DESIGN, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// The token ring itself.
    Ring,
}

/// What is agreed about a pool as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Its discipline; fixed for its life.
    pub kind: Kind,
    /// How keys are placed.
    pub placement: Placement,
    /// Separates its ring from others'; fixed for its life, since another one moves every key.
    pub hash_seed: String,
    /// Virtual nodes per unit of weight.
    pub vnodes: u16,
    /// Whether a key's value never changes, as in content-addressed stores. Then a write may go
    /// to another shard than the owner.
    pub immutable: bool,
}

/// What is agreed about a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardSpec {
    /// Where it is. Says nothing about what it owns.
    pub url: BaseUrl,
    /// Its failure domain.
    pub zone: Zone,
    /// Its share.
    pub weight: Weight,
    /// Whether it is in service.
    pub state: AdminState,
}

/// One pool as agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolState {
    /// Counts the changes of its replica sets.
    pub epoch: Epoch,
    /// What concerns it as a whole.
    pub spec: PoolSpec,
    /// Its shards.
    pub shards: BTreeMap<ShardId, ShardSpec>,
}

impl PoolState {
    /// What the pool's ring is made of.
    #[must_use]
    pub fn ring_spec(&self) -> RingSpec {
        let members = self
            .shards
            .iter()
            .map(|(id, shard)| Member {
                id: id.clone(),
                zone: shard.zone.clone(),
                weight: shard.weight,
            })
            .collect();
        let Kind::Cache = self.spec.kind;
        let Placement::Ring = self.spec.placement;
        RingSpec {
            hash_seed: self.spec.hash_seed.clone(),
            vnodes: self.spec.vnodes,
            replicas: 1,
            members,
        }
    }

    pub(super) fn build_ring(&self) -> Result<Ring, RingError> {
        Ring::build(&self.ring_spec())
    }
}

/// Everything that is agreed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterState {
    pub(super) revision: Revision,
    pub(super) pools: BTreeMap<PoolName, PoolState>,
    /// The last epoch of pools that were removed, so that a pool made anew under the same name
    /// does not begin at an epoch that was in force before.
    pub(super) retired: BTreeMap<PoolName, Epoch>,
}

/// The state as it is persisted. Further versions become further variants; this one stays
/// readable (`tests` pins its bytes). A field that this release does not know is refused: to pass
/// over it would be to forget something agreed with the next write.
#[derive(Serialize, Deserialize)]
#[serde(tag = "version", deny_unknown_fields)]
enum Persisted {
    #[serde(rename = "1")]
    V1 {
        revision: Revision,
        pools: BTreeMap<PoolName, PoolState>,
        #[serde(default)]
        retired: BTreeMap<PoolName, Epoch>,
    },
}

/// Why persisted bytes are no state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// They cannot be read, or are of a later release.
    #[error("the agreed state cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
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
    /// Counts every change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The pools.
    #[must_use]
    pub fn pools(&self) -> &BTreeMap<PoolName, PoolState> {
        &self.pools
    }

    /// The state as bytes, to be persisted.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let persisted = Persisted::V1 {
            revision: self.revision,
            pools: self.pools.clone(),
            retired: self.retired.clone(),
        };
        serde_json::to_vec_pretty(&persisted).expect("names, numbers and texts are always JSON")
    }

    /// The state that [`encode`](Self::encode) made bytes of, in this release or an earlier one.
    ///
    /// # Errors
    /// [`StateError`] for bytes that are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let Persisted::V1 { revision, pools, retired } = serde_json::from_slice(bytes)?;
        for (name, pool) in &pools {
            pool.ring_spec()
                .check()
                .map_err(|error| StateError::Ring { pool: name.clone(), error })?;
        }
        Ok(Self { revision, pools, retired })
    }
}
