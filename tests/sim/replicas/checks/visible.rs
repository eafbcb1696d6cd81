//! What was acknowledged at `quorum` is on the disks of a majority, at that version or newer.
//!
//! Source: DESIGN, section 7. Any majority that a read asks then has one replica that shows it,
//! whatever is killed meanwhile. It is looked at when a write is acknowledged, at each kill, and at
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

    pub fn check(&self, stores: &[Store]) -> Checked {
        for (key, version) in &self.acknowledged {
            let having = stores.iter().filter(|store| store.disk.held(*key).newest() >= *version);
            let having = having.count();
            if having < majority(stores.len()) {
                return Err(format!(
                    "{version} of key {key} was acknowledged, and {having} of {} have it",
                    stores.len()
                ));
            }
        }
        Ok(())
    }
}
