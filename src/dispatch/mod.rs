//! How is one request carried out?
//!
//! ```text
//! proxy ── Request, Body, Answer ──▶ run ── choose ─▶ attempt ───▶ net, drivers
//!                                     │        ▲          │
//!                                     │        └─ repeat ─┘ (budget, attempts, what may be repeated)
//!                                     ▼
//!                              Ok, or a Failure that `proxy::problem` words
//! ```
//!
//! Reads of pools that want it take a second path beside `attempt`, on which answers are `held` until
//! it is decided whose word counts: a `second` shard is asked while the first is silent, or a `former`
//! owner for what a new one lacks.
//!
//! A request reads the published [`View`](view::View) once and carries it: its pool, its shard
//! and the epoch it tells the client belong together. Nothing here waits for a lock or for the
//! control plane.
//!
//! Invariants:
//! 1. A byte of a request goes to a second shard only if the request is a read, or the pool's keys
//!    are immutable and its mode is `any`.
//! 2. Nothing is repeated once a byte of the answer reached the client.
//! 3. A connection is used again only if its last answer and the request before it ended cleanly.
//!
//! It does not know how the client speaks (`proxy` implements [`Body`](seam::Body) and
//! [`Answer`](seam::Answer)), nor what a problem looks like.

mod attempt;
mod choose;
mod ease;
mod former;
mod held;
pub mod kept;
pub mod kept_worker;
pub mod metrics;
pub mod outcome;
mod places;
mod proof;
mod relay;
pub mod run;
pub mod seam;
mod second;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod view;
pub mod worker;
