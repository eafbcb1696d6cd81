//! Was this proposal applied before?
//!
//! A proposer that hears no answer proposes again, and both copies may be in the log, in either
//! order, with a change of leader between them. So every answer is remembered under its number,
//! refusals too: a copy must not succeed where the first was refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::refusal::{Applied, Refusal};
use crate::ids::{CommandId, Incarnation, NodeId};

/// How many numbers back a proposal may still be repeated. A proposer has fewer than that under
/// way at once, or hears that its command is [`Refusal::Superseded`].
pub const WINDOW_MAX: u64 = 256;

/// How many pools all remembered answers of one node may name together, one being counted for each
/// answer besides. Few commands touch more than one; those that touch hundreds make the window
/// shorter.
const REMEMBERED_MAX: usize = 1024;

/// What one start of a node has proposed lately.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    /// Which start.
    incarnation: Incarnation,
    /// Numbers up to this one are forgotten.
    forgotten: u64,
    /// The answers, by number; all numbers are above `forgotten`.
    answers: BTreeMap<u64, Result<Applied, Refusal>>,
}

/// What is known of a proposal.
pub(super) enum Seen {
    /// Nothing: it is to be applied.
    Never,
    /// What was answered.
    Before(Result<Applied, Refusal>),
}

impl Session {
    pub(super) fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, ..Self::default() }
    }

    /// # Errors
    /// [`Refusal::Superseded`] when nothing can be known any more.
    pub(super) fn look_up(&self, id: &CommandId) -> Result<Seen, Refusal> {
        if id.incarnation != self.incarnation || id.sequence <= self.forgotten {
            return Err(Refusal::Superseded);
        }
        Ok(self
            .answers
            .get(&id.sequence)
            .map_or(Seen::Never, |answer| Seen::Before(answer.clone())))
    }

    /// Remembers an answer to a proposal that was never seen.
    pub(super) fn remember(&mut self, sequence: u64, answer: Result<Applied, Refusal>) {
        self.answers.insert(sequence, answer);
        let highest = self.answers.last_key_value().map_or(0, |(highest, _)| *highest);
        self.forget_to(highest.saturating_sub(WINDOW_MAX));
        let weight = |answer: &Result<Applied, Refusal>| {
            1 + answer.as_ref().map_or(0, |applied| applied.pools.len())
        };
        let mut remembered: usize = self.answers.values().map(weight).sum();
        while remembered > REMEMBERED_MAX {
            // The answer that was just given stays, however large.
            let Some((&lowest, answer)) = self.answers.first_key_value() else { return };
            if self.answers.len() == 1 {
                return;
            }
            remembered -= weight(answer);
            self.forget_to(lowest);
        }
    }

    fn forget_to(&mut self, number: u64) {
        self.forgotten = self.forgotten.max(number);
        while self.answers.first_key_value().is_some_and(|(lowest, _)| *lowest <= self.forgotten) {
            self.answers.pop_first();
        }
    }
}

/// The sessions of all nodes.
pub(super) type Sessions = BTreeMap<NodeId, std::sync::Arc<Session>>;
