//! Who is asked, and how often?
//!
//! A request is tried on one shard after the other until one answers or nothing more may be
//! tried. What may be repeated depends on what is known to have happened:
//!
//! | what happened | read | write, keys immutable | other write |
//! |---|---|---|---|
//! | no connection: nothing was sent | next shard | next shard | 503, not applied |
//! | a kept-alive connection was closed under the request | same shard, new connection | same, if repeatable | same, if repeatable |
//! | the connection broke before the answer | next shard | next shard, if repeatable | 502, unknown |
//! | no answer in time | next shard | 504, unknown | 504, unknown |
//! | the answer's head came, and no byte of its body | next shard | cut | cut |
//! | the answer cannot be understood | next shard | 502, unknown | 502, unknown |
//! | the answer had begun | cut | cut | cut |
//!
//! Of a pool in `mode: primary` (see `choose`) every write is an "other write" here.
//!
//! "If repeatable" means: the method is idempotent, it bears no condition that its own first
//! success would make false, and its body is still held. A repeat of what was sent to a shard
//! needs a token of the pool's retry budget, so that a sick pool is not drowned; a repeat on a new
//! connection, or after none could be opened, does not, since it burdens nobody a second time.
//!
//! "Not applied" is said only if it is true of *every* try: a write that may have been applied by
//! the first stays unknown, even if the last could not be sent.

use std::pin::pin;
use std::time::Duration;

use super::attempt::{Attempt, Source};
use super::choose::{Asked, Chosen, NoShard, Spared, choose, may_go_on};
use super::outcome::{Failure, Note, TryError};
use super::places::Place;
use super::seam::{Answer, Body, BodyError, Part, Request};
use super::second::First;
use super::trace::Trying;
use super::view::{Pool, Shard};
use super::worker::Worker;
use crate::net::buffer::TextBuffer;
use crate::net::http1::framing::Framing;
use crate::net::timers::Timer;
use crate::net::upstream::{ConnectError, Upstream, connect};
use crate::protocol::health::{Class, Observation, Outcome};

/// Carries one request out, from the choice of a shard to the last byte of the answer.
///
/// # Errors
/// [`Failure`]. Whether anything of an answer has reached the client, its [`Answer`] knows.
pub async fn run<B: Body, A: Answer>(
    worker: &Worker,
    timer: &Timer,
    pool: &Pool,
    request: &Request<'_>,
    body: &mut B,
    answer: &mut A,
    note: &mut Note,
) -> Result<(), Failure> {
    let run = Run { worker, timer, pool, request };
    match pool.settings.timeouts.request {
        None => run.tries(body, answer, note).await,
        Some(limit) => {
            let begun_ms = timer.timers().now_ms();
            let deadline_ms = timer.timers().after(limit);
            let done = {
                let tries = pin!(run.tries(body, answer, note));
                timer.limit(deadline_ms, tries).await
            };
            done.unwrap_or_else(|| {
                run.deadline_passed(note, begun_ms);
                Err(Failure::RequestTimeout)
            })
        }
    }
}

pub(super) struct Run<'a> {
    pub(super) worker: &'a Worker,
    pub(super) timer: &'a Timer,
    pub(super) pool: &'a Pool,
    pub(super) request: &'a Request<'a>,
}

/// What a failed try leaves.
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// A kept-alive connection was closed under the request, which says nothing of the shard.
    pub(super) stale: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, stale: false }
    }
}

