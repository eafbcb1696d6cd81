//! Which shard is spared a request that another may take?
//!
//! Two rules pass a request on to the next shard of the ring although the shard before it works.
//! They bind only where a request may go to another shard at all: reads, and writes of immutable
//! keys, in `mode: any`. If all that is left is to be spared, nobody is: it is a preference, no
//! reason to refuse.
//!
//! # Bounded load
//!
//! With a perfect ring one hot key, or the noise of queues, still loads one shard with several times
//! its share (measured: 1.5 times the mean at 100 shards with even keys, 3.3 with skewed ones). So
//! no shard gets more in flight than `hash_balance_factor` percent of its fair share: with m
//! requests in flight in the pool, this one counted, and w of W units of weight, at most
//! ceil(factor · m · w / W). The bounds add up to more than m, so some shard is always below its
//! own. Only shards that may be asked have a part in W.
//!
//! Source: Mirrokni, Thorup, Zadimoghaddam, *Consistent Hashing with Bounded Loads* (2018). The
//! counts are this node's: what other nodes send a shard is not in them. Known weakness: overflow
//! lands on the hot shard's neighbours, and a hot key fills one after the other.
//!
//! # Slow start
//!
//! A shard that was down, ejected or in maintenance is cold, or behind, or about to fall over again.
//! For `slow_start` after its return it gets a growing part of its keys. Which keys those are hangs
//! on token and shard alone, so a key that it has again stays with it, and nodes whose clocks run
//! alike agree; the window counts from a node's first request that comes by the shard after the
//! return, as that node sees it. In panic health is not believed, its returns neither.

use super::choose::Spared;
use super::view::Pool;
use crate::ids::Token;
use crate::protocol::health::Class;
use crate::ring::ShardIx;

/// One request's view of who is to be spared.
pub(super) struct Easing<'a> {
    pub(super) pool: &'a Pool,
    pub(super) token: Token,
    pub(super) class: Class,
    pub(super) panic: bool,
    pub(super) now_ms: u64,
}

impl Easing<'_> {
    /// Why a shard that may be asked is to be spared, if it is.
    pub(super) fn spares(&self, shard: usize) -> Option<Spared> {
        if self.starts_slowly(shard) {
            return Some(Spared::SlowStart);
        }
        let percent = self.pool.settings.hash_balance_factor?;
        self.is_loaded(shard, u64::from(percent)).then_some(Spared::Loaded)
    }

    fn starts_slowly(&self, shard: usize) -> bool {
        let easing = || self.pool.health.easing(self.now_ms, shard, self.class);
        !self.panic && easing().is_some_and(|permille| draw(self.token, shard) >= permille)
    }

    fn is_loaded(&self, shard: usize, percent: u64) -> bool {
        let weight = self.weight(shard);
        let in_flight = self.pool.shards[shard].in_flight() as u64;
        let total = self.pool.budget.in_flight();
        // Nearly always that settles it: without the shards that are away the bound is higher.
        if in_flight < bound(percent, total, weight, self.pool.weights) {
            return false;
        }
        let serving = (0..self.pool.shards.len()).filter(|&shard| self.serves(shard));
        let weights = serving.map(|shard| self.weight(shard)).sum::<u64>().max(weight);
        in_flight >= bound(percent, total, weight, weights)
    }

    fn serves(&self, shard: usize) -> bool {
        let usable = self.panic || self.pool.health.usable(shard, self.class);
        usable && !self.pool.in_maintenance(shard)
    }

    fn weight(&self, shard: usize) -> u64 {
        // There are no more shards than a ring takes members.
        let ix = ShardIx(u16::try_from(shard).unwrap_or(u16::MAX));
        u64::from(self.pool.agreed.ring.member(ix).weight.get())
    }
}

/// The most that a shard of `weight` of `weights` may have in flight, of `total` in the pool.
fn bound(percent: u64, total: u64, weight: u64, weights: u64) -> u64 {
    let share = percent.saturating_mul(total).saturating_mul(weight);
    share.div_ceil(weights.max(1).saturating_mul(100))
}

/// A number below 1000 that hangs on token and shard alone (the finish of SplitMix64).
fn draw(token: Token, shard: usize) -> u64 {
    let mut mixed = token.0 ^ (shard as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % 1000
}

#[cfg(test)]
mod tests;
