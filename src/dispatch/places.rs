//! How many requests may be in flight to one shard?
//!
//! A semaphore, for its queue, with a small purse of places before it for each worker. Without the
//! purse every request of every worker would write one line of memory and take the semaphore's
//! lock, though nearly none ever waits. With it a request moves a number up and down that its
//! worker alone writes, and the semaphore is asked once in many requests.
//!
//! Invariants:
//! 1. Never are more places taken than there are.
//! 2. While somebody waits, no place goes back into a purse: it goes to who waits longest.
//!
//! The price: what lies in a purse is lost to other workers until its owner has a request that
//! ends. A purse holds at most a 32nd of the places divided by the workers, so that as good as all
//! can always be had; a shard of few places has no purses.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Semaphore;

use crate::metrics::Stripe;

/// The places of one shard.
pub(super) struct Places {
    all: Semaphore,
    max: usize,
    /// The most that a purse holds, and how many are fetched at once.
    purse_max: usize,
    purses: Box<[Purse]>,
    /// Those who wait. Read by every request, and written only when the places run out.
    waiting: AtomicUsize,
}

/// Free places that one worker has set aside. Only that worker's thread writes it.
#[derive(Default)]
#[repr(align(128))]
struct Purse(AtomicUsize);

/// A place, until dropped.
#[must_use = "the place is held only while this is"]
pub(super) struct Place<'a> {
    places: &'a Places,
    stripe: Stripe,
}

/// One who waits is counted until it has its place or gives up.
struct Waiter<'a>(&'a AtomicUsize);

impl Places {
    /// `max` places, for requests of `workers` threads.
    pub(super) fn new(max: usize, workers: usize) -> Self {
        let workers = workers.max(1);
        Self {
            all: Semaphore::new(max),
            max,
            purse_max: max / (32 * workers),
            purses: (0..workers).map(|_| Purse::default()).collect(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// How many there are.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many are taken now.
    pub(super) fn taken(&self) -> usize {
        let in_purses = self.purses.iter().map(|purse| purse.0.load(Relaxed)).sum();
        self.max.saturating_sub(self.all.available_permits()).saturating_sub(in_purses)
    }

    /// A place, if one is free. `stripe` is the calling worker's.
    pub(super) fn try_take(&self, stripe: Stripe) -> Option<Place<'_>> {
        if let Some(purse) = self.purse(stripe) {
            let left = purse.load(Relaxed);
            if left > 0 {
                purse.store(left - 1, Relaxed);
                return Some(Place { places: self, stripe });
            }
            // Tokio counts in 32 bits here; a 32nd of what it can hold always fits.
            let many = u32::try_from(self.purse_max).unwrap_or(u32::MAX);
            if let Ok(some) = self.all.try_acquire_many(many) {
                some.forget();
                purse.store(self.purse_max - 1, Relaxed);
                return Some(Place { places: self, stripe });
            }
        }
        self.all.try_acquire().ok()?.forget();
        Some(Place { places: self, stripe })
    }

    /// Waits for a place. Given up, it has taken none.
    pub(super) async fn wait(&self, stripe: Stripe) -> Place<'_> {
        let _waiter = Waiter::new(&self.waiting);
        let place = self.all.acquire().await.expect("nobody closes the semaphore");
        place.forget();
        Place { places: self, stripe }
    }

    fn purse(&self, stripe: Stripe) -> Option<&AtomicUsize> {
        let purse = &self.purses.get(stripe.worker()?)?.0;
        (self.purse_max > 0).then_some(purse)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Places { all, waiting, purse_max, .. } = self.places;
        let Some(purse) = self.places.purse(self.stripe) else { return all.add_permits(1) };
        let left = purse.load(Relaxed);
        if waiting.load(Relaxed) > 0 {
            purse.store(0, Relaxed);
            all.add_permits(left + 1);
        } else if left < *purse_max {
            purse.store(left + 1, Relaxed);
        } else {
            all.add_permits(1);
        }
    }
}

impl<'a> Waiter<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const FIRST: Stripe = Stripe::of_worker(0);
    const SECOND: Stripe = Stripe::of_worker(1);

    #[test]
    fn all_places_can_be_taken_and_never_more() {
        for (max, workers) in [(1, 1), (3, 2), (31, 1), (32, 1), (640, 1), (1024, 1)] {
            let places = Places::new(max, workers);
            for _ in 0..3 {
                let held: Vec<_> = std::iter::from_fn(|| places.try_take(FIRST)).collect();
                assert_eq!((held.len(), places.taken()), (max, max), "{max} for {workers}");
                assert!(
                    places.try_take(SECOND).is_none() && places.try_take(Stripe::SHARED).is_none()
                );
                drop(held);
                assert_eq!(places.taken(), 0);
            }
        }
    }

    #[test]
    fn another_workers_purse_keeps_back_little() {
        let places = Places::new(1024, 2);
        drop(places.try_take(SECOND));
        let held: Vec<_> = std::iter::from_fn(|| places.try_take(FIRST)).collect();
        assert_eq!((held.len(), places.taken()), (1024 - 16, 1024 - 16));
    }

    #[test]
    fn who_waits_gets_the_next_place_and_the_purse() {
        let places = Places::new(64, 2);
        let mut held: Vec<_> = std::iter::from_fn(|| places.try_take(FIRST)).collect();
        assert_eq!(held.len(), 64);
        // Two wait; the second gives up and leaves nothing behind.
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = pin!(places.wait(SECOND));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(pin!(places.wait(SECOND)).poll(&mut cx).is_pending());
        drop(held.pop());
        assert!(places.try_take(FIRST).is_none(), "it belongs to who waits");
        let got = first.as_mut().poll(&mut cx);
        assert!(got.is_ready());
        assert_eq!(places.taken(), 64);
        drop((held, got));
        assert_eq!((places.taken(), places.waiting.load(Relaxed)), (0, 0));
    }

    #[test]
    fn threads_together_stay_within_the_places() {
        let (places, in_flight) = (Places::new(100, 4), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (places, in_flight) = (&places, &in_flight);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for round in 0..20_000_usize {
                        if let Some(place) = places.try_take(Stripe::of_worker(worker)) {
                            let now = in_flight.fetch_add(1, Relaxed) + 1;
                            assert!(now <= 100, "{now} places were taken");
                            held.push(place);
                        }
                        if round % (3 + worker) == 0
                            && let Some(place) = held.pop()
                        {
                            // Before the place is free, or its next holder is counted beside us.
                            in_flight.fetch_sub(1, Relaxed);
                            drop(place);
                        }
                    }
                    in_flight.fetch_sub(held.len(), Relaxed);
                });
            }
        });
        assert_eq!(places.taken(), 0);
    }
}
