//! How much is kept at most?
//!
//! The state is in every node's memory, in each snapshot, and copied whenever it is published. So
//! all of it is bounded; what a pool may have of shards, its ring bounds.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::node::NODES_MAX;

/// Most pools. Each has a ring of its own, of 5 MiB at 1000 shards.
pub const POOLS_MAX: usize = 256;

/// Most changes in one command, and most that are staged: a rack's worth of shards, many times.
pub const CHANGES_MAX: usize = 1000;

/// Most verdicts or barriers in one command, so that an entry of the log stays small (about 100
/// KiB); further ones are another command.
pub const VERDICTS_MAX: usize = 1024;

/// Longest `hash_seed`: a sentence.
pub const SEED_BYTES_MAX: usize = 256;

/// Longest URL of a shard: twice what DNS allows a host, and a path.
pub const URL_BYTES_MAX: usize = 1024;

/// Longest version of a release.
pub const VERSION_BYTES_MAX: usize = 64;

/// What there was too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Nodes of the cluster.
    Nodes,
    /// Pools.
    Pools,
    /// Changes in one command, or staged.
    Changes,
    /// Verdicts or barriers in one command.
    Verdicts,
    /// Bytes of a `hash_seed`.
    SeedBytes,
    /// Bytes of a shard's URL.
    UrlBytes,
    /// Bytes of a release's version.
    VersionBytes,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes => write!(f, "a cluster has at most {NODES_MAX} nodes"),
            Self::Pools => write!(f, "there are at most {POOLS_MAX} pools"),
            Self::Changes => write!(f, "at most {CHANGES_MAX} changes are made at once"),
            Self::Verdicts => {
                write!(f, "at most {VERDICTS_MAX} verdicts or barriers are set at once")
            }
            Self::SeedBytes => write!(f, "a `hash_seed` has at most {SEED_BYTES_MAX} bytes"),
            Self::UrlBytes => write!(f, "a shard's URL has at most {URL_BYTES_MAX} bytes"),
            Self::VersionBytes => {
                write!(f, "a version has at most {VERSION_BYTES_MAX} bytes")
            }
        }
    }
}
