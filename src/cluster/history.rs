//! Who changed what, and when?

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::envelope::Actor;
use super::refusal::PoolEpochs;
use crate::ids::Revision;

/// Records that are kept of what somebody decided: years of most clusters, days of a busy one.
pub const HISTORY_MAX: usize = 1000;

/// Records that are kept of what nodes did by themselves, apart from the others, so that a shard
/// that comes and goes does not push out who removed the pool.
pub const ROUTINE_MAX: usize = 200;

/// Pools that one record names. A command that touches more than that says so in its summary.
const RECORD_POOLS_MAX: usize = 16;

/// One command that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Where the state stood afterwards.
    pub revision: Revision,
    /// The proposer's wall clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who gave it.
    pub actor: Actor,
    /// What it did, in a sentence for people. Releases may word it differently, so no two nodes'
    /// sentences are ever compared.
    pub summary: String,
    /// What became of the epochs of the pools that it touched, if any moved; the first few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub epochs: Vec<PoolEpochs>,
}

/// What was done lately.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    decided: VecDeque<Arc<Record>>,
    routine: VecDeque<Arc<Record>>,
}

impl History {
    pub(super) fn add(&mut self, routine: bool, mut record: Record) {
        record.epochs.retain(|pool| pool.before != pool.after);
        record.epochs.truncate(RECORD_POOLS_MAX);
        let (records, most) = if routine {
            (&mut self.routine, ROUTINE_MAX)
        } else {
            (&mut self.decided, HISTORY_MAX)
        };
        records.push_back(Arc::new(record));
        while records.len() > most {
            records.pop_front();
        }
    }

    /// All of it, the oldest first.
    pub(super) fn records(&self) -> Vec<Arc<Record>> {
        let mut records: Vec<_> = self.decided.iter().chain(&self.routine).cloned().collect();
        records.sort_by_key(|record| record.revision);
        records
    }
}
