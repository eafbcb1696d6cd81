//! What do all exchanges of one operation share?

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::kept_worker::KeptWorker;
use super::super::trace::{Round, Trace, Trying};
use super::super::view::{Pool, View};
use super::super::worker::Worker;
use super::exchanges::Reply;
use super::request::KeptRequest;
use super::window::{NoPiece, Passing, Window};
use super::words::{Word, word_for};
use crate::disk::hints::HintSink;
use crate::drivers::native::{
    Committal, Committed, Doubt, Fault, Fetch, Got, Held, Means, Origin, Refused, Replica, Staged,
    Upload, Value,
};
use crate::ids::{ShardId, StoreId, Token};
use crate::metrics::Stripe;
use crate::net::buffer::TextBuffer;
use crate::net::splice::Pipes;
use crate::net::timers::Timer;
use crate::net::upstream::ConnectError;
use crate::protocol::handoff::Hint;
use crate::protocol::health::{Class, Observation, Outcome};
use crate::protocol::quorum::{Replicas, Set};
use crate::protocol::replica::{PoolEpoch, Refusal, StageId};
use crate::version::Version;

/// How long a node that is behind waits for what a store has been told of already.
const NEWER_VIEW_WAIT: Duration = Duration::from_secs(1);

/// How often it looks meanwhile.
const NEWER_VIEW_LOOK: Duration = Duration::from_millis(50);

/// Where the present view is found.
pub type Views = Rc<dyn Fn() -> Option<Arc<View>>>;

/// The body of a write, as it is sent to each replica.
pub(super) enum Content {
    /// There is none.
    None,
    /// It is here, whole.
    Held(TextBuffer),
    /// It passes through.
    Passing {
        /// What of it is here.
        window: Window,
        /// Its length, if that is known.
        length: Option<u64>,
        /// Where its bytes go if they need not be looked at.
        by_pipe: Option<ByPipe>,
    },
}

/// The pipes by which a body passes.
pub(super) struct ByPipe {
    /// In which it is taken in.
    pub(super) narrow: Pipes,
    /// In which it waits for each upload.
    pub(super) wide: Pipes,
}

/// One operation on one key.
pub(super) struct Job {
    /// Replaced where a store knows a later epoch.
    pool: RefCell<Arc<Pool>>,
    views: Views,
    pub(super) kept: Rc<KeptWorker>,
    pub(super) means: Means,
    pub(super) stripe: Stripe,
    pub(super) key: Box<[u8]>,
    pub(super) token: Token,
    /// The fields that are kept with a value: lines with CRLF.
    pub(super) fields: Vec<u8>,
    pub(super) stage: Option<StageId>,
    pub(super) content: Content,
    /// Whether a store said that it has no room, or that the value is too large.
    pub(super) refused: Cell<Option<Refusal>>,
    /// Whether what was to be copied was overwritten where it was to be had.
    pub(super) overwritten: Cell<bool>,
    /// A value that has begun to come, and from where.
    pub(super) fetched: Cell<Option<(usize, Box<Fetch>)>>,
    /// Where its exchanges are noted, if the request is being recorded.
    trace: Option<Rc<Trace>>,
    /// The replicas whose last exchange brought an answer.
    answered: Cell<Set>,
    /// Those whose last exchange failed, and how, in a word.
    failed: RefCell<Vec<(usize, &'static str)>>,
}

impl Job {
    pub(super) fn new(
        worker: &Worker,
        pool: &Arc<Pool>,
        request: &KeptRequest<'_>,
        stage: Option<StageId>,
        content: Content,
    ) -> Rc<Self> {
        Rc::new(Self {
            pool: RefCell::new(Arc::clone(pool)),
            views: Rc::clone(&worker.views),
            kept: Rc::clone(&worker.kept),
            means: worker.means(),
            stripe: worker.stripe,
            key: request.key.into(),
            token: request.token,
            fields: request.fields.to_vec(),
            stage,
            content,
            refused: Cell::new(None),
            overwritten: Cell::new(false),
            fetched: Cell::new(None),
            trace: request.trace.clone(),
            answered: Cell::default(),
            failed: RefCell::default(),
        })
    }

