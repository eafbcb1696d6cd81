//! What is agreed about a pool and its shards?

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::{FIRST_LEVEL, HTTPS_LEVEL, KEPT_LEVEL, KETAMA_LEVEL};
use super::kept::{KeptSpec, StoreState};
use super::past::PastRing;
use super::placed::Slots;
use crate::ids::{BaseUrl, Birth, Epoch, FeatureLevel, KetamaName, ShardId, Weight, Zone};
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

/// What a majority of the nodes observes of a shard, and the group has agreed. Nothing, as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// It answers no reads.
    pub reads_down: bool,
    /// It takes no writes. A full volume loses these alone.
    pub writes_down: bool,
    /// Another store than the shard's own answers at its address. Since [`KEPT_LEVEL`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

impl Verdict {
    /// Nothing is held against the shard.
    pub const CLEAR: Verdict = Verdict { reads_down: false, writes_down: false, foreign: false };

    /// Whether nothing is held against the shard.
    #[must_use]
    pub fn is_clear(self) -> bool {
        self == Self::CLEAR
    }
}

/// The discipline of a pool (DESIGN, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One copy of what can be fetched again.
    Cache,
    /// Several copies of what must not be lost. Since [`KEPT_LEVEL`].
    Replicated,
}

/// How keys are placed on shards (DESIGN, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// The token ring itself.
    Ring,
    /// As nginx's `hash … consistent` does. Since [`KETAMA_LEVEL`].
    Ketama,
    /// Equal slots by quotas, in the order of the token ring: see
    /// [`ring::slots`](crate::ring::slots). Since [`KEPT_LEVEL`].
    Balanced,
}

/// Whose word decides which shard of those that may answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Each node follows what it sees itself, at once, and the agreed verdicts.
    #[default]
    Any,
    /// Agreed verdicts alone move requests away from a shard, so that all nodes use the same one.
    Primary,
}

impl Mode {
    fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

/// What is agreed about a pool as a whole.
///
/// A field that a later release adds is left out of the encoding as long as it has its default:
/// plans are named by a digest of these bytes, and nodes of two releases must find the same name.
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
    /// Whose word moves requests away from a shard.
    #[serde(default, skip_serializing_if = "Mode::is_any")]
    pub mode: Mode,
    /// What is agreed about a pool that keeps data; there exactly if its kind is one that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptSpec>,
}

/// What is agreed about a shard. For further fields see [`PoolSpec`].
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
    /// The name by which nginx knows it, if that is not `HOST:PORT` of its URL. Only pools placed
    /// by [`Placement::Ketama`] look at it. Since [`KETAMA_LEVEL`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ketama_name: Option<KetamaName>,
}

impl PoolSpec {
    /// The level that a cluster must have agreed on before this may be.
    pub(super) fn feature_level(&self) -> FeatureLevel {
        let placement = match self.placement {
            Placement::Ring => FIRST_LEVEL,
            Placement::Ketama => KETAMA_LEVEL,
            Placement::Balanced => KEPT_LEVEL,
        };
        let kind = match self.kind {
            Kind::Cache if self.kept.is_none() => FIRST_LEVEL,
            Kind::Cache | Kind::Replicated => KEPT_LEVEL,
        };
        placement.max(kind)
    }

    /// On how many shards each object is.
    #[must_use]
    pub fn replicas(&self) -> u8 {
        self.kept.as_ref().map_or(1, |kept| kept.replicas)
    }

    /// Whether the kind, the placement and what is said of kept data are for each other.
    pub(super) fn is_consistent(&self) -> bool {
        match self.kind {
            Kind::Cache => self.kept.is_none() && self.placement != Placement::Balanced,
            Kind::Replicated => {
                self.kept.is_some() && self.placement == Placement::Balanced && !self.immutable
            }
        }
    }
}

/// The level that a cluster must have agreed on before a shard may be there.
pub(super) fn level_of_url(url: &BaseUrl) -> FeatureLevel {
    if url.is_tls() { HTTPS_LEVEL } else { FIRST_LEVEL }
}

impl ShardSpec {
    /// The level that a cluster must have agreed on before this may be.
    pub(super) fn feature_level(&self) -> FeatureLevel {
        let named = if self.ketama_name.is_some() { KETAMA_LEVEL } else { FIRST_LEVEL };
        named.max(level_of_url(&self.url))
    }

    /// The name by which nginx knows it.
    #[must_use]
    pub fn known_to_nginx(&self) -> KetamaName {
        self.ketama_name.clone().unwrap_or_else(|| KetamaName::of(&self.url))
    }
}

/// One pool as agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolState {
    /// Counts the changes of its replica sets.
    pub epoch: Epoch,
    /// No node whose operations may still run by an epoch below this one holds a lease. Never
    /// above `epoch`.
    #[serde(default)]
    pub barrier: Epoch,
    /// When it came to be, of a pool that keeps data: what its stores keep bears that, so that nothing
    /// of a pool that had its name before is taken for its own.
    #[serde(default, skip_serializing_if = "Birth::is_unknown")]
    pub born: Birth,
    /// What concerns it as a whole.
    pub spec: PoolSpec,
    /// Its shards.
    pub shards: BTreeMap<ShardId, ShardSpec>,
    /// What is held against shards; those with nothing against them are not in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub verdicts: BTreeMap<ShardId, Verdict>,
    /// Whether a write may have been admitted: from then on there is something to lose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filled: bool,
    /// The stores of its shards, of those where there is something to say. Only of pools that keep
    /// data.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stores: BTreeMap<ShardId, StoreState>,
    /// The table of a balanced pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) slots: Option<Slots>,
    /// The rings of the epochs just before, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) past: Vec<Arc<PastRing>>,
}

impl PoolState {
    /// What the pool's ring is made of.
    #[must_use]
    pub fn ring_spec(&self) -> RingSpec {
        ring_spec(&self.spec, &self.shards)
    }

    /// Whether no node can act by an earlier epoch any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        is_settled(self.barrier, self.epoch)
    }

    /// What is held against a shard.
    #[must_use]
    pub fn verdict(&self, shard: &ShardId) -> Verdict {
        self.verdicts.get(shard).copied().unwrap_or_default()
    }

    /// What is agreed about the store of a shard.
    #[must_use]
    pub fn store(&self, shard: &ShardId) -> StoreState {
        self.stores.get(shard).copied().unwrap_or_default()
    }

    pub(super) fn build_ring(&self) -> Result<Ring, RingError> {
        Ring::build(&self.ring_spec())
    }
}

/// Whether no node can act by an earlier epoch of a pool any more: the barrier has passed, or there is
/// no earlier one, of this pool or of another that had its name.
pub(super) fn is_settled(barrier: Epoch, epoch: Epoch) -> bool {
    barrier >= epoch || epoch <= Epoch(1)
}

/// What the ring of a pool that is so described is made of.
pub(super) fn ring_spec(spec: &PoolSpec, shards: &BTreeMap<ShardId, ShardSpec>) -> RingSpec {
    let members = shards
        .iter()
        .map(|(id, shard)| Member {
            id: id.clone(),
            zone: shard.zone.clone(),
            weight: shard.weight,
        })
        .collect();
    let ketama = match spec.placement {
        Placement::Ring | Placement::Balanced => None,
        Placement::Ketama => {
            let names = shards.iter().map(|(id, shard)| (id.clone(), shard.known_to_nginx()));
            Some(names.collect())
        }
    };
    let (hash_seed, vnodes) = (spec.hash_seed.clone(), spec.vnodes);
    RingSpec { hash_seed, vnodes, replicas: spec.replicas(), members, ketama }
}
