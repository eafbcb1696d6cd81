//! What does a client get, and what do the stores hold, when stores fail?
//!
//! Three stores in memory, each of which fails as a test says, and one worker with a lease.

mod lists;
mod reads;
mod store;
mod writes;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::store::FakeStore;
use super::conditions::Conditions;
use super::job::{Content, Job};
use super::{Act, KeptRequest, run};
use crate::cluster::lease::{Grant, LeaseHolder, LeaseSettings, SharedLease};
use crate::cluster::{
    AdminState, ClusterState, Command, KeptSpec, Kind, Mode, Placement, PoolSpec, ShardSpec,
    Topology,
};
use crate::control::clock::boottime_ms;
use crate::control::wishes::Wishes;
use crate::disk::hints::HintLog;
use crate::dispatch::kept_worker::{KeptParts, KeptWorker};
use crate::dispatch::outcome::{Failure, Note};
use crate::dispatch::seam::{About, Answer, Body, BodyError, ClientGone, Part};
use crate::dispatch::view::{Pool, PoolSettings, View};
use crate::dispatch::worker::Worker;
use crate::ids::{BaseUrl, Incarnation, NodeId, PoolName, ShardId, Term, Weight, Zone};
use crate::level::Level;
use crate::net::http1::framing::Framing;
use crate::net::http1::response::ResponseHead;
use crate::net::timers::TICK_MS;
use crate::protocol::health::HealthSettings;
use crate::protocol::quorum::Set;
use crate::version::{Stamp, Version};

/// The key of all tests.
const KEY: &str = "a/b";

/// Where a version stands that is older than all that a test writes.
fn old(number: u64) -> Version {
    Version { stamp: Stamp::of_ms(1_700_000_000_000 + number), ..Version::NONE }
}

#[allow(clippy::disallowed_methods, reason = "versions are stamped by the wall clock")]
fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_millis()).expect("a small number")
}

struct Bench {
    stores: Vec<FakeStore>,
    worker: Worker,
    pool: Arc<Pool>,
    lease: Arc<SharedLease>,
    hints: HintLog,
    /// What those find, one after the other, who look for a newer view; the last one stays.
    newer: Rc<RefCell<VecDeque<Arc<View>>>>,
    _folder: tempfile::TempDir,
}

/// What the client got.
#[derive(Default, Debug)]
struct Told {
    status: u16,
    fields: BTreeMap<String, String>,
    body: Vec<u8>,
    is_ended: bool,
}

impl Answer for Told {
    async fn interim(&mut self, _: &ResponseHead, _: &[u8]) -> Result<(), ClientGone> {
        unreachable!("stores send none")
    }
    fn head(&mut self, head: &ResponseHead, whole: &[u8], _: Framing, about: &About<'_>, _: bool) {
        assert_eq!(self.status, 0, "one head");
        self.status = head.status();
        for field in head.fields() {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            let name = text(field.name.of_bytes(whole)).to_ascii_lowercase();
            self.fields.insert(name, text(field.value.of_bytes(whole)));
        }
        for (name, value) in about.fields {
            self.fields.insert(name.to_ascii_lowercase(), (*value).to_owned());
        }
        self.fields.insert("shard".to_owned(), about.shard.unwrap_or_default().to_owned());
    }
    async fn flush(&mut self) -> Result<(), ClientGone> {
        Ok(())
    }
    async fn data(&mut self, bytes: &[u8]) -> Result<(), ClientGone> {
        self.body.extend_from_slice(bytes);
        Ok(())
    }
    async fn end(&mut self, _: &[u8]) -> Result<(), ClientGone> {
        self.is_ended = true;
        Ok(())
    }
}

/// A client's body, in pieces; `breaks_off` instead of its end.
struct Pieces {
    left: Vec<Vec<u8>>,
    given: Vec<u8>,
    breaks_off: bool,
}

impl Body for Pieces {
    async fn next(&mut self) -> Result<Part<'_>, BodyError> {
        if self.left.is_empty() {
            return if self.breaks_off { Err(BodyError::Gone) } else { Ok(Part::End(b"")) };
        }
        self.given = self.left.remove(0);
        Ok(Part::Data(&self.given))
    }
    async fn ask(&mut self) -> Result<(), BodyError> {
        Ok(())
    }
    fn has_more_here(&self) -> bool {
        false
    }
    fn is_complete(&self) -> bool {
        self.left.is_empty()
    }
}

/// Runs a test as a worker runs its tasks.
fn on_a_worker<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(Box::pin(test()));
}

