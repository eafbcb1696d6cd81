//! How do the threads that serve requests know of the lease, and how are their operations counted?
//!
//! The rules of a [`LeaseHolder`] are stepped by whoever renews. Requests must
//! not wait for that, so what they ask is here, as numbers that one side writes and the others
//! read: when the lease ends, and below which epochs it is not good. An operation's pin is counted
//! in the [`Pins`] of its own thread, which nobody else takes but the renewal, about once a second.
//!
//! Order matters once: floors are told before the end of the lease that they came with. Otherwise a
//! thread might see the longer lease with the old floor (rule 8).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;

use super::holder::{LeaseHolder, NoLease};
use super::pins::{Pin, Pins, StalePin};
use crate::ids::{Epoch, Incarnation, NodeId, PoolName};

/// The lease of one process, as its threads see it.
#[derive(Debug)]
pub struct SharedLease {
    /// Who holds it; `None` before this start is agreed.
    start: ArcSwapOption<(NodeId, Incarnation)>,
    /// When it ends or ended; 0 if there never was one.
    until_ms: AtomicU64,
    /// Until when reads at `one` are answered.
    stale_until_ms: AtomicU64,
    floors: Mutex<BTreeMap<PoolName, Arc<AtomicU64>>>,
    workers: Box<[Mutex<Pins>]>,
}

/// What one thread has of it.
#[derive(Debug, Clone)]
pub struct WorkerLease {
    shared: Arc<SharedLease>,
    worker: usize,
}

/// An operation that may go on: it is pinned to an epoch until this is dropped.
#[derive(Debug)]
#[must_use = "an operation is pinned as long as this is kept"]
pub struct Held {
    lease: WorkerLease,
    floor: Arc<AtomicU64>,
    pin: Option<Pin>,
}

/// Why an operation may not begin, or not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    /// There is no lease for it.
    #[error(transparent)]
    Lease(#[from] NoLease),
    /// Its epoch is over in this node: it begins anew under the present one.
    #[error(transparent)]
    Stale(#[from] StalePin),
    /// It took longer than operations may.
    #[error("it took longer than an operation may be pinned to an epoch")]
    Late,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedLease {
    /// No lease yet, for so many threads.
    #[must_use]
    pub fn new(workers: usize, op_pin_max_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            start: ArcSwapOption::empty(),
            until_ms: AtomicU64::new(0),
            stale_until_ms: AtomicU64::new(0),
            floors: Mutex::default(),
            workers: (0..workers.max(1)).map(|_| Mutex::new(Pins::new(op_pin_max_ms))).collect(),
        })
    }

    /// Tells what became of the lease. To be called after every step of the holder.
    pub fn tell(&self, holder: &LeaseHolder) {
        for (pool, floor) in holder.floors() {
            self.floor(pool).fetch_max(floor.0, Ordering::Relaxed);
        }
        let start = holder.start();
        if self.start.load().as_deref() != Some(&start) {
            // The former start's lease is not this one's.
            self.until_ms.store(0, Ordering::Release);
            self.stale_until_ms.store(0, Ordering::Release);
            self.start.store(Some(Arc::new(start)));
        }
        self.stale_until_ms.store(holder.stale_until_ms().unwrap_or(0), Ordering::Release);
        self.until_ms.store(holder.until_ms().unwrap_or(0), Ordering::Release);
    }

    /// Another limit was agreed. Operations that run keep theirs.
    pub fn set_op_pin_max_ms(&self, op_pin_max_ms: u64) {
        for pins in &self.workers {
            lock(pins).set_op_pin_max_ms(op_pin_max_ms);
        }
    }

    /// What may be reported (rule 6), given what requests read: an epoch with nothing older in
    /// flight on any thread.
    #[must_use]
    pub fn report(
        &self,
        now_ms: u64,
        published: &BTreeMap<PoolName, Epoch>,
    ) -> BTreeMap<PoolName, Epoch> {
        let behind = |report, pins: &Mutex<Pins>| lock(pins).report(now_ms, &report);
        self.workers.iter().fold(published.clone(), behind)
    }

    /// What a thread has of it; threads are counted from 0.
    #[must_use]
    pub fn of_worker(self: &Arc<Self>, worker: usize) -> WorkerLease {
        WorkerLease { shared: Arc::clone(self), worker: worker % self.workers.len() }
    }

    fn floor(&self, pool: &PoolName) -> Arc<AtomicU64> {
        let mut floors = lock(&self.floors);
        if let Some(floor) = floors.get(pool) {
            return Arc::clone(floor);
        }
        Arc::clone(floors.entry(pool.clone()).or_default())
    }

    fn check(&self, now_ms: u64, epoch: Epoch, floor: &AtomicU64) -> Result<(), NoLease> {
        let until_ms = self.until_ms.load(Ordering::Acquire);
        if until_ms == 0 {
            return Err(NoLease::NotYet);
        }
        if now_ms >= until_ms {
            return Err(NoLease::RanOut { ago_ms: now_ms - until_ms });
        }
        let floor = Epoch(floor.load(Ordering::Relaxed));
        if epoch < floor { Err(NoLease::BelowFloor { epoch, floor }) } else { Ok(()) }
    }
}

