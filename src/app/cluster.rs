//! `ringway cluster`: who is in the group of nodes, and how is it looked after?

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::client::{Client, query_value, user};
use super::error::AppError;
use super::say::{complain, say};
use super::store::unix_ms;
use super::table::{duration, table};
use crate::admin::nodes::{ClusterStatus, NodeStatus};
use crate::control::group::{self, Recovered};
use crate::ids::PeerAddress;

/// `ringway cluster init`.
///
/// # Errors
/// When the node belongs to a cluster already, has no `cluster:` section, or none answers.
pub fn init(client: &Client, json: bool) -> Result<(), AppError> {
    done(&client.act("POST", "/v1/cluster/init")?, json)
}

/// `ringway cluster join`.
///
/// # Errors
/// When the node belongs to a cluster already, or none of `peers` takes it in.
pub fn join(
    client: &Client,
    peers: &[PeerAddress],
    observer: bool,
    json: bool,
) -> Result<(), AppError> {
    let role = if observer { "observer" } else { "voter" };
    done(
        &client.change("POST", "/v1/cluster/join", &json!({ "peers": peers, "role": role }))?,
        json,
    )
}

/// `ringway cluster remove-node`.
///
/// # Errors
/// When there is no such node, or the group cannot agree.
pub fn remove_node(client: &Client, node: &str, json: bool) -> Result<(), AppError> {
    let path = format!("/v1/cluster/nodes/{}/remove", query_value(node));
    done(&client.act("POST", &path)?, json)
}

/// `ringway cluster transfer-leader`.
///
/// # Errors
/// When the node cannot lead, or there is no leader to hand over.
pub fn transfer(client: &Client, to: &str, json: bool) -> Result<(), AppError> {
    done(&client.change("POST", "/v1/cluster/transfer", &json!({ "to": to }))?, json)
}

/// `ringway cluster snapshot`.
///
/// # Errors
/// When the snapshot cannot be written.
pub fn snapshot(client: &Client, json: bool) -> Result<(), AppError> {
    done(&client.act("POST", "/v1/cluster/snapshot")?, json)
}

/// Says what was done, as the node words it.
fn done(answer: &Value, json: bool) -> Result<(), AppError> {
    match json {
        true => say(&format!("{answer:#}")),
        false => say(answer["done"].as_str().unwrap_or("done")),
    }
}

/// `ringway cluster backup`. The file is written whole or not at all, and readable by its owner
/// alone: it tells how to reach every node and shard.
///
/// # Errors
/// When there is nothing to back up, or the file exists or cannot be written.
pub fn backup(client: &Client, out: Option<&Path>, json: bool) -> Result<(), AppError> {
    let bytes = client.download("/v1/cluster/backup")?;
    let Some(path) = out else {
        return std::io::stdout().write_all(&bytes).map_err(AppError::system("standard output"));
    };
    let failed = || AppError::system(path.display().to_string());
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed())?;
    if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_all()) {
        // Half a backup must not be taken for one.
        drop(std::fs::remove_file(path));
        return Err(failed()(error));
    }
    match json {
        true => say(&format!("{:#}", json!({ "bytes": bytes.len(), "path": path }))),
        false => say(&format!("{} bytes of agreed state are in {}", bytes.len(), path.display())),
    }
}

/// `ringway cluster status`.
///
/// # Errors
/// When the node belongs to no cluster, or none answers.
pub fn status(client: &Client, json: bool) -> Result<(), AppError> {
    let answer = client.get("/v1/cluster")?;
    match json {
        true => say(&format!("{answer:#}")),
        false => say(&words(&client.read(answer)?)),
    }
}