impl Bench {
    async fn new(level: Level) -> Self {
        let mut stores = Vec::new();
        for number in 1..=3 {
            stores.push(FakeStore::start(number).await);
        }
        let topology = topology(&stores, level, 1);
        // What is known of health does not move by itself.
        let health = HealthSettings { active: None, passive: None, ..HealthSettings::default() };
        let settings = Arc::new(PoolSettings { health, ..PoolSettings::default() });
        let view = View::build(topology, None, 1, |_| Arc::clone(&settings));
        let lease = SharedLease::new(1, 60_000);
        let (wishes, _) = Wishes::new();
        let parts = KeptParts { lease: Arc::clone(&lease), wishes, unix_ms };
        let folder = tempfile::tempdir().expect("a folder");
        let hints = HintLog::open(folder.path(), 100).expect("a log");
        let pool = Arc::clone(&view.pools[0]);
        let newer = Rc::new(RefCell::new(VecDeque::from([Arc::new(view)])));
        let views = Rc::clone(&newer);
        let views = Rc::new(move || {
            let mut views = views.borrow_mut();
            let is_last = views.len() == 1;
            if is_last { views.front().cloned() } else { views.pop_front() }
        });
        let worker = Worker::new(0, Instant::now())
            .with_kept(KeptWorker::new(0, &parts))
            .with_hints_and_views(Some(hints.sink()), views);
        worker.timers.refresh();
        let timers = Rc::clone(&worker.timers);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
                timers.refresh();
                timers.advance();
            }
        });
        let bench = Self { stores, worker, pool, lease, hints, newer, _folder: folder };
        bench.grant(600_000);
        bench
    }

    /// Has stores answer within so long.
    fn answer_within(&mut self, limit: Duration) {
        let mut settings = PoolSettings::clone(&self.pool.settings);
        settings.timeouts.response_head = limit;
        let topology = topology(&self.stores, Level::Quorum, 1);
        let settings = Arc::new(settings);
        let view = View::build(topology, None, 1, |_| Arc::clone(&settings));
        self.pool = Arc::clone(&view.pools[0]);
        *self.newer.borrow_mut() = [Arc::new(view)].into();
    }

    fn grant(&self, duration_ms: u64) {
        let settings = LeaseSettings {
            lease_ms: duration_ms,
            lease_longest_ms: duration_ms,
            stale_reads_max_ms: 0,
            op_pin_max_ms: 60_000,
            clock_skew_max_ms: 500,
        };
        let mut holder = LeaseHolder::new(settings, NodeId(1), Incarnation(2));
        let now_ms = boottime_ms();
        let renewal = holder.renew(now_ms, now_ms, BTreeMap::new(), BTreeMap::new());
        let (incarnation, number) = (renewal.incarnation, renewal.number);
        let floors = BTreeMap::new();
        let grant = Grant { incarnation, number, duration_ms, floors, term: Term(1) };
        holder.granted(now_ms, &grant);
        self.lease.tell(&holder);
    }

    /// The stores that hold the key, the primary first.
    fn replicas(&self) -> Vec<&FakeStore> {
        let token = self.pool.agreed.ring.token(KEY.as_bytes());
        let replicas = self.pool.agreed.replicas(token).iter();
        replicas.map(|shard| &self.stores[usize::from(shard.0)]).collect()
    }

    fn request(&self, act: Act, level: Level) -> KeptRequest<'static> {
        KeptRequest {
            act,
            key: KEY.as_bytes(),
            token: self.pool.agreed.ring.token(KEY.as_bytes()),
            level,
            fields: if act == Act::Put { b"X-Meta-A: b\r\n" } else { b"" },
            framing: Framing::None,
            conditions: Conditions::default(),
            range: None,
            if_range: None,
            trace: None,
        }
    }

    async fn carry_out(
        &self,
        request: &KeptRequest<'_>,
        pieces: &[&[u8]],
        breaks_off: bool,
    ) -> Result<Told, Failure> {
        let left = pieces.iter().map(|piece| piece.to_vec()).collect();
        let mut body = Pieces { left, given: Vec::new(), breaks_off };
        let (mut told, mut note) = (Told::default(), Note::default());
        // As the proxy does. Topologies are built within the same thread, slowly where it is busy.
        self.worker.timers.refresh();
        let timer = self.worker.timers.register();
        let run = run(&self.worker, &timer, &self.pool, request, &mut body, &mut told, &mut note);
        Box::pin(run).await?;
        assert!(told.is_ended, "an answer has an end");
        Ok(told)
    }

    async fn put(&self, level: Level, body: &[u8]) -> Result<Told, Failure> {
        let framing = Framing::Length(body.len() as u64);
        let request = KeptRequest { framing, ..self.request(Act::Put, level) };
        self.carry_out(&request, &[body], false).await
    }

    async fn get(&self, level: Level) -> Result<Told, Failure> {
        self.carry_out(&self.request(Act::Get, level), &[], false).await
    }

    fn shard_name(&self, store: &FakeStore) -> String {
        let place = self.stores.iter().position(|other| other.id == store.id);
        self.pool.shards[place.expect("one of them")].id.to_string()
    }

    /// Hints left for a store.
    fn hints_for(&self, store: &FakeStore) -> usize {
        self.hints.flush();
        let place = self.stores.iter().position(|other| other.id == store.id);
        let shard = &self.pool.shards[place.expect("one of them")].id;
        self.hints.sink().pending_of(&self.pool.agreed.name, shard).count
    }
}

