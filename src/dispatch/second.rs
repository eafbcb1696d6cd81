//! When is a second shard asked besides the first?
//!
//! # Hedged reads
//!
//! A shard that answers most reads at once and some after a second makes every page that needs a
//! hundred reads wait a second. With `retry.hedge_after` a read whose answer has not begun after a time
//! is sent to the shard that a retry would go to next, and the first usable head is passed on; the
//! other connection is reset (Dean and Barroso, *The Tail at Scale*, 2013).
//!
//! - Only GET and HEAD without a body, since only they are surely harmless twice.
//! - The first shard's word counts: whatever it answers is passed on. The second's counts while the
//!   first is silent only if it is a success (2xx, 3xx): that a shard which never had the key does
//!   not find it is no reason to give up the one that may. Anything else it says is held until
//!   the first has failed.
//! - A hedge takes a token of the retry budget for as long as it lasts, and counts as an attempt.
//! - What fails before the time is repeated as ever; `run` does not know the difference.
//!
//! # Warm-up
//!
//! A shard that joined, or came back, does not have all that it owns; `former` says who may. Each is
//! asked in turn, within the budget and a second in all, until one has it; the owner's 404 is held
//! meanwhile, and goes on if nobody has. A failure there is no failure of the request.
//!
//! Known weakness: a shard that is cut off because another was faster is not blamed, so reads alone
//! do not eject one that hangs until the budget is used up; probes do.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::choose::{Asked, Chosen, choose};
use super::former::holders;
use super::held::{Held, Line};
use super::outcome::Note;
use super::run::{Failed, Run, no_connection};
use super::seam::Answer;
use crate::net::http1::framing::Framing;
use crate::protocol::health::Class;

/// The first try.
#[derive(Clone, Copy)]
pub(super) struct First {
    pub(super) chosen: Chosen,
    pub(super) asked: Asked,
    /// Whether its gateway errors are given back.
    pub(super) on_gateway_error: bool,
    /// Whether one more attempt is allowed.
    pub(super) may_hedge: bool,
}

/// How long shards are asked, all together, for what the owner has answered that it has not: it is a
/// favour, and the answer is in hand.
const ELSEWHERE: Duration = Duration::from_secs(1);

impl<'a> Run<'a> {
    /// Whether this is a request of which a second shard may be asked, in a pool that wants that.
    pub(super) fn may_ask_second(&self) -> bool {
        self.pool.asks_second
            && self.request.class == Class::Read
            && self.request.outbound.framing == Framing::None
            && matches!(self.request.outbound.method, b"GET" | b"HEAD")
    }

    /// A try in which a second shard may be asked. Those that failed besides the first are in
    /// `tried` afterwards.
    pub(super) async fn careful_try<A: Answer>(
        &self,
        first: First,
        tried: &mut Vec<usize>,
        answer: &mut A,
        note: &mut Note,
    ) -> Result<(), Failed> {
        let mut held = self.hedged(first, tried, note).await?;
        if held.status() == 404 && !note.spilled {
            held = self.elsewhere(held, first.asked, note).await;
        }
        (note.owes_head, note.upstream_status) = (false, held.status());
        let passed = held.pass_on(answer).await;
        passed.map_err(|(error, attempt)| self.judge(error, &attempt, false))
    }

