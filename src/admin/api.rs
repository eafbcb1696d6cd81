//! What may the operator ask?
//!
//! [`routes`](super::routes) lists every request; each noun has a module that answers it. Reading
//! needs no token, since the listener is on loopback unless its operator decides otherwise, and
//! tells nothing but names, numbers and addresses. A change needs it, and is signed in the history
//! with the node's name and the name that the asker gives in `Ringway-Actor`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use hyper::body::Body;
use tokio::sync::{mpsc, watch};

use super::actions::act;
pub use super::actions::{Action, ActionRequest};
use super::asked::{Query, read_body};
use super::control::{Control, actor};
use super::http::{Handler, Problem, Request, Response, json, problem, text};
use super::locate::Routed;
use super::nodes::{ClusterStatus, Here, cluster_status};
use super::routes::{Found, Route, Verb, find, list};
use super::status::{Status, of_pool, short};
use super::token::Token;
use super::warnings::warnings;
use super::{cluster, copies, locate, openapi, repair, ring};
use crate::background::heal::Orders;
use crate::cluster::ClusterState;
use crate::dispatch::view::{Pool, View};
use crate::ids::{Digest, NodeName, Revision};
use crate::route::RequestView;

/// What the node serves at one moment.
pub struct Served {
    /// Pools and shards.
    pub view: Arc<View>,
    /// The digest of the node's routes.
    pub routes: Digest,
}

