//! What must hold at every moment of every run? One file for each invariant.
//!
//! A checker sees everything and has true time. It is told facts and answers with a sentence when
//! one of them must not be.

mod acknowledgements;
mod digests;
mod epochs;
mod floors;
mod liveness;
mod log;
mod majority;

pub use acknowledgements::Acknowledgements;
pub use digests::Digests;
pub use epochs::Epochs;
pub use floors::Floors;
pub use liveness::alive;
pub use log::Log;
pub use majority::Majority;

/// What a checker answers.
pub type Checked = Result<(), String>;
