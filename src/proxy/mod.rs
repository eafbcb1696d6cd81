//! What does this HTTP request mean, and what do we answer?
//!
//! ```text
//! accept ─▶ connection ─▶ head judged ─▶ route, key ─▶ forward renders ─▶ dispatch::run
//!               ▲                                                              │
//!               └────────── next request ◀── log, metrics ◀── answer, problem ◀┘
//! ```
//!
//! One task serves one client connection and drives the shard's connection too; a request is
//! parsed once, here, and nobody below looks at HTTP semantics again. While it waits for a request
//! a connection holds no buffer.
//!
//! Invariants:
//! 1. A connection whose request was not read to its end, or whose answer broke off, is closed.
//! 2. Every request is answered, counted and logged exactly once.
//! 3. What is ambiguous is answered 400 and the connection closed (DESIGN, section 13).

pub mod access_log;
mod answer;
mod body;
mod client;
mod connection;
mod exchange;
mod forward;
mod h2;
pub mod metrics;
#[cfg(test)]
mod passage_tests;
pub mod problem;
pub mod rate_limit;
mod routing;
mod seam;
mod seen;
pub mod serve;
pub mod site;
#[cfg(test)]
mod tests;
pub mod traces;
