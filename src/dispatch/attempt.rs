//! How does one try at one shard go?
//!
//! The request is sent and the answer received in the client's own task. A body that streams is
//! sent while the answer is awaited and, if the shard answers early, while the answer is passed
//! on: neither direction ever waits for the other, so no pair of peers can wait for each other in
//! a circle. What the shard says *before* the body is asked for decides whether it is asked for
//! (RFC 9110, section 10.1.1).

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use super::outcome::{Failure, Note, TryError};
use super::relay::Relay;
use super::seam::{About, Answer, Body, BodyError, ClientGone, Part, Passage, Request};
use super::trace::Trying;
use super::view::{Pool, Shard};
use super::worker::Worker;
use crate::drivers::http::{Outbound, write_head};
use crate::net::buffer::{ReadBuffer, SMALL_BYTES};
use crate::net::http1::chunked::{CHUNK_HEAD_BYTES, chunk_head};
use crate::net::http1::framing::Framing;
use crate::net::http1::head::{FieldKind, Persistence};
use crate::net::http1::response::{ResponseError, ResponseHead};
use crate::net::http1::scan::{HeadLimits, Scanner};
use crate::net::timers::Timer;
use crate::net::tls::ShardRefused;
use crate::net::upstream::Upstream;
use crate::net::wire::{Pace, Turn, WireError};
use crate::protocol::health::{Class, Observation, Outcome};

/// Where the request's body comes from.
pub(super) enum Source<'a, B> {
    /// It was read before, so that it can be sent more than once.
    Held(&'a [u8]),
    /// It is read as it is sent.
    Stream(&'a mut B),
}

/// After a write to the shard failed: how long its answer, which may explain the failure, is
/// waited for.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(500);

/// One try: who asks whom for what.
pub(super) struct Attempt<'a> {
    pub(super) worker: &'a Worker,
    pub(super) timer: &'a Timer,
    pub(super) pool: &'a Pool,
    pub(super) shard_index: usize,
    pub(super) shard: &'a Shard,
    pub(super) request: &'a Request<'a>,
    /// Whether a gateway error of the shard is given back instead of passed on.
    pub(super) retries_gateway_errors: bool,
    pub(super) begun_ms: u64,
    /// Where it is told of, if the request is being recorded.
    pub(super) span: Option<Trying<'a>>,
}

/// An answer being received.
pub(super) struct Receiving {
    pub(super) buffer: ReadBuffer,
    scanner: Scanner,
    pub(super) head: ResponseHead,
    interims: u32,
}

/// Where interim answers go.
#[allow(async_fn_in_trait, reason = "one task drives it; nothing is sent to another thread")]
pub(super) trait Interims {
    /// Takes one.
    async fn take(&mut self, head: &ResponseHead, whole: &[u8]) -> Result<(), ClientGone>;
}

/// To the client, at once.
impl<A: Answer> Interims for A {
    async fn take(&mut self, head: &ResponseHead, whole: &[u8]) -> Result<(), ClientGone> {
        self.interim(head, whole).await
    }
}

impl Receiving {
    /// Nothing yet.
    pub(super) fn begun(worker: &Worker) -> Self {
        Self {
            buffer: worker.buffers.small(),
            scanner: Scanner::default(),
            head: worker.buffers.head(),
            interims: 0,
        }
    }

    /// Parses the head if all of it has come; returns its length then.
    fn look(&mut self, head_asked: bool, limits: &HeadLimits) -> Result<Option<usize>, TryError> {
        let bytes = self.buffer.filled();
        if self.scanner.is_fresh()
            && let Some(length) = self.head.parse_at_once(bytes, head_asked, limits)
        {
            return Ok(Some(length));
        }
        let scanned = self.scanner.scan(bytes, limits);
        let Some(length) = scanned.map_err(|_| TryError::BadAnswer("head_limits"))? else {
            return Ok(None);
        };
        let parsed = self.head.parse(&bytes[..length], head_asked);
        parsed.map_err(|error| TryError::BadAnswer(reason(error)))?;
        Ok(Some(length))
    }
}

/// Why the sending of the request stopped.
enum SendError {
    Client(BodyError),
    /// The shard takes no more. Its answer may still say why.
    Shard,
}

/// What the shard has said so far, as far as the sending of the body depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    /// `100 Continue`.
    Continue,
    /// Its final head. From now on the client's connection belongs to the answer: a client that
    /// still waits to be asked for its body is not asked any more.
    Answer,
}

/// How the sending of the request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Going,
    Complete,
    Refused,
}

