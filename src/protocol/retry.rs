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
//! *may* be repeated; `dispatch::run` does.
//!
//! Requests in flight are counted on every request and read only at a repeat, so each worker
//! counts in its own stripe and a repeat adds them up. The sum is not a snapshot; it is off by
//! what began or ended while it was taken, which is within what a percentage means here. Repeats
//! are one counter, moved by compare-and-swap, so they never exceed the bound that was computed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::RetryPolicy;
use crate::metrics::{Counter, Stripe};

/// The retry budget of one pool, shared by all workers.
#[derive(Debug)]
pub struct RetryBudget {
    percent: u64,
    min: u64,
    /// Requests that have begun …
    begun: Counter,
    /// … and ended, ever.
    ended: Counter,
    /// Repeats in flight.
    repeats: AtomicU64,
}

/// A request in flight, until dropped.
#[derive(Debug)]
#[must_use = "the request counts only while this is held"]
pub struct InFlight<'a> {
    ended: &'a Counter,
    stripe: Stripe,
}

/// A repeat in flight, until dropped: to be held until the repeated try has ended.
#[derive(Debug)]
#[must_use = "the repeat counts only while this is held"]
pub struct Repeat<'a>(&'a RetryBudget);

impl RetryBudget {
    /// A budget that `workers` threads count requests in.
    #[must_use]
    pub fn new(policy: &RetryPolicy, workers: usize) -> Self {
        Self {
            percent: u64::from(policy.budget_percent),
            min: u64::from(policy.budget_min),
            begun: Counter::new(workers),
            ended: Counter::new(workers),
            repeats: AtomicU64::new(0),
        }
    }

    /// Counts a request as in flight; `stripe` is the calling worker's.
    pub fn request(&self, stripe: Stripe) -> InFlight<'_> {
        self.begun.inc(stripe);
        InFlight { ended: &self.ended, stripe }
    }

    /// Takes one repeat from the budget; `None` if it is used up.
    pub fn repeat(&self) -> Option<Repeat<'_>> {
        let max = self.repeats_max();
        self.repeats
            .try_update(Relaxed, Relaxed, |now| (now < max).then_some(now + 1))
            .ok()
            .map(|_| Repeat(self))
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        // Saturating, since the two sums are not taken at one instant. What has ended is summed
        // first, so that a request that does both meanwhile counts as in flight.
        let ended = self.ended.sum();
        self.begun.sum().saturating_sub(ended)
    }

    /// Repeats in flight.
    #[must_use]
    pub fn repeats(&self) -> u64 {
        self.repeats.load(Relaxed)
    }

    /// How many repeats may be in flight now.
    #[must_use]
    pub fn repeats_max(&self) -> u64 {
        self.min.max(self.in_flight().saturating_mul(self.percent) / 100)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.ended.inc(self.stripe);
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
        let held: Vec<_> = (0..3).map_while(|_| budget.repeat()).collect();
        assert_eq!((held.len(), budget.repeats()), (3, 3));
        assert!(budget.repeat().is_none());
        drop(held);
        assert_eq!(budget.repeats(), 0);
        assert!(budget.repeat().is_some());
    }

    #[test]
    fn a_busy_pool_may_repeat_a_part_of_what_is_in_flight_on_all_workers() {
        let budget = budget(20, 3, 4);
        let requests: Vec<_> = (0..100).map(|n| budget.request(Stripe::of_worker(n))).collect();
        assert_eq!((budget.in_flight(), budget.repeats_max()), (100, 20));
        let held: Vec<_> = (0..30).map_while(|_| budget.repeat()).collect();
        assert_eq!(held.len(), 20);
        // Requests that end take nothing back, but no further repeat is granted.
        drop(requests);
        assert_eq!((budget.repeats(), budget.repeats_max()), (20, 3));
        assert!(budget.repeat().is_none());
    }

    #[test]
    fn nothing_may_be_repeated_when_both_parts_are_none() {
        let budget = budget(0, 0, 1);
        let _requests: Vec<_> = (0..1000).map(|n| budget.request(Stripe::of_worker(n))).collect();
        assert!(budget.repeat().is_none());
        assert!(RetryBudget::new(&RetryPolicy::default(), 0).repeat().is_some());
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
                let stripe = Stripe::of_worker(worker);
                scope.spawn(move || {
                    let requests: Vec<_> = (0..REQUESTS).map(|_| budget.request(stripe)).collect();
                    entered.wait();
                    let mut held = Vec::new();
                    for round in 0..20_000_usize {
                        match budget.repeat() {
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
