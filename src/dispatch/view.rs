//! What does a request see of the cluster?
//!
//! The agreed [`Topology`] says who owns what; a [`View`] adds what this process knows and holds
//! for each shard: its health, its counters, its free places. Both are published as one value, so
//! that no request can mix two of them. A shard that stays the same across a change keeps its
//! [`Shard`], and with it its health and its connections.
//!
//! A view is built anew for every change of the agreed state, which may be dozens a second while
//! weights or verdicts move. So what a change does not touch is taken over whole: a pool of which
//! nothing changed is the same [`Pool`], and one whose shards stay where they are keeps its list
//! of them and its health.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::former::{Former, formers};
use super::metrics::{PoolMetrics, ShardMetrics};
use super::places::Places;
use crate::cluster::{AdminState, PoolTopology, ShardTopology, Topology};
use crate::drivers::http::{Address, HostRule};
use crate::drivers::native::{Replica, Times};
use crate::ids::{BaseUrl, ClusterId, Generation, PoolName, ShardId, Zone};
use crate::limits::{KeptSettings, PoolLimits, RetryPolicy, UpstreamTimeouts};
use crate::net::http1::scan::HeadLimits;
use crate::net::tls::{Reason, ShardTls};
use crate::net::upstream::{Endpoint, Keep, UpstreamKey};
use crate::protocol::health::{HealthSettings, PerClass, Seat, SharedHealth};
use crate::protocol::replica::PoolEpoch;
use crate::protocol::retry::RetryBudget;

/// What this node's file says about a pool, beside what is agreed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolSettings {
    /// How long its shards may take.
    pub timeouts: UpstreamTimeouts,
    /// What its connections may grow to.
    pub limits: PoolLimits,
    /// When requests are repeated.
    pub retry: RetryPolicy,
    /// How its shards are judged.
    pub health: HealthSettings,
    /// Whose name its shards are addressed by.
    pub host: HostRule,
    /// The most that a shard may have in flight, in percent of its fair share; see `ease`.
    pub hash_balance_factor: Option<u32>,
    /// How long what the owner of an immutable key does not have is looked for where it was before;
    /// see `former`. `None`: not at all.
    pub warm_up: Option<Duration>,
    /// What this node does for it beside serving, if it keeps data.
    pub kept: KeptSettings,
    /// This node's failure domain: replicas there are asked first. `None`: all alike.
    pub zone: Option<Zone>,
    /// How shards that are reached by `https` are known.
    pub tls: Arc<ShardTls>,
}

/// One shard as this process sees it.
pub struct Shard {
    /// Its name within the pool.
    pub id: ShardId,
    /// Where it is.
    pub url: BaseUrl,
    pub(super) address: Address,
    pub(super) endpoint: Endpoint,
    pub(super) key: UpstreamKey,
    /// Moves when a connection failed: idle ones from before are not used again.
    generation: AtomicU64,
    /// One for each request in flight.
    pub(super) places: Places,
    /// What is counted about it.
    pub metrics: ShardMetrics,
    /// Until when the log has heard enough of failed handshakes with it.
    tls_told_until_ms: AtomicU64,
}

/// How often the log hears that TLS with one shard fails.
const TLS_TOLD_MS: u64 = 10_000;

/// No number is used twice, so a connection can never be given to another shard.
static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

impl Shard {
    fn new(id: &ShardId, url: &BaseUrl, in_flight_max: usize, workers: usize) -> Self {
        Self {
            id: id.clone(),
            url: url.clone(),
            address: Address::of(url),
            endpoint: Endpoint::of(url),
            key: UpstreamKey(NEXT_KEY.fetch_add(1, Ordering::Relaxed)),
            generation: AtomicU64::new(0),
            places: Places::new(in_flight_max, workers),
            metrics: ShardMetrics::new(workers),
            tls_told_until_ms: AtomicU64::new(0),
        }
    }

