//! When faults are over, all replicas come to hold the same.
//!
//! Source: DESIGN, section 7 (newest wins, hints, anti-entropy). A tombstone that some have dropped
//! and others have not is the same deletion. Of a value whose bytes nobody has any more all know, but
//! for those that have kept an older one.

use std::collections::BTreeSet;

use ringway::protocol::holding::Held;
use ringway::version::Version;

use crate::invariants::Checked;
use crate::replicas::store::{Key, Store};

pub fn converged(stores: &[Store]) -> Checked {
    let keys: BTreeSet<Key> =
        stores.iter().flat_map(|store| store.disk.records.keys().copied()).collect();
    for key in keys {
        let held: Vec<Held> = stores.iter().map(|store| store.disk.held(key)).collect();
        let newest = held.iter().filter_map(|held| held.record()).max();
        let is_lost = newest.is_some() && !held.iter().any(|held| held.whole() == newest);
        if is_lost {
            let is_right = |held: &Held| match held {
                Held::Damaged(version) => Some(*version) == newest,
                held => matches!(held, Held::Value(_)),
            };
            if !held.iter().all(is_right) {
                let held: Vec<String> = held.iter().map(told).collect();
                return Err(format!(
                    "after healing, lost key {key} is held as {}",
                    held.join(", ")
                ));
            }
            continue;
        }
        let values: BTreeSet<Option<Version>> = held
            .iter()
            .map(|held| match held {
                Held::Value(version) => Some(*version),
                Held::Tombstone(_) | Held::Damaged(_) | Held::Absent { .. } => None,
            })
            .collect();
        if values.len() > 1 {
            let held: Vec<String> = held.iter().map(told).collect();
            return Err(format!("after healing, key {key} is held as {}", held.join(", ")));
        }
    }
    Ok(())
}

fn told(held: &Held) -> String {
    match held {
        Held::Value(version) => version.to_string(),
        Held::Tombstone(version) => format!("tombstone {version}"),
        Held::Damaged(version) => format!("damaged {version}"),
        Held::Absent { watermark } => format!("nothing above {watermark}"),
    }
}
