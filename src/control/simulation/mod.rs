//! Does the group keep its word when processes, networks and disks do not?
//!
//! Whole nodes run in one thread, in a simulated network and on simulated time (turmoil): the
//! [`Group`](super::group::Group) that ships, its openraft, its peer transport and its redb log,
//! on disks that forget and fail ([`disk`]). First there are faults: nodes are killed, lose their
//! power and come back; links are cut, one way or both, or hold what they carry; fsyncs fail,
//! disks are full; snapshots are taken and leaders changed in the middle of it. All the while each
//! node proposes and reads. Then everything heals, and the [`oracle`] must find that
//!
//! 1. a proposal that was acknowledged is applied exactly once, one that was refused or not
//!    possible not at all, and one whose outcome was called unknown at most once;
//! 2. what was proposed after an acknowledgement comes after it, and a read index covers every
//!    acknowledgement before it;
//! 3. all nodes apply the same commands in the same order, and at one revision have one state;
//! 4. epochs only move up, and a term has one leader;
//! 5. after healing, every node gets a proposal through, and all come to the same end.
//!
//! `RINGWAY_SEED=7 cargo test --lib control::simulation -- --nocapture` runs one seed and prints
//! what happened. How much of a run a seed rebuilds, and what that takes, [`world`] says;
//! `RUSTFLAGS="--cfg tokio_unstable" cargo test --lib one_seed_is_one_run` shows it.

mod disk;
mod fault;
mod machine;
mod oracle;
mod tests;
mod world;
