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
//! in ten) is what the ring says at first. A history-free assignment with the same quotas was tried and
//! moved 1.6 to 2.5 times as much at every change.
//!
//! # How a plan is made
//!
//! 1. *Quotas* ([`quota`]): whole numbers of copies, the floor or ceiling of each shard's share by
//!    weight; less where its zone could not have more without two replicas of one slot in it.
//! 2. *Keeping*: each slot begins with what it had; without a past, with the ring's own set.
//! 3. *Moving* ([`planner`]): who is over its quota gives to who is under it, in slots where that
//!    leaves zones distinct: near on the ring first, then anywhere. What is left is found as a flow of
//!    least cost ([`flow`]), so that no table with these quotas moves less.
//! 4. *Primaries* ([`primaries`]): inside the sets the first place goes round until each shard has
//!    its share of them too. No data moves by that.
//!
//! # What can be had
//!
//! - A shard's copies are its share, rounded: at 1000 shards of three replicas one copy is half a
//!   percent of a share, and one slot as the primary 1.5 percent. Who is rounded up is chosen so that
//!   the peak is the least that whole numbers allow; with many light shards that is above a hundredth
//!   for primaries.
//! - A plan moves at least what shards gain. It moves just that unless zones stand in the way: where a
//!   zone fills up until every slot must have one of its shards, slots that lose nobody get one too.
//!   With ten or thirty shards in five zones, of which some grow larger, that is 2.5 to 3 percent over
//!   a thousand changes, and up to half as much again in one of them; with 100 shards 0.1 to 0.6. No
//!   table can do better (a test counts it); without zones nothing is to be seen of it. A shard that
//!   goes into another zone must leave the slots in which that zone stands already, which is not
//!   counted as a gain of anybody.
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
//! Sources: OpenStack Swift's ring builder (quotas, least movement) and Garage's layout, which is a
//! flow too; Busacker and Gowen 1960 for the cheapest flow by cheapest ways.

mod copies;
mod delta;
mod flow;
mod planner;
mod primaries;
mod quota;
mod stats;
mod table;
#[cfg(test)]
mod tests;

pub use delta::DeltaError;
pub use planner::plan;
pub use stats::{Keeper, Placed, SlotStats};
pub use table::{BALANCED_SHARDS_MAX, PlanError, SLOTS, SlotSets, SlotTable, slot_of};
