//! Which slots may be compared with each other, and which of them differ?

use std::collections::BTreeMap;

use crate::ids::Token;
use crate::protocol::replica::{SLOTS, Sum};

/// Slots of one fold.
pub const FOLD_SLOTS: u32 = 256;

/// Folds of a circle.
pub const FOLDS: u32 = SLOTS / FOLD_SLOTS;

/// Who has the slots of a fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// These shards have all of its slots: its sums can be compared.
    Same(Vec<u16>),
    /// Slot by slot others, of these.
    Mixed(Vec<u16>),
}

/// Slots next to each other, of the same shards, that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The first slot.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// Who has them, ascending.
    pub shards: Vec<u16>,
}

impl Run {
    /// The first and the last token.
    #[must_use]
    pub fn tokens(&self) -> (Token, Token) {
        (Token(u64::from(self.first) << 48), Token((u64::from(self.last) << 48) | ((1 << 48) - 1)))
    }
}

/// Whether those that answered differ. One alone does not.
#[must_use]
pub fn differ(sums: impl IntoIterator<Item = Sum>) -> bool {
    let mut sums = sums.into_iter();
    let Some(first) = sums.next() else { return false };
    sums.any(|sum| sum != first)
}

/// Who has which slot: `set_of` gives the shards of one, in any order.
pub struct Circle<F> {
    set_of: F,
}

impl<F: Fn(u16) -> Vec<u16>> Circle<F> {
    /// A circle with these replica sets.
    #[must_use]
    pub fn new(set_of: F) -> Self {
        Self { set_of }
    }

    /// The shards of a slot, ascending.
    #[must_use]
    pub fn shards(&self, slot: u16) -> Vec<u16> {
        let mut shards = (self.set_of)(slot);
        shards.sort_unstable();
        shards
    }

    /// Who has the slots of a fold.
    #[must_use]
    pub fn members(&self, fold: u8) -> Members {
        let first = self.shards(first_of(fold));
        let mut all = first.clone();
        let mut same = true;
        for slot in slots_of(fold) {
            let shards = self.shards(slot);
            same &= shards == first;
            all.extend(shards);
        }
        all.sort_unstable();
        all.dedup();
        if same { Members::Same(first) } else { Members::Mixed(all) }
    }

    /// The slots of a fold in which shards differ, given the sums of its slots by shard. A shard
    /// that did not answer is not in `sums`, and not in a run; of a slot that fewer than two
    /// shards answered for nothing is known.
    #[must_use]
    pub fn differing(&self, fold: u8, sums: &BTreeMap<u16, Vec<Sum>>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (at, slot) in slots_of(fold).enumerate() {
            let mut shards = self.shards(slot);
            shards.retain(|shard| sums.get(shard).is_some_and(|sums| sums.len() > at));
            if !differ(shards.iter().map(|shard| sums[shard][at])) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.shards == shards && u32::from(run.last) + 1 == u32::from(slot) => {
                    run.last = slot;
                }
                _ => runs.push(Run { first: slot, last: slot, shards }),
            }
        }
        runs
    }
}

/// The first slot of a fold.
fn first_of(fold: u8) -> u16 {
    u16::from(fold) << 8
}

fn slots_of(fold: u8) -> impl Iterator<Item = u16> {
    (0..=u8::MAX).map(move |slot| first_of(fold) | u16::from(slot))
}