    /// The pool as this operation sees it now.
    pub(super) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool.borrow())
    }

    /// The shard at a place of the key's replica set.
    pub(super) fn shard(&self, pool: &Pool, place: usize) -> usize {
        usize::from(pool.agreed.replicas(self.token)[place].0)
    }

    fn key(&self) -> (&[u8], Token) {
        (&self.key, self.token)
    }

    /// Whether the last exchange with a replica brought an answer, and else what went wrong; `None`
    /// while it has not come to an end.
    pub(super) fn came_of(&self, place: usize) -> Option<Result<(), &'static str>> {
        if self.answered.get().contains(place) {
            return Some(Ok(()));
        }
        let failed = self.failed.borrow();
        failed.iter().find(|(of, _)| *of == place).map(|(_, word)| Err(*word))
    }

    fn note_end(&self, place: usize, word: Result<&'static str, &'static str>) {
        let mut answered = self.answered.get();
        match word {
            Ok(_) => answered.insert(place),
            Err(word) => {
                let mut failed = self.failed.borrow_mut();
                failed.retain(|(of, _)| *of != place);
                failed.push((place, word));
                answered.remove(place)
            }
        };
        self.answered.set(answered);
    }

    /// Has a replica asked, and tells the health view of it. Asked again where the store is ahead of
    /// this node and this node catches up.
    pub(super) async fn ask<T: Word>(
        &self,
        place: usize,
        round: Round,
        call: impl AsyncFn(&Replica<'_>, &Timer) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let timer = self.means.timers.register();
        loop {
            let pool = self.pool();
            let shard_index = self.shard(&pool, place);
            let shard = &pool.shards[shard_index];
            let begun_ms = timer.timers().now_ms();
            let begun_micros = timer.timers().now_micros();
            let span = self.trace.as_deref();
            let span = span.map(|trace| Trying::begin_round(trace, shard_index, round, &timer));
            let _taken = match shard.places.try_take(self.stripe) {
                Some(taken) => taken,
                None => {
                    let deadline_ms = timer.timers().after(pool.settings.timeouts.pool_wait);
                    let mut taken = Box::pin(shard.places.wait(self.stripe));
                    let taken = timer.limit(deadline_ms, Pin::new(&mut taken)).await;
                    let Some(taken) = taken else {
                        self.note_end(place, Err("overflow"));
                        if let Some(span) = &span {
                            span.end_round(Err("overflow"));
                        }
                        return Err(Fault::Refused(Refused::Said(Refusal::Busy)));
                    };
                    taken
                }
            };
            let result = call(&pool.replica(shard_index), &timer).await;
            let elapsed = timer.timers().refresh() - begun_micros;
            shard.metrics.rq_time.observe(self.stripe, elapsed);
            let word = result.as_ref().map(Word::word).map_err(word_for);
            self.note_end(place, word);
            if let Some(span) = &span {
                span.end_round(word);
            }
            self.tell(&pool, shard_index, round.class(), begun_ms, result.as_ref().err());
            if let Err(Fault::Refused(refused)) = &result {
                match refused {
                    // Boxed: it is rare, and would lie in the state of each exchange.
                    Refused::StaleEpoch(told)
                        if Box::pin(self.is_renewed(&pool, *told, &timer)).await =>
                    {
                        continue;
                    }
                    Refused::Said(said @ (Refusal::Full | Refusal::TooLarge)) => {
                        self.refused.set(Some(*said));
                    }
                    _ => {}
                }
            }
            return result;
        }
    }

    /// Tells the health view, and counts.
    fn tell(
        &self,
        pool: &Pool,
        shard_index: usize,
        class: Class,
        begun_ms: u64,
        fault: Option<&Fault>,
    ) {
        let shard = &pool.shards[shard_index];
        let (metrics, stripe) = (&shard.metrics, self.stripe);
        let outcome = match fault {
            None => {
                metrics.classes.answered(stripe, 200);
                Outcome::answered(200)
            }
            // This process's own want says nothing of the store.
            Some(Fault::NotSent(ConnectError::Local(_))) => {
                metrics.cx_connect_fail.inc(stripe);
                return;
            }
            Some(Fault::NotSent(error)) => {
                metrics.cx_connect_fail.inc(stripe);
                if let ConnectError::Tls(refused) = error {
                    let now_ms = self.means.timers.now_ms();
                    let (name, reason) = (&pool.agreed.name, refused.reason());
                    shard.tls_failed(name, reason, &refused.to_string(), now_ms);
                }
                shard.distrust_connections();
                Outcome::ConnectFailed
            }
            Some(Fault::Unsure(Doubt::TimedOut)) => {
                metrics.rq_timeout.inc(stripe);
                Outcome::HeadTimeout
            }
            Some(Fault::Unsure(Doubt::Broke)) => {
                metrics.rx_reset.inc(stripe);
                shard.distrust_connections();
                Outcome::Reset
            }
            Some(Fault::Unsure(Doubt::BadAnswer(_))) => {
                metrics.protocol_error.inc(stripe);
                Outcome::Reset
            }
            Some(Fault::Unsure(Doubt::Store)) => {
                metrics.classes.answered(stripe, 500);
                Outcome::answered(500)
            }
            Some(Fault::Refused(refused)) => {
                let status = match refused {
                    Refused::Foreign(_) => 421,
                    Refused::StaleEpoch(_) => 409,
                    Refused::Said(said) => said.status(),
                    Refused::Status(status) => *status,
                };
                metrics.classes.answered(stripe, status);
                Outcome::answered(status)
            }
        };
        let observation = Observation { class, key: self.token, begun_ms, outcome };
        pool.health.observe(self.means.timers.now_ms(), shard_index, &observation);
    }

    /// Waits for a view of the epoch that a store has been told. The operation goes on in it if its
    /// replicas are the same.
    async fn is_renewed(&self, before: &Arc<Pool>, told: PoolEpoch, timer: &Timer) -> bool {
        let until_ms = timer.timers().after(NEWER_VIEW_WAIT);
        loop {
            let Some(view) = (self.views)() else { return false };
            let Some(pool) = view.pool(&before.agreed.name) else { return false };
            if pool.epoch() >= told {
                let same = has_same_replicas(before, pool, self.token);
                if same {
                    *self.pool.borrow_mut() = Arc::clone(pool);
                }
                return same;
            }
            let now_ms = timer.timers().now_ms();
            if now_ms >= until_ms {
                return false;
            }
            let look_ms = timer.timers().after(NEWER_VIEW_LOOK);
            poll_fn(|cx| match timer.poll_expired(cx, look_ms) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            })
            .await;
        }
    }

    /// Notes that a replica may lack a version.
    pub(super) fn hint(&self, sink: Option<&HintSink>, place: usize, version: Version) {
        let pool = self.pool();
        let shard = self.shard(&pool, place);
        pool.metrics.kept.hints.inc(self.stripe);
        if let Some(sink) = sink {
            sink.leave(Hint {
                pool: pool.agreed.name.clone(),
                shard: pool.shards[shard].id.clone(),
                key: Arc::from(&*self.key),
                token: self.token,
                version,
            });
        }
    }

    /// Sends the body, to be kept until it is committed.
    pub(super) async fn stage(self: Rc<Self>, place: usize) -> Reply {
        let stage = self.stage.expect("a write in two rounds has a stage");
        let result =
            self.ask(place, Round::Stage, async |replica: &Replica<'_>, timer: &Timer| match &self
                .content
            {
                Content::Passing { window, length, .. } => {
                    begins(window, place)?;
                    let (key, fields) = (self.key(), &self.fields);
                    // Boxed, so that small bodies do not carry what only large ones need.
                    let passed = async {
                        let begun =
                            replica.begin_stage(&self.means, timer, key, stage, fields, *length);
                        let mut upload = begun.await?;
                        pass(window, place, &mut upload).await?;
                        upload.staged().await
                    };
                    Box::pin(passed).await
                }
                Content::Held(body) => {
                    replica.stage(&self.means, timer, self.key(), stage, &self.fields, body).await
                }
                Content::None => {
                    replica.stage(&self.means, timer, self.key(), stage, &self.fields, b"").await
                }
            });
        let result = result.await.map(|Staged { newest }| newest);
        self.leave_window(place);
        Reply::Staged(result)
    }

    /// Sends the body, to be the value under this version at once.
    pub(super) async fn put(self: Rc<Self>, place: usize, version: Version) -> Reply {
        let result = self.ask(place, Round::Put, async |replica: &Replica<'_>, timer: &Timer| {
            let (means, key, fields) = (&self.means, self.key(), &self.fields);
            let origin = Origin::default();
            match &self.content {
                Content::Passing { window, length, .. } => {
                    begins(window, place)?;
                    let passed = async {
                        let begun =
                            replica.begin_put(means, timer, key, version, fields, origin, *length);
                        let mut upload = begun.await?;
                        pass(window, place, &mut upload).await?;
                        upload.put().await
                    };
                    Box::pin(passed).await
                }
                Content::Held(body) => {
                    replica.put(means, timer, key, version, fields, origin, body).await
                }
                Content::None => replica.put(means, timer, key, version, fields, origin, b"").await,
            }
        });
        let result = result.await;
        self.leave_window(place);
        Reply::Committed(result)
    }

    fn leave_window(&self, place: usize) {
        if let Content::Passing { window, .. } = &self.content {
            window.leave(place);
        }
    }

    /// Makes what was staged the value.
    pub(super) async fn commit(self: Rc<Self>, place: usize, version: Version) -> Reply {
        let stage = self.stage.expect("a write in two rounds has a stage");
        let call = async |replica: &Replica<'_>, timer: &Timer| {
            replica.commit(&self.means, timer, self.key(), stage, version).await
        };
        match self.ask(place, Round::Commit, call).await {
            Ok(Committal::Committed(committed)) => Reply::Committed(Ok(committed)),
            Ok(Committal::NotStaged) => Reply::NotStaged,
            Err(fault) => Reply::Committed(Err(fault)),
        }
    }

    /// Brings a tombstone.
    pub(super) async fn remove(self: Rc<Self>, place: usize, version: Version) -> Reply {
        Reply::Committed(self.bring_tombstone(place, version).await)
    }

    pub(super) async fn bring_tombstone(
        &self,
        place: usize,
        version: Version,
    ) -> Result<Committed, Fault> {
        let call = async |replica: &Replica<'_>, timer: &Timer| {
            replica.delete(&self.means, timer, self.key(), version).await
        };
        self.ask(place, Round::Remove, call).await
    }

    /// Has a replica forget what it staged.
    pub(super) async fn abort(self: Rc<Self>, place: usize) -> Reply {
        if let Some(stage) = self.stage {
            let call = async |replica: &Replica<'_>, timer: &Timer| {
                replica.abort(&self.means, timer, self.key(), stage).await
            };
            // A store drops what nobody commits, only later.
            let _: Result<(), Fault> = self.ask(place, Round::Abort, call).await;
        }
        Reply::Dropped
    }

    /// Asks a replica what it holds.
    pub(super) async fn look(self: Rc<Self>, place: usize) -> Reply {
        let call = async |replica: &Replica<'_>, timer: &Timer| {
            replica.head(&self.means, timer, self.key()).await
        };
        Reply::Held(self.ask(place, Round::Look, call).await)
    }

    /// The same, where the value is certainly wanted: it begins to come. What is told and what comes
    /// is one version, so that nobody can overwrite it in between.
    pub(super) async fn look_and_fetch(self: Rc<Self>, place: usize) -> Reply {
        let call = async |replica: &Replica<'_>, timer: &Timer| {
            replica.get(&self.means, timer, self.key(), None, None).await
        };
        Reply::Held(match self.ask(place, Round::Fetch, call).await {
            Ok(Got::Value(mut fetch)) => {
                let told = &mut fetch.value;
                let (kept, digest) = (std::mem::take(&mut told.kept), told.digest.take());
                let value = Value { kept, digest, ..told.clone() };
                self.fetched.set(Some((place, fetch)));
                Ok(Held::Value(value))
            }
            Ok(Got::Nothing(held)) => Ok(held),
            // Neither is an answer to a question without conditions.
            Ok(Got::Other(_) | Got::Outside) => Err(Doubt::BadAnswer("unexpected_status").into()),
            Err(fault) => Err(fault),
        })
    }

    /// What a deletion asks before it has a version.
    pub(super) async fn look_before(self: Rc<Self>, place: usize) -> Reply {
        let Reply::Held(held) = Rc::clone(&self).look(place).await else {
            unreachable!("that is what looking brings")
        };
        Reply::Staged(held.map(|held| held.version()))
    }
}

