//! What a node says of itself and of its shards, and when it is not fit to serve.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Registry;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Orders, Publisher, SharedLease, StoreSeen, Vital, facts, unix_ms};
use crate::background::heal::{HealParts, Healer, KeptPool, Served};
use crate::cluster::{Change, ClusterState, Command, Topology, changes};
use crate::config::{self, Config};
use crate::control::wishes::Wishes;
use crate::disk::hints::HintLog;
use crate::ids::{ClusterId, Generation, NodeName, PoolName, ShardId, StoreId};
use crate::limits::KeptSettings;
use crate::store::{Fsync, Metrics, Store, StoreOptions, serve};

/// Long enough for a machine that does much else; nothing waits for it that goes well.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_part_that_panics_makes_the_node_unfit_and_one_that_is_stopped_does_not() {
    let (unfit, seen) = watch::channel(None);
    let mut tasks = JoinSet::new();
    tasks.spawn(Vital::run("waiting", unfit.clone(), std::future::pending()));
    tasks.shutdown().await;
    assert_eq!(*seen.borrow(), None);
    tasks.spawn(Vital::run("thinking", unfit, async { panic!("a defect") }));
    assert!(tasks.join_next().await.expect("one").is_err());
    let why = seen.borrow().clone().expect("unfit");
    assert!(why.starts_with("thinking has ended"), "{why}");
}

fn pool() -> PoolName {
    PoolName::new("objects").expect("a name")
}

fn shard() -> ShardId {
    ShardId::new("s1").expect("a name")
}

/// A store on a port of its own, which answers until the test ends.
async fn store(folder: &TempDir) -> std::net::SocketAddr {
    let metrics = Metrics::register(&Registry::new(), "test").expect("a fresh registry");
    let mut options = StoreOptions::new(folder.path().to_owned(), metrics, unix_ms);
    options.reserve_bytes = 1024 * 1024;
    options.fsync = Fsync::Never;
    let store = Arc::new(Store::open(options).expect("the folder can be opened"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("a bound socket");
    tokio::spawn(serve(listener, store, std::future::pending()));
    address
}

/// What is agreed of a pool with one shard, step by step.
struct Agreed {
    config: Config,
    state: ClusterState,
}

impl Agreed {
    fn give(&mut self, command: Command) {
        let command = self.state.planned(command);
        self.state.apply_command(&command).expect("it may be");
    }

    fn bind(&mut self, store: StoreId) {
        self.give(Command::BindStore { pool: pool(), shard: shard(), store });
    }

    fn topology(&self) -> Arc<Topology> {
        Arc::new(Topology::build(&self.state, None).expect("rings"))
    }

    /// The shards that a node tells as foreign that serves what is agreed.
    fn foreign(&self, seen: &Orders) -> Vec<ShardId> {
        let (name, topology) = (NodeName::new("n1").expect("a name"), self.topology());
        let (control, origin) = (Handle::current(), Instant::now());
        let publisher = Publisher::start(self.config.clone(), name, &topology, &control, origin);
        let publisher = publisher.expect("a good file");
        let facts = facts(&publisher, &SharedLease::new(1, 60_000), Some(seen));
        facts.views.into_iter().flat_map(|view| view.foreign).collect()
    }
}

/// What a node has seen of a shard's store is a few seconds old. A shard whose store was replaced was told
/// as foreign on the word of what had answered for the former one: its verdict came back as soon as it had
/// gone, and the shard was out for some ten seconds more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_seen_of_a_shard_is_not_held_against_its_next_store() {
    let (of_store, of_node) =
        (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let address = store(&of_store).await;
    let text = format!(
        "node: {{ name: n1, data_dir: {} }}\nlisten: {{ data: \"127.0.0.1:0\" }}\npools:\n  - name: \
         objects\n    kind: replicated\n    replicas: 1\n    health: {{ active: off }}\n    shards:\n      \
         - {{ id: s1, url: \"http://{address}\" }}\nroutes:\n  - {{ name: all, pool: objects }}\n",
        of_node.path().join("node").display()
    );
    let config = config::parse(&text, "ringway.yaml").expect("a good file").config;
    let mut agreed = Agreed { state: ClusterState::default(), config };
    for command in changes(&agreed.state.clone(), &agreed.config.desired()) {
        agreed.give(command);
    }
    let former = StoreId([1; 16]);
    agreed.bind(former);

    // The healer goes by what was agreed then, as does one that has not looked since.
    let then = agreed.topology();
    let hints = HintLog::open(of_node.path(), 100).expect("an empty folder");
    let (wishes, _asked) = Wishes::new();
    let healer = Healer::start(HealParts {
        served: Box::new(move || Served {
            cluster: ClusterId([7; 16]),
            generation: Generation(1),
            alone: false,
            is_current: true,
            place: (0, 1),
            pools: vec![KeptPool {
                agreed: Arc::clone(then.pool(&pool()).expect("it is there")),
                settings: KeptSettings { repair_interval: None, ..KeptSettings::default() },
                tls: Arc::default(),
                connect: Duration::from_secs(5),
                has_lease: true,
            }],
        }),
        wishes,
        hints: hints.sink(),
        folder: of_node.path().to_owned(),
        unix_ms,
        origin: Instant::now(),
        seed: 7,
    });
    let healer = healer.expect("a thread");
    let seen = healer.orders();
    let begun = Instant::now();
    let other = loop {
        match seen.seen(&pool(), &shard()) {
            StoreSeen::Foreign(other) => break other,
            StoreSeen::Own => assert!(begun.elapsed() < PATIENCE, "nobody looks"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(agreed.foreign(&seen), [shard()], "it is, by what is agreed");

    let replace = Change::ReplaceShard { pool: pool(), shard: shard(), url: None, lose: true };
    agreed.give(Command::ChangeNow { changes: vec![replace] });
    assert!(agreed.foreign(&seen).is_empty(), "it has no store that another could stand in for");
    let mut bound_to_it = Agreed { state: agreed.state.clone(), config: agreed.config.clone() };
    bound_to_it.bind(other);
    assert!(bound_to_it.foreign(&seen).is_empty(), "what answers there is its own now");
    agreed.bind(StoreId([2; 16]));
    assert_eq!(agreed.foreign(&seen), [shard()], "neither the former one nor its own answers");
    assert_eq!(seen.seen(&pool(), &shard()), StoreSeen::Foreign(other), "nobody has looked since");
    healer.stop().await;
}
