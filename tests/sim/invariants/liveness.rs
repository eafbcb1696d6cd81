//! When faults have ended for a while, everybody serves: each node has applied everything, holds a
//! lease, every barrier stands at its epoch, and verdicts say what is true.
//!
//! Source: STYLE, "Simulation" (faults first, then healing). Rules that refuse everything would be
//! safe as well.

use std::collections::BTreeMap;

use ringway::ids::{PoolName, ShardId};

use super::Checked;
use crate::process::Process;

/// `now_ms` is by the process's own clock, `committed` how long the log is.
pub fn alive(
    process: &Process,
    now_ms: u64,
    committed: usize,
    down: &BTreeMap<PoolName, BTreeMap<ShardId, bool>>,
) -> Checked {
    let node = process.node;
    if process.applied != committed {
        return Err(format!("node {node} has applied {} of {committed}", process.applied));
    }
    if process.holder.as_ref().is_none_or(|holder| holder.remaining_ms(now_ms) == 0) {
        return Err(format!("node {node} has no lease"));
    }
    for (name, pool) in process.state.pools() {
        if pool.barrier != pool.epoch {
            return Err(format!("barrier {} of {name}, epoch {}", pool.barrier, pool.epoch));
        }
        for (shard, is_down) in down.get(name).into_iter().flatten() {
            if pool.verdict(shard).reads_down != *is_down {
                return Err(format!("the verdict about {shard} of {name} is wrong"));
            }
        }
    }
    Ok(())
}
