//! What is said about a store when it is opened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::ClientTimeouts;
use crate::store::metrics::Metrics;
use crate::store::reserve::RESERVE_BYTES;

/// Tells the time of day, in milliseconds since 1970. It becomes `Last-Modified`.
pub type Clock = fn() -> u64;

/// When a write counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Every write is on the disk before it is acknowledged.
    Always,
    /// Index commits are made durable this often. A crash, of the process too, takes back the
    /// writes acknowledged since, whole: the store is then as it was at the last such moment.
    /// (Large bodies are synced before their commit nonetheless.)
    Interval(Duration),
    /// Nothing is ever synced. A crash of the process loses nothing; a crash of the machine may
    /// leave a folder that can only be emptied.
    Never,
}

/// Everything that a store needs to know.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Where the data lives. Made if it does not exist; otherwise empty or a store's.
    pub folder: PathBuf,
    /// When a write counts as durable.
    pub fsync: Fsync,
    /// Bytes of the longest value; a longer body is answered 413.
    pub value_bytes_max: u64,
    /// Bytes held back for a full disk; 24 MiB but in tests.
    pub reserve_bytes: u64,
    /// How long clients may take.
    pub timeouts: ClientTimeouts,
    /// In how much time every value of a pool that keeps data is read once and compared with what was
    /// taken in; `None`: only what is asked for is.
    pub scrub: Option<Duration>,
    /// Connections served at once; further ones wait to be accepted. Each may hold some 200 KiB,
    /// and 64 of them 600, while a large value passes through it.
    pub connections_max: usize,
    /// How long requests under way may take to end once the store is told to stop.
    pub drain: Duration,
    /// The time of day.
    pub clock: Clock,
    /// Where the store counts. One [`Metrics`] serves one store over all its openings.
    pub metrics: Arc<Metrics>,
}

impl StoreOptions {
    /// The options of a store in `folder`, all else at its default.
    #[must_use]
    pub fn new(folder: PathBuf, metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self {
            folder,
            fsync: Fsync::Always,
            // The largest object that S3 takes in one PUT.
            value_bytes_max: 5 * 1024 * 1024 * 1024,
            reserve_bytes: RESERVE_BYTES,
            timeouts: ClientTimeouts::default(),
            scrub: Some(Duration::from_secs(7 * 24 * 3600)),
            connections_max: 1024,
            drain: Duration::from_secs(10),
            clock,
            metrics,
        }
    }
}
