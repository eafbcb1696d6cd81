//! Healing against real stores, over loopback, with an agreed state that grants every wish.

mod births;
mod damage;
mod passes;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::Registry;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};

use super::metrics::Counts;
use super::passes::{Pass, PassEnd, Passes};
use super::pool::PoolNow;
use super::world::World;
use super::{HealParts, Healer, KeptPool, Served, StoreSeen};
use crate::cluster::{
    AdminState, Change, ClusterState, Command, KeptSpec, Kind, Mode, Placement, PoolSpec,
    ShardSpec, StoreState, Topology,
};
use crate::control::wishes::{Asked, WishError, Wishes};
use crate::disk::hints::HintLog;
use crate::drivers::native::{Means, Origin};
use crate::ids::{
    BaseUrl, ClusterId, Epoch, Generation, Incarnation, NodeId, PoolName, ShardId, StoreId, Term,
    Token, Weight, Zone,
};
use crate::limits::KeptSettings;
use crate::net::buffer::Buffers;
use crate::net::timers::{TICK_MS, Timers};
use crate::net::tls::ShardTls;
use crate::net::upstream::Upstreams;
use crate::protocol::handoff::Hint;
use crate::protocol::holding::{Effect, Held};
use crate::protocol::replica::{SLOTS, Sum};
use crate::route::KeyRule;
use crate::store::{Fsync, Metrics, Store, StoreOptions, serve};
use crate::version::{Proposer, Stamp, Version};

/// Long enough for a machine that does much else; nothing waits for it that goes well.
const PATIENCE: Duration = Duration::from_secs(60);

fn unix_ms() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "stores compare versions with the true time")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn pool() -> PoolName {
    PoolName::new("objects").expect("a name")
}

fn id(shard: usize) -> ShardId {
    ShardId::new(&format!("s{}", shard + 1)).expect("a name")
}

/// A store on a port of its own, which it keeps.
struct Shard {
    folder: TempDir,
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Shard {
    async fn new() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let folder = tempfile::tempdir().expect("a folder");
        let mut shard = Self { folder, address, running: None };
        shard.start().await;
        shard
    }

    async fn start(&mut self) {
        let metrics = Metrics::register(&Registry::new(), "test").expect("a fresh registry");
        let mut options = StoreOptions::new(self.folder.path().to_owned(), metrics, unix_ms);
        options.reserve_bytes = 1024 * 1024;
        options.fsync = Fsync::Never;
        let store = Arc::new(Store::open(options).expect("the folder can be opened"));
        let begun = Instant::now();
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{}: {error}", self.address),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        self.address = listener.local_addr().expect("a bound socket");
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            serve(listener, Arc::clone(&store), async { drop(stopped.await) }).await;
            store.close().await;
        });
        self.running = Some((stop, task));
    }

    async fn stop(&mut self) {
        let (stop, task) = self.running.take().expect("it runs");
        drop(stop);
        task.await.expect("it ends in peace");
    }

    /// Its disk is another one.
    fn lose_all(&mut self) {
        assert!(self.running.is_none(), "its files are open");
        self.folder = tempfile::tempdir().expect("a folder");
    }
}

/// What is agreed, and the topology of it.
struct Agreed(Mutex<(ClusterState, Arc<Topology>)>);

impl Agreed {
    fn new(state: ClusterState) -> Arc<Self> {
        let topology = Arc::new(Topology::build(&state, None).expect("rings"));
        Arc::new(Self(Mutex::new((state, topology))))
    }

    fn change(&self, command: &Command) -> Result<(), WishError> {
        let mut both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        both.0.apply_command(command).map_err(WishError::Refused)?;
        both.1 = Arc::new(Topology::build(&both.0, None).expect("rings"));
        Ok(())
    }

    /// As the leader puts it into the log.
    fn change_planned(&self, command: Command) {
        let planned = {
            let both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            both.0.planned(command)
        };
        self.change(&planned).expect("it may be");
    }

    fn store(&self, shard: usize) -> StoreState {
        let both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        both.0.pools()[&pool()].store(&id(shard))
    }

