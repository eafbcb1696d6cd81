//! What should an operator look at?
//!
//! Sentences, each with what it means or what to do, the worst first. Nothing is decided by them;
//! alarms are made of metrics.

use super::nodes::{ClusterStatus, NodeStatus};
use super::status::{PoolStatus, Status};

/// A node that has not renewed its lease for so long is named. Renewals come every second.
const SILENT_MS: u64 = 5_000;

/// A clock this far off is named: at half the allowance nodes begin to lose their leases soon.
const CLOCK_OFFSET_MS: u64 = 250;

/// A snapshot this far behind the log is named: ten were due meanwhile, and a restart would read
/// all of that again.
const SNAPSHOT_BEHIND: u64 = 10_000;

/// Everything that is not as it should be.
#[must_use]
pub fn warnings(status: &Status) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(cluster) = &status.cluster {
        of_cluster(cluster, &mut warnings);
    } else if status.mode == "cluster" {
        warnings.push(
            "this node belongs to no cluster yet: `ringway cluster init` on the first node, \
             `ringway cluster join ADDRESS` on the others"
                .to_owned(),
        );
    }
    for pool in status.pools.iter().filter(|pool| pool.panic) {
        warnings.push(format!(
            "pool {}: so many shards look down that health is not believed, and all are tried",
            pool.name
        ));
    }
    status.pools.iter().for_each(|pool| of_copies(pool, &mut warnings));
    if let Some(error) = &status.reload_error {
        warnings.push(format!("the last reload was refused: {error}"));
    }
    if !status.config_drift.is_empty() {
        let places = match status.config_drift.len() {
            1 => "1 place".to_owned(),
            more => format!("{more} places"),
        };
        warnings.push(format!(
            "this node's file differs from what is agreed in {places}: see `drift` below; \
             what is agreed holds"
        ));
    }
    match status.staged {
        0 => {}
        1 => warnings.push("1 staged change is pending: `ringway ring plan`".to_owned()),
        more => warnings.push(format!("{more} staged changes are pending: `ringway ring plan`")),
    }
    warnings
}

/// A copy less than there should be.
fn of_copies(pool: &PoolStatus, warnings: &mut Vec<String>) {
    for shard in &pool.shards {
        let Some(copies) = &shard.copies else { continue };
        let (pool, id) = (&pool.name, &shard.id);
        if copies.damaged > 0 {
            warnings.push(format!(
                "shard {id} of pool {pool}: its store has not the bytes of {} values: its log names \
                 them. What other shards have they bring it; look at its disk if the log says that \
                 they were spoilt there. What no shard has any more stays lost until it is written \
                 again or deleted",
                copies.damaged
            ));
        }
        match copies.standing.as_str() {
            "foreign" => warnings.push(format!(
                "shard {id} of pool {pool}: another store than its own answers there, and is not \
                 used: is its disk mounted? If that is lost: `ringway ring replace {pool}/{id}`"
            )),
            "unbound" => warnings.push(format!(
                "shard {id} of pool {pool} has no store yet: none has answered at {}",
                shard.url
            )),
            _ => {}
        }
    }
}

fn of_cluster(cluster: &ClusterStatus, warnings: &mut Vec<String>) {
    if let Some(why) = &cluster.storage_failed {
        warnings.push(format!(
            "this node's disk failed and it takes no part in agreement any more: {why}: mend the \
             disk and start the node again"
        ));
    }
    if let Some(why) = &cluster.storage_waits {
        warnings.push(format!(
            "this node acknowledges nothing for now: {why}; it goes on by itself when there is room"
        ));
    }
    if let Some(why) = &cluster.stopped {
        warnings.push(format!("this node takes no part in its cluster any more: {why}"));
    }
    if cluster.leader.is_none() {
        warnings.push(
            "there is no leader: nothing can be agreed until a majority of the voters meet"
                .to_owned(),
        );
    } else if !cluster.observed {
        warnings.push("the leader does not tell what it knows of the other nodes".to_owned());
    }
    if cluster.lease.remaining_ms == 0 {
        let since = match cluster.lease.lost_ms_ago {
            Some(ms) => format!("has had no lease for {} s", ms / 1000),
            None => "has no lease".to_owned(),
        };
        let why = cluster.lease.trouble.as_ref().map_or(String::new(), |why| format!(": {why}"));
        warnings.push(format!("this node {since}, and refuses what needs agreement{why}"));
    }
    warnings.extend(cluster.nodes.iter().flat_map(of_node));
    let differing: Vec<&str> = named(cluster, |node| {
        // What this node knows of itself by way of the leader is older than what it serves.
        node.routes_differ == Some(true) && node.id != cluster.node_id
    });
    if !differing.is_empty() {
        warnings.push(format!(
            "routes differ from this node's on {}: bring their files in line",
            differing.join(", ")
        ));
    }
    let waiting = named(cluster, |node| node.role == "waiting");
    if !waiting.is_empty() {
        warnings.push(format!(
            "{} waits to vote: an even number of voters outlives no more failures than one less; \
             add one more voter, or make it an observer",
            waiting.join(", ")
        ));
    }
    // A voter that left does not take the vote of another with it, so an even number may be left.
    let voting = named(cluster, |node| node.role == "voter");
    if !voting.is_empty() && voting.len().is_multiple_of(2) {
        warnings.push(format!(
            "{} vote, an even number: agreement outlives the loss of {} of them; add one more \
             voter",
            voting.join(", "),
            (voting.len() - 1) / 2
        ));
    }
    let covered = cluster.snapshot.map_or(0, |snapshot| snapshot.index);
    let behind = cluster.log.applied.map_or(0, |applied| applied.saturating_sub(covered));
    if behind > SNAPSHOT_BEHIND {
        warnings.push(format!(
            "the last snapshot is {behind} entries old: `ringway cluster snapshot`, and look at \
             the node's log for why it makes none"
        ));
    }
}

