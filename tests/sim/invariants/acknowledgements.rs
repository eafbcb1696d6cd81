//! No operation is acknowledged under an epoch after a later one's barrier has passed.
//!
//! Source: DESIGN, section 5, "why this suffices". This is what leases are for: whoever begins to
//! copy when the barrier has passed sees every acknowledged write. Of a pool that was removed nothing
//! is promised any more; one that is made anew under its name has later epochs. The moment of an acknowledgement
//! is that of the last look at the lease; a barrier passes when its command is committed.

use std::collections::BTreeMap;

use ringway::ids::{Epoch, PoolName};

use super::Checked;

#[derive(Debug, Default)]
pub struct Acknowledgements {
    passed: BTreeMap<PoolName, (Epoch, u64)>,
}

impl Acknowledgements {
    pub fn barrier_passed(&mut self, now_us: u64, pool: &PoolName, epoch: Epoch) {
        let passed = self.passed.entry(pool.clone()).or_default();
        if passed.0 < epoch {
            *passed = (epoch, now_us);
        }
    }

    pub fn pool_removed(&mut self, pool: &PoolName) {
        self.passed.remove(pool);
    }

    pub fn acknowledged(&self, pool: &PoolName, epoch: Epoch) -> Checked {
        match self.passed.get(pool) {
            Some((barrier, since_us)) if epoch < *barrier => Err(format!(
                "an operation of epoch {epoch} of {pool} was acknowledged, though the barrier of \
                 epoch {barrier} had passed at {since_us} us"
            )),
            _ => Ok(()),
        }
    }
}
