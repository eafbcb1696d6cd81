//! What does a request see of the cluster?
//!
//! The agreed [`Topology`] says who owns what; a [`View`] adds what this process knows and holds
//! for each shard: its health, its counters, its free places. Both are published as one value, so
//! that no request can mix two of them. A shard that stays the same across a change keeps its
//! [`Shard`], and with it its health and its connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::metrics::{PoolMetrics, ShardMetrics};
use crate::cluster::{AdminState, PoolTopology, Topology};
use crate::drivers::http::{Address, HostRule};
use crate::ids::{BaseUrl, PoolName, ShardId};
use crate::limits::{PoolLimits, RetryPolicy, UpstreamTimeouts};
use crate::net::http1::scan::HeadLimits;
use crate::net::upstream::{Endpoint, Keep, UpstreamKey};
use crate::protocol::health::{HealthSettings, Seat, SharedHealth};
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
    /// One permit for each request in flight.
    pub(super) places: Semaphore,
    in_flight_max: usize,
    /// What is counted about it.
    pub metrics: ShardMetrics,
}

/// No number is used twice, so a connection can never be given to another shard.
static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

impl Shard {
    fn new(id: &ShardId, url: &BaseUrl, in_flight_max: usize, workers: usize) -> Self {
        Self {
            id: id.clone(),
            url: url.clone(),
            address: Address::of(url),
            endpoint: Endpoint::new(url.host(), url.port()),
            key: UpstreamKey(NEXT_KEY.fetch_add(1, Ordering::Relaxed)),
            generation: AtomicU64::new(0),
            places: Semaphore::new(in_flight_max),
            in_flight_max,
            metrics: ShardMetrics::new(workers),
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
        self.in_flight_max.saturating_sub(self.places.available_permits())
    }
}

/// One pool as this process sees it.
pub struct Pool {
    /// What is agreed about it.
    pub agreed: Arc<PoolTopology>,
    /// What this node's file says.
    pub settings: PoolSettings,
    /// Its shards, in the order of the ring's `ShardIx`.
    pub shards: Vec<Arc<Shard>>,
    /// This node's view of their health; same order.
    pub health: Arc<SharedHealth>,
    /// How much may be repeated.
    pub budget: RetryBudget,
    /// What is counted about it.
    pub metrics: Arc<PoolMetrics>,
    pub(super) keep: Keep,
    pub(super) head_limits: HeadLimits,
}

impl Pool {
    /// Whether an operator took the shard out of service.
    #[must_use]
    pub fn in_maintenance(&self, shard: usize) -> bool {
        self.agreed.shards[shard].state == AdminState::Maint
    }
}

/// Everything that a request reads, published whole.
pub struct View {
    /// What is agreed.
    pub topology: Arc<Topology>,
    /// The pools, in the topology's order.
    pub pools: Vec<Pool>,
    shards: HashMap<UpstreamKey, (usize, usize)>,
}

impl View {
    /// Puts a topology and this node's settings together. `settings_of` is asked for every pool;
    /// shards and health that are unchanged are taken from `previous`.
    #[must_use]
    pub fn build(
        topology: Arc<Topology>,
        previous: Option<&View>,
        workers: usize,
        mut settings_of: impl FnMut(&PoolName) -> PoolSettings,
    ) -> Self {
        let pools: Vec<Pool> = topology
            .pools()
            .iter()
            .map(|agreed| {
                let before = previous.and_then(|view| view.pool(&agreed.name));
                build_pool(Arc::clone(agreed), settings_of(&agreed.name), before, workers)
            })
            .collect();
        let shards = pools.iter().enumerate().flat_map(|(p, pool)| {
            pool.shards.iter().enumerate().map(move |(s, shard)| (shard.key, (p, s)))
        });
        let shards = shards.collect();
        Self { topology, pools, shards }
    }

    /// The pool with this name.
    #[must_use]
    pub fn pool(&self, name: &PoolName) -> Option<&Pool> {
        self.pools.iter().find(|pool| &pool.agreed.name == name)
    }

    /// What an idle connection is measured by; `None` if its shard has left.
    #[must_use]
    pub fn keep_of(&self, key: UpstreamKey) -> Option<(u64, Keep)> {
        let (pool, shard) = *self.shards.get(&key)?;
        let pool = &self.pools[pool];
        Some((pool.shards[shard].generation(), pool.keep))
    }
}

fn build_pool(
    agreed: Arc<PoolTopology>,
    settings: PoolSettings,
    before: Option<&Pool>,
    workers: usize,
) -> Pool {
    let in_flight_max = settings.limits.in_flight_per_shard_max;
    let shards: Vec<Arc<Shard>> = agreed
        .shards
        .iter()
        .map(|spec| {
            let same = before.into_iter().flat_map(|pool| &pool.shards).find(|old| {
                old.id == spec.id && old.url == spec.url && old.in_flight_max == in_flight_max
            });
            same.cloned().unwrap_or_else(|| {
                Arc::new(Shard::new(&spec.id, &spec.url, in_flight_max, workers))
            })
        })
        .collect();
    let seats: Vec<Seat> = agreed
        .shards
        .iter()
        .map(|spec| Seat {
            id: spec.id.clone(),
            url: spec.url.clone(),
            maint: spec.state == AdminState::Maint,
        })
        .collect();
    let health = match before {
        Some(pool) => SharedHealth::renewed(&pool.health, settings.health.clone(), seats),
        None => Arc::new(SharedHealth::new(settings.health.clone(), seats)),
    };
    let metrics = before
        .map_or_else(|| Arc::new(PoolMetrics::new(workers)), |pool| Arc::clone(&pool.metrics));
    let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
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
    let budget = RetryBudget::new(&settings.retry, workers);
    Pool { agreed, settings, shards, health, budget, metrics, keep, head_limits }
}

/// Fields of an answer. Twice what a client may send: applications set cookies by the dozen.
const RESPONSE_FIELDS_MAX: usize = 200;
