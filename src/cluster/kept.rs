//! What is agreed about a pool that keeps data, and about the stores of its shards?
//!
//! A shard of such a pool is more than an address: its data is on one store, which drew an id for
//! itself when its folder was empty. The group binds the shard to that id once. Whatever else
//! answers at the shard's address later, a fresh disk or another shard's store, is not it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::StoreId;

/// How strong a request on a replicated pool is if it says nothing itself (DESIGN, section 7).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// One replica; the newest wins, some day.
    One,
    /// More than half of the replicas: linearizable for each key.
    #[default]
    Quorum,
    /// Every replica.
    All,
}

impl Consistency {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Quorum => "quorum",
            Self::All => "all",
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a level is `one`, `quorum` or `all`")]
pub struct NoConsistency;

impl FromStr for Consistency {
    type Err = NoConsistency;

    fn from_str(text: &str) -> Result<Self, NoConsistency> {
        [Self::One, Self::Quorum, Self::All]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or(NoConsistency)
    }
}

/// What is agreed about a pool that keeps data, beside what every pool has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptSpec {
    /// On how many shards each object is.
    pub replicas: u8,
    /// The level of requests that name none.
    #[serde(default)]
    pub consistency: Consistency,
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
