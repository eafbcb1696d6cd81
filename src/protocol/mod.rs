//! What must be said to whom, and what do the answers mean?
//!
//! Pure machines: each takes inputs and the time as arguments and returns what follows from them.
//! No socket, task, clock or random source is known here; `dispatch` and `background` bring those.
//! The two values that many threads share ([`health::SharedHealth`] and [`retry::RetryBudget`])
//! are atomics and at most one lock, never a wait for anything outside.

pub mod anti_entropy;
pub mod handoff;
pub mod health;
pub mod replica;
pub mod retry;
