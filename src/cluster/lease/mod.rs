//! Who may serve by which epoch, and for how long?
//!
//! A proxy that is cut off from the Raft group must not go on by an old ring: it would acknowledge
//! writes on shards that no longer own the key. It cannot be told so, since it is cut off. So the
//! right to serve is a lease that runs out by itself, and the leader waits for those that it cannot
//! hear. Asking the leader at each request would do as well, and would put the control plane on
//! the path of every request.
//!
//! ```text
//!   node                                              leader
//!   Pins ── what is applied and nothing older runs ──▶
//!   LeaseHolder ── Renewal (number, epochs, clock) ──▶ LeaseBook ── advance ──▶ RaiseBarriers
//!               ◀── Grant (duration, floors) or Denial ──               (through the log)
//! ```
//!
//! # The eight rules (DESIGN, section 5), and where each one lives
//!
//! | rule | what it says | where |
//! |---|---|---|
//! | 1 | a node renews about every second; a lease lasts `lease_ms` | [`LeaseSettings`], [`LeaseHolder::renew`] |
//! | 2 | it is counted from the moment at which the renewal was *sent* | [`LeaseHolder::granted`] |
//! | 3 | the grant ends with the leader's last quorum-confirmed heartbeat + lease | [`LeaseBook::renewal`] |
//! | 4 | a new leader grants nothing before it knows its own state, and expires nobody for one lease | [`LeaseBook::elected`], [`LeaseBook::first_entry_applied`] |
//! | 5 | the lease is looked at at the start, after a read's version round and before success | [`LeaseHolder::check`] |
//! | 6 | an epoch is reported only when nothing older is in flight | [`Pins`] |
//! | 7 | an advance waits for every holder; joined, restarted and removed nodes are holders | [`LeaseBook::members`], [`LeaseBook::unsettled`] |
//! | 8 | no lease below the barrier: the floor is raised before the advance is proposed | [`LeaseBook::advance`] |
//!
//! # Why this suffices
//!
//! Let a *barrier* for epoch `e` of a pool have passed: `RaiseBarriers` with `e` is committed. Then
//! no operation that was pinned to an earlier epoch is acknowledged from that moment on:
//!
//! 1. The leader proposed it when each holder that it knew had reported `e` or was expired (rule 7).
//!    It knew all of them: what its predecessors granted had run out (rules 3 and 4), and what it
//!    granted itself is in its book.
//! 2. A node that had reported `e` has no older operation in flight, and pins none (rule 6).
//! 3. A node that was expired has no lease by its own clock either, because it counts from earlier
//!    than the leader does (rule 2) and the leader adds a margin for the clocks' rates. Its older
//!    operations fail their last check (rule 5).
//! 4. It gets no new lease while it reports less than `e`: not from this leader, whose floor was
//!    raised before the proposal, and not from a later one, which grants nothing before it has
//!    applied the entry that raised the barrier (rules 4 and 8).
//!
//! So whoever starts to copy after the barrier sees every write that was acknowledged before it.
//! What a node *does* late is another matter: its bytes may still reach a shard. Stores that know
//! epochs refuse them; others have *clean* (DESIGN, section 9).
//!
//! Of a pool that is removed nothing is promised any more. One that is made anew under its name begins
//! at a later epoch, and its barriers wait for those who still serve the old one.
//!
//! # What its callers owe it
//!
//! - `now_ms` is CLOCK_BOOTTIME in milliseconds, which only grows and counts a suspended machine's
//!   sleep. CLOCK_MONOTONIC does not: a leader that slept would take an old confirmation for a
//!   fresh one. The rates of any two nodes' clocks may differ by a tenth; real ones differ by
//!   0.01 %.
//! - **A barrier has passed when the command is committed, not when [`LeaseBook::advance`] says
//!   that it may be proposed.** And it takes effect only as an entry of that very
//!   [`Term`](crate::ids::Term), however it is repeated or forwarded
//!   ([`Command::is_good_in`](super::Command::is_good_in)): between two terms of one's own somebody
//!   else may have granted leases to nodes that report less. A leader of a later term asks its own
//!   book.
//! - A success counts from the last check, not from when the client hears of it: at the check the
//!   barrier had not passed, and the operation's effects were on the shards already.
//!
//! A cluster of one node grants to itself by the same code. No switch turns leases off.
//!
//! Source: C. G. Gray, D. R. Cheriton, *Leases*, SOSP 1989, sections 2 and 5 (the holder's term ends
//! before the granter's; clocks need a bound on their rates only). Rule 8 is needed besides: a
//! model checker found the stale node that is given a fresh lease.

mod book;
mod clocks;
mod holder;
mod holding;
mod message;
mod pins;
mod settings;
mod shared;
#[cfg(test)]
mod tests;

pub use book::{AgreedPool, LeaseBook, NodeStanding, Unsettled};
pub use holder::{LeaseHolder, NoLease};
pub use message::{Denial, Grant, Renewal, RingReport};
pub use pins::{Pin, Pins, StalePin};
pub use settings::LeaseSettings;
pub use shared::{Held, NotHeld, SharedLease, WorkerLease};
