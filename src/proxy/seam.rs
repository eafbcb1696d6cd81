//! What does an exchange need of the protocol that its client speaks?
//!
//! `dispatch::seam` says what is needed to carry a request out; here is what is needed beside it
//! to answer, count and log. HTTP/1.1 and HTTP/2 implement both; nothing else in this room knows
//! which of them it is.

use std::task::{Context, Poll};

use super::problem::{Problem, ProblemAbout};
use crate::dispatch::seam::{Answer, Body, ClientGone};

/// The version of HTTP in which a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http10,
    Http11,
    Http2,
}

impl Version {
    /// HTTP/1.`minor`.
    pub(super) fn of_minor(minor: u8) -> Self {
        if minor == 0 { Self::Http10 } else { Self::Http11 }
    }

    /// As the access log has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }

    /// As `Via` has it (RFC 9110, section 7.6.3).
    pub(super) fn number(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2.0",
        }
    }

    /// Whether its clients understand interim answers and trailers.
    pub(super) fn has_extras(self) -> bool {
        self != Self::Http10
    }
}

/// A request's body that tells how much of it came.
pub(super) trait Upload: Body {
    /// Bytes of content read so far.
    fn received(&self) -> u64;
}

/// Tells when a client has given a request up that it waits for, so that no shard works for nobody.
/// HTTP/1.1 has no word for it but the connection's end, which is seen when the answer is written.
pub(super) trait Watch {
    /// Ready when it has; the task is woken then.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Watch for () {
    fn poll_gone(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// An answer that can also be one of ours, and that tells what became of it.
#[allow(async_fn_in_trait, reason = "one task drives it; nothing is sent to another thread")]
pub(super) trait Reply: Answer {
    /// See [`Watch`].
    type Watch<'w>: Watch
    where
        Self: 'w;

    /// Tells of a client that gives this request up.
    fn watch<'w>(&self) -> Self::Watch<'w>
    where
        Self: 'w;

    /// The version that the client spoke.
    fn version(&self) -> Version;

    /// The status sent, or being sent; 0 before there is any.
    fn status(&self) -> u16;

    /// Bytes of content sent.
    fn sent(&self) -> u64;

    /// Whether a byte of the final answer was handed to the connection.
    fn has_begun(&self) -> bool;

    /// Whether the client took the answer so slowly that it was given up.
    fn was_too_slow(&self) -> bool;

    /// Answers with a problem, in place of anything that did not begin. `upload_complete` is as in
    /// [`Answer::head`].
    async fn problem(
        &mut self,
        problem: &Problem,
        about: &ProblemAbout<'_>,
        upload_complete: bool,
    ) -> Result<(), ClientGone>;

    /// Answers `OPTIONS *` and the like: a status with fields and no content.
    async fn plain(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        upload_complete: bool,
    ) -> Result<(), ClientGone>;
}
