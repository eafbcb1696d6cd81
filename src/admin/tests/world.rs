//! A node's admin listener with everything behind it but sockets: a real group of one, on real
//! files, and a view that follows what is agreed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use crate::admin::api::{ActionRequest, Api, Served};
use crate::admin::control::{Control, Member, Seed};
use crate::admin::locate::routed;
use crate::admin::token::Token;
use crate::background::heal::{HealParts, Healer, KeptPool, Served as Healed};
use crate::cluster::{
    AdminState, Change, ClusterState, Command, KeptSpec, Kind, Mode, Placement, PoolSpec, Settings,
    ShardSpec, Topology,
};
use crate::control::group::{Call, Calling, Group, GroupOptions, Storage, Timing, Unanswered};
use crate::control::steward::{LeaseStatus, NodeReport, Overview};
use crate::control::wishes::Wishes;
use crate::disk::hints::HintLog;
use crate::dispatch::view::View;
use crate::ids::{
    BaseUrl, ClusterId, Generation, NodeName, PeerAddress, PoolName, Revision, RouteName, ShardId,
    Term, Weight, Zone,
};
use crate::net::peer::{Introduction, PeerRequest};
use crate::route::{KeyRule, Methods, RequestView, RouteMatch, RouteSpec, RouteTable};

/// The groups of a test, by address: messages between them are calls.
pub type Mesh = Arc<Mutex<BTreeMap<String, Group>>>;

/// One node's way to the others.
struct Wire {
    mesh: Mesh,
    introduction: Arc<Mutex<Introduction>>,
}

impl Call for Wire {
    fn call<'a>(
        &'a self,
        to: &'a PeerAddress,
        path: &'static str,
        body: Bytes,
        within: Duration,
    ) -> Calling<'a> {
        let group = self.mesh.lock().expect("no panic").get(&to.to_string()).cloned();
        let introduction = *self.introduction.lock().expect("no panic");
        Box::pin(async move {
            let unanswered = |why: String| Unanswered { why, unsent: false };
            let group = group.ok_or_else(|| unanswered(format!("{to} is not there")))?;
            let from = SocketAddr::from(([127, 0, 0, 1], 1));
            let path = path.to_owned();
            let request = PeerRequest { path, body, introduction, certificate: None, from };
            let answered = tokio::time::timeout(within, group.handle(request)).await;
            answered.map_err(|_| unanswered(format!("{to} did not answer in time")))
        })
    }

    fn lane(&self) -> Arc<dyn Call> {
        Arc::new(Self {
            mesh: Arc::clone(&self.mesh),
            introduction: Arc::clone(&self.introduction),
        })
    }

    fn introduce(&self, introduction: Introduction) {
        *self.introduction.lock().expect("no panic") = introduction;
    }
}

/// 21 November 2026.
pub const WALL_MS: u64 = 1_795_239_120_125;

/// The token of all these nodes.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// One node.
pub struct World {
    pub api: Arc<Api>,
    /// What the leader would tell.
    pub overview: Arc<Mutex<Option<Overview>>>,
    /// How the lease stands.
    pub lease: Arc<Mutex<LeaseStatus>>,
    /// What the file has otherwise.
    pub drift: Arc<Mutex<Vec<String>>>,
    group: Option<Group>,
    _healing: (Healer, HintLog),
    _folder: TempDir,
}

pub fn shard(host: &str, zone: &str) -> ShardSpec {
    ShardSpec {
        url: BaseUrl::parse(&format!("http://{host}.example:8080")).expect("a URL"),
        zone: Zone::new(zone).expect("a name"),
        weight: Weight::ONE,
        state: AdminState::Ready,
        ketama_name: None,
    }
}

fn seed() -> Vec<Command> {
    let spec = PoolSpec {
        kind: Kind::Cache,
        placement: Placement::Ring,
        hash_seed: "p".to_owned(),
        vnodes: 16,
        immutable: false,
        mode: Mode::Any,
        kept: None,
    };
    let shards = [("s1", "east"), ("s2", "west")];
    let shards = shards.map(|(id, zone)| (ShardId::new(id).expect("a name"), shard(id, zone)));
    vec![Command::CreatePool { pool: pool_name(), spec, shards: shards.to_vec() }]
}

pub fn pool_name() -> PoolName {
    PoolName::new("p").expect("a name")
}

fn routes() -> RouteTable {
    RouteTable::compile(vec![RouteSpec {
        name: RouteName::new("all").expect("a name"),
        matcher: RouteMatch::default(),
        pool: pool_name(),
        key: KeyRule::Path,
        hash_tag: None,
        allowed_methods: Methods::default(),
        rate_limit: None,
    }])
    .expect("one route")
}

