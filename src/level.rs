//! How strong must one request be?
//!
//! A [`Level`] is asked for in `Ringway-Consistency`, or is the pool's own. It stands on the lowest
//! floor because the agreed state, the file and the protocol all speak of it. What a level needs of
//! the replicas is counted in `protocol::quorum`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most replicas that a pool may keep: sets of them are held in 16 bits, and nobody has asked
/// for more than seven.
pub const REPLICAS_MAX: usize = 16;

/// How many replicas must have done what a request asks before its success is told.
///
/// `serial` is not among them: it is what register pools give, and no replicated pool can.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Any one replica. A read may be stale, and two writes at once are ordered by clocks.
    One,
    /// More than half. Reads and writes at this level are linearizable for each key.
    #[default]
    Quorum,
    /// Every replica; else as `Quorum`.
    All,
}

/// A word that is no level of a replicated pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no level of a replicated pool: use `one`, `quorum` or `all`")]
pub struct LevelError {
    /// What was written, cut to what is worth showing.
    pub found: String,
}

impl Level {
    /// Every level, the weakest first.
    pub const EVERY: [Level; 3] = [Level::One, Level::Quorum, Level::All];

    /// As it is written in `Ringway-Consistency` and in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Quorum => "quorum",
            Self::All => "all",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = LevelError;

    /// Reads what [`Display`](fmt::Display) writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, LevelError> {
        Self::EVERY
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| LevelError { found: text.chars().take(40).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written() {
        for level in Level::EVERY {
            assert_eq!(level.to_string().parse(), Ok(level));
            let quoted = format!("\"{level}\"");
            assert_eq!(serde_json::to_string(&level).expect("a plain word"), quoted);
        }
        for other in ["", "One", "QUORUM", "serial", " one", "quorum;acks=2", "two"] {
            assert!(other.parse::<Level>().is_err(), "{other:?}");
        }
    }
}
