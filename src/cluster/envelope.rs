//! How does a command stand in the log?

use std::fmt;

use serde::{Deserialize, Serialize};

use super::command::Command;
use crate::ids::CommandId;

/// The longest actor: two names and a few words.
pub const ACTOR_BYTES_MAX: usize = 160;

/// Who gave a command, for people: `admin@n1 (ada)`, `steward@n2`. Printable ASCII, not empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Actor(String);

/// Why a text names no actor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an actor is named by 1 to {ACTOR_BYTES_MAX} printable ASCII characters")]
pub struct ActorError;

impl Actor {
    /// Checks `text` and makes it an actor.
    ///
    /// # Errors
    /// [`ActorError`] when it is empty, too long, or has other characters.
    pub fn new(text: &str) -> Result<Self, ActorError> {
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if text.is_empty() || text.len() > ACTOR_BYTES_MAX || !printable {
            return Err(ActorError);
        }
        Ok(Self(text.to_owned()))
    }

    /// What is left of `text` when each character that may not stand is a `?` and what is too much
    /// is cut off: for names that users bring.
    #[must_use]
    pub fn tamed(text: &str) -> Self {
        let tame = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
        let mut tamed: String = text.chars().take(ACTOR_BYTES_MAX).map(tame).collect();
        if tamed.is_empty() {
            tamed.push('?');
        }
        Self(tamed)
    }

    /// The actor as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Actor {
    type Error = ActorError;
    fn try_from(text: String) -> Result<Self, ActorError> {
        Self::new(&text)
    }
}

impl From<Actor> for String {
    fn from(actor: Actor) -> String {
        actor.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A command with all that the log keeps of how it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Makes it apply once, however often it is in the log. `None` for commands that may be given
    /// twice without harm: [`Command::Found`], [`Command::AddNode`], [`Command::BeginIncarnation`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// Who gave it.
    pub actor: Actor,
    /// The proposer's wall clock, in milliseconds since 1970. It is shown, and nothing is decided
    /// by it.
    pub at_ms: u64,
    /// What shall be done.
    pub command: Command,
}

/// The first byte of an encoded envelope: which encoding follows.
const VERSION: u8 = 1;

/// Why bytes are no envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// There is nothing.
    #[error("an entry of the log is empty")]
    Empty,
    /// They are of a later release.
    #[error("an entry of the log is written in encoding {0}, which this release does not know")]
    Version(u8),
    /// They cannot be read.
    #[error("an entry of the log cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Envelope {
    /// The envelope as bytes, to be persisted: one byte that says how, then JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, self).expect("names, numbers and texts are always JSON");
        bytes
    }

    /// The envelope that [`encode`](Self::encode) made bytes of, in this release or an earlier one.
    ///
    /// # Errors
    /// [`EnvelopeError`] for bytes that are none. What this release does not know is refused: a
    /// node that passed over it would hold another state than its peers.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        match bytes.split_first() {
            None => Err(EnvelopeError::Empty),
            Some((&VERSION, json)) => Ok(serde_json::from_slice(json)?),
            Some((&version, _)) => Err(EnvelopeError::Version(version)),
        }
    }
}
