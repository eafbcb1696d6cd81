//! How do nodes agree?
//!
//! A Raft group is embedded in the nodes: openraft decides what is in the log, this room says what
//! the log is written on, how its messages travel and what a committed entry does. Nothing outside
//! of it names a type of openraft.
//!
//! ```text
//!  propose ─▶ ask ─▶ (the leader) lead ─▶ Raft ─▶ machine ─▶ Arc<ClusterState> ─▶ changes()
//!                                          │ │
//!                       log ─▶ writer ─▶ redb└▶ network ══▶ server (another node)
//! ```
//!
//! What holds:
//! 1. A vote and an entry are durable before they are answered; after a write that failed nothing
//!    is answered any more ([`writer`]).
//! 2. A damaged, missing or foreign log, snapshot or identity stops the node with a message that
//!    names the file and the cure ([`log_file`], [`snapshot`], [`identity`]).
//! 3. A node's id is given once, and lives and dies with its log ([`birth`]).
//! 4. Pre-vote is on and asked for in earnest: a node that was cut off does not depose a leader
//!    when it comes back ([`network`]).
//! 5. Each proposal is applied once, however often it is sent ([`propose`]).
//! 6. Who votes follows from the agreed state; Raft's membership is brought there step by step
//!    ([`members`]).
//!
//! What it does not do: decide by who leads. A leader that was cut off is the last to know; leases
//! are what fences a node ([`crate::cluster`]).
//!
//! Ongaro, *Consensus: Bridging Theory and Practice*, 2014: sections 3 (Raft), 4 (members), 5
//! (snapshots), 6.4 (reads), 9.6 (pre-vote).

mod admission;
mod ask;
mod birth;
mod error;
mod identity;
mod lead;
mod leadership;
mod log;
mod log_file;
mod machine;
mod members;
mod network;
mod options;
mod part;
mod propose;
mod record;
mod recover;
mod seam;
mod server;
mod snapshot;
mod standing;
mod status;
mod storage;
#[cfg(test)]
mod tests;
mod types;
mod wire;
mod writer;

pub use error::{FoundError, JoinError, OpenError, ProposeError};
pub use identity::{IdentityError, Member};
pub use leadership::Leadership;
pub use log_file::LogError;
pub use options::{GroupOptions, Timing};
pub use part::Group;
pub use recover::{Lost, RecoverError, Recovered, Survey, recover};
pub use seam::{Call, Calling, Unanswered};
pub use snapshot::SnapshotError;
pub use status::{GroupRole, GroupStatus, Place, SnapshotStatus};
pub use storage::{Backend, OpenBackend, Storage};
