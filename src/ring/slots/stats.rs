//! How even is a table, and why does a token lie where it lies?

use std::fmt;

use super::quota::{self, Fraction, quotas};
use super::table::{PlanError, SLOTS, SlotTable, ring_of, slot_of, start_of};
use crate::ids::{ShardId, Token, Zone};
use crate::ring::shares::Ratio;
use crate::ring::spec::RingSpec;

/// A table in figures. All of them are exact.
#[derive(Debug, Clone)]
pub struct SlotStats {
    /// The most that a shard holds over its share: 1 is perfectly even. Its share is that of its
    /// weight, or less where its zone cannot have more.
    pub peak: Ratio,
    /// The least of the same.
    pub least: Ratio,
    /// The most slots that a shard is the primary of, over its share of them.
    pub primary_peak: Ratio,
    /// Each shard's copies, and how many it should have.
    pub copies: Vec<(ShardId, u32, u32)>,
    /// With how many others a shard shares slots, at least and at most: what the loss of a shard
    /// spreads over, and how many pairs of shards may not be lost together.
    pub scatter: (usize, usize),
    /// Slots in which two replicas share a zone though there are zones enough.
    pub crowded_slots: usize,
    /// Whether there are fewer zones than replicas.
    pub zones_short: bool,
    /// Shards whose weight is too small for a single slot.
    pub too_light: Vec<ShardId>,
    /// Copies that are on other shards than quotas say, since nothing else was possible.
    pub off_quota: u64,
}

/// Why a token is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its slot.
    pub slot: usize,
    /// The shards that keep it, the primary first.
    pub keepers: Vec<Keeper>,
}

/// One of the shards that keep a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    /// Which.
    pub shard: ShardId,
    /// Its zone.
    pub zone: Zone,
    /// How far along the ring it is met from the slot's start, 0 for the first; the quotas of those
    /// before it were full, or their zones taken.
    pub rank: usize,
}

impl SlotTable {
    /// The table of `spec` in figures.
    ///
    /// # Errors
    /// [`PlanError`] when there is no table of `spec`.
    pub fn stats(&self, spec: &RingSpec) -> Result<SlotStats, PlanError> {
        spec.check()?;
        let members = spec.deciding().members;
        let mut held = vec![0_u32; members.len()];
        let mut first = vec![0_u32; members.len()];
        // By shard, one bit for each other.
        let words = members.len().div_ceil(64);
        let mut peers = vec![0_u64; members.len() * words];
        for row in self.rows.chunks_exact(self.replicas) {
            first[usize::from(row[0])] += 1;
            for shard in row {
                held[usize::from(*shard)] += 1;
                for other in row.iter().filter(|other| *other != shard) {
                    let word = usize::from(*shard) * words + usize::from(*other) / 64;
                    peers[word] |= 1 << (other % 64);
                }
            }
        }
        let quotas = quotas(&members, self.replicas, &held);
        let crowded = |row: &&[u16]| {
            let zone = |shard: &u16| quotas.zone[usize::from(*shard)];
            (0..row.len()).any(|at| row[..at].iter().any(|other| zone(other) == zone(&row[at])))
        };
        let crowded_slots = match quotas.zones_short {
            true => 0,
            false => self.rows.chunks_exact(self.replicas).filter(crowded).count(),
        };
        let over = |counts: &[u32], shares: &[Fraction]| {
            let each = counts.iter().zip(shares).filter(|(_, (part, _))| *part > 0);
            let of = each.map(|(count, (part, whole))| (u128::from(*count) * whole, *part));
            let by = |a: &Fraction, b: &Fraction| (a.0 * b.1).cmp(&(b.0 * a.1));
            let (most, least) = (of.clone().max_by(by), of.min_by(by));
            let ratio = |found: Option<Fraction>| {
                found.map_or(Ratio::ZERO, |(part, whole)| Ratio::new(part, whole))
            };
            (ratio(most), ratio(least))
        };
        let (peak, least) = over(&held, &quotas.shares);
        let (primary_shares, _) = quota::primary_shares(&members, &held);
        let (primary_peak, _) = over(&first, &primary_shares);
        let width = || {
            let keeping = peers.chunks_exact(words).zip(&held).filter(|(_, held)| **held > 0);
            keeping.map(|(peers, _)| peers.iter().map(|word| word.count_ones() as usize).sum())
        };
        let copies: Vec<(ShardId, u32, u32)> =
            (self.shards.iter().zip(held.iter().zip(&quotas.copies)))
                .map(|(id, (held, quota))| (id.clone(), *held, *quota))
                .collect();
        Ok(SlotStats {
            peak,
            least,
            primary_peak,
            scatter: (width().min().unwrap_or(0), width().max().unwrap_or(0)),
            crowded_slots,
            zones_short: quotas.zones_short,
            too_light: (copies.iter().filter(|(_, _, quota)| *quota == 0))
                .map(|(id, _, _)| id.clone())
                .collect(),
            off_quota: copies
                .iter()
                .map(|(_, held, quota)| u64::from(held.saturating_sub(*quota)))
                .sum(),
            copies,
        })
    }

    /// Each shard's part: of all slots as their primary, and of all copies.
    pub fn shares(&self) -> impl Iterator<Item = (&ShardId, Ratio, Ratio)> {
        let mut counts = vec![(0_u128, 0_u128); self.shards.len()];
        for row in self.rows.chunks_exact(self.replicas) {
            counts[usize::from(row[0])].0 += 1;
            row.iter().for_each(|shard| counts[usize::from(*shard)].1 += 1);
        }
        let (slots, copies) = (SLOTS as u128, (SLOTS * self.replicas) as u128);
        self.shards.iter().zip(counts).map(move |(id, (first, held))| {
            (id, Ratio::new(first, slots), Ratio::new(held, copies))
        })
    }

    /// Why a token is where it is. Builds the ring, which may take milliseconds.
    ///
    /// # Errors
    /// [`PlanError`] when there is no table of `spec`.
    pub fn explain(&self, token: Token, spec: &RingSpec) -> Result<Placed, PlanError> {
        let ring = ring_of(spec)?;
        let slot = slot_of(token);
        let order: Vec<_> = ring.order(start_of(slot)).collect();
        let keeper = |shard: &u16| {
            let id = &self.shards[usize::from(*shard)];
            let at = ring.find(id);
            let rank = order.iter().position(|met| Some(*met) == at).unwrap_or(order.len());
            let zone = at.map(|at| ring.member(at).zone.clone()).unwrap_or_default();
            Keeper { shard: id.clone(), zone, rank }
        };
        Ok(Placed { slot, keepers: self.row(slot).iter().map(keeper).collect() })
    }
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "slot    {} of {SLOTS}", self.slot)?;
        for (place, Keeper { shard, zone, rank }) in self.keepers.iter().enumerate() {
            let what = if place == 0 { "primary" } else { "replica" };
            writeln!(f, "{what} {shard}, zone {zone}: number {} on the ring from there", rank + 1)?;
        }
        Ok(())
    }
}
