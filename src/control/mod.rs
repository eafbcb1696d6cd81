//! What has been agreed, and where is it kept?
//!
//! A node stands alone or takes part in a cluster. Alone ([`standalone`]), its file is the truth,
//! and the difference between the file and what was in force goes through `cluster::apply`. In a
//! cluster ([`group`]) a Raft group has the same commands agreed, and every node applies the same
//! log. [`steward`] holds the node's lease and, on the leader, watches over the others; a node alone
//! grants itself one ([`own_lease`]). What requests and background loops find must be agreed comes in
//! by [`wishes`].
//!
//! What this room keeps is small and precious: epochs must never go back, or two rings would bear
//! one number. It never looks at a request, and no request waits for it.

pub mod clock;
pub mod group;
pub mod metrics;
pub mod own_lease;
#[cfg(test)]
mod simulation;
pub mod standalone;
pub mod steward;
pub mod wishes;
