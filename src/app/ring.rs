//! `ringway ring`: what is the ring, and how is it changed?
//!
//! Every change takes the same way whoever makes it: staged, planned, applied. `--now` takes all
//! three steps at once and shows the plan that it took.

use std::path::Path;
use std::str::FromStr;

use serde_json::Value;

use super::client::{Client, query_value};
use super::error::AppError;
use super::say::say;
use super::table::table;
use crate::admin::plan::{PlanDocument, PoolPlan};
use crate::admin::ring::{
    Changed, ChangesAsked, HistoryDocument, RingDocument, RingPool, RingShard,
};
use crate::admin::status::verdict_words;
use crate::cluster::{
    AdminState, Change, Desired, DesiredPool, Placement, PoolEpochs, ShardSpec, differences,
};
use crate::config;
use crate::ids::{BaseUrl, NameError, PoolName, ShardId, Weight, Zone};

/// A shard as it is typed: `SHARD`, or `POOL/SHARD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPlace {
    /// Its pool, if that was said.
    pub pool: Option<PoolName>,
    /// Its id.
    pub shard: ShardId,
}

impl FromStr for ShardPlace {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (pool, shard) = match text.split_once('/') {
            Some((pool, shard)) => (Some(PoolName::new(pool)?), shard),
            None => (None, text),
        };
        Ok(Self { pool, shard: ShardId::new(shard)? })
    }
}

/// What is to be done with a shard, before the pool is known.
#[derive(Debug, Clone)]
pub enum Edit {
    /// A further one.
    Add(ShardSpec),
    /// It leaves.
    Remove,
    /// Another weight.
    Weight(Weight),
    /// Another zone.
    Zone(Zone),
    /// Another address.
    Url(BaseUrl),
    /// In service, or out of it.
    State(AdminState),
    /// A fresh store, perhaps elsewhere.
    Replace {
        /// Where, if elsewhere.
        url: Option<BaseUrl>,
        /// Though what the old one had is nowhere else.
        lose: bool,
    },
}

impl Edit {
    fn of(self, pool: PoolName, shard: ShardId) -> Change {
        match self {
            Self::Add(spec) => Change::AddShard { pool, shard, spec },
            Self::Remove => Change::RemoveShard { pool, shard },
            Self::Weight(weight) => Change::SetWeight { pool, shard, weight },
            Self::Zone(zone) => Change::SetZone { pool, shard, zone },
            Self::Url(url) => Change::SetUrl { pool, shard, url },
            Self::State(state) => Change::SetState { pool, shard, state },
            Self::Replace { url, lose } => Change::ReplaceShard { pool, shard, url, lose },
        }
    }
}

/// How changes are made, and told.
#[derive(Debug, Clone, Copy)]
pub struct Staging {
    /// At once.
    pub now: bool,
    /// As the node's whole answer.
    pub json: bool,
}

/// `ringway ring show`.
///
/// # Errors
/// When there is no such pool, or no node answers.
pub fn show(client: &Client, pool: Option<&PoolName>, json: bool) -> Result<(), AppError> {
    let filter = pool.map_or_else(String::new, |pool| format!("?pool={pool}"));
    tell(client, client.get(&format!("/v1/ring{filter}"))?, json, ring_words)
}

/// Stages edits of shards, or makes them. Those that are named without their pool are of `pool`;
/// if that is not said either, of the only one.
///
/// # Errors
/// The node's refusal, or that none answers.
pub fn stage(
    client: &Client,
    pool: Option<&PoolName>,
    edits: Vec<(ShardPlace, Edit)>,
    staging: Staging,
) -> Result<(), AppError> {
    let is_open = |(place, _): &(ShardPlace, Edit)| place.pool.is_none();
    let usual = match pool {
        Some(pool) => Some(pool.clone()),
        None if edits.iter().any(is_open) => {
            Some(only_pool(&client.read(client.get("/v1/ring")?)?)?)
        }
        None => None,
    };
    let changes = edits.into_iter().filter_map(|(place, edit)| {
        Some(edit.of(place.pool.or_else(|| usual.clone())?, place.shard))
    });
    send(client, changes.collect(), staging)
}

fn only_pool(ring: &RingDocument) -> Result<PoolName, AppError> {
    let names: Vec<&str> = ring.pools.iter().map(|pool| pool.name.as_str()).collect();
    match &ring.pools[..] {
        [only] => Ok(only.name.clone()),
        [] => Err(AppError::Refused(
            "there is no pool: begin with `ringway ring stage -c FILE`".to_owned(),
        )),
        _ => Err(AppError::Refused(format!(
            "say which pool, as POOL/SHARD or with --pool: there are {}",
            names.join(", ")
        ))),
    }
}