    /// Counts that TLS with the shard failed, and says so, but not for every request.
    pub(super) fn tls_failed(&self, pool: &PoolName, reason: Reason, what: &str, now_ms: u64) {
        self.metrics.tls_fail.inc(reason);
        let told_until_ms = self.tls_told_until_ms.load(Ordering::Relaxed);
        if now_ms < told_until_ms {
            return;
        }
        let until_ms = now_ms + TLS_TOLD_MS;
        let (own, other) = (Ordering::Relaxed, Ordering::Relaxed);
        // Another worker may be about to say the same.
        if self.tls_told_until_ms.compare_exchange(told_until_ms, until_ms, own, other).is_ok() {
            tracing::warn!(
                %pool,
                shard = %self.id,
                url = %self.url,
                reason = reason.label(),
                "TLS with a shard fails: {what}"
            );
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// No idle connection opened before now is used again, by any worker.
    pub(super) fn distrust_connections(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests in flight to it.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.places.taken()
    }
}

/// One pool as this process sees it.
pub struct Pool {
    /// What is agreed about it.
    pub agreed: Arc<PoolTopology>,
    /// What this node's file says.
    pub settings: Arc<PoolSettings>,
    /// Its shards, in the order of the ring's `ShardIx`, which is that of their ids.
    pub shards: Arc<[Arc<Shard>]>,
    /// This node's view of their health; same order.
    pub health: Arc<SharedHealth>,
    /// How much may be repeated. Counts what is in flight, so it outlives a change of the pool.
    pub budget: Arc<RetryBudget>,
    /// What is counted about it.
    pub metrics: Arc<PoolMetrics>,
    /// Whether shards may be spared requests; see `ease`.
    pub(super) eases: bool,
    /// Whether a second shard may be asked besides the first; see `second`.
    pub(super) asks_second: bool,
    /// The rings served before, the latest first; see `former`.
    pub(super) formers: Vec<Arc<Former>>,
    /// Units of weight in all.
    pub(super) weights: u64,
    pub(super) keep: Keep,
    /// The cluster and generation as whose node its stores are spoken to.
    identity: (ClusterId, Generation),
    pub(super) head_limits: HeadLimits,
}

impl Pool {
    /// The epoch, as stores are told it.
    #[must_use]
    pub fn epoch(&self) -> PoolEpoch {
        PoolEpoch { generation: self.identity.1, epoch: self.agreed.epoch }
    }

    /// The store of a shard, as it is spoken to.
    #[must_use]
    pub fn replica(&self, shard: usize) -> Replica<'_> {
        let timeouts = &self.settings.timeouts;
        let place = &self.shards[shard];
        Replica {
            address: &place.address,
            endpoint: &place.endpoint,
            tls: &self.settings.tls,
            key: place.key,
            connections: place.generation(),
            keep: &self.keep,
            times: Times {
                connect: timeouts.connect,
                answer: timeouts.response_head,
                idle: timeouts.idle,
            },
            pool: &self.agreed.name,
            cluster: self.identity.0,
            birth: self.agreed.born,
            epoch: self.epoch(),
            store: self.agreed.shards[shard].store,
        }
    }

    /// Whether the store of a shard may be asked at all: it is in service, it is known, and no other
    /// one answers in its place.
    #[must_use]
    pub fn is_asked(&self, shard: usize) -> bool {
        let agreed = &self.agreed.shards[shard];
        agreed.state == AdminState::Ready && agreed.store.is_some() && !agreed.verdict.foreign
    }

    /// Whether an operator took the shard out of service.
    #[must_use]
    pub fn in_maintenance(&self, shard: usize) -> bool {
        in_maintenance(&self.agreed.shards[shard])
    }
}

/// Where each shard of a view is: the places of its pool and, within it, of the shard.
type Locations = HashMap<UpstreamKey, (usize, usize)>;

/// Everything that a request reads, published whole.
pub struct View {
    /// What is agreed.
    pub topology: Arc<Topology>,
    /// The pools, in the topology's order, which is that of their names.
    pub pools: Vec<Arc<Pool>>,
    places: Arc<Locations>,
}

impl View {
    /// Puts a topology and this node's settings together. `settings_of` is asked for every pool;
    /// whatever is unchanged is taken from `previous`.
    #[must_use]
    pub fn build(
        topology: Arc<Topology>,
        previous: Option<&View>,
        workers: usize,
        mut settings_of: impl FnMut(&PoolName) -> Arc<PoolSettings>,
    ) -> Self {
        let nobody = (ClusterId([0; 16]), Generation(0));
        let identity = topology.speaks_as().map_or(nobody, |own| (own.id, own.generation));
        let pools: Vec<Arc<Pool>> = topology
            .pools()
            .iter()
            .map(|agreed| {
                // Only a cluster gives verdicts; without one the nodes' own probes do.
                let verdicts = topology.identity().is_some();
                let settings = settings_of(&agreed.name);
                match previous.and_then(|view| view.pool(&agreed.name)) {
                    Some(same)
                        if Arc::ptr_eq(&same.agreed, agreed)
                            && same.settings == settings
                            && same.identity == identity =>
                    {
                        Arc::clone(same)
                    }
                    before => {
                        let before = before.map(|pool| &**pool);
                        let built =
                            build_pool(Arc::clone(agreed), settings, before, workers, identity);
                        if verdicts {
                            built.health.set_agreed(&agreed_down(agreed));
                        }
                        Arc::new(built)
                    }
                }
            })
            .collect();
        let places = match previous {
            Some(view) if view.has_shards_of(&pools) => Arc::clone(&view.places),
            _ => Arc::new(places_of(&pools)),
        };
        Self { topology, pools, places }
    }

