//! What is the ring, what would a change do to it, and who changed it?
//!
//! Changes of pools and shards are *staged* first: nothing moves. The *plan* tells what applying
//! them would do and bears an id; *apply* does exactly what was shown under an id, or nothing.
//! `now` does it at once, for a change that needs no second look.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::api::{Api, Caller};
use super::asked::{Query, document};
use super::control::{Control, change_alone, standalone};
use super::http::{Problem, Response, json};
use super::plan::PlanDocument;
use super::status::short;
use crate::cluster::{
    AdminState, Applied, Change, ClusterState, Command, PoolEpochs, PoolSpec, PoolState, Refusal,
    StoreState, Verdict,
};
use crate::dispatch::view::View;
use crate::ids::{BaseUrl, KetamaName, PlanId, PoolName, ShardId, Weight, Zone};
use crate::time::rfc3339;

/// Pools and shards as agreed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RingDocument {
    /// Counts every change of the agreed state.
    pub revision: u64,
    /// The pools.
    pub pools: Vec<RingPool>,
    /// What is staged, in order.
    pub staged: Vec<Change>,
}

/// One pool as agreed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RingPool {
    /// Its name.
    pub name: PoolName,
    /// The epoch of its ring.
    pub epoch: u64,
    /// The epoch below which no node holds a lease.
    pub barrier: u64,
    /// The digest of its ring.
    pub digest: String,
    /// What concerns it as a whole.
    pub spec: PoolSpec,
    /// Whether there is something to lose, in a pool that keeps data.
    #[serde(default)]
    pub filled: bool,
    /// Its shards.
    pub shards: Vec<RingShard>,
}

/// One shard as agreed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RingShard {
    /// Its id.
    pub id: ShardId,
    /// Where it is.
    pub url: BaseUrl,
    /// Its failure domain.
    pub zone: Zone,
    /// Its weight.
    pub weight: Weight,
    /// The name by which nginx knows it, if it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ketama_name: Option<KetamaName>,
    /// What the operator set.
    pub state: AdminState,
    /// What the group holds against it.
    pub verdict: Verdict,
    /// Its share of the circle; of a balanced pool, of all copies.
    pub share: String,
    /// The store that has its data, of a pool that keeps data.
    #[serde(default, skip_serializing_if = "StoreState::is_default")]
    pub store: StoreState,
}

/// What was done, and what it changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changed {
    /// In a sentence.
    pub done: String,
    /// Where the agreed state stood afterwards.
    pub revision: u64,
    /// The pools that were touched, with their epochs before and after.
    pub pools: Vec<PoolEpochs>,
    /// What was done at once, as a plan; absent when something was staged, applied or dropped.
    pub plan: Option<PlanDocument>,
}

/// Changes of the ring.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangesAsked {
    /// In the order in which they are to be made.
    pub changes: Vec<Change>,
    /// Make them at once, and leave what is staged.
    #[serde(default)]
    pub now: bool,
}

/// A plan to be applied.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyAsked {
    /// The id under which it was shown.
    pub plan: PlanId,
}

/// `GET /v1/ring`.
pub(super) fn show(api: &Api, query: &Query) -> Result<Response, Problem> {
    let state = api.state();
    let wanted = query.get("pool");
    if let Some(name) = wanted
        && !state.pools().keys().any(|pool| pool.as_str() == name)
    {
        return Err(Problem::new(404, "no-pool", format!("there is no pool `{name}`")));
    }
    let view = (api.served)().view;
    let pools = state.pools().iter().filter(|(name, _)| wanted.is_none_or(|w| w == name.as_str()));
    let document = RingDocument {
        revision: state.revision().0,
        pools: pools.map(|(name, pool)| ring_pool(&state, &view, name, pool)).collect(),
        staged: state.staged().to_vec(),
    };
    Ok(json(200, &document))
}

fn ring_pool(state: &ClusterState, view: &View, name: &PoolName, pool: &PoolState) -> RingPool {
    // The ring that is served is at hand; one that is agreed and not served yet has to be built.
    let served = view.pool(name).filter(|served| served.agreed.epoch == pool.epoch);
    let built;
    let ring = match served {
        Some(served) => Some(&*served.agreed.ring),
        None => {
            built = state.ring_at(name, pool.epoch).ok();
            built.as_ref()
        }
    };
    let table = pool.slots().and_then(|slots| slots.table());
    let shares: BTreeMap<&ShardId, String> = match (table, ring) {
        (Some(table), _) => table.shares().map(|(id, _, held)| (id, held.to_string())).collect(),
        (None, None) => BTreeMap::new(),
        (None, Some(ring)) => {
            let shares = ring.shares().shards;
            let named = ring.members().iter().zip(shares);
            named.map(|(member, share)| (&member.id, share.primary.to_string())).collect()
        }
    };
    let shards = pool.shards.iter().map(|(id, shard)| RingShard {
        id: id.clone(),
        url: shard.url.clone(),
        zone: shard.zone.clone(),
        weight: shard.weight,
        ketama_name: shard.ketama_name.clone(),
        state: shard.state,
        verdict: pool.verdict(id),
        share: shares.get(id).cloned().unwrap_or_default(),
        store: pool.store(id),
    });
    RingPool {
        name: name.clone(),
        epoch: pool.epoch.0,
        barrier: pool.barrier.0,
        digest: match (served, ring) {
            (Some(served), _) => short(&served.agreed.digest),
            (None, ring) => ring.map(|ring| short(&ring.digest())).unwrap_or_default(),
        },
        spec: pool.spec.clone(),
        filled: pool.filled,
        shards: shards.collect(),
    }
}

