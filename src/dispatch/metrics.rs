//! What is counted about shards and pools on the request path?
//!
//! The names follow Envoy's cluster statistics with base units, so that dashboards and alerts
//! carry over. A shard's series live as long as its [`Shard`](super::view::Shard).

use prometheus::proto::MetricFamily;

use super::kept::metrics::{COUNTERS, KeptMetrics};
use super::view::View;
use crate::metrics::{Counter, Group, Kind, Latency, Sample, StatusClasses};
use crate::net::tls::ReasonCounts;

/// Counters of one shard.
#[derive(Debug)]
pub struct ShardMetrics {
    pub(super) classes: StatusClasses,
    pub(super) rx_reset: Counter,
    pub(super) rq_timeout: Counter,
    pub(super) protocol_error: Counter,
    pub(super) pending_overflow: Counter,
    pub(super) cx_total: Counter,
    pub(super) cx_connect_fail: Counter,
    pub(super) cx_connect_timeout: Counter,
    /// Writes that it acknowledged as a replica.
    pub(super) acks: Counter,
    pub(super) tls_fail: ReasonCounts,
    pub(super) rx_bytes: Counter,
    pub(super) tx_bytes: Counter,
    pub(super) rq_time: Latency,
}

impl ShardMetrics {
    pub(super) fn new(workers: usize) -> Self {
        let counter = || Counter::new(workers);
        Self {
            classes: StatusClasses::new(workers),
            rx_reset: counter(),
            rq_timeout: counter(),
            protocol_error: counter(),
            pending_overflow: counter(),
            cx_total: counter(),
            cx_connect_fail: counter(),
            cx_connect_timeout: counter(),
            acks: counter(),
            tls_fail: ReasonCounts::default(),
            rx_bytes: counter(),
            tx_bytes: counter(),
            rq_time: Latency::new(workers),
        }
    }
}

/// Counters of one pool.
#[derive(Debug)]
pub struct PoolMetrics {
    pub(super) rq_retry: Counter,
    pub(super) rq_retry_success: Counter,
    pub(super) rq_retry_overflow: Counter,
    pub(super) rq_hedge: Counter,
    pub(super) rq_hedge_won: Counter,
    pub(super) rq_deadline: Counter,
    pub(super) pipe_overflow: Counter,
    pub(super) spilled: Counter,
    pub(super) balance_spilled: Counter,
    pub(super) slow_start_spilled: Counter,
    pub(super) warm_up: Counter,
    pub(super) warm_up_found: Counter,
    pub(super) none_healthy: Counter,
    pub(super) panic: Counter,
    pub(super) kept: KeptMetrics,
}

impl PoolMetrics {
    pub(super) fn new(workers: usize) -> Self {
        let counter = || Counter::new(workers);
        Self {
            rq_retry: counter(),
            rq_retry_success: counter(),
            rq_retry_overflow: counter(),
            rq_hedge: counter(),
            rq_hedge_won: counter(),
            rq_deadline: counter(),
            pipe_overflow: counter(),
            spilled: counter(),
            balance_spilled: counter(),
            slow_start_spilled: counter(),
            warm_up: counter(),
            warm_up_found: counter(),
            none_healthy: counter(),
            panic: counter(),
            kept: KeptMetrics::new(workers),
        }
    }
}

const SHARD: &[&str] = &["pool", "shard"];
const POOL: &[&str] = &["pool"];

type PickShard = fn(&ShardMetrics) -> &Counter;
type PickPool = fn(&PoolMetrics) -> &Counter;

const SHARD_COUNTERS: [(&str, &str, PickShard); 10] = [
    (
        "ringway_upstream_rq_rx_reset_total",
        "Requests whose connection broke before the end of the answer.",
        |m| &m.rx_reset,
    ),
    ("ringway_upstream_rq_timeout_total", "Requests whose answer did not begin in time.", |m| {
        &m.rq_timeout
    }),
    ("ringway_upstream_rq_protocol_error_total", "Answers that could not be understood.", |m| {
        &m.protocol_error
    }),
    (
        "ringway_upstream_rq_pending_overflow_total",
        "Requests that found all of the shard's places taken for too long.",
        |m| &m.pending_overflow,
    ),
    ("ringway_upstream_cx_total", "Connections opened.", |m| &m.cx_total),
    ("ringway_upstream_cx_connect_fail_total", "Connections that could not be opened.", |m| {
        &m.cx_connect_fail
    }),
    (
        "ringway_upstream_cx_connect_timeout_total",
        "Connections that were not opened in time; also counted as failed.",
        |m| &m.cx_connect_timeout,
    ),
    ("ringway_kept_acks_total", "Writes that the shard acknowledged as a replica.", |m| &m.acks),
    ("ringway_upstream_cx_rx_bytes_total", "Bytes of answer bodies received.", |m| &m.rx_bytes),
    ("ringway_upstream_cx_tx_bytes_total", "Bytes of request bodies sent.", |m| &m.tx_bytes),
];

