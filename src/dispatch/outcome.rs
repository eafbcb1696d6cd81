//! What became of a request, or of one try of it?
//!
//! A `TryError` is about one shard, a [`Failure`] about the request; `run` makes one of the other
//! and decides in between what may be repeated.

use super::seam::{BodyError, ClientGone};
use crate::level::Level;
use crate::net::tls::ShardRefused;
use crate::net::upstream::ConnectError;
use crate::protocol::quorum::Reason;
use crate::protocol::replica::Refusal;
use crate::version::Version;

/// Why a request was not answered by a shard.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No shard looks able to answer.
    #[error("no shard of the pool can be asked")]
    NoneHealthy,
    /// The shard that owns the key is down, and nobody else may take the write.
    #[error("the shard that owns the key is down")]
    OwnerDown,
    /// COPY or MOVE between keys of different shards.
    #[error("the destination belongs to another shard")]
    CrossShard,
    /// All of the shard's places were taken for too long.
    #[error("the shard has too many requests in flight")]
    Overflow,
    /// No connection to the shard.
    #[error("the shard cannot be reached: {0}")]
    Connect(#[source] ConnectError),
    /// The connection broke before an answer came.
    #[error("the connection to the shard broke before an answer came")]
    Reset,
    /// No answer in time.
    #[error("the shard did not answer in time")]
    HeadTimeout,
    /// What the shard sent cannot be understood.
    #[error("the shard's answer cannot be understood: {0}")]
    BadAnswer(&'static str),
    /// 502, 503 or 504, which another shard was to make good, and the retry budget was used up.
    #[error("the shard answered {0}")]
    GatewayError(u16),
    /// The request as a whole took too long.
    #[error("the request took longer than allowed")]
    RequestTimeout,
    /// The client's body stopped.
    #[error(transparent)]
    Body(BodyError),
    /// The client is gone, or takes its answer too slowly.
    #[error("the client is gone")]
    ClientGone,
    /// The answer broke off after it had begun.
    #[error("the shard's answer broke off")]
    AnswerBroke,
    /// On a pool that keeps data.
    #[error(transparent)]
    Kept(#[from] KeptFailure),
}

/// Why a request was not answered by a pool that keeps data.
#[derive(Debug, thiserror::Error)]
pub enum KeptFailure {
    /// It is not done and never will be. Perhaps a store said why it did not take part.
    #[error("not applied: {0}")]
    NotApplied(Reason, Option<Refusal>),
    /// It may be done, now or later.
    #[error("what became of it is not known: {0}")]
    Unknown(Reason),
    /// The client's body stopped before anything was decided.
    #[error(transparent)]
    Body(BodyError),
    /// The pool's stores are not bound yet, or its first write is not agreed yet.
    #[error("the pool does not take writes yet")]
    NotReady,
    /// No replica gave what was looked for.
    #[error("no replica could be read")]
    NoReplica,
    /// There is no such key; with what is told of the level.
    #[error("there is no such key")]
    NotFound(String),
    /// A condition of a read does not hold.
    #[error("a condition does not hold")]
    ConditionFailed,
    /// The range lies outside the value, which has so many bytes.
    #[error("the range lies outside the value")]
    OutsideRange(u64),
}

impl Failure {
    /// Whether a shard may have carried the request out, as far as this failure tells.
    pub(super) fn may_have_been_applied(&self) -> bool {
        match self {
            Self::NoneHealthy
            | Self::OwnerDown
            | Self::CrossShard
            | Self::Overflow
            | Self::Connect(_) => false,
            Self::Kept(failure) => matches!(failure, KeptFailure::Unknown(_)),
            Self::Reset
            | Self::HeadTimeout
            | Self::BadAnswer(_)
            | Self::GatewayError(_)
            | Self::RequestTimeout
            | Self::Body(_)
            | Self::ClientGone
            | Self::AnswerBroke => true,
        }
    }
}

/// What is remembered of a request for its log line.
#[derive(Default)]
pub struct Note {
    /// The shard asked last: its place in the pool.
    pub shard: Option<usize>,
    /// Its status, 0 if it gave none.
    pub upstream_status: u16,
    /// How often a shard was asked.
    pub attempts: u32,
    /// Whether the last shard was another than the key's owner.
    pub spilled: bool,
    /// Whether the shard asked last has the whole request and owes the head of its answer.
    pub owes_head: bool,
    /// Whether further tries were allowed by everything but the limits.
    pub retries_exhausted: bool,
    /// How strong it was, on a pool that keeps copies.
    pub kept: Option<KeptNote>,
    /// Which shards could not do their part, since when and why, if it failed for their sake.
    pub away: Option<String>,
}

/// What is remembered of a request to a pool that keeps copies.
#[derive(Debug, Clone, Copy)]
pub struct KeptNote {
    /// The level that it asked for.
    pub asked: Level,
    /// The level that was reached; `None` if that was not.
    pub achieved: Option<Level>,
    /// Of a write, how many replicas had acknowledged it when the client was told; of a read, how
    /// many had told what they hold.
    pub acks: usize,
    /// How many there are.
    pub replicas: usize,
    /// The version that was written or read, as far as there was one.
    pub version: Option<Version>,
}

impl Note {
    /// So many replicas have done their part, for this version.
    pub(super) fn reached(&mut self, acks: usize, version: Option<Version>) {
        if let Some(kept) = &mut self.kept {
            (kept.acks, kept.version) = (acks, version);
        }
    }
}

/// Why a try brought no whole answer to the client. But for [`AnswerBroke`](Self::AnswerBroke) and
/// [`Client`](Self::Client), nothing of an answer has reached it.
#[derive(Debug, thiserror::Error)]
pub(super) enum TryError {
    /// The connection broke before the answer's head was complete.
    #[error("the connection broke before an answer came")]
    Reset,
    /// The shard will not have this node's certificate, and took nothing of the request.
    #[error(transparent)]
    Untrusted(ShardRefused),
    /// The connection broke between the answer's head and its body.
    #[error("the connection broke before the answer's body came")]
    BodyMissing,
    /// No head in time.
    #[error("no answer in time")]
    HeadTimeout,
    /// What came is no answer.
    #[error("the answer cannot be understood: {0}")]
    BadAnswer(&'static str),
    /// 502, 503 or 504, and the request may be tried on another shard.
    #[error("the shard answered {0}")]
    GatewayError(u16),
    /// The client's body stopped.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The client is gone.
    #[error(transparent)]
    Client(#[from] ClientGone),
    /// The answer had begun and broke off.
    #[error("the connection broke in the middle of the answer")]
    AnswerBroke,
}
