//! Which shards keep a token, when each shall have its share to the slot?
//!
//! Layer 2 of the placement, for pools that keep data. The circle is cut into [`SLOTS`] equal slots;
//! a [`SlotTable`] names the replica set of each, so that a lookup is one shift and one load,
//! however many shards there are.
//!
//! # Why this way
//!
//! Replica sets that are found by walking a ring are uneven, whatever is done for its tokens: with
//! 1000 shards the fullest holds 1.2 to 1.4 times its share, and a disk that is full is full. So
//! sets are assigned: a slot takes the ring's order at its start as far as every shard's *quota*
//! allows, and keeps what it had before as far as that is allowed now. Most of it (more than nine
//! in ten) is what the ring says anyway. A history-free assignment with the same quotas was tried and
//! moved 1.6 to 2.5 times as much at every change.
//!
//! # How a plan is made
//!
//! 1. *Quotas* ([`quota`]): whole numbers of copies, the floor or ceiling of each shard's share by
//!    weight; less where its zone could not have more without two replicas of one slot in it.
//! 2. *Keeping*: each slot begins with what it had; without a past, with the ring's own set.
//! 3. *Moving* ([`planner`]): who is over its quota gives to who is under it, in slots where that
//!    leaves zones distinct: nearest on the ring first. Where nobody fits directly, a copy that moves
//!    anyway is led elsewhere, and only if that fails a further copy moves.
//! 4. *Primaries* ([`primaries`]): inside the sets the first place goes round until each shard has
//!    its share of them too. No data moves by that.
//!
//! # Invariants
//!
//! 1. A plan is a function of the previous table and the members: on every machine and in every
//!    order of the members the same bytes. No floating point, no hash map; ties by id.
//! 2. The shards of a slot are distinct, and in distinct zones while zones last; with fewer zones
//!    than replicas the zones of a slot differ by one at most (as far as they have shards).
//! 3. Nothing here panics, whatever the members; what has no table is a [`PlanError`].
//! 4. A table is named by its [digest](SlotTable::digest). A [delta](SlotTable::delta_from) leads
//!    from one table to exactly one other, and has one encoding.
//!
//! The table depends on its history, so it must be kept with what is agreed: no node can compute it
//! from the members alone.
//!
//! Sources: OpenStack Swift's ring builder (quotas, least movement) and Garage's layout, for the
//! shape; the repair by exchange is that of augmenting paths in bipartite matching, cut at length
//! two.

mod delta;
mod planner;
mod primaries;
mod quota;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod ways;

pub use delta::DeltaError;
pub use planner::plan;
pub use stats::{Keeper, Placed, SlotStats};
pub use table::{BALANCED_SHARDS_MAX, PlanError, SLOTS, SlotSets, SlotTable, slot_of};
