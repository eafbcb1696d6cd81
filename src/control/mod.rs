//! What has been agreed, and where is it kept?
//!
//! Today a node stands alone ([`standalone`]): its file is the truth, and the difference between
//! the file and what was in force goes through the same `cluster::apply` that a Raft group will
//! drive. What this room keeps is small and precious: epochs must never go back, or two rings
//! would bear one number.

pub mod group;
#[cfg(test)]
mod simulation;
pub mod standalone;
