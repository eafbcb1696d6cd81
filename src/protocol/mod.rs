//! What must be said to whom, and what do the answers mean?
//!
//! Pure machines: each takes inputs and the time as arguments and returns what follows from them.
//! No socket, task, clock or random source is known here; `dispatch` and `background` bring those.
//! The two values that many threads share ([`health::SharedHealth`] and [`retry::RetryBudget`])
//! are atomics and at most one lock, never a wait for anything outside.
//!
//! Replicated pools, from the count of replies upwards:
//!
//! | module | what it decides |
//! |---|---|
//! | [`quorum`] | who has acknowledged, and is it enough |
//! | [`replica`] | the words that a node and a store speak |
//! | [`holding`] | what a replica does with a version that it is brought: the store's own rules |
//! | [`write`](mod@write) | one write, in two rounds or one |
//! | [`read`] | one read, and what it repairs before it answers |
//! | [`hint`] | what a replica that missed a write is brought |
//! | [`handoff`] | which hints a node keeps |
//! | [`tombstone`] | when a deletion may be forgotten |

pub mod anti_entropy;
pub mod handoff;
pub mod health;
pub mod hint;
pub mod holding;
pub mod quorum;
pub mod read;
pub mod replica;
pub mod retry;
pub mod tombstone;
pub mod write;

pub use crate::level;
