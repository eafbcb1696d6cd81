//! How does one exchange with a store go?

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::ask::Ask;
use super::calls::Replica;
use super::facts::Facts;
use super::fault::{Doubt, Fault, Refused};
use crate::net::buffer::{Buffers, ReadBuffer};
use crate::net::http1::chunked::{ChunkLimits, Decoder, Step};
use crate::net::http1::framing::Framing;
use crate::net::http1::head::Persistence;
use crate::net::http1::response::ResponseHead;
use crate::net::http1::scan::{HeadLimits, Scanner};
use crate::net::timers::{Timer, Timers};
use crate::net::upstream::{Keep, Upstream, Upstreams, connect};
use crate::net::wire::Pace;
use crate::protocol::replica::Refusal;

/// What a thread lends to whoever speaks to stores on it.
#[derive(Clone)]
pub struct Means {
    /// Its clock and deadlines.
    pub timers: Rc<Timers>,
    /// Its idle connections.
    pub upstreams: Rc<Upstreams>,
    /// Its free buffers.
    pub buffers: Buffers,
}

/// A store's head has the kept fields, 8 KiB at most, and a dozen more.
const HEAD_LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 32 * 1024, line_bytes_max: 16 * 1024, fields_max: 300 };

/// What pages come in has no trailers.
const CHUNK_LIMITS: ChunkLimits = ChunkLimits { extension_bytes_max: 64, trailer_bytes_max: 64 };

/// After a write to the store failed: how long its answer, which may explain the failure, is
/// waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The longest body that is copied behind its head.
const JOINED_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a problem, or of what a stranger answers, that are read.
const PROBLEM_BYTES_MAX: usize = 16 * 1024;

/// An exchange whose answer's head has come. What came behind the head stands in the buffer.
pub(super) struct Line {
    means: Means,
    /// `None` once it was given back.
    upstream: Option<Upstream>,
    pub(super) buffer: ReadBuffer,
    pub(super) facts: Facts,
    idle: Duration,
    keep: Keep,
    /// Whether the whole request was taken: else the connection is out of step.
    is_sent: bool,
    /// It was asked before, and nothing is known of that: a refusal speaks only for now.
    may_have_been_done: bool,
}

/// Why no head came.
enum NoHead {
    /// Nothing came at all before the connection ended.
    Silent,
    Doubt(Doubt),
}

impl Line {
    /// Sends a request whose body, if any, is held, and receives the head of the answer.
    pub(super) async fn ask(
        replica: &Replica<'_>,
        means: &Means,
        timer: &Timer,
        ask: &Ask<'_>,
        body: Option<&[u8]>,
    ) -> Result<Self, Fault> {
        let mut head = means.buffers.text();
        let framing = body.map_or(Framing::None, |body| Framing::Length(body.len() as u64));
        ask.write(&mut head, replica.address, &replica.standing(), framing);
        let mut body = body.unwrap_or_default();
        if body.len() <= JOINED_BYTES_MAX {
            // One part goes by a cheaper call than two.
            head.extend_from_slice(std::mem::take(&mut body));
        }
        let mut anew = false;
        loop {
            let upstream = match open(replica, means, timer, anew, false).await {
                Ok(upstream) => upstream,
                // The first try may have been carried out.
                Err(_) if anew => return Err(Doubt::Broke.into()),
                Err(fault) => return Err(fault),
            };
            let mut pace = Pace::idle(replica.times.idle);
            let parts = [&head[..], body];
            let is_sent = upstream.wire.write_all(timer, parts, &mut pace).await.is_ok();
            let reused = upstream.is_reused();
            match Self::answered(replica, means, timer, upstream, ask.is_head(), is_sent).await {
                // It was closed while nobody looked; that says nothing of the store.
                Err(NoHead::Silent) if reused && !anew => anew = true,
                Err(NoHead::Silent) => return Err(Doubt::Broke.into()),
                Err(NoHead::Doubt(doubt)) => return Err(doubt.into()),
                Ok(mut line) => {
                    line.may_have_been_done = anew;
                    return line.of_right_store(replica);
                }
            }
        }
    }

    /// Receives the head of the answer to what was sent on `upstream`.
    pub(super) async fn finish(
        replica: &Replica<'_>,
        means: &Means,
        timer: &Timer,
        upstream: Upstream,
        is_sent: bool,
    ) -> Result<Self, Fault> {
        match Self::answered(replica, means, timer, upstream, false, is_sent).await {
            Err(NoHead::Silent) => Err(Doubt::Broke.into()),
            Err(NoHead::Doubt(doubt)) => Err(doubt.into()),
            Ok(line) => line.of_right_store(replica),
        }
    }

