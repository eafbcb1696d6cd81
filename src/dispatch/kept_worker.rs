//! What does one worker thread need beside the topology, to serve pools that keep data?
//!
//! A lease, a clock that orders its writes, and a way to have the first write of a pool agreed.
//! All of it is the thread's own, or a number that it reads.

use std::cell::RefCell;
use std::sync::Arc;

use crate::cluster::lease::{Held, NotHeld, SharedLease, WorkerLease};
use crate::control::clock::boottime_ms;
use crate::control::wishes::{Wish, WishError, Wishes};
use crate::ids::{Epoch, PoolName};
use crate::version::{HybridClock, Proposer};

/// What a worker is given for pools that keep data.
#[derive(Clone)]
pub struct KeptParts {
    /// The process's lease.
    pub lease: Arc<SharedLease>,
    /// Where it is asked what shall be agreed.
    pub wishes: Wishes,
    /// The wall clock, in milliseconds since 1970: it stamps versions.
    pub unix_ms: fn() -> u64,
}

/// One worker's part in pools that keep data.
pub struct KeptWorker {
    lease: WorkerLease,
    wishes: Option<Wishes>,
    unix_ms: fn() -> u64,
    clock: RefCell<HybridClock>,
}

impl KeptWorker {
    /// That of the worker with this number, from 0.
    #[must_use]
    pub fn new(number: usize, parts: &KeptParts) -> Self {
        Self {
            lease: parts.lease.of_worker(number),
            wishes: Some(parts.wishes.clone()),
            unix_ms: parts.unix_ms,
            clock: RefCell::default(),
        }
    }

    /// One that never holds a lease, and so serves no pool that keeps data.
    #[must_use]
    pub fn without_lease() -> Self {
        Self {
            lease: SharedLease::new(1, 0).of_worker(0),
            wishes: None,
            unix_ms: || 0,
            clock: RefCell::default(),
        }
    }

    /// Begins an operation under `epoch` of a pool: see [`WorkerLease::hold`]. It is pinned until
    /// what is returned is dropped: take it for a version round and for a commit, and not while a
    /// body streams.
    ///
    /// # Errors
    /// [`NotHeld`]: nothing was done.
    pub fn hold(&self, pool: &PoolName, epoch: Epoch) -> Result<Held, NotHeld> {
        self.lease.hold(boottime_ms(), pool, epoch)
    }

    /// Whether the operation may go on, or succeed: after a version round, and right before success
    /// is told. Reads the clock at this moment, since the process may have been stopped.
    ///
    /// # Errors
    /// [`NotHeld`]; see [`Held::check`].
    pub fn check(&self, held: &Held) -> Result<(), NotHeld> {
        held.check(boottime_ms())
    }

    /// Whether reads at `one` may be answered.
    #[must_use]
    pub fn reads_at_one(&self) -> bool {
        self.lease.reads_at_one(boottime_ms())
    }

    /// Who chooses this thread's versions; `None` before this start of the node is agreed. An
    /// operation that is held has one.
    #[must_use]
    pub fn proposer(&self) -> Option<Proposer> {
        let (node, incarnation) = self.lease.holder()?;
        let worker = u16::try_from(self.lease.worker()).expect("a node has at most 1024 workers");
        Some(Proposer { node, incarnation, worker })
    }

    /// The clock of this thread's versions.
    #[must_use]
    pub fn clock(&self) -> &RefCell<HybridClock> {
        &self.clock
    }

    /// The wall clock.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        (self.unix_ms)()
    }

    /// Has it agreed that a pool takes writes. When this returns well, what requests read says so,
    /// or does in a moment: the writer waits for that, at most two seconds, and writes then.
    ///
    /// # Errors
    /// [`WishError`]: the write is refused as not applied.
    pub async fn fill(&self, pool: &PoolName) -> Result<(), WishError> {
        let Some(wishes) = &self.wishes else { return Err(WishError::Busy) };
        wishes.ask(Wish::Fill { pool: pool.clone() }).await
    }
}
