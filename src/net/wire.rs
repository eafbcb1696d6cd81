//! How does a task read and write one connection, and for how long does it wait?
//!
//! [`Wire`] gives `&self` access to both directions of a stream, so that one task can send a body
//! and receive an answer at the same time; tasks of one thread never poll it concurrently, hence a
//! `RefCell` and no lock. [`Pace`] is how long a wait may last.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::buffer::ReadBuffer;
use super::timers::Timer;

/// Why a read or write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The wait was over before anything moved.
    #[error("timed out")]
    TimedOut,
    /// The connection broke. A regular end is no error: it reads as zero bytes.
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// How long to wait for the next bytes.
///
/// Three bounds, of which the nearest counts: `until`, an absolute end; `idle`, the longest
/// silence; and a *least rate*, kept as credit. Waiting spends credit millisecond by millisecond,
/// each byte earns `1/rate` seconds, and there is never more credit than the grace it begins with.
/// Only time spent waiting for *this* peer counts, so nobody is cut off for another's slowness.
#[derive(Debug, Clone)]
pub struct Pace {
    until_ms: u64,
    idle_ms: u64,
    rate: u64,
    grace_ms: u64,
    credit_ms: u64,
}

/// No bound.
const NEVER: u64 = u64::MAX;

impl Pace {
    /// Wait until this moment of the worker's clock.
    #[must_use]
    pub fn until(deadline_ms: u64) -> Self {
        Self { until_ms: deadline_ms, idle_ms: NEVER, rate: 0, grace_ms: 0, credit_ms: 0 }
    }

    /// Wait as long as no silence is longer than `idle`.
    #[must_use]
    pub fn idle(idle: Duration) -> Self {
        Self { idle_ms: millis(idle), ..Self::until(NEVER) }
    }

    /// The same, with a least rate in bytes per second, after `grace` of waiting.
    #[must_use]
    pub fn at_least(self, rate: u64, grace: Duration) -> Self {
        Self { rate, grace_ms: millis(grace), credit_ms: millis(grace), ..self }
    }

