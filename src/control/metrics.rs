//! What is shown of the group in numbers?

use prometheus::proto::MetricFamily;

use super::group::{GroupRole, GroupStatus};
use crate::metrics::{Group, Kind, Sample};

/// The series of a node's part in its group.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "terms, indexes and milliseconds are below 2^53")]
pub fn export(status: &GroupStatus) -> Vec<MetricFamily> {
    let is = |truth: bool| f64::from(u8::from(truth));
    let index = |place: Option<u64>| place.map(|index| index as f64);
    let seconds = |ms: Option<u64>| ms.map(|ms| ms as f64 / 1000.0);
    let gauges = [
        (
            "ringway_raft_leader",
            "Whether this node leads.",
            Some(is(status.role == GroupRole::Leader)),
        ),
        (
            "ringway_raft_has_leader",
            "Whether this node knows of a leader.",
            Some(is(status.leader.is_some())),
        ),
        ("ringway_raft_term", "The term of Raft.", Some(status.term.0 as f64)),
        ("ringway_raft_voters", "Nodes that vote.", Some(status.voters.len() as f64)),
        ("ringway_raft_learners", "Nodes that do not vote.", Some(status.learners.len() as f64)),
        ("ringway_raft_log_index", "The last entry of the log.", index(status.last_log)),
        (
            "ringway_raft_committed_index",
            "The last entry that is known to be agreed.",
            index(status.committed.map(|place| place.index)),
        ),
        (
            "ringway_raft_applied_index",
            "The last entry that is applied.",
            index(status.applied.map(|place| place.index)),
        ),
        (
            "ringway_raft_snapshot_age_seconds",
            "How old the newest snapshot is.",
            seconds(status.snapshot.as_ref().map(|snapshot| snapshot.age_ms)),
        ),
        (
            "ringway_raft_quorum_acked_age_seconds",
            "On a leader: how long ago it sent what a majority has answered since.",
            seconds(status.quorum_acked_ms_ago),
        ),
        (
            "ringway_raft_storage_failed",
            "Whether the log cannot be written: the node takes no part until it is restarted.",
            Some(is(status.storage_failed.is_some())),
        ),
        (
            "ringway_cluster_removed",
            "Whether this node was removed from its cluster.",
            Some(is(status.removed)),
        ),
    ];
    let families = gauges.into_iter().filter_map(|(name, help, value)| {
        let mut group = Group::new(name, help, Kind::Gauge, &[]);
        group.push(&[], Sample::Gauge(value?));
        group.finish()
    });
    families.collect()
}
