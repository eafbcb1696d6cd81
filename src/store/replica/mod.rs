//! How does a store keep a shard of a pool that keeps data?
//!
//! The server's side of [`crate::protocol::replica`], which has the table of requests. What holds
//! for the store as a whole holds here: acknowledged means durable, many writes share a commit, a
//! full disk changes nothing, a failed sync fences.
//!
//! # The way of a write
//!
//! `http` reads the head and what the request is told by ([`crate::protocol::replica::PoolEpoch`])
//! → a `stage` takes in the body, small into memory, large into a synced file, and waits in
//! `stages` → a `commit` goes to the writing thread, which looks at the fence, at what is held and at
//! the stage, in this order and in the transaction that commits it (`write`) → it is answered when
//! that is durable. So nothing can come between the decision and what is written, and a repeat that
//! overtakes its first finds either the stage or the value.
//!
//! # What is where
//!
//! `record` and `pool` are the rows of the tables, `change` what a transaction does to them, `view`
//! what reads see. The sums of slots are kept in the transaction of each write, so that comparing
//! two replicas reads 24 bytes a slot and never a key.
//!
//! # Damage
//!
//! A body that is gone, or whose bytes do not fit their digest, is noticed where it is read: for a
//! client, for a copy, and at the start where its file is missing. Its record stays and says so
//! (`damage`); in the sums it is another term than the value, so that the comparing of replicas finds
//! it, and the same version put once more replaces it. What no replica can give any more, others are
//! told of: they hold a record of it as one that lost the bytes itself does.
//!
//! # The fence
//!
//! The highest epoch that a pool's requests told is kept durably before the first of them is
//! answered, reads included; a lower one is refused. The writing thread looks again: a commit that
//! waited in its queue while the fence was raised is refused as well.
//!
//! Before epochs come *births*: a pool that was dropped may have given its name to another. Each has
//! tables of its own, and a request that means another pool than the one that is bound is refused.
//! What is left of one that was born earlier is emptied by and by (`doomed`).

pub(super) mod change;
pub(super) mod damage;
pub(super) mod doomed;
mod fields;
pub(super) mod http;
pub(super) mod metrics;
mod pages;
pub(super) mod pool;
mod queries;
pub(super) mod record;
pub(super) mod scrub;
pub(super) mod stages;
pub(super) mod sums;
mod values;
pub(super) mod view;
pub(super) mod write;
