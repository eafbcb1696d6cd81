//! An answer that has begun, and that nobody was told of yet.
//!
//! Where one shard may be asked besides another, what each says is held until it is decided whose
//! word counts: the head, and what came with it. The request has no body, so it is sent whole
//! before anything is awaited, and its answer is passed on by the same [`Relay`] as any other.
//!
//! Interim answers are held too and go on before the answer that they belong to; passed on at once
//! they could be torn when the other shard is first.

use std::pin::pin;

use super::attempt::{Attempt, Interims, LAST_WORDS, Receiving};
use super::outcome::TryError;
use super::places::Place;
use super::relay::Relay;
use super::seam::{About, Answer, ClientGone};
use crate::net::http1::framing::Framing;
use crate::net::http1::head::Persistence;
use crate::net::http1::response::ResponseHead;
use crate::net::upstream::Upstream;
use crate::net::wire::Pace;

/// An answer whose head has come, and its connection.
pub(super) struct Held<'a> {
    attempt: Attempt<'a>,
    line: Line,
    receiving: Receiving,
    /// Of the head.
    length: usize,
    interims: Kept,
    /// Whether the shard took the whole request.
    is_sent: bool,
    begun_micros: u64,
    _place: Place<'a>,
}

/// A connection with a request under way: reset when dropped, so that the shard sees at once that
/// nobody waits for its answer any more.
pub(super) struct Line(Option<Upstream>);

impl Line {
    pub(super) fn new(upstream: Upstream) -> Self {
        Self(Some(upstream))
    }

    pub(super) fn upstream(&self) -> &Upstream {
        self.0.as_ref().expect("it is taken out at the end alone")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(upstream) = &self.0 {
            upstream.wire.abort();
        }
    }
}

/// Interim answers, as they came.
#[derive(Default)]
struct Kept(Vec<Vec<u8>>);

impl Interims for Kept {
    async fn take(&mut self, _: &ResponseHead, whole: &[u8]) -> Result<(), ClientGone> {
        self.0.push(whole.to_vec());
        Ok(())
    }
}

impl<'a> Held<'a> {
    /// Sends the request and awaits the answer's head. `owes_head` is set while it is awaited.
    /// Given up, the connection is reset.
    pub(super) async fn ask(
        attempt: Attempt<'a>,
        line: Line,
        place: Place<'a>,
        begun_micros: u64,
        owes_head: &mut bool,
    ) -> Result<Self, (TryError, Attempt<'a>)> {
        let mut held = Self {
            receiving: Receiving::begun(attempt.worker),
            attempt,
            line,
            length: 0,
            interims: Kept::default(),
            is_sent: false,
            begun_micros,
            _place: place,
        };
        match held.receive(owes_head).await {
            Ok(()) => Ok(held),
            Err(error) => {
                held.count_time();
                Err((error, held.attempt))
            }
        }
    }

    async fn receive(&mut self, owes_head: &mut bool) -> Result<(), TryError> {
        let Self { attempt, line, receiving, interims, .. } = self;
        let (upstream, settings) = (line.upstream(), &attempt.pool.settings);
        let mut pace = Pace::idle(settings.timeouts.idle);
        let mut head = attempt.worker.buffers.text();
        attempt.write_head(&mut head);
        self.is_sent = upstream.wire.write_all(attempt.timer, [&head], &mut pace).await.is_ok();
        drop(head);
        *owes_head = self.is_sent;
        let wait = if self.is_sent { settings.timeouts.response_head } else { LAST_WORDS };
        let deadline_ms = attempt.timer.timers().after(wait);
        self.length = {
            let head = pin!(attempt.receive_answer(upstream, receiving, interims));
            match attempt.timer.limit(deadline_ms, head).await {
                Some(length) => length?,
                None if self.is_sent => return Err(TryError::HeadTimeout),
                None => return Err(TryError::Reset),
            }
        };
        if attempt.holds_back(receiving, self.length) {
            attempt.receive_first_byte(upstream, &mut receiving.buffer).await?;
        }
        *owes_head = false;
        attempt.judge_head(&receiving.head, self.is_sent)
    }

    pub(super) fn status(&self) -> u16 {
        self.receiving.head.status()
    }

    /// Who gave it.
    pub(super) fn shard(&self) -> usize {
        self.attempt.shard_index
    }

    fn count_time(&self) {
        let Attempt { worker, timer, shard, .. } = &self.attempt;
        shard.metrics.rq_time.observe(worker.stripe, timer.timers().refresh() - self.begun_micros);
    }

    /// Passes the answer on, to its end.
    pub(super) async fn pass_on<A: Answer>(
        mut self,
        answer: &mut A,
    ) -> Result<(), (TryError, Attempt<'a>)> {
        let passed = self.relay(answer).await;
        self.count_time();
        match passed {
            Ok(true) => self.put_back(),
            Ok(false) => drop(self.line.0.take()),
            Err(error) => return Err((error, self.attempt)),
        }
        self.attempt.end(None);
        Ok(())
    }

    async fn relay<A: Answer>(&mut self, answer: &mut A) -> Result<bool, TryError> {
        let Attempt { worker, timer, pool, shard, request, .. } = self.attempt;
        let mut head = worker.buffers.head();
        for whole in self.interims.0.drain(..) {
            if head.parse(&whole, request.head_asked).is_ok() {
                answer.interim(&head, &whole).await?;
            }
        }
        worker.buffers.keep_head(head);
        let about = About::of(shard.id.as_str(), pool.agreed.epoch);
        let mut receiving = std::mem::replace(&mut self.receiving, Receiving::begun(worker));
        let framing = receiving.head.framing();
        let whole = &receiving.buffer.filled()[..self.length];
        // It has no body, so all of that was received.
        answer.head(&receiving.head, whole, framing, &about, true);
        receiving.buffer.consume(self.length);
        let persistence = receiving.head.persistence();
        worker.buffers.keep_head(std::mem::take(&mut receiving.head));
        let mut relay = Relay {
            worker,
            timer,
            pool,
            shard,
            wire: &self.line.upstream().wire,
            buffer: receiving.buffer,
            pace: Pace::idle(pool.settings.timeouts.idle),
            trailers_wanted: request.outbound.wants_trailers,
            received: 0,
            proof: None,
        };
        relay.run(framing, answer).await?;
        Ok(relay.buffer.is_empty() && persistence == Persistence::KeepAlive && self.is_sent)
    }

    /// Drops the answer. Its connection is kept if the whole of it has come already.
    pub(super) fn let_go(mut self) {
        let Receiving { head, buffer, .. } = &self.receiving;
        let body = match head.framing() {
            Framing::None => Some(0),
            Framing::Length(length) => usize::try_from(length).ok(),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let is_whole = body.is_some_and(|body| buffer.filled().len() == self.length + body);
        self.count_time();
        self.attempt.end(None);
        if is_whole && head.persistence() == Persistence::KeepAlive && self.is_sent {
            self.put_back();
        }
    }

    fn put_back(&mut self) {
        let Attempt { worker, timer, pool, .. } = &self.attempt;
        if let Some(upstream) = self.line.0.take() {
            worker.upstreams.put_back(upstream, timer.timers().now_ms(), &pool.keep);
        }
    }
}