impl Attempt<'_> {
    /// Sends the request and passes the answer on. Tells whether the connection may be used again.
    pub(super) async fn run<B: Body, A: Answer>(
        &self,
        upstream: &Upstream,
        source: Source<'_, B>,
        answer: &mut A,
        note: &mut Note,
    ) -> Result<bool, TryError> {
        let said = Cell::new(Said::Nothing);
        let mut sending = pin!(self.send(upstream, source, &said));
        let mut state = Sending::Going;
        let mut receiving = Receiving::begun(self.worker);
        let length = {
            let mut head = pin!(self.receive_head(upstream, &mut receiving, &said, answer));
            let mut deadline_ms = u64::MAX;
            poll_fn(|cx| {
                if let Poll::Ready(sent) = poll_sending(&mut state, sending.as_mut(), cx) {
                    note.owes_head = state == Sending::Complete;
                    let timeouts = &self.pool.settings.timeouts;
                    let wait = if sent? { timeouts.response_head } else { LAST_WORDS };
                    deadline_ms = self.timer.timers().after(wait);
                }
                match head.as_mut().poll(cx) {
                    Poll::Ready(head) => Poll::Ready(head),
                    Poll::Pending if state == Sending::Going => Poll::Pending,
                    Poll::Pending if !self.timer.poll_expired(cx, deadline_ms) => Poll::Pending,
                    Poll::Pending if state == Sending::Refused => Poll::Ready(Err(TryError::Reset)),
                    Poll::Pending => Poll::Ready(Err(TryError::HeadTimeout)),
                }
            })
            .await?
        };
        said.set(Said::Answer);
        if self.holds_back(&receiving, length) {
            let mut first = pin!(self.receive_first_byte(upstream, &mut receiving.buffer));
            poll_fn(|cx| {
                // If the upload stops now, the answer is passed on all the same.
                let _: Poll<Result<bool, TryError>> =
                    poll_sending(&mut state, sending.as_mut(), cx);
                first.as_mut().poll(cx)
            })
            .await?;
        }
        note.owes_head = false;
        note.upstream_status = receiving.head.status();
        self.judge_head(&receiving.head, state == Sending::Complete)?;

        if state == Sending::Going {
            // An upload may have nothing left to send, and only not have said so: it let others
            // take their turn behind its last piece.
            poll_fn(|cx| {
                let _: Poll<Result<bool, TryError>> =
                    poll_sending(&mut state, sending.as_mut(), cx);
                Poll::Ready(())
            })
            .await;
        }
        let about = About::of(self.shard.id.as_str(), self.pool.agreed.epoch);
        let framing = receiving.head.framing();
        let whole = &receiving.buffer.filled()[..length];
        answer.head(&receiving.head, whole, framing, &about, state == Sending::Complete);
        receiving.buffer.consume(length);
        let persistence = receiving.head.persistence();
        self.worker.buffers.keep_head(std::mem::take(&mut receiving.head));

        let mut relay = Relay {
            worker: self.worker,
            timer: self.timer,
            pool: self.pool,
            shard: self.shard,
            wire: &upstream.wire,
            buffer: receiving.buffer,
            pace: Pace::idle(self.pool.settings.timeouts.idle),
            trailers_wanted: self.request.outbound.wants_trailers,
            received: 0,
            proof: None,
        };
        {
            let mut passing = pin!(relay.run(framing, answer));
            poll_fn(|cx| {
                // If the upload stops now, the answer goes on all the same and tells why.
                let _: Poll<Result<bool, TryError>> =
                    poll_sending(&mut state, sending.as_mut(), cx);
                passing.as_mut().poll(cx)
            })
            .await?;
        }
        let in_step = relay.buffer.is_empty() && persistence == Persistence::KeepAlive;
        Ok(in_step && state == Sending::Complete)
    }

    async fn send<B: Body>(
        &self,
        upstream: &Upstream,
        source: Source<'_, B>,
        said: &Cell<Said>,
    ) -> Result<(), SendError> {
        let mut pace = Pace::idle(self.pool.settings.timeouts.idle);
        let mut head = self.worker.buffers.text();
        self.write_head(&mut head);
        let (wire, timer) = (&upstream.wire, self.timer);
        let refused = |_| SendError::Shard;
        let body = match source {
            Source::Held(bytes) => {
                self.count_sent(bytes.len());
                return wire.write_all(timer, [&head, bytes], &mut pace).await.map_err(refused);
            }
            Source::Stream(body) => body,
        };
        wire.write_all(timer, [&head], &mut pace).await.map_err(refused)?;
        head.clear();
        if self.request.outbound.expect_continue {
            self.await_continue(said).await;
            if said.get() == Said::Answer {
                return Err(SendError::Shard);
            }
        }
        body.ask().await.map_err(SendError::Client)?;
        let chunked = self.request.outbound.framing == Framing::Chunked;
        let by_pipe = !chunked && wire.is_clear();
        let mut overflowed = false;
        let mut turn = Turn::default();
        // Small chunks that are here together leave together.
        let mut gathered = head;
        loop {
            if by_pipe {
                let pipes = &self.worker.pipes;
                match body.next_piped(pipes).await.map_err(SendError::Client)? {
                    Passage::Piped(mut pipe) => {
                        let bytes = pipe.held();
                        self.count_sent(bytes);
                        wire.splice_out(timer, &mut pipe, &mut pace).await.map_err(refused)?;
                        turn.moved(bytes).await;
                        continue;
                    }
                    Passage::NoPipe if !std::mem::replace(&mut overflowed, true) => {
                        self.pool.metrics.pipe_overflow.inc(self.worker.stripe);
                    }
                    Passage::NoPipe | Passage::Copied => {}
                }
            }
            match body.next().await.map_err(SendError::Client)? {
                Part::Data(bytes) if chunked => {
                    let length = bytes.len();
                    self.count_sent(length);
                    let mut line = [0; CHUNK_HEAD_BYTES];
                    let line = chunk_head(&mut line, bytes.len());
                    if gathered.len() + bytes.len() + CHUNK_HEAD_BYTES <= SMALL_BYTES {
                        for part in [line, bytes, b"\r\n"] {
                            gathered.extend_from_slice(part);
                        }
                        if body.has_more_here() {
                            continue;
                        }
                        wire.write_all(timer, [&gathered], &mut pace).await.map_err(refused)?;
                    } else {
                        let parts = [&gathered, line, bytes, b"\r\n"];
                        wire.write_all(timer, parts, &mut pace).await.map_err(refused)?;
                    }
                    gathered.clear();
                    turn.moved(length).await;
                }
                Part::Data(bytes) => {
                    let length = bytes.len();
                    self.count_sent(length);
                    wire.write_all(timer, [bytes], &mut pace).await.map_err(refused)?;
                    turn.moved(length).await;
                }
                Part::End(trailers) if chunked => {
                    let end = [&gathered[..], b"0\r\n", trailers, b"\r\n"];
                    return wire.write_all(timer, end, &mut pace).await.map_err(refused);
                }
                Part::End(_) => return Ok(()),
            }
        }
    }

    /// Writes the head of the request as this shard is to get it.
    pub(super) fn write_head(&self, out: &mut Vec<u8>) {
        let (outbound, address) = (&self.request.outbound, &self.shard.address);
        let host = self.pool.settings.host;
        match &self.span {
            None => write_head(out, outbound, address, host),
            Some(span) => {
                let field = span.traceparent();
                let outbound = Outbound { traceparent: Some(&field), ..*outbound };
                write_head(out, &outbound, address, host);
            }
        }
    }

    fn count_sent(&self, bytes: usize) {
        self.shard.metrics.tx_bytes.add(self.worker.stripe, bytes as u64);
    }

    /// Waits until the shard asks for the body, or for as long as one waits for a shard that knows
    /// nothing of expectations.
    async fn await_continue(&self, said: &Cell<Said>) {
        let deadline_ms = self.timer.timers().after(self.pool.settings.timeouts.expect_continue);
        poll_fn(|cx| match said.get() {
            Said::Nothing if !self.timer.poll_expired(cx, deadline_ms) => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
    }

    /// Receives the head of the answer to a request that was sent whole. Waits without end.
    pub(super) async fn receive_answer<I: Interims>(
        &self,
        upstream: &Upstream,
        receiving: &mut Receiving,
        interims: &mut I,
    ) -> Result<usize, TryError> {
        let said = Cell::new(Said::Nothing);
        self.receive_head(upstream, receiving, &said, interims).await
    }

    /// Receives up to and including the final head; interim answers are passed on. Waits without
    /// end: the caller bounds it, since the bound depends on how the sending goes.
    async fn receive_head<I: Interims>(
        &self,
        upstream: &Upstream,
        receiving: &mut Receiving,
        said: &Cell<Said>,
        interims: &mut I,
    ) -> Result<usize, TryError> {
        let mut pace = Pace::until(u64::MAX);
        let limits = &self.pool.head_limits;
        loop {
            if let Some(length) = receiving.look(self.request.head_asked, limits)? {
                if !receiving.head.is_interim() {
                    return Ok(length);
                }
                receiving.interims += 1;
                if receiving.interims > self.pool.settings.limits.interim_responses_max {
                    return Err(TryError::BadAnswer("interim_flood"));
                }
                if receiving.head.status() == 100 {
                    // Not passed on: the client is told when its body is asked for.
                    said.set(Said::Continue);
                    wake_self().await;
                } else if self.request.interim_wanted {
                    let whole = &receiving.buffer.filled()[..length];
                    interims.take(&receiving.head, whole).await?;
                }
                receiving.buffer.consume(length);
                receiving.scanner = Scanner::default();
                continue;
            }
            if receiving.buffer.room().is_empty() {
                // One byte beyond the limit, so that the scanner can see it exceeded.
                receiving.buffer.grow(limits.head_bytes_max + 1);
            }
            match upstream.wire.read(self.timer, &mut receiving.buffer, &mut pace).await {
                Ok(0) => return Err(TryError::Reset),
                Err(WireError::Broken(error)) => {
                    // Of what was said before, it has taken some.
                    let is_fresh = receiving.buffer.is_empty()
                        && receiving.interims == 0
                        && !upstream.is_reused();
                    return Err(match ShardRefused::after_handshake(error) {
                        Ok(refused) if is_fresh => TryError::Untrusted(refused),
                        _ => TryError::Reset,
                    });
                }
                Err(WireError::TimedOut) => return Err(TryError::Reset),
                Ok(_) => {}
            }
        }
    }

    /// Whether the head that has come, `length` bytes, waits for the first byte of its body: so
    /// that a read whose shard dies in between is repeated, as if no head had come. The answer to
    /// a write tells what became of it, and goes on as far as it comes.
    pub(super) fn holds_back(&self, receiving: &Receiving, length: usize) -> bool {
        self.request.class == Class::Read
            && matches!(receiving.head.framing(), Framing::Length(1..))
            && receiving.buffer.filled().len() == length
    }

    pub(super) async fn receive_first_byte(
        &self,
        upstream: &Upstream,
        buffer: &mut ReadBuffer,
    ) -> Result<(), TryError> {
        let mut pace = Pace::idle(self.pool.settings.timeouts.idle);
        if buffer.room().is_empty() {
            // A head that filled the buffer to its end: its body needs some room behind it.
            buffer.grow(buffer.capacity() * 2);
        }
        match upstream.wire.read(self.timer, buffer, &mut pace).await {
            Ok(1..) => Ok(()),
            Ok(0) | Err(WireError::Broken(_)) => Err(TryError::BodyMissing),
            Err(WireError::TimedOut) => Err(TryError::HeadTimeout),
        }
    }

    /// Takes down what the head says about the shard.
    pub(super) fn judge_head(
        &self,
        head: &ResponseHead,
        body_fully_sent: bool,
    ) -> Result<(), TryError> {
        let status = head.status();
        let mut fields = head.fields().iter();
        self.observe(Outcome::Answered {
            status,
            retry_after: status >= 500 && fields.any(|field| field.kind == FieldKind::RetryAfter),
            body_fully_sent,
        });
        self.shard.metrics.classes.answered(self.worker.stripe, status);
        if let Some(span) = &self.span {
            span.answered(status);
        }
        if self.retries_gateway_errors && matches!(status, 502..=504) {
            return Err(TryError::GatewayError(status));
        }
        Ok(())
    }

    /// Tells the trace, if there is one, how the try ended; without that it was given up.
    pub(super) fn end(&self, failure: Option<&Failure>) {
        if let Some(span) = &self.span {
            span.end(failure);
        }
    }

    /// Tells this node's health view what came of the try.
    pub(super) fn observe(&self, outcome: Outcome) {
        let observation = Observation {
            class: self.request.class,
            key: self.request.token,
            begun_ms: self.begun_ms,
            outcome,
        };
        self.pool.health.observe(self.timer.timers().now_ms(), self.shard_index, &observation);
    }
}

/// Polls the sending if it is still going. Ready once, when it ends: whether it was complete.
fn poll_sending<F: Future<Output = Result<(), SendError>>>(
    state: &mut Sending,
    sending: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<bool, TryError>> {
    if *state != Sending::Going {
        return Poll::Pending;
    }
    match sending.poll(cx) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(())) => {
            *state = Sending::Complete;
            Poll::Ready(Ok(true))
        }
        Poll::Ready(Err(SendError::Shard)) => {
            *state = Sending::Refused;
            Poll::Ready(Ok(false))
        }
        Poll::Ready(Err(SendError::Client(error))) => {
            *state = Sending::Refused;
            Poll::Ready(Err(error.into()))
        }
    }
}

/// Has the task polled once more: another part of it waits for what was just set.
async fn wake_self() {
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::Ready(())
    })
    .await;
}

/// A word for the log: what was wrong with an answer.
fn reason(error: ResponseError) -> &'static str {
    match error {
        ResponseError::Head(_) => "malformed_head",
        ResponseError::Framing(_) => "ambiguous_framing",
        ResponseError::Status(_) => "unusable_status",
    }
}
