//! The thread that heals, and the way to it.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::proto::MetricFamily;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{self, JoinSet, LocalSet};

use super::doubt::Doubt;
use super::metrics::{Counts, export};
use super::passes::{Pass, PassKind, PassRuns, Passes};
use super::pool::{HealParts, PoolNow};
use super::turns::{is_due, is_ours, period};
use super::world::{Look, StoreSeen, World};
use super::{binder, collector, repairer, replayer};
use crate::disk::hints::HintSink;
use crate::drivers::native::Means;
use crate::ids::{PoolName, ShardId, Token};
use crate::net::buffer::Buffers;
use crate::net::timers::{TICK_MS, Timers};
use crate::net::upstream::Upstreams;
use crate::protocol::handoff::Pending;
use crate::version::Stamp;

/// Questions of operators that wait.
const QUESTIONS_MAX: usize = 16;

/// Between two looks at whether a pass is due.
const SCHEDULE: Duration = Duration::from_secs(1);

/// Between two passes that fill a fresh shard, if one was not enough.
const FILL_AGAIN: Duration = Duration::from_secs(10);

/// The healing of one node. Dropped, it ends.
pub struct Healer {
    orders: Orders,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Look { pool: PoolName, key: String, token: Token, answer: oneshot::Sender<Option<Vec<Look>>> },
    End,
}

/// Where operators ask; clones lead to the same place.
#[derive(Clone)]
pub struct Orders {
    questions: mpsc::Sender<Order>,
    passes: Arc<Passes>,
    counts: Arc<Counts>,
    hints: HintSink,
    unix_ms: fn() -> u64,
}

impl Healer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(parts: HealParts) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let (passes, counts) = (Arc::new(Passes::default()), Arc::new(Counts::default()));
        let orders = Orders {
            questions,
            passes: Arc::clone(&passes),
            counts: Arc::clone(&counts),
            hints: parts.hints.clone(),
            unix_ms: parts.unix_ms,
        };
        let thread = std::thread::Builder::new().name("healer".to_owned()).spawn(move || {
            let means = Means {
                timers: Timers::new(parts.origin),
                upstreams: Rc::new(Upstreams::default()),
                buffers: Buffers::new(),
            };
            let world = World::new(parts, means, passes, counts);
            LocalSet::new().block_on(&runtime, attend(world, asked));
            // A name lookup may hang in it.
            runtime.shutdown_background();
        })?;
        Ok(Self { orders, thread: Some(thread) })
    }

    /// Where operators ask.
    #[must_use]
    pub fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Ends the thread. Whatever is under way is cut off: all of it may be done again.
    pub async fn stop(mut self) {
        let ended = self.orders.questions.send(Order::End).await;
        let thread = self.thread.take().expect("only this takes it");
        if ended.is_ok() || thread.is_finished() {
            let joined = task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the healing thread panicked");
            }
        }
    }
}

impl Drop for Healer {
    fn drop(&mut self) {
        // Nobody waits for it; a full queue of questions ends when they are answered.
        drop(self.orders.questions.try_send(Order::End));
    }
}

impl Orders {
    /// Asks for a comparison of a pool; gives its number. It runs without whoever asked.
    ///
    /// # Errors
    /// [`PassRuns`].
    pub fn repair(&self, pool: &PoolName, dry_run: bool) -> Result<u64, PassRuns> {
        self.passes.ask(pool, PassKind::Asked, dry_run, (self.unix_ms)())
    }

    /// The present pass of a pool, or its last one.
    #[must_use]
    pub fn pass(&self, pool: &PoolName) -> Option<Pass> {
        self.passes.of(pool)
    }

    /// The last pass that compared all of a pool and mended what differed.
    #[must_use]
    pub fn whole_pass(&self, pool: &PoolName) -> Option<Pass> {
        self.passes.whole(pool)
    }

    /// What the replicas of a key hold, the primary first; `None` when the pool keeps no data, or
    /// the node is ending. `key` is the canonical path behind its first `/`.
    pub async fn look(&self, pool: &PoolName, key: &str, token: Token) -> Option<Vec<Look>> {
        let (answer, answered) = oneshot::channel();
        let (pool, key) = (pool.clone(), key.to_owned());
        self.questions.send(Order::Look { pool, key, token, answer }).await.ok()?;
        answered.await.ok()?
    }

