//! What a request's try at a shard says about that shard.
//!
//! One place decides what counts: [`Outcome::verdict`]. What is left out on purpose:
//!
//! - **501, 505, 507** and **503 with `Retry-After`** are answers of a shard that works: it cannot
//!   do this, it is full, it asks for patience.
//! - **A 5xx before the client's body was fully sent** is as likely about the body as about the
//!   shard: many servers answer 500 to an upload that they do not want.
//! - **A body that breaks off after its head.** The client sees it; the shard's next connection
//!   tells us more than we could guess from it.

use std::ops::{Index, IndexMut};

use crate::ids::Token;

/// Which of a shard's two healths a request is evidence for. A full volume still reads well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Methods that change nothing: GET, HEAD, OPTIONS, PROPFIND …
    Read,
    /// All other methods.
    Write,
}

impl Class {
    /// Both, in the order in which they are shown.
    pub const ALL: [Class; 2] = [Class::Read, Class::Write];

    /// The class as a label has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// One value for reads and one for writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerClass<T> {
    /// What holds for reads.
    pub read: T,
    /// What holds for writes.
    pub write: T,
}

/// What `f` says of each class.
pub(super) fn per_class<T>(mut f: impl FnMut(Class) -> T) -> PerClass<T> {
    PerClass { read: f(Class::Read), write: f(Class::Write) }
}

impl<T> Index<Class> for PerClass<T> {
    type Output = T;
    fn index(&self, class: Class) -> &T {
        match class {
            Class::Read => &self.read,
            Class::Write => &self.write,
        }
    }
}

impl<T> IndexMut<Class> for PerClass<T> {
    fn index_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Read => &mut self.read,
            Class::Write => &mut self.write,
        }
    }
}

/// How one try at a shard went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Read or write.
    pub class: Class,
    /// Where the request's key is on the circle: tells one bad key from a bad shard.
    pub key: Token,
    /// When the try began. What began before the shard's last return says nothing about it now:
    /// a head that is waited for may time out after the ejection that its fellows caused.
    pub begun_ms: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of one try.
///
/// A kept-alive connection that turns out closed before a byte of the answer came is none of
/// these: shards close idle connections, and that race says nothing. The try is repeated on a new
/// connection, and *its* outcome is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The shard answered: a final head came.
    Answered {
        /// Its status.
        status: u16,
        /// Whether it bore `Retry-After`.
        retry_after: bool,
        /// Whether the client's whole body had been sent when the head came; true if it has none.
        body_fully_sent: bool,
    },
    /// No connection: refused, unreachable, timed out, or the name has no address.
    ConnectFailed,
    /// The connection broke, or said what is not HTTP, before a final head was there.
    Reset,
    /// No final head in time.
    HeadTimeout,
}

impl Outcome {
    /// An answer to a request whose body, if any, was fully sent, without `Retry-After`.
    #[must_use]
    pub fn answered(status: u16) -> Self {
        Self::Answered { status, retry_after: false, body_fully_sent: true }
    }

    /// Whether this is the plain good news that the request path may pass by quickly.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, Self::Answered { status, .. } if status < 500)
    }

    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self::ConnectFailed => Verdict::Failed(Failure::Connect),
            Self::Reset => Verdict::Failed(Failure::Reset),
            Self::HeadTimeout => Verdict::Failed(Failure::HeadTimeout),
            Self::Answered { status: ..=499, .. } => Verdict::Good,
            Self::Answered { status: 501 | 505 | 507, .. }
            | Self::Answered { status: 503, retry_after: true, .. }
            | Self::Answered { body_fully_sent: false, .. } => Verdict::Neutral,
            Self::Answered { status, .. } => Verdict::Failed(Failure::Status(status)),
        }
    }
}

/// What an outcome does to the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The shard did its work.
    Good,
    /// The shard answered, which proves that it can be reached, and nothing else.
    Neutral,
    /// Evidence against it.
    Failed(Failure),
}

/// What a request met that counts against the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection could be made.
    #[error("no connection")]
    Connect,
    /// The connection broke before the head of the answer.
    #[error("broken before the answer")]
    Reset,
    /// The head of the answer did not come in time.
    #[error("no answer in time")]
    HeadTimeout,
    /// The shard answered that it failed.
    #[error("status {0}")]
    Status(u16),
}

/// Why a probe did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// The shard's name has no address, or was not looked up in time.
    #[error("its name has no address")]
    Lookup,
    /// The connection was refused or the host is unreachable.
    #[error("no connection")]
    Connect,
    /// The connection was not made in time.
    #[error("no connection in time")]
    ConnectTimeout,
    /// It is there, and its certificate is not accepted, or it has no TLS: in a word.
    #[error("no TLS session ({0})")]
    Tls(&'static str),
    /// The answer was not complete in time.
    #[error("no answer in time")]
    AnswerTimeout,
    /// The connection broke, or what came is not an HTTP answer that we take.
    #[error("broken answer")]
    Broken,
    /// Answered, with a status that is not among the expected ones.
    #[error("status {0}")]
    Status(u16),
}

impl ProbeFailure {
    /// Whether there was no answer at all to judge.
    #[must_use]
    pub fn is_network(self) -> bool {
        !matches!(self, Self::Status(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_accuses_the_shard_counts() {
        let answered = |status, retry_after, body_fully_sent| {
            Outcome::Answered { status, retry_after, body_fully_sent }.verdict()
        };
        for status in [200, 204, 206, 304, 400, 403, 404, 409, 412, 416, 429, 499] {
            assert_eq!(answered(status, false, true), Verdict::Good, "{status}");
        }
        for status in [501, 505, 507] {
            assert_eq!(answered(status, false, true), Verdict::Neutral, "{status}");
        }
        for status in [500, 502, 503, 504, 599] {
            let failed = Verdict::Failed(Failure::Status(status));
            assert_eq!(answered(status, false, true), failed, "{status}");
            assert_eq!(answered(status, false, false), Verdict::Neutral, "{status}, body unsent");
        }
        assert_eq!(answered(503, true, true), Verdict::Neutral, "overload");
        assert_eq!(answered(500, true, true), Verdict::Failed(Failure::Status(500)));
    }
}
