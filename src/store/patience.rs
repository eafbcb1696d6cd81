//! How long does the store wait for a client?
//!
//! hyper has one timeout for "no head yet", which runs between two requests as well; but a
//! connection may idle in a proxy's pool for a minute and still must not dribble a head for one.
//! So the waiting is bounded here, under hyper, by what the connection is in the middle of:
//!
//! - *idle*: no byte of a next head has come; [`ClientTimeouts::keep_alive`], and at most as long
//!   again, because the timer of a request may have to run out first;
//! - *head*: from its first byte to its last; [`ClientTimeouts::head`];
//! - *busy*: a request is being served; its body is bounded by who reads it;
//! - and in any of them, a write of which the client takes nothing;
//!   [`ClientTimeouts::body_idle`].
//!
//! Whoever waits too long finds the connection broken. A head whose first bytes came while the
//! request before it was still being served counts as idling: that is longer, but holds a
//! connection no longer than asking once in a while does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use crate::limits::ClientTimeouts;

/// What a connection is in the middle of. Counts its changes: the remainder by three says what,
/// the whole tells one idling from the next.
#[derive(Debug, Default)]
pub(super) struct Phase(AtomicU64);

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;

impl Phase {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on to the next moment at which the connection is in the middle of `what`.
    fn enter(&self, what: u64) {
        let now = self.get();
        let steps = (what + 3 - now % 3) % 3;
        self.0.store(now + steps, Ordering::Relaxed);
    }

    /// A head has been read; idle again when the answer's body is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.enter(BUSY);
        Busy(Arc::clone(self))
    }
}

/// While it lives, the connection's request is being served.
#[derive(Debug)]
pub(super) struct Busy(Arc<Phase>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(IDLE);
    }
}

/// A connection that does not wait for ever.
pub(super) struct Patient<S> {
    io: TokioIo<S>,
    phase: Arc<Phase>,
    timeouts: ClientTimeouts,
    read: Timer<u64>,
    write: Timer<()>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Patient<S> {
    pub(super) fn new(stream: S, phase: Arc<Phase>, timeouts: ClientTimeouts) -> Self {
        let io = TokioIo::new(stream);
        Self { io, phase, timeouts, read: Timer::default(), write: Timer::default() }
    }

    fn written(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.write.stop();
            return wrote;
        }
        self.write.poll((), self.timeouts.body_idle, cx).map(Err)
    }
}

/// Runs while there is something to wait for, anew for each.
#[derive(Debug)]
struct Timer<For> {
    sleep: Option<Pin<Box<Sleep>>>,
    running_for: Option<For>,
}

impl<For> Default for Timer<For> {
    fn default() -> Self {
        Self { sleep: None, running_for: None }
    }
}

impl<For: Copy + PartialEq> Timer<For> {
    fn stop(&mut self) {
        self.running_for = None;
    }

    /// Starts unless it runs for this already; ready with the error once it has run out.
    fn poll(&mut self, what: For, limit: Duration, cx: &mut Context<'_>) -> Poll<io::Error> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if self.running_for.replace(what) != Some(what) {
            sleep.as_mut().reset(Instant::now() + limit);
        }
        sleep.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + Unpin> Read for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let phase = self.phase.get();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(result) => {
                if phase % 3 == IDLE {
                    self.phase.enter(HEAD);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let limit =
                    if phase % 3 == HEAD { self.timeouts.head } else { self.timeouts.keep_alive };
                loop {
                    let ran_out = ready!(self.read.poll(phase, limit, cx));
                    if phase % 3 != BUSY {
                        return Poll::Ready(Err(ran_out));
                    }
                    // Nothing to wait for yet; but nobody polls us when the request is done, and
                    // the timer will, so that it can begin to run for the idling.
                    self.read.stop();
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Write for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_is_entered_anew() {
        let phase = Arc::new(Phase::default());
        assert_eq!(phase.get() % 3, IDLE);
        let first = phase.get();
        phase.enter(HEAD);
        assert_eq!(phase.get() % 3, HEAD);
        let busy = phase.busy();
        assert_eq!(phase.get() % 3, BUSY);
        drop(busy);
        assert_eq!(phase.get() % 3, IDLE);
        assert_ne!(phase.get(), first, "the second idling is another than the first");
        // A request whose head came in one read with the one before.
        let busy = phase.busy();
        assert_eq!(phase.get() % 3, BUSY);
        drop(busy);
        assert_eq!(phase.get() % 3, IDLE);
    }
}
