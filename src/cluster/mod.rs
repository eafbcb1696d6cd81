//! What do all nodes agree on, and how does it change?
//!
//! ```text
//! admin, cli ── Change ──▶ Plan ──┐   staged, shown, then made
//! steward ── verdicts, barriers ──┤
//! Desired ──── changes ───────────┴──▶ Envelope{Command} ── apply ──▶ ClusterState ──▶ Topology
//! (a file)                              (the log)                 (what is agreed)  (what requests read)
//! ```
//!
//! The state changes by commands and by nothing else. A node without a cluster applies the commands
//! that its file implies ([`ClusterState::apply_command`]); with a cluster they come out of the Raft
//! log, each in an [`Envelope`] ([`ClusterState::apply`]). All that a command does is a function of
//! the state and the command: no clock, chance or I/O, and no panic, whatever the command. So the
//! state needs no lock, and a replica no other check than that it read the same log.
//!
//! Invariants:
//! 1. *All or nothing.* A command that is refused changes nothing but what is remembered for a copy
//!    of it.
//! 2. *One log, one state.* Equal logs give equal states, and equal states equal bytes, on every
//!    machine and in every release that speaks the agreed
//!    [feature level](ClusterState::feature_level). (The sentences of the [history](Record) are the
//!    one exception: they are worded by the release that applies.)
//! 3. *Numbers only grow.* Every command that is applied moves the
//!    [`Revision`](crate::ids::Revision) up; in a cluster to its index in the log. A pool's
//!    [`Epoch`](crate::ids::Epoch) moves with what decides its replica sets: not for an address, nor
//!    for a shard of weight 0 that comes or goes. No epoch comes again under one name, not even when
//!    a pool is removed and made anew. A barrier rises to its pool's epoch at most; incarnations and
//!    node ids are given once.
//! 4. *A pool's ring can always be built*: a command that would leave it without one is refused.
//! 5. *A proposal is applied once*, however often and in whatever order its copies stand in the log:
//!    each [`CommandId`](crate::ids::CommandId) has one answer. Where that can no longer be known,
//!    the copy is refused as [`Refusal::Superseded`].
//! 6. *What is made is what was shown.* [`Command::ApplyPlan`] does what the plan of that id showed,
//!    or [`Refusal::PlanChanged`]: any change of a pool that it touches gives the plan another id.
//! 7. *Nobody plans when a command is applied*: the tables of balanced pools come with it, planned by
//!    the leader ([`Command::Placed`]).
//! 8. *A verdict is about what answers at a URL*: it goes when the shard goes, or moves. It decides
//!    which shard answers, and never who owns a key.
//! 9. *What is kept stays where it is*: once a pool is [filled](PoolState::filled), no command moves
//!    or loses what it keeps, but those that say so.
//! 10. *Everything is bounded*: nodes, pools, shards (by the ring's limits), what is staged, what is
//!     remembered ([`Bound`] and the constants that end in `_MAX`).
//!
//! A verdict that was proposed before a shard moved and is applied after it is taken for one of the
//! new place; it lasts until the majority's next views correct it, which takes
//! [`Settings::verdict_hold_ms`] and a renewal.
//!
//! What the room does not know: who leads, who is up, what time it is. The rules of leases
//! ([`lease`]) and of verdicts ([`verdict`]) are values of their own, stepped with the time as an
//! argument; they read this state and propose commands to it.
//!
//! Sources: DESIGN, sections 2, 5 and 6; Ongaro, *Consensus: Bridging Theory and Practice* (2014),
//! section 6.3, for sessions that make proposals apply once.

mod apply;
mod bounds;
mod command;
mod desired;
mod differences;
mod draft;
mod drift;
mod envelope;
mod history;
mod kept;
pub mod lease;
mod members;
mod node;
mod past;
mod persist;
mod placed;
mod plan;
mod pool;
mod refusal;
mod report;
mod session;
mod settings;
mod state;
mod stores;
mod summary;
#[cfg(test)]
mod tests;
mod topology;
pub mod verdict;
mod warning;

pub use bounds::{
    Bound, CHANGES_MAX, POOLS_MAX, SEED_BYTES_MAX, URL_BYTES_MAX, VERDICTS_MAX, VERSION_BYTES_MAX,
};
pub use command::{Change, Command, FEATURE_LEVEL, StoreMark};
pub use desired::{Desired, DesiredPool, changes};
pub use differences::differences;
pub use drift::drift;
pub use envelope::{ACTOR_BYTES_MAX, Actor, ActorError, Envelope, EnvelopeError};
pub use history::{HISTORY_MAX, ROUTINE_MAX, Record};
pub use kept::{KeptSpec, StoreState, TOMBSTONE_MIN_AGE_MS_DEFAULT};
pub use node::{NODES_MAX, NodeState, Role, VOTERS_MAX, voters};
pub use past::{NoRing, PAST_EPOCHS_MAX, PastRing};
pub use persist::StateError;
pub use placed::{HexBytes, NoHexBytes, Slots, TableChange};
pub use plan::Plan;
pub use pool::{AdminState, Kind, Mode, Placement, PoolSpec, PoolState, ShardSpec, Verdict};
pub use refusal::{Applied, PoolEpochs, Refusal};
pub use report::{PoolReport, Report, report};
pub use session::WINDOW_MAX;
pub use settings::Settings;
pub use state::{ClusterState, Identity};
pub use topology::{PoolTopology, ShardTopology, Topology};
pub use warning::Warning;
