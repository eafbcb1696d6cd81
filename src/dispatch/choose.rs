//! Which shard is asked next?
//!
//! Health decides which shard answers, never who owns a key. A read goes along the ring from the
//! key's owner on until a shard looks able to answer; the ring's order is the same on every node,
//! so failovers meet. A write goes to the owner or nowhere, unless the pool's keys are immutable:
//! a second copy of a mutable object could come back to life when the owner returns.

use super::view::Pool;
use crate::ids::Token;
use crate::protocol::health::Class;

/// Why no shard can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoShard {
    /// Every shard that might answer was asked already, or looks down, or is in maintenance.
    NoneHealthy,
    /// The key's owner is down or in maintenance, and nobody else may take the write.
    OwnerDown,
}

/// A shard was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// Its place in the pool.
    pub shard: usize,
    /// Whether it is another than the key's owner.
    pub spilled: bool,
}

/// Chooses a shard that is not in `tried`. `panic`: so much of the pool looks down that health is
/// not believed, and the ring's order alone counts.
///
/// # Errors
/// [`NoShard`]; nothing was sent for this choice.
pub fn choose(
    pool: &Pool,
    token: Token,
    class: Class,
    panic: bool,
    tried: &[usize],
) -> Result<Chosen, NoShard> {
    let usable = |shard: usize| {
        !tried.contains(&shard)
            && !pool.in_maintenance(shard)
            && (panic || pool.health.usable(shard, class))
    };
    let ring = &pool.agreed.ring;
    let owner = usize::from(ring.replicas(token)[0].0);
    if usable(owner) {
        return Ok(Chosen { shard: owner, spilled: false });
    }
    if !may_spill(pool, class) {
        return Err(NoShard::OwnerDown);
    }
    ring.order(token)
        .map(|shard| usize::from(shard.0))
        .find(|&shard| usable(shard))
        .map(|shard| Chosen { shard, spilled: true })
        .ok_or(NoShard::NoneHealthy)
}

/// Whether a request of this class may go to another shard than its key's owner.
#[must_use]
pub fn may_spill(pool: &Pool, class: Class) -> bool {
    class == Class::Read || pool.agreed.spec.immutable
}