/// Whether a body that passes through can be sent from its beginning. A store that refused it for
/// its epoch may have had a part of it; it is left out then, and gets a hint.
fn begins(window: &Window, place: usize) -> Result<(), Fault> {
    match window.is_whole_for(place) {
        true => Ok(()),
        false => Err(Fault::Refused(Refused::Said(Refusal::Busy))),
    }
}

/// Sends a body that passes through, to its end.
async fn pass(window: &Window, place: usize, upload: &mut Upload<'_>) -> Result<(), Fault> {
    loop {
        match poll_fn(|_| window.poll_next(place)).await {
            Ok(Passing::Copied(bytes)) => upload.write(&bytes).await?,
            Ok(Passing::Load(lane, bytes)) => upload.write_load(&lane, bytes).await?,
            Err(NoPiece::End) => return Ok(()),
            // The store sees the upload end early, and takes nothing in.
            Err(NoPiece::LeftBehind) => {
                return Err(Fault::Refused(Refused::Said(Refusal::Busy)));
            }
        }
    }
}

/// Whether an operation that began in one view may go on in another: it has the same shards in the
/// same places, and the same stores behind them. A shard that was replaced meanwhile has its name,
/// and knows nothing; its word would count in a machine that was told otherwise. And a pool that was
/// dropped meanwhile may have given its name, its shards and its stores to another.
pub(super) fn has_same_replicas(one: &Pool, other: &Pool, token: Token) -> bool {
    let replicas = |pool: &Pool| -> Vec<(ShardId, Option<StoreId>, bool)> {
        let shard = |at: usize| &pool.agreed.shards[at];
        let places = pool.agreed.replicas(token).iter().map(|at| shard(usize::from(at.0)));
        places.map(|shard| (shard.id.clone(), shard.store, shard.fresh)).collect()
    };
    one.agreed.born == other.agreed.born && replicas(one) == replicas(other)
}

/// What is known of a key's replicas, as far as this class of request goes.
///
/// This node's own evidence counts here, and not what is agreed. Whom most nodes do not reach, this
/// one may; a verdict is lifted some time after its cause has gone; and whoever is asked in vain
/// costs a hint, which he gets anyway if he is not asked.
pub(super) fn replicas(pool: &Pool, token: Token, class: Class) -> Replicas {
    let members = pool.agreed.replicas(token);
    let (mut up, mut fresh) = (Set::EMPTY, Set::EMPTY);
    for (place, shard) in members.iter().enumerate() {
        let at = usize::from(shard.0);
        let agreed = &pool.agreed.shards[at];
        if pool.is_asked(at) && pool.health.seen_up(at, class) {
            up.insert(place);
        }
        if agreed.fresh {
            fresh.insert(place);
        }
    }
    Replicas { count: members.len(), up, fresh }
}
