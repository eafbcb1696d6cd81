//! What is under way with the replicas of one key?
//!
//! A handful of futures that one task polls together, one after the other, with one waker: each has
//! a socket and a deadline of its own, and all of them wake the task. That is cheap for the few
//! that there are, and an exchange can be taken over by another task as it is.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::drivers::native::{Committed, Fault, Held};
use crate::version::Version;

/// What came of one exchange.
pub(super) enum Reply {
    /// A body was taken in, or the key was looked at before a deletion: the newest version there.
    Staged(Result<Version, Fault>),
    /// A commit, put, deletion or copy.
    Committed(Result<Committed, Fault>),
    /// A commit of what the store does not have.
    NotStaged,
    /// What the replica holds.
    Held(Result<Held, Fault>),
    /// Nobody looks at it.
    Dropped,
}

/// One exchange, with all that it needs.
pub(super) type Exchange = Pin<Box<dyn Future<Output = Reply>>>;

/// Those of one operation, each with the place of its replica.
#[derive(Default)]
pub(super) struct Exchanges {
    running: Vec<(usize, Exchange)>,
}

impl Exchanges {
    /// Begins one more.
    pub(super) fn begin(&mut self, place: usize, exchange: impl Future<Output = Reply> + 'static) {
        self.running.push((place, Box::pin(exchange)));
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Gives up whatever is under way with a replica.
    pub(super) fn give_up(&mut self, place: usize) {
        self.running.retain(|(running, _)| *running != place);
    }

    /// Polls all of them; ready with the first that has ended.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Reply)> {
        for at in 0..self.running.len() {
            let (place, exchange) = &mut self.running[at];
            if let Poll::Ready(reply) = exchange.as_mut().poll(cx) {
                let place = *place;
                drop(self.running.swap_remove(at));
                return Poll::Ready((place, reply));
            }
        }
        Poll::Pending
    }
}
