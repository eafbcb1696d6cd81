//! Which commands lead from what is agreed to what a file desires?

use std::collections::BTreeMap;

use super::command::Command;
use super::pool::{Placement, PoolSpec, PoolState, ShardSpec, ring_spec};
use super::state::ClusterState;
use crate::ids::{PoolName, ShardId};

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

/// The commands that bring `state` to `desired`: none if it is there already, at most three
/// for each pool. They are in the order in which they are to be applied, and if a ring can be made
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
    let (Some(set_pool), Some(set_shards)) = (&set_pool, &set_shards) else {
        return commands.extend([set_pool, set_shards].into_iter().flatten());
    };
    // There must be a ring between the two. The number of tokens is limited, and it is `vnodes`
    // times the sum of weights: fewer virtual nodes come before what may be more weight, and more
    // of them after what may be less. And with `ketama` no two shards may have one name.
    let fewer = wanted.spec.vnodes < present.spec.vnodes;
    let pool_first = ring_spec(&wanted.spec, &present.shards).check().is_ok();
    let shards_first = ring_spec(&present.spec, &wanted.shards).check().is_ok();
    let (pool, shards) = (set_pool.clone(), set_shards.clone());
    commands.extend(match (pool_first, shards_first) {
        (true, true) if fewer => vec![pool, shards],
        (true, false) => vec![pool, shards],
        (_, true) => vec![shards, pool],
        // A token ring that is as small as can be bears the shards of both.
        (false, false) => {
            let mut spec = PoolSpec { vnodes: 1, ..wanted.spec.clone() };
            if spec.placement == Placement::Ketama {
                spec.placement = Placement::Ring;
            }
            if let Some(kept) = &mut spec.kept {
                kept.replicas = 1;
            }
            vec![Command::SetPool { pool: name.clone(), spec }, shards, pool]
        }
    });
}
