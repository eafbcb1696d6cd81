//! What may the operator ask?
//!
//! | request | answer | token |
//! |---|---|---|
//! | `GET /v1/status` | [`Status`] | no |
//! | `GET /v1/locate?pool=NAME&key=KEY` | where a key lives, and why | no |
//! | `POST /v1/reload` | the file is read again, as on SIGHUP | yes |
//! | `POST /v1/dev/shards/ID/stop` and `…/start` | an embedded store of `ringway dev` ends or begins | yes |
//!
//! Reading needs no token, since the listener is on loopback unless its operator decides
//! otherwise, and tells nothing but names, numbers and addresses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::http::{Handler, Request, Response, json, problem};
use super::status::{Status, of_pool, short};
use super::token::Token;
use crate::dispatch::view::View;
use crate::ids::{Digest, NodeName, PoolName};
use crate::key::canonical_path;

/// Something that the process itself has to do; the answer is a sentence for the operator.
#[derive(Debug)]
pub enum Action {
    /// Read the file again.
    Reload,
    /// End an embedded store of `ringway dev`.
    StopShard(String),
    /// Begin it again.
    StartShard(String),
}

/// An action on its way to whoever carries it out.
pub type ActionRequest = (Action, oneshot::Sender<Result<String, String>>);

/// What the node serves at one moment.
pub struct Served {
    /// Pools and shards.
    pub view: Arc<View>,
    /// The digest of the node's routes.
    pub routes: Digest,
}

/// What the admin listener knows.
pub struct Api {
    /// The node's name.
    pub node: NodeName,
    /// When the process started.
    pub started: Instant,
    /// Says what is served now.
    pub served: Box<dyn Fn() -> Served + Send + Sync>,
    /// Whether clients are welcome.
    pub ready: Arc<AtomicBool>,
    /// Why the last reload was refused.
    pub reload_error: Arc<std::sync::Mutex<Option<String>>>,
    /// Who may change something.
    pub token: Token,
    /// Where actions go.
    pub actions: mpsc::Sender<ActionRequest>,
}

impl Api {
    /// The state of the node.
    #[must_use]
    pub fn status(&self) -> Status {
        let served = (self.served)();
        let reload_error =
            self.reload_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Status {
            node: self.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: "standalone".to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            ready: self.ready.load(Ordering::Relaxed),
            revision: served.view.topology.revision().0,
            routes_digest: short(&served.routes),
            reload_error,
            pools: served.view.pools.iter().map(|pool| of_pool(pool)).collect(),
        }
    }

    fn locate(&self, query: &str) -> Response {
        let parameter = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let (Some(pool), Some(key)) = (parameter("pool"), parameter("key")) else {
            return problem(400, "bad-query", "ask with ?pool=NAME&key=KEY, the key as in a URL");
        };
        let Served { view, .. } = (self.served)();
        let Some(pool) = PoolName::new(pool)
            .ok()
            .and_then(|name| view.pools.iter().find(|pool| pool.agreed.name == name))
        else {
            return problem(404, "no-pool", &format!("there is no pool `{pool}`"));
        };
        // A key that begins with `/` is a path; `%2F` as a query would have it is one too.
        let key = key.replacen("%2F", "/", usize::from(key.starts_with("%2F")));
        let canonical = match key.starts_with('/') {
            true => canonical_path(key.as_bytes()),
            false => crate::key::canonical_component(key.as_bytes()),
        };
        match canonical {
            Err(error) => problem(400, "bad-key", &error.to_string()),
            Ok(key) => {
                #[derive(Serialize)]
                struct Located {
                    pool: String,
                    epoch: u64,
                    key: String,
                    explanation: String,
                }
                let explanation = pool.agreed.ring.explain(&key, NEXT_SHARDS).to_string();
                json(
                    200,
                    &Located {
                        pool: pool.agreed.name.to_string(),
                        epoch: pool.agreed.epoch.0,
                        key: String::from_utf8_lossy(&key).into_owned(),
                        explanation,
                    },
                )
            }
        }
    }

    fn may_change(&self, request: &Request) -> bool {
        request
            .headers()
            .get("Authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|offered| self.token.is(offered))
    }

    async fn act(&self, action: Action) -> Response {
        let (answer, answered) = oneshot::channel();
        if self.actions.send((action, answer)).await.is_err() {
            return problem(503, "ending", "the process is ending");
        }
        match answered.await {
            Ok(Ok(done)) => json(200, &serde_json::json!({ "done": done })),
            Ok(Err(refused)) => problem(409, "refused", &refused),
            Err(_) => problem(503, "ending", "the process is ending"),
        }
    }
}

/// How many shards beyond the replica set an explanation names.
const NEXT_SHARDS: usize = 3;

impl Handler for Api {
    async fn answer(self: Arc<Self>, request: Request) -> Response {
        let path = request.uri().path().to_owned();
        let method = request.method().as_str();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let action = match (method, parts.as_slice()) {
            ("GET", ["v1", "status"]) => return json(200, &self.status()),
            ("GET", ["v1", "locate"]) => return self.locate(request.uri().query().unwrap_or("")),
            ("POST", ["v1", "reload"]) => Action::Reload,
            ("POST", ["v1", "dev", "shards", id, "stop"]) => Action::StopShard((*id).to_owned()),
            ("POST", ["v1", "dev", "shards", id, "start"]) => Action::StartShard((*id).to_owned()),
            _ => {
                let detail = "here are GET /v1/status, GET /v1/locate?pool=&key=, POST /v1/reload";
                return problem(404, "not-found", detail);
            }
        };
        if !self.may_change(&request) {
            let detail = "a change needs `Authorization: Bearer TOKEN`, the token in \
                          `admin.token` of the node's data_dir";
            let mut refused = problem(401, "no-token", detail);
            let bearer = http::HeaderValue::from_static("Bearer");
            refused.headers_mut().insert("WWW-Authenticate", bearer);
            return refused;
        }
        self.act(action).await
    }
}