/// Waits for what goes on behind an answer.
async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to hold in ten seconds");
}

/// The pool in its first epoch, or in its second: with other weights, which moves no replica of a
/// pool that has as many shards as replicas.
fn topology(stores: &[FakeStore], consistency: Level, epoch: u64) -> Arc<Topology> {
    let pool = PoolName::new("objects").expect("a name");
    let id = |number: usize| ShardId::new(&format!("s{number}")).expect("a name");
    let shard = |store: &FakeStore| ShardSpec {
        url: BaseUrl::parse(&store.url).expect("a URL"),
        zone: Zone::default(),
        weight: Weight::ONE,
        state: AdminState::Ready,
        ketama_name: None,
    };
    let kept = KeptSpec {
        replicas: 3,
        consistency,
        tombstone_min_age_ms: 3_600_000,
        key: "path".to_owned(),
    };
    let spec = PoolSpec {
        kind: Kind::Replicated,
        placement: Placement::Balanced,
        hash_seed: "seed".to_owned(),
        vnodes: 16,
        immutable: false,
        mode: Mode::Any,
        kept: Some(kept),
    };
    let shards: Vec<_> =
        stores.iter().enumerate().map(|(at, store)| (id(at), shard(store))).collect();
    let weight = Weight::try_from(2).expect("a weight");
    let put: Vec<_> = shards
        .iter()
        .map(|(id, shard)| (id.clone(), ShardSpec { weight, ..shard.clone() }))
        .collect();
    let mut state = ClusterState::default();
    let mut apply = |command: Command| {
        let command = state.planned(command);
        state.apply_command(&command).expect("it is applied");
    };
    apply(Command::CreatePool { pool: pool.clone(), spec, shards });
    if epoch > 1 {
        apply(Command::SetShards { pool: pool.clone(), put, remove: Vec::new() });
    }
    for (at, store) in stores.iter().enumerate() {
        apply(Command::BindStore { pool: pool.clone(), shard: id(at), store: store.id });
    }
    apply(Command::MarkFilled { pool });
    Arc::new(Topology::build(&state, None).expect("a topology"))
}

/// What is made, moved and let go of for each exchange of each request. Grown once unseen, it costs more
/// than all that is computed.
#[test]
fn futures_are_no_larger_than_they_need_to_be() {
    on_a_worker(|| async {
        let bench = Bench::new(Level::Quorum).await;
        let content = Content::Held(bench.worker.buffers.text());
        let put = bench.request(Act::Put, Level::Quorum);
        let job = Job::new(&bench.worker, &bench.pool, &put, None, content);
        let version = old(1);
        let sizes = [
            ("stage", size_of_val(&Rc::clone(&job).stage(0)), 2560),
            ("commit", size_of_val(&Rc::clone(&job).commit(0, version)), 2560),
            ("put", size_of_val(&Rc::clone(&job).put(0, version)), 2560),
            ("look", size_of_val(&Rc::clone(&job).look(0)), 2560),
            ("look_and_fetch", size_of_val(&Rc::clone(&job).look_and_fetch(0)), 2560),
            ("copy", size_of_val(&Rc::clone(&job).copy(0, Set::EMPTY, version)), 2560),
        ];
        let request = bench.request(Act::Get, Level::One);
        let mut body = Pieces { left: Vec::new(), given: Vec::new(), breaks_off: false };
        let (mut told, mut note) = (Told::default(), Note::default());
        let timer = bench.worker.timers.register();
        let run =
            run(&bench.worker, &timer, &bench.pool, &request, &mut body, &mut told, &mut note);
        println!("{sizes:?} run {}", size_of_val(&run));
        for (name, size, most) in sizes {
            assert!(size <= most, "{name}: {size} bytes");
        }
    });
}