/// The group of nodes in lines.
#[must_use]
pub fn words(cluster: &ClusterStatus) -> String {
    let ClusterStatus { id, generation, term, log, .. } = cluster;
    let leader = match &cluster.leader {
        Some(name) => format!("{name} leads"),
        None => "nobody leads".to_owned(),
    };
    let lease = match (cluster.lease.remaining_ms, cluster.lease.lost_ms_ago) {
        (0, None) => "NO LEASE".to_owned(),
        (0, Some(ms)) => format!("NO LEASE for {}", duration(ms)),
        (ms, _) => format!("lease for {}", duration(ms)),
    };
    let snapshot = match cluster.snapshot {
        None => "no snapshot".to_owned(),
        Some(snapshot) => {
            format!("snapshot at {}, {} old", snapshot.index, duration(snapshot.age_ms))
        }
    };
    let joint = if cluster.joint { ", a change of voters is under way" } else { "" };
    let place = |index: Option<u64>| index.map_or("-".to_owned(), |index| index.to_string());
    let mut text = format!(
        "cluster {id}, generation {generation}, feature level {}\n\
         term {term}, {leader}{joint}; this node: {}, {lease}\n\
         log {}, committed {}, applied {}; {snapshot}\n",
        cluster.feature_level,
        cluster.role,
        place(log.last),
        place(log.committed),
        place(log.applied),
    );
    if let Some(why) = &cluster.storage_failed {
        text.push_str(&format!("STORAGE FAILED: {why}\n"));
    }
    let head = [
        "id",
        "node",
        "role",
        "address",
        "incarnation",
        "version",
        "seen",
        "lease",
        "clock",
        "routes",
        "behind",
    ];
    text.push('\n');
    text.push_str(&table(head, &cluster.nodes.iter().map(row).collect::<Vec<_>>()));
    if !cluster.observed {
        text.push_str("  (no leader tells what it knows of the nodes)\n");
    }
    text
}

fn row(node: &NodeStatus) -> [String; 11] {
    let unknown = || "-".to_owned();
    let clock = |ms: i64| match ms {
        0 => "0 ms".to_owned(),
        ms => format!("{ms:+} ms"),
    };
    let routes = |differ: bool| if differ { "DIFFER" } else { "same" }.to_owned();
    [
        node.id.to_string(),
        node.name.clone(),
        if node.leader { format!("{}, leads", node.role) } else { node.role.clone() },
        node.address.clone(),
        node.incarnation.to_string(),
        if node.version.is_empty() { unknown() } else { node.version.clone() },
        node.last_seen_ms_ago.map_or_else(unknown, |ms| format!("{} ago", duration(ms))),
        node.lease_remaining_ms.map_or_else(unknown, duration),
        node.clock_offset_ms.map_or_else(unknown, clock),
        node.routes_differ.map_or_else(unknown, routes),
        match node.behind.as_slice() {
            [] => unknown(),
            pools => pools.join(" "),
        },
    ]
}

/// The word that has a recovery go on.
const WORD: &str = "recover";

/// `ringway cluster recover --from-survivor`: offline, on a stopped node's folder. What could be
/// lost is told and asked about, on standard error, before anything is changed.
///
/// # Errors
/// When the node runs, its folder is of no cluster, the operator does not agree, or the disk
/// refuses.
pub fn recover(data_dir: &Path, yes: bool, json: bool) -> Result<(), AppError> {
    let actor = user().map_or_else(|| WORD.to_owned(), |name| format!("{WORD} ({name})"));
    let recovered = group::recover(data_dir, &actor, unix_ms(), |survey| {
        complain(&survey.to_string());
        yes || is_meant()
    });
    let Recovered { generation, kept } =
        recovered.map_err(|error| AppError::Refused(error.to_string()))?;
    if json {
        return say(&format!("{:#}", json!({ "generation": generation, "kept": kept })));
    }
    say(&format!(
        "this node is a cluster of its own now, of generation {generation}; its former files are \
         in {}\nstart it, then empty the folders of the other nodes and let them join it",
        kept.display()
    ))
}

