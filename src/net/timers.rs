//! When has a connection waited too long?
//!
//! Every wait on a socket has a deadline, and a request has about ten waits. Tokio's `timeout`
//! costs some 200 ns around each (measured: 2 % of a small request), since it registers a timer
//! with its driver every time. Here arming is a comparison and, rarely, a push: deadlines are
//! nearly always *later* than what the connection already waits for, and a wake-up that comes too
//! early only makes the task look at its deadline again. So each connection has one entry in a
//! coarse wheel, moved forward lazily (Varghese and Lauck 1987, scheme 6, with lazy re-insertion).
//!
//! Invariants:
//! 1. An armed deadline wakes its task at most one [`TICK_MS`] late; never is a wake-up lost.
//! 2. A wake-up without an expired deadline is harmless: who is woken polls, and arms again.
//!
//! One [`Timers`] belongs to one worker thread; nothing here is shared between threads.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How coarse deadlines are, in milliseconds. The shortest timeouts are about a second.
pub const TICK_MS: u64 = 50;

/// Buckets of the wheel. A deadline further away than all of them (102 s) is looked at halfway.
const BUCKETS: u64 = 2048;

/// "Not queued".
const NEVER: u64 = u64::MAX;

struct Entry {
    /// Whom to wake; `None` for a free entry.
    waker: Option<Waker>,
    /// The tick at whose bucket this entry is looked at next. An entry may lie in later buckets
    /// too, from before it was moved up; those are skipped.
    queued_tick: u64,
    armed: bool,
}

struct Wheel {
    entries: Vec<Entry>,
    free: Vec<u32>,
    buckets: Vec<Vec<u32>>,
    /// Every bucket up to this tick has been looked at.
    done_tick: u64,
}

/// One worker's clock and the deadlines of its connections.
pub struct Timers {
    begun: Instant,
    now_ms: Cell<u64>,
    now_micros: Cell<u64>,
    wheel: RefCell<Wheel>,
}

impl Timers {
    /// An empty wheel. Time is counted from `begun`, so that threads given the same instant can
    /// compare theirs.
    #[must_use]
    pub fn new(begun: Instant) -> Rc<Self> {
        Rc::new(Self {
            begun,
            now_ms: Cell::new(0),
            now_micros: Cell::new(0),
            wheel: RefCell::new(Wheel {
                entries: Vec::new(),
                free: Vec::new(),
                buckets: (0..BUCKETS).map(|_| Vec::new()).collect(),
                done_tick: 0,
            }),
        })
    }

    /// Milliseconds since this worker began, as of the last [`refresh`](Self::refresh).
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Microseconds since this worker began, as of the last [`refresh`](Self::refresh).
    pub fn now_micros(&self) -> u64 {
        self.now_micros.get()
    }

    /// Reads the clock. Called once per turn of the event loop and where a phase's length is
    /// measured; everything else uses the time that is kept.
    pub fn refresh(&self) -> u64 {
        let elapsed = self.begun.elapsed();
        #[allow(clippy::cast_possible_truncation, reason = "2^64 us are 584,000 years")]
        let micros = elapsed.as_micros() as u64;
        self.now_micros.set(micros);
        self.now_ms.set(micros / 1000);
        micros
    }

    /// The deadline `wait` from now.
    pub fn after(&self, wait: Duration) -> u64 {
        self.now_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }

    /// Registers the calling task.
    pub fn register(self: &Rc<Self>) -> Timer {
        let mut wheel = self.wheel.borrow_mut();
        let entry = Entry { waker: None, queued_tick: NEVER, armed: false };
        let index = if let Some(index) = wheel.free.pop() {
            // `queued_tick` of the former owner goes on to mark where the index still lies.
            let queued_tick = wheel.entries[index as usize].queued_tick;
            wheel.entries[index as usize] = Entry { queued_tick, ..entry };
            index
        } else {
            wheel.entries.push(entry);
            u32::try_from(wheel.entries.len() - 1).expect("fewer than 2^32 connections")
        };
        Timer { timers: Rc::clone(self), index }
    }

    /// Looks at every bucket that is due and wakes whom it finds. The worker's ticker calls this
    /// every [`TICK_MS`].
    #[inline(never)] // `benches/instructions` counts its calls.
    pub fn advance(&self) {
        let now_tick = self.now_ms() / TICK_MS;
        let mut due = Vec::new();
        {
            let mut wheel = self.wheel.borrow_mut();
            let first = wheel.done_tick + 1;
            // After a long pause every bucket is looked at once; no bucket needs it twice.
            for tick in first.max((now_tick + 1).saturating_sub(BUCKETS))..=now_tick {
                let bucket = usize::try_from(tick % BUCKETS).expect("fewer buckets than usize");
                let mut indices = std::mem::take(&mut wheel.buckets[bucket]);
                for index in indices.drain(..) {
                    let entry = &mut wheel.entries[index as usize];
                    if entry.queued_tick > now_tick {
                        continue;
                    }
                    entry.queued_tick = NEVER;
                    if std::mem::take(&mut entry.armed) {
                        due.extend(entry.waker.clone());
                    }
                }
                if wheel.buckets[bucket].is_empty() {
                    wheel.buckets[bucket] = indices;
                }
            }
            wheel.done_tick = now_tick.max(wheel.done_tick);
        }
        for waker in due {
            waker.wake();
        }
    }

    /// Wakes every registered task, so that each looks at what has changed (a drain begins).
    pub fn wake_all(&self) {
        let wakers: Vec<Waker> =
            self.wheel.borrow().entries.iter().filter_map(|entry| entry.waker.clone()).collect();
        for waker in wakers {
            waker.wake();
        }
    }
}

