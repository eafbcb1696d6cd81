//! What is the state of a node, for a person?
//!
//! What an operator set, what the group agreed on and what this node observes are three fields and
//! shown as three.

use serde::{Deserialize, Serialize};

use super::copies::{PoolCopies, ShardCopies};
use super::nodes::ClusterStatus;
use crate::cluster::{PoolState, PoolTopology, ShardTopology, Verdict};
use crate::dispatch::view::Pool;
use crate::ids::{Digest, ShardId};
use crate::protocol::health::{Class, ClassView, Standing};

/// Everything that `ringway status` shows.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// Its release.
    pub version: String,
    /// `standalone` or `cluster`.
    pub mode: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether clients are welcome.
    pub ready: bool,
    /// Counts every change of the agreed state.
    pub revision: u64,
    /// The digest of its routes.
    pub routes_digest: String,
    /// Why the last reload was refused; absent if it was not.
    pub reload_error: Option<String>,
    /// What an operator should look at, in sentences; the worst first.
    pub warnings: Vec<String>,
    /// What the node's file has otherwise than what is agreed, in sentences.
    pub config_drift: Vec<String>,
    /// How many changes are staged.
    pub staged: usize,
    /// The group of nodes; absent without one.
    pub cluster: Option<ClusterStatus>,
    /// Its pools.
    pub pools: Vec<PoolStatus>,
}

/// One pool.
#[derive(Debug, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Its discipline.
    pub kind: String,
    /// The epoch of its ring.
    pub epoch: u64,
    /// The epoch below which no node holds a lease.
    pub barrier: u64,
    /// The digest of its ring.
    pub digest: String,
    /// Whether health is not believed for reads, since too much looks down.
    pub panic: bool,
    /// How its copies do; absent if it keeps no data.
    pub copies: Option<PoolCopies>,
    /// Its shards.
    pub shards: Vec<ShardStatus>,
}

/// One shard.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub url: String,
    /// Its failure domain.
    pub zone: String,
    /// Its weight.
    pub weight: u16,
    /// Its share of the circle, as a percentage.
    pub share: String,
    /// What the operator set.
    pub state: String,
    /// What the group has agreed on: `up`, `down`, `reads down` or `writes down`.
    pub verdict: String,
    /// The store that has its data and what it lacks, of a pool that keeps data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// What this node observes, for reads.
    pub reads: String,
    /// What this node observes, for writes.
    pub writes: String,
    /// What part of its keys it has again for reads, in percent, if it is back since less than
    /// the pool's `slow_start`.
    pub slow_start_percent: Option<u64>,
    /// Requests in flight.
    pub in_flight: usize,
    /// How its copies do; absent if its pool keeps no data.
    pub copies: Option<ShardCopies>,
}

/// The state of one pool that is served, with what is agreed about it; `now_ms` by the clock of the
/// workers.
#[must_use]
pub fn of_pool(pool: &Pool, state: Option<&PoolState>, now_ms: u64) -> PoolStatus {
    let agreed = &pool.agreed;
    let verdict = |shard: &ShardId| state.map_or(Verdict::CLEAR, |state| state.verdict(shard));
    let shares = agreed.shares();
    let views = pool.health.views();
    let shards = agreed
        .shards
        .iter()
        .zip(agreed.ring.members())
        .zip(&shares)
        .zip(pool.shards.iter().zip(views).enumerate())
        .map(|(((spec, member), share), (at, (shard, view)))| ShardStatus {
            id: spec.id.to_string(),
            url: spec.url.to_string(),
            zone: spec.zone.to_string(),
            weight: member.weight.get(),
            share: share.to_string(),
            state: format!("{:?}", spec.state).to_lowercase(),
            verdict: verdict_words(verdict(&spec.id)).to_owned(),
            store: store_words(agreed, spec),
            reads: words(view.read),
            writes: words(view.write),
            slow_start_percent: pool.health.eased(now_ms, at, Class::Read).map(|part| part / 10),
            in_flight: shard.in_flight(),
            copies: None,
        })
        .collect();
    PoolStatus {
        name: agreed.name.to_string(),
        kind: format!("{:?}", agreed.spec.kind).to_lowercase(),
        epoch: agreed.epoch.0,
        barrier: state.map_or(0, |state| state.barrier.0),
        digest: short(&agreed.digest),
        panic: pool.health.in_panic(Class::Read),
        copies: None,
        shards,
    }
}

/// What is agreed of a shard, in words.
#[must_use]
pub fn verdict_words(verdict: Verdict) -> &'static str {
    match (verdict.reads_down, verdict.writes_down) {
        _ if verdict.foreign => "foreign",
        (false, false) => "up",
        (true, true) => "down",
        (true, false) => "reads down",
        (false, true) => "writes down",
    }
}

/// The store of a shard in words; `None` where shards have none.
fn store_words(pool: &PoolTopology, shard: &ShardTopology) -> Option<String> {
    pool.spec.kept.as_ref()?;
    let store = shard.store.map_or("unbound".to_owned(), |id| id.to_string());
    Some(match (shard.fresh, shard.catching_up) {
        (true, _) => format!("{store}, fresh: being filled"),
        (false, true) => format!("{store}, catching up"),
        (false, false) => store,
    })
}

/// One class of a shard's health in words.
fn words(view: ClassView) -> String {
    let standing = match view.standing {
        Standing::Up => return "up".to_owned(),
        Standing::Down => "down",
        Standing::Ejected { .. } => "ejected",
    };
    match view.why {
        Some(why) => format!("{standing}: {why}"),
        None => standing.to_owned(),
    }
}

/// As much of a digest as a person compares.
#[must_use]
pub fn short(digest: &Digest) -> String {
    digest.to_string()[..16].to_owned()
}
