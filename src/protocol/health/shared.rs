//! One pool's health as threads share it: a byte per shard for the request path, and the machine
//! behind a lock for everyone who has news.
//!
//! The request path reads one relaxed byte per shard that it considers. It takes the lock with a
//! failure, and with a success only while a failure is pending there: a healthy pool under full
//! load takes no lock and writes no shared line. The lock is held for microseconds and never
//! across a wait.
//!
//! What the machine says is written to the bytes before the lock is given back, so they change in
//! the machine's order. A request that reads a byte just before it changes acts on the older view;
//! that is the same as having come a moment earlier.
//!
//! Changes are put into a bounded queue for `background::probe`, which logs and counts them: this
//! room knows neither a log nor a metric.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::observation::{Class, Observation, PerClass, ProbeFailure};
use super::pool::PoolHealth;
use super::report::{Census, Change, ShardView, Standing};
use super::settings::HealthSettings;
use super::shard::Marks;
use crate::ids::{BaseUrl, ShardId};

/// Changes kept for the log. The reader comes several times a second; more than this many between
/// two visits would be a log that nobody reads, so the oldest go, and their number is told.
const CHANGES_MAX: usize = 1024;

/// A shard's place in a pool: who sits there, and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The shard's stable id.
    pub id: ShardId,
    /// Where it is reached. Health is that of an address: a shard that moves starts anew.
    pub url: BaseUrl,
    /// Whether the operator has it in maintenance.
    pub maint: bool,
}

/// See the module's doc. Shards are named by their place, the `ShardIx` of the same topology.
#[derive(Debug)]
pub struct SharedHealth {
    seats: Box<[Seat]>,
    cells: Box<[Cell]>,
    panic: PerClass<AtomicBool>,
    settings: HealthSettings,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    machine: PoolHealth,
    changes: VecDeque<Change>,
    /// Changes that did not fit.
    lost: u64,
}

/// On a line of its own, so that one shard's bad day does not slow the reading of the others.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell {
    marks: AtomicU8,
    /// Since when the shard is back, if it was ever away; see [`SharedHealth::back_for`].
    back_ms: PerClass<AtomicU64>,
    /// Successes ever counted; they are only while the marks say so.
    good: PerClass<AtomicU64>,
}

/// Not back since any time: it was never away.
const SETTLED: u64 = u64::MAX;

/// Back since whenever it is asked for next.
const JUST_BACK: u64 = u64::MAX - 1;

const USABLE: u8 = 1;
const WANTS_SUCCESS: u8 = 2;
const COUNTS: u8 = 4;
const VERDICT: u8 = 8;

fn bit(mark: u8, class: Class) -> u8 {
    match class {
        Class::Read => mark,
        Class::Write => mark << 4,
    }
}

impl SharedHealth {
    /// The health of a pool whose shards sit in `seats`, in the topology's order. All are up.
    #[must_use]
    pub fn new(settings: HealthSettings, seats: Vec<Seat>) -> Self {
        let machine = PoolHealth::new(settings.clone(), seats.len());
        let goods = vec![PerClass::default(); seats.len()];
        Self::begun(settings, seats, machine, goods, Vec::new())
    }

