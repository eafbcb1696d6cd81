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
