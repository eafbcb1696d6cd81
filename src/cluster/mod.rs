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

mod apply;
mod bounds;
mod command;
mod desired;
mod differences;
mod draft;
mod drift;
mod envelope;
mod history;
pub mod lease;
mod members;
mod node;
mod past;
mod persist;
mod plan;
mod pool;
mod refusal;
mod report;
mod session;
mod settings;
mod state;
mod summary;
#[cfg(test)]
mod tests;
mod topology;
pub mod verdict;
mod warning;

pub use bounds::{
    Bound, CHANGES_MAX, POOLS_MAX, SEED_BYTES_MAX, URL_BYTES_MAX, VERDICTS_MAX, VERSION_BYTES_MAX,
};
pub use command::{Change, Command, FEATURE_LEVEL};
pub use desired::{Desired, DesiredPool, changes};
pub use differences::differences;
pub use drift::drift;
pub use envelope::{ACTOR_BYTES_MAX, Actor, ActorError, Envelope, EnvelopeError};
pub use history::{HISTORY_MAX, ROUTINE_MAX, Record};
pub use node::{NODES_MAX, NodeState, Role, VOTERS_MAX, voters};
pub use past::{NoRing, PAST_EPOCHS_MAX, PastRing};
pub use persist::StateError;
pub use plan::Plan;
pub use pool::{AdminState, Kind, Mode, Placement, PoolSpec, PoolState, ShardSpec, Verdict};
pub use refusal::{Applied, PoolEpochs, Refusal};
pub use report::{PoolReport, Report, report};
pub use session::WINDOW_MAX;
pub use settings::Settings;
pub use state::{ClusterState, Identity};
pub use topology::{PoolTopology, ShardTopology, Topology};
pub use warning::Warning;