/// Asks the operator for the word.
fn is_meant() -> bool {
    if !std::io::stdin().is_terminal() {
        complain("this is not asked without a terminal: say --yes if it is meant");
        return false;
    }
    complain(&format!("type `{WORD}` if all of this is meant:"));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).is_ok() && line.trim() == WORD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::nodes::{Lease, Log, Snapshot};

    fn node(id: u64, role: &str) -> NodeStatus {
        NodeStatus {
            id,
            name: format!("n{id}"),
            address: format!("10.0.0.{id}:9700"),
            role: role.to_owned(),
            leader: id == 1,
            incarnation: id,
            version: "0.1.0".to_owned(),
            last_seen_ms_ago: Some(312),
            lease_remaining_ms: Some(9_688),
            standing: Some("holds a lease".to_owned()),
            clock_offset_ms: Some(0),
            routes_differ: Some(false),
            behind: Vec::new(),
            mismatches: Vec::new(),
        }
    }

    fn cluster() -> ClusterStatus {
        let behind = NodeStatus {
            clock_offset_ms: Some(-120),
            routes_differ: Some(true),
            behind: vec!["objects@6".to_owned()],
            ..node(2, "voter")
        };
        let new = NodeStatus {
            incarnation: 0,
            version: String::new(),
            last_seen_ms_ago: None,
            lease_remaining_ms: None,
            clock_offset_ms: None,
            routes_differ: None,
            ..node(3, "waiting")
        };
        ClusterStatus {
            id: "07".repeat(16),
            generation: 1,
            feature_level: 1,
            node_id: 1,
            role: "leader".to_owned(),
            term: 4,
            leader: Some("n1".to_owned()),
            lease: Lease { remaining_ms: 9_204, lost_ms_ago: None, trouble: None },
            joint: false,
            log: Log { last: Some(1207), committed: Some(1207), applied: Some(1206) },
            snapshot: Some(Snapshot { index: 1000, age_ms: 7_500_000 }),
            quorum_acked_ms_ago: Some(80),
            storage_failed: None,
            storage_waits: None,
            stopped: None,
            observed: true,
            nodes: vec![node(1, "voter"), behind, new],
        }
    }

    #[test]
    fn a_cluster_is_shown_node_by_node() {
        let meant = "\
cluster 07070707070707070707070707070707, generation 1, feature level 1
term 4, n1 leads; this node: leader, lease for 9 s
log 1207, committed 1207, applied 1206; snapshot at 1000, 2 h old

  id  node  role          address        incarnation  version  seen        lease  clock    routes  behind
  1   n1    voter, leads  10.0.0.1:9700  1            0.1.0    312 ms ago  9 s    0 ms     same    -
  2   n2    voter         10.0.0.2:9700  2            0.1.0    312 ms ago  9 s    -120 ms  DIFFER  objects@6
  3   n3    waiting       10.0.0.3:9700  0            -        -           -      -        -       -
";
        assert_eq!(words(&cluster()), meant);
    }

    #[test]
    fn what_is_missing_is_said_aloud() {
        let alone = ClusterStatus {
            leader: None,
            role: "candidate".to_owned(),
            lease: Lease { remaining_ms: 0, lost_ms_ago: Some(65_000), trouble: None },
            joint: true,
            log: Log { last: Some(3), committed: None, applied: None },
            snapshot: None,
            storage_failed: Some("fsync: Input/output error".to_owned()),
            storage_waits: None,
            observed: false,
            nodes: Vec::new(),
            ..cluster()
        };
        let meant = "\
cluster 07070707070707070707070707070707, generation 1, feature level 1
term 4, nobody leads, a change of voters is under way; this node: candidate, NO LEASE for 65 s
log 3, committed -, applied -; no snapshot
STORAGE FAILED: fsync: Input/output error

  id  node  role  address  incarnation  version  seen  lease  clock  routes  behind
  (no leader tells what it knows of the nodes)
";
        assert_eq!(words(&alone), meant);
    }
}
