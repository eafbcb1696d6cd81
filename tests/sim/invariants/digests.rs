//! One epoch of a pool has one ring, on whichever node.
//!
//! Source: DESIGN, section 1 (*epoch*) and section 3 (deterministic across machines).

use std::collections::BTreeMap;

use ringway::cluster::lease::RingReport;
use ringway::ids::{Digest, Epoch, PoolName};

use super::Checked;

#[derive(Debug, Default)]
pub struct Digests {
    seen: BTreeMap<(PoolName, Epoch), Digest>,
}

impl Digests {
    pub fn serves(&mut self, rings: &BTreeMap<PoolName, RingReport>) -> Checked {
        for (pool, ring) in rings {
            let seen = *self.seen.entry((pool.clone(), ring.epoch)).or_insert(ring.digest);
            if seen != ring.digest {
                return Err(format!(
                    "epoch {} of {pool} has the ring {seen} and the ring {}",
                    ring.epoch, ring.digest
                ));
            }
        }
        Ok(())
    }
}
