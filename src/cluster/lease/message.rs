//! What do a node and the leader say to each other about a lease?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, Epoch, Incarnation, NodeId, PoolName, Term};

/// A node asks for a lease. A duplicate or a late one does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Who asks.
    pub node: NodeId,
    /// Which start of it. Another start's report says nothing about this one's operations.
    pub incarnation: Incarnation,
    /// Counts the renewals of this start; the answer bears it, and by it the node knows when it
    /// sent the renewal that was answered (rule 2).
    pub number: u64,
    /// For each pool the epoch that is applied with no operation of an earlier one in flight
    /// (rule 6): what [`Pins::report`](super::Pins::report) says.
    pub epochs: BTreeMap<PoolName, Epoch>,
    /// The rings that the node serves by. They may be ahead of `epochs` while operations end.
    pub rings: BTreeMap<PoolName, RingReport>,
    /// The node's wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// Which ring a node has for a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingReport {
    /// The pool's epoch.
    pub epoch: Epoch,
    /// What the ring of that epoch is, as computed by the node.
    #[serde(with = "digest_as_text")]
    pub digest: Digest,
}

/// A lease is granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The start of the node that it is for. Without it, a late grant to a process that is gone
    /// would be counted from the renewal of the same number of its successor.
    pub incarnation: Incarnation,
    /// The renewal that is answered.
    pub number: u64,
    /// How long the lease lasts, from the moment at which that renewal was sent (rule 2).
    pub duration_ms: u64,
    /// The least epoch of each pool that the lease is good for (rule 8).
    pub floors: BTreeMap<PoolName, Epoch>,
    /// In which term it was granted; shown, never decided on.
    pub term: Term,
}

/// Why no lease is granted. What the node holds already runs out by itself, but for the denials
/// that say that this very process must not serve ([`Denial::revokes`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// Ask the leader.
    #[error("this node does not lead")]
    NotLeader,
    /// The leader has not applied the first entry of its own term yet (rule 4).
    #[error("the leader is new, and does not know yet what was agreed before it")]
    NotReady,
    /// The leader has heard no majority for a whole lease: another may lead already (rule 3).
    #[error("the leader has not heard from a majority for a whole lease")]
    NoQuorum,
    /// No such node is in the cluster, as far as the leader has applied.
    #[error("the leader knows no such node in this incarnation")]
    Unknown,
    /// The node has been started again since; this process is not the one that counts.
    #[error("the node has begun incarnation {current} since")]
    Superseded {
        /// The incarnation that counts.
        current: Incarnation,
    },
    /// The node serves, or may still serve, an epoch below the pool's barrier (rule 8).
    #[error("pool `{pool}`: the node reports epoch {reported}, the barrier stands at {floor}")]
    BelowFloor {
        /// Which pool.
        pool: PoolName,
        /// What the node reported; 0 if it does not know the pool.
        reported: Epoch,
        /// What it must report.
        floor: Epoch,
    },
    /// One epoch has one ring; the node has another one.
    #[error("pool `{pool}`: the node's ring of epoch {epoch} is not the one that was agreed")]
    DigestMismatch {
        /// Which pool.
        pool: PoolName,
        /// Of which epoch.
        epoch: Epoch,
    },
    /// The node's wall clock differs too much from the others'.
    #[error(
        "the node's wall clock is {} ms {} the median of all nodes",
        .off_by_ms.unsigned_abs(),
        if *.off_by_ms < 0 { "behind" } else { "ahead of" }
    )]
    ClockSkew {
        /// How much it is ahead; negative if it is behind.
        off_by_ms: i64,
    },
}

impl Denial {
    /// Whether the lease that the node may still hold ends with this answer: its process is not
    /// the one that counts, or it serves by a wrong ring.
    #[must_use]
    pub fn revokes(&self) -> bool {
        matches!(self, Self::Superseded { .. } | Self::DigestMismatch { .. })
    }
}

mod digest_as_text {
    //! A digest travels as 64 hexadecimal digits.

    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::ids::Digest;

    pub(super) fn serialize<S: Serializer>(digest: &Digest, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.as_bytes();
        let wrong = || de::Error::custom("a digest is 64 hexadecimal digits");
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Digest(bytes))
    }
}
