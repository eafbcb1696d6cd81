//! How do a connection's bytes come and go below the library?
//!
//! The library writes whenever one of its small buffers is full: for answers of 1 KiB that is one
//! system call each. So what it writes is gathered here, and it is the connection's task that
//! sends it, once per turn. What it reads is looked at first (see [`super::frames`]), and a turn
//! ends when it has read as much as others can wait for.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Flood, Meter};
use crate::net::buffer::{Buffers, ReadBuffer};
use crate::net::timers::Timers;

/// Frames after which a turn ends: with some hundred nanoseconds each, others wait for some ten
/// microseconds, which is what their own requests take.
const TURN_FRAMES_MAX: u64 = 128;

/// Bytes of a read behind a turn that ended for its frames. They are small; and those that come with
/// one read are all taken.
const SHORT_READ_BYTES: usize = 1024;

/// Bytes that are taken in one turn.
const TURN_BYTES_MAX: usize = 128 * 1024;

/// A connection below the library.
pub(super) struct Io<S> {
    stream: S,
    timers: Rc<Timers>,
    buffers: Buffers,
    /// What was read before the connection was found to be HTTP/2.
    first: Option<ReadBuffer>,
    /// What the library wrote and was not sent.
    out: Option<ReadBuffer>,
    meter: Meter,
    flood: Option<Flood>,
    sent: usize,
    turn_bytes: usize,
    turn_frames: u64,
    /// Whether nothing is read for now.
    holds: bool,
    /// Whether the last turn was ended for its frames.
    reads_short: bool,
    /// Whether the turn did not read, since the client is to be waited with.
    rests: bool,
    /// Whether the turn was ended with bytes still to come.
    paused: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Io<S> {
    pub(super) fn new(
        stream: S,
        first: Option<ReadBuffer>,
        timers: Rc<Timers>,
        buffers: Buffers,
    ) -> Self {
        Self {
            meter: Meter::new(timers.now_ms()),
            stream,
            timers,
            buffers,
            first,
            out: None,
            flood: None,
            sent: 0,
            turn_bytes: 0,
            turn_frames: 0,
            holds: false,
            reads_short: false,
            rests: false,
            paused: false,
        }
    }

    /// Begins a turn; `holds`: one in which nothing is read, until [`Self::read_on`].
    pub(super) fn begin_turn(&mut self, holds: bool) {
        self.reads_short = self.paused && self.turn_bytes < TURN_BYTES_MAX;
        self.turn_bytes = 0;
        self.turn_frames = self.meter.frames();
        self.paused = false;
        self.rests = false;
        self.holds = holds;
    }

    /// Reads again, in a turn that began without.
    pub(super) fn read_on(&mut self) {
        self.holds = false;
        self.paused = false;
    }

    /// Whether the turn was ended early: the task is to come back.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// If nothing was read in this turn since too much came in tiny pieces: when the task is to
    /// come back.
    pub(super) fn rests_until_ms(&self) -> Option<u64> {
        self.rests.then(|| self.meter.rests_until_ms())
    }

    /// What the client sent too much of. Nothing is read any more.
    pub(super) fn flood(&self) -> Option<Flood> {
        self.flood
    }

    pub(super) fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// Sends what was gathered.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(out) = self.out.as_mut().filter(|out| !out.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, out.filled()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => {
                    out.consume(sent);
                    self.sent += sent;
                    self.meter.sent(sent);
                }
            }
        }
        self.out = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Bytes sent since this was asked last.
    pub(super) fn take_sent(&mut self) -> usize {
        std::mem::take(&mut self.sent)
    }

    /// Reads and drops; ready at the end or when it breaks.
    pub(super) fn poll_drop_input(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffer = self.buffers.small();
        for _ in 0..DROPS_MAX {
            let mut read = ReadBuf::new(buffer.room());
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        let_others(cx);
        Poll::Pending
    }

    /// Room to gather in; an error of the connection if there is none.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut ReadBuffer>> {
        let full = |out: &mut ReadBuffer| out.room().is_empty();
        if self.out.as_mut().is_some_and(full) {
            if let Some(out) = &mut self.out {
                out.enlarge();
            }
            if self.out.as_mut().is_some_and(full) {
                ready!(self.poll_send(cx))?;
            }
        }
        let buffers = &self.buffers;
        Poll::Ready(Ok(self.out.get_or_insert_with(|| buffers.small())))
    }

    fn poll_write_parts(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        for part in parts {
            let mut rest = &part[..];
            while !rest.is_empty() {
                let out = match self.poll_room(cx) {
                    Poll::Ready(Ok(out)) => out,
                    Poll::Ready(Err(error)) if taken == 0 => return Poll::Ready(Err(error)),
                    Poll::Pending if taken == 0 => return Poll::Pending,
                    // What was taken is told first.
                    Poll::Ready(Err(_)) | Poll::Pending => return Poll::Ready(Ok(taken)),
                };
                let room = out.room();
                let here = room.len().min(rest.len());
                room[..here].copy_from_slice(&rest[..here]);
                out.fill(here);
                rest = &rest[here..];
                taken += here;
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_read_some(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.flood.is_some() {
            // The connection's task sees why, and ends it.
            return Poll::Pending;
        }
        if self.timers.now_ms() < self.meter.rests_until_ms() {
            self.rests = true;
            return Poll::Pending;
        }
        let frames = self.meter.frames() - self.turn_frames;
        if self.holds || frames >= TURN_FRAMES_MAX || self.turn_bytes >= TURN_BYTES_MAX {
            self.paused = true;
            return Poll::Pending;
        }
        let before = into.filled().len();
        if let Some(first) = &mut self.first {
            let here = first.filled().len().min(into.remaining());
            into.put_slice(&first.filled()[..here]);
            first.consume(here);
            if first.is_empty() {
                self.first = None;
            }
        } else if self.reads_short {
            let some = into.remaining().min(SHORT_READ_BYTES);
            let mut part = ReadBuf::new(into.initialize_unfilled_to(some));
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
            let came = part.filled().len();
            into.advance(came);
        } else {
            ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        }
        let new = &into.filled()[before..];
        self.turn_bytes += new.len();
        if let Err(flood) = self.meter.see(new, self.timers.now_ms()) {
            self.flood = Some(flood);
            into.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

/// Has the task called again when others had their turn, and whoever has news by then.
pub(super) fn let_others(cx: &mut Context<'_>) {
    // Woken at once, it would run before the sockets are looked at again.
    let _: Poll<()> = pin!(tokio::task::yield_now()).poll(cx);
}

/// Reads that are dropped in one turn.
const DROPS_MAX: usize = 16;

/// What the library takes for its connection.
pub(super) struct Guard<S>(pub(super) Rc<RefCell<Io<S>>>);

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read_some(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write_parts(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write_parts(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is sent here: the connection's task does it when the library has nothing more to
    /// write.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.0.borrow_mut();
        ready!(io.poll_send(cx))?;
        Pin::new(&mut io.stream).poll_shutdown(cx)
    }
}