    /// What a shard has missed, as far as this node knows.
    #[must_use]
    pub fn pending(&self, pool: &PoolName, shard: &ShardId) -> Pending {
        self.hints.pending_of(pool, shard)
    }

    /// Which store answers at a shard's address.
    #[must_use]
    pub fn seen(&self, pool: &PoolName, shard: &ShardId) -> StoreSeen {
        self.counts.foreign_at(pool, shard).map_or(StoreSeen::Own, StoreSeen::Foreign)
    }

    /// Values that a shard has lost the bytes of, as it last told this node.
    #[must_use]
    pub fn damaged(&self, pool: &PoolName, shard: &ShardId) -> u64 {
        self.counts.damaged_at(pool, shard)
    }

    /// The oldest write that some replica of the pool is known to lack.
    #[must_use]
    pub fn oldest_unrepaired(&self, pool: &PoolName) -> Option<Stamp> {
        self.counts.oldest_unrepaired(pool, &self.hints)
    }

    /// How long ago a stamp was chosen, in milliseconds.
    #[must_use]
    pub fn age_ms(&self, stamp: Stamp) -> u64 {
        (self.unix_ms)().saturating_sub(stamp.unix_ms())
    }

    /// All series, for a scrape.
    #[must_use]
    pub fn export(&self) -> Vec<MetricFamily> {
        export(&self.counts, &self.passes, &self.hints, (self.unix_ms)())
    }
}

/// The loops of the thread, each of which runs for as long as it does.
#[derive(Debug, Clone, Copy)]
enum Loop {
    Tick,
    Binder,
    Replayer,
    Collector,
    Schedule,
    Passes,
}

impl Loop {
    const ALL: [Loop; 6] =
        [Self::Tick, Self::Binder, Self::Replayer, Self::Collector, Self::Schedule, Self::Passes];

    /// As the metric names it.
    fn word(self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::Binder => "binder",
            Self::Replayer => "replayer",
            Self::Collector => "collector",
            Self::Schedule => "schedule",
            Self::Passes => "passes",
        }
    }

    async fn run(self, world: Rc<World>) {
        match self {
            Self::Tick => tick(world).await,
            Self::Binder => binder::run(world).await,
            Self::Replayer => replayer::run(world).await,
            Self::Collector => collector::run(world).await,
            Self::Schedule => schedule(world).await,
            Self::Passes => begin_passes(world).await,
        }
    }
}

/// How long after a defect a loop begins again: one that meets it at once must not fill the log.
const BEGIN_AGAIN: Duration = Duration::from_secs(1);

/// Keeps the loops running, and answers. A defect in one of them is counted, and it begins anew: what
/// heals must go on, and nothing of it is lost by being begun again.
async fn attend(world: Rc<World>, mut asked: mpsc::Receiver<Order>) {
    let mut loops = JoinSet::new();
    let mut running: BTreeMap<task::Id, Loop> = BTreeMap::new();
    for which in Loop::ALL {
        let begun = loops.spawn_local(which.run(Rc::clone(&world)));
        running.insert(begun.id(), which);
    }
    loop {
        tokio::select! {
            biased;
            order = asked.recv() => match order {
                None | Some(Order::End) => break,
                Some(Order::Look { pool, key, token, answer }) => {
                    let world = Rc::clone(&world);
                    task::spawn_local(async move {
                        // Whoever asked may have gone.
                        drop(answer.send(look(&world, &pool, &key, token).await));
                    });
                }
            },
            Some(ended) = loops.join_next_with_id() => {
                let (id, why) = match ended {
                    Ok((id, ())) => (id, "it ended".to_owned()),
                    Err(error) => (error.id(), error.to_string()),
                };
                let which = running.remove(&id).expect("each is noted when it is begun");
                world.counts.begun_again(which.word());
                tracing::error!(
                    which = which.word(),
                    "a loop of the healing thread met a defect and begins again: please report \
                     this: {why}"
                );
                let world = Rc::clone(&world);
                let begun = loops.spawn_local(async move {
                    tokio::time::sleep(BEGIN_AGAIN).await;
                    which.run(world).await;
                });
                running.insert(begun.id(), which);
            }
        }
    }
    loops.shutdown().await;
}

