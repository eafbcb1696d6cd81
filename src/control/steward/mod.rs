//! How does a node come by its lease, and how does the leader watch over the others?
//!
//! ```text
//!  each node                                        the leader
//!  Facts ─▶ LeaseHolder ── Report ───────────────▶ Desk: LeaseBook, VerdictBook
//!           LeaseHolder ◀─ Answer (grant, denial) ─  │
//!                                                    └─▶ SetVerdicts, RaiseBarriers, … through the log
//! ```
//!
//! The rules are `cluster::lease` and `cluster::verdict`; here are the clocks, the waiting and the
//! messages. Every node runs the same [`Steward`]: it renews, and whichever node leads keeps the
//! desk. What is on the desk is evidence, and is lost with the leader; what counts goes through
//! the log.
//!
//! Invariants:
//! 1. A barrier bears the term that the book named, and is refused in any other.
//! 2. A node reports an epoch after requests read it: what is published, not what is applied.
//! 3. Nothing here waits on a request, and no request on anything here.

mod desk;
mod facts;
mod holder;
mod message;
mod metrics;
mod overview;
#[allow(clippy::module_inception, reason = "the room's main type has the room's name")]
mod steward;

pub use facts::{Facts, FactsSource, PoolView};
pub use holder::LeaseStatus;
pub use overview::{NodeReport, Overview};
pub use steward::{Steward, StewardParts};