    /// The answer of a shard that has what the key's owner, whose answer is held, has not; else
    /// that one.
    async fn elsewhere(&self, held: Held<'a>, asked: Asked, note: &mut Note) -> Held<'a> {
        let (metrics, stripe) = (&self.pool.metrics, self.worker.stripe);
        let timers = self.timer.timers();
        let deadline_ms = timers.after(self.pool.settings.timeouts.response_head.min(ELSEWHERE));
        for shard in holders(self.pool, asked, held.shard()) {
            let Some(_repeat) = self.pool.budget.repeat() else {
                metrics.rq_retry_overflow.inc(stripe);
                break;
            };
            metrics.warm_up.inc(stripe);
            note.attempts += 1;
            let mut owes_head = false;
            let left = Duration::from_millis(deadline_ms.saturating_sub(timers.now_ms()));
            let asking = pin!(self.ask(shard, false, &mut owes_head));
            let other = match within(left, asking).await {
                Some(Ok(other)) => other,
                Some(Err(_)) => continue,
                None => break,
            };
            let (missed, found) = match other.status() {
                // The last two are said of what is there (RFC 9110, sections 15.5.13 and 15.5.17).
                200..400 | 412 | 416 => (held, other),
                _ => {
                    other.let_go();
                    continue;
                }
            };
            metrics.warm_up_found.inc(stripe);
            metrics.spilled.inc(stripe);
            (note.shard, note.spilled) = (Some(shard), true);
            missed.let_go();
            return found;
        }
        held
    }

    /// The answer that is to be passed on.
    async fn hedged(
        &self,
        first: First,
        tried: &mut Vec<usize>,
        note: &mut Note,
    ) -> Result<Held<'a>, Failed> {
        let (metrics, stripe) = (&self.pool.metrics, self.worker.stripe);
        let First { chosen, asked, on_gateway_error, may_hedge } = first;
        let Note { owes_head, attempts, shard, spilled, .. } = note;
        let mut asking = pin!(self.ask(chosen.shard, on_gateway_error, owes_head));
        let Some(after) = self.pool.settings.retry.hedge_after.filter(|_| may_hedge) else {
            return asking.await;
        };
        if let Some(done) = within(after, asking.as_mut()).await {
            return done;
        }
        tried.push(chosen.shard);
        let other = choose(self.pool, asked, tried);
        tried.pop();
        let Ok(other) = other else { return asking.await };
        let Some(_repeat) = self.pool.budget.repeat() else {
            metrics.rq_retry_overflow.inc(stripe);
            return asking.await;
        };
        metrics.rq_hedge.inc(stripe);
        *attempts += 1;
        tried.push(other.shard);
        let mut others_owes_head = false;
        let mut asking_other = pin!(self.ask(other.shard, false, &mut others_owes_head));
        let (mut failed, mut others) = (None, None);
        let won = poll_fn(|cx| {
            if failed.is_none()
                && let Poll::Ready(done) = asking.as_mut().poll(cx)
            {
                match done {
                    Ok(held) => return Poll::Ready(Ok(Some(held))),
                    Err(error) => failed = Some(error),
                }
            }
            if others.is_none()
                && let Poll::Ready(done) = asking_other.as_mut().poll(cx)
            {
                others = Some(done);
            }
            match &others {
                Some(Ok(held)) if failed.is_some() || held.status() < 400 => Poll::Ready(Ok(None)),
                Some(Err(_)) if let Some(error) = failed.take() => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            }
        })
        .await?;
        match (won, others) {
            (Some(held), others) => {
                // It was not tried in vain: should what is passed on now break, nothing is repeated.
                if let Some(Ok(other)) = others {
                    other.let_go();
                }
                Ok(held)
            }
            (None, Some(Ok(held))) => {
                metrics.rq_hedge_won.inc(stripe);
                if other.spilled {
                    metrics.spilled.inc(stripe);
                }
                (*shard, *spilled) = (Some(other.shard), other.spilled);
                Ok(held)
            }
            (None, _) => unreachable!("the other's answer was there"),
        }
    }

    /// Asks one shard, and once more on a new connection if one that was kept alive is closed under
    /// the request.
    async fn ask(
        &self,
        shard_index: usize,
        retries_gateway_errors: bool,
        owes_head: &mut bool,
    ) -> Result<Held<'a>, Failed> {
        let asked = self.ask_on(shard_index, false, retries_gateway_errors, owes_head).await;
        match asked {
            Err(Failed { stale: true, .. }) => {
                self.ask_on(shard_index, true, retries_gateway_errors, owes_head).await
            }
            done => done,
        }
    }

    async fn ask_on(
        &self,
        shard_index: usize,
        anew: bool,
        retries_gateway_errors: bool,
        owes_head: &mut bool,
    ) -> Result<Held<'a>, Failed> {
        let attempt = self.attempt(shard_index, retries_gateway_errors);
        let shard = attempt.shard;
        let begun_micros = self.timer.timers().now_micros();
        let place = match shard.places.try_take(self.worker.stripe) {
            Some(place) => place,
            None => self.wait_for_place(&attempt).await?,
        };
        let idle = if anew { None } else { self.idle_connection(shard, false) };
        let upstream = match idle {
            Some(upstream) => upstream,
            None => match self.connection(shard).await {
                Ok(upstream) => upstream,
                Err(error) => return Err(no_connection(&attempt, error)),
            },
        };
        let reused = upstream.is_reused();
        let held = Held::ask(attempt, Line::new(upstream), place, begun_micros, owes_head).await;
        held.map_err(|(error, attempt)| self.judge(error, &attempt, reused))
    }
}

/// Waits for a future, but no longer than so. The worker's own timers are coarser than the times
/// that are of use here.
async fn within<F: Future>(limit: Duration, mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut expired = pin!(tokio::time::sleep(limit));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => expired.as_mut().poll(cx).map(|()| None),
    })
    .await
}
