//! How does one node ask another?
//!
//! One request, one whole answer, over HTTP/1.1 on kept connections: what Raft, leases and
//! forwarded commands need, and what an operator can still watch with ordinary tools. Both sides
//! are hyper; a node speaks to at most 64 others a few dozen times a second, so a clear program
//! counts more here than a microsecond, and HTTP/2 made no difference that could be measured.
//!
//! ```text
//! PeerClient::call ─ pool ─ Dial ─ TLS ─ hyper ══════ hyper ─ TLS ─ Accept ─ serve ─ PeerHandler
//! ```
//!
//! What holds:
//! 1. Everything is bounded: a body, all bodies together, a head, a wait, connections to one
//!    address and from one. No body is read before its handler has admitted who sends it.
//! 2. A request is sent again by itself only when hyper hands it back unsent. Whatever else breaks
//!    is told as it is: [`CallError::is_surely_unsent`].
//! 3. Each request names the cluster and generation it is meant for ([`Introduction`]), so that a
//!    node of another cluster at a reused address refuses it instead of believing it.
//! 4. Sockets are behind [`Dial`] and [`Accept`], with a twin in a simulated network, so that what
//!    runs on a simulated day of crashes is this code and not a copy of it.
//!
//! This room does not know what the messages say.

mod body;
mod client;
mod message;
mod pool;
mod server;
#[cfg(test)]
pub(crate) mod simulated;
mod socket;
#[cfg(test)]
mod tests;

pub use body::BODY_BYTES_MAX;
pub use client::{CallError, PeerClient};
pub use message::{Introduction, PROTOCOL, PeerAnswer, PeerRequest};
pub use server::{PeerHandler, serve};
pub use socket::{Accept, Dial, Stream, TcpDial, TcpPeers};