impl<'a> Run<'a> {
    async fn tries<B: Body, A: Answer>(
        &self,
        body: &mut B,
        answer: &mut A,
        note: &mut Note,
    ) -> Result<(), Failure> {
        self.check_destination()?;
        let (metrics, stripe) = (&self.pool.metrics, self.worker.stripe);
        let _in_flight = self.pool.budget.request(stripe);
        let panic = self.pool.health.in_panic(self.request.class);
        if panic {
            metrics.panic.inc(stripe);
        }
        let (token, class) = (self.request.token, self.request.class);
        let asked = Asked { token, class, panic, now_ms: self.timer.timers().now_ms() };
        let mut tried = Vec::new();
        let mut last = None;
        let mut held = None;
        let mut repeat = None;
        let mut repeated = false;
        // Whether the next try must open a connection of its own.
        let mut anew = false;
        loop {
            let chosen = match choose(self.pool, asked, &tried) {
                Ok(chosen) => chosen,
                Err(no_shard) => return Err(last.unwrap_or_else(|| self.no_shard(no_shard))),
            };
            if chosen.spilled && self.request.destination.is_some() {
                // The next shard for the one key need not be the next for the other.
                return Err(last.unwrap_or_else(|| self.no_shard(NoShard::OwnerDown)));
            }
            if held.is_none() && self.holds_body() {
                // Only now: a request that nobody can serve is refused before its body is asked for.
                held = Some(self.hold(body).await.map_err(Failure::Body)?);
            }
            self.take_down(note, chosen);
            let source = match &held {
                Some(bytes) => Source::Held(bytes),
                None => Source::Stream(&mut *body),
            };
            // A repeat on the same shard, below, is no other try.
            let is_last = tried.len() + 1 >= self.pool.settings.retry.attempts_max as usize;
            let on_gateway_error = !is_last
                && held.is_some()
                && self.another_for_gateway_error(chosen, asked, &mut tried);
            let tried_once = if self.may_ask_second() {
                let first = First { chosen, asked, on_gateway_error, may_hedge: !is_last };
                // Boxed: no other request is to pay for the place that its state takes.
                Box::pin(self.careful_try(first, &mut tried, answer, note)).await
            } else {
                self.one_try(chosen.shard, source, anew, on_gateway_error, answer, note).await
            };
            let Err(Failed { failure, stale }) = tried_once else {
                if repeated {
                    metrics.rq_retry_success.inc(stripe);
                }
                return Ok(());
            };
            let may_go_on = self.may_go_on(&failure, held.is_some());
            // Where nothing was sent, the repeat is the first burden that the request puts on
            // anybody.
            let is_burden = !matches!(failure, Failure::Connect(_));
            let failure = self.to_be_told(last.take(), failure);
            if stale && held.is_some() && self.request.repeatable {
                anew = true;
                last = Some(failure);
                continue;
            }
            if !may_go_on {
                return Err(failure);
            }
            // A second shard may have been asked meanwhile.
            let is_last = tried.len() + 1 >= self.pool.settings.retry.attempts_max as usize;
            // The token of the former repeat goes back before the next one is asked for.
            drop(repeat.take());
            if is_burden && !is_last {
                repeat = self.pool.budget.repeat();
            }
            let over_budget = is_burden && repeat.is_none();
            if is_last || over_budget {
                if !is_last {
                    metrics.rq_retry_overflow.inc(stripe);
                }
                note.retries_exhausted = true;
                return Err(failure);
            }
            metrics.rq_retry.inc(stripe);
            repeated = true;
            tried.push(chosen.shard);
            last = Some(failure);
            anew = false;
        }
    }

    /// Counts a request that took too long. A shard that kept it waiting is told of to the health
    /// view, as if its own time-out had come.
    fn deadline_passed(&self, note: &Note, begun_ms: u64) {
        self.pool.metrics.rq_deadline.inc(self.worker.stripe);
        if let Some(shard) = note.shard.filter(|_| note.owes_head) {
            let now_ms = self.timer.timers().now_ms();
            let observation = Observation {
                class: self.request.class,
                key: self.request.token,
                begun_ms,
                outcome: Outcome::HeadTimeout,
            };
            self.pool.health.observe(now_ms, shard, &observation);
        }
    }

    /// Whether a gateway error of the chosen shard is kept from the client, since another shard
    /// can be asked. If none can, the shard's own answer says more than ours would.
    fn another_for_gateway_error(
        &self,
        chosen: Chosen,
        asked: Asked,
        tried: &mut Vec<usize>,
    ) -> bool {
        if !self.pool.settings.retry.on_gateway_error || asked.class != Class::Read {
            return false;
        }
        tried.push(chosen.shard);
        let another = choose(self.pool, asked, tried).is_ok();
        tried.pop();
        another
    }

    /// Of what went wrong before and now, what the client is told. A write that may have been
    /// applied by an earlier try is not undone by a later one that certainly was not.
    fn to_be_told(&self, before: Option<Failure>, now: Failure) -> Failure {
        match before {
            Some(before)
                if self.request.class == Class::Write
                    && before.may_have_been_applied()
                    && !now.may_have_been_applied() =>
            {
                before
            }
            _ => now,
        }
    }