/// One task's entry in the wheel; gives it back when dropped.
pub struct Timer {
    timers: Rc<Timers>,
    index: u32,
}

impl Timer {
    /// The clock and wheel this timer belongs to.
    #[must_use]
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Whether `deadline_ms` has passed; if not, the task is woken when it has. To be called
    /// whenever a poll returns pending, with the deadline of that wait.
    #[must_use]
    pub fn poll_expired(&self, cx: &Context<'_>, deadline_ms: u64) -> bool {
        if self.timers.now_ms() >= deadline_ms {
            return true;
        }
        let mut wheel = self.timers.wheel.borrow_mut();
        let wheel = &mut *wheel;
        let entry = &mut wheel.entries[self.index as usize];
        match &entry.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => entry.waker = Some(cx.waker().clone()),
        }
        entry.armed = true;
        // The bucket after the one that the deadline lies in: never early, at most a tick late.
        let tick = deadline_ms / TICK_MS + 1;
        let tick = tick.clamp(wheel.done_tick + 1, wheel.done_tick + BUCKETS - 1);
        if tick < entry.queued_tick {
            entry.queued_tick = tick;
            let bucket = usize::try_from(tick % BUCKETS).expect("fewer buckets than usize");
            wheel.buckets[bucket].push(self.index);
        }
        false
    }

    /// Runs `future` until `deadline_ms`; `None` when it did not end by then.
    ///
    /// It is pinned by the caller, because a future that is given away by value lies in its
    /// caller's future three times: where it was made, as an argument, and where it is pinned.
    pub async fn limit<F: Future>(
        &self,
        deadline_ms: u64,
        mut future: Pin<&mut F>,
    ) -> Option<F::Output> {
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.poll_expired(cx, deadline_ms) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Keeps the calling task reachable by [`Timers::wake_all`] while it waits without a deadline.
    pub fn watch(&self, cx: &Context<'_>) {
        let mut wheel = self.timers.wheel.borrow_mut();
        let entry = &mut wheel.entries[self.index as usize];
        match &entry.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => entry.waker = Some(cx.waker().clone()),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut wheel = self.timers.wheel.borrow_mut();
        let entry = &mut wheel.entries[self.index as usize];
        entry.waker = None;
        entry.armed = false;
        wheel.free.push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Task {
        timer: Timer,
        count: Arc<Count>,
        waker: Waker,
    }

    impl Task {
        fn new(timers: &Rc<Timers>) -> Self {
            let count = Arc::new(Count::default());
            Self { timer: timers.register(), waker: Waker::from(Arc::clone(&count)), count }
        }

        fn expired(&self, deadline_ms: u64) -> bool {
            self.timer.poll_expired(&Context::from_waker(&self.waker), deadline_ms)
        }

        fn woken(&self) -> u32 {
            self.count.0.swap(0, Ordering::Relaxed)
        }
    }

    fn at(timers: &Timers, now_ms: u64) {
        timers.now_ms.set(now_ms);
        timers.advance();
    }

    #[test]
    fn a_deadline_wakes_within_a_tick_and_never_before_it_has_passed() {
        let timers = Timers::new(Instant::now());
        let task = Task::new(&timers);
        for deadline in [1, 49, 50, 51, 999, 60_000, 200_000, 1_000_000] {
            at(&timers, timers.now_ms() / 1000 * 1000 + 1000);
            let (begun, deadline) = (timers.now_ms(), timers.now_ms() + deadline);
            assert!(!task.expired(deadline));
            let tick = usize::try_from(TICK_MS).expect("a small number");
            for now in (begun..deadline).step_by(tick) {
                at(&timers, now);
                // Far deadlines wake early once in a while, to be armed again.
                if task.woken() > 0 {
                    assert!(!task.expired(deadline));
                }
            }
            at(&timers, deadline + TICK_MS);
            assert_eq!(task.woken(), 1, "{deadline}");
            assert!(task.expired(deadline));
        }
    }

    #[test]
    fn a_nearer_deadline_moves_the_entry_and_a_later_one_costs_nothing() {
        let timers = Timers::new(Instant::now());
        let task = Task::new(&timers);
        assert!(!task.expired(10_000));
        assert!(!task.expired(1_000));
        for deadline in 1_000..2_000 {
            assert!(!task.expired(deadline));
        }
        let queued: usize = timers.wheel.borrow().buckets.iter().map(Vec::len).sum();
        assert_eq!(queued, 2);
        at(&timers, 1_100);
        assert_eq!(task.woken(), 1);
        at(&timers, 20_000);
        assert_eq!(task.woken(), 0, "the former place in the wheel is skipped");
    }

    #[test]
    fn a_pause_longer_than_the_wheel_loses_nobody() {
        let timers = Timers::new(Instant::now());
        let tasks: Vec<Task> = (0..100).map(|_| Task::new(&timers)).collect();
        for (n, task) in (1u64..).zip(&tasks) {
            assert!(!task.expired(n * 900));
        }
        at(&timers, 3_600_000);
        assert!(tasks.iter().all(|task| task.woken() == 1));
    }

    #[test]
    fn an_entry_given_back_wakes_nobody_and_its_successor_is_woken() {
        let timers = Timers::new(Instant::now());
        let first = Task::new(&timers);
        assert!(!first.expired(500));
        let count = Arc::clone(&first.count);
        drop(first);
        let second = Task::new(&timers);
        assert!(!second.expired(700));
        at(&timers, 600);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        at(&timers, 800);
        assert!(second.woken() >= 1);
    }
}
