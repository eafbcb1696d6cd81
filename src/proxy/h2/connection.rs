//! How does one connection of HTTP/2 live?
//!
//! One task drives the library, one more serves each stream. All that the streams of one turn of
//! the event loop have to say leaves in one write, since the connection's task runs after theirs.
//!
//! ```text
//!  preface, SETTINGS ──▶ open ──▶ streams come and go ──keep_alive, closing──▶ GOAWAY ──▶ linger
//!    │ head timeout        │ draining, requests_per_connection   ▲   │ flood, stall
//!    ▼                     ▼                                     │   ▼
//!  closed              GOAWAY, the streams end ──────────────────┘  GOAWAY (calm), linger
//! ```

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::Reason;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::client::Caller;
use super::super::connection::Open;
use super::io::{Guard, Io};
use super::sender::Piece;
use super::stream::{Shared, begin};
use crate::limits::Http2Limits;
use crate::net::buffer::ReadBuffer;
use crate::net::timers::{TICK_MS, Timer};
use crate::net::wire::{Pace, Waiting};

/// Streams reset by the client before they were taken up, and not yet forgotten.
const PENDING_RESETS_MAX: usize = 20;

/// Streams that we reset because of what the client did, over a connection's life.
const LOCAL_RESETS_MAX: usize = 256;