fn named(cluster: &ClusterStatus, which: impl Fn(&NodeStatus) -> bool) -> Vec<&str> {
    cluster.nodes.iter().filter(|node| which(node)).map(|node| node.name.as_str()).collect()
}

fn of_node(node: &NodeStatus) -> Vec<String> {
    let name = &node.name;
    let mut warnings = Vec::new();
    if let Some(ms) = node.last_seen_ms_ago.filter(|ms| *ms >= SILENT_MS) {
        warnings.push(format!("node {name} has been silent for {} s", ms / 1000));
    }
    if !node.mismatches.is_empty() {
        warnings.push(format!(
            "node {name} holds another ring under the same epoch ({}): take it out of service and \
             keep its log for its makers",
            node.mismatches.join(", ")
        ));
    }
    if let Some(ms) = node.clock_offset_ms.filter(|ms| ms.unsigned_abs() >= CLOCK_OFFSET_MS) {
        warnings.push(format!("the clock of node {name} is off by {ms} ms: look at its NTP"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::nodes::{Lease, Log, Snapshot};

    fn node(name: &str) -> NodeStatus {
        NodeStatus {
            id: 1,
            name: name.to_owned(),
            address: "10.0.0.1:9700".to_owned(),
            role: "voter".to_owned(),
            leader: false,
            incarnation: 1,
            version: "0.1.0".to_owned(),
            last_seen_ms_ago: Some(900),
            lease_remaining_ms: Some(9_000),
            standing: None,
            clock_offset_ms: Some(-20),
            routes_differ: Some(false),
            behind: Vec::new(),
            mismatches: Vec::new(),
        }
    }

    fn cluster(nodes: Vec<NodeStatus>) -> ClusterStatus {
        ClusterStatus {
            id: "07".repeat(16),
            generation: 1,
            feature_level: 1,
            node_id: 1,
            role: "follower".to_owned(),
            term: 3,
            leader: Some("n1".to_owned()),
            lease: Lease { remaining_ms: 9_000, lost_ms_ago: None, trouble: None },
            joint: false,
            log: Log { last: Some(90), committed: Some(90), applied: Some(90) },
            snapshot: None,
            quorum_acked_ms_ago: None,
            storage_failed: None,
            storage_waits: None,
            stopped: None,
            observed: true,
            nodes,
        }
    }

    fn of(cluster: &ClusterStatus) -> Vec<String> {
        let mut warnings = Vec::new();
        of_cluster(cluster, &mut warnings);
        warnings
    }

    #[test]
    fn a_cluster_that_does_well_is_no_cause_for_words() {
        assert_eq!(of(&cluster(vec![node("n1"), node("n2"), node("n3")])), [""; 0]);
        assert_eq!(of(&cluster(vec![node("n1")])), [""; 0]);
        let two = of(&cluster(vec![node("n1"), node("n2")]));
        assert_eq!(
            two,
            ["n1, n2 vote, an even number: agreement outlives the loss of 0 of them; add one \
                 more voter"]
        );
    }

    #[test]
    fn the_worst_comes_first_and_each_says_what_it_means() {
        let silent = NodeStatus { last_seen_ms_ago: Some(61_500), ..node("n2") };
        let broken = NodeStatus { mismatches: vec!["p@4".to_owned()], ..node("n3") };
        let early = NodeStatus { clock_offset_ms: Some(-400), ..node("n4") };
        let other = NodeStatus { id: 5, routes_differ: Some(true), ..node("n5") };
        let itself = NodeStatus { routes_differ: Some(true), ..node("n1") };
        let even = NodeStatus { role: "waiting".to_owned(), ..node("n6") };
        let trouble = Some("the clock is off".to_owned());
        let bad = ClusterStatus {
            leader: None,
            storage_failed: Some("fsync: Input/output error".to_owned()),
            storage_waits: None,
            lease: Lease { remaining_ms: 0, lost_ms_ago: Some(34_000), trouble },
            log: Log { last: None, committed: None, applied: Some(10_500) },
            snapshot: Some(Snapshot { index: 400, age_ms: 1 }),
            ..cluster(vec![itself, silent, broken, early, other, even])
        };
        assert_eq!(
            of(&bad),
            [
                "this node's disk failed and it takes no part in agreement any more: fsync: \
                 Input/output error: mend the disk and start the node again",
                "there is no leader: nothing can be agreed until a majority of the voters meet",
                "this node has had no lease for 34 s, and refuses what needs agreement: the clock \
                 is off",
                "node n2 has been silent for 61 s",
                "node n3 holds another ring under the same epoch (p@4): take it out of service \
                 and keep its log for its makers",
                "the clock of node n4 is off by -400 ms: look at its NTP",
                "routes differ from this node's on n5: bring their files in line",
                "n6 waits to vote: an even number of voters outlives no more failures than one \
                 less; add one more voter, or make it an observer",
                "the last snapshot is 10100 entries old: `ringway cluster snapshot`, and look at \
                 the node's log for why it makes none",
            ]
        );
    }
}
