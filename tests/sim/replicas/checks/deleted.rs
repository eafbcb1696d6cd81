//! What was deleted stays deleted: no read that began after an acknowledged deletion answers a value
//! that is older than it, and once a tombstone was dropped no replica takes what is older.
//!
//! Source: DESIGN, section 7. That histories are linearizable says the first as well; this one also
//! names the deletion.

use std::collections::BTreeMap;

use ringway::version::Version;

use crate::invariants::Checked;
use crate::replicas::store::{Key, Store};

#[derive(Debug, Default)]
pub struct Deleted {
    newest: BTreeMap<Key, Version>,
    /// The greatest tombstone of each key that some replica has dropped.
    dropped: BTreeMap<Key, Version>,
}

impl Deleted {
    pub fn acknowledged(&mut self, key: Key, version: Version) {
        let newest = self.newest.entry(key).or_default();
        *newest = (*newest).max(version);
    }

    /// What a read that begins now may not answer any more.
    pub fn until_now(&self, key: Key) -> Version {
        self.newest.get(&key).copied().unwrap_or_default()
    }

    pub fn collected(&mut self, key: Key, version: Version) {
        let dropped = self.dropped.entry(key).or_default();
        *dropped = (*dropped).max(version);
    }

    pub fn check(&self, store: &Store) -> Checked {
        for (key, dropped) in &self.dropped {
            let held = store.disk.records.get(key).filter(|record| record.version < *dropped);
            if let Some(record) = held {
                let version = record.version;
                return Err(format!("key {key} was collected at {dropped}, and {version} is back"));
            }
        }
        Ok(())
    }

    pub fn answered(key: Key, value: Version, deleted_before: Version) -> Checked {
        if value > deleted_before {
            return Ok(());
        }
        Err(format!("key {key} was deleted at {deleted_before}, and read at {value} later"))
    }
}
