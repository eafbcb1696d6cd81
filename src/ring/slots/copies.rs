//! Who has which copy while a plan is made, and what may go where?

use super::planner::kept;
use super::quota::{Quotas, quotas};
use super::table::{NONE, SlotTable};
use crate::ids::ShardId;
use crate::ring::spec::Member;

/// What the slots had before the plan, by the indices of the shards there are now. What is there is
/// kept without a move, wherever in its slot it stands.
pub(super) struct Past {
    width: usize,
    rows: Vec<u16>,
}

impl Past {
    /// The past of `table`; shards that are gone are [`NONE`].
    pub(super) fn of(table: &SlotTable, shards: &[ShardId]) -> Self {
        Self { width: table.replicas, rows: kept(table, shards, table.replicas) }
    }

    /// Whether a shard had a slot.
    fn had(&self, slot: usize, shard: u16) -> bool {
        self.row(slot).contains(&shard)
    }

    pub(super) fn row(&self, slot: usize) -> &[u16] {
        &self.rows[slot * self.width..][..self.width]
    }
}

/// Every copy and its shard. A *place* is one of the `replicas` places of one slot.
pub(super) struct Copies {
    pub(super) replicas: usize,
    pub(super) quotas: Quotas,
    pub(super) past: Past,
    /// By place: its shard, or [`NONE`].
    pub(super) rows: Vec<u16>,
    /// By shard: its places.
    pub(super) held: Vec<u32>,
}

/// The other shards of a slot.
struct Around {
    /// Shards of the same zone, the one itself included.
    same_zone: u16,
    /// Further places without a shard.
    holes: u16,
    /// Shards that zones lack which must have some.
    missing: u16,
}

impl Copies {
    pub(super) fn new(members: &[Member], replicas: usize, past: Past, rows: Vec<u16>) -> Self {
        let mut held = vec![0; members.len()];
        for shard in rows.iter().filter(|shard| **shard != NONE) {
            held[usize::from(*shard)] += 1;
        }
        let quotas = quotas(members, replicas, &held);
        Self { replicas, quotas, past, rows, held }
    }

    pub(super) fn slots(&self) -> usize {
        self.rows.len() / self.replicas
    }

    pub(super) fn shards(&self) -> u16 {
        u16::try_from(self.held.len()).unwrap_or(NONE)
    }

    pub(super) fn places(&self, slot: usize) -> std::ops::Range<usize> {
        slot * self.replicas..(slot + 1) * self.replicas
    }

    /// Whether a shard is under its quota.
    pub(super) fn takes(&self, shard: u16) -> bool {
        let at = usize::from(shard);
        self.held[at] < self.quotas.copies[at]
    }

    /// Whether a shard is over its quota.
    pub(super) fn gives(&self, shard: u16) -> bool {
        let at = usize::from(shard);
        self.held[at] > self.quotas.copies[at]
    }

    /// Whether a place wants another shard: nobody has it, or somebody over the quota.
    pub(super) fn is_free(&self, place: usize) -> bool {
        let shard = self.rows[place];
        shard == NONE || self.gives(shard)
    }

    /// Whether the shard of a place must have its data brought there.
    pub(super) fn is_new(&self, place: usize) -> bool {
        let shard = self.rows[place];
        shard != NONE && !self.past.had(place / self.replicas, shard)
    }

    /// Whether `shard` would have to have the data of a slot brought to it.
    pub(super) fn would_be_new(&self, place: usize, shard: u16) -> bool {
        !self.past.had(place / self.replicas, shard)
    }

    /// Gives a place to a shard, or to nobody.
    pub(super) fn put(&mut self, place: usize, shard: u16) {
        let before = std::mem::replace(&mut self.rows[place], shard);
        if before != NONE {
            self.held[usize::from(before)] -= 1;
        }
        if shard != NONE {
            self.held[usize::from(shard)] += 1;
        }
    }

    /// Whether the shard that has `place` must leave it for the others of its slot.
    pub(super) fn is_misfit(&self, place: usize) -> bool {
        let shard = self.rows[place];
        if shard == NONE {
            return false;
        }
        let zone = self.quotas.zone[usize::from(shard)];
        if self.is_beside(place, shard) {
            return true;
        }
        let around = self.around(place, zone);
        let (least, most) = self.quotas.bounds[usize::from(zone)];
        let can_be_spared = around.same_zone > least;
        around.same_zone > most || (around.missing > around.holes && can_be_spared)
    }

    /// Whether `shard` may have `place`, by the others of its slot.
    pub(super) fn fits(&self, place: usize, shard: u16) -> bool {
        !self.is_beside(place, shard) && self.zone_fits(place, self.quotas.zone[usize::from(shard)])
    }

    /// Whether another place of the slot has the shard.
    pub(super) fn is_beside(&self, place: usize, shard: u16) -> bool {
        self.places(place / self.replicas).any(|other| other != place && self.rows[other] == shard)
    }

    /// Whether a shard of `zone` may have `place`, if it is not there already.
    pub(super) fn zone_fits(&self, place: usize, zone: u16) -> bool {
        if self.quotas.zones_short {
            let around = self.around(place, zone);
            return around.same_zone <= self.quotas.bounds[usize::from(zone)].1
                && around.missing <= around.holes;
        }
        // One of each zone.
        self.places(place / self.replicas).all(|other| {
            let there = self.rows[other];
            other == place || there == NONE || self.quotas.zone[usize::from(there)] != zone
        })
    }

    /// What a slot would be with a shard of `zone` in `place`.
    fn around(&self, place: usize, zone: u16) -> Around {
        let others = || {
            (self.places(place / self.replicas).filter(|other| *other != place))
                .map(|other| self.rows[other])
        };
        let zone_of = |shard: u16| self.quotas.zone[usize::from(shard)];
        let holes = others().filter(|shard| *shard == NONE).count();
        let of_zone =
            |zone| others().filter(|shard| *shard != NONE && zone_of(*shard) == zone).count();
        let count = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        let (holes, same_zone) = (count(holes), count(of_zone(zone)) + 1);
        if !self.quotas.zones_short {
            return Around { same_zone, holes, missing: 0 };
        }
        // What other zones must have at least needs places that are left. There are fewer of them
        // than replicas.
        let missing = (0_u16..).zip(&self.quotas.bounds).filter(|(other, _)| *other != zone);
        let missing =
            missing.map(|(other, (least, _))| least.saturating_sub(count(of_zone(other))));
        let least = self.quotas.bounds[usize::from(zone)].0;
        Around { same_zone, holes, missing: missing.sum::<u16>() + least.saturating_sub(same_zone) }
    }
}