const POOL_COUNTERS: [(&str, &str, PickPool); 14] = [
    ("ringway_upstream_rq_retry_total", "Requests tried once more.", |m| &m.rq_retry),
    (
        "ringway_upstream_rq_retry_success_total",
        "Requests that were answered after being tried once more.",
        |m| &m.rq_retry_success,
    ),
    (
        "ringway_upstream_rq_retry_overflow_total",
        "Requests not tried once more because the retry budget was used up.",
        |m| &m.rq_retry_overflow,
    ),
    (
        "ringway_upstream_rq_hedge_total",
        "Reads of which a second shard was asked because the first was silent.",
        |m| &m.rq_hedge,
    ),
    ("ringway_upstream_rq_hedge_won_total", "Reads that this second shard answered.", |m| {
        &m.rq_hedge_won
    }),
    (
        "ringway_upstream_rq_deadline_total",
        "Requests given up because they took longer as a whole than the pool allows.",
        |m| &m.rq_deadline,
    ),
    (
        "ringway_upstream_pipe_overflow_total",
        "Large bodies of which a part was copied because no pipe was to be had.",
        |m| &m.pipe_overflow,
    ),
    (
        "ringway_upstream_rq_spilled_total",
        "Requests that went to another shard than the owner of their key.",
        |m| &m.spilled,
    ),
    (
        "ringway_lb_balance_spilled_total",
        "Requests passed on because a shard had more in flight than hash_balance_factor allows.",
        |m| &m.balance_spilled,
    ),
    (
        "ringway_lb_slow_start_spilled_total",
        "Requests passed on because a shard that is back does not have their key again yet.",
        |m| &m.slow_start_spilled,
    ),
    (
        "ringway_lb_warm_up_total",
        "Shards asked for what the owner of a key did not find, because they may have it.",
        |m| &m.warm_up,
    ),
    ("ringway_lb_warm_up_found_total", "Those of them that had it.", |m| &m.warm_up_found),
    (
        "ringway_upstream_cx_none_healthy_total",
        "Requests refused because no shard could be asked.",
        |m| &m.none_healthy,
    ),
    (
        "ringway_lb_healthy_panic_total",
        "Requests sent while health was not believed, since too much of the pool looked down.",
        |m| &m.panic,
    ),
];

/// Writes out everything counted about the shards and pools of `view`.
#[must_use]
pub fn export(view: &View) -> Vec<MetricFamily> {
    let mut families = vec![by_class(view), latencies(view), in_flight(view), tls_failures(view)];
    families.extend(SHARD_COUNTERS.iter().map(|&(name, help, pick)| {
        let mut group = Group::new(name, help, Kind::Counter, SHARD);
        each_shard(view, |labels, shard| group.push(labels, Sample::Counter(pick(shard).sum())));
        group
    }));
    families.extend(POOL_COUNTERS.iter().map(|&(name, help, pick)| {
        let mut group = Group::new(name, help, Kind::Counter, POOL);
        for pool in &view.pools {
            let sum = pick(&pool.metrics).sum();
            group.push(&[pool.agreed.name.as_str()], Sample::Counter(sum));
        }
        group
    }));
    families.extend(ring_families(view));
    families.extend(kept_families(view));
    families.into_iter().filter_map(Group::finish).collect()
}