    fn served(&self) -> Served {
        let both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let agreed = Arc::clone(both.1.pool(&pool()).expect("it is there"));
        let (settings, tls) = (KeptSettings::default(), Arc::default());
        let settings = KeptSettings { repair_interval: None, ..settings };
        let connect = Duration::from_secs(5);
        let tls: Arc<ShardTls> = tls;
        let alone = both.1.speaks_as();
        Served {
            cluster: alone.map_or(ClusterId([7; 16]), |own| own.id),
            generation: alone.map_or(Generation(1), |own| own.generation),
            alone: alone.is_some(),
            is_current: true,
            place: (0, 1),
            pools: vec![KeptPool { agreed, settings, tls, connect, has_lease: true }],
        }
    }
}

async fn grant(agreed: Arc<Agreed>, mut asked: mpsc::Receiver<Asked>) {
    while let Some((wish, answer)) = asked.recv().await {
        drop(answer.send(agreed.change(&wish.command())));
    }
}

/// Some store.
pub(super) fn store(number: u8) -> StoreId {
    StoreId([number; 16])
}

/// A pool whose shards are bound to these.
pub(super) fn pool_with(stores: &[Option<StoreId>]) -> PoolNow {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let agreed = Agreed::new(state(&vec![address; stores.len()], 1));
    for (shard, store) in stores.iter().enumerate() {
        if let Some(store) = *store {
            let bind = Command::BindStore { pool: pool(), shard: id(shard), store };
            agreed.change(&bind).expect("bound to none");
        }
    }
    let mut served = agreed.served();
    let kept = served.pools.remove(0);
    PoolNow::new(kept, &served, Vec::new())
}

/// Three stores, what is agreed about them, and a healer.
struct Three {
    shards: Vec<Shard>,
    agreed: Arc<Agreed>,
    healer: Healer,
    hints: HintLog,
    /// Asks the stores for the test.
    world: Rc<World>,
    _folder: TempDir,
    sequence: u64,
}

fn state(shards: &[SocketAddr], tombstone_min_age_ms: u64) -> ClusterState {
    let spec = PoolSpec {
        kind: Kind::Replicated,
        placement: Placement::Balanced,
        hash_seed: "objects".to_owned(),
        vnodes: 16,
        immutable: false,
        mode: Mode::Any,
        kept: Some(KeptSpec {
            replicas: u8::try_from(shards.len().min(3)).expect("three at most"),
            consistency: Default::default(),
            tombstone_min_age_ms,
            key: KeyRule::Path.canonical(None),
        }),
    };
    let shard = |(at, address): (usize, &SocketAddr)| {
        let spec = ShardSpec {
            url: BaseUrl::parse(&format!("http://{address}")).expect("a URL"),
            zone: Zone::default(),
            weight: Weight::ONE,
            state: AdminState::Ready,
            ketama_name: None,
        };
        (id(at), spec)
    };
    let shards = shards.iter().enumerate().map(shard).collect();
    let mut state = ClusterState::default();
    let create = Command::CreatePool { pool: pool(), spec, shards };
    let create = state.planned(create);
    state.apply_command(&create).expect("a good pool");
    let (term, barriers) = (Term(1), vec![(pool(), Epoch(1))]);
    state.apply_command(&Command::RaiseBarriers { term, barriers }).expect("it is there");
    state
}

impl Three {
    async fn start(tombstone_min_age_ms: u64) -> Self {
        Self::start_behind(tombstone_min_age_ms, async |_, address| address).await
    }

    /// The same; nodes reach a store where `door` says.
    async fn start_behind(
        tombstone_min_age_ms: u64,
        door: impl AsyncFn(usize, SocketAddr) -> SocketAddr,
    ) -> Self {
        Self::start_with(tombstone_min_age_ms, door, || {}).await
    }

    /// The same; the healer does something whenever it looks at what is agreed.
    async fn start_with(
        tombstone_min_age_ms: u64,
        door: impl AsyncFn(usize, SocketAddr) -> SocketAddr,
        looks: impl Fn() + Send + 'static,
    ) -> Self {
        Self::start_all(3, tombstone_min_age_ms, door, looks).await
    }

    /// The same with so many stores, and each key on three of them at most.
    async fn of(count: usize, tombstone_min_age_ms: u64) -> Self {
        Self::start_all(count, tombstone_min_age_ms, async |_, address| address, || {}).await
    }

