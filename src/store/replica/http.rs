//! What does a node ask of this shard, and who answers it?

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Response};
use hyper::body::Incoming as RequestBody;

use crate::ids::{ClusterId, PoolName};
use crate::protocol::holding::Effect;
use crate::protocol::replica::{Bound, Op, PoolEpoch, Refusal, State, Target, words};
use crate::store::body::Body;
use crate::store::engine::Store;
use crate::store::http::{Answer, json};
use crate::store::problem::Problem;
use crate::store::replica::fields::{Ask, binding, check_store, problem, required};
use crate::store::replica::write::{KeptAction, KeptWrite};
use crate::store::replica::{pages, values};

/// Answers a request whose path goes on with `rest` after the protocol's prefix.
pub(in crate::store) async fn answer(
    store: &Arc<Store>,
    parts: &Parts,
    rest: &str,
    body: &mut RequestBody,
) -> Answer {
    let target = Target::parse(rest).ok_or_else(|| {
        let detail = "Nodes ask for /_ringway/replica/POOL/ and one of their operations.";
        Problem::new(http::StatusCode::NOT_FOUND, "no-such-page", "There is no such page", detail)
    })?;
    let answer = route(store, parts, target, body).await;
    store.metrics().replica.answered(target.op, &parts.method, &answer);
    answer
}

async fn route(
    store: &Arc<Store>,
    parts: &Parts,
    target: Target<'_>,
    body: &mut RequestBody,
) -> Answer {
    let allowed = match target.op {
        Op::Stage => "PUT, DELETE",
        Op::Commit | Op::Damaged | Op::Watermark | Op::Bind => "POST",
        Op::Value => "GET, HEAD, PUT, DELETE",
        _ => "GET",
    };
    if !allowed.split(", ").any(|method| parts.method == method) {
        return Err(Problem::method_not_allowed(allowed));
    }
    match target.op {
        Op::State => return state(store, parts, target.pool),
        Op::Bind => return bind(store, parts, target.pool).await,
        _ => {}
    }
    let ask = Ask::admit(store, parts, target).await?;
    match (target.op, &parts.method) {
        (Op::Stage, &Method::DELETE) => values::abort(&ask),
        (Op::Stage, _) => values::stage(&ask, body).await,
        (Op::Commit, _) => values::commit(&ask).await,
        (Op::Value, &Method::PUT) => values::put(&ask, body).await,
        (Op::Value, &Method::DELETE) => values::delete(&ask).await,
        (Op::Value, _) => values::get(&ask).await,
        (Op::Damaged, _) => values::lost(&ask).await,
        (Op::Watermark, _) => pages::collect(&ask, body).await,
        (Op::Keys, _) => pages::keys(&ask).await,
        (Op::List, _) => pages::list(&ask).await,
        (Op::Tombstones, _) => pages::tombstones(&ask).await,
        (Op::Digests, _) => pages::digests(&ask).await,
        (Op::Watermarks, _) => pages::watermarks(&ask).await,
        (Op::State | Op::Bind, _) => unreachable!("answered before"),
    }
}

/// Refuses nodes on a port where nobody can know them.
pub(in crate::store) fn insecure() -> Problem {
    let detail = "This store listens beyond loopback and does not ask who connects; nothing was \
                  done. Start it with --tls-cert, --tls-key and --client-ca, or with --insecure if \
                  nobody else can reach it.";
    Problem::refusal(Refusal::Insecure, "Nodes cannot be told from others here", detail)
}

fn state(store: &Arc<Store>, parts: &Parts, pool: &str) -> Answer {
    check_store(store, &parts.headers, false)?;
    required::<ClusterId>(&parts.headers, words::CLUSTER)?;
    let view = store.view();
    let pool = view.pool(pool).map(|pool| {
        let facts = pool.facts();
        Bound {
            cluster: facts.cluster,
            shard: facts.shard.clone(),
            birth: facts.birth,
            epoch: facts.epoch,
            values: facts.values,
            bytes: facts.bytes,
            tombstones: facts.tombstones,
            damaged: view.damaged(pool).unwrap_or_default(),
            stages: store.stages().len() as u64,
        }
    });
    let state = State {
        store: store.id(),
        now_ms: (store.options().clock)(),
        fenced: store.fenced().map(str::to_owned),
        full: !store.has_room(),
        pool,
    };
    Ok(json(http::StatusCode::OK, &state))
}

async fn bind(store: &Arc<Store>, parts: &Parts, pool: &str) -> Answer {
    check_store(store, &parts.headers, false)?;
    let (cluster, birth, shard) = binding(&parts.headers)?;
    let pool =
        PoolName::new(pool).map_err(|error| Problem::bad_request("pool", format!("{error}.")))?;
    let (action, epoch) = (KeptAction::Bind(shard), PoolEpoch::default());
    let write = KeptWrite { pool, cluster, birth, epoch, action, cost_bytes: 0 };
    store.write_kept(write).await.map_err(problem)?;
    Ok(Response::new(Body::empty()))
}

/// What a write has come to, as a field's value.
pub(super) fn effect_field(effect: Effect) -> HeaderValue {
    HeaderValue::from_static(match effect {
        Effect::Applied => words::YES,
        Effect::Superseded => words::NO,
        Effect::Forgotten => words::FORGOTTEN,
    })
}