/// Moves the thread's clock, and closes connections that have been idle for long.
async fn tick(world: Rc<World>) {
    let mut ticks = 0_u64;
    loop {
        tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
        let timers = &world.means.timers;
        timers.refresh();
        timers.advance();
        ticks += 1;
        if ticks.is_multiple_of(100) {
            let keep = |_| Some((0, super::pool::KEEP));
            world.means.upstreams.sweep(timers.now_ms(), keep);
        }
    }
}

async fn look(world: &Rc<World>, name: &PoolName, key: &str, token: Token) -> Option<Vec<Look>> {
    let pool = world.pool(name)?;
    let looked = world.look(&pool, key, token).await;
    let shard = |at: usize| pool.seats[at].shard.clone();
    Some(looked.into_iter().map(|(at, held)| Look { shard: shard(at), held }).collect())
}

/// Begins each pass that is asked for, at once; those of several pools run side by side.
async fn begin_passes(world: Rc<World>) {
    loop {
        while let Some((pool, pass)) = world.passes.begin() {
            task::spawn_local(repairer::run(Rc::clone(&world), pool, pass));
        }
        world.passes.asked.notified().await;
    }
}

/// Asks for passes when they are due.
async fn schedule(world: Rc<World>) {
    let mut periods: BTreeMap<PoolName, u64> = BTreeMap::new();
    let mut waits: BTreeMap<PoolName, (u64, u64)> = BTreeMap::new();
    let mut doubts: BTreeMap<PoolName, Doubt> = BTreeMap::new();
    loop {
        // Jittered: nodes that were started together shall not go in step.
        let jitter_ms = world.rng.borrow_mut().u64(0..250);
        tokio::time::sleep(SCHEDULE + Duration::from_millis(jitter_ms)).await;
        let now_us = world.now_us();
        for pool in world.pools() {
            let name = pool.name().clone();
            if let Some(interval) = pool.settings.repair_interval {
                let now = period(world.unix_ms(), interval);
                // The period in which the node was started is left to those that were there.
                let before = periods.insert(name.clone(), now);
                let is_new = before.is_some_and(|before| before != now);
                if is_new && is_ours(&name, now, pool.place) {
                    ask(&world, &pool, PassKind::Scheduled);
                }
                let doubt = doubts
                    .entry(name.clone())
                    .or_insert_with(|| Doubt::at_start(now_us, pool.place.0));
                let damaged = world.counts.damaged_of(&name);
                doubt.look(now_us, hints(&world, &pool), damaged, world.passes.of(&name).as_ref());
                if doubt.is_due(now_us) && pool.agreed.filled {
                    match ask(&world, &pool, PassKind::Doubt) {
                        true => doubt.settle(),
                        false => doubt.put_off(now_us),
                    }
                }
            }
            if !needs_pass(&world, &pool) {
                waits.remove(&name);
                continue;
            }
            let (since_us, next_us) = waits.entry(name).or_insert((now_us, now_us));
            let waited = Duration::from_micros(now_us.saturating_sub(*since_us));
            if now_us >= *next_us && is_due(pool.name(), waited, pool.place) {
                ask(&world, &pool, PassKind::Fill);
                let again = u64::try_from(FILL_AGAIN.as_micros()).unwrap_or(u64::MAX);
                *next_us = now_us + again;
            }
        }
    }
}

/// Whether a shard lacks more than hints say: its store is fresh, or hints for it were lost.
fn needs_pass(world: &World, pool: &PoolNow) -> bool {
    pool.agreed.shards.iter().any(|shard| {
        let pending = || world.parts.hints.pending_of(pool.name(), &shard.id);
        shard.store.is_some() && (shard.fresh || pending().overflowed)
    })
}

/// Hints of this node for all shards of a pool.
fn hints(world: &World, pool: &PoolNow) -> usize {
    let pending = |shard: &ShardId| world.parts.hints.pending_of(pool.name(), shard).count;
    pool.agreed.shards.iter().map(|shard| pending(&shard.id)).sum()
}

/// Asks for a pass; tells whether one begins. One that runs does as well, as a rule.
fn ask(world: &World, pool: &PoolNow, kind: PassKind) -> bool {
    let asked = world.passes.ask(pool.name(), kind, false, world.unix_ms());
    if let Err(refused) = &asked {
        tracing::debug!("{refused}");
    }
    asked.is_ok()
}
