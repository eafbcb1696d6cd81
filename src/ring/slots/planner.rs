//! Which copies move, so that every shard has its quota and as little moves as can be?
//!
//! The rows begin with what they had, or with the ring's own sets. A *giver* is a shard over its
//! quota; a *hole* is a place whose shard is gone, or may not be there any more. Places of givers and
//! holes are filled by *takers*, who are under theirs:
//!
//! 1. by the first taker on the ring from the slot on, a few steps far;
//! 2. by any taker that fits;
//! 3. by a copy that moves anyway: it is led here, and a taker has its place there. Nothing more
//!    moves by that;
//! 4. by a copy that would have stayed, whose place a taker has: one copy more than the least; or,
//!    among few shards, by a longer way of such copies (`ways`).
//!
//! A hole that is still there gets whoever fits best: a slot is never left with too few.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::primaries;
use super::quota::{Quotas, quotas};
use super::table::{NONE, PlanError, SLOTS, SlotTable, checked, indices, start_of};
use super::ways;
use crate::ids::ShardId;
use crate::ring::spec::RingSpec;
use crate::ring::table::Ring;

/// How far along the ring a taker is looked for. The set itself and a few more: who stands further
/// on is no neighbour.
const STEPS_MAX: usize = 16;

/// Places that are looked at for exchanges: far more than it takes where quotas can be met, and less
/// than a second.
const PATIENCE: u32 = 20_000_000;

/// Plans the table of `spec`, as close to `previous` as the quotas allow; without one, to the plain
/// ring. Takes tens of milliseconds at 1000 shards.
///
/// # Errors
/// [`PlanError`] when there can be none.
pub fn plan(previous: Option<&SlotTable>, spec: &RingSpec) -> Result<SlotTable, PlanError> {
    let deciding = checked(spec)?;
    let members = &deciding.members;
    let replicas = usize::from(deciding.replicas);
    let shards: Arc<[ShardId]> = members.iter().map(|member| member.id.clone()).collect();
    // The sets of the ring are needed without a past alone, and cost half of its building.
    let (ring, rows) = match previous {
        Some(previous) => {
            let order = RingSpec { replicas: 1, ..deciding.clone() };
            (Ring::build(&order).map_err(PlanError::Ring)?, kept(previous, &shards, replicas))
        }
        None => {
            let ring = Ring::build(&deciding).map_err(PlanError::Ring)?;
            let rows = SlotTable::of_ring(&ring).rows.into_vec();
            (ring, rows)
        }
    };
    let mut held = vec![0; members.len()];
    rows.iter().filter(|shard| **shard != NONE).for_each(|shard| held[usize::from(*shard)] += 1);
    let quotas = quotas(members, replicas, &held);
    let mut planner = Planner {
        ring: &ring,
        replicas,
        quotas,
        rows,
        held,
        moves: Vec::new(),
        takers: Vec::new(),
        came: vec![false; SLOTS * replicas],
        next_moved: 0,
        next_place: 0,
        patience: PATIENCE,
    };
    planner.clear_misfits();
    planner.along_the_ring();
    planner.anywhere();
    let are_few = members.len() <= ways::SHARDS_MAX;
    planner.by_exchanges(!are_few);
    if are_few {
        ways::by_ways(&mut planner);
    }
    planner.fill_the_rest();
    let Planner { mut rows, held, .. } = planner;
    primaries::balance(&mut rows, replicas, members, &held);
    Ok(SlotTable { shards, replicas, rows: rows.into_boxed_slice() })
}

/// The rows of `base` by the indices of `shards`; places without a shard are [`NONE`].
pub(super) fn kept(base: &SlotTable, shards: &[ShardId], replicas: usize) -> Vec<u16> {
    let now = indices(&base.shards, shards);
    let mut rows = vec![NONE; SLOTS * replicas];
    for (slot, row) in rows.chunks_exact_mut(replicas).enumerate() {
        let still = base.row(slot).iter().filter_map(|old| now[usize::from(*old)]);
        if base.replicas == replicas {
            // Everybody keeps the place, so that the primary stays.
            for (place, old) in row.iter_mut().zip(base.row(slot)) {
                *place = now[usize::from(*old)].unwrap_or(NONE);
            }
        } else {
            row.iter_mut().zip(still).for_each(|(place, shard)| *place = shard);
        }
    }
    rows
}

pub(super) struct Planner<'a> {
    ring: &'a Ring,
    replicas: usize,
    pub(super) quotas: Quotas,
    pub(super) rows: Vec<u16>,
    pub(super) held: Vec<u32>,
    /// Places that were filled anew.
    moves: Vec<usize>,
    /// Shards under their quota, some of which may have reached it since.
    takers: Vec<u16>,
    /// By place: whether it is in `moves`.
    pub(super) came: Vec<bool>,
    /// Where the last exchange was found.
    next_moved: usize,
    next_place: usize,
    /// Places that may still be looked at for exchanges.
    patience: u32,
}

