//! How does what a replica has missed survive a crash of the node that knows?
//!
//! In a file of the node's folder, written by a thread of its own: whoever leaves a hint hands it
//! over and goes on. [`HintSink`] is that hand; [`HintLog`] owns the thread; [`mod@file`]
//! is the format. What is in the file is in memory too, as a
//! [`HintBook`](crate::protocol::handoff::HintBook), for whoever replays.
//!
//! A hint is a help and no promise: a write that was acknowledged stands on a majority without it.
//! So a queue that is full, a book that is full, or a disk that fails loses hints and says so; the
//! shards concerned are *overflowed* until they have been compared in full. What a kill of the
//! process can lose is what stood in the queue, and what a loss of power can lose is the last
//! batch besides.

mod file;
mod log;
mod sink;
#[cfg(test)]
mod tests;

pub use log::{HintLog, HintLogError};
pub use sink::{HintCounts, HintSink};