    async fn start_all(
        count: usize,
        tombstone_min_age_ms: u64,
        door: impl AsyncFn(usize, SocketAddr) -> SocketAddr,
        looks: impl Fn() + Send + 'static,
    ) -> Self {
        let (mut shards, mut addresses) = (Vec::new(), Vec::new());
        for number in 0..count {
            let shard = Shard::new().await;
            addresses.push(door(number, shard.address).await);
            shards.push(shard);
        }
        let agreed = Agreed::new(state(&addresses, tombstone_min_age_ms));
        let folder = tempfile::tempdir().expect("a folder");
        let hints = HintLog::open(folder.path(), 1000).expect("an empty folder");
        let (wishes, asked) = Wishes::new();
        tokio::spawn(grant(Arc::clone(&agreed), asked));
        let parts = |looks: Box<dyn Fn() + Send>| {
            let agreed = Arc::clone(&agreed);
            HealParts {
                served: Box::new(move || {
                    looks();
                    agreed.served()
                }),
                wishes: wishes.clone(),
                hints: hints.sink(),
                folder: folder.path().to_owned(),
                unix_ms,
                origin: Instant::now(),
                seed: 7,
            }
        };
        let healer = Healer::start(parts(Box::new(looks))).expect("a thread");
        let means = Means {
            timers: Timers::new(Instant::now()),
            upstreams: Rc::new(Upstreams::default()),
            buffers: Buffers::new(),
        };
        let (parts, passes) = (parts(Box::new(|| {})), Arc::new(Passes::default()));
        let world = World::new(parts, means, passes, Arc::<Counts>::default());
        let ticking = Rc::clone(&world);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
                ticking.means.timers.refresh();
                ticking.means.timers.advance();
            }
        });
        let three = Self { shards, agreed, healer, hints, world, _folder: folder, sequence: 0 };
        let bound = async || (0..count).all(|shard| three.agreed.store(shard).store.is_some());
        three.until("every shard has its store", bound).await;
        // As before the first write of a client.
        three.agreed.change(&Command::MarkFilled { pool: pool() }).expect("it is there");
        three
    }

    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let begun = Instant::now();
        while !is_so().await {
            assert!(begun.elapsed() < PATIENCE, "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn pool(&self) -> Rc<PoolNow> {
        self.world.pool(&pool()).expect("it is there")
    }

    fn version(&mut self) -> Version {
        self.sequence += 1;
        let proposer = Proposer { node: NodeId(1), incarnation: Incarnation(1), worker: 0 };
        Version { stamp: Stamp(Stamp::of_ms(unix_ms()).0 + self.sequence % 1000), proposer }
    }

    /// Writes a version of a key to some shards; or deletes it, without a body.
    async fn write(&mut self, key: &str, body: Option<&[u8]>, shards: &[usize]) -> Version {
        let version = self.version();
        self.write_as(version, key, body, shards).await;
        version
    }

    async fn write_as(&self, version: Version, key: &str, body: Option<&[u8]>, shards: &[usize]) {
        let token = self.pool().agreed.ring.token(format!("/{key}").as_bytes());
        self.write_at(token, version, key, body, shards).await;
    }

    async fn write_at(
        &self,
        token: Token,
        version: Version,
        key: &str,
        body: Option<&[u8]>,
        shards: &[usize],
    ) {
        let (pool, timer) = (self.pool(), self.world.timer());
        let place = (key.as_bytes(), token);
        for shard in shards {
            let replica = pool.replica(*shard).expect("bound");
            let means = &self.world.means;
            let done = match body {
                Some(body) => {
                    let kept = b"content-type: text/plain\r\n";
                    replica.put(means, &timer, place, version, kept, Origin::default(), body).await
                }
                None => replica.delete(means, &timer, place, version).await,
            };
            assert_eq!(done.expect("a write").effect, Effect::Applied, "{key} on {shard}");
        }
    }

    fn hint(&self, key: &str, shard: usize, version: Version) {
        let token = self.pool().agreed.ring.token(format!("/{key}").as_bytes());
        let (pool, shard, key) = (pool(), id(shard), Arc::from(key.as_bytes()));
        self.hints.sink().leave(Hint { pool, shard, key, token, version });
    }

    async fn sums(&self, shard: usize) -> Option<Vec<Sum>> {
        let (pool, timer) = (self.pool(), self.world.timer());
        let replica = pool.replica(shard)?;
        replica.digests(&self.world.means, &timer, 0, SLOTS, 1).await.ok()
    }

    async fn are_alike(&self) -> bool {
        let first = self.sums(0).await;
        first.is_some() && self.sums(1).await == first && self.sums(2).await == first
    }

    async fn held(&self, key: &str) -> Vec<Option<Held>> {
        let pool = self.pool();
        let token = pool.agreed.ring.token(format!("/{key}").as_bytes());
        let mut looked = self.world.look(&pool, key, token).await;
        looked.sort_by_key(|(shard, _)| *shard);
        looked.into_iter().map(|(_, held)| held.ok()).collect()
    }

    /// A repair that was asked for, to its end.
    async fn repair(&self, dry_run: bool) -> Pass {
        let orders = self.healer.orders();
        let begun = Instant::now();
        let id = loop {
            // One that began by itself may be under way.
            match orders.repair(&pool(), dry_run) {
                Ok(id) => break id,
                Err(runs) => assert!(begun.elapsed() < PATIENCE, "{runs}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let ended = async || {
            let pass = orders.pass(&pool()).expect("it was begun");
            pass.id > id || pass.end != PassEnd::Running
        };
        self.until("the repair ends", ended).await;
        let pass = orders.pass(&pool()).expect("it was begun");
        assert_eq!(pass.id, id, "another began right behind");
        pass
    }

    async fn tombstones(&self) -> Vec<u64> {
        let (pool, timer) = (self.pool(), self.world.timer());
        let mut counts = Vec::new();
        for shard in 0..3 {
            let replica = pool.replica(shard).expect("bound");
            let state = replica.state(&self.world.means, &timer).await;
            let bound = state.ok().and_then(|state| state.pool);
            counts.push(bound.map_or(u64::MAX, |bound| bound.tombstones));
        }
        counts
    }

    async fn end(mut self) {
        self.healer.stop().await;
        for shard in &mut self.shards {
            if shard.running.is_some() {
                shard.stop().await;
            }
        }
    }
}

/// Runs a test where tasks of its own thread can be begun.
async fn locally(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_shard_that_was_away_is_brought_what_it_missed() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        for number in 0..40 {
            let body = format!("first of {number}");
            three.write(&format!("k/{number}"), Some(body.as_bytes()), &[0, 1, 2]).await;
        }
        three.shards[1].stop().await;
        for number in 0..30 {
            let (key, body) = (format!("k/{number}"), format!("second of {number}"));
            let body = (number % 3 != 0).then_some(body.as_bytes());
            let version = three.write(&key, body, &[0, 2]).await;
            three.hint(&key, 1, version);
        }
        // A write that reached nobody else is settled when nobody has it.
        let nowhere = three.version();
        three.hint("k/nowhere", 1, nowhere);
        // All know that it lags behind, before it answers again.
        three.until("it is catching up", async || three.agreed.store(1).catching_up).await;
        three.shards[1].start().await;
        three
            .until("all hints are settled", async || three.hints.sink().pending().is_empty())
            .await;
        assert!(three.are_alike().await);
        let held = three.held("k/1").await;
        assert!(matches!(held[1], Some(Held::Value(_))) && held[1] == held[0], "{held:?}");
        let deleted = three.held("k/3").await;
        assert!(matches!(deleted[1], Some(Held::Tombstone(_))), "{deleted:?}");
        three.until("it has caught up", async || !three.agreed.store(1).catching_up).await;
        let pass = three.repair(true).await;
        assert!(pass.is_whole() && pass.keys_differing == 0, "{pass:?}");
        three.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_comparison_finds_what_nobody_has_a_hint_for() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        for number in 0..20 {
            three.write(&format!("same/{number}"), Some(b"same"), &[0, 1, 2]).await;
        }
        // Older on one, missing on one, deleted on two, and a large one on a single replica.
        three.write("older", Some(b"first"), &[0, 1, 2]).await;
        three.write("older", Some(b"second"), &[0, 2]).await;
        three.write("missing", Some(b"here"), &[1, 2]).await;
        three.write("deleted", Some(b"there"), &[0, 1, 2]).await;
        three.write("deleted", None, &[0, 1]).await;
        let large: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        three.write("large", Some(&large), &[2]).await;

        let looked = three.repair(true).await;
        assert_eq!((looked.keys_differing, looked.copied), (4, 0), "{looked:?}");
        assert!(!three.are_alike().await, "a look mends nothing");
        let mended = three.repair(false).await;
        assert_eq!((mended.keys_differing, mended.copied), (4, 5), "{mended:?}");
        assert_eq!(mended.bytes, 6 + 4 + 2 * 3_000_000, "{mended:?}");
        assert!(mended.is_whole(), "{mended:?}");
        assert!(three.are_alike().await);
        assert!(matches!(three.held("deleted").await[2], Some(Held::Tombstone(_))));
        assert_eq!(three.repair(true).await.keys_differing, 0);

        // What is compared while one is away says so.
        three.shards[0].stop().await;
        let partly = three.repair(true).await;
        assert_eq!((partly.is_whole(), &partly.away[..]), (false, &["s1".to_owned()][..]));
        three.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_fresh_store_is_filled_before_it_counts() {
    locally(async {
        let mut three = Three::start(3_600_000).await;
        for number in 0..200 {
            let key = format!("k/{number}");
            three.write(&key, Some(key.as_bytes()), &[0, 1, 2]).await;
        }
        // Of what was acknowledged, the lost store may have been one of two that had it.
        three.write("on-two", Some(b"acknowledged"), &[1, 2]).await;
        three.shards[2].stop().await;
        three.shards[2].lose_all();
        three.shards[2].start().await;
        let orders = three.healer.orders();
        let foreign = || matches!(orders.seen(&pool(), &id(2)), StoreSeen::Foreign(_));
        three.until("it is seen to be another store", async || foreign()).await;
        assert!(!three.agreed.store(2).fresh, "nobody has replaced it");

        let replace = Change::ReplaceShard { pool: pool(), shard: id(2), url: None, lose: false };
        three.agreed.change_planned(Command::ChangeNow { changes: vec![replace] });
        assert!(three.agreed.store(2).fresh);
        three.until("it is filled", async || !three.agreed.store(2).fresh).await;
        assert!(three.are_alike().await);
        assert!(!three.agreed.store(2).catching_up);
        assert!(!foreign(), "it is its own now");
        three.end().await;
    })
    .await;
}

/// A pool with two replicas loses a disk. Whatever was acknowledged stands on the other one, too; yet
/// the loss could not be made good: two were to be left that know, and there never are.
#[tokio::test]
async fn of_two_replicas_one_fills_the_other() {
    locally(async {
        let mut two = Three::of(2, 3_600_000).await;
        for number in 0..50 {
            let key = format!("k/{number}");
            two.write(&key, Some(key.as_bytes()), &[0, 1]).await;
        }
        two.write("k/7", None, &[0, 1]).await;
        two.shards[1].stop().await;
        two.shards[1].lose_all();
        two.shards[1].start().await;
        let replace = Change::ReplaceShard { pool: pool(), shard: id(1), url: None, lose: false };
        two.agreed.change_planned(Command::ChangeNow { changes: vec![replace] });
        assert!(two.agreed.store(1).fresh);
        two.until("it is filled", async || !two.agreed.store(1).fresh).await;
        let sums = two.sums(0).await.expect("it answers");
        assert_eq!(two.sums(1).await.as_ref(), Some(&sums));
        assert_eq!(sums.iter().map(|sum| sum.count).sum::<u64>(), 50);
        two.end().await;
    })
    .await;
}

#[tokio::test]
async fn deleted_keys_are_forgotten_when_all_replicas_know() {
    locally(async {
        let mut three = Three::start(1).await;
        three.write("kept", Some(b"kept"), &[0, 1, 2]).await;
        three.write("everywhere", Some(b"x"), &[0, 1, 2]).await;
        let deletion = three.version();
        three.shards[2].stop().await;
        three.write_as(deletion, "everywhere", None, &[0, 1]).await;
        three.write("only-two", None, &[0, 1]).await;
        // While one is away nothing is forgotten, however old it is. Rounds come every second.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(three.tombstones().await[..2], [2, 2]);
        three.shards[2].start().await;
        let mended = three.repair(false).await;
        assert_eq!(mended.copied, 2, "{mended:?}");
        three.until("all have forgotten", async || three.tombstones().await == [0, 0, 0]).await;
        // A put that comes late is none any more.
        let late = Version { stamp: Stamp(deletion.stamp.0 - 1), ..deletion };
        let (pool, timer) = (three.pool(), three.world.timer());
        let token = pool.agreed.ring.token(b"/everywhere");
        for shard in 0..3 {
            let replica = pool.replica(shard).expect("bound");
            let place = (&b"everywhere"[..], token);
            let (means, origin) = (&three.world.means, Origin::default());
            let put = replica.put(means, &timer, place, late, b"", origin, b"late").await;
            assert_eq!(put.expect("an answer").effect, Effect::Forgotten, "deleted stays deleted");
        }
        assert!(three.are_alike().await);
        three.end().await;
    })
    .await;
}