    /// One shard is asked once.
    async fn one_try<B: Body, A: Answer>(
        &self,
        shard_index: usize,
        source: Source<'_, B>,
        anew: bool,
        retries_gateway_errors: bool,
        answer: &mut A,
        note: &mut Note,
    ) -> Result<(), Failed> {
        let shard = &*self.pool.shards[shard_index];
        let begun_micros = self.timer.timers().now_micros();
        let attempt = self.attempt(shard_index, retries_gateway_errors);
        let _place = match shard.places.try_take(self.worker.stripe) {
            Some(place) => place,
            None => self.wait_for_place(&attempt).await?,
        };
        let surely = !self.request.repeatable || matches!(source, Source::Stream(_));
        let idle = if anew { None } else { self.idle_connection(shard, surely) };
        let opened = match idle {
            Some(upstream) => Ok(upstream),
            None => self.connection(shard).await,
        };
        let upstream = match opened {
            Ok(upstream) => upstream,
            Err(error) => return Err(no_connection(&attempt, error)),
        };
        let result = attempt.run(&upstream, source, answer, note).await;
        let elapsed = self.timer.timers().refresh() - begun_micros;
        shard.metrics.rq_time.observe(self.worker.stripe, elapsed);
        if result.is_ok() {
            attempt.end(None);
        }
        match result {
            Ok(true) => {
                let now_ms = self.timer.timers().now_ms();
                self.worker.upstreams.put_back(upstream, now_ms, &self.pool.keep);
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => Err(self.judge(error, &attempt, upstream.is_reused())),
        }
    }

    /// A try begins.
    pub(super) fn attempt(&self, shard_index: usize, retries_gateway_errors: bool) -> Attempt<'a> {
        Attempt {
            span: self.request.trace.map(|trace| Trying::begin(trace, shard_index, self.timer)),
            worker: self.worker,
            timer: self.timer,
            pool: self.pool,
            shard_index,
            shard: &self.pool.shards[shard_index],
            request: self.request,
            retries_gateway_errors,
            begun_ms: self.timer.timers().now_ms(),
        }
    }

    /// Counts a failed attempt, tells the health view, and words it.
    pub(super) fn judge(&self, error: TryError, attempt: &Attempt<'_>, reused: bool) -> Failed {
        let (metrics, stripe) = (&attempt.shard.metrics, self.worker.stripe);
        let failure = match error {
            TryError::Reset if reused => {
                metrics.rx_reset.inc(stripe);
                attempt.end(Some(&Failure::Reset));
                return Failed { failure: Failure::Reset, stale: true };
            }
            TryError::Untrusted(refused) => {
                let pool = &self.pool.agreed.name;
                let now_ms = self.timer.timers().now_ms();
                attempt.shard.tls_failed(pool, refused.reason(), &refused.to_string(), now_ms);
                return no_connection(attempt, ConnectError::Tls(refused));
            }
            // An old connection that was closed under the request gives no head.
            TryError::Reset | TryError::BodyMissing => {
                metrics.rx_reset.inc(stripe);
                attempt.shard.distrust_connections();
                attempt.observe(Outcome::Reset);
                Failure::Reset
            }
            TryError::HeadTimeout => {
                metrics.rq_timeout.inc(stripe);
                attempt.observe(Outcome::HeadTimeout);
                Failure::HeadTimeout
            }
            TryError::BadAnswer(what) => {
                metrics.protocol_error.inc(stripe);
                attempt.observe(Outcome::Reset);
                Failure::BadAnswer(what)
            }
            TryError::GatewayError(status) => Failure::GatewayError(status),
            TryError::Body(error) => Failure::Body(error),
            TryError::Client(_) => Failure::ClientGone,
            TryError::AnswerBroke => {
                metrics.rx_reset.inc(stripe);
                Failure::AnswerBroke
            }
        };
        attempt.end(Some(&failure));
        failure.into()
    }

    /// Whether another shard may be asked after this failure. `held`: the body, if there is one,
    /// can be sent again.
    fn may_go_on(&self, failure: &Failure, held: bool) -> bool {
        let request = self.request;
        let again = held && request.repeatable;
        may_go_on(self.pool, request.class)
            && match failure {
                Failure::Connect(ConnectError::Local(_)) => false,
                // Nothing was sent, and nothing of the body read.
                Failure::Connect(_) => true,
                Failure::Reset => again,
                Failure::HeadTimeout | Failure::BadAnswer(_) | Failure::GatewayError(_) => {
                    again && request.class == Class::Read
                }
                _ => false,
            }
    }

