//! Which way does a request on a replicated pool go?

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::outcome::{Failure, KeptFailure, KeptNote, Note};
use super::super::seam::{Answer, Body, Part};
use super::super::view::Pool;
use super::super::worker::Worker;
use super::away;
use super::conditions::Verdict;
use super::job::{ByPipe, Content, Job, replicas};
use super::one::order;
use super::read::{Found, Reading};
use super::request::{Act, KeptRequest};
use super::serve::{Achieved, Serving};
use super::window::Window;
use super::write::{Guard, Writing};
use crate::control::wishes::WishError;
use crate::level::Level;
use crate::net::http1::framing::Framing;
use crate::net::splice::SPLICED_BYTES_MIN;
use crate::net::timers::Timer;
use crate::protocol::health::Class;
use crate::protocol::quorum::Reason;
use crate::protocol::read::Read;
use crate::protocol::replica::StageId;
use crate::protocol::write::{Kind, Write};

/// The largest body that is held whole: it leaves together with its head in one write, and can be
/// sent again.
const HELD_BYTES_MAX: u64 = 64 * 1024;

/// How often a read looks anew because what it found was overwritten before it could be had. Each
/// time somebody else's write has succeeded.
const LOOKS_MAX: u32 = 4;

/// How long the first write of a pool waits until what requests read says that it takes writes.
const FILLED_WAIT: Duration = Duration::from_secs(2);

/// Carries a request out, from the first look at the lease to the last byte of the answer.
///
/// # Errors
/// [`Failure`]. Whether anything of an answer has reached the client, its [`Answer`] knows.
pub async fn run<B: Body, A: Answer>(
    worker: &Worker,
    timer: &Timer,
    pool: &Arc<Pool>,
    request: &KeptRequest<'_>,
    body: &mut B,
    answer: &mut A,
    note: &mut Note,
) -> Result<(), Failure> {
    let (stripe, is_write) = (worker.stripe, request.act.is_write());
    pool.metrics.kept.asked(stripe, is_write, request.level);
    note.kept = Some(KeptNote {
        asked: request.level,
        achieved: None,
        acks: 0,
        replicas: pool.agreed.replicas(request.token).len(),
        version: None,
    });
    let carried = async {
        match request.act {
            Act::Get | Act::Head => read(worker, timer, pool, request, answer, note).await,
            Act::Put | Act::Delete => write(worker, timer, pool, request, body, answer, note).await,
        }
    };
    let done = match pool.settings.timeouts.request {
        None => carried.await,
        Some(limit) => {
            let carried = pin!(carried);
            let deadline_ms = timer.timers().after(limit);
            timer.limit(deadline_ms, carried).await.unwrap_or(Err(Failure::RequestTimeout))
        }
    };
    match &done {
        // These say what is there, and so at which level.
        Ok(())
        | Err(Failure::Kept(
            KeptFailure::NotFound(_) | KeptFailure::ConditionFailed | KeptFailure::OutsideRange(_),
        )) => {
            pool.metrics.kept.achieved(stripe, is_write, request.level);
            if let Some(kept) = &mut note.kept {
                kept.achieved = Some(request.level);
            }
        }
        Err(Failure::Kept(KeptFailure::Unknown(_))) => pool.metrics.kept.unknown.inc(stripe),
        Err(_) => {}
    }
    done
}