impl WorkerLease {
    /// Begins an operation under `epoch` of a pool: the lease is looked at, and the operation is
    /// pinned. `now_ms` is the time on the leases' clock.
    ///
    /// # Errors
    /// [`NotHeld`]: nothing was done, and the operation is refused. After [`NotHeld::Stale`] the
    /// topology is to be loaded anew.
    pub fn hold(&self, now_ms: u64, pool: &PoolName, epoch: Epoch) -> Result<Held, NotHeld> {
        let floor = self.shared.floor(pool);
        self.shared.check(now_ms, epoch, &floor)?;
        let pin = lock(&self.shared.workers[self.worker]).pin(now_ms, pool, epoch)?;
        Ok(Held { lease: self.clone(), floor, pin: Some(pin) })
    }

    /// Who holds the lease; `None` if nobody ever did in this process. An operation that is
    /// [held](Self::hold) has one.
    #[must_use]
    pub fn holder(&self) -> Option<(NodeId, Incarnation)> {
        self.shared.start.load().as_deref().copied()
    }

    /// Which thread this is.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Whether reads at `one` may be answered: under a lease, and for a while after it (rule 5).
    #[must_use]
    pub fn reads_at_one(&self, now_ms: u64) -> bool {
        now_ms < self.shared.stale_until_ms.load(Ordering::Acquire)
    }
}

impl Held {
    /// Whether the operation may go on, and succeed (rule 5): to be asked after a version round,
    /// and again right before success is told, with the time of that very moment.
    ///
    /// # Errors
    /// [`NotHeld`]: if anything was sent that changes something, the outcome is unknown.
    pub fn check(&self, now_ms: u64) -> Result<(), NotHeld> {
        let pin = self.pin.as_ref().filter(|pin| pin.is_live(now_ms)).ok_or(NotHeld::Late)?;
        self.lease.shared.check(now_ms, pin.epoch(), &self.floor)?;
        Ok(())
    }

