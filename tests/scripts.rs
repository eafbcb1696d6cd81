//! Golden scripts: stories told to a pure machine, with its answers written beside them.
//!
//! Each folder of `tests/scripts/` has a runner here. To see what a change does to the stories,
//! run `UPDATE_GOLDENFILES=1 cargo test --test scripts` and read the difference.

#[path = "scripts/health.rs"]
mod health;