async fn write<B: Body, A: Answer>(
    worker: &Worker,
    timer: &Timer,
    pool: &Arc<Pool>,
    request: &KeptRequest<'_>,
    body: &mut B,
    answer: &mut A,
    note: &mut Note,
) -> Result<(), Failure> {
    let no_lease = || Failure::Kept(KeptFailure::NotApplied(Reason::NoLease, None));
    let kept = &worker.kept;
    let filled;
    let pool = match pool.agreed.filled {
        true => pool,
        false => {
            filled = fill(worker, timer, pool).await?;
            &filled
        }
    };
    // Looked at before the body is asked for; the machine looks again before it sends anything.
    drop(kept.hold(&pool.agreed.name, pool.agreed.epoch).map_err(|_| no_lease())?);
    let proposer = kept.proposer().ok_or_else(no_lease)?;
    let members = replicas(pool, request.token, Class::Write);
    let is_held = match request.framing {
        Framing::None => true,
        Framing::Length(length) => length <= HELD_BYTES_MAX,
        Framing::Chunked | Framing::UntilClose => false,
    };
    let up = members.up;
    let kind = match request.act {
        Act::Delete => Kind::Delete,
        _ => Kind::Put { is_held },
    };
    let now_ms = timer.timers().now_ms();
    let machine = Write::new(request.level, kind, members, proposer).map_err(|too_few| {
        pool.metrics.none_healthy.inc(worker.stripe);
        note.away = away::of_key(pool, request.token, Class::Write, now_ms);
        Failure::Kept(KeptFailure::NotApplied(Reason::TooFew(too_few), None))
    })?;
    let content = match (request.act, is_held) {
        (Act::Delete, _) => Content::None,
        (_, true) => {
            let mut held = worker.buffers.text();
            if request.framing != Framing::None {
                let broke_off = |error| Failure::Kept(KeptFailure::Body(error));
                body.ask().await.map_err(broke_off)?;
                while let Part::Data(bytes) = body.next().await.map_err(broke_off)? {
                    held.extend_from_slice(bytes);
                }
            }
            Content::Held(held)
        }
        (_, false) => {
            let length = match request.framing {
                Framing::Length(length) => Some(length),
                _ => None,
            };
            let members = pool.agreed.replicas(request.token);
            // With many workers each has fewer than a body needs.
            let has_pipes = worker.pipes.open_max() >= members.len();
            let mut stores = members.iter().map(|shard| &pool.shards[usize::from(shard.0)]);
            let by_pipe = has_pipes
                && length.is_some_and(|length| length >= SPLICED_BYTES_MIN)
                && stores.all(|store| store.endpoint.is_clear());
            let by_pipe = by_pipe.then(|| ByPipe {
                narrow: worker.narrow_pipes.clone(),
                wide: worker.pipes.clone(),
            });
            Content::Passing { window: Window::new(up), length, by_pipe }
        }
    };
    note.attempts = 1;
    let stage = StageId { proposer, sequence: worker.next_stage() };
    let job = Job::new(worker, pool, request, Some(stage), content);
    let hints = worker.hints.clone();
    let count = members.count;
    let writing = Writing::new(Rc::clone(&job), machine, request.level, count, hints);
    let done = Guard::new(writing, &worker.tails).run(timer, body, note).await;
    let (version, acks) = done.inspect_err(|failure| {
        note.away = away::of_job(&job, failure, Class::Write);
    })?;
    let achieved = Achieved::of(&job.pool(), request.level, acks, count);
    let serving = Serving { worker, timer, job: &job, request, achieved };
    serving.empty(answer, 204, None, Some(version)).await
}

/// Has it agreed that the pool takes writes, and waits until requests see it.
async fn fill(worker: &Worker, timer: &Timer, pool: &Arc<Pool>) -> Result<Arc<Pool>, Failure> {
    let name = &pool.agreed.name;
    let not_ready = || Failure::Kept(KeptFailure::NotReady);
    if pool.agreed.shards.iter().any(|shard| shard.store.is_none()) {
        return Err(not_ready());
    }
    let until_ms = timer.timers().after(FILLED_WAIT);
    let mut is_agreed = false;
    loop {
        // It is not, for a moment, while some node may still act by an earlier epoch.
        if !is_agreed {
            is_agreed = match worker.kept.fill(name).await {
                Ok(()) => true,
                Err(WishError::Unavailable(_)) => false,
                Err(WishError::Busy | WishError::Refused(_)) => return Err(not_ready()),
            };
        }
        if let Some(view) = (worker.views)()
            && let Some(present) = view.pool(name)
            && present.agreed.filled
        {
            return Ok(Arc::clone(present));
        }
        if timer.timers().now_ms() >= until_ms {
            return Err(not_ready());
        }
        let look_ms = timer.timers().now_ms() + 50;
        std::future::poll_fn(|cx| match timer.poll_expired(cx, look_ms) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        })
        .await;
    }
}

