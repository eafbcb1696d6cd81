//! Which commands lead from what is agreed to what is desired, and what would they do?

use std::collections::BTreeMap;

use super::command::{Command, Refusal};
use super::state::{ClusterState, PoolSpec, PoolState, ShardSpec};
use crate::ids::{Epoch, PoolName, ShardId};
use crate::ring::{Ratio, Ring};

/// One pool as somebody wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredPool {
    /// What concerns it as a whole.
    pub spec: PoolSpec,
    /// Its shards.
    pub shards: BTreeMap<ShardId, ShardSpec>,
}

/// Everything as somebody wants it.
pub type Desired = BTreeMap<PoolName, DesiredPool>;

/// The commands that bring `state` to `desired`: none if it is there already, at most two for
/// each pool. They are in the order in which they are to be applied, and if a ring can be made
/// of what is desired, one can be made at each step.
#[must_use]
pub fn changes(state: &ClusterState, desired: &Desired) -> Vec<Command> {
    let removed = state.pools().keys().filter(|name| !desired.contains_key(*name));
    let mut commands: Vec<Command> =
        removed.map(|pool| Command::RemovePool { pool: pool.clone() }).collect();
    for (name, wanted) in desired {
        match state.pools().get(name) {
            None => commands.push(Command::CreatePool {
                pool: name.clone(),
                spec: wanted.spec.clone(),
                shards: wanted.shards.clone().into_iter().collect(),
            }),
            Some(present) => change_pool(name, present, wanted, &mut commands),
        }
    }
    commands
}

fn change_pool(
    name: &PoolName,
    present: &PoolState,
    wanted: &DesiredPool,
    commands: &mut Vec<Command>,
) {
    let set_pool = (present.spec != wanted.spec)
        .then(|| Command::SetPool { pool: name.clone(), spec: wanted.spec.clone() });
    let remove: Vec<ShardId> =
        present.shards.keys().filter(|id| !wanted.shards.contains_key(*id)).cloned().collect();
    let differs = |(id, spec): &(&ShardId, &ShardSpec)| present.shards.get(*id) != Some(*spec);
    let put: Vec<(ShardId, ShardSpec)> =
        wanted.shards.iter().filter(differs).map(|(id, spec)| (id.clone(), spec.clone())).collect();
    let set_shards = (!remove.is_empty() || !put.is_empty()).then(|| Command::SetShards {
        pool: name.clone(),
        put,
        remove,
    });
    // The number of tokens is limited, and it is `vnodes` times the sum of weights: fewer virtual
    // nodes come before what may be more weight, and more of them after what may be less.
    if wanted.spec.vnodes < present.spec.vnodes {
        commands.extend([set_pool, set_shards].into_iter().flatten());
    } else {
        commands.extend([set_shards, set_pool].into_iter().flatten());
    }
}

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
    /// The part of the circle whose owner changes.
    pub moved: Ratio,
}

/// What a change does to each pool that it touches.
pub type Report = Vec<PoolReport>;

/// Tells what lies between two states.
///
/// # Errors
/// [`Refusal::Ring`] when one of them has a pool without a ring, which no command brings about.
pub fn report(before: &ClusterState, after: &ClusterState) -> Result<Report, Refusal> {
    let names: std::collections::BTreeSet<&PoolName> =
        before.pools().keys().chain(after.pools().keys()).collect();
    let mut report = Vec::new();
    for name in names {
        let (was, is) = (before.pools().get(name), after.pools().get(name));
        if was != is {
            report.push(report_pool(name, was, is)?);
        }
    }
    Ok(report)
}

fn report_pool(
    name: &PoolName,
    was: Option<&PoolState>,
    is: Option<&PoolState>,
) -> Result<PoolReport, Refusal> {
    let ring = |pool: Option<&PoolState>| {
        let built = pool.map(PoolState::build_ring).transpose();
        built.map_err(|error| Refusal::Ring { pool: name.clone(), error })
    };
    let (ring_before, ring_after) = (ring(was)?, ring(is)?);
    let mut shares: BTreeMap<ShardId, (Ratio, Ratio)> = BTreeMap::new();
    for (ring, is_after) in [(&ring_before, false), (&ring_after, true)] {
        let Some(ring) = ring else { continue };
        for (member, share) in ring.members().iter().zip(&ring.shares().shards) {
            let both = shares.entry(member.id.clone()).or_insert((Ratio::ZERO, Ratio::ZERO));
            if is_after {
                both.1 = share.primary;
            } else {
                both.0 = share.primary;
            }
        }
    }
    Ok(PoolReport {
        pool: name.clone(),
        epoch_before: was.map(|pool| pool.epoch),
        epoch_after: is.map(|pool| pool.epoch),
        shares,
        moved: moved(ring_before.as_ref(), ring_after.as_ref()),
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