/// Drops a pool, at once or staged, with whatever it keeps.
///
/// # Errors
/// The node's refusal, or that none answers.
pub fn drop_pool(client: &Client, pool: PoolName, staging: Staging) -> Result<(), AppError> {
    send(client, vec![Change::DropPool { pool }], staging)
}

/// Stages what a file's pools and shards differ in from what is agreed.
///
/// # Errors
/// When the file is wrong, the node refuses, or none answers.
pub fn stage_file(client: &Client, file: &Path, staging: Staging) -> Result<(), AppError> {
    let wanted = config::load(file)?.config.desired();
    let ring: RingDocument = client.read(client.get("/v1/ring")?)?;
    let changes = differences(&desired(ring), &wanted);
    if changes.is_empty() && !staging.json {
        return say("the file says what is agreed: there is nothing to stage");
    }
    send(client, changes, staging)
}

fn desired(ring: RingDocument) -> Desired {
    let pool = |pool: RingPool| {
        let shards = pool.shards.into_iter().map(|shard| {
            let RingShard { id, url, zone, weight, state, ketama_name, .. } = shard;
            (id, ShardSpec { url, zone, weight, state, ketama_name })
        });
        (pool.name, DesiredPool { spec: pool.spec, shards: shards.collect() })
    };
    ring.pools.into_iter().map(pool).collect()
}

fn send(client: &Client, changes: Vec<Change>, staging: Staging) -> Result<(), AppError> {
    let asked = ChangesAsked { changes, now: staging.now };
    let answer = client.change("POST", "/v1/ring/changes", &asked)?;
    tell(client, answer, staging.json, changed_words)
}

/// `ringway ring plan`.
///
/// # Errors
/// When nothing is staged, or no node answers.
pub fn plan(client: &Client, json: bool) -> Result<(), AppError> {
    tell(client, client.get("/v1/ring/plan")?, json, |plan: &PlanDocument| {
        format!("{}\napply it with `ringway ring apply {}`\n", plan_words(plan), plan.id)
    })
}

/// `ringway ring apply`.
///
/// # Errors
/// When the plan is no longer what was shown, the node refuses, or none answers.
pub fn apply(client: &Client, plan: &str, json: bool) -> Result<(), AppError> {
    let asked = serde_json::json!({ "plan": plan });
    let answer = client.change("POST", "/v1/ring/apply", &asked)?;
    tell(client, answer, json, changed_words)
}

/// `ringway ring unstage`.
///
/// # Errors
/// The node's refusal, or that none answers.
pub fn unstage(client: &Client, json: bool) -> Result<(), AppError> {
    tell(client, client.act("DELETE", "/v1/ring/changes")?, json, changed_words)
}

/// `ringway ring history`.
///
/// # Errors
/// When no node answers.
pub fn history(client: &Client, last: usize, json: bool) -> Result<(), AppError> {
    let path = format!("/v1/ring/history?last={}", query_value(&last.to_string()));
    tell(client, client.get(&path)?, json, history_words)
}

fn tell<T: serde::de::DeserializeOwned>(
    client: &Client,
    answer: Value,
    json: bool,
    words: impl FnOnce(&T) -> String,
) -> Result<(), AppError> {
    match json {
        true => say(&format!("{answer:#}")),
        false => say(&words(&client.read(answer)?)),
    }
}

fn ring_words(ring: &RingDocument) -> String {
    let mut text = format!("revision {}\n", ring.revision);
    for pool in &ring.pools {
        let kind = format!("{:?}", pool.spec.kind).to_lowercase();
        let mode = format!("{:?}", pool.spec.mode).to_lowercase();
        let points = match pool.spec.placement {
            Placement::Ring => format!("{} vnodes per weight", pool.spec.vnodes),
            Placement::Ketama => "keys placed as by nginx (ketama)".to_owned(),
            Placement::Balanced => format!("balanced, {} replicas", pool.spec.replicas()),
        };
        let immutable = if pool.spec.immutable { ", immutable" } else { "" };
        text.push_str(&format!(
            "\npool {} ({kind}, mode {mode}{immutable}), epoch {}, settled {}, ring {}, {points}\n",
            pool.name, pool.epoch, pool.barrier, pool.digest
        ));
        if let Some(kept) = &pool.spec.kept {
            let level = kept.consistency;
            let filled = if pool.filled { "keeps data: shards stay" } else { "keeps nothing yet" };
            text.push_str(&format!("key {}, level {level} unless asked, {filled}\n", kept.key));
            text.push_str(&kept_shards(pool));
            continue;
        }
        let rows: Vec<_> = pool
            .shards
            .iter()
            .map(|shard| {
                [
                    shard.id.to_string(),
                    shard.zone.to_string(),
                    shard.weight.get().to_string(),
                    shard.share.clone(),
                    format!("{:?}", shard.state).to_lowercase(),
                    verdict_words(shard.verdict).to_owned(),
                    shard.url.to_string(),
                ]
            })
            .collect();
        let head = ["shard", "zone", "weight", "share", "set", "agreed", "url"];
        text.push_str(&table(head, &rows));
    }
    if !ring.staged.is_empty() {
        text.push_str("\nstaged, and not applied:\n");
        text.extend(ring.staged.iter().map(|change| format!("  {change}\n")));
    }
    text
}

