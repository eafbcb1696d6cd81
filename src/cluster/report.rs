//! What does a change do to the keys?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pool::PoolState;
use super::refusal::Refusal;
use super::state::ClusterState;
use crate::ids::{Epoch, PoolName, ShardId};
use crate::ring::{Ratio, Ring, ZoneLoss};

/// What a change does to one pool.
#[derive(Debug, Clone)]
pub struct PoolReport {
    /// The pool.
    pub pool: PoolName,
    /// Its epoch before; `None` if it is new.
    pub epoch_before: Option<Epoch>,
    /// Its epoch after; `None` if it is removed.
    pub epoch_after: Option<Epoch>,
    /// Each shard's share of the circle before and after; zero where it is not a member.
    pub shares: BTreeMap<ShardId, (Ratio, Ratio)>,
    /// The part of the circle whose owner changes. A cache pool keeps nothing for its keys
    /// elsewhere, so this is the part of them that will be missed once.
    pub moved: Ratio,
    /// Whether the pool has a table, before or after: `moved` is of all copies then.
    pub balanced: bool,
    /// The most that a shard has over what its weight says, before and after; zero without a ring.
    pub peak_to_mean: (Ratio, Ratio),
    /// What the loss of each zone would do afterwards.
    pub zones: Vec<ZoneLoss>,
}

/// What a change does to each pool that it touches.
pub type Report = Vec<PoolReport>;

/// Tells what lies between two states.
///
/// # Errors
/// [`Refusal::Ring`] when one of them has a pool without a ring, which no command brings about.
pub fn report(before: &ClusterState, after: &ClusterState) -> Result<Report, Refusal> {
    let names: BTreeSet<&PoolName> = before.pools().keys().chain(after.pools().keys()).collect();
    let mut report = Vec::new();
    for name in names {
        let (was, is) = (before.pools().get(name), after.pools().get(name));
        if was != is {
            report.push(report_pool(name, was, is)?);
        }
    }
    Ok(report)
}

/// The same for one pool.
pub(super) fn report_pool(
    name: &PoolName,
    was: Option<&Arc<PoolState>>,
    is: Option<&Arc<PoolState>>,
) -> Result<PoolReport, Refusal> {
    let balanced = |pool: Option<&Arc<PoolState>>| pool.is_some_and(|pool| pool.slots().is_some());
    if balanced(was) || balanced(is) {
        return report_table(name, was, is);
    }
    let ring = |pool: Option<&Arc<PoolState>>| {
        let built = pool.map(|pool| pool.build_ring()).transpose();
        built.map_err(|error| Refusal::Ring { pool: name.clone(), error })
    };
    let (ring_before, ring_after) = (ring(was)?, ring(is)?);
    let mut shares: BTreeMap<ShardId, (Ratio, Ratio)> = BTreeMap::new();
    let mut peak_to_mean = (Ratio::ZERO, Ratio::ZERO);
    for (ring, is_after) in [(&ring_before, false), (&ring_after, true)] {
        let Some(ring) = ring else { continue };
        let all = ring.shares();
        *(if is_after { &mut peak_to_mean.1 } else { &mut peak_to_mean.0 }) = all.peak_to_mean;
        for (member, share) in ring.members().iter().zip(&all.shards) {
            let both = shares.entry(member.id.clone()).or_insert((Ratio::ZERO, Ratio::ZERO));
            *(if is_after { &mut both.1 } else { &mut both.0 }) = share.primary;
        }
    }
    Ok(PoolReport {
        pool: name.clone(),
        epoch_before: was.map(|pool| pool.epoch),
        epoch_after: is.map(|pool| pool.epoch),
        shares,
        moved: moved(ring_before.as_ref(), ring_after.as_ref()),
        balanced: false,
        peak_to_mean,
        zones: ring_after.as_ref().map(Ring::zone_losses).unwrap_or_default(),
    })
}

/// The same for a balanced pool: its shares are those of all copies.
fn report_table(
    name: &PoolName,
    was: Option<&Arc<PoolState>>,
    is: Option<&Arc<PoolState>>,
) -> Result<PoolReport, Refusal> {
    let mut shares: BTreeMap<ShardId, (Ratio, Ratio)> = BTreeMap::new();
    let mut peak_to_mean = (Ratio::ZERO, Ratio::ZERO);
    let table = |pool: Option<&Arc<PoolState>>| {
        pool.and_then(|pool| pool.slots()).and_then(|slots| slots.table()).cloned()
    };
    let (before, after) = (table(was), table(is));
    for (table, pool, is_after) in [(&before, was, false), (&after, is, true)] {
        let (Some(table), Some(pool)) = (table, pool) else { continue };
        let refused = |error| Refusal::Plan { pool: name.clone(), error };
        let peak = table.stats(&pool.ring_spec()).map_err(refused)?.peak;
        *(if is_after { &mut peak_to_mean.1 } else { &mut peak_to_mean.0 }) = peak;
        for (id, _, held) in table.shares() {
            let both = shares.entry(id.clone()).or_insert((Ratio::ZERO, Ratio::ZERO));
            *(if is_after { &mut both.1 } else { &mut both.0 }) = held;
        }
    }
    Ok(PoolReport {
        pool: name.clone(),
        epoch_before: was.map(|pool| pool.epoch),
        epoch_after: is.map(|pool| pool.epoch),
        shares,
        moved: match (&before, &after) {
            (Some(before), Some(after)) => after.moved(before),
            _ => Ratio::ONE,
        },
        balanced: true,
        peak_to_mean,
        zones: Vec::new(),
    })
}

fn moved(before: Option<&Ring>, after: Option<&Ring>) -> Ratio {
    match (before, after) {
        (Some(before), Some(after)) => before.moved(after),
        (None, None) => Ratio::ZERO,
        // A pool that comes or goes has nothing to move from, or nowhere to move to.
        _ => Ratio::ONE,
    }
}
