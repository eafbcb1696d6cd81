//! What does a node say of itself, and do all that was ever said agree?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::support::http::Client;

/// How long a node may think about its status. One that is stopped never answers.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A pool's epoch, and the digest of the ring that is served under it.
pub type Serves = (u64, String);

/// What `/v1/status` said at one moment.
#[derive(Debug, Clone)]
pub struct View(pub Value);

impl View {
    /// Asks. `None` when nobody answers in time.
    pub fn of(admin: SocketAddr) -> Option<Self> {
        let mut client = Client::try_connect_within(admin, ANSWER_MAX).ok()?;
        let answer = client.ask("GET", "/v1/status", "", b"").ok()?;
        assert_eq!(answer.status, 200, "{answer:?}");
        Some(Self(serde_json::from_slice(&answer.body).expect("a status is JSON")))
    }

    /// The part about the group; `None` of a node that is in none.
    fn cluster(&self) -> Option<&Value> {
        self.0.get("cluster").filter(|cluster| !cluster.is_null())
    }

    /// The name of the leader, if the node knows one.
    pub fn leader(&self) -> Option<String> {
        Some(self.cluster()?["leader"].as_str()?.to_owned())
    }

    /// Raft's term.
    pub fn term(&self) -> u64 {
        self.cluster().map_or(0, |cluster| number(&cluster["term"]))
    }

    /// How long the node's own lease lasts, in milliseconds; 0 without one.
    pub fn lease_ms(&self) -> u64 {
        self.cluster().map_or(0, |cluster| number(&cluster["lease"]["remaining_ms"]))
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> Option<String> {
        Some(self.cluster()?["id"].as_str()?.to_owned())
    }

    /// Which life of the cluster it is of.
    pub fn generation(&self) -> u64 {
        self.cluster().map_or(0, |cluster| number(&cluster["generation"]))
    }

    /// The node's own number.
    pub fn node_id(&self) -> Option<u64> {
        self.cluster()?["node_id"].as_u64()
    }

    /// Why the node does not trust its disk any more.
    pub fn storage_waits(&self) -> Option<String> {
        Some(self.cluster()?["storage_waits"].as_str()?.to_owned())
    }

    pub fn storage_failed(&self) -> Option<String> {
        Some(self.cluster()?["storage_failed"].as_str()?.to_owned())
    }

    /// The nodes' names with their roles.
    pub fn roles(&self) -> BTreeMap<String, String> {
        let nodes = self.cluster().and_then(|cluster| cluster["nodes"].as_array());
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let nodes = nodes.into_iter().flatten();
        nodes.map(|node| (text(&node["name"]), text(&node["role"]))).collect()
    }

    /// What the node serves.
    pub fn serves(&self) -> BTreeMap<String, Serves> {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let pools = self.0["pools"].as_array().expect("pools are a list").iter();
        pools
            .map(|pool| (text(&pool["name"]), (number(&pool["epoch"]), text(&pool["digest"]))))
            .collect()
    }

    /// Whether every node votes that is to: of an even number one waits.
    fn all_vote(&self) -> bool {
        let roles = self.roles();
        let count = |role: &str| roles.values().filter(|own| *own == role).count();
        let waiting = count("waiting");
        waiting == 0 || (waiting == 1 && (count("voter") + waiting) % 2 == 0)
    }

    /// The epoch of a pool below which nobody may hold a lease.
    pub fn barrier(&self, pool: &str) -> Option<u64> {
        let mut pools = self.0["pools"].as_array()?.iter();
        pools.find(|found| found["name"] == pool)?["barrier"].as_u64()
    }

    /// Whether two nodes at one moment have leases and agree on everything.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let has_lease = |view: &Self| view.lease_ms() > 0;
        has_lease(self)
            && has_lease(other)
            && self.all_vote()
            && self.leader().is_some()
            && self.leader() == other.leader()
            && self.term() == other.term()
            && self.serves() == other.serves()
            && self.roles() == other.roles()
    }

    /// What the leader says of each node, if it told.
    fn standings(&self) -> Vec<String> {
        let nodes = self.cluster().and_then(|cluster| cluster["nodes"].as_array());
        let text = |node: &Value| Some(node["standing"].as_str()?.to_owned());
        nodes.into_iter().flatten().filter_map(text).collect()
    }

    /// On one line, for messages.
    pub fn summary(&self) -> String {
        format!(
            "{}: leader {:?}, term {}, lease {} ms, serves {:?}, nodes {:?}, {:?}",
            self.0["node"],
            self.leader(),
            self.term(),
            self.lease_ms(),
            self.serves(),
            self.roles(),
            self.standings(),
        )
    }

    /// One shard of a pool.
    pub fn shard(&self, pool: &str, shard: &str) -> Option<&Value> {
        let mut pools = self.0["pools"].as_array()?.iter();
        let pool = pools.find(|found| found["name"] == pool)?;
        pool["shards"].as_array()?.iter().find(|found| found["id"] == shard)
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// Everything that was ever said: one epoch has one ring, whoever says it, and the epochs of one
/// running process only grow.
#[derive(Debug, Default)]
pub struct Ledger {
    rings: BTreeMap<(String, u64), (String, String)>,
    last: BTreeMap<(String, String), u64>,
}

impl Ledger {
    /// Takes down what `who` said. `who` names one start of one node.
    #[track_caller]
    pub fn note(&mut self, who: &str, view: &View) {
        for (pool, (epoch, digest)) in view.serves() {
            let said = self.rings.entry((pool.clone(), epoch));
            let (first, by) = said.or_insert_with(|| (digest.clone(), who.to_owned()));
            assert_eq!(*first, digest, "epoch {epoch} of {pool} has one ring, {by} and {who} say");
            let last = self.last.entry((who.to_owned(), pool.clone())).or_default();
            assert!(*last <= epoch, "{who} went back from epoch {last} of {pool} to {epoch}");
            *last = epoch;
        }
    }
}

/// What became of a change, as far as who asked for it can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Agreed and applied.
    Done,
    /// Not applied, and why.
    Refused(String),
    /// It may have been.
    Unknown(String),
}

/// Asks a node for something to be done.
pub fn act(
    admin: SocketAddr,
    token: &str,
    method: &str,
    path: &str,
    document: &Value,
    limit: Duration,
) -> Outcome {
    let fields = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    let mut client = match Client::try_connect_within(admin, limit) {
        Ok(client) => client,
        Err(error) => return Outcome::Refused(format!("not asked: {error}")),
    };
    match client.ask(method, path, &fields, document.to_string().as_bytes()) {
        Ok(answer) if answer.status == 200 => Outcome::Done,
        Ok(answer) => {
            let said = format!("{} {}", answer.status, answer.text());
            let is_applied_perhaps =
                answer.field("Ringway-Outcome").is_some_and(|outcome| outcome == "unknown");
            if is_applied_perhaps { Outcome::Unknown(said) } else { Outcome::Refused(said) }
        }
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}
