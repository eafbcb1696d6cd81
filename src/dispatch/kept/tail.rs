//! What goes on when the client has its answer?
//!
//! A quorum has acknowledged, and the third replica needs a millisecond more. Without these it would
//! be cut off, and a hint would bring by a detour what was on its way already. So what is under way
//! goes on in a task of its own: few, since each is bounded in time, and beyond a number there are
//! hints instead.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::read::Reading;
use super::write::{Event, Writing};

/// Tasks of one worker. Each has a few connections and at most a window of a body; a worker that has
/// so many is behind a store that does not answer.
const TAILS_MAX: usize = 256;

/// How long a write goes on for replicas that are late, in milliseconds.
const WRITE_MS: u64 = 5_000;

/// How long repairs go on, in milliseconds: they copy bodies that took longer than the client was
/// kept waiting.
const REPAIR_MS: u64 = 60_000;

/// Counts the tasks of one worker.
#[derive(Default)]
pub struct Tails(Cell<usize>);

/// One of them.
struct Tail(Rc<Tails>);

impl Tail {
    fn begin(tails: &Rc<Tails>) -> Option<Self> {
        if tails.0.get() >= TAILS_MAX {
            return None;
        }
        tails.0.set(tails.0.get() + 1);
        Some(Self(Rc::clone(tails)))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

/// Lets a write go on.
pub(super) fn go_on_writing(tails: &Rc<Tails>, mut writing: Writing) {
    let Some(tail) = Tail::begin(tails) else {
        writing.end();
        return;
    };
    tokio::task::spawn_local(async move {
        let _tail = tail;
        let timer = writing.job.means.timers.register();
        let until_ms = timer.timers().now_ms() + WRITE_MS;
        while writing.is_under_way() {
            let event = poll_fn(|cx| match writing.poll_exchanges(cx) {
                Poll::Pending if timer.poll_expired(cx, until_ms) => Poll::Ready(None),
                polled => polled.map(Some),
            });
            match event.await {
                Some((place, reply)) => writing.take(Event::Reply(place, reply)),
                None => {
                    writing.end();
                    break;
                }
            }
            let _told = writing.drain();
        }
        writing.end();
    });
}

/// Lets the repairs of a read go on.
pub(super) fn go_on_repairing(tails: &Rc<Tails>, mut reading: Reading) {
    let Some(tail) = Tail::begin(tails) else { return };
    tokio::task::spawn_local(async move {
        let _tail = tail;
        let timer = reading.job.means.timers.register();
        let until_ms = timer.timers().now_ms() + REPAIR_MS;
        while !reading.exchanges.is_empty() {
            let event = poll_fn(|cx| match reading.exchanges.poll_next(cx) {
                Poll::Pending if timer.poll_expired(cx, until_ms) => Poll::Ready(None),
                polled => polled.map(Some),
            });
            let Some((place, reply)) = event.await else { break };
            reading.take(place, reply);
            let _told = reading.drain();
        }
    });
}
