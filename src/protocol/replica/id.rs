//! Which upload, and by whose view of the pool?

use std::fmt;
use std::str::FromStr;

use crate::ids::digits::{Text, read_hex, read_number};
use crate::ids::{Epoch, Generation, Incarnation, NodeId, Token};
use crate::version::Proposer;

/// Names one staged body on every replica that it is sent to: who staged it, and the how-manieth of
/// its own that was. Never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId {
    /// Who stages.
    pub proposer: Proposer,
    /// Counts from 1.
    pub sequence: u64,
}

/// A pool's epoch within the generation of its cluster. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PoolEpoch {
    /// Counts the rebirths of the cluster.
    pub generation: Generation,
    /// Counts the changes of the pool's replica sets.
    pub epoch: Epoch,
}

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not written as {form}")]
pub struct FormError {
    /// What was written, cut to what is worth showing.
    pub found: String,
    /// How it is written.
    pub form: &'static str,
}

impl FormError {
    fn new(found: &str, form: &'static str) -> Self {
        Self { found: found.chars().take(80).collect(), form }
    }
}

/// As long as a [`StageId`] is in digits, at most.
const STAGE_TEXT_BYTES: usize = 20 + 1 + 20 + 1 + 5 + 1 + 20;

/// As long as a [`PoolEpoch`] is in digits, at most.
const EPOCH_TEXT_BYTES: usize = 20 + 1 + 20;

impl StageId {
    /// As it is written.
    #[must_use]
    pub fn text(&self) -> Text<STAGE_TEXT_BYTES> {
        let Proposer { node, incarnation, worker } = self.proposer;
        let text = Text::default().number(node.0).with("-").number(incarnation.0).with("-");
        text.number(worker.into()).with("-").number(self.sequence)
    }
}

impl PoolEpoch {
    /// As it is written.
    #[must_use]
    pub fn text(&self) -> Text<EPOCH_TEXT_BYTES> {
        Text::default().number(self.generation.0).with(".").number(self.epoch.0)
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl FromStr for StageId {
    type Err = FormError;
    fn from_str(text: &str) -> Result<Self, FormError> {
        let parse = || {
            let mut parts = text.split('-');
            let mut number = || read_number(parts.next()?);
            let proposer = Proposer {
                node: NodeId(number()?),
                incarnation: Incarnation(number()?),
                worker: number()?.try_into().ok()?,
            };
            let id = Self { proposer, sequence: number()? };
            parts.next().is_none().then_some(id)
        };
        parse().ok_or_else(|| FormError::new(text, "NODE-INCARNATION-WORKER-SEQUENCE"))
    }
}

impl fmt::Display for PoolEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl FromStr for PoolEpoch {
    type Err = FormError;
    fn from_str(text: &str) -> Result<Self, FormError> {
        let parse = || {
            let (generation, epoch) = text.split_once('.')?;
            let generation = Generation(read_number(generation)?);
            Some(Self { generation, epoch: Epoch(read_number(epoch)?) })
        };
        parse().ok_or_else(|| FormError::new(text, "GENERATION.EPOCH"))
    }
}

/// Reads a token as it is printed.
///
/// # Errors
/// [`FormError`] for anything but 16 hexadecimal digits.
pub fn parse_token(text: &str) -> Result<Token, FormError> {
    let token = read_hex(text).map(|bytes| Token(u64::from_be_bytes(bytes)));
    token.ok_or_else(|| FormError::new(text, "16 hexadecimal digits"))
}