    async fn answered(
        replica: &Replica<'_>,
        means: &Means,
        timer: &Timer,
        upstream: Upstream,
        head_asked: bool,
        is_sent: bool,
    ) -> Result<Self, NoHead> {
        let mut buffer = means.buffers.small();
        let mut head = means.buffers.head();
        let wait = if is_sent { replica.times.answer } else { LAST_WORDS };
        let deadline_ms = timer.timers().after(wait);
        let length = {
            let received = pin!(receive(&upstream, timer, &mut buffer, &mut head, head_asked));
            match timer.limit(deadline_ms, received).await {
                Some(received) => received?,
                None => return Err(NoHead::Doubt(Doubt::TimedOut)),
            }
        };
        let whole = &buffer.filled()[..length];
        let facts = Facts::of(&head, whole);
        means.buffers.keep_head(head);
        buffer.consume(length);
        let (means, idle, keep) = (means.clone(), replica.times.idle, *replica.keep);
        Ok(Self {
            means,
            upstream: Some(upstream),
            buffer,
            facts,
            idle,
            keep,
            is_sent,
            may_have_been_done: false,
        })
    }

    /// Refuses the answer of a store that the shard is not bound to.
    fn of_right_store(self, replica: &Replica<'_>) -> Result<Self, Fault> {
        match replica.store {
            Some(store) if self.facts.store != Some(store) && self.may_have_been_done => {
                Err(Doubt::Broke.into())
            }
            // Whoever answers in place of the store, a balancer between, does not know what it did.
            Some(_) if self.facts.store.is_none() => Err(Doubt::Store.into()),
            Some(store) if self.facts.store != Some(store) => {
                Err(Refused::Foreign(self.facts.store).into())
            }
            _ => Ok(self),
        }
    }

    /// Reads the whole body, which may have at most `bytes_max`, and gives the connection back.
    pub(super) async fn body(&mut self, timer: &Timer, bytes_max: usize) -> Result<Vec<u8>, Doubt> {
        let mut body = Vec::new();
        let too_long = Doubt::BadAnswer("body_too_long");
        match self.facts.framing {
            Framing::None => {}
            Framing::Length(length) => {
                let length = usize::try_from(length).map_err(|_| too_long)?;
                if length > bytes_max {
                    return Err(too_long);
                }
                body.reserve_exact(length);
                while body.len() < length {
                    let due = length - body.len();
                    let bytes = self.more(timer, due as u64).await?;
                    let here = bytes.len().min(due);
                    body.extend_from_slice(&bytes[..here]);
                    self.buffer.consume(here);
                }
            }
            Framing::Chunked => {
                let mut decoder = Decoder::new(CHUNK_LIMITS);
                loop {
                    let (used, step) = decoder
                        .step(self.buffer.filled())
                        .map_err(|_| Doubt::BadAnswer("chunks"))?;
                    if let Step::Data(range) = &step {
                        body.extend_from_slice(&self.buffer.filled()[range.clone()]);
                        if body.len() > bytes_max {
                            return Err(too_long);
                        }
                    }
                    self.buffer.consume(used);
                    match step {
                        Step::Data(_) => {}
                        Step::End => break,
                        Step::NeedMore => {
                            self.more(timer, u64::MAX).await?;
                        }
                    }
                }
            }
            Framing::UntilClose => return Err(Doubt::BadAnswer("no_length")),
        }
        self.put_back();
        Ok(body)
    }

