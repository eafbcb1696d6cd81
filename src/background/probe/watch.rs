//! The watch over one pool: its shards' probes, its health's clock, its log.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use super::ask::{Names, Question, ask};
use super::metrics::Counts;
use crate::ids::PoolName;
use crate::metrics::Stripe;
use crate::net::tls::ShardTls;
use crate::protocol::health::{ActiveSettings, Change, SharedHealth};

/// How long a change that a request caused waits for the log at most.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// Whatever is set, a shard is not asked more often than this.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// An interval is varied by up to this part of it, either way.
const JITTER: f64 = 0.1;

/// One pool's watch; the shards' counters stand in the order of the seats.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) pool: PoolName,
    pub(super) health: Arc<SharedHealth>,
    /// How shards that are reached by `https` are known.
    pub(super) tls: Arc<ShardTls>,
    pub(super) counts: Vec<Arc<Counts>>,
    /// Where `now_ms` begins, for this task as for whoever else tells the health anything.
    pub(super) origin: Instant,
    /// Seeds the jitter.
    pub(super) seed: u64,
}

impl Watch {
    /// Runs until its runtime ends; to be dropped at any point.
    pub(super) async fn run(self: Arc<Self>) {
        let mut probes = self.probe_all();
        loop {
            let deadline_ms = self.health.tick(self.now_ms());
            self.report();
            let until_deadline = deadline_ms.map_or(REPORT_INTERVAL, |deadline_ms| {
                Duration::from_millis(deadline_ms.saturating_sub(self.now_ms()).max(1))
            });
            tokio::select! {
                biased;
                Some(Err(ended)) = probes.join_next() => {
                    if ended.is_cancelled() {
                        // The runtime ends, and whatever is begun now ends at once.
                        return;
                    }
                    // A probe ends only by a panic, which is a defect of ours. Without probes a
                    // shard that is down would stay down, so all begin anew.
                    error!(pool = %self.pool, error = %ended, "a probe ended; starting all anew");
                    tokio::time::sleep(REPORT_INTERVAL).await;
                    probes = self.probe_all();
                }
                () = tokio::time::sleep(until_deadline.min(REPORT_INTERVAL)) => {}
            }
        }
    }

    fn probe_all(self: &Arc<Self>) -> JoinSet<()> {
        let mut probes = JoinSet::new();
        if let Some(active) = &self.health.settings().active {
            for shard in 0..self.health.seats().len() {
                probes.spawn(Arc::clone(self).probe_one(shard, active.clone()));
            }
        }
        probes
    }

    async fn probe_one(self: Arc<Self>, shard: usize, active: ActiveSettings) {
        let seat = &self.health.seats()[shard];
        let question = Question::new(&seat.url, &active, &self.tls);
        let counts = &self.counts[shard];
        let mut rng = fastrand::Rng::with_seed(self.seed.wrapping_add(shard as u64));
        let mut names = Names::default();
        let mut next = tokio::time::Instant::now() + first_wait(active.interval, &mut rng);
        loop {
            tokio::time::sleep_until(next).await;
            counts.attempts.inc(Stripe::SHARED);
            let result = ask(&question, &mut names).await;
            match &result {
                Ok(()) => counts.successes.inc(Stripe::SHARED),
                Err(error) => {
                    counts.failures.inc(Stripe::SHARED);
                    if error.failure.is_network() {
                        counts.network_failures.inc(Stripe::SHARED);
                    }
                    let cause = error.source().map(tracing::field::display);
                    debug!(pool = %self.pool, shard = %seat.id, %error, cause, "probe failed");
                }
            }
            // What this process lacks is no evidence against the shard.
            if !result.as_ref().is_err_and(|error| error.local) {
                let result = result.map_err(|error| error.failure);
                self.health.probe_result(self.now_ms(), shard, result);
            }
            // From beginning to beginning. A probe that took longer is not made up for.
            next += varied(active.interval, &mut rng);
            next = next.max(tokio::time::Instant::now());
        }
    }

    /// Writes to the log and counts what has changed since the last time.
    pub(super) fn report(&self) {
        let (changes, lost) = self.health.take_changes();
        if lost > 0 {
            warn!(pool = %self.pool, lost, "health changed faster than it was logged");
        }
        for change in changes {
            let shard = change.shard().map(|shard| (&self.health.seats()[shard], shard));
            if let Some((_, shard)) = shard {
                match change {
                    Change::Ejected { .. } => self.counts[shard].ejections.inc(Stripe::SHARED),
                    Change::Spared { .. } => self.counts[shard].spared.inc(Stripe::SHARED),
                    _ => {}
                }
            }
            let shard = shard.map(|(seat, _)| tracing::field::display(&seat.id));
            if change.is_bad() {
                warn!(pool = %self.pool, shard, "{change}");
            } else {
                info!(pool = %self.pool, shard, "{change}");
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Anywhere in the first interval.
pub(super) fn first_wait(interval: Duration, rng: &mut fastrand::Rng) -> Duration {
    interval.mul_f64(rng.f64())
}

/// The interval, give or take the jitter.
pub(super) fn varied(interval: Duration, rng: &mut fastrand::Rng) -> Duration {
    interval.mul_f64(1.0 + JITTER * (2.0 * rng.f64() - 1.0)).max(INTERVAL_MIN)
}