    /// The epoch that it is pinned to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.pin.as_ref().map(Pin::epoch).unwrap_or_default()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(pin) = self.pin.take() {
            lock(&self.lease.shared.workers[self.lease.worker]).release(pin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::lease::{Grant, LeaseSettings};
    use crate::ids::Term;

    fn settings() -> LeaseSettings {
        LeaseSettings {
            lease_ms: 1_000,
            lease_longest_ms: 1_000,
            stale_reads_max_ms: 500,
            op_pin_max_ms: 100,
            clock_skew_max_ms: 500,
        }
    }

    fn pool() -> PoolName {
        PoolName::new("p").expect("a name")
    }

    /// Has a lease granted at `now_ms`, with a floor.
    fn grant(holder: &mut LeaseHolder, now_ms: u64, floor: u64) {
        let renewal = holder.renew(now_ms, now_ms, BTreeMap::new(), BTreeMap::new());
        let floors = BTreeMap::from([(pool(), Epoch(floor))]);
        let (incarnation, number) = (renewal.incarnation, renewal.number);
        let grant = Grant { incarnation, number, duration_ms: 1_000, floors, term: Term(1) };
        assert!(holder.granted(now_ms, &grant));
    }

    #[test]
    fn threads_see_the_lease_its_end_and_its_floors() {
        let shared = SharedLease::new(2, 100);
        let worker = shared.of_worker(1);
        assert_eq!(worker.hold(0, &pool(), Epoch(1)).err(), Some(NoLease::NotYet.into()));
        assert!(!worker.reads_at_one(0));
        let mut holder = LeaseHolder::new(settings(), NodeId(3), Incarnation(7));
        grant(&mut holder, 10, 2);
        shared.tell(&holder);
        assert_eq!(worker.holder(), Some((NodeId(3), Incarnation(7))));
        let below = NoLease::BelowFloor { epoch: Epoch(1), floor: Epoch(2) };
        assert_eq!(worker.hold(20, &pool(), Epoch(1)).err(), Some(below.into()));
        let held = worker.hold(960, &pool(), Epoch(2)).expect("a lease");
        assert_eq!(held.check(1_009), Ok(()));
        // The process was stopped: the lease is over though nobody has said so.
        assert_eq!(held.check(1_010), Err(NoLease::RanOut { ago_ms: 0 }.into()));
        assert!(worker.reads_at_one(1_509) && !worker.reads_at_one(1_510));
        // Renewed, but the operation is too old by then.
        grant(&mut holder, 1_020, 2);
        shared.tell(&holder);
        assert_eq!(held.check(1_060), Err(NotHeld::Late));
    }

    #[test]
    fn an_epoch_is_reported_when_no_thread_runs_an_older_operation() {
        let shared = SharedLease::new(2, 100);
        let mut holder = LeaseHolder::new(settings(), NodeId(1), Incarnation(1));
        grant(&mut holder, 0, 0);
        shared.tell(&holder);
        let published = |epoch| BTreeMap::from([(pool(), Epoch(epoch))]);
        let (one, other) = (shared.of_worker(0), shared.of_worker(1));
        let held = other.hold(0, &pool(), Epoch(4)).expect("a lease");
        assert_eq!(shared.report(10, &published(5)), published(4));
        drop(held);
        assert_eq!(shared.report(20, &published(5)), published(5));
        let stale = one.hold(30, &pool(), Epoch(4)).expect_err("over in this node");
        assert!(matches!(stale, NotHeld::Stale(_)), "{stale}");
        // One that hangs holds the report up for its time, and no longer.
        let hangs = one.hold(30, &pool(), Epoch(5)).expect("a lease");
        assert_eq!(shared.report(129, &published(6)), published(5));
        assert_eq!(shared.report(130, &published(6)), published(6));
        assert_eq!(hangs.check(130), Err(NotHeld::Late));
    }

    #[test]
    fn another_start_begins_without_a_lease() {
        let shared = SharedLease::new(1, 100);
        let mut holder = LeaseHolder::new(settings(), NodeId(1), Incarnation(1));
        grant(&mut holder, 0, 3);
        shared.tell(&holder);
        shared.tell(&LeaseHolder::new(settings(), NodeId(1), Incarnation(2)));
        let worker = shared.of_worker(0);
        assert_eq!(worker.hold(1, &pool(), Epoch(9)).err(), Some(NoLease::NotYet.into()));
        assert_eq!(worker.holder(), Some((NodeId(1), Incarnation(2))));
    }
}
