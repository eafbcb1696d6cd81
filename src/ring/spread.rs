//! The replica set of every virtual node, with zones spread as evenly as they last.
//!
//! The rule: each further replica is the first shard, from the virtual node on, that stands in
//! one of the zones with the fewest replicas so far (of those zones that have a shard left). With
//! as many zones as replicas that means distinct zones.
//!
//! Walking on from each virtual node until its set is full would follow the rule literally, but a
//! light zone makes the walk long: one shard of weight 1 among 64 of weight 256 is met every
//! 16 000 virtual nodes, four million times over. So the circle is gone through once, *backwards*,
//! keeping the zones and shards that lie ahead in the order in which they are met. A step back
//! brings one shard to the front of that order and leaves the rest as it was.

use crate::ids::Zone;
use crate::ring::spec::RingSpec;
use crate::ring::table::ShardIx;
use crate::ring::vnodes::Vnode;

/// The replica sets of `vnodes` (sorted, not empty) one after the other, and the first once more
/// at the end.
pub(super) fn replica_sets(spec: &RingSpec, vnodes: &[Vnode]) -> Vec<ShardIx> {
    let width = usize::from(spec.replicas);
    let zones = Zones::of(spec);
    let mut sets = vec![ShardIx(0); (vnodes.len() + 1) * width];
    if zones.sizes.len() >= width {
        distinct_zones(width, &zones, vnodes, &mut sets);
    } else {
        few_zones(width, &zones, vnodes, &mut sets);
    }
    sets.copy_within(..width, vnodes.len() * width);
    sets
}

/// The zones of the shards that own anything, numbered.
struct Zones {
    /// By shard; of no meaning for shards of weight 0.
    of_shard: Vec<u16>,
    /// By zone: how many shards own anything.
    sizes: Vec<usize>,
}

impl Zones {
    fn of(spec: &RingSpec) -> Self {
        let owning = || spec.members.iter().filter(|member| member.weight.get() > 0);
        let mut names: Vec<&Zone> = owning().map(|member| &member.zone).collect();
        names.sort_unstable();
        names.dedup();
        // There are no more zones than members, whose number fits 16 bits.
        let number = |zone: &Zone| names.binary_search(&zone).unwrap_or(0);
        let mut sizes = vec![0; names.len()];
        owning().for_each(|member| sizes[number(&member.zone)] += 1);
        #[allow(clippy::cast_possible_truncation, reason = "see above")]
        let of_shard = spec.members.iter().map(|member| number(&member.zone) as u16).collect();
        Self { of_shard, sizes }
    }

    fn of_owner(&self, vnode: &Vnode) -> u16 {
        self.of_shard[usize::from(vnode.owner.0)]
    }
}

/// At least as many zones as replicas: the first shard of each of the first `width` zones ahead.
fn distinct_zones(width: usize, zones: &Zones, vnodes: &[Vnode], sets: &mut [ShardIx]) {
    // The zones ahead in the order in which they are met, each with its first shard. More than
    // `width` need not be known: a zone that comes to the front pushes out the last, or its own
    // former entry.
    let mut ahead: Vec<(u16, ShardIx)> = Vec::with_capacity(width);
    for vnode in vnodes {
        let zone = zones.of_owner(vnode);
        if ahead.iter().all(|entry| entry.0 != zone) {
            ahead.push((zone, vnode.owner));
            if ahead.len() == width {
                break;
            }
        }
    }
    for (vnode, set) in vnodes.iter().zip(sets.chunks_exact_mut(width)).rev() {
        let zone = zones.of_owner(vnode);
        to_front(&mut ahead, (zone, vnode.owner), |entry| entry.0 == zone);
        for (place, entry) in set.iter_mut().zip(&ahead) {
            *place = entry.1;
        }
    }
}

/// Fewer zones than replicas: the first shard of each zone, in the order in which they are met,
/// then the second of each, and so on.
fn few_zones(width: usize, zones: &Zones, vnodes: &[Vnode], sets: &mut [ShardIx]) {
    // By zone: its first shards ahead, with the distance from the circle's start at which each is
    // met. A virtual node behind us is met again one round later.
    let mut ahead: Vec<Vec<(usize, ShardIx)>> = vec![Vec::new(); zones.sizes.len()];
    let wanted: Vec<usize> = zones.sizes.iter().map(|&size| size.min(width)).collect();
    let mut missing: usize = wanted.iter().sum();
    for (position, vnode) in vnodes.iter().enumerate() {
        let zone = usize::from(zones.of_owner(vnode));
        let known = &mut ahead[zone];
        if known.len() < wanted[zone] && known.iter().all(|entry| entry.1 != vnode.owner) {
            known.push((vnodes.len() + position, vnode.owner));
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    let mut round: Vec<(usize, ShardIx)> = Vec::with_capacity(ahead.len());
    let sets = sets.chunks_exact_mut(width);
    for ((position, vnode), set) in vnodes.iter().enumerate().zip(sets).rev() {
        let zone = usize::from(zones.of_owner(vnode));
        to_front(&mut ahead[zone], (position, vnode.owner), |entry| entry.1 == vnode.owner);
        let mut filled = 0;
        for depth in 0..width {
            round.clear();
            round.extend(ahead.iter().filter_map(|shards| shards.get(depth)));
            round.sort_unstable();
            let taken = round.len().min(width - filled);
            for (place, entry) in set[filled..].iter_mut().zip(&round) {
                *place = entry.1;
            }
            filled += taken;
            if filled == width {
                break;
            }
        }
    }
}

/// Puts `entry` first and moves the others down as far as its former place, or else drops the
/// last.
fn to_front<T: Copy>(list: &mut [T], entry: T, same: impl Fn(&T) -> bool) {
    let mut moved = entry;
    for place in list {
        std::mem::swap(place, &mut moved);
        if same(&moved) {
            break;
        }
    }
}