    /// The health of the pool after a reload: `previous` itself if nothing changed, and otherwise
    /// a new one to which what is known of a shard with the same id and address goes over. So a
    /// reload neither revives a dead shard nor forgets an ejection. What requests still in flight
    /// tell `previous` afterwards is lost.
    #[must_use]
    pub fn renewed(previous: &Arc<Self>, settings: HealthSettings, seats: Vec<Seat>) -> Arc<Self> {
        if previous.settings == settings && *previous.seats == *seats {
            return Arc::clone(previous);
        }
        let sat = |seat: &Seat| {
            previous.seats.iter().position(|old| old.id == seat.id && old.url == seat.url)
        };
        let was: Vec<Option<usize>> = seats.iter().map(sat).collect();
        let (machine, changes) = previous.lock().machine.successor(settings.clone(), &was);
        // The totals go over too: the machine remembers how far it has read them.
        let good = |was: &Option<usize>| {
            was.map_or_else(PerClass::default, |at| PerClass {
                read: previous.good(at, Class::Read),
                write: previous.good(at, Class::Write),
            })
        };
        let goods = was.iter().map(good).collect();
        let renewed = Self::begun(settings, seats, machine, goods, changes);
        for (at, was) in was.iter().enumerate() {
            let Some(was) = *was else { continue };
            for class in Class::ALL {
                let (old, new) = (&previous.cells[was], &renewed.cells[at]);
                let was_away = previous.seats[was].maint || !previous.usable(was, class);
                let is_back = was_away && !renewed.seats[at].maint && renewed.usable(at, class);
                let begins =
                    previous.settings.slow_start.is_none() && renewed.settings.slow_start.is_some();
                let back_ms = match old.back_ms[class].load(Relaxed) {
                    _ if is_back => JUST_BACK,
                    // Nobody asked, so nobody knows for how long: long enough.
                    JUST_BACK if begins => SETTLED,
                    back_ms => back_ms,
                };
                new.back_ms[class].store(back_ms, Relaxed);
            }
        }
        Arc::new(renewed)
    }

    fn begun(
        settings: HealthSettings,
        seats: Vec<Seat>,
        mut machine: PoolHealth,
        goods: Vec<PerClass<u64>>,
        mut changes: Vec<Change>,
    ) -> Self {
        let now_ms = machine.now_ms();
        for (ix, seat) in seats.iter().enumerate() {
            changes.extend(machine.set_maint(now_ms, ix, seat.maint));
        }
        let cell = |good: PerClass<u64>| Cell {
            marks: AtomicU8::new(0),
            back_ms: PerClass { read: SETTLED.into(), write: SETTLED.into() },
            good: PerClass { read: good.read.into(), write: good.write.into() },
        };
        let shared = Self {
            cells: goods.into_iter().map(cell).collect(),
            seats: seats.into(),
            panic: PerClass::default(),
            settings,
            inner: Mutex::new(Inner { machine, changes: changes.into(), lost: 0 }),
        };
        shared.publish_all(&shared.lock().machine);
        // Who is up at the beginning has not come back from anywhere.
        for cell in &shared.cells {
            Class::ALL.into_iter().for_each(|class| cell.back_ms[class].store(SETTLED, Relaxed));
        }
        shared
    }

    /// Who sits where.
    #[must_use]
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Whether health lets requests of `class` go to `shard`. One relaxed load.
    ///
    /// Maintenance is not health: it stands in the topology and is the caller's to look at.
    #[must_use]
    pub fn usable(&self, shard: usize, class: Class) -> bool {
        self.marked(shard, USABLE, class)
    }

    /// Whether this node's own evidence lets requests of `class` go to `shard`, whatever is agreed
    /// about it. One relaxed load as long as it is [usable](Self::usable), and else the lock.
    #[must_use]
    pub fn seen_up(&self, shard: usize, class: Class) -> bool {
        if self.usable(shard, class) {
            return true;
        }
        let view = self.view(shard);
        let own = match class {
            Class::Read => view.read,
            Class::Write => view.write,
        };
        own.standing == Standing::Up
    }

    /// Whether a verdict says that `shard` is down for requests of `class`: the cluster's, or, on a
    /// node without a cluster, that of its own probes. Unlike [`Self::usable`], no request of this
    /// node's has a part in it. One relaxed load.
    #[must_use]
    pub fn verdict(&self, shard: usize, class: Class) -> bool {
        self.marked(shard, VERDICT, class)
    }

    /// Whether so much of the pool looks down that the order of trying is to be the ring's own.
    /// One relaxed load.
    #[must_use]
    pub fn in_panic(&self, class: Class) -> bool {
        self.panic[class].load(Relaxed)
    }

