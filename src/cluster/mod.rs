//! What do all nodes agree on, and how does it change?
//!
//! ```text
//! Desired ── changes ──▶ [Command] ── apply ──▶ ClusterState ── Topology::build ──▶ Topology
//! (a file)   (plan)       (the log)             (what is agreed)                    (what requests read)
//! ```
//!
//! The state changes by commands and by nothing else. Today a node without a cluster applies the
//! commands that its file implies; with a cluster the same commands come out of the Raft log. So
//! [`ClusterState::apply`] is deterministic and total: no clock, chance or I/O, and no panic,
//! whatever the command.
//!
//! Invariants:
//! 1. Every command that is applied moves the [`Revision`](crate::ids::Revision) by one; one that
//!    is refused changes nothing at all.
//! 2. A pool's [`Epoch`](crate::ids::Epoch) moves with what decides its replica sets: not for an
//!    address, nor for a shard of weight 0 that comes or goes. Neither number ever goes back, not
//!    even when a pool is removed and made again.
//! 3. A pool's ring can always be built: a command that would leave it without one is refused.

mod command;
pub mod lease;
mod plan;
mod state;
#[cfg(test)]
mod tests;
mod topology;
pub mod verdict;

pub use command::{Applied, Command, Refusal};
pub use plan::{Desired, DesiredPool, PoolReport, Report, changes, report};
pub use state::{
    AdminState, ClusterState, Kind, Placement, PoolSpec, PoolState, ShardSpec, StateError,
};
pub use topology::{PoolTopology, ShardTopology, Topology};
