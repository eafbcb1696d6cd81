//! Where does a key live, and why?
//!
//! By the very rules that serve requests: canonical form, route, key rule, ring. A key is given
//! as it is hashed, with its pool, or as a request target that the node's routes look at.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::api::Api;
use super::asked::Query;
use super::http::{Problem, Response, json};
use crate::background::heal::Look;
use crate::cluster::{NoRing, PoolTopology};
use crate::ids::{Epoch, PoolName, RouteName, Token};
use crate::key::{canonical_component, canonical_path};
use crate::protocol::holding::Held;
use crate::ring::{Ring, Step, Verdict};
use crate::route::{RequestView, RouteTable};

/// A key, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The pool that the request goes to.
    pub pool: PoolName,
    /// The bytes that are hashed.
    pub key: Vec<u8>,
    /// The route that said so.
    pub route: RouteName,
}

/// Finds the key of a request.
///
/// # Errors
/// A sentence, when no route takes it or it has no key.
pub fn routed(routes: &RouteTable, request: &RequestView<'_>) -> Result<Routed, String> {
    let route = routes.find(request).ok_or_else(|| {
        "no route takes it: compare host, path and method with `routes`".to_owned()
    })?;
    let mut scratch = Vec::new();
    let key = routes.key_of(route, request, &mut scratch).map_err(|error| error.to_string())?;
    let spec = routes.route(route);
    Ok(Routed { pool: spec.pool.clone(), key: key.to_vec(), route: spec.name.clone() })
}

/// Where a key lives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Located {
    /// The pool.
    pub pool: String,
    /// The epoch that was asked about.
    pub epoch: u64,
    /// Whether that is the epoch in force.
    pub in_force: bool,
    /// The key as it is hashed.
    pub key: String,
    /// The route that found pool and key; absent if both were given.
    pub route: Option<String>,
    /// The shards that should hold it, the primary first.
    pub replicas: Vec<String>,
    /// Those that come next.
    pub next: Vec<String>,
    /// The way from the key to its shards, in lines.
    pub explanation: String,
    /// What each of the replicas holds, as it says itself at this moment; empty of a pool that
    /// keeps no data, and of an earlier epoch.
    pub holders: Vec<Holder>,
}

/// What one replica holds of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The shard.
    pub shard: String,
    /// `value`, `tombstone`, `nothing`, or `unknown` if it does not say.
    pub holds: String,
    /// The version of that; absent if it holds nothing.
    pub version: Option<String>,
    /// Why it is unknown.
    pub why: Option<String>,
}

impl Holder {
    fn of(look: &Look) -> Self {
        let (holds, version, why) = match &look.held {
            Ok(Held::Value(version)) => ("value", Some(version.to_string()), None),
            Ok(Held::Damaged(version)) => ("damaged", Some(version.to_string()), None),
            Ok(Held::Tombstone(version)) => ("tombstone", Some(version.to_string()), None),
            Ok(Held::Absent { .. }) => ("nothing", None, None),
            Err(why) => ("unknown", None, Some(why.clone())),
        };
        Self { shard: look.shard.to_string(), holds: holds.to_owned(), version, why }
    }
}

/// How many shards beyond the replica set are named unless the query says.
const NEXT_SHARDS: usize = 3;

/// `GET /v1/locate`.
pub(super) async fn answer(api: &Api, query: &Query) -> Result<Response, Problem> {
    let (mut located, object) = located(api, query)?;
    if let Some(Object { pool, path, token }) = object
        && let Some(looks) = api.heal.look(&pool, &path, token).await
    {
        located.holders = looks.iter().map(Holder::of).collect();
    }
    Ok(json(200, &located))
}

/// An object of a pool that keeps data, as its stores know it.
struct Object {
    pool: PoolName,
    /// The canonical path behind its first `/`.
    path: String,
    token: Token,
}