    /// How long a shard that was down, ejected or in maintenance has been back, in milliseconds;
    /// `None` if it was never away, as nearly always. The time counts from the first question of
    /// this kind after its return. One relaxed load, unless it was away.
    #[must_use]
    pub fn back_for(&self, now_ms: u64, shard: usize, class: Class) -> Option<u64> {
        let back_ms = &self.cells.get(shard)?.back_ms[class];
        match back_ms.load(Relaxed) {
            SETTLED => None,
            JUST_BACK => {
                // Whoever writes first is right; if it went and came meanwhile, that counts.
                let _: Result<u64, u64> =
                    back_ms.compare_exchange(JUST_BACK, now_ms, Relaxed, Relaxed);
                Some(0)
            }
            since_ms => Some(now_ms.saturating_sub(since_ms)),
        }
    }

    /// How far such a shard is on its way back to all its keys, in thousandths; `None` if it has
    /// them all.
    #[must_use]
    pub fn easing(&self, now_ms: u64, shard: usize, class: Class) -> Option<u64> {
        self.part_of_slow_start(self.back_for(now_ms, shard, class)?)
    }

    /// The same for who only looks: no time begins by it.
    #[must_use]
    pub fn eased(&self, now_ms: u64, shard: usize, class: Class) -> Option<u64> {
        match self.cells.get(shard)?.back_ms[class].load(Relaxed) {
            SETTLED => None,
            JUST_BACK => self.part_of_slow_start(0),
            since_ms => self.part_of_slow_start(now_ms.saturating_sub(since_ms)),
        }
    }

    fn part_of_slow_start(&self, passed_ms: u64) -> Option<u64> {
        let window_ms = u64::try_from(self.settings.slow_start?.as_millis()).unwrap_or(u64::MAX);
        (passed_ms < window_ms).then(|| passed_ms.saturating_mul(1000) / window_ms)
    }

    /// Whether [`Self::observe`] would do anything with a success of `class` at `shard`. For a
    /// caller to whom making the observation costs something; `observe` asks by itself.
    #[must_use]
    pub fn wants_success(&self, shard: usize, class: Class) -> bool {
        self.marked(shard, WANTS_SUCCESS | COUNTS, class)
    }

    /// Takes down how a try at `shard` ended at `now_ms`.
    pub fn observe(&self, now_ms: u64, shard: usize, seen: &Observation) {
        let Some(cell) = self.cells.get(shard) else { return };
        if self.settings.passive.is_none() {
            return;
        }
        if seen.outcome.is_success() {
            let marks = cell.marks.load(Relaxed);
            if marks & bit(COUNTS, seen.class) != 0 {
                cell.good[seen.class].fetch_add(1, Relaxed);
            }
            if marks & bit(WANTS_SUCCESS, seen.class) == 0 {
                return;
            }
        }
        let mut inner = self.lock();
        let changes = inner.machine.observe(now_ms, shard, seen);
        self.publish(&inner.machine, shard);
        self.keep(&mut inner, changes);
    }

    /// Takes down how a probe of `shard` ended at `now_ms`.
    pub fn probe_result(&self, now_ms: u64, shard: usize, result: Result<(), ProbeFailure>) {
        let mut inner = self.lock();
        let changes = inner.machine.probe_result(now_ms, shard, result);
        self.publish(&inner.machine, shard);
        self.keep(&mut inner, changes);
    }

    /// Takes down what is agreed: which shards are down, in the order of the seats. To be told
    /// with each change of the agreed state, and from the beginning on: a health that is never
    /// told is that of a node without a cluster.
    pub fn set_agreed(&self, down: &[PerClass<bool>]) {
        let mut inner = self.lock();
        let now_ms = inner.machine.now_ms();
        let changes = inner.machine.set_agreed(now_ms, down);
        self.publish_all(&inner.machine);
        self.keep(&mut inner, changes);
    }

    /// Takes down whether the group is heard: this node has a lease.
    pub fn set_group_heard(&self, heard: bool) {
        let mut inner = self.lock();
        let changes = inner.machine.set_group_heard(heard);
        self.publish_all(&inner.machine);
        self.keep(&mut inner, changes);
    }