/// `GET /v1/ring/plan`.
pub(super) async fn plan(api: &Api) -> Result<Response, Problem> {
    let state = match &api.control {
        Control::Standalone(_) => api.state(),
        Control::Cluster(member) => member.newest().await?,
    };
    let plan = state.plan().map_err(|refusal| refused(&refusal))?;
    Ok(json(200, &PlanDocument::of(&plan)))
}

/// `POST /v1/ring/changes`.
pub(super) async fn stage(api: &Api, caller: &Caller, body: &[u8]) -> Result<Response, Problem> {
    let member = match &api.control {
        Control::Cluster(member) => member,
        Control::Standalone(wishes) => {
            let Ok(ChangesAsked { changes, now }) = document(body) else {
                return Err(standalone());
            };
            let done = format!("{} done", changes_counted(changes.len()));
            change_alone(wishes.as_ref(), changes, now).await?;
            let (revision, pools) = (api.state().revision().0, Vec::new());
            return Ok(json(200, &Changed { done, revision, pools, plan: None }));
        }
    };
    let ChangesAsked { changes, now } = document(body)?;
    if changes.is_empty() {
        return Err(Problem::new(409, "refused", "no change is asked for"));
    }
    let count = changes.len();
    let (plan, command) = match now {
        true => {
            let state = member.newest().await?;
            let plan = state.plan_of(&changes).map_err(|refusal| refused(&refusal))?;
            (Some(PlanDocument::of(&plan)), Command::ChangeNow { changes })
        }
        false => (None, Command::Stage { changes }),
    };
    let applied = member.change(&caller.actor, command, &api.published).await?;
    let done = match now {
        true => format!("{} done", changes_counted(count)),
        false => format!("{} staged: look with `ringway ring plan`", changes_counted(count)),
    };
    Ok(changed(done, applied, plan))
}

fn changes_counted(count: usize) -> String {
    match count {
        1 => "1 change".to_owned(),
        more => format!("{more} changes"),
    }
}

/// `DELETE /v1/ring/changes`.
pub(super) async fn unstage(api: &Api, caller: &Caller) -> Result<Response, Problem> {
    let member = api.control.member()?;
    let applied = member.change(&caller.actor, Command::Unstage, &api.published).await?;
    Ok(changed("nothing is staged any more".to_owned(), applied, None))
}

/// `POST /v1/ring/apply`.
pub(super) async fn apply(api: &Api, caller: &Caller, body: &[u8]) -> Result<Response, Problem> {
    let member = api.control.member()?;
    let ApplyAsked { plan } = document(body)?;
    let command = Command::ApplyPlan { plan };
    let applied = member.change(&caller.actor, command, &api.published).await?;
    Ok(changed(format!("plan {plan} is applied"), applied, None))
}

fn changed(done: String, applied: Applied, plan: Option<PlanDocument>) -> Response {
    let (revision, pools) = (applied.revision.0, applied.pools);
    json(200, &Changed { done, revision, pools, plan })
}

fn refused(refusal: &Refusal) -> Problem {
    Problem::new(409, "refused", refusal.to_string())
}

/// Who changed what, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryDocument {
    /// The newest last.
    pub records: Vec<HistoryRecord>,
}

/// One change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// Where the agreed state stood afterwards.
    pub revision: u64,
    /// When, by the clock of the node that proposed it.
    pub at: String,
    /// Who.
    pub actor: String,
    /// What.
    pub what: String,
    /// The epochs that moved.
    pub epochs: Vec<PoolEpochs>,
}

/// How many records are told unless the query says.
const RECORDS: usize = 100;

/// `GET /v1/ring/history`.
pub(super) fn history(api: &Api, query: &Query) -> Result<Response, Problem> {
    let last =
        query.number("last")?.map_or(RECORDS, |last| usize::try_from(last).unwrap_or(usize::MAX));
    let records = api.state().history();
    let first = records.len().saturating_sub(last);
    let records = records[first..].iter().map(|record| HistoryRecord {
        revision: record.revision.0,
        at: rfc3339(record.at_ms),
        actor: record.actor.to_string(),
        what: record.summary.clone(),
        epochs: record.epochs.clone(),
    });
    Ok(json(200, &HistoryDocument { records: records.collect() }))
}
