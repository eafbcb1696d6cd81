//! Which upload, and by whose view of the pool?

use std::fmt;
use std::str::FromStr;

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

/// Reads a number in its one spelling.
fn number<T: FromStr>(text: Option<&str>) -> Option<T> {
    let text = text?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let spare = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| plain && !spare)
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proposer { node, incarnation, worker } = self.proposer;
        write!(f, "{node}-{incarnation}-{worker}-{}", self.sequence)
    }
}

impl FromStr for StageId {
    type Err = FormError;
    fn from_str(text: &str) -> Result<Self, FormError> {
        let parse = || {
            let mut parts = text.split('-');
            let proposer = Proposer {
                node: NodeId(number(parts.next())?),
                incarnation: Incarnation(number(parts.next())?),
                worker: number(parts.next())?,
            };
            let id = Self { proposer, sequence: number(parts.next())? };
            parts.next().is_none().then_some(id)
        };
        parse().ok_or_else(|| FormError::new(text, "NODE-INCARNATION-WORKER-SEQUENCE"))
    }
}

impl fmt::Display for PoolEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.epoch)
    }
}

impl FromStr for PoolEpoch {
    type Err = FormError;
    fn from_str(text: &str) -> Result<Self, FormError> {
        let parse = || {
            let (generation, epoch) = text.split_once('.')?;
            let generation = Generation(number(Some(generation))?);
            Some(Self { generation, epoch: Epoch(number(Some(epoch))?) })
        };
        parse().ok_or_else(|| FormError::new(text, "GENERATION.EPOCH"))
    }
}

/// Reads a token as it is printed.
///
/// # Errors
/// [`FormError`] for anything but 16 hexadecimal digits.
pub fn parse_token(text: &str) -> Result<Token, FormError> {
    let plain = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let token = u64::from_str_radix(text, 16).ok().filter(|_| plain);
    token.map(Token).ok_or_else(|| FormError::new(text, "16 hexadecimal digits"))
}
