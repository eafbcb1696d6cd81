//! Which task serves a stream?
//!
//! One that has served another before, if such a one is free. A task has about 5 KiB, which
//! tokio moves five times before it is first polled, and three times when it ends: one instruction
//! in eight of those for an answer of 1 KiB. So a task that has served its stream waits for the
//! next one, of any connection of its worker.
//!
//! Invariants:
//! 1. A server that is free holds nothing of the stream that it served.
//! 2. One that panics is never free again: its task is gone.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::stream::{Stream, serve};

/// Servers that may wait for a stream, of about 5 KiB each: what some hundred requests in flight
/// need. More end, so that a burst of streams does not hold its memory for ever.
const FREE_MAX: usize = 256;

/// One worker's servers of streams.
#[derive(Clone, Default)]
pub(in super::super) struct StreamServers {
    free: Rc<RefCell<Vec<Rc<Desk>>>>,
}

/// Where a server finds its next stream.
#[derive(Default)]
struct Desk {
    next: Cell<Option<Stream>>,
    server: Cell<Option<Waker>>,
}

impl StreamServers {
    /// Has `stream` served by a task of this worker.
    pub(super) fn serve(&self, stream: Stream) {
        let free = self.free.borrow_mut().pop();
        if let Some(desk) = free {
            desk.next.set(Some(stream));
            if let Some(server) = desk.server.take() {
                server.wake();
            }
            return;
        }
        let desk = Rc::new(Desk { next: Cell::new(Some(stream)), server: Cell::default() });
        tokio::task::spawn_local(serve_all(self.clone(), desk));
    }

    /// Whether a server is kept that has nothing to do.
    fn keep(&self, desk: &Rc<Desk>) -> bool {
        let mut free = self.free.borrow_mut();
        let has_room = free.len() < FREE_MAX;
        if has_room {
            free.push(Rc::clone(desk));
        }
        has_room
    }
}

/// Serves one stream after the other.
async fn serve_all(servers: StreamServers, desk: Rc<Desk>) {
    loop {
        let next = poll_fn(|cx| match desk.next.take() {
            Some(stream) => Poll::Ready(stream),
            None => {
                desk.server.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        });
        serve(next.await).await;
        if !servers.keep(&desk) {
            return;
        }
    }
}
