//! Who may have what a key's owner does not have yet?
//!
//! A shard that joins a cache pool, or comes back, owns keys whose objects lie elsewhere: with the
//! owner of before, or with the shard that took the writes meanwhile. Nothing is copied. With
//! `warm_up` a read that the owner does not find is asked there before it is answered 404, for a
//! time after the change. That needs `immutable` keys: any other copy could be an old one.
//!
//! - The former owners are those of the rings that this node served before, the latest first, no
//!   more than [`FORMERS_MAX`]. They are in memory: a node that was restarted knows none.
//! - While a shard is away its writes go along the ring, so after its return the shard that is next
//!   there is asked; as it is while only its writes are down.
//! - The time counts from the first miss after the change: a pool that nobody reads loses nothing.
//! - A shard that left the pool is not asked, nor one that looks down.
//!
//! A former ring stays in memory until others take its place, beyond its time: a few MiB with a
//! thousand shards. The price is that of every second copy: what is deleted at its owner within the time is found
//! at the former one again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::choose::{Asked, choose};
use super::view::{Pool, PoolSettings};
use crate::cluster::PoolTopology;
use crate::protocol::health::Class;

/// Rings that are remembered. Shards mostly come in one change; and each costs a miss one request
/// more.
const FORMERS_MAX: usize = 3;

/// Nobody has missed anything since the change.
const UNASKED: u64 = u64::MAX;

/// A ring that was served before.
pub(super) struct Former {
    agreed: Arc<PoolTopology>,
    /// When the first read after the change missed.
    begun_ms: AtomicU64,
}

/// The former rings of a pool that is built anew.
pub(super) fn formers(
    agreed: &PoolTopology,
    settings: &PoolSettings,
    before: Option<&Pool>,
) -> Vec<Arc<Former>> {
    let Some(before) = before.filter(|_| settings.warm_up.is_some() && agreed.spec.immutable)
    else {
        return Vec::new();
    };
    let mut formers = before.formers.clone();
    if before.agreed.digest != agreed.digest {
        let begun_ms = AtomicU64::new(UNASKED);
        let former = Former { agreed: Arc::clone(&before.agreed), begun_ms };
        formers.insert(0, Arc::new(former));
        formers.truncate(FORMERS_MAX);
    }
    // With another seed a key's token is another.
    let has_its_tokens = |former: &Arc<Former>| {
        let spec = &former.agreed.spec;
        spec.hash_seed == agreed.spec.hash_seed && spec.placement == agreed.spec.placement
    };
    formers.retain(has_its_tokens);
    formers
}

impl Former {
    fn is_within(&self, now_ms: u64, window_ms: u64) -> bool {
        let begun = self.begun_ms.compare_exchange(UNASKED, now_ms, Relaxed, Relaxed);
        now_ms.saturating_sub(begun.err().unwrap_or(now_ms)) < window_ms
    }
}

/// The shards to ask for what the key's owner has not found, the likeliest first.
pub(super) fn holders(pool: &Pool, asked: Asked, owner: usize) -> Vec<usize> {
    let mut holders = Vec::new();
    let Some(window) = pool.settings.warm_up.filter(|_| pool.agreed.spec.immutable) else {
        return holders;
    };
    let window_ms = millis(window);
    let mut add = |shard: usize| {
        let usable = pool.health.usable(shard, asked.class) && !pool.in_maintenance(shard);
        if usable && shard != owner && !holders.contains(&shard) {
            holders.push(shard);
        }
    };
    let is_back = |class: Class| {
        let back_ms = pool.health.back_for(asked.now_ms, owner, class);
        back_ms.is_some_and(|since_ms| since_ms < window_ms)
    };
    let writes_are_away = !pool.health.usable(owner, Class::Write);
    // Both classes are asked, so that the time of both begins.
    if Class::ALL.map(is_back).contains(&true) || writes_are_away {
        choose(pool, asked, &[owner]).ok().into_iter().for_each(|next| add(next.shard));
    }
    for former in pool.formers.iter().filter(|f| f.is_within(asked.now_ms, window_ms)) {
        let ring = &former.agreed.ring;
        let id = &ring.member(ring.replicas(asked.token)[0]).id;
        if let Ok(shard) = pool.shards.binary_search_by(|shard| shard.id.cmp(id)) {
            add(shard);
        }
    }
    holders
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
