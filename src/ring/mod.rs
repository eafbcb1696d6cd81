//! Which shards hold this token?
//!
//! The token ring of one pool: layer 1 of the placement. The circle has 2^64 points. Each shard
//! owns `vnodes` of them per unit of weight, drawn from its id alone; a token belongs to the
//! first virtual node at or after it, and the distinct shards met from there on, in distinct
//! zones while zones last, are its replica set.
//!
//! # Why this way
//!
//! A ring of random points is not the most even placement (peak over mean is 1.1 to 1.4, while
//! tables and jump hash reach 1.01), but it has no history: it is a function of the members, so
//! two nodes that agree on the members agree on every key, and a change moves exactly what must
//! move. The balanced placement of pools that keep data is built on this order and measured
//! against it.
//!
//! Virtual nodes are drawn from one BLAKE3 output stream per shard instead of one hash per
//! point, which makes them about thirty times cheaper. Replica sets are computed when the ring
//! is built, one per virtual node: a lookup is one load from an index over the top bits of the
//! token, a look at the few tokens of that bucket, and one slice. A walk per request costs three
//! to ten times as much.
//!
//! A ring may also have its points where nginx has them; see `ketama`. Pools that keep data are
//! placed by [`slots`], which begin with the order of this ring and give each shard its exact share.
//!
//! # Invariants
//!
//! 1. Equal [`RingSpec`]s, in whatever order their members stand, give equal rings, on every
//!    machine and in every release; golden vectors hold this.
//! 2. The tokens of a shard are a prefix of its stream: more weight only adds tokens.
//! 3. *Monotone*: a member that is added, or gains weight, is the only one to gain a key; one
//!    that is removed, or loses weight, is the only one to lose a key.
//! 4. Nothing here uses floating point, a hash map, a clock or a random source, and nothing
//!    panics, whatever the spec.
//!
//! The room does not know whether a shard is up: an answer names who *should* hold a key. Hash
//! tags and the canonical form of keys belong to `key`; this room takes key bytes as they come.
//!
//! Sources: Karger et al., *Consistent hashing and random trees* (1997); DeCandia et al.,
//! *Dynamo* (2007), sections 4.2, 4.3 and 6.2.

mod explain;
mod ketama;
mod loss;
mod order;
mod shares;
pub mod slots;
mod spec;
mod spread;
mod table;
mod vnodes;

#[cfg(test)]
mod tests;

pub use explain::{Explanation, Step, Verdict, VnodeFound};
pub use loss::ZoneLoss;
pub use order::Order;
pub use shares::{Ratio, Share, Shares};
pub use spec::{KETAMA_POINTS, MEMBERS_MAX, Member, REPLICAS_MAX, RingError, RingSpec, TOKENS_MAX};
pub use table::{Ring, ShardIx};
