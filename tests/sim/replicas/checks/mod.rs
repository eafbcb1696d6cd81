//! What must hold of every run? One file for each invariant.

mod converged;
mod deleted;
mod visible;

pub use converged::converged;
pub use deleted::Deleted;
pub use visible::Visible;
