//! What does `dispatch` need of a client?
//!
//! Two traits, one for each direction, implemented by `proxy` for the protocol that the client
//! speaks. They are apart because both directions move at once.

use super::trace::Trace;
use crate::drivers::http::Outbound;
use crate::ids::{Epoch, Token};
use crate::net::http1::chunked::ChunkError;
use crate::net::http1::framing::Framing;
use crate::net::http1::response::ResponseHead;
use crate::net::splice::{Pipe, Pipes};
use crate::net::wire::WireError;
use crate::protocol::health::Class;

/// One request, parsed, routed and rendered.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is sent to whichever shard is chosen.
    pub outbound: Outbound<'a>,
    /// Where its key is on the circle.
    pub token: Token,
    /// Read or write: which health counts, and whether it may go to another shard than the owner.
    pub class: Class,
    /// Whether sending it twice does what sending it once does.
    pub repeatable: bool,
    /// Whether HEAD was asked: the answer has no body.
    pub head_asked: bool,
    /// Whether interim answers may be passed on; HTTP/1.0 clients cannot take them.
    pub interim_wanted: bool,
    /// The largest body that is read before it is sent on, so that the request can be repeated.
    pub held_body_bytes_max: u64,
    /// Where WebDAV's COPY or MOVE puts its result.
    pub destination: Option<Token>,
    /// Where its tries are noted, if it is being recorded.
    pub trace: Option<&'a Trace>,
}

/// Why the client's body stopped.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection ended or broke before the body did.
    #[error("the client ended in the middle of its body")]
    Gone,
    /// Too long a silence, or a rate below the least.
    #[error("the client sent its body too slowly")]
    TooSlow,
    /// More bytes than allowed.
    #[error("the body is larger than allowed")]
    TooLarge,
    /// Malformed chunks or trailers.
    #[error(transparent)]
    Malformed(#[from] ChunkError),
}

/// The next part of a body.
#[derive(Debug)]
pub enum Part<'a> {
    /// Some bytes, at least one.
    Data(&'a [u8]),
    /// The end, with the trailer fields that go on, rendered.
    End(&'a [u8]),
}

/// The next bytes of a body, where whoever sends it on would rather have them in a pipe.
pub enum Passage {
    /// Some bytes, at least one.
    Piped(Pipe),
    /// The next part is to be copied, for want of a pipe.
    NoPipe,
    /// The next part is to be copied.
    Copied,
}

/// A request's body on its way in.
#[allow(async_fn_in_trait, reason = "one task drives it; nothing is sent to another thread")]
pub trait Body {
    /// The next part. After [`Part::End`] it is not called again.
    async fn next(&mut self) -> Result<Part<'_>, BodyError>;

    /// The next bytes in one of these pipes, if this body comes in that way; or else
    /// [`next`](Self::next) is to be called. May be called again after each part.
    async fn next_piped(&mut self, _pipes: &Pipes) -> Result<Passage, BodyError> {
        Ok(Passage::Copied)
    }

    /// Tells a client that waits for it to send its body (`100 Continue`). Does nothing if the
    /// client does not wait, or was told before.
    async fn ask(&mut self) -> Result<(), BodyError>;

    /// Whether more of it is here already, so that the next part comes without waiting.
    fn has_more_here(&self) -> bool;

    /// Whether all of it was read.
    fn is_complete(&self) -> bool;
}

/// The client cannot be told more: it is gone, or takes bytes too slowly.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ClientGone(#[from] WireError);

impl ClientGone {
    /// The connection is to be cut by us: what was sent cannot be completed.
    #[must_use]
    pub fn cut() -> Self {
        Self(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
    }
}

/// Who answered.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The id of the shard that gave the body; `None` if several did the work.
    pub shard: Option<&'a str>,
    /// The pool's epoch under which it was chosen.
    pub epoch: Epoch,
    /// Further fields of ours.
    pub fields: &'a [(&'static str, &'a str)],
}

impl<'a> About<'a> {
    /// One shard did the whole work.
    pub(super) fn of(shard: &'a str, epoch: Epoch) -> Self {
        Self { shard: Some(shard), epoch, fields: &[] }
    }
}

/// An answer on its way out: `interim*`, `head`, `data*`, `end`.
#[allow(async_fn_in_trait, reason = "one task drives it; nothing is sent to another thread")]
pub trait Answer {
    /// Passes an interim answer (1xx) on.
    async fn interim(&mut self, head: &ResponseHead, whole: &[u8]) -> Result<(), ClientGone>;

    /// Begins the final answer. Nothing need be sent before [`flush`](Self::flush), `data` or
    /// `end`. `upload_complete` is false if the client's body was not wholly read: its connection
    /// cannot be used again.
    fn head(
        &mut self,
        head: &ResponseHead,
        whole: &[u8],
        framing: Framing,
        about: &About<'_>,
        upload_complete: bool,
    );

    /// Sends what is held back.
    async fn flush(&mut self) -> Result<(), ClientGone>;

    /// Sends some bytes of the body.
    async fn data(&mut self, bytes: &[u8]) -> Result<(), ClientGone>;

    /// Whether bytes of the body may come in pipes: only where they go out as they are.
    fn takes_pipes(&self) -> bool {
        false
    }

    /// Sends the bytes that a pipe holds, as [`data`](Self::data) does. Only for an answer that
    /// [takes pipes](Self::takes_pipes), and after [`flush`](Self::flush).
    async fn piped(&mut self, _pipe: &mut Pipe) -> Result<(), ClientGone> {
        unreachable!("an answer that takes no pipes is given none")
    }

    /// Ends the answer; `trailers` are rendered field lines.
    async fn end(&mut self, trailers: &[u8]) -> Result<(), ClientGone>;
}
