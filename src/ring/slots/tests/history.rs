//! One change of a pool's shards after another, drawn from a number, and what may be said of it.
//!
//! `benches/ring.rs` goes through the same histories, longer.

use std::collections::BTreeMap;

use crate::ids::{ShardId, Weight, Zone};
use crate::ring::slots::{SLOTS, SlotStats, SlotTable};
use crate::ring::{Member, RingSpec};

/// What histories there are.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Shards at first; there are never a quarter more or fewer.
    pub shards: u64,
    /// Zones that they are in.
    pub zones: u64,
    /// Weights go from 1 to this.
    pub weights: u64,
    /// Virtual nodes for each unit.
    pub vnodes: u16,
}

/// A pool of three replicas that changes.
pub struct History {
    kind: Kind,
    random: u64,
    born: u64,
    /// As it is now.
    pub spec: RingSpec,
}

impl History {
    pub fn new(kind: Kind, seed: u64) -> Self {
        let spec = RingSpec {
            hash_seed: "history".to_owned(),
            vnodes: kind.vnodes,
            replicas: 3,
            members: Vec::new(),
            ketama: None,
        };
        let mut history = Self { kind, random: seed, born: 0, spec };
        for number in 0..kind.shards {
            history.join(number % kind.zones, 1 + number % kind.weights);
        }
        history
    }

    /// Another shard, one less, or another weight: each as likely.
    pub fn change(&mut self) {
        let count = self.spec.members.len() as u64;
        let at = usize::try_from(self.below(count)).expect("an index");
        let weight = 1 + self.below(self.kind.weights.max(2));
        let (least, most) = (self.kind.shards * 3 / 4, self.kind.shards * 5 / 4);
        match self.below(3) {
            0 if count < most => {
                let zone = self.below(self.kind.zones);
                let weight = 1 + self.below(self.kind.weights);
                self.join(zone, weight);
            }
            1 if count > least => drop(self.spec.members.remove(at)),
            _ => self.spec.members[at].weight = Weight::try_from(weight).expect("in range"),
        }
    }

    fn join(&mut self, zone: u64, weight: u64) {
        self.spec.members.push(Member {
            id: ShardId::new(&format!("s{}", self.born)).expect("a name"),
            zone: Zone::new(&format!("z{zone}")).expect("a name"),
            weight: Weight::try_from(weight).expect("in range"),
        });
        self.born += 1;
    }

    /// A linear congruential generator's upper bits: Knuth's MMIX.
    fn below(&mut self, bound: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x1405_7b7e_f767_814f);
        (self.random >> 33) % bound
    }
}

/// The copies that shards must get by their quotas: no table with these moves less.
pub fn gained(before: &SlotTable, after: &SlotStats) -> u64 {
    let mut had: BTreeMap<&ShardId, u64> = BTreeMap::new();
    for slot in 0..SLOTS {
        before.keepers(slot).for_each(|shard| *had.entry(shard).or_default() += 1);
    }
    let gain = |(id, _, quota): &(ShardId, u32, u32)| {
        u64::from(*quota).saturating_sub(had.get(id).copied().unwrap_or(0))
    };
    after.copies.iter().map(gain).sum()
}

/// The least that the most slots of a shard as their primary can be over its share by weight, in
/// millionths: slots are whole. Each goes to whoever is the least over with it.
pub fn least_primary_peak(spec: &RingSpec) -> u128 {
    let weights = spec.members.iter().map(|member| u128::from(member.weight.get()));
    let weights: Vec<u128> = weights.filter(|weight| *weight > 0).collect();
    let total: u128 = weights.iter().sum();
    let slots = SLOTS as u128;
    // All that can be given at a peak, which is looked for by halves.
    let fits = |peak: u128| {
        weights.iter().map(|weight| peak * slots * weight / (total * 1_000_000)).sum::<u128>()
            >= slots
    };
    let (mut no, mut yes) = (0, 100_000_000);
    while yes - no > 1 {
        let middle = u128::midpoint(no, yes);
        *(if fits(middle) { &mut yes } else { &mut no }) = middle;
    }
    yes
}