    /// Some bytes of the body, of which `due` are still to come. They stay in the buffer.
    pub(super) async fn more(&mut self, timer: &Timer, due: u64) -> Result<&[u8], Doubt> {
        if self.buffer.is_empty() {
            let upstream = self.upstream.as_ref().expect("a body that is not read to its end");
            let mut pace = Pace::idle(self.idle);
            match upstream.wire.read_body(timer, &mut self.buffer, due, &mut pace).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Doubt::Broke),
            }
        }
        Ok(self.buffer.filled())
    }

    /// Takes the connection and what came behind the head.
    pub(super) fn take(&mut self) -> Option<Upstream> {
        self.upstream.take()
    }

    /// Gives the connection back, the whole answer being read.
    pub(super) fn put_back(&mut self) {
        let in_step = self.buffer.is_empty()
            && self.is_sent
            && self.facts.persistence == Persistence::KeepAlive;
        if let Some(upstream) = self.upstream.take()
            && in_step
        {
            self.means.upstreams.put_back(upstream, self.means.timers.now_ms(), &self.keep);
        }
    }

    /// Whether the connection may be used again once its body is read.
    pub(super) fn is_persistent(&self) -> bool {
        self.is_sent && self.facts.persistence == Persistence::KeepAlive
    }

    /// Whether the same was asked before, and nothing is known of that.
    pub(super) fn may_have_been_done(&self) -> bool {
        self.may_have_been_done
    }

    /// What an answer says that is none of those that were expected.
    pub(super) fn refusal<'a>(self, timer: &'a Timer) -> impl Future<Output = Fault> + 'a
    where
        Self: 'a,
    {
        // Boxed: it is rare, and would lie in the state of each exchange.
        Box::pin(self.read_refusal(timer))
    }

    async fn read_refusal(mut self, timer: &Timer) -> Fault {
        // Read, so that the connection lives on.
        let _: Result<Vec<u8>, Doubt> = self.body(timer, PROBLEM_BYTES_MAX).await;
        if self.may_have_been_done {
            return Doubt::Broke.into();
        }
        let Facts { status, store, epoch, refusal, .. } = self.facts;
        let refused = match (refusal, epoch) {
            (Some(Refusal::Unknown), _) => return Doubt::Store.into(),
            (Some(Refusal::StaleEpoch), Some(epoch)) => Refused::StaleEpoch(epoch),
            (Some(Refusal::Foreign), _) => Refused::Foreign(store),
            (Some(refusal), _) => Refused::Said(refusal),
            // Whoever answers in place of the store does not know what it did.
            (None, _) if status >= 500 => return Doubt::Store.into(),
            (None, _) if status < 400 => return Doubt::BadAnswer("unexpected_status").into(),
            (None, _) => Refused::Status(status),
        };
        refused.into()
    }
}

/// An idle connection to the store, or a new one. `surely`: what is sent on it cannot be sent
/// again.
pub(super) async fn open(
    replica: &Replica<'_>,
    means: &Means,
    timer: &Timer,
    anew: bool,
    surely: bool,
) -> Result<Upstream, Fault> {
    let now_ms = timer.timers().now_ms();
    let (key, generation) = (replica.key, replica.connections);
    if !anew {
        let idle = means.upstreams.checkout(key, generation, now_ms, surely, replica.keep);
        if let Some(upstream) = idle {
            return Ok(upstream);
        }
    }
    let deadline_ms = timer.timers().after(replica.times.connect);
    // Boxed: it is rare, and its state is most of an exchange's.
    let opened = connect(replica.endpoint, replica.tls, key, generation, timer, deadline_ms);
    Box::pin(opened).await.map_err(Fault::NotSent)
}

/// Receives a head; its length is given, and it stands in the buffer.
async fn receive(
    upstream: &Upstream,
    timer: &Timer,
    buffer: &mut ReadBuffer,
    head: &mut ResponseHead,
    head_asked: bool,
) -> Result<usize, NoHead> {
    let mut pace = Pace::until(u64::MAX);
    let mut scanner = Scanner::default();
    loop {
        let bytes = buffer.filled();
        if scanner.is_fresh()
            && let Some(length) = head.parse_at_once(bytes, head_asked, &HEAD_LIMITS)
            && !head.is_interim()
        {
            return Ok(length);
        }
        let bad = |what| NoHead::Doubt(Doubt::BadAnswer(what));
        let scanned = scanner.scan(bytes, &HEAD_LIMITS).map_err(|_| bad("head_limits"))?;
        if let Some(length) = scanned {
            head.parse(&bytes[..length], head_asked).map_err(|_| bad("malformed_head"))?;
            if !head.is_interim() {
                return Ok(length);
            }
            buffer.consume(length);
            scanner = Scanner::default();
            continue;
        }
        if buffer.room().is_empty() {
            buffer.grow(HEAD_LIMITS.head_bytes_max + 1);
        }
        let is_empty = buffer.is_empty();
        match upstream.wire.read(timer, buffer, &mut pace).await {
            Ok(1..) => {}
            Ok(0) | Err(_) if is_empty => return Err(NoHead::Silent),
            Ok(0) | Err(_) => return Err(NoHead::Doubt(Doubt::Broke)),
        }
    }
}