async fn read<A: Answer>(
    worker: &Worker,
    timer: &Timer,
    pool: &Arc<Pool>,
    request: &KeptRequest<'_>,
    answer: &mut A,
    note: &mut Note,
) -> Result<(), Failure> {
    let job = Job::new(worker, pool, request, None, Content::None);
    let done = read_by(&job, worker, timer, pool, request, answer, note).await;
    done.inspect_err(|failure| note.away = away::of_job(&job, failure, Class::Read))
}

async fn read_by<A: Answer>(
    job: &Rc<Job>,
    worker: &Worker,
    timer: &Timer,
    pool: &Arc<Pool>,
    request: &KeptRequest<'_>,
    answer: &mut A,
    note: &mut Note,
) -> Result<(), Failure> {
    let members = replicas(pool, request.token, Class::Read);
    let count = members.count;
    if request.level == Level::One {
        if !worker.kept.reads_at_one() {
            return Err(Failure::Kept(KeptFailure::NotApplied(Reason::NoLease, None)));
        }
        let achieved = Achieved::of(pool, request.level, 1, count);
        let serving = Serving { worker, timer, job, request, achieved };
        return serving.one(answer, note).await;
    }
    for _ in 0..LOOKS_MAX {
        let machine = Read::new(request.level, members).map_err(|too_few| {
            pool.metrics.none_healthy.inc(worker.stripe);
            Failure::Kept(KeptFailure::NotApplied(Reason::TooFew(too_few), None))
        })?;
        note.attempts += 1;
        let eager = request.wants_whole().then(|| {
            order(pool, request.token, |place| members.up.contains(place)).first().copied()
        });
        let reading = Reading::new(Rc::clone(job), machine, eager.flatten());
        let found = match reading.run(timer, &worker.tails).await {
            // What was to be repaired is not the newest any more: somebody else's write came.
            Err(Failure::Kept(KeptFailure::NotApplied(Reason::TooFew(_), _)))
                if job.overwritten.take() =>
            {
                continue;
            }
            found => found?,
        };
        let pool = job.pool();
        let achieved = |acks| Achieved::of(&pool, request.level, acks, count);
        let serving = |acks| Serving { worker, timer, job, request, achieved: achieved(acks) };
        let (value, from, acks) = match found {
            Found::Value { value, from, acks } => (value, from, acks),
            Found::Nothing { acks } => {
                note.reached(acks, None);
                return Err(serving(acks).nothing());
            }
        };
        note.reached(acks, Some(value.version));
        let serving = serving(acks);
        match request.conditions.judge(value.version, value.modified_ms) {
            Verdict::Proceed => {}
            Verdict::NotModified => {
                return serving.empty(answer, 304, Some(&value), Some(value.version)).await;
            }
            Verdict::Failed => return Err(Failure::Kept(KeptFailure::ConditionFailed)),
        }
        // Those that have it, and then those of which that is not known: they are asked for this
        // very version.
        let mut places = order(&pool, request.token, |place| from.contains(place));
        let is_asked = |place: usize| pool.is_asked(job.shard(&pool, place));
        let others = order(&pool, request.token, |place| !from.contains(place) && is_asked(place));
        places.extend(others);
        let mut fetch = None;
        if let Some((place, fetched)) = job.fetched.take() {
            if fetched.value.version == value.version {
                places.retain(|other| *other != place);
                places.insert(0, place);
                fetch = Some(fetched);
            } else {
                fetched.let_go();
            }
        }
        // Else it was overwritten meanwhile: what is there now is looked for anew.
        if let Ok(()) = serving.value(&value, &places, fetch, answer, note).await? {
            return Ok(());
        }
    }
    Err(Failure::Kept(KeptFailure::NoReplica))
}
