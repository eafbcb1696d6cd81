//! How is a pool's repair begun, and how does it go?

use serde::{Deserialize, Serialize};

use super::api::{Api, Caller};
use super::asked::document;
use super::http::{Problem, Response, json};
use crate::background::heal::Pass;
use crate::ids::PoolName;

/// What may be asked of a repair.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairAsked {
    /// Only look: nothing is copied.
    #[serde(default)]
    pub dry_run: bool,
}

/// How repairs of a pool by this node went.
#[derive(Debug, Serialize, Deserialize)]
pub struct Repairs {
    /// The comparison under way, or else the last one; absent if there was none since the node
    /// started.
    pub pass: Option<Pass>,
    /// The last one that went through the whole pool and mended what differed.
    pub whole: Option<Pass>,
}

/// `POST /v1/repair/{pool}`: begins one, and does not wait for it.
pub(super) fn begin(api: &Api, caller: &Caller, body: &[u8]) -> Result<Response, Problem> {
    let RepairAsked { dry_run } = document(body)?;
    let pool = kept_pool(api, &caller.id)?;
    let begun = api.heal.repair(&pool, dry_run);
    begun.map_err(|runs| Problem::new(409, "refused", runs.to_string()))?;
    Ok(json(200, &repairs(api, &pool)))
}

/// `GET /v1/repair/{pool}`.
pub(super) fn show(api: &Api, caller: &Caller) -> Result<Response, Problem> {
    let pool = kept_pool(api, &caller.id)?;
    Ok(json(200, &repairs(api, &pool)))
}

fn repairs(api: &Api, pool: &PoolName) -> Repairs {
    Repairs { pass: api.heal.pass(pool), whole: api.heal.whole_pass(pool) }
}

fn kept_pool(api: &Api, name: &str) -> Result<PoolName, Problem> {
    let served = (api.served)();
    let named = served.view.pools.iter().find(|pool| pool.agreed.name.as_str() == name);
    match named {
        Some(pool) if pool.agreed.spec.kept.is_some() => Ok(pool.agreed.name.clone()),
        Some(_) => {
            let detail =
                format!("pool `{name}` is a cache: it has one copy, and nothing to repair");
            Err(Problem::new(404, "no-copies", detail))
        }
        None => Err(Problem::new(404, "no-pool", format!("there is no pool `{name}`"))),
    }
}
