//! Is what the clients of one key were told what a single copy of it could have told them?

mod event;
mod judge;
#[cfg(test)]
mod tests;

pub use event::{Event, Kind};
pub use judge::linearizable;
