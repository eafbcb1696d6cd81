//! How is a request carried out on a pool that keeps several copies?
//!
//! ```text
//! proxy ── KeptRequest, Body, Answer ──▶ run ─▶ write ─▶ protocol::write ─┐
//!                                         │                              ├─▶ exchanges ─▶ drivers::native
//!                                         └──▶ read ──▶ protocol::read ──┘
//!                                                 └──▶ serve: the body, from one replica after the other
//! ```
//!
//! The machines of `protocol` decide; here is what they decide about: the exchanges with the
//! replicas, the client's body and answer, the clock. All exchanges of a request are polled within
//! the client's own task: nothing is spawned and nothing is locked as long as the client waits. An
//! exchange owns what it needs, so that those which are still under way when the client has its
//! answer can go on without it ([`tail`]), bounded in number and in time.
//!
//! # How slow may a replica be?
//!
//! A small body is held and sent whole. A larger one passes through a [`window`] of a megabyte that
//! all uploads share; who is slowest sets the pace, but never below the level: when as many others
//! as the level needs are ahead and wait, for a second or a quarter of the time in all, the slowest is
//! left behind, and gets a hint.
//!
//! Invariants:
//! 1. A hint is handed over before the client is told, if the replica is known to lack the write by
//!    then.
//! 2. Success is told only under a lease that is good at that moment (DESIGN, section 5, rule 5).
//! 3. What reaches the client is of one version, whichever replicas it comes from; and a whole value
//!    that came from several has its digest, or is cut (`dispatch::proof`).

mod away;
pub mod conditions;
mod copy;
mod exchanges;
mod job;
mod list;
pub mod metrics;
mod one;
mod range;
mod read;
mod request;
mod run;
mod serve;
mod tail;
#[cfg(test)]
mod tests;
mod window;
mod words;
mod write;

pub use job::Views;
pub use list::{Asked, Listed, Listing, list};
pub use range::Wanted;
pub use request::{Act, KeptRequest};
pub use run::run;
pub use tail::Tails;
