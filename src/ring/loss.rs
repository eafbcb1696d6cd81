//! What would the loss of a whole zone take from a ring, and who would have to bear it?
//!
//! When a zone goes, each of its virtual nodes leaves its keys to the next one on the circle that
//! stands in another zone (that is what *monotone* means). One walk backwards finds that heir for
//! all zones at once; building a ring without each zone would take as long as there are zones.

use std::collections::BTreeMap;

use crate::ids::{ShardId, Zone};
use crate::ring::shares::{CIRCLE, Ratio};
use crate::ring::table::{Ring, ShardIx};

/// What happens when every shard of a zone is gone.
#[derive(Debug, Clone)]
pub struct ZoneLoss {
    /// Which zone.
    pub zone: Zone,
    /// The part of the circle of which the owner is in it.
    pub share: Ratio,
    /// The shard that bears most of it for what it has, and what it would have then over what it
    /// has now. `None` if no other zone owns anything: then nobody is left.
    pub worst: Option<(ShardId, Ratio)>,
}

impl Ring {
    /// What the loss of each zone that owns anything would do, by the zone's name. Counts owners
    /// alone, the first of each replica set.
    #[must_use]
    pub fn zone_losses(&self) -> Vec<ZoneLoss> {
        let owner = |position: usize| self.owner_at(position);
        let zone = |shard: ShardIx| &self.member(shard).zone;
        let vnodes = self.vnodes();
        // By position: the virtual node that takes over when the zone of this one is gone. The walk
        // goes round twice, so that what follows the last is known; a virtual node alone with its
        // zone on the circle has no heir.
        let mut heirs: Vec<Option<usize>> = vec![None; vnodes];
        for position in (0..vnodes).chain(0..vnodes).rev() {
            let next = (position + 1) % vnodes;
            heirs[position] =
                if zone(owner(next)) == zone(owner(position)) { heirs[next] } else { Some(next) };
        }
        let mut owned: Vec<u128> = vec![0; self.members().len()];
        let mut lost: BTreeMap<&Zone, (u128, BTreeMap<ShardIx, u128>)> = BTreeMap::new();
        for position in 0..vnodes {
            // From the virtual node before, which for the first one is the last, round the circle.
            let before = self.token_at((position + vnodes - 1) % vnodes);
            let mut length = u128::from(self.token_at(position).wrapping_sub(before));
            if length == 0 && vnodes == 1 {
                length = CIRCLE;
            }
            owned[usize::from(owner(position).0)] += length;
            let (share, gained) = lost.entry(zone(owner(position))).or_default();
            *share += length;
            if let Some(heir) = heirs[position] {
                *gained.entry(owner(heir)).or_default() += length;
            }
        }
        let loss = |(zone, (share, gained)): (&Zone, (u128, BTreeMap<ShardIx, u128>))| {
            let mut worst: Option<(ShardIx, u128, u128)> = None;
            for (shard, more) in gained {
                let now = owned[usize::from(shard.0)];
                // (now + more) / now, without dividing; lengths are below 2^64, so this fits.
                let is_worse = worst.is_none_or(|(_, most, by)| over(more, by) > over(most, now));
                if now > 0 && is_worse {
                    worst = Some((shard, more, now));
                }
            }
            let worst = worst.map(|(shard, more, now)| {
                (self.member(shard).id.clone(), Ratio::new(now + more, now))
            });
            ZoneLoss { zone: zone.clone(), share: Ratio::new(share, CIRCLE), worst }
        };
        lost.into_iter().map(loss).collect()
    }
}

/// A product of two lengths, of which none is above 2^64 and not both are the whole circle.
fn over(a: u128, b: u128) -> u128 {
    a.saturating_mul(b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::ids::Weight;
    use crate::ring::{Member, RingSpec};

    fn member(id: usize, zone: u8, units: u64) -> Member {
        Member {
            id: ShardId::new(&format!("s{id}")).expect("a name"),
            zone: Zone::new(&format!("z{zone}")).expect("a name"),
            weight: Weight::try_from(units).expect("in range"),
        }
    }

    fn ring(vnodes: u16, members: Vec<Member>) -> Option<Ring> {
        let spec =
            RingSpec { hash_seed: "seed".to_owned(), vnodes, replicas: 1, members, ketama: None };
        Ring::build(&spec).ok()
    }

    /// The worst of the shards by a ring that is built without the zone.
    fn naive(ring: &Ring, without: &Ring) -> f64 {
        let share = |ring: &Ring, id: &ShardId| {
            ring.find(id).map_or(0.0, |at| ring.shares().shards[usize::from(at.0)].primary.as_f64())
        };
        let factor = |member: &Member| share(without, &member.id) / share(ring, &member.id);
        let owning = without.members().iter().filter(|member| member.weight.get() > 0);
        owning.map(factor).fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn a_zone_leaves_what_a_ring_without_it_has(
            vnodes in 1_u16..6,
            members in prop::collection::vec((0_u8..4, 0_u64..4), 1..8),
        ) {
            let members: Vec<Member> = members
                .into_iter()
                .enumerate()
                .map(|(id, (zone, units))| member(id, zone, units))
                .collect();
            let Some(whole) = ring(vnodes, members.clone()) else { return Ok(()) };
            let losses = whole.zone_losses();
            let mut total = 0.0;
            for loss in &losses {
                total += loss.share.as_f64();
                let left: Vec<Member> =
                    members.iter().filter(|member| member.zone != loss.zone).cloned().collect();
                let without = ring(vnodes, left);
                prop_assert_eq!(without.is_some(), loss.worst.is_some());
                if let (Some(without), Some((_, factor))) = (without, &loss.worst) {
                    let naive = naive(&whole, &without);
                    // What bears nothing more is not looked at.
                    prop_assert!((factor.as_f64() - naive).abs() < 1e-6 * naive, "{naive}");
                }
            }
            prop_assert!((total - 1.0).abs() < 1e-9, "the zones' shares are the circle");
        }
    }
}
