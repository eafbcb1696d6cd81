//! No lease is granted to a node that reports an epoch below a barrier that has passed.
//!
//! Source: DESIGN, section 5, rule 8; the fault it prevents is V3 of the model checking notes. It
//! holds of every leader, deposed ones included: their grants are over before a successor passes a
//! barrier (rules 3 and 4).

use std::collections::BTreeMap;

use ringway::ids::{Epoch, PoolName};

use super::Checked;

#[derive(Debug, Default)]
pub struct Floors {
    passed: BTreeMap<PoolName, Epoch>,
}

impl Floors {
    pub fn barrier_passed(&mut self, pool: &PoolName, epoch: Epoch) {
        let passed = self.passed.entry(pool.clone()).or_default();
        *passed = (*passed).max(epoch);
    }

    pub fn pool_removed(&mut self, pool: &PoolName) {
        self.passed.remove(pool);
    }

    pub fn granted(&self, reported: &BTreeMap<PoolName, Epoch>) -> Checked {
        for (pool, barrier) in &self.passed {
            let epoch = reported.get(pool).copied().unwrap_or_default();
            if epoch < *barrier {
                return Err(format!(
                    "a lease was granted for epoch {epoch} of {pool}, whose barrier stands at \
                     {barrier}"
                ));
            }
        }
        Ok(())
    }
}
