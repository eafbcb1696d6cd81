//! How do replicas come to hold the same, with nobody asking for it?
//!
//! A write of a replicated pool is acknowledged when enough of its replicas have it. The rest is
//! done here, by four loops on one thread of their own:
//!
//! ```text
//! binder     which store answers at a shard's address? ──▶ bound through the group, or foreign
//! replayer   hints ──▶ copies to the shard that missed them, in order     (seconds)
//! repairer   sums ──▶ slots ──▶ keys ──▶ copies                           (on schedule, when asked)
//! collector  old tombstones that all replicas hold ──▶ watermarks
//! ```
//!
//! **All of it may be done twice, late, or by several nodes at once.** What is copied is a version,
//! and a store keeps the newest: a copy that comes late is superseded, one that comes twice is a
//! repeat. So the loops need no lease and no lock between nodes; they take turns only in order not
//! to do the same work. What they find out that others must act on (a store's identity, that it
//! lags behind, that it is filled) goes through the log as wishes.
//!
//! A shard that misses writes is agreed *catching-up*, so that reads at `one` avoid it. The node
//! that has hints for it says so, at the latest before it answers again; and whoever has seen it
//! drained, or compared it in full, takes it back.
//!
//! Nothing here waits on a worker's thread, nor they on this one. A pass of repair reads and writes
//! no faster than the pool's `repair.rate`, and slower while stores answer slowly (see
//! [`Pace`](crate::protocol::anti_entropy::Pace)).

mod binder;
mod collector;
mod copy;
mod doubt;
mod fill;
mod healer;
mod metrics;
mod passes;
mod pool;
mod repairer;
mod replayer;
#[cfg(test)]
mod tests;
mod turns;
mod world;

pub use healer::{Healer, Orders};
pub use passes::{Pass, PassEnd, PassKind, PassRuns, Passes};
pub use pool::{HealParts, KeptPool, Served};
pub use world::{Look, StoreSeen};