impl Planner<'_> {
    /// Empties places that break the rule of zones: zones have changed, or the number of replicas.
    fn clear_misfits(&mut self) {
        for slot in 0..SLOTS {
            // From the back, so that the primary stays.
            for place in (slot * self.replicas..(slot + 1) * self.replicas).rev() {
                let shard = self.rows[place];
                if shard != NONE && self.is_misfit(place, shard) {
                    self.held[usize::from(shard)] -= 1;
                    self.rows[place] = NONE;
                }
            }
        }
        let shards = 0..u16::try_from(self.held.len()).unwrap_or(NONE);
        self.takers = shards.filter(|shard| self.takes(*shard)).collect();
    }

    /// Fills from the nearest takers on the ring.
    fn along_the_ring(&mut self) {
        if self.takers.is_empty() {
            return;
        }
        for slot in 0..SLOTS {
            let mut position = None;
            for place in slot * self.replicas..(slot + 1) * self.replicas {
                if !self.is_free(place) {
                    continue;
                }
                let from = *position.get_or_insert_with(|| self.ring.position(start_of(slot)));
                let near = (0..STEPS_MAX)
                    .map(|ahead| self.ring.owner_at((from + ahead) % self.ring.vnodes()).0)
                    .find(|shard| self.takes(*shard) && self.fits(place, *shard));
                if let Some(taker) = near {
                    self.put(place, taker);
                }
            }
        }
    }

    /// Fills from whoever fits.
    fn anywhere(&mut self) {
        for place in 0..self.rows.len() {
            self.forget_full_takers();
            if self.takers.is_empty() {
                return;
            }
            if !self.is_free(place) {
                continue;
            }
            let fits = |taker: &u16| self.takes(*taker) && self.fits(place, *taker);
            if let Some(taker) = self.takers.iter().copied().find(fits) {
                self.put(place, taker);
            }
        }
    }

    /// Fills by exchanges, until none is found any more: with copies that move anyway, or with `all`.
    fn by_exchanges(&mut self, all: bool) {
        let mut goes_on = true;
        while goes_on {
            goes_on = false;
            // What was not found for one place is not looked for again for the next like it.
            let mut in_vain: BTreeSet<Vec<u16>> = BTreeSet::new();
            for place in 0..self.rows.len() {
                self.forget_full_takers();
                if self.takers.is_empty() {
                    return;
                }
                if !self.is_free(place) {
                    continue;
                }
                let likeness = self.likeness(place);
                if in_vain.contains(&likeness) {
                    continue;
                }
                match self.exchange(place, all) {
                    true => goes_on = true,
                    false => drop(in_vain.insert(likeness)),
                }
            }
        }
    }

    /// What a place is like: who has it, and the zones of the others of its slot.
    fn likeness(&self, place: usize) -> Vec<u16> {
        let slot = place / self.replicas * self.replicas;
        let others = (slot..slot + self.replicas).filter(|other| *other != place);
        let zone = |other: usize| match self.rows[other] {
            NONE => NONE,
            shard => self.quotas.zone[usize::from(shard)],
        };
        let mut likeness: Vec<u16> = others.map(zone).collect();
        likeness.sort_unstable();
        likeness.push(self.rows[place]);
        likeness
    }

    /// Brings somebody to `place` whose own place a taker can have, or a taker itself; tells whether
    /// there was anybody.
    fn exchange(&mut self, place: usize, all: bool) -> bool {
        let fits = |taker: &u16| self.takes(*taker) && self.fits(place, *taker);
        if let Some(taker) = self.takers.iter().copied().find(fits) {
            self.put(place, taker);
            return true;
        }
        let found = self.among_the_moved(place);
        let found = found.or_else(|| if all { self.among_all(place) } else { None });
        if let Some((there, taker)) = found {
            let comes = self.rows[there];
            self.put(there, taker);
            self.put(place, comes);
        }
        found.is_some()
    }

    fn among_the_moved(&mut self, place: usize) -> Option<(usize, u16)> {
        let count = self.moves.len();
        for step in 0..count {
            let at = (self.next_moved + step) % count;
            if !self.has_patience() {
                return None;
            }
            if let Some(taker) = self.taker_instead(place, self.moves[at]) {
                self.next_moved = at;
                return Some((self.moves[at], taker));
            }
        }
        None
    }

    fn among_all(&mut self, place: usize) -> Option<(usize, u16)> {
        let count = self.rows.len();
        for step in 0..count {
            // On from where the last one was found: those before were of no use to it.
            let there = (self.next_place + step) % count;
            if !self.has_patience() {
                return None;
            }
            if let Some(taker) = self.taker_instead(place, there) {
                self.next_place = there;
                return Some((there, taker));
            }
        }
        None
    }

    /// A taker that can have the place `there`, if the shard that has it can come to `place`.
    fn taker_instead(&self, place: usize, there: usize) -> Option<u16> {
        let comes = self.rows[there];
        let same_slot = there / self.replicas == place / self.replicas;
        if same_slot || comes == NONE || !self.fits(place, comes) {
            return None;
        }
        let takes = |taker: &u16| self.takes(*taker) && self.fits(there, *taker);
        self.takers.iter().copied().find(takes)
    }

    /// Counts what is looked at. Members of whom nothing even can be made must not be thought
    /// about for ever; what is left is filled as well as can be.
    pub(super) fn has_patience(&mut self) -> bool {
        self.patience = self.patience.saturating_sub(1);
        self.patience > 0
    }

    /// Fills what no exchange could: with whoever has least over its quota of those that fit, or, if
    /// nobody does, of all that are not there already.
    fn fill_the_rest(&mut self) {
        for place in 0..self.rows.len() {
            if self.rows[place] != NONE {
                continue;
            }
            let shards = 0..u16::try_from(self.held.len()).unwrap_or(NONE);
            let over = |shard: &u16| {
                let at = usize::from(*shard);
                (i64::from(self.held[at]) - i64::from(self.quotas.copies[at]), *shard)
            };
            let slot = place / self.replicas;
            let row = &self.rows[slot * self.replicas..][..self.replicas];
            let best = shards.clone().filter(|shard| self.fits(place, *shard)).min_by_key(over);
            let best =
                best.or_else(|| shards.filter(|shard| !row.contains(shard)).min_by_key(over));
            if let Some(shard) = best {
                self.put(place, shard);
            }
        }
    }

    /// Whether a place wants another shard: nobody has it, or somebody over the quota. What came
    /// here by this plan is within its quota.
    fn is_free(&self, place: usize) -> bool {
        let shard = self.rows[place];
        let gives = |at: usize| self.held[at] > self.quotas.copies[at];
        shard == NONE || gives(usize::from(shard))
    }

    fn takes(&self, shard: u16) -> bool {
        let at = usize::from(shard);
        self.held[at] < self.quotas.copies[at]
    }

    pub(super) fn put(&mut self, place: usize, shard: u16) {
        let before = std::mem::replace(&mut self.rows[place], shard);
        if before != NONE {
            self.held[usize::from(before)] -= 1;
        }
        self.held[usize::from(shard)] += 1;
        if !std::mem::replace(&mut self.came[place], true) {
            self.moves.push(place);
        }
    }

    fn forget_full_takers(&mut self) {
        // The last one is asked least often, so it is cheap to look at the first alone.
        while let Some(first) = self.takers.first()
            && !self.takes(*first)
        {
            let quotas = &self.quotas.copies;
            let held = &self.held;
            self.takers.retain(|taker| held[usize::from(*taker)] < quotas[usize::from(*taker)]);
        }
    }

    /// Whether `shard`, which has `place`, must leave it for the others of its slot.
    fn is_misfit(&self, place: usize, shard: u16) -> bool {
        let Some(around) = self.around(place, shard) else { return true };
        let (least, most) = self.quotas.bounds[usize::from(self.quotas.zone[usize::from(shard)])];
        let can_be_spared = around.same_zone > least;
        around.same_zone > most || (around.missing > around.holes && can_be_spared)
    }

    /// Whether `shard` may have `place`, by the others of its slot.
    pub(super) fn fits(&self, place: usize, shard: u16) -> bool {
        self.around(place, shard).is_some_and(|around| {
            let zone = usize::from(self.quotas.zone[usize::from(shard)]);
            around.same_zone <= self.quotas.bounds[zone].1 && around.missing <= around.holes
        })
    }

    /// What a slot would be with `shard` in `place`; `None` if it has the shard already.
    fn around(&self, place: usize, shard: u16) -> Option<Around> {
        let slot = place / self.replicas * self.replicas;
        let others = || {
            (slot..slot + self.replicas)
                .filter(|other| *other != place)
                .map(|other| self.rows[other])
        };
        let zone = self.quotas.zone[usize::from(shard)];
        let (mut holes, mut same_zone) = (0_u16, 1_u16);
        for other in others() {
            if other == NONE {
                holes += 1;
            } else if other == shard {
                return None;
            } else if self.quotas.zone[usize::from(other)] == zone {
                same_zone += 1;
            }
        }
        if !self.quotas.zones_short {
            return Some(Around { same_zone, holes, missing: 0 });
        }
        // What other zones must have at least needs places that are left.
        let missing: u16 = (0_u16..)
            .zip(&self.quotas.bounds)
            .map(|(number, (least, _))| {
                let of_zone =
                    |other: &u16| *other != NONE && self.quotas.zone[usize::from(*other)] == number;
                let there = others().filter(of_zone).count();
                let there = u16::try_from(there).unwrap_or(u16::MAX) + u16::from(number == zone);
                least.saturating_sub(there)
            })
            .sum();
        Some(Around { same_zone, holes, missing })
    }
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
