//! What is the state of a node, for a person?
//!
//! What an operator set and what this node observes are two fields and shown as two.

use serde::{Deserialize, Serialize};

use crate::dispatch::view::Pool;
use crate::ids::Digest;
use crate::protocol::health::{Class, ClassView, Standing};

/// Everything that `ringway status` shows.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// Its release.
    pub version: String,
    /// `standalone`; with a cluster, its part in it.
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
    /// The digest of its ring.
    pub digest: String,
    /// Whether health is not believed for reads, since too much looks down.
    pub panic: bool,
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
    /// What this node observes, for reads.
    pub reads: String,
    /// What this node observes, for writes.
    pub writes: String,
    /// Requests in flight.
    pub in_flight: usize,
}

/// The state of one pool.
#[must_use]
pub fn of_pool(pool: &Pool) -> PoolStatus {
    let agreed = &pool.agreed;
    let shares = agreed.ring.shares();
    let views = pool.health.views();
    let shards = agreed
        .shards
        .iter()
        .zip(agreed.ring.members())
        .zip(&shares.shards)
        .zip(pool.shards.iter().zip(views))
        .map(|(((spec, member), share), (shard, view))| ShardStatus {
            id: spec.id.to_string(),
            url: spec.url.to_string(),
            zone: spec.zone.to_string(),
            weight: member.weight.get(),
            share: share.primary.to_string(),
            state: format!("{:?}", spec.state).to_lowercase(),
            reads: words(view.read),
            writes: words(view.write),
            in_flight: shard.in_flight(),
        })
        .collect();
    PoolStatus {
        name: agreed.name.to_string(),
        kind: format!("{:?}", agreed.spec.kind).to_lowercase(),
        epoch: agreed.epoch.0,
        digest: short(&agreed.ring.digest()),
        panic: pool.health.in_panic(Class::Read),
        shards,
    }
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
