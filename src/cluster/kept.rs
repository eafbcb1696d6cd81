//! What is agreed about a pool that keeps data, and about the stores of its shards?
//!
//! A shard of such a pool is more than an address: its data is on one store, which drew an id for
//! itself when its folder was empty. The group binds the shard to that id once. Whatever else
//! answers at the shard's address later, a fresh disk or another shard's store, is not it.

use serde::{Deserialize, Serialize};

use crate::ids::StoreId;
use crate::level::Level;

/// What is agreed about a pool that keeps data, beside what every pool has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptSpec {
    /// On how many shards each object is.
    pub replicas: u8,
    /// The level of requests that name none (DESIGN, section 7).
    #[serde(default)]
    pub consistency: Level,
    /// How long a deleted object is remembered at least, in milliseconds.
    pub tombstone_min_age_ms: u64,
    /// Which bytes of a request are hashed, in the canonical form of
    /// [`KeyRule::canonical`](crate::route::KeyRule::canonical). All routes into the pool have this
    /// rule: by another one an object would be looked for where it is not.
    pub key: String,
}

/// How long deleted objects are remembered unless a pool says otherwise: longer than any write can
/// be under way.
pub const TOMBSTONE_MIN_AGE_MS_DEFAULT: u64 = 3_600_000;

/// What is agreed about the store of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreState {
    /// The store that has the shard's data. `None`: the first one that answers there is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreId>,
    /// The one that was replaced last, which never comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<StoreId>,
    /// It may lack writes that others have: reads at `one` avoid it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub catching_up: bool,
    /// It stands for one that was replaced, and has not been filled since. The former one may have
    /// acknowledged writes that this one does not know, so what it says of a key's newest version
    /// counts for nothing: with it in the majority, a read would miss them. Its acknowledgements of
    /// *new* writes do count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
}

impl StoreState {
    /// Whether there is nothing to say about it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