    /// The pool with this name.
    #[must_use]
    pub fn pool(&self, name: &PoolName) -> Option<&Arc<Pool>> {
        Some(&self.pools[self.place_of(name)?])
    }

    /// The place in [`Self::pools`] of the pool with this name.
    #[must_use]
    pub fn place_of(&self, name: &PoolName) -> Option<usize> {
        self.pools.binary_search_by(|pool| pool.agreed.name.cmp(name)).ok()
    }

    /// What an idle connection is measured by; `None` if its shard has left.
    #[must_use]
    pub fn keep_of(&self, key: UpstreamKey) -> Option<(u64, Keep)> {
        let (pool, shard) = *self.places.get(&key)?;
        let pool = &self.pools[pool];
        Some((pool.shards[shard].generation(), pool.keep))
    }

    /// Whether `pools` have the very shards of this view's, each in its place.
    fn has_shards_of(&self, pools: &[Arc<Pool>]) -> bool {
        let same = |(own, other): (&Arc<Pool>, &Arc<Pool>)| Arc::ptr_eq(&own.shards, &other.shards);
        self.pools.len() == pools.len() && self.pools.iter().zip(pools).all(same)
    }
}

fn places_of(pools: &[Arc<Pool>]) -> Locations {
    let places = pools.iter().enumerate().flat_map(|(p, pool)| {
        pool.shards.iter().enumerate().map(move |(s, shard)| (shard.key, (p, s)))
    });
    places.collect()
}

fn build_pool(
    agreed: Arc<PoolTopology>,
    settings: Arc<PoolSettings>,
    before: Option<&Pool>,
    workers: usize,
    identity: (ClusterId, Generation),
) -> Pool {
    let shards = shards_of(&agreed, &settings, before, workers);
    let health = health_of(&agreed, &settings, before);
    let metrics = before
        .map_or_else(|| Arc::new(PoolMetrics::new(workers)), |pool| Arc::clone(&pool.metrics));
    let budget = match before {
        Some(pool) if pool.settings.retry == settings.retry => Arc::clone(&pool.budget),
        _ => Arc::new(RetryBudget::new(&settings.retry, workers)),
    };
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let keep = Keep {
        idle_max: settings.limits.idle_per_worker_max,
        idle_ms_max: millis(settings.limits.idle_max),
        age_ms_max: millis(settings.limits.age_max),
    };
    let head_bytes_max = settings.limits.response_head_bytes_max;
    let head_limits = HeadLimits {
        head_bytes_max,
        line_bytes_max: head_bytes_max,
        fields_max: RESPONSE_FIELDS_MAX,
    };
    let eases = settings.hash_balance_factor.is_some() || settings.health.slow_start.is_some();
    let asks_second = settings.retry.hedge_after.is_some()
        || (settings.warm_up.is_some() && agreed.spec.immutable);
    let formers = formers(&agreed, &settings, before);
    let weights = agreed.ring.members().iter().map(|member| u64::from(member.weight.get())).sum();
    Pool {
        agreed,
        settings,
        shards,
        health,
        budget,
        metrics,
        eases,
        asks_second,
        formers,
        weights,
        keep,
        identity,
        head_limits,
    }
}

/// The shards of a pool: the very list of `before` if nobody came, left or moved.
fn shards_of(
    agreed: &PoolTopology,
    settings: &PoolSettings,
    before: Option<&Pool>,
    workers: usize,
) -> Arc<[Arc<Shard>]> {
    let in_flight_max = settings.limits.in_flight_per_shard_max;
    let fits = |old: &Shard, spec: &ShardTopology| {
        old.id == spec.id && old.url == spec.url && old.places.max() == in_flight_max
    };
    let before = before.map(|pool| &pool.shards);
    if let Some(same) = before.filter(|old| {
        old.len() == agreed.shards.len() && old.iter().zip(&agreed.shards).all(|(o, s)| fits(o, s))
    }) {
        return Arc::clone(same);
    }
    let kept = |spec: &ShardTopology| {
        let old = before?;
        let place = old.binary_search_by(|shard| shard.id.cmp(&spec.id)).ok()?;
        fits(&old[place], spec).then(|| Arc::clone(&old[place]))
    };
    let made =
        |spec: &ShardTopology| Arc::new(Shard::new(&spec.id, &spec.url, in_flight_max, workers));
    agreed.shards.iter().map(|spec| kept(spec).unwrap_or_else(|| made(spec))).collect()
}

/// The health of a pool: that of `before` goes on, as far as shards and settings are the same.
fn health_of(
    agreed: &PoolTopology,
    settings: &PoolSettings,
    before: Option<&Pool>,
) -> Arc<SharedHealth> {
    let is_seat = |(seat, spec): (&Seat, &ShardTopology)| {
        seat.id == spec.id && seat.url == spec.url && seat.maint == in_maintenance(spec)
    };
    if let Some(pool) = before
        && *pool.health.settings() == settings.health
        && pool.health.seats().len() == agreed.shards.len()
        && pool.health.seats().iter().zip(&agreed.shards).all(is_seat)
    {
        return Arc::clone(&pool.health);
    }
    let seat = |spec: &ShardTopology| Seat {
        id: spec.id.clone(),
        url: spec.url.clone(),
        maint: in_maintenance(spec),
    };
    let seats: Vec<Seat> = agreed.shards.iter().map(seat).collect();
    match before {
        Some(pool) => SharedHealth::renewed(&pool.health, settings.health.clone(), seats),
        None => Arc::new(SharedHealth::new(settings.health.clone(), seats)),
    }
}

/// What is agreed about each shard.
fn agreed_down(agreed: &PoolTopology) -> Vec<PerClass<bool>> {
    let down = |shard: &ShardTopology| PerClass {
        read: shard.verdict.reads_down || shard.verdict.foreign,
        write: shard.verdict.writes_down || shard.verdict.foreign,
    };
    agreed.shards.iter().map(down).collect()
}

fn in_maintenance(shard: &ShardTopology) -> bool {
    shard.state == AdminState::Maint
}

/// Fields of an answer. Twice what a client may send: applications set cookies by the dozen.
const RESPONSE_FIELDS_MAX: usize = 200;
