//! What was acknowledged at `quorum` is on the disks of a majority, at that version or newer: of the
//! replicas that a version round counts, too few lack it to be a majority.
//!
//! Source: DESIGN, section 7. Any majority that a read asks then has one replica that shows it,
//! whatever is killed meanwhile. A replica that replaced another and is not filled is not counted. It is looked at when a write is acknowledged, at each kill, and at
//! the end.

use std::collections::BTreeMap;

use ringway::protocol::quorum::majority;
use ringway::version::Version;

use crate::invariants::Checked;
use crate::replicas::store::{Key, Store};

#[derive(Debug, Default)]
pub struct Visible {
    acknowledged: BTreeMap<Key, Version>,
}

impl Visible {
    pub fn acknowledged(&mut self, key: Key, version: Version) {
        let newest = self.acknowledged.entry(key).or_default();
        *newest = (*newest).max(version);
    }

    pub fn check(&self, stores: &[Store], fresh: Option<usize>) -> Checked {
        for (key, version) in &self.acknowledged {
            let lacks = |at: &usize| stores[*at].disk.held(*key).newest() < *version;
            let counted = (0..stores.len()).filter(|at| fresh != Some(*at));
            let lacking = counted.filter(lacks).count();
            if lacking >= majority(stores.len()) {
                return Err(format!(
                    "{version} of key {key} was acknowledged, and {lacking} of {} lack it",
                    stores.len()
                ));
            }
        }
        Ok(())
    }
}
