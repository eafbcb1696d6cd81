//! What may have happened when a store did not do what it was asked?

use crate::ids::StoreId;
use crate::net::upstream::ConnectError;
use crate::protocol::replica::{PoolEpoch, Refusal};

/// Why a request to a store did not bring the answer that it was sent for.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No connection: nothing was sent.
    #[error("the store cannot be reached: {0}")]
    NotSent(#[source] ConnectError),
    /// The store did nothing.
    #[error("the store refused: {0}")]
    Refused(#[from] Refused),
    /// It may have been done.
    #[error("what became of it is not known: {0}")]
    Unsure(#[from] Doubt),
}

impl Fault {
    /// Whether what was asked has certainly not been done, and will not be.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        !matches!(self, Self::Unsure(_))
    }
}

/// Why a store did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is another store than the one that the shard is bound to.
    #[error("another store than that of the shard answers there")]
    Foreign(Option<StoreId>),
    /// It has been told of a later epoch.
    #[error("it has been told of epoch {0}")]
    StaleEpoch(PoolEpoch),
    /// In its own words.
    #[error("{0}")]
    Said(Refusal),
    /// No store that speaks the replica protocol, or of another release.
    #[error("it answered {0}")]
    Status(u16),
}

/// Why it is not known whether a request was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The connection broke before the answer was complete.
    #[error("the connection broke")]
    Broke,
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// What came is not an answer.
    #[error("the answer cannot be understood: {0}")]
    BadAnswer(&'static str),
    /// The store does not know itself: its disk failed.
    #[error("the store does not know either")]
    Store,
}
