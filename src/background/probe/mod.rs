//! Is each shard there, and what has become of the pool's health?
//!
//! [`Probers`] runs one watch per pool: a task for each shard that asks it again and again, and
//! one that lets time pass for the pool's health, and writes its changes to the log. All judging
//! is done by [`protocol::health`](crate::protocol::health); here is only the asking.
//!
//! **A probe is a new connection.** A kept one would answer long after the listener is gone, or
//! while its queue is full and nobody new gets in; and a shard that lost its network would be
//! found out by the silence of a timeout instead of by a refusal. The price, one handshake per
//! shard and interval, is nothing beside the traffic of a pool. The name is looked up each time
//! too: a shard may have moved.
//!
//! **Nothing grows with a sick shard.** At most one probe per shard is under way, and one name
//! lookup (which no timeout can end). Head and body of an answer are read up to a bound.
//!
//! Probes begin at a random point of their first interval and each interval is varied, or many
//! nodes that start together would ask together for ever.

mod ask;
mod metrics;
mod probers;
#[cfg(test)]
mod tests;
mod watch;

pub use probers::Probers;
