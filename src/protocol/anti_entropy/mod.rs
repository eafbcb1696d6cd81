//! In what do the replicas of a pool differ, and what brings each up to date?
//!
//! Replicas are compared from coarse to fine, so that what is alike costs next to nothing: sums
//! over 256 slots each, then over the single slots of those that differ, then the keys of those.
//! A pool of a million keys that is in order is compared with 6 KiB per shard.
//!
//! ```text
//! sums of folds ──▶ sums of slots ──▶ pages of keys ──▶ differences ──▶ copies
//!    (Circle)          (Circle)         (Merge)           (mend)
//! ```
//!
//! The sums are no tree of hashes (as in Dynamo, *section 4.7*) but sums of hashes: a store keeps
//! them up with every write by one addition and one subtraction, and sums of slots add up to those
//! of folds. Whoever can choose versions could choose two contents of one sum; clients cannot.
//!
//! Rules:
//! 1. The newest version wins, tombstones like values.
//! 2. A watermark says nothing of a single key. It only has a replica take in nothing at or under it.
//! 3. Nothing is concluded from a replica that did not answer.
//!
//! Not known here: who asks, how fast ([`Pace`] says how fast at most), and what a copy takes.

mod circle;
mod mend;
mod merge;
mod pace;
#[cfg(test)]
mod tests;

pub use circle::{Circle, FOLD_SLOTS, FOLDS, Members, Run, differ};
pub use mend::{Mend, Told, mend};
pub use merge::{Difference, Merge, MergeError};
pub use pace::Pace;
