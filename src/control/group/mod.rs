//! What have the nodes agreed?

mod stand_in;

pub use stand_in::{Group, GroupStatus, GroupRole, ProposeError, SnapshotStatus};