    /// Waits for what `poll` brings, which tells how many bytes moved; `None` when it took too
    /// long. For peers whose bytes do not come by a [`Wire`] of their own.
    pub async fn wait<T>(
        &mut self,
        timer: &Timer,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<(usize, T)>,
    ) -> Option<T> {
        let mut waiting = Waiting::default();
        poll_fn(|cx| match poll(cx) {
            Poll::Ready((bytes, done)) => {
                waiting.moved(timer, self, bytes);
                Poll::Ready(Some(done))
            }
            Poll::Pending if waiting.poll_expired(cx, timer, self) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn deadline(&self, now_ms: u64) -> u64 {
        let rate = if self.rate == 0 { NEVER } else { now_ms.saturating_add(self.credit_ms) };
        self.until_ms.min(now_ms.saturating_add(self.idle_ms)).min(rate)
    }

    fn moved(&mut self, waited_ms: u64, bytes: usize) {
        // A rate of 0 is none.
        if let Some(earned) = (bytes as u64).saturating_mul(1000).checked_div(self.rate) {
            let left = self.credit_ms.saturating_sub(waited_ms);
            self.credit_ms = left.saturating_add(earned).min(self.grace_ms);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER)
}

/// One wait in progress: since when, and until when.
#[derive(Default)]
pub struct Waiting {
    begun: Option<(u64, u64)>,
}

impl Waiting {
    /// Whether the wait, begun now if it was not, has taken longer than `pace` allows; if not, the
    /// task is woken when it has.
    pub fn poll_expired(&mut self, cx: &Context<'_>, timer: &Timer, pace: &Pace) -> bool {
        let now_ms = timer.timers().now_ms();
        let (_, deadline_ms) = *self.begun.get_or_insert_with(|| (now_ms, pace.deadline(now_ms)));
        timer.poll_expired(cx, deadline_ms)
    }

    /// Ends the wait: bytes moved.
    pub fn moved(&mut self, timer: &Timer, pace: &mut Pace, bytes: usize) {
        let waited_ms = self.begun.take().map_or(0, |(since, _)| timer.timers().now_ms() - since);
        pace.moved(waited_ms, bytes);
    }
}

/// Lets the worker's other tasks have their turn while a body moves without ever waiting.
///
/// The runtime counts what a task does in operations, which for small requests is fair. An
/// operation on a body moves up to a megabyte, so bytes are counted here.
#[derive(Debug, Default)]
pub struct Turn {
    moved: usize,
}

/// How many bytes one transfer may move before others are served: about half a millisecond's work.
const TURN_BYTES: usize = 1024 * 1024;

impl Turn {
    /// To be called after each piece.
    pub async fn moved(&mut self, bytes: usize) {
        self.moved += bytes;
        if self.moved >= TURN_BYTES {
            self.moved = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// What carries a stream's bytes: a TCP connection at last, in the clear or under TLS.
pub trait Transport {
    /// Has the connection reset when it is dropped, instead of closed in order: an end that nobody
    /// takes for a regular one.
    fn abort(&self);

    /// The socket itself, if what is read and written is what goes over it: `None` under TLS. For
    /// whoever moves bytes without looking at them.
    fn tcp(&self) -> Option<&TcpStream>;
}

impl Transport for TcpStream {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn abort(&self) {
        // Closing with a linger time of zero sends RST. If the option cannot be set, the socket
        // is broken already, which is what was wanted.
        let _: io::Result<()> = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

/// A connection that one task reads and writes, both at once if it likes.
pub struct Wire<S> {
    stream: RefCell<S>,
}

impl Transport for TlsStream<TcpStream> {
    fn abort(&self) {
        self.get_ref().0.abort();
    }

    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Wraps a connected stream.
    pub fn new(stream: S) -> Self {
        Self { stream: RefCell::new(stream) }
    }

    /// The stream itself, to go on with by other means.
    pub fn into_inner(self) -> S {
        self.stream.into_inner()
    }

    /// Has the connection reset when it is dropped.
    pub fn abort(&self)
    where
        S: Transport,
    {
        self.stream.borrow().abort();
    }

    /// Calls `f` with the socket, if the connection is in the clear; see [`Transport::tcp`].
    pub fn with_tcp<R>(&self, f: impl FnOnce(&TcpStream) -> R) -> Option<R>
    where
        S: Transport,
    {
        self.stream.borrow().tcp().map(f)
    }

    /// Calls `f` with the stream.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut S) -> R) -> R {
        f(&mut self.stream.borrow_mut())
    }

    /// Reads into the buffer's room if bytes are there; for a wait that is bounded by its caller.
    pub fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer,
    ) -> Poll<io::Result<usize>> {
        let read = self.poll_read_into(cx, buffer.room());
        if let Poll::Ready(Ok(n)) = read {
            buffer.fill(n);
        }
        read
    }

    fn poll_read_into(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut stream = self.stream.borrow_mut();
        let mut read_buf = ReadBuf::new(room);
        match Pin::new(&mut *stream).poll_read(cx, &mut read_buf) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(read_buf.filled().len())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Reads whatever comes next into the buffer's room; zero bytes mean the peer has ended.
    ///
    /// # Errors
    /// [`WireError`]; the buffer keeps what it had.
    ///
    /// # Panics
    /// When the buffer has no room: a read of nothing would look like the end.
    pub async fn read(
        &self,
        timer: &Timer,
        buffer: &mut ReadBuffer,
        pace: &mut Pace,
    ) -> Result<usize, WireError> {
        let mut waiting = Waiting::default();
        poll_fn(|cx| {
            let room = buffer.room();
            assert!(!room.is_empty(), "a read needs room");
            match self.poll_read_into(cx, room) {
                Poll::Ready(Ok(n)) => {
                    buffer.fill(n);
                    waiting.moved(timer, pace, n);
                    Poll::Ready(Ok(n))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                Poll::Pending if waiting.poll_expired(cx, timer, pace) => {
                    Poll::Ready(Err(WireError::TimedOut))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Reads on in a body of which `due` bytes are still to come; zero bytes mean the peer has
    /// ended. The buffer, whose bytes are all used, gets its room only when something has come: a
    /// body that waits holds none.
    ///
    /// # Errors
    /// [`WireError`]; nothing was read.
    ///
    /// # Panics
    /// When bytes of the buffer are not yet used.
    pub async fn read_body(
        &self,
        timer: &Timer,
        buffer: &mut ReadBuffer,
        due: u64,
        pace: &mut Pace,
    ) -> Result<usize, WireError> {
        assert!(buffer.is_empty(), "what is here is used first");
        let mut waiting = Waiting::default();
        poll_fn(|cx| {
            buffer.lend(due);
            match self.poll_read_into(cx, buffer.room()) {
                Poll::Ready(Ok(n)) => {
                    buffer.fill(n);
                    waiting.moved(timer, pace, n);
                    Poll::Ready(Ok(n))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    buffer.release();
                    match waiting.poll_expired(cx, timer, pace) {
                        true => Poll::Ready(Err(WireError::TimedOut)),
                        false => Poll::Pending,
                    }
                }
            }
        })
        .await
    }

    /// Writes `parts`, one after the other, in as few system calls as the socket allows.
    ///
    /// # Errors
    /// [`WireError`]; how much was written is then unknown to the caller.
    pub async fn write_all<const N: usize>(
        &self,
        timer: &Timer,
        parts: [&[u8]; N],
        pace: &mut Pace,
    ) -> Result<(), WireError> {
        // Empty parts are left out, so that one part that is not goes by the cheaper call.
        let mut slices = [IoSlice::new(&[]); N];
        let mut count = 0;
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            slices[count] = IoSlice::new(part);
            count += 1;
        }
        let mut rest = &mut slices[..count];
        let mut waiting = Waiting::default();
        poll_fn(|cx| {
            let mut stream = self.stream.borrow_mut();
            while !rest.is_empty() {
                let stream = Pin::new(&mut *stream);
                let written = match &*rest {
                    [one] => stream.poll_write(cx, one),
                    several => stream.poll_write_vectored(cx, several),
                };
                match written {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
                    }
                    Poll::Ready(Ok(n)) => {
                        IoSlice::advance_slices(&mut rest, n);
                        waiting.moved(timer, pace, n);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending if waiting.poll_expired(cx, timer, pace) => {
                        return Poll::Ready(Err(WireError::TimedOut));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            // Nothing on a socket. A TLS session may still hold what the socket would not take,
            // and has it written by nobody but who asks.
            match Pin::new(&mut *stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                Poll::Pending if waiting.poll_expired(cx, timer, pace) => {
                    Poll::Ready(Err(WireError::TimedOut))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Tells the peer that nothing more will be sent. A peer that is gone already is no error, nor
    /// is one that takes nothing more until the deadline.
    pub async fn shutdown(&self, timer: &Timer, deadline_ms: u64) {
        // The write direction of a TCP socket shuts without waiting; what it says about a broken
        // connection the next read says again. A TLS session has a last word to send.
        let shutting = poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx));
        let _: Option<io::Result<()>> = timer.limit(deadline_ms, pin!(shutting)).await;
    }

    /// Ends a connection in order that is dropped next. In the clear the kernel does that; a TLS
    /// session says that this is its end (`close_notify`), as far as that goes without waiting.
    pub async fn farewell(&self)
    where
        S: Transport,
    {
        if self.with_tcp(|_| ()).is_some() {
            return;
        }
        poll_fn(|cx| {
            let _sent = Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx);
            Poll::Ready(())
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::buffer::Buffers;
    use crate::net::timers::Timers;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn credit_is_spent_by_waiting_and_earned_by_bytes() {
        let mut pace = Pace::idle(Duration::from_secs(30)).at_least(1000, Duration::from_secs(10));
        assert_eq!(pace.deadline(0), 10_000);
        pace.moved(4_000, 0);
        assert_eq!(pace.deadline(5_000), 11_000);
        pace.moved(6_000, 1_000);
        assert_eq!(pace.deadline(20_000), 21_000);
        pace.moved(0, 1_000_000);
        assert_eq!(pace.deadline(20_000), 30_000, "credit never exceeds the grace");
    }

    #[test]
    fn the_nearest_bound_counts() {
        let pace = Pace { idle_ms: 30_000, ..Pace::until(25_000) };
        assert_eq!((pace.deadline(0), pace.deadline(24_000)), (25_000, 25_000));
        assert_eq!(Pace::idle(Duration::from_secs(30)).deadline(1), 30_001);
    }

    #[tokio::test]
    async fn a_silent_peer_times_out_and_both_directions_work_at_once() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let (wire, timers) = (Wire::new(ours), Timers::new(std::time::Instant::now()));
        let timer = timers.register();
        let mut buffer = Buffers::new().small();
        let mut pace = Pace::until(0);
        let silent = wire.read(&timer, &mut buffer, &mut pace).await;
        assert!(matches!(silent, Err(WireError::TimedOut)), "{silent:?}");

        // The pipe holds 16 bytes: the write can only end if the peer is read meanwhile.
        let mut pace = Pace::until(NEVER);
        let sent = wire.write_all(&timer, [b"", b"0123456789abcdef", b"", b"0123"], &mut pace);
        let answered = async {
            let mut bytes = [0; 20];
            tokio::io::AsyncReadExt::read_exact(&mut theirs, &mut bytes).await.expect("20 bytes");
            theirs.write_all(b"ok").await.expect("room for two");
            bytes
        };
        let (sent, bytes) = tokio::join!(sent, answered);
        sent.expect("the peer read it all");
        assert_eq!(&bytes, b"0123456789abcdef0123");
        let mut pace = Pace::until(NEVER);
        assert_eq!(wire.read(&timer, &mut buffer, &mut pace).await.expect("two bytes"), 2);
        drop(theirs);
        assert_eq!(wire.read(&timer, &mut buffer, &mut pace).await.expect("the end"), 0);
    }
}