/// Serves one client of HTTP/2 until its connection ends. `first` is what was read of it before.
pub(in super::super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    open: Open,
    stream: S,
    caller: Caller,
    limits: &Http2Limits,
    first: Option<ReadBuffer>,
) {
    let shared = Shared::new(open, caller, limits.connection_window_bytes as usize);
    let local = shared.local();
    let worker = &local.worker;
    local.metrics.h2_cx_total.inc(worker.stripe);
    let timers = Rc::clone(&worker.timers);
    let fields_max = local.sites.read().limits.fields_max;
    let io = Io::new(stream, first, timers, worker.buffers.clone(), fields_max);
    let io = Rc::new(RefCell::new(io));
    let timer = worker.timers.register();
    let mut is_abused = false;
    if let Some(h2) = handshake(&shared, &io, &timer, limits).await {
        // As they are now: a connection does not change its manners.
        let (limits, timeouts) = {
            let site = local.sites.read();
            (site.limits.clone(), site.timeouts.clone())
        };
        let write_pace = Pace::idle(timeouts.body_idle)
            .at_least(limits.rate_bytes_per_second_min, timeouts.rate_grace);
        let mut served = Served {
            shared: &shared,
            io: &io,
            timer: &timer,
            h2,
            streams_left: limits.requests_per_connection_max,
            head_timeout: timeouts.head,
            keep_alive: timeouts.keep_alive,
            linger: timeouts.linger,
            write_pace,
            writing: Waiting::default(),
            unfinished: None,
            ending: Ending::No,
            is_abused: false,
        };
        poll_fn(|cx| served.poll(cx)).await;
        is_abused = served.is_abused;
    }
    linger(&shared, &io, &timer, is_abused).await;
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    io: &Rc<RefCell<Io<S>>>,
    timer: &Timer,
    limits: &Http2Limits,
) -> Option<Connection<Guard<S>, Piece>> {
    let local = shared.local();
    let (head_bytes_max, wait) = {
        let site = local.sites.read();
        (site.limits.head_bytes_max, site.timeouts.head)
    };
    let deadline_ms = timer.timers().after(wait);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams_max)
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_send_buffer_size(limits.stream_window_bytes as usize)
        .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(LOCAL_RESETS_MAX));
    let mut handshake = pin!(builder.handshake(Guard(Rc::clone(io))));
    poll_fn(|cx| {
        io.borrow_mut().begin_turn(shared.turn_streams_max());
        let done = handshake.as_mut().poll(cx);
        // An error shows again when it is written or read next.
        let _: Poll<std::io::Result<()>> = io.borrow_mut().poll_send(cx);
        match done {
            Poll::Ready(Ok(h2)) => Poll::Ready(Some(h2)),
            Poll::Ready(Err(_)) => {
                local.metrics.protocol_error.inc(local.worker.stripe);
                Poll::Ready(None)
            }
            Poll::Pending if local.worker.closing.get() => Poll::Ready(None),
            Poll::Pending if timer.poll_expired(cx, deadline_ms) => {
                local.metrics.head_timeout.inc(local.worker.stripe);
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// How a connection stands that takes no more streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// The client was told; what is open ends in order.
    Told,
    /// Nothing more is done but to tell why, until this moment.
    Now {
        until_ms: u64,
    },
}

/// A connection after its handshake.
struct Served<'a, S> {
    shared: &'a Rc<Shared>,
    io: &'a RefCell<Io<S>>,
    timer: &'a Timer,
    h2: Connection<Guard<S>, Piece>,
    /// Streams that may still come.
    streams_left: u32,
    head_timeout: Duration,
    keep_alive: Duration,
    linger: Duration,
    write_pace: Pace,
    writing: Waiting,
    /// A frame or field section that has begun: its name, and until when it must end.
    unfinished: Option<(u64, u64)>,
    ending: Ending,
    /// Whether it ends since the client breaks the protocol, or is a flood.
    is_abused: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Served<'_, S> {
    /// One turn. Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut io = self.io.borrow_mut();
            io.meter().answered(self.shared.take_answered());
            io.begin_turn(self.shared.turn_streams_max());
        }
        loop {
            if self.take_streams(cx).is_ready() {
                return Poll::Ready(());
            }
            // A decision changes what the library has to write.
            if !self.decide(cx) {
                break;
            }
        }
        if self.send(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Ending::Now { until_ms } = self.ending
            && self.timer.poll_expired(cx, until_ms)
        {
            return Poll::Ready(());
        }
        let mut io = self.io.borrow_mut();
        let has_rested =
            io.rests_until_ms().is_some_and(|until_ms| self.timer.poll_expired(cx, until_ms));
        if has_rested || io.is_paused() {
            io.let_others(cx);
        }
        Poll::Pending
    }

    /// Drives the library and begins to serve what came, which is no more than the turn's ration.
    /// Ready when the connection is over.
    fn take_streams(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let local = self.shared.local();
        let stripe = local.worker.stripe;
        loop {
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, mut respond)))) => {
                    self.streams_left = self.streams_left.saturating_sub(1);
                    // Given up before anything was done for it: nothing is.
                    if respond.poll_reset(cx).is_pending() {
                        local.metrics.h2_streams.inc(stripe);
                        let stream = respond.stream_id().as_u32();
                        let has_hash = self.io.borrow_mut().meter().take_mark(stream);
                        begin(self.shared, request, respond, has_hash);
                    } else {
                        self.shared.ended(false);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    if error.is_go_away() && error.is_library() {
                        self.is_abused = true;
                        match error.reason() {
                            Some(Reason::ENHANCE_YOUR_CALM) => local.metrics.h2_floods.inc(stripe),
                            _ => local.metrics.protocol_error.inc(stripe),
                        }
                    }
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether the connection is to end; true if that was decided just now.
    fn decide(&mut self, cx: &mut Context<'_>) -> bool {
        let local = self.shared.local();
        let (worker, metrics) = (&local.worker, &local.metrics);
        let flood = {
            let mut io = self.io.borrow_mut();
            let resets = io.meter().take_resets();
            if resets > 0 {
                metrics.h2_resets.add(worker.stripe, resets);
            }
            io.flood()
        };
        if matches!(self.ending, Ending::Now { .. }) {
            return false;
        }
        if let Some(flood) = flood {
            tracing::debug!(?flood, "a client of HTTP/2 is told to calm down");
            metrics.h2_floods.inc(worker.stripe);
            self.is_abused = true;
            return self.end_now(Reason::ENHANCE_YOUR_CALM);
        }
        if self.poll_head_late(cx) {
            metrics.head_timeout.inc(worker.stripe);
            return self.end_now(Reason::ENHANCE_YOUR_CALM);
        }
        if let Some(since_ms) = self.shared.idle_since_ms() {
            // What the client has sent and we have not seen, it can send elsewhere: GOAWAY says
            // which stream was the last.
            if worker.closing.get() || (self.ending == Ending::Told && !self.h2.has_streams()) {
                return self.end_now(Reason::NO_ERROR);
            }
            let wait_ms = u64::try_from(self.keep_alive.as_millis()).unwrap_or(u64::MAX);
            if self.timer.poll_expired(cx, since_ms.saturating_add(wait_ms)) {
                metrics.idle_timeout.inc(worker.stripe);
                return self.end_now(Reason::NO_ERROR);
            }
        } else {
            // Not every end of a stream wakes this task; it looks again in time.
            let _: bool = self.timer.poll_expired(cx, worker.timers.after(self.keep_alive));
        }
        if self.ending == Ending::No && (worker.draining.get() || self.streams_left == 0) {
            self.h2.graceful_shutdown();
            self.ending = Ending::Told;
            return true;
        }
        false
    }

    /// Ends the connection with all of its streams.
    fn end_now(&mut self, reason: Reason) -> bool {
        self.h2.abrupt_shutdown(reason);
        self.ending = Ending::Now { until_ms: self.timer.timers().after(self.linger) };
        true
    }

    /// Whether a frame or a field section takes longer than a head may.
    fn poll_head_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(name) = self.io.borrow_mut().meter().unfinished() else {
            self.unfinished = None;
            return false;
        };
        let until_ms = match self.unfinished {
            Some((same, until_ms)) if same == name => until_ms,
            _ => {
                let until_ms = self.timer.timers().after(self.head_timeout);
                self.unfinished = Some((name, until_ms));
                until_ms
            }
        };
        self.timer.poll_expired(cx, until_ms)
    }

    /// Sends what was gathered. Ready when the client takes nothing, or is gone.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut io = self.io.borrow_mut();
        let sent = io.poll_send(cx);
        let bytes = io.take_sent();
        if bytes > 0 {
            self.writing.moved(self.timer, &mut self.write_pace, bytes);
        }
        match sent {
            Poll::Ready(Ok(())) => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Pending if self.writing.poll_expired(cx, self.timer, &self.write_pace) => {
                let local = self.shared.local();
                local.metrics.too_slow.inc(local.worker.stripe);
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What is dropped in a moment of what an abusive client sends on.
const ABUSED_DROPS_BYTES: usize = 64 * 1024;

/// Ends a connection whose client may still be sending, without losing it the GOAWAY. One that
/// `is_abused` is not read faster than that takes: its client may find out how long it waits.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    io: &Rc<RefCell<Io<S>>>,
    timer: &Timer,
    is_abused: bool,
) {
    let local = shared.local();
    let deadline_ms = timer.timers().after(local.sites.read().timeouts.linger);
    let mut guard = Guard(Rc::clone(io));
    let (mut is_shut, mut dropped, mut rests_until_ms) = (false, 0, 0);
    poll_fn(|cx| {
        if timer.poll_expired(cx, deadline_ms) {
            return Poll::Ready(());
        }
        // If the client is gone, that is read as well.
        is_shut = is_shut || Pin::new(&mut guard).poll_shutdown(cx).is_ready();
        if !timer.poll_expired(cx, rests_until_ms) {
            return Poll::Pending;
        }
        let is_over = io.borrow_mut().poll_drop_input(cx, &mut dropped);
        if is_abused && dropped >= ABUSED_DROPS_BYTES {
            (dropped, rests_until_ms) = (0, timer.timers().now_ms() + TICK_MS);
            let _: bool = timer.poll_expired(cx, rests_until_ms);
        }
        is_over
    })
    .await;
}
