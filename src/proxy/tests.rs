//! What does a client see while what is agreed changes under its route?

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::metrics::ClientMetrics;
use super::serve::{Phase, WorkerParts, run_worker};
use super::site::{ForwardedFields, ForwardedRule, Published, Site, SiteParts};
use crate::cluster::{
    AdminState, ClusterState, Command, KeptSpec, Kind, Mode, Placement, PoolSpec, Settings,
    ShardSpec, TOMBSTONE_MIN_AGE_MS_DEFAULT, Topology, Verdict,
};
use crate::dispatch::view::{PoolSettings, View};
use crate::ids::{
    BaseUrl, ClusterId, NodeName, PeerAddress, PoolName, RouteName, ShardId, Term, Weight, Zone,
};
use crate::level::Level;
use crate::limits::{ClientLimits, ClientTimeouts};
use crate::protocol::health::Class;
use crate::route::{KeyRule, Methods, RouteMatch, RouteSpec, RouteTable};

fn pool_name(name: &str) -> PoolName {
    PoolName::new(name).expect("a name")
}

fn create(pool: &str, shards: usize) -> Command {
    let shard = |number: usize| {
        let url = BaseUrl::parse(&format!("http://127.0.0.1:9/s{number}")).expect("a URL");
        let spec = ShardSpec {
            url,
            zone: Zone::default(),
            weight: Weight::ONE,
            state: AdminState::Ready,
            ketama_name: None,
        };
        (ShardId::new(&format!("s{number}")).expect("a name"), spec)
    };
    Command::CreatePool {
        pool: pool_name(pool),
        spec: PoolSpec {
            kind: Kind::Cache,
            placement: Placement::Ring,
            hash_seed: pool.to_owned(),
            vnodes: 16,
            immutable: false,
            mode: Mode::Any,
            kept: None,
        },
        shards: (0..shards).map(shard).collect(),
    }
}

/// One that keeps data, and whose keys are found by `key`.
fn create_kept(pool: &str, key: &str) -> Command {
    let Command::CreatePool { pool, spec, shards } = create(pool, 3) else {
        unreachable!("it makes a pool")
    };
    let kept = KeptSpec {
        replicas: 3,
        consistency: Level::Quorum,
        tombstone_min_age_ms: TOMBSTONE_MIN_AGE_MS_DEFAULT,
        key: key.to_owned(),
    };
    let (kind, placement) = (Kind::Replicated, Placement::Balanced);
    Command::CreatePool {
        pool,
        spec: PoolSpec { kind, placement, kept: Some(kept), ..spec },
        shards,
    }
}

fn view(state: &ClusterState, previous: Option<&View>) -> Arc<View> {
    let topology = Topology::build(state, previous.map(|view| &*view.topology)).expect("rings");
    Arc::new(View::build(Arc::new(topology), previous, 1, |_| Arc::new(PoolSettings::default())))
}

/// A site whose only route leads to `pool`.
fn site(pool: &str, view: Arc<View>) -> Site {
    let route = RouteSpec {
        name: RouteName::new("all").expect("a name"),
        matcher: RouteMatch::default(),
        pool: pool_name(pool),
        key: KeyRule::Path,
        hash_tag: None,
        allowed_methods: Methods::default(),
        rate_limit: None,
    };
    let parts = SiteParts {
        routes: Arc::new(RouteTable::compile(vec![route]).expect("a table")),
        rates: None,
        limits: ClientLimits::default(),
        timeouts: ClientTimeouts::default(),
        forwarded: ForwardedRule::default(),
        forwarded_fields: ForwardedFields::default(),
        node: NodeName::new("n1").expect("a name"),
        trace_percent: 0,
        log: None,
    };
    Site::build(view, parts, None, 1)
}

