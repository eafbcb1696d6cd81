//! The table itself.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, ShardId, Token};
use crate::ring::shares::Ratio;
use crate::ring::spec::{RingError, RingSpec};
use crate::ring::table::{Ring, ShardIx};

/// Slots of the circle, for ever: more of them would be a finer share and a larger table.
pub const SLOTS: usize = 1 << SLOT_BITS;

const SLOT_BITS: u32 = 16;

/// Most shards that own anything in one table: each then has 48 slots of three replicas, so that one
/// slot more or less is 2 %.
pub const BALANCED_SHARDS_MAX: usize = 1 << 12;

/// No shard: a place that is not filled yet, while a plan is made.
pub(super) const NONE: u16 = u16::MAX;

/// The slot of a token.
#[inline]
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "16 bits are left")]
pub fn slot_of(token: Token) -> usize {
    (token.0 >> (u64::BITS - SLOT_BITS)) as usize
}

/// Why there is no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanError {
    /// There is not even a ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// More shards than slots can be divided among.
    #[error(
        "{0} shards with a weight above 0 are too many for one balanced pool: use at most {BALANCED_SHARDS_MAX}, or several pools"
    )]
    TooManyShards(usize),
}

/// Which shards keep which slots, at one epoch. Immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotTable {
    /// Those that own anything, sorted by id: what the rows point into.
    pub(super) shards: Arc<[ShardId]>,
    pub(super) replicas: usize,
    /// `replicas` shards for each slot, the primary first.
    pub(super) rows: Box<[u16]>,
}

/// A table as requests read it: by the indices of a ring's members, shards that own nothing
/// included.
#[derive(Debug, Clone)]
pub struct SlotSets {
    replicas: usize,
    sets: Box<[ShardIx]>,
}

impl SlotTable {
    /// What plain ring order says: where a pool without a past begins. `ring` is one of
    /// [`RingSpec::deciding`], so that its members are those that own anything.
    pub(super) fn of_ring(ring: &Ring) -> Self {
        let replicas = usize::from(ring.spec().replicas);
        let mut rows = Vec::with_capacity(SLOTS * replicas);
        for slot in 0..SLOTS {
            rows.extend(ring.replicas(start_of(slot)).iter().map(|shard| shard.0));
        }
        let shards = ring.members().iter().map(|member| member.id.clone()).collect();
        Self { shards, replicas, rows: rows.into_boxed_slice() }
    }

    /// The shards that own anything, sorted by id.
    #[must_use]
    pub fn shards(&self) -> &[ShardId] {
        &self.shards
    }

    /// Shards of each slot.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// The shards that keep a slot, the primary first. `slot` is below [`SLOTS`].
    pub fn keepers(&self, slot: usize) -> impl Iterator<Item = &ShardId> {
        self.row(slot).iter().map(|shard| &self.shards[usize::from(*shard)])
    }

    /// The table's name: nodes with equal digests send every token to the same shards.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("ringway slots v1: digest");
        let mut bytes = Vec::new();
        bytes.extend((self.replicas as u64).to_be_bytes());
        bytes.extend((self.shards.len() as u64).to_be_bytes());
        for shard in self.shards.iter() {
            bytes.extend((shard.as_str().len() as u64).to_be_bytes());
            bytes.extend(shard.as_str().as_bytes());
        }
        bytes.extend(self.rows.iter().flat_map(|shard| shard.to_be_bytes()));
        hasher.update(&bytes);
        Digest(*hasher.finalize().as_bytes())
    }

    /// The table for requests: `members` are those of the ring that is served, sorted by id. Empty
    /// sets stand where a shard is not among them, which those of one pool exclude.
    #[must_use]
    pub fn sets_for(&self, ring: &Ring) -> SlotSets {
        let place: Vec<ShardIx> =
            (self.shards.iter()).map(|shard| ring.find(shard).unwrap_or(ShardIx(0))).collect();
        let sets = self.rows.iter().map(|shard| place[usize::from(*shard)]).collect();
        SlotSets { replicas: self.replicas, sets }
    }

    /// The part of all copies that stands on shards which do not have them in `before`: what a change
    /// from there brings to other shards.
    #[must_use]
    pub fn moved(&self, before: &SlotTable) -> Ratio {
        let (came, copies) = self.moved_from(before);
        Ratio::new(u128::from(came), u128::from(copies))
    }

    /// The same as copies of whole slots, and how many there are.
    #[must_use]
    pub fn moved_from(&self, before: &SlotTable) -> (u64, u64) {
        let mut came = 0;
        let same: Vec<Option<u16>> = indices(&before.shards, &self.shards);
        for slot in 0..SLOTS {
            let was = before.row(slot);
            let has = |shard: &u16| was.iter().any(|old| same[usize::from(*old)] == Some(*shard));
            came += self.row(slot).iter().filter(|shard| !has(shard)).count() as u64;
        }
        (came, (SLOTS * self.replicas) as u64)
    }

    /// Whether some slot has so many of the shards that are marked; `marked` is in their order.
    #[must_use]
    pub fn has_slot_with(&self, marked: &[bool], count: usize) -> bool {
        let is_marked = |shard: &&u16| marked.get(usize::from(**shard)).is_some_and(|m| *m);
        self.rows
            .chunks_exact(self.replicas)
            .any(|row| row.iter().filter(is_marked).count() >= count)
    }

    /// Bytes held by the table.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        size_of_val(&*self.rows)
    }

    pub(super) fn row(&self, slot: usize) -> &[u16] {
        &self.rows[slot * self.replicas..][..self.replicas]
    }
}

impl SlotSets {
    /// The shards that keep a token, the primary first.
    #[inline]
    #[must_use]
    pub fn replicas(&self, token: Token) -> &[ShardIx] {
        &self.sets[slot_of(token) * self.replicas..][..self.replicas]
    }
}

/// The first token of a slot.
pub(super) fn start_of(slot: usize) -> Token {
    Token((slot as u64) << (u64::BITS - SLOT_BITS))
}

/// Where each of `old` is in `new`; both are sorted.
pub(super) fn indices(old: &[ShardId], new: &[ShardId]) -> Vec<Option<u16>> {
    let find = |id: &ShardId| new.binary_search(id).ok().and_then(|at| u16::try_from(at).ok());
    old.iter().map(find).collect()
}

/// The part of `spec` that decides a table, if there can be one.
pub(super) fn checked(spec: &RingSpec) -> Result<RingSpec, PlanError> {
    spec.check()?;
    let deciding = spec.deciding();
    match deciding.members.len() {
        too_many if too_many > BALANCED_SHARDS_MAX => Err(PlanError::TooManyShards(too_many)),
        _ => Ok(deciding),
    }
}

/// The ring that a table without a past is planned on, if there can be a table.
pub(super) fn ring_of(spec: &RingSpec) -> Result<Ring, PlanError> {
    Ok(Ring::build(&checked(spec)?)?)
}
