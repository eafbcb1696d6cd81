//! Each committed command is applied exactly once, in the same order, with the same outcome, on
//! every node; and a command that stands in the log twice takes effect once.
//!
//! Source: DESIGN, section 5 (commands have ids; apply is deterministic).

use std::collections::BTreeSet;

use ringway::cluster::{Applied, ClusterState, Refusal};
use ringway::ids::{CommandId, Revision};

use super::Checked;
use crate::group::Entry;

/// The state after each entry, as one who applies at once has it.
#[derive(Debug, Default)]
pub struct Log {
    state: ClusterState,
    revisions: Vec<Revision>,
    effective: BTreeSet<CommandId>,
}

impl Log {
    /// An entry is committed. Answers what it does.
    pub fn committed(&mut self, entry: &Entry) -> Result<Option<Result<Applied, Refusal>>, String> {
        let at = Revision(u64::try_from(self.revisions.len() + 1).expect("logs are short"));
        let outcome = entry.envelope.as_ref().map(|envelope| self.state.apply(at, envelope));
        self.revisions.push(self.state.revision());
        let id = entry.envelope.as_ref().and_then(|envelope| envelope.id);
        if let (Some(id), Some(Ok(applied))) = (id, &outcome)
            && !applied.repeated
            && !self.effective.insert(id)
        {
            return Err(format!("command {id:?} took effect twice"));
        }
        Ok(outcome)
    }

    /// The state after everything that is committed.
    pub fn state(&self) -> &ClusterState {
        &self.state
    }

    /// How long the log is.
    pub fn len(&self) -> usize {
        self.revisions.len()
    }

    /// A process has applied the log up to `upto`.
    pub fn applied(&self, upto: usize, state: &ClusterState) -> Checked {
        let expected = upto.checked_sub(1).and_then(|last| self.revisions.get(last));
        if expected.is_some_and(|revision| *revision != state.revision()) {
            return Err(format!(
                "after {upto} entries one process is at revision {}",
                state.revision()
            ));
        }
        if upto == self.revisions.len() && *state != self.state {
            return Err(format!("after {upto} entries two processes differ in what is agreed"));
        }
        Ok(())
    }
}