impl World {
    /// A node of its own, with the pool that `seed` makes.
    pub fn standalone() -> Self {
        let mut state = ClusterState::default();
        for command in seed() {
            state.apply_command(&command).expect("a good pool");
        }
        let agreed = watch::Sender::new(Arc::new(state));
        let (node, actions) = (NodeName::new("n1").expect("a name"), carrying_out());
        Self::new(node, agreed.subscribe(), None, actions, tempfile::tempdir().expect("a folder"))
    }

    /// The same, with a pool `k` that keeps data, whose stores are away.
    pub fn keeping() -> Self {
        let mut state = ClusterState::default();
        for command in seed().into_iter().chain([kept_pool()]) {
            let command = state.planned(command);
            state.apply_command(&command).expect("a good pool");
        }
        let agreed = watch::Sender::new(Arc::new(state));
        let (node, actions) = (NodeName::new("n1").expect("a name"), carrying_out());
        Self::new(node, agreed.subscribe(), None, actions, tempfile::tempdir().expect("a folder"))
    }

    /// A node with a `cluster:` section that belongs to none yet.
    pub async fn unborn(number: u16, mesh: &Mesh) -> Self {
        let address = format!("127.0.0.1:{}", 9700 + number);
        let folder = tempfile::tempdir().expect("a folder");
        let name = NodeName::new(&format!("n{number}")).expect("a name");
        let options = GroupOptions {
            data_dir: folder.path().to_owned(),
            name: name.clone(),
            address: PeerAddress::parse(&address).expect("an address"),
            timing: Timing { heartbeat_ms: 20, election_ms: (60, 120) },
            peers: Arc::new(Wire { mesh: Arc::clone(mesh), introduction: Arc::default() }),
            seed: u64::from(number),
            wall_ms: || WALL_MS,
            storage: Storage::Files,
        };
        let group = Group::open(options).await.expect("an empty folder");
        mesh.lock().expect("no panic").insert(address, group.clone());
        Self::new(name, group.changes(), Some(group), carrying_out(), folder)
    }

    /// A cluster of one node.
    pub async fn founded() -> Self {
        Self::founded_in(&Mesh::default()).await
    }

    /// The first node of a cluster that others may join.
    pub async fn founded_in(mesh: &Mesh) -> Self {
        let world = Self::unborn(1, mesh).await;
        let (status, done) = world.ask("POST", "/v1/cluster/init", Value::Null).await;
        assert_eq!(status, 200, "{done}");
        world
    }

    fn new(
        node: NodeName,
        agreed: watch::Receiver<Arc<ClusterState>>,
        group: Option<Group>,
        actions: mpsc::Sender<ActionRequest>,
        folder: TempDir,
    ) -> Self {
        std::fs::write(folder.path().join("admin.token"), TOKEN).expect("written");
        let routes = Arc::new(routes());
        let (view, published) = follow(agreed.clone());
        let overview = Arc::new(Mutex::new(Some(Overview::default())));
        let lease = Arc::new(Mutex::new(LeaseStatus {
            remaining_ms: 9_000,
            lost_ms_ago: None,
            term: Term(1),
            trouble: None,
        }));
        let drift = Arc::new(Mutex::new(Vec::new()));
        let control = match group.clone() {
            None => Control::Standalone(None),
            Some(group) => {
                let (told, stands, differs) =
                    (Arc::clone(&overview), Arc::clone(&lease), Arc::clone(&drift));
                Control::Cluster(Box::new(Member {
                    group,
                    lease: Box::new(move || stands.lock().expect("no panic").clone()),
                    overview: Box::new(move || {
                        let told = told.lock().expect("no panic").clone();
                        Box::pin(async move { told })
                    }),
                    drift: Box::new(move || differs.lock().expect("no panic").clone()),
                    seed: Box::new(|| Seed { settings: Settings::default(), commands: seed() }),
                }))
            }
        };
        let digest = routes.digest();
        let healing = heal(&view, folder.path());
        let heal = healing.0.orders();
        let api = Api {
            node,
            started: Instant::now(),
            served: Box::new(move || Served { view: view.load_full(), routes: digest }),
            routed: Box::new(move |request: &RequestView<'_>| routed(&routes, request)),
            agreed,
            published,
            control,
            ready: Arc::new(AtomicBool::new(true)),
            reload_error: Arc::default(),
            token: Token::read(folder.path()).expect("a token"),
            actions,
            heal,
        };
        let api = Arc::new(api);
        Self { api, overview, lease, drift, group, _healing: healing, _folder: folder }
    }

    /// Asks with the token; status and document.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, bytes) = self.ask_as(method, path, body, Some(TOKEN)).await;
        let document = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        (status, document)
    }