/// What is counted about pools that keep data, for those alone.
fn kept_families(view: &View) -> Vec<Group> {
    let kept = || view.pools.iter().filter(|pool| pool.agreed.spec.kept.is_some());
    let mut families: Vec<Group> = COUNTERS
        .iter()
        .map(|&(name, help, pick)| {
            let mut group = Group::new(name, help, Kind::Counter, POOL);
            for pool in kept() {
                let sum = pick(&pool.metrics.kept).sum();
                group.push(&[pool.agreed.name.as_str()], Sample::Counter(sum));
            }
            group
        })
        .collect();
    let labels = &["pool", "class", "level"];
    let help = "Requests on pools that keep data, by the level that was asked.";
    let mut asked = Group::new("ringway_kept_asked_total", help, Kind::Counter, labels);
    let help = "Those of them that were answered at that level.";
    let mut achieved = Group::new("ringway_kept_achieved_total", help, Kind::Counter, labels);
    for pool in kept() {
        for (class, level, asks, achieves) in pool.metrics.kept.levels() {
            let labels = [pool.agreed.name.as_str(), class, level.as_str()];
            asked.push(&labels, Sample::Counter(asks));
            achieved.push(&labels, Sample::Counter(achieves));
        }
    }
    families.extend([asked, achieved]);
    families
}

fn each_shard(view: &View, mut visit: impl FnMut(&[&str], &ShardMetrics)) {
    for pool in &view.pools {
        for shard in pool.shards.iter() {
            visit(&[pool.agreed.name.as_str(), shard.id.as_str()], &shard.metrics);
        }
    }
}

fn by_class(view: &View) -> Group {
    let name = "ringway_upstream_rq_total";
    let help = "Final answers of shards, by class of status.";
    let mut group = Group::new(name, help, Kind::Counter, &["pool", "shard", "code_class"]);
    each_shard(view, |labels, shard| {
        for (class, sum) in shard.classes.sums() {
            group.push(&[labels[0], labels[1], class], Sample::Counter(sum));
        }
    });
    group
}

fn latencies(view: &View) -> Group {
    let name = "ringway_upstream_rq_time_seconds";
    let help = "From the choice of a shard to the end of its answer.";
    let mut group = Group::new(name, help, Kind::Latency, SHARD);
    each_shard(view, |labels, shard| group.push(labels, Sample::Latency(&shard.rq_time)));
    group
}

fn tls_failures(view: &View) -> Group {
    let name = "ringway_upstream_tls_fail_total";
    let help = "TLS sessions with a shard that failed, by what was wrong; handshakes are also \
                counted as connections that could not be opened.";
    let mut group = Group::new(name, help, Kind::Counter, &["pool", "shard", "reason"]);
    each_shard(view, |labels, shard| {
        for (reason, count) in shard.tls_fail.met() {
            group.push(&[labels[0], labels[1], reason.label()], Sample::Counter(count));
        }
    });
    group
}

fn in_flight(view: &View) -> Group {
    let name = "ringway_upstream_rq_active";
    let mut group = Group::new(name, "Requests in flight.", Kind::Gauge, SHARD);
    for pool in &view.pools {
        for shard in pool.shards.iter() {
            #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
            let active = shard.in_flight() as f64;
            group.push(&[pool.agreed.name.as_str(), shard.id.as_str()], Sample::Gauge(active));
        }
    }
    group
}

#[allow(clippy::cast_precision_loss, reason = "the exposition format has doubles only")]
fn ring_families(view: &View) -> [Group; 3] {
    let mut epoch =
        Group::new("ringway_ring_epoch", "The epoch of the pool's ring.", Kind::Gauge, POOL);
    let help = "The ring's digest, as a label; the value is 1. Equal digests are equal rings.";
    let mut digest = Group::new("ringway_ring_digest_info", help, Kind::Gauge, &["pool", "digest"]);
    let help = "The shard's share of the circle: the probability that it owns a key.";
    let mut share = Group::new("ringway_ring_share_ratio", help, Kind::Gauge, SHARD);
    for pool in &view.pools {
        let name = pool.agreed.name.as_str();
        epoch.push(&[name], Sample::Gauge(pool.agreed.epoch.0 as f64));
        let hex = pool.agreed.digest.to_string();
        digest.push(&[name, &hex[..16]], Sample::Gauge(1.0));
        for (shard, part) in pool.shards.iter().zip(pool.agreed.shares()) {
            share.push(&[name, shard.id.as_str()], Sample::Gauge(part.as_f64()));
        }
    }
    [epoch, digest, share]
}