    fn no_shard(&self, no_shard: NoShard) -> Failure {
        self.pool.metrics.none_healthy.inc(self.worker.stripe);
        match no_shard {
            NoShard::NoneHealthy => Failure::NoneHealthy,
            NoShard::OwnerDown => Failure::OwnerDown,
        }
    }

    fn take_down(&self, note: &mut Note, chosen: Chosen) {
        note.attempts += 1;
        note.shard = Some(chosen.shard);
        note.upstream_status = 0;
        note.spilled = chosen.spilled;
        note.owes_head = false;
        if chosen.spilled {
            self.pool.metrics.spilled.inc(self.worker.stripe);
        }
        match chosen.spared {
            None => {}
            Some(Spared::Loaded) => self.pool.metrics.balance_spilled.inc(self.worker.stripe),
            Some(Spared::SlowStart) => self.pool.metrics.slow_start_spilled.inc(self.worker.stripe),
        }
    }

    /// COPY and MOVE are one shard's work: what lies between two shards is refused, not torn.
    fn check_destination(&self) -> Result<(), Failure> {
        let ring = &self.pool.agreed.ring;
        match self.request.destination {
            Some(token) if ring.replicas(token)[0] != ring.replicas(self.request.token)[0] => {
                Err(Failure::CrossShard)
            }
            _ => Ok(()),
        }
    }

    /// Whether the body is small enough to be held, or there is none.
    fn holds_body(&self) -> bool {
        match self.request.outbound.framing {
            Framing::None => true,
            Framing::Length(length) => length <= self.request.held_body_bytes_max,
            Framing::Chunked | Framing::UntilClose => false,
        }
    }

    async fn hold<B: Body>(&self, body: &mut B) -> Result<TextBuffer, BodyError> {
        let mut held = self.worker.buffers.text();
        if self.request.outbound.framing != Framing::None {
            body.ask().await?;
            while let Part::Data(bytes) = body.next().await? {
                held.extend_from_slice(bytes);
            }
        }
        Ok(held)
    }

    /// Waits for one of the shard's places, all of which are taken.
    pub(super) async fn wait_for_place(&self, attempt: &Attempt<'a>) -> Result<Place<'a>, Failure> {
        let (shard, stripe) = (attempt.shard, self.worker.stripe);
        let deadline_ms = self.timer.timers().after(self.pool.settings.timeouts.pool_wait);
        let place = pin!(shard.places.wait(stripe));
        self.timer.limit(deadline_ms, place).await.ok_or_else(|| {
            shard.metrics.pending_overflow.inc(stripe);
            attempt.end(Some(&Failure::Overflow));
            Failure::Overflow
        })
    }

    /// An idle connection to the shard, if a usable one is left.
    pub(super) fn idle_connection(&self, shard: &Shard, surely: bool) -> Option<Upstream> {
        let now_ms = self.timer.timers().now_ms();
        let generation = shard.generation();
        self.worker.upstreams.checkout(shard.key, generation, now_ms, surely, &self.pool.keep)
    }

    pub(super) async fn connection(&self, shard: &Shard) -> Result<Upstream, ConnectError> {
        let now_ms = self.timer.timers().now_ms();
        let (key, generation) = (shard.key, shard.generation());
        let wait: Duration = self.pool.settings.timeouts.connect;
        let deadline_ms = self.timer.timers().after(wait);
        let tls = &self.pool.settings.tls;
        let opened = connect(&shard.endpoint, tls, key, generation, self.timer, deadline_ms).await;
        match &opened {
            Ok(_) => shard.metrics.cx_total.inc(self.worker.stripe),
            Err(error) => {
                shard.metrics.cx_connect_fail.inc(self.worker.stripe);
                if matches!(error, ConnectError::TimedOut) {
                    shard.metrics.cx_connect_timeout.inc(self.worker.stripe);
                }
                if let ConnectError::Tls(refused) = error {
                    let pool = &self.pool.agreed.name;
                    shard.tls_failed(pool, refused.reason(), &refused.to_string(), now_ms);
                }
            }
        }
        opened
    }
}

/// Tells the health view of a connection that could not be had.
pub(super) fn no_connection(attempt: &Attempt<'_>, error: ConnectError) -> Failed {
    if !matches!(error, ConnectError::Local(_)) {
        attempt.shard.distrust_connections();
        attempt.observe(Outcome::ConnectFailed);
    }
    let failure = Failure::Connect(error);
    attempt.end(Some(&failure));
    failure.into()
}