    /// What this node tells the others: which shards are down by its own evidence, of those about
    /// which it has any ([`PoolHealth::own_view`]).
    #[must_use]
    pub fn own_views(&self) -> Vec<(ShardId, PerClass<bool>)> {
        let inner = self.lock();
        let own =
            |(shard, seat): (usize, &Seat)| Some((seat.id.clone(), inner.machine.own_view(shard)?));
        self.seats.iter().enumerate().filter_map(own).collect()
    }

    /// Lets time pass. Returns when to call again, `None` if only an event can change anything.
    pub fn tick(&self, now_ms: u64) -> Option<u64> {
        let mut inner = self.lock();
        let changes = inner.machine.tick(now_ms, |shard, class| self.good(shard, class));
        self.publish_all(&inner.machine);
        self.keep(&mut inner, changes);
        inner.machine.next_deadline()
    }

    /// What has changed since this was last called, in order, and how many changes before these
    /// were lost because nobody called.
    #[must_use]
    pub fn take_changes(&self) -> (Vec<Change>, u64) {
        let mut inner = self.lock();
        let lost = std::mem::take(&mut inner.lost);
        (inner.changes.drain(..).collect(), lost)
    }

    /// What is known of each shard, by place.
    #[must_use]
    pub fn views(&self) -> Vec<ShardView> {
        let inner = self.lock();
        (0..self.seats.len()).map(|shard| inner.machine.view(shard)).collect()
    }

    /// What is known of one of them.
    ///
    /// # Panics
    /// If nobody sits there.
    #[must_use]
    pub fn view(&self, shard: usize) -> ShardView {
        assert!(shard < self.seats.len(), "a place of this pool");
        self.lock().machine.view(shard)
    }

    /// The pool in numbers.
    #[must_use]
    pub fn census(&self) -> Census {
        self.lock().machine.census()
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &HealthSettings {
        &self.settings
    }

    fn marked(&self, shard: usize, marks: u8, class: Class) -> bool {
        // A place beyond the pool looks up.
        let found = self.cells.get(shard).map_or(bit(USABLE, class), |c| c.marks.load(Relaxed));
        found & bit(marks, class) != 0
    }

    fn good(&self, shard: usize, class: Class) -> u64 {
        self.cells.get(shard).map_or(0, |cell| cell.good[class].load(Relaxed))
    }

    /// A thread that panicked with the lock leaves a machine that every later input still finds
    /// usable (its worst is a stale verdict), whereas giving up health would stop the pool.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, inner: &mut Inner, changes: Vec<Change>) {
        // Whatever a shard's change did to the pool as a whole.
        for class in Class::ALL {
            self.panic[class].store(inner.machine.panic(class), Relaxed);
        }
        inner.changes.extend(changes);
        while inner.changes.len() > CHANGES_MAX {
            inner.changes.pop_front();
            inner.lost += 1;
        }
    }

    fn publish_all(&self, machine: &PoolHealth) {
        for shard in 0..self.cells.len() {
            self.publish(machine, shard);
        }
        for class in Class::ALL {
            self.panic[class].store(machine.panic(class), Relaxed);
        }
    }

    fn publish(&self, machine: &PoolHealth, shard: usize) {
        let Some(cell) = self.cells.get(shard) else { return };
        let marks = packed(machine.marks(shard));
        // An unchanged line is not written: every worker has it in its cache.
        let before = cell.marks.load(Relaxed);
        if before == marks {
            return;
        }
        for class in Class::ALL {
            let usable = bit(USABLE, class);
            if before & usable == 0 && marks & usable != 0 {
                cell.back_ms[class].store(JUST_BACK, Relaxed);
            }
        }
        cell.marks.store(marks, Relaxed);
    }
}

fn packed(marks: Marks) -> u8 {
    let mut byte = 0;
    for class in Class::ALL {
        for (mark, set) in [
            (USABLE, marks.usable),
            (WANTS_SUCCESS, marks.wants_success),
            (COUNTS, marks.counts),
            (VERDICT, marks.verdict),
        ] {
            byte |= if set[class] { bit(mark, class) } else { 0 };
        }
    }
    byte
}
