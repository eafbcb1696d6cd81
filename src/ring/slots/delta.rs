//! What lies between two tables, in few bytes?
//!
//! After a change one slot in some hundreds is another; the first table of a pool differs from the
//! plain ring in one of ten. So what goes through the log, and what is kept of a table, is the
//! difference. The bytes: the version, then for each slot that differs, in ascending order, how many
//! slots were passed over, a mask of the places that differ, and the new shard of each; numbers in
//! seven bits a byte, least first, without needless bytes. So there is one encoding of a difference.

use std::sync::Arc;

use super::planner::kept;
use super::table::{NONE, PlanError, SLOTS, SlotTable, ring_of};
use crate::ids::ShardId;
use crate::ring::spec::RingSpec;

const VERSION: u8 = 1;

/// Why bytes lead from a table to no other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// There can be no table of these members.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The bytes are of a later release.
    #[error("the table's change is written in version {0}, which this release does not know")]
    Version(u8),
    /// They are none, or do not belong to this table.
    #[error("the table's change is damaged, or is one of another table: {0}")]
    Damaged(&'static str),
}

impl SlotTable {
    /// The difference from `previous` to this table of `spec`; without one, from the plain ring.
    ///
    /// # Errors
    /// [`PlanError`] when there is no table of `spec`.
    pub fn delta_from(
        &self,
        previous: Option<&SlotTable>,
        spec: &RingSpec,
    ) -> Result<Vec<u8>, PlanError> {
        let base = base(previous, spec, &self.shards, self.replicas)?;
        let mut bytes = vec![VERSION];
        let mut passed = 0;
        for (was, is) in base.chunks_exact(self.replicas).zip(self.rows.chunks_exact(self.replicas))
        {
            if was == is {
                passed += 1;
                continue;
            }
            number(std::mem::take(&mut passed), &mut bytes);
            let differs = |place: &usize| was[*place] != is[*place];
            number((0..self.replicas).filter(differs).map(|place| 1 << place).sum(), &mut bytes);
            for place in (0..self.replicas).filter(differs) {
                number(u32::from(is[place]), &mut bytes);
            }
        }
        Ok(bytes)
    }

    /// The table of `spec` to which `delta` leads from `previous`; without one, from the plain ring.
    ///
    /// # Errors
    /// [`DeltaError`] for bytes that are no difference of a table of these members.
    pub fn apply_delta(
        previous: Option<&SlotTable>,
        spec: &RingSpec,
        delta: &[u8],
    ) -> Result<SlotTable, DeltaError> {
        let deciding = spec.deciding();
        let shards: Arc<[ShardId]> =
            deciding.members.iter().map(|member| member.id.clone()).collect();
        let replicas = usize::from(deciding.replicas);
        let mut rows = base(previous, spec, &shards, replicas)?;
        let (version, mut rest) = delta.split_first().ok_or(DeltaError::Damaged("it is empty"))?;
        if *version != VERSION {
            return Err(DeltaError::Version(*version));
        }
        let mut slot = 0_usize;
        while !rest.is_empty() {
            slot = slot.saturating_add(take(&mut rest)? as usize);
            let row = rows
                .get_mut(slot.saturating_mul(replicas)..)
                .and_then(|rows| rows.get_mut(..replicas))
                .ok_or(DeltaError::Damaged("it is about a slot that is not there"))?;
            let mask = take(&mut rest)?;
            if mask == 0 || mask >= 1 << replicas {
                return Err(DeltaError::Damaged("it is about a place that is not there"));
            }
            for (place, shard) in row.iter_mut().enumerate() {
                if mask & (1 << place) == 0 {
                    continue;
                }
                let new = u16::try_from(take(&mut rest)?).unwrap_or(NONE);
                if usize::from(new) >= shards.len() || new == *shard {
                    return Err(DeltaError::Damaged("it names a shard that cannot come there"));
                }
                *shard = new;
            }
            slot += 1;
        }
        let whole = |row: &[u16]| {
            row.iter().enumerate().all(|(at, shard)| *shard != NONE && !row[..at].contains(shard))
        };
        if !rows.chunks_exact(replicas).all(whole) {
            return Err(DeltaError::Damaged("it leaves a slot without all of its shards"));
        }
        Ok(SlotTable { shards, replicas, rows: rows.into_boxed_slice() })
    }
}

/// The rows from which a difference is counted.
fn base(
    previous: Option<&SlotTable>,
    spec: &RingSpec,
    shards: &[ShardId],
    replicas: usize,
) -> Result<Vec<u16>, PlanError> {
    spec.check()?;
    match previous {
        Some(previous) => Ok(kept(previous, shards, replicas)),
        None => Ok(SlotTable::of_ring(&ring_of(spec)?).rows.into_vec()),
    }
}

fn number(mut value: u32, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

fn take(rest: &mut &[u8]) -> Result<u32, DeltaError> {
    let mut value = 0_u32;
    // Three bytes hold what any slot, mask or shard can be.
    for shift in [0, 7, 14] {
        let (byte, after) = rest.split_first().ok_or(DeltaError::Damaged("it ends too early"))?;
        *rest = after;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return match *byte == 0 && shift > 0 {
                true => Err(DeltaError::Damaged("a number is longer than need be")),
                false => Ok(value),
            };
        }
    }
    Err(DeltaError::Damaged("a number is too large"))
}

const _: () = assert!(SLOTS < 1 << 21, "numbers of three bytes reach every slot");
