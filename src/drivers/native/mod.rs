//! How is a store spoken to that keeps one of several copies?
//!
//! By the replica protocol, whose words are [`protocol::replica`](crate::protocol::replica): HTTP/1.1
//! over connections that are kept alive. Every request says for which cluster, epoch and store it is
//! meant, so that a store never does what was meant for another, and refuses who has been left
//! behind; every answer says who gave it, and one of another store is never used.
//!
//! ```text
//! Replica (where, and as whom) ── Ask (what) ──▶ Line (one exchange) ──▶ Facts (what the head says)
//!        └──▶ stage, commit, put, delete, head, get, … each with an answer of its own type
//! ```
//!
//! What went wrong is told by what may have happened ([`Fault`]): nothing was sent, the store
//! refused and did nothing, or it may have been done. A kept-alive connection that was closed under
//! a request is no fault: all requests of the protocol may be repeated (a stage has an id, a write
//! a version), so what is still held is sent again on a new connection, once.
//!
//! Nothing is decided here. Which replicas are asked, and what their answers mean together, is for
//! `protocol` and `dispatch`; and nothing here depends on who asks: a worker for a client, or a
//! background loop with timers and connections of its own.

mod ask;
mod calls;
mod facts;
mod fault;
mod kept;
mod line;
mod pages;
#[cfg(test)]
mod tests;
mod upload;

pub use calls::{
    Committal, Committed, Fetch, Got, Held, Lost, Origin, Replica, Staged, Times, Value,
};
pub use fault::{Doubt, Fault, Refused};
pub use kept::{KEPT_BYTES_MAX, KEPT_NAME_BYTES_MAX, is_kept};
pub use line::Means;
pub use upload::{Upload, syncing};