/// Finds pool and key of a request by the node's routes, or says why there is none.
pub type RouteKey = Box<dyn Fn(&RequestView<'_>) -> Result<Routed, String> + Send + Sync>;

/// What the admin listener knows.
pub struct Api {
    /// The node's name.
    pub node: NodeName,
    /// When the process started; the workers' clock begins there.
    pub started: Instant,
    /// Says what is served now.
    pub served: Box<dyn Fn() -> Served + Send + Sync>,
    /// Says what the routes make of a request.
    pub routed: RouteKey,
    /// What is agreed, as it moves.
    pub agreed: watch::Receiver<Arc<ClusterState>>,
    /// The revision that is served, as it moves.
    pub published: watch::Receiver<Revision>,
    /// Who decides.
    pub control: Control,
    /// Whether clients are welcome.
    pub ready: Arc<AtomicBool>,
    /// Why the last reload was refused.
    pub reload_error: Arc<std::sync::Mutex<Option<String>>>,
    /// Who may change something.
    pub token: Token,
    /// Where actions go.
    pub actions: mpsc::Sender<ActionRequest>,
    /// Where replicas are compared and healed.
    pub heal: Orders,
}

/// Who asked, and about what.
pub(super) struct Caller {
    /// For the history.
    pub actor: String,
    /// What stands in the path's `{…}`; empty if there is none.
    pub id: String,
}

impl Api {
    /// What is agreed now.
    #[must_use]
    pub fn state(&self) -> Arc<ClusterState> {
        Arc::clone(&self.agreed.borrow())
    }

    /// How the group of nodes does; `None` without one.
    pub async fn cluster_status(&self) -> Option<ClusterStatus> {
        let Control::Cluster(member) = &self.control else { return None };
        let overview = (member.overview)().await;
        let served = (self.served)();
        let pools = served.view.pools.iter().map(|pool| &pool.agreed);
        let here = Here {
            routes_digest: served.routes.to_string(),
            epochs: pools
                .map(|pool| (pool.name.clone(), pool.epoch, pool.digest.to_string()))
                .collect(),
        };
        let group = member.group.status();
        cluster_status(&group, &self.state(), (member.lease)().into(), overview.as_ref(), &here)
    }

    /// The state of the node.
    pub async fn status(&self) -> Status {
        let cluster = self.cluster_status().await;
        let (mode, config_drift) = match &self.control {
            Control::Standalone(_) => ("standalone", Vec::new()),
            Control::Cluster(member) => ("cluster", (member.drift)()),
        };
        let (served, state) = ((self.served)(), self.state());
        let reload_error =
            self.reload_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let uptime = self.started.elapsed();
        let now_ms = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        let pool = |pool: &Arc<Pool>| {
            let state = state.pools().get(&pool.agreed.name).map(|pool| &**pool);
            let mut shown = of_pool(pool, state, now_ms);
            copies::of_pool(&mut shown, pool, &self.heal);
            shown
        };
        let mut status = Status {
            node: self.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: mode.to_owned(),
            uptime_seconds: uptime.as_secs(),
            ready: self.ready.load(Ordering::Relaxed),
            revision: served.view.topology.revision().0,
            routes_digest: short(&served.routes),
            reload_error,
            warnings: Vec::new(),
            config_drift,
            staged: state.staged().len(),
            cluster,
            pools: served.view.pools.iter().map(pool).collect(),
        };
        status.warnings = warnings(&status);
        status
    }

    /// Answers one request. What was begun with a token is brought to its end even if the asker
    /// goes away meanwhile: half a founding is no state that a node can be in.
    pub async fn respond<B>(self: &Arc<Self>, request: hyper::Request<B>) -> Response
    where
        B: Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let (route, captured) = match find(head.method.as_str(), head.uri.path()) {
            Found::Route(route, captured) => (route, captured),
            Found::OtherMethod(methods) => return method_not_allowed(&methods),
            Found::Nothing => {
                return problem(404, "not-found", &format!("here are {}", list()));
            }
        };
        // Before the body is read: nobody else may have us hold one.
        if route.token && !self.may_change(&head.headers) {
            return no_token();
        }
        let asked = async {
            let query = Query::read(head.uri.query(), route.parameters)?;
            Ok((query, read_body(body).await?))
        };
        let caller = Caller {
            actor: actor(&self.node, head.headers.get("Ringway-Actor")),
            id: captured.unwrap_or_default().to_owned(),
        };
        let answered = async {
            let (query, body) = asked.await?;
            if !route.token {
                return self.answer_to(route, &caller, &query, &body).await;
            }
            let api = Arc::clone(self);
            let done =
                tokio::spawn(async move { api.answer_to(route, &caller, &query, &body).await });
            let broken = |_| Problem::new(500, "broken", "the node's log says what went wrong");
            done.await.map_err(broken)?
        };
        answered.await.unwrap_or_else(|refused: Problem| refused.answer())
    }

    async fn answer_to(
        &self,
        route: &Route,
        caller: &Caller,
        query: &Query,
        body: &[u8],
    ) -> Result<Response, Problem> {
        let id = || caller.id.clone();
        match route.verb {
            Verb::Status => Ok(json(200, &self.status().await)),
            Verb::Locate => locate::answer(self, query).await,
            Verb::Ring => ring::show(self, query),
            Verb::Plan => ring::plan(self).await,
            Verb::History => ring::history(self, query),
            Verb::Stage => ring::stage(self, caller, body).await,
            Verb::Unstage => ring::unstage(self, caller).await,
            Verb::Apply => ring::apply(self, caller, body).await,
            Verb::Cluster => cluster::show(self).await,
            Verb::Init => cluster::init(self, caller).await,
            Verb::Join => cluster::join(self, body).await,
            Verb::RemoveNode => cluster::remove(self, caller).await,
            Verb::Transfer => cluster::transfer(self, body).await,
            Verb::Snapshot => cluster::snapshot(self).await,
            Verb::Backup => cluster::backup(self),
            Verb::OpenApi => Ok(text(200, "application/json", openapi::DOCUMENT)),
            Verb::Repair => repair::begin(self, caller, body),
            Verb::Repairs => repair::show(self, caller),
            Verb::Reload => act(&self.actions, Action::Reload).await,
            Verb::StopShard => act(&self.actions, Action::StopShard(id())).await,
            Verb::StartShard => act(&self.actions, Action::StartShard(id())).await,
        }
    }

    fn may_change(&self, head: &HeaderMap) -> bool {
        head.get("Authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|offered| self.token.is(offered))
    }
}

fn no_token() -> Response {
    let detail = "this needs `Authorization: Bearer TOKEN`, the token in `admin.token` of the \
                  node's data_dir";
    let mut refused = problem(401, "no-token", detail);
    refused.headers_mut().insert("WWW-Authenticate", HeaderValue::from_static("Bearer"));
    refused
}

fn method_not_allowed(methods: &[&str]) -> Response {
    let methods = methods.join(", ");
    let detail = format!("this path is answered to {methods}");
    let mut refused = problem(405, "method-not-allowed", &detail);
    let allow = HeaderValue::from_str(&methods).expect("methods are visible ASCII");
    refused.headers_mut().insert("Allow", allow);
    refused
}

impl Handler for Api {
    async fn answer(self: Arc<Self>, request: Request) -> Response {
        self.respond(request).await
    }
}
