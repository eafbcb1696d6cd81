//! How do a connection's bytes come and go below the library?
//!
//! The library writes whenever one of its small buffers is full: for answers of 1 KiB that is one
//! system call each. So what it writes is gathered here, and it is the connection's task that
//! sends it, once per turn. What it reads is looked at first (see [`super::frames`]), and it gets no
//! more of it in one turn than others can wait for: the library works off at once whatever it has.
//!
//! Invariants:
//! 1. The library is never given a frame beyond its turn's ration, however much of them came with one
//!    read.
//! 2. Behind a turn that was ended early, the next one begins when the event loop has come round: not
//!    with each call that the connection's own streams bring about meanwhile.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Flood, Meter};
use crate::net::buffer::{Buffers, ReadBuffer};
use crate::net::timers::Timers;

/// Bytes that are taken in one turn.
const TURN_BYTES_MAX: usize = 128 * 1024;

/// A connection below the library.
pub(super) struct Io<S> {
    stream: S,
    timers: Rc<Timers>,
    buffers: Buffers,
    /// What was read and not given to the library: before the connection was found to be HTTP/2, or
    /// beyond a turn's ration.
    kept: Option<ReadBuffer>,
    /// What the library wrote and was not sent.
    out: Option<ReadBuffer>,
    meter: Meter,
    flood: Option<Flood>,
    sent: usize,
    turn_bytes: usize,
    /// Whether the turn did not read, since the client is to be waited with.
    rests: bool,
    /// Whether the turn was ended with bytes still to come.
    paused: bool,
    /// What the next turn waits for, behind one that was ended early.
    round: Option<Arc<Round>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Io<S> {
    pub(super) fn new(
        stream: S,
        kept: Option<ReadBuffer>,
        timers: Rc<Timers>,
        buffers: Buffers,
        fields_max: usize,
    ) -> Self {
        Self {
            meter: Meter::new(timers.now_ms(), fields_max),
            stream,
            timers,
            buffers,
            kept,
            out: None,
            flood: None,
            sent: 0,
            turn_bytes: 0,
            rests: false,
            paused: false,
            round: None,
        }
    }

    /// Begins a turn, which may begin so many streams, unless the last one was ended early and the
    /// event loop has not come round since.
    pub(super) fn begin_turn(&mut self, streams_max: usize) {
        if self.has_to_wait() {
            return;
        }
        self.meter.begin_turn(streams_max);
        self.turn_bytes = 0;
        self.paused = false;
        self.rests = false;
    }

    /// Whether the turn was ended early: others are to have theirs.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Has the task called again when others had their turn, and whoever has news by then.
    pub(super) fn let_others(&mut self, cx: &mut Context<'_>) {
        if self.has_to_wait() {
            return;
        }
        let round = Arc::new(Round { is_over: AtomicBool::new(false), task: cx.waker().clone() });
        let waker = Waker::from(Arc::clone(&round));
        // Woken at once, it would run before the sockets are looked at again.
        let _: Poll<()> = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
        self.round = Some(round);
    }

    /// Whether the event loop has not come round since it was let others go first.
    fn has_to_wait(&self) -> bool {
        self.round.as_ref().is_some_and(|round| !round.is_over.load(Ordering::Acquire))
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

    /// Reads and drops, and adds to `dropped` how much; ready at the end or when it breaks.
    pub(super) fn poll_drop_input(
        &mut self,
        cx: &mut Context<'_>,
        dropped: &mut usize,
    ) -> Poll<()> {
        if self.has_to_wait() {
            return Poll::Pending;
        }
        let mut buffer = self.buffers.small();
        for _ in 0..DROPS_MAX {
            let mut read = ReadBuf::new(buffer.room());
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => *dropped += read.filled().len(),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        self.let_others(cx);
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
        if self.meter.is_full() || self.turn_bytes >= TURN_BYTES_MAX {
            self.paused = true;
            return Poll::Pending;
        }
        match self.kept.take() {
            Some(kept) => self.give_kept(kept, into),
            None => {
                let before = into.filled().len();
                ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
                self.give_read(before, into);
            }
        }
        // Nothing given would be the connection's end.
        match self.flood.is_some() || self.paused {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }

    /// Gives what was kept, as far as this turn may take it.
    fn give_kept(&mut self, mut kept: ReadBuffer, into: &mut ReadBuf<'_>) {
        let here = kept.filled().len().min(into.remaining());
        let given = self.ration(&kept.filled()[..here]);
        into.put_slice(&kept.filled()[..given]);
        kept.consume(given);
        self.kept = Some(kept).filter(|kept| !kept.is_empty());
    }

    /// Keeps what was read behind `before` and is beyond this turn.
    fn give_read(&mut self, before: usize, into: &mut ReadBuf<'_>) {
        let read = &into.filled()[before..];
        if read.is_empty() {
            // The end.
            return;
        }
        let given = self.ration(read);
        let rest = &read[given..];
        if !rest.is_empty() && self.flood.is_none() {
            let mut kept = self.buffers.small();
            while kept.room().len() < rest.len() {
                kept.grow(usize::MAX);
            }
            kept.room()[..rest.len()].copy_from_slice(rest);
            kept.fill(rest.len());
            self.kept = Some(kept);
        }
        into.set_filled(before + given);
    }

    /// How many of these bytes this turn may take. If none, it is over: for this turn, or for good.
    fn ration(&mut self, bytes: &[u8]) -> usize {
        match self.meter.see(bytes, self.timers.now_ms()) {
            Ok(given) => {
                self.turn_bytes += given;
                self.paused = given == 0;
                given
            }
            Err(flood) => {
                self.flood = Some(flood);
                0
            }
        }
    }
}

/// A round of the event loop, which runs some sixty tasks before it looks at the sockets. A
/// connection and its streams wake each other, so that these may be all theirs.
struct Round {
    is_over: AtomicBool,
    task: Waker,
}

impl Wake for Round {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// Reads that are dropped in one turn.
const DROPS_MAX: usize = 2;

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

    /// Succeeds although the client is gone: else the library would tell of that in place of why it
    /// ends the connection, and a flood whose client does not wait for its GOAWAY would go uncounted.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.0.borrow_mut();
        if ready!(io.poll_send(cx)).is_ok() {
            let _: io::Result<()> = ready!(Pin::new(&mut io.stream).poll_shutdown(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Instant;

    use tokio::io::AsyncWriteExt;

    use super::super::frames::{HEADERS, PREFACE};
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("a short frame");
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn guard(stream: tokio::io::DuplexStream) -> Guard<tokio::io::DuplexStream> {
        let timers = Timers::new(Instant::now());
        Guard(Rc::new(RefCell::new(Io::new(stream, None, timers, Buffers::new(), 100))))
    }

    /// What the library would get in the turns of one connection, if all of `sent` came at once.
    async fn turns(sent: &[u8], streams_max: usize) -> Vec<Vec<u8>> {
        let (mut client, server) = tokio::io::duplex(1024 * 1024);
        client.write_all(sent).await.expect("room for all");
        let mut guard = guard(server);
        let mut turns = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            guard.0.borrow_mut().begin_turn(streams_max);
            let mut given = Vec::new();
            loop {
                // As much at once as the library has room for behind a large frame.
                let mut room = [0; 24 * 1024];
                let mut into = ReadBuf::new(&mut room);
                let Poll::Ready(read) = Pin::new(&mut guard).poll_read(&mut cx, &mut into) else {
                    break;
                };
                read.expect("a sound stream");
                assert!(!into.filled().is_empty(), "it has not ended");
                given.extend_from_slice(into.filled());
            }
            turns.push(given);
            let io = guard.0.borrow();
            if io.flood().is_some() || !io.is_paused() {
                return turns;
            }
        }
    }

    /// The kinds of these frames, which are whole.
    fn kinds(mut frames: &[u8]) -> Vec<u8> {
        let mut kinds = Vec::new();
        while let [0, 0, length, kind, ..] = *frames {
            kinds.push(kind);
            frames = &frames[9 + usize::from(length)..];
        }
        assert!(frames.is_empty(), "frames are whole: {frames:?}");
        kinds
    }

    /// One connection kept all others waiting for 1.5 ms: a read of some KiB holds hundreds of small
    /// frames, and the library works them all off before it asks whether others have something to do.
    #[tokio::test]
    async fn no_turn_is_given_more_frames_than_its_ration() {
        let ask = frame(HEADERS, 5, b"\x82");
        let priority = frame(2, 0, &[0; 5]);
        let update = frame(8, 0, &[0x7f, 0xff, 0xff, 0xff]);
        let data = frame(0, 0, b"x");
        for piece in [[&ask[..], &update].concat(), ask.clone(), priority, update, data] {
            for streams_max in [4, 32] {
                let sent = [&PREFACE[..], &piece.repeat(400)].concat();
                let turns = turns(&sent, streams_max).await;
                let all = turns.concat();
                assert!(all == sent, "all is given, in its order");
                for (number, turn) in turns.iter().enumerate() {
                    let preface = if number == 0 { PREFACE.len() } else { 0 };
                    let kinds = kinds(&turn[preface..]);
                    let streams = kinds.iter().filter(|kind| **kind == HEADERS).count();
                    assert!(streams <= streams_max, "{streams} of {streams_max}");
                    assert!(kinds.len() <= streams_max * 8, "{} frames", kinds.len());
                }
            }
        }
    }

    /// The streams of a connection wake its task again and again within one round of the event loop,
    /// and each time it had got a ration of its own: forty of them before anybody else was seen to.
    #[tokio::test]
    async fn a_turn_that_was_ended_early_goes_on_only_when_the_event_loop_has_come_round() {
        let ask = frame(HEADERS, 5, b"\x82");
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        client.write_all(&[&PREFACE[..], &ask.repeat(20)].concat()).await.expect("room for all");
        let mut guard = guard(server);
        let mut given = 0;
        // As the connection's task does it, in each of its calls.
        let mut call = async || {
            poll_fn(|cx| {
                guard.0.borrow_mut().begin_turn(2);
                let mut room = [0; 1024];
                let mut into = ReadBuf::new(&mut room);
                while Pin::new(&mut guard).poll_read(cx, &mut into).is_ready() {}
                given += into.filled().len();
                if guard.0.borrow().is_paused() {
                    guard.0.borrow_mut().let_others(cx);
                }
                Poll::Ready(given)
            })
            .await
        };
        let first = call().await;
        assert!(first < PREFACE.len() + 3 * ask.len(), "{first} bytes in the first turn");
        for _ in 0..50 {
            assert_eq!(call().await, first, "the event loop has not come round");
        }
        tokio::task::yield_now().await;
        assert_eq!(call().await, first + 2 * ask.len());
    }

    #[tokio::test]
    async fn what_goes_beyond_a_flood_is_given_to_nobody() {
        let sent = [&PREFACE[..], &frame(6, 0, &[0; 8]).repeat(150)].concat();
        let turns = turns(&sent, 4).await;
        let pings = kinds(&turns.concat()[PREFACE.len()..]).len();
        assert!((96..=100).contains(&pings), "{pings} of those that came before it");
    }

    /// A client who left before it read its GOAWAY had the library report that, and no flood.
    #[tokio::test]
    async fn a_client_that_is_gone_does_not_change_why_its_connection_ends() {
        let (client, server) = tokio::io::duplex(64);
        let mut guard = guard(server);
        drop(client);
        guard.write_all(&frame(7, 0, &[0; 8])).await.expect("it is only gathered");
        guard.shutdown().await.expect("nobody is left to be told");
    }
}
