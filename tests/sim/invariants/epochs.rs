//! What a node has applied, and what it reports, only grows.
//!
//! Source: DESIGN, section 1 (an epoch moves only upwards) and section 5, rule 6. A process that
//! starts again may have forgotten what it had applied, yet not what the node had reported: it
//! applies the beginning of its incarnation first, which is later in the log.

use std::collections::BTreeMap;

use ringway::ids::{Epoch, NodeId, PoolName};

use super::Checked;

type PerPool = BTreeMap<PoolName, Epoch>;

#[derive(Debug, Default)]
pub struct Epochs {
    applied: BTreeMap<usize, PerPool>,
    reported: BTreeMap<NodeId, PerPool>,
}

impl Epochs {
    pub fn applied(&mut self, process: usize, epochs: &PerPool) -> Checked {
        grows(self.applied.entry(process).or_default(), epochs)
            .map_err(|what| format!("process {process} applied {what}"))
    }

    pub fn reported(&mut self, node: NodeId, epochs: &PerPool) -> Checked {
        grows(self.reported.entry(node).or_default(), epochs)
            .map_err(|what| format!("node {node} reported {what}"))
    }
}

fn grows(known: &mut PerPool, epochs: &PerPool) -> Checked {
    for (pool, epoch) in epochs {
        let before = known.insert(pool.clone(), *epoch).unwrap_or_default();
        if *epoch < before {
            return Err(format!("epoch {epoch} of {pool} after {before}"));
        }
    }
    Ok(())
}
