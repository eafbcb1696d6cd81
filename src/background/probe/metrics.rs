//! What is counted about health, named after Envoy's `health_check.*`, `membership_*` and
//! `outlier_detection.ejections_*`.
//!
//! `membership_total` is called `membership_size` here, because only counters may end in `_total`.
//! What requests meet in a panic is counted where they are served.

use prometheus::proto::MetricFamily;

use super::watch::Watch;
use crate::metrics::{Counter, Group, Kind, Sample};
use crate::protocol::health::{Census, Class};

/// What has happened to one shard, as long as it is in the pool. Touched by the control runtime
/// alone, so one stripe does.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) attempts: Counter,
    pub(super) successes: Counter,
    pub(super) failures: Counter,
    pub(super) network_failures: Counter,
    pub(super) ejections: Counter,
    pub(super) spared: Counter,
}

impl Default for Counts {
    fn default() -> Self {
        let counter = || Counter::new(1);
        Self {
            attempts: counter(),
            successes: counter(),
            failures: counter(),
            network_failures: counter(),
            ejections: counter(),
            spared: counter(),
        }
    }
}

type PickCount = fn(&Counts) -> &Counter;
type PickCensus = fn(&Census) -> u32;

const COUNTERS: [(&str, &str, PickCount); 6] = [
    ("ringway_health_check_attempt_total", "Probes begun.", |c| &c.attempts),
    ("ringway_health_check_success_total", "Probes that passed.", |c| &c.successes),
    ("ringway_health_check_failure_total", "Probes that did not pass, for whatever reason.", |c| {
        &c.failures
    }),
    (
        "ringway_health_check_network_failure_total",
        "Probes that got no answer to judge: no name, no connection, no or a broken answer.",
        |c| &c.network_failures,
    ),
    (
        "ringway_ejections_enforced_total",
        "Ejections of the shard because of what requests met there.",
        |c| &c.ejections,
    ),
    (
        "ringway_ejections_overflow_total",
        "Ejections not carried out because max_ejection_percent of the pool was ejected already.",
        |c| &c.spared,
    ),
];

const GAUGES: [(&str, &str, PickCensus); 4] = [
    ("ringway_membership_size", "Shards of the pool.", |c| c.total),
    ("ringway_membership_healthy", "Shards up for reads and for writes.", |c| c.healthy),
    ("ringway_membership_excluded", "Shards in maintenance.", |c| c.excluded),
    ("ringway_ejections_active", "Shards ejected for reads, writes or both.", |c| c.ejected),
];

/// Writes out everything known about the health of the pools. What is not in a pool any more has
/// no series.
pub(super) fn export<'a>(pools: impl Iterator<Item = &'a Watch> + Clone) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    for (name, help, pick) in COUNTERS {
        let mut group = Group::new(name, help, Kind::Counter, &["pool", "shard"]);
        for watch in pools.clone() {
            for (seat, counts) in watch.health.seats().iter().zip(&watch.counts) {
                let labels = [watch.pool.as_str(), seat.id.as_str()];
                group.push(&labels, Sample::Counter(pick(counts).sum()));
            }
        }
        families.push(group);
    }
    let censuses: Vec<_> =
        pools.clone().map(|watch| (watch.pool.as_str(), watch.health.census())).collect();
    for (name, help, pick) in GAUGES {
        let mut group = Group::new(name, help, Kind::Gauge, &["pool"]);
        for (pool, census) in &censuses {
            group.push(&[pool], Sample::Gauge(f64::from(pick(census))));
        }
        families.push(group);
    }
    families.extend(each_shard(pools));
    families.into_iter().filter_map(Group::finish).collect()
}

fn each_shard<'a>(pools: impl Iterator<Item = &'a Watch>) -> [Group; 2] {
    const LABELS: &[&str] = &["pool", "shard", "class"];
    let name = "ringway_shard_healthy";
    let help = "Whether the shard is used: 1 if it is up, 0 if it is down, ejected or agreed down.";
    let mut healthy = Group::new(name, help, Kind::Gauge, LABELS);
    let name = "ringway_shard_agreed_down";
    let help = "Whether the cluster has agreed that the shard is down; 0 without a cluster.";
    let mut agreed_down = Group::new(name, help, Kind::Gauge, LABELS);
    let gauge = |on: bool| Sample::Gauge(f64::from(u8::from(on)));
    for watch in pools {
        let health = &watch.health;
        for (place, (seat, view)) in health.seats().iter().zip(health.views()).enumerate() {
            for class in Class::ALL {
                let labels = [watch.pool.as_str(), seat.id.as_str(), class.as_str()];
                healthy.push(&labels, gauge(health.usable(place, class)));
                let since_ms = view.agreed_down_since_ms[class];
                agreed_down.push(&labels, gauge(since_ms.is_some()));
            }
        }
    }
    [healthy, agreed_down]
}