fn ask(address: std::net::SocketAddr, method: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a listener");
    let request = format!(
        "{method} /key HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// A cache's client takes 404 for "not stored" and goes on; the truth is that this node cannot
/// know. So a route without its pool is 503, with a reason and a cure.
#[test]
fn a_route_whose_pool_is_not_agreed_is_answered_503_until_it_is() {
    let mut state = ClusterState::default();
    let first = site("objects", view(&state, None));
    let published: Published = Arc::new(ArcSwap::from_pointee(first));
    let (phase, phase_seen) = watch::channel(Phase::Serving);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("bound");
    let parts = WorkerParts {
        number: 0,
        epoch: Instant::now(),
        listeners: vec![(listener, Arc::default())],
        published: Arc::clone(&published),
        metrics: Arc::new(ClientMetrics::new(1)),
        log: None,
        tracer: None,
        phase: phase_seen,
        pipes_max: 1,
        kept: None,
        hints: None,
        seed: 1,
    };
    let worker = std::thread::spawn(move || run_worker(parts));
    let republish = |state: &ClusterState| {
        let site = published.load_full();
        published.store(Arc::new(site.over(view(state, Some(&site.view)))));
    };
    let expect = |kind: &str, outcome: &str| {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = ask(address, method);
            let head = answer.to_lowercase();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{method}: {answer}");
            assert!(answer.contains(&format!("urn:ringway:problem:{kind}\"")), "{answer}");
            assert!(answer.contains("\"pool\":\"objects\""), "{answer}");
            assert!(head.contains("retry-after: 1"), "{answer}");
            // A read changes nothing, so of a read that was sent somewhere nothing is said.
            assert_eq!(head.contains(outcome), method != "GET" || kind != "shard-unreachable");
        }
    };

    expect("no-topology", "ringway-outcome: not-applied");
    state.apply_command(&create("others", 1)).expect("a pool");
    republish(&state);
    expect("no-pool", "ringway-outcome: not-applied");
    state.apply_command(&create("objects", 1)).expect("a pool");
    republish(&state);
    expect("shard-unreachable", "ringway-outcome: not-applied");
    let remove = || Command::RemovePool { pool: pool_name("objects") };
    state.apply_command(&remove()).expect("it was there");
    republish(&state);
    expect("no-pool", "ringway-outcome: not-applied");
    // Another pool of that name, in which keys are other bytes of a path than the route takes: it
    // would find nothing there, and say so.
    let kept = state.planned(create_kept("objects", "path_after /a"));
    state.apply_command(&kept).expect("a pool");
    republish(&state);
    expect("other-key", "ringway-outcome: not-applied");
    assert!(ask(address, "GET").contains("path_after /a"), "it names the rule that is agreed");
    let other: Vec<_> = published.load().other_keys().map(|other| other.route).collect();
    assert_eq!(other, ["all"]);
    assert_eq!(published.load().unknown_pools().count(), 0);
    state.apply_command(&remove()).expect("it was there");
    let kept = state.planned(create_kept("objects", "path"));
    state.apply_command(&kept).expect("a pool");
    republish(&state);
    assert_eq!(published.load().other_keys().count(), 0);

    phase.send_replace(Phase::Ended);
    worker.join().expect("no panic").expect("it ends");
}

#[test]
fn a_change_rebuilds_only_what_it_touches() {
    let mut state = ClusterState::default();
    state.apply_command(&create("objects", 3)).expect("a pool");
    state.apply_command(&create("others", 3)).expect("a pool");
    let before = site("objects", view(&state, None));
    let weight = |shard: &str, weight: u64| Command::SetShards {
        pool: pool_name("objects"),
        put: vec![(
            ShardId::new(shard).expect("a name"),
            ShardSpec {
                url: BaseUrl::parse(&format!("http://127.0.0.1:9/{shard}")).expect("a URL"),
                zone: Zone::default(),
                weight: Weight::try_from(weight).expect("a weight"),
                state: AdminState::Ready,
                ketama_name: None,
            },
        )],
        remove: vec![],
    };
    state.apply_command(&weight("s1", 2)).expect("a weight");
    let heavier = before.over(view(&state, Some(&before.view)));
    assert!(Arc::ptr_eq(&before.routes, &heavier.routes));
    assert!(Arc::ptr_eq(&before.route_metrics, &heavier.route_metrics));
    let pools = |site: &Site, at: usize| Arc::clone(&site.view.pools[at]);
    assert!(Arc::ptr_eq(&pools(&before, 1), &pools(&heavier, 1)), "others is untouched");
    let (old, new) = (pools(&before, 0), pools(&heavier, 0));
    assert_ne!(old.agreed.epoch, new.agreed.epoch);
    assert!(Arc::ptr_eq(&old.shards, &new.shards), "connections and counters go on");
    assert!(Arc::ptr_eq(&old.health, &new.health), "so does what is known of the shards");
    assert!(Arc::ptr_eq(&old.budget, &new.budget), "and what is in flight");

    // A fourth shard: the three others keep what is theirs.
    state.apply_command(&weight("s3", 1)).expect("a shard");
    let wider = heavier.over(view(&state, Some(&heavier.view)));
    let (old, new) = (new, pools(&wider, 0));
    assert_eq!((old.shards.len(), new.shards.len()), (3, 4));
    assert!(old.shards.iter().zip(new.shards.iter()).all(|(old, new)| Arc::ptr_eq(old, new)));
}

/// What a request looks at when it chooses a shard changes with the view, and only with it; and
/// probes and connections do not notice.
#[test]
fn a_verdict_goes_the_way_of_the_agreed_state() {
    let mut state = ClusterState::default();
    let found = Command::Found {
        cluster: ClusterId([7; 16]),
        node: NodeName::new("n1").expect("a name"),
        address: PeerAddress::parse("127.0.0.1:1").expect("an address"),
        settings: Settings::default(),
    };
    state.apply_command(&found).expect("the first");
    state.apply_command(&create("objects", 3)).expect("a pool");
    let before = site("objects", view(&state, None));
    let shard = ShardId::new("s1").expect("a name");
    let verdict = |reads_down, writes_down| Command::SetVerdicts {
        term: Term(1),
        verdicts: vec![(
            pool_name("objects"),
            shard.clone(),
            Verdict { reads_down, writes_down, foreign: false },
        )],
    };
    let health = Arc::clone(&before.view.pools[0].health);
    let known = |class| (health.usable(1, class), health.verdict(1, class));

    state.apply_command(&verdict(false, true)).expect("a verdict");
    let full = before.over(view(&state, Some(&before.view)));
    assert!(Arc::ptr_eq(&full.view.pools[0].health, &health), "probes go on");
    assert!(Arc::ptr_eq(&full.view.pools[0].shards, &before.view.pools[0].shards));
    assert_eq!((known(Class::Read), known(Class::Write)), ((true, false), (false, true)));

    state.apply_command(&verdict(false, false)).expect("a verdict");
    let _up = full.over(view(&state, Some(&full.view)));
    assert_eq!((known(Class::Read), known(Class::Write)), ((true, false), (true, false)));
    assert!(health.own_views().iter().all(|(_, down)| !down.read && !down.write));
}