fn kept_shards(pool: &RingPool) -> String {
    let row = |shard: &RingShard| {
        let store = shard.store.store.map_or("unbound".to_owned(), |id| id.to_string());
        let lacks = match (shard.store.fresh, shard.store.catching_up) {
            (true, _) => "fresh",
            (false, true) => "catching up",
            (false, false) => "-",
        };
        [
            shard.id.to_string(),
            shard.zone.to_string(),
            shard.weight.get().to_string(),
            shard.share.clone(),
            format!("{:?}", shard.state).to_lowercase(),
            verdict_words(shard.verdict).to_owned(),
            store,
            lacks.to_owned(),
            shard.url.to_string(),
        ]
    };
    let rows: Vec<_> = pool.shards.iter().map(row).collect();
    let head = ["shard", "zone", "weight", "share", "set", "agreed", "store", "lacks", "url"];
    table(head, &rows)
}

fn plan_words(plan: &PlanDocument) -> String {
    let mut text = format!("plan {}\n", plan.id);
    text.extend(plan.changes.iter().map(|change| format!("  {change}\n")));
    text.extend(plan.pools.iter().map(pool_plan_words));
    if !plan.warnings.is_empty() {
        text.push('\n');
        text.extend(plan.warnings.iter().map(|warning| format!("warning: {warning}\n")));
    }
    text
}

fn pool_plan_words(plan: &PoolPlan) -> String {
    let epochs = match (plan.epoch_before, plan.epoch_after) {
        (None, after) => format!("new, epoch {}", after.unwrap_or_default()),
        (Some(before), None) => format!("goes at epoch {before}"),
        (Some(before), Some(after)) if before == after => format!("stays at epoch {before}"),
        (Some(before), Some(after)) => format!("epoch {before} to {after}"),
    };
    let same_ring = plan.epoch_before == plan.epoch_after;
    if same_ring {
        return format!("\npool {}: {epochs}, no key moves\n", plan.pool);
    }
    let what = match (plan.balanced, plan.epoch_before) {
        (true, None) => String::new(),
        (true, Some(_)) => format!(", {} of the copies get another shard", plan.moved),
        (false, _) => format!(", {} of the keys move", plan.moved),
    };
    let mut text = format!("\npool {}: {epochs}{what}\n", plan.pool);
    match (&plan.peak_before, &plan.peak_after) {
        (Some(before), Some(after)) => text.push_str(&format!(
            "  the heaviest shard has {after} of what its weight says, before {before}\n"
        )),
        (None, Some(after)) => {
            text.push_str(&format!("  the heaviest shard has {after} of what its weight says\n"));
        }
        _ => {}
    }
    let row = |id: &str, before: &str, after: &str| [id, before, after].map(str::to_owned);
    let rows: Vec<_> =
        plan.shards.iter().map(|shard| row(&shard.id, &shard.before, &shard.after)).collect();
    text.push_str(&table(["shard", "before", "after"], &rows));
    // Whoever names no zones wants to hear nothing of them.
    if plan.zones.len() > 1 {
        let rows: Vec<_> = plan
            .zones
            .iter()
            .map(|zone| {
                let worst = match (&zone.worst, &zone.worst_load) {
                    (Some(shard), Some(load)) => format!("{shard} at {load} of its load"),
                    _ => "nobody is left".to_owned(),
                };
                [zone.zone.clone(), zone.share.clone(), worst]
            })
            .collect();
        text.push_str(&table(["zone lost", "keys", "worst survivor"], &rows));
    }
    text
}

fn changed_words(changed: &Changed) -> String {
    let mut text = changed.plan.as_ref().map_or_else(String::new, |plan| plan_words(plan) + "\n");
    text.push_str(&format!("{}; revision {}\n", changed.done, changed.revision));
    text.extend(changed.pools.iter().map(|pool| format!("  pool {pool}\n")));
    text
}

fn history_words(history: &HistoryDocument) -> String {
    let epochs = |epochs: &[PoolEpochs]| {
        let epochs: Vec<String> = epochs.iter().map(ToString::to_string).collect();
        if epochs.is_empty() { "-".to_owned() } else { epochs.join("; ") }
    };
    let rows: Vec<_> = history
        .records
        .iter()
        .map(|record| {
            [
                record.revision.to_string(),
                record.at.clone(),
                record.actor.clone(),
                epochs(&record.epochs),
                record.what.clone(),
            ]
        })
        .collect();
    table(["revision", "when", "who", "epochs", "what"], &rows)
}

#[cfg(test)]
mod tests;
