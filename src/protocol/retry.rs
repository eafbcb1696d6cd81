//! May this pool be burdened with one more repeat?
//!
//! A repeat helps when one shard in many fails, and hurts when all are overloaded: then every
//! request becomes several. The **retry budget** (Envoy's name and rule) bounds the repeats in
//! flight by a part of the requests in flight, so that the extra load is at most that part
//! however badly things go. A bound on each request alone cannot do that: three tries each are
//! still three times the load.
//!
//! Invariant: after every grant, repeats in flight ≤ max(`budget_min`, `budget_percent` of the
//! requests that were in flight when it was made). The budget does not decide whether a request
//! *may* be repeated; `dispatch::retry` does.
//!
//! Requests in flight are counted on every request and read only at a repeat, so each worker
//! counts on a line of its own and a repeat adds them up. The sum is not a snapshot; it is off by
//! what began or ended while it was taken, which is within what a percentage means here. Repeats
//! are one counter, moved by compare-and-swap, so they never exceed the bound that was computed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::RetryPolicy;

/// The retry budget of one pool, shared by all workers.
#[derive(Debug)]
pub struct RetryBudget {
    percent: u64,
    min: u64,
    /// Requests in flight, by who counts them.
    stripes: Box<[Stripe]>,
    repeats: AtomicU64,
    /// Repeats that the budget refused, ever.
    refused: AtomicU64,
}

/// On a line of its own: this is written twice by every request.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe(AtomicU64);

/// A request in flight, until dropped.
#[derive(Debug)]
#[must_use = "the request counts only while this is held"]
pub struct InFlight<'a>(&'a Stripe);

/// A repeat in flight, until dropped: to be held until the repeated try has ended.
#[derive(Debug)]
#[must_use = "the repeat counts only while this is held"]
pub struct Repeat<'a>(&'a RetryBudget);

impl RetryBudget {
    /// A budget for `workers` threads (any number; more threads than that share counters).
    #[must_use]
    pub fn new(policy: &RetryPolicy, workers: usize) -> Self {
        Self {
            percent: u64::from(policy.budget_percent),
            min: u64::from(policy.budget_min),
            stripes: (0..workers.max(1)).map(|_| Stripe::default()).collect(),
            repeats: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Counts a request as in flight. `worker` is the calling thread's number.
    pub fn enter(&self, worker: usize) -> InFlight<'_> {
        let stripe = &self.stripes[worker % self.stripes.len()];
        stripe.0.fetch_add(1, Relaxed);
        InFlight(stripe)
    }

    /// Takes one repeat from the budget; `None` if it is used up.
    pub fn try_repeat(&self) -> Option<Repeat<'_>> {
        let max = self.repeats_max();
        let taken = self.repeats.try_update(Relaxed, Relaxed, |now| (now < max).then_some(now + 1));
        if taken.is_err() {
            self.refused.fetch_add(1, Relaxed);
        }
        taken.ok().map(|_| Repeat(self))
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        // Each stripe is written by its own worker, so none can be seen below zero; the sum of a
        // moving total saturates all the same.
        self.stripes.iter().fold(0, |sum: u64, s| sum.saturating_add(s.0.load(Relaxed)))
    }

    /// Repeats in flight.
    #[must_use]
    pub fn repeats(&self) -> u64 {
        self.repeats.load(Relaxed)
    }

    /// Repeats that the budget has refused, ever (`upstream_rq_retry_overflow`).
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// How many repeats may be in flight now.
    #[must_use]
    pub fn repeats_max(&self) -> u64 {
        self.min.max(self.in_flight().saturating_mul(self.percent) / 100)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let before = self.0.0.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a request leaves once, from the stripe that it entered");
    }
}

impl Drop for Repeat<'_> {
    fn drop(&mut self) {
        let before = self.0.repeats.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a repeat ends once");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    fn budget(percent: u32, min: u32, workers: usize) -> RetryBudget {
        let policy =
            RetryPolicy { budget_percent: percent, budget_min: min, ..RetryPolicy::default() };
        RetryBudget::new(&policy, workers)
    }

    #[test]
    fn an_idle_pool_may_repeat_the_least_number() {
        let budget = budget(20, 3, 2);
        let held: Vec<_> = (0..3).map_while(|_| budget.try_repeat()).collect();
        assert_eq!((held.len(), budget.repeats()), (3, 3));
        assert!(budget.try_repeat().is_none());
        assert_eq!(budget.refused(), 1);
        drop(held);
        assert_eq!(budget.repeats(), 0);
        assert!(budget.try_repeat().is_some());
    }

    #[test]
    fn a_busy_pool_may_repeat_a_part_of_what_is_in_flight_on_all_workers() {
        let budget = budget(20, 3, 4);
        let requests: Vec<_> = (0..100).map(|n| budget.enter(n)).collect();
        assert_eq!((budget.in_flight(), budget.repeats_max()), (100, 20));
        let held: Vec<_> = (0..30).map_while(|_| budget.try_repeat()).collect();
        assert_eq!(held.len(), 20);
        // Requests that end take nothing back, but no further repeat is granted.
        drop(requests);
        assert_eq!((budget.repeats(), budget.repeats_max()), (20, 3));
        assert!(budget.try_repeat().is_none());
    }

    #[test]
    fn nothing_may_be_repeated_when_both_parts_are_none() {
        let budget = budget(0, 0, 1);
        let _requests: Vec<_> = (0..1000).map(|n| budget.enter(n)).collect();
        assert!(budget.try_repeat().is_none());
        assert!(RetryBudget::new(&RetryPolicy::default(), 0).try_repeat().is_some());
    }

    /// Many threads at once: what is granted never exceeds the bound, nothing is lost or left
    /// over. The requests in flight stand still while repeats are taken, so the bound is exact.
    #[test]
    fn threads_together_stay_within_the_budget() {
        const THREADS: usize = 8;
        const REQUESTS: usize = 50; // each thread's; 400 in all, of which 20 % are 80
        let budget = budget(20, 3, THREADS);
        let entered = Barrier::new(THREADS);
        let leaving = Barrier::new(THREADS);
        let (granted, highest) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for worker in 0..THREADS {
                let (budget, entered, leaving) = (&budget, &entered, &leaving);
                let (granted, highest) = (&granted, &highest);
                scope.spawn(move || {
                    let requests: Vec<_> = (0..REQUESTS).map(|_| budget.enter(worker)).collect();
                    entered.wait();
                    let mut held = Vec::new();
                    for round in 0..20_000_usize {
                        match budget.try_repeat() {
                            Some(repeat) => {
                                granted.fetch_add(1, SeqCst);
                                highest.fetch_max(budget.repeats(), SeqCst);
                                held.push(repeat);
                            }
                            None => held.clear(),
                        }
                        if round % 7 == worker % 7 {
                            held.pop();
                        }
                    }
                    leaving.wait();
                    drop((requests, held));
                });
            }
        });
        let highest = highest.load(SeqCst);
        assert!(highest <= 80, "{highest} repeats were in flight at once");
        assert!(granted.load(SeqCst) > 80, "the budget was never given back");
        assert_eq!((budget.repeats(), budget.in_flight()), (0, 0));
    }
}
