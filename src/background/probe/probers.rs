//! The watches over all pools, kept in step with what is published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use prometheus::proto::MetricFamily;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::metrics::{Counts, export};
use super::watch::Watch;
use crate::ids::PoolName;
use crate::net::tls::ShardTls;
use crate::protocol::health::SharedHealth;

/// One watch for each pool. Dropped, all stop.
///
/// Stopping is prompt and needs no waiting: a probe under way is cut off where it stands, and its
/// connection closed. Only a name lookup may go on for a while, on a thread of its own; a runtime
/// that is to end at once is ended with `shutdown_background`.
#[derive(Debug)]
pub struct Probers {
    runtime: Handle,
    origin: Instant,
    /// Seeds the pools' jitter.
    rng: fastrand::Rng,
    running: BTreeMap<PoolName, Running>,
}

#[derive(Debug)]
struct Running {
    watch: Arc<Watch>,
    task: JoinHandle<()>,
}

impl Probers {
    /// No watches yet. They will run on `runtime` and count `now_ms` from `origin`, as everyone
    /// must who tells the same health anything. `seed` makes this node's jitter its own.
    #[must_use]
    pub fn new(runtime: Handle, origin: Instant, seed: u64) -> Self {
        Self { runtime, origin, rng: fastrand::Rng::with_seed(seed), running: BTreeMap::new() }
    }

    /// Watches exactly these pools from now on: to be called after each publication.
    ///
    /// The watch of a pool with the very same health and TLS goes on undisturbed. Where either is
    /// another, the watch begins anew, and the counters of shards that stay go over to it. Pools
    /// that are not named are no longer watched, and have no series.
    pub fn follow<'a>(
        &mut self,
        pools: impl IntoIterator<Item = (&'a PoolName, &'a Arc<SharedHealth>, &'a Arc<ShardTls>)>,
    ) {
        let mut before = std::mem::take(&mut self.running);
        for (pool, health, tls) in pools {
            let former = before.remove(pool);
            let running = match former {
                Some(same) if Arc::ptr_eq(&same.watch.health, health) && same.watch.tls == *tls => {
                    same
                }
                former => self.start(pool, health, tls, former),
            };
            self.running.insert(pool.clone(), running);
        }
    }

    /// What is known of the pools' health, for a scrape.
    #[must_use]
    pub fn export(&self) -> Vec<MetricFamily> {
        export(self.running.values().map(|running| &*running.watch))
    }

    fn start(
        &mut self,
        pool: &PoolName,
        health: &Arc<SharedHealth>,
        tls: &Arc<ShardTls>,
        former: Option<Running>,
    ) -> Running {
        let counts = health.seats().iter().map(|seat| {
            let former = &former.as_ref()?.watch;
            let at = former.health.seats().iter().position(|old| old.id == seat.id)?;
            Some(Arc::clone(&former.counts[at]))
        });
        let watch = Arc::new(Watch {
            pool: pool.clone(),
            health: Arc::clone(health),
            tls: Arc::clone(tls),
            counts: counts
                .map(|found| found.unwrap_or_else(|| Arc::new(Counts::default())))
                .collect(),
            origin: self.origin,
            seed: self.rng.u64(..),
        });
        // The former watch ends first, so that its last words stand before the first of the new.
        drop(former);
        let task = self.runtime.spawn(Arc::clone(&watch).run());
        Running { watch, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        // What was not logged yet would otherwise never be.
        self.watch.report();
    }
}