fn located(api: &Api, query: &Query) -> Result<(Located, Option<Object>), Problem> {
    let (pool, key, route, path) = match (query.get("pool"), query.get("key"), query.get("target"))
    {
        (Some(pool), Some(key), None) => {
            let key = canonical(key)?;
            (pool_name(pool)?, key.clone(), None, key)
        }
        (None, None, Some(target)) => {
            let (Routed { pool, key, route }, path) = by_route(api, query, target)?;
            (pool, key, Some(route), path)
        }
        _ => {
            let detail = "ask with ?pool=NAME&key=KEY, or with ?target=/PATH for what the routes \
                          make of it, each value percent-encoded";
            return Err(Problem::new(400, "bad-query", detail));
        }
    };
    let next = query
        .number("next")?
        .map_or(NEXT_SHARDS, |next| usize::try_from(next).unwrap_or(usize::MAX));
    let view = (api.served)().view;
    let Some(served) = view.pools.iter().find(|served| served.agreed.name == pool) else {
        return Err(Problem::new(404, "no-pool", format!("there is no pool `{pool}`")));
    };
    let current = served.agreed.epoch;
    let epoch = query.number("epoch")?.map_or(current, Epoch);
    let object = (epoch == current && served.agreed.spec.kept.is_some()).then(|| {
        let path = String::from_utf8_lossy(path.strip_prefix(b"/").unwrap_or(&path)).into_owned();
        Object { pool: pool.clone(), path, token: served.agreed.ring.token(&key) }
    });
    let explain = |ring: &Ring| ring.explain(&key, next);
    if epoch == current && served.agreed.table.is_some() {
        let route = route.map(|route| route.to_string());
        return Ok((balanced(&served.agreed, &key, next, route), object));
    }
    let explanation = match epoch == current {
        true => explain(&served.agreed.ring),
        false => {
            let unknown = |error: NoRing| Problem::new(404, "no-epoch", error.to_string());
            let state = api.state();
            if let Some((table, spec)) = state.table_at(&pool, epoch).map_err(unknown)? {
                let token = served.agreed.ring.token(&key);
                let placed = table.explain(token, &spec);
                let placed =
                    placed.map_err(|error| Problem::new(500, "no-table", error.to_string()))?;
                let shards = placed.keepers.iter().map(|keeper| keeper.shard.to_string());
                let located = Located {
                    pool: pool.to_string(),
                    epoch: epoch.0,
                    in_force: false,
                    key: String::from_utf8_lossy(&key).into_owned(),
                    route: route.map(|route| route.to_string()),
                    replicas: shards.collect(),
                    next: Vec::new(),
                    explanation: format!("token   {token}\n{placed}"),
                    holders: Vec::new(),
                };
                return Ok((located, None));
            }
            explain(&state.ring_at(&pool, epoch).map_err(unknown)?)
        }
    };
    let located = Located {
        pool: pool.to_string(),
        epoch: epoch.0,
        in_force: epoch == current,
        key: String::from_utf8_lossy(&key).into_owned(),
        route: route.map(|route| route.to_string()),
        replicas: replicas(&explanation.walk),
        next: explanation.next.iter().map(ToString::to_string).collect(),
        explanation: explanation.to_string(),
        holders: Vec::new(),
    };
    Ok((located, object))
}

/// A key of a balanced pool, whose table says who keeps it.
fn balanced(pool: &PoolTopology, key: &[u8], next: usize, route: Option<String>) -> Located {
    let set = pool.replicas(pool.ring.token(key));
    Located {
        pool: pool.name.to_string(),
        epoch: pool.epoch.0,
        in_force: true,
        key: String::from_utf8_lossy(key).into_owned(),
        route,
        replicas: set.iter().map(|at| pool.shards[usize::from(at.0)].id.to_string()).collect(),
        next: Vec::new(),
        explanation: pool.explain(key, next),
        holders: Vec::new(),
    }
}

fn pool_name(text: &str) -> Result<PoolName, Problem> {
    PoolName::new(text).map_err(|error| Problem::new(400, "bad-query", error.to_string()))
}

/// The canonical form of a key that is given as it is hashed: what begins with `/` is a path.
fn canonical(key: &str) -> Result<Vec<u8>, Problem> {
    let form = match key.starts_with('/') {
        true => canonical_path(key.as_bytes()),
        false => canonical_component(key.as_bytes()),
    };
    form.map(Cow::into_owned).map_err(|error| Problem::new(400, "bad-key", error.to_string()))
}

/// Pool and key of `GET target` (or another method), as this node's routes have it, and its path.
fn by_route(api: &Api, query: &Query, target: &str) -> Result<(Routed, Vec<u8>), Problem> {
    let (path, parameters) = match target.split_once('?') {
        Some((path, parameters)) => (path, Some(parameters.as_bytes())),
        None => (target, None),
    };
    let path = canonical_path(path.as_bytes())
        .map_err(|error| Problem::new(400, "bad-key", error.to_string()))?;
    let fields = query.all("field").map(field).collect::<Result<Vec<_>, _>>()?;
    let host = query.get("host").unwrap_or("localhost").to_ascii_lowercase();
    let request = RequestView {
        method: query.get("method").unwrap_or("GET").as_bytes(),
        host: host.as_bytes(),
        path: &path,
        query: parameters,
        fields: &fields,
    };
    let routed = (api.routed)(&request)
        .map_err(|why| Problem::new(404, "no-route", format!("{target}: {why}")))?;
    Ok((routed, path.into_owned()))
}

fn field(text: &str) -> Result<(String, Vec<u8>), Problem> {
    let (name, value) = text.split_once(':').ok_or_else(|| {
        Problem::new(400, "bad-query", format!("`{text}` is no field: write `Name: value`"))
    })?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().as_bytes().to_vec()))
}

fn replicas(walk: &[Step]) -> Vec<String> {
    let place = |step: &Step| match step.verdict {
        Verdict::Replica(place) => Some((place, step.shard.to_string())),
        Verdict::ZoneHeld(_) => None,
    };
    let mut replicas: Vec<_> = walk.iter().filter_map(place).collect();
    replicas.sort_unstable();
    replicas.into_iter().map(|(_, shard)| shard).collect()
}
