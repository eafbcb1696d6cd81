//! A verdict needs a majority of the lease holders.
//!
//! Source: DESIGN, section 6. More nodes have said so lately than are half of those that truly hold
//! a lease. The leader must assume more holders than there are (it adds a margin to each lease), and
//! the words that it counts were all said, so what it decides by the rule holds here as well.

use std::collections::{BTreeMap, BTreeSet};

use ringway::cluster::verdict::Views;
use ringway::ids::{NodeId, PoolName, ShardId};

use super::Checked;

#[derive(Debug, Default)]
pub struct Majority {
    /// When a node last said that a shard was down, and up.
    said: BTreeMap<(PoolName, ShardId, bool), BTreeMap<NodeId, u64>>,
}

impl Majority {
    pub fn said(&mut self, now_us: u64, node: NodeId, views: &Views) {
        for (pool, shards) in views {
            for (shard, seen) in shards {
                let Some(reads_down) = seen.reads_down else { continue };
                let question = (pool.clone(), shard.clone(), reads_down);
                self.said.entry(question).or_default().insert(node, now_us);
            }
        }
    }

    /// The leader decides that a shard is down, or up. `holders` hold a lease now.
    pub fn decided(
        &self,
        since_us: u64,
        pool: &PoolName,
        shard: &ShardId,
        down: bool,
        holders: &BTreeSet<NodeId>,
    ) -> Checked {
        let said = self.said.get(&(pool.clone(), shard.clone(), down));
        let votes = said.map_or(0, |said| said.values().filter(|at| **at >= since_us).count());
        if votes * 2 <= holders.len() && !holders.is_empty() {
            return Err(format!(
                "{shard} of {pool} is to be {}, and {votes} of {} lease holders have said so",
                if down { "down" } else { "up" },
                holders.len()
            ));
        }
        Ok(())
    }
}