    /// The same, with another token, for bytes.
    pub async fn ask_as(
        &self,
        method: &str,
        path: &str,
        body: Value,
        token: Option<&str>,
    ) -> (u16, Bytes) {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let mut request = http::Request::builder().method(method).uri(path);
        request = request.header("Ringway-Actor", "ada");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).expect("a good request");
        let (head, body) = self.api.respond(request).await.into_parts();
        (head.status.as_u16(), body.collect().await.expect("whole").to_bytes())
    }

    /// Stages or makes changes.
    pub async fn change(&self, changes: &[Change], now: bool) -> (u16, Value) {
        let body = serde_json::json!({ "changes": changes, "now": now });
        self.ask("POST", "/v1/ring/changes", body).await
    }

    /// What the leader would say of this node, and of its pool.
    pub fn report(&self) -> NodeReport {
        let served = (self.api.served)();
        let pools = served.view.pools.iter().map(|pool| &pool.agreed);
        NodeReport {
            node: crate::ids::NodeId(1),
            incarnation: crate::ids::Incarnation(1),
            version: "0.1.0".to_owned(),
            last_seen_ms_ago: Some(400),
            lease_remaining_ms: Some(9_600),
            epochs: pools
                .map(|pool| (pool.name.clone(), pool.epoch, pool.ring.digest().to_string()))
                .collect(),
            routes_digest: served.routes.to_string(),
            clock_offset_ms: Some(0),
            standing: "holds a lease".to_owned(),
        }
    }

    pub async fn end(self) {
        if let Some(group) = self.group {
            group.shutdown().await;
        }
    }
}

fn kept_pool() -> Command {
    let spec = PoolSpec {
        kind: Kind::Replicated,
        placement: Placement::Balanced,
        hash_seed: "k".to_owned(),
        vnodes: 16,
        immutable: false,
        mode: Mode::Any,
        kept: Some(KeptSpec {
            replicas: 2,
            consistency: Default::default(),
            tombstone_min_age_ms: 3_600_000,
            key: KeyRule::Path.canonical(None),
        }),
    };
    // Nobody listens on the port of tcpmux.
    let url = BaseUrl::parse("http://127.0.0.1:1").expect("a URL");
    let shards = ["k1", "k2"].map(|id| {
        let spec = ShardSpec { url: url.clone(), ..shard("k", "east") };
        (ShardId::new(id).expect("a name"), spec)
    });
    let pool = PoolName::new("k").expect("a name");
    Command::CreatePool { pool, spec, shards: shards.to_vec() }
}

/// The healing of what is served, with nobody who agrees on anything.
fn heal(view: &Arc<ArcSwap<View>>, folder: &Path) -> (Healer, HintLog) {
    let hints = HintLog::open(folder, 10).expect("an empty folder");
    let view = Arc::clone(view);
    let served = move || {
        let view = view.load_full();
        let pools = view.pools.iter().filter(|pool| pool.agreed.spec.kept.is_some());
        Healed {
            cluster: ClusterId([0; 16]),
            generation: Generation(0),
            alone: true,
            is_current: true,
            place: (0, 1),
            pools: pools
                .map(|pool| KeptPool {
                    agreed: Arc::clone(&pool.agreed),
                    settings: pool.settings.kept.clone(),
                    tls: Arc::clone(&pool.settings.tls),
                    connect: Duration::from_secs(1),
                    has_lease: true,
                })
                .collect(),
        }
    };
    let parts = HealParts {
        served: Box::new(served),
        wishes: Wishes::new().0,
        hints: hints.sink(),
        folder: folder.to_owned(),
        unix_ms: || WALL_MS,
        origin: Instant::now(),
        seed: 7,
    };
    (Healer::start(parts).expect("a thread"), hints)
}

/// Serves what is agreed, as it moves.
fn follow(
    mut agreed: watch::Receiver<Arc<ClusterState>>,
) -> (Arc<ArcSwap<View>>, watch::Receiver<Revision>) {
    let build = |state: &ClusterState| {
        let topology = Topology::build(state, None).expect("rings");
        View::build(Arc::new(topology), None, 1, |_| Arc::default())
    };
    let state = Arc::clone(&agreed.borrow_and_update());
    let view = Arc::new(ArcSwap::from_pointee(build(&state)));
    let published = watch::Sender::new(state.revision());
    let receiver = published.subscribe();
    let followed = Arc::clone(&view);
    tokio::spawn(async move {
        while agreed.changed().await.is_ok() {
            let state = Arc::clone(&agreed.borrow_and_update());
            followed.store(Arc::new(build(&state)));
            published.send_replace(state.revision());
        }
    });
    (view, receiver)
}

/// A process that carries out what it is told, and says what.
fn carrying_out() -> mpsc::Sender<ActionRequest> {
    let (sender, mut requests) = mpsc::channel::<ActionRequest>(1);
    tokio::spawn(async move {
        while let Some((action, answer)) = requests.recv().await {
            drop(answer.send(Ok(format!("{action:?}"))));
        }
    });
    sender
}
