//! What was deleted stays deleted: no read that began after an acknowledged deletion answers a value
//! that is older than it.
//!
//! Source: DESIGN, section 7. That histories are linearizable says as much; this one also names the
//! deletion.

use std::collections::BTreeMap;

use ringway::version::Version;

use crate::invariants::Checked;
use crate::replicas::store::Key;

#[derive(Debug, Default)]
pub struct Deleted {
    newest: BTreeMap<Key, Version>,
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

    pub fn answered(key: Key, value: Version, deleted_before: Version) -> Checked {
        if value > deleted_before {
            return Ok(());
        }
        Err(format!("key {key} was deleted at {deleted_before}, and read at {value} later"))
    }
}
