//! Which copies move, so that every shard has its quota and as little moves as can be?
//!
//! The rows begin with what they had, or with the ring's own sets. A *giver* is a shard over its
//! quota; a *hole* is a place whose shard is gone, or may not be there any more. Places of givers and
//! holes are filled by *takers*, who are under theirs:
//!
//! 1. by takers near the slot on the ring;
//! 2. by any taker that fits;
//! 3. where nobody fits, by the cheapest way from hand to hand (`flow`). With it the plan is the
//!    cheapest there is.
//!
//! The first two take what costs one copy for each copy that a taker lacks, which is the least; they
//! are there because they are quick, and nearly always enough.

use std::sync::Arc;

use super::copies::{Copies, Past};
use super::flow;
use super::primaries;
use super::table::{NONE, PlanError, SLOTS, SlotTable, checked, indices, slot_of};
use crate::ids::{ShardId, Token};
use crate::ring::spec::RingSpec;
use crate::ring::table::Ring;
use crate::ring::vnodes::Hashing;

/// How far along the ring a taker is looked for, in virtual nodes of all shards: first the nearest,
/// then further. The set itself and a few more: who stands further on is no neighbour.
const STEPS: [u64; 3] = [1, 4, 16];

/// Slots are gone through in strides of this, so that neighbours do not all give to the same shard.
const STRIDE: usize = 40_503;

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
    let ring;
    let (previous, rows) = match previous {
        Some(previous) => (previous, kept(previous, &shards, replicas)),
        None => {
            ring = SlotTable::of_ring(&Ring::build(&deciding).map_err(PlanError::Ring)?);
            (&ring, ring.rows.to_vec())
        }
    };
    let mut copies = Copies::new(members, replicas, Past::of(previous, &shards), rows);
    if clear_misfits(&mut copies) {
        flow::for_nothing(&mut copies);
    }
    near_the_ring(&mut copies, &deciding);
    anywhere(&mut copies);
    flow::cheapest(&mut copies);
    fill_the_rest(&mut copies);
    let Copies { mut rows, held, .. } = copies;
    primaries::balance(&mut rows, replicas, members, &held);
    Ok(SlotTable { shards, replicas, rows: rows.into_boxed_slice() })
}

/// The rows of `base` by the indices of `shards`; places without a shard are [`NONE`].
pub(super) fn kept(base: &SlotTable, shards: &[ShardId], replicas: usize) -> Vec<u16> {
    let now = indices(&base.shards, shards);
    let now: Vec<u16> = now.into_iter().map(|shard| shard.unwrap_or(NONE)).collect();
    if base.replicas == replicas {
        // Everybody keeps the place, so that the primary stays.
        return base.rows.iter().map(|old| now[usize::from(*old)]).collect();
    }
    let mut rows = vec![NONE; SLOTS * replicas];
    for (slot, row) in rows.chunks_exact_mut(replicas).enumerate() {
        let still = base.row(slot).iter().map(|old| now[usize::from(*old)]);
        let still = still.filter(|shard| *shard != NONE);
        row.iter_mut().zip(still).for_each(|(place, shard)| *place = shard);
    }
    rows
}

/// Empties places that break the rule of zones: zones have changed, or the number of replicas. Tells
/// whether there were any, or places whose shard was let go for want of room.
fn clear_misfits(copies: &mut Copies) -> bool {
    let mut any = false;
    for slot in 0..copies.slots() {
        // From the back, so that the primary stays.
        for place in copies.places(slot).rev() {
            if copies.is_misfit(place) {
                copies.put(place, NONE);
                any = true;
            }
        }
        any |= copies.past.row(slot).len() > copies.replicas;
    }
    any
}

/// Gives takers free places of slots that lie shortly before their virtual nodes, the nearest first.
fn near_the_ring(copies: &mut Copies, spec: &RingSpec) {
    let hashing = Hashing::of(spec);
    let takers: Vec<(u16, Vec<u64>)> = (0..copies.shards())
        .filter(|shard| copies.takes(*shard))
        .map(|shard| (shard, hashing.tokens_of(spec, &spec.members[usize::from(shard)])))
        .collect();
    let slots = copies.slots();
    let mut begin = 0;
    for steps in STEPS {
        let window = (steps * slots as u64).div_ceil(spec.tokens().max(1));
        let window = usize::try_from(window).unwrap_or(slots).min(slots);
        for (shard, tokens) in &takers {
            for token in tokens {
                if !copies.takes(*shard) {
                    break;
                }
                let end = slot_of(Token(*token)) + slots;
                for back in begin..window {
                    let mut places = copies.places((end - back) % slots);
                    let free =
                        places.find(|place| copies.is_free(*place) && copies.fits(*place, *shard));
                    if let Some(place) = free.filter(|_| copies.takes(*shard)) {
                        copies.put(place, *shard);
                    }
                }
            }
        }
        begin = window;
    }
}

/// Gives takers any free places that they fit.
fn anywhere(copies: &mut Copies) {
    let mut by_zone: Vec<Vec<u16>> = vec![Vec::new(); copies.quotas.bounds.len()];
    for shard in (0..copies.shards()).filter(|shard| copies.takes(*shard)) {
        by_zone[usize::from(copies.quotas.zone[usize::from(shard)])].push(shard);
    }
    by_zone.retain(|takers| !takers.is_empty());
    let slots = copies.slots();
    let mut first = 0;
    for number in 0..slots {
        let slot = number * STRIDE % slots;
        for place in copies.places(slot) {
            if by_zone.is_empty() {
                return;
            }
            if !copies.is_free(place) {
                continue;
            }
            let zones = by_zone.len();
            let found = (0..zones).map(|ahead| (first + ahead) % zones).find_map(|zone| {
                let fits = |taker: &u16| copies.fits(place, *taker);
                by_zone[zone].iter().rposition(fits).map(|at| (zone, at))
            });
            let Some((zone, at)) = found else { continue };
            let taker = by_zone[zone][at];
            copies.put(place, taker);
            // The next zone's turn, so that all have their part of each slot's kind.
            first = zone + 1;
            if !copies.takes(taker) {
                by_zone[zone].swap_remove(at);
                by_zone.retain(|takers| !takers.is_empty());
            }
        }
    }
}

/// Fills what could not be filled by quotas: with whoever has least over its quota of those that fit,
/// or, if nobody does, of all that are not there already.
fn fill_the_rest(copies: &mut Copies) {
    for place in 0..copies.rows.len() {
        if copies.rows[place] != NONE {
            continue;
        }
        let shards = 0..copies.shards();
        let over = |shard: &u16| {
            let at = usize::from(*shard);
            (i64::from(copies.held[at]) - i64::from(copies.quotas.copies[at]), *shard)
        };
        let row = &copies.rows[copies.places(place / copies.replicas)];
        let best = shards.clone().filter(|shard| copies.fits(place, *shard)).min_by_key(over);
        let best = best.or_else(|| shards.filter(|shard| !row.contains(shard)).min_by_key(over));
        if let Some(shard) = best {
            copies.put(place, shard);
        }
    }
}
