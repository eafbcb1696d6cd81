//! How does a node live?
//!
//! As in production: it opens its group, answers its peers, and lets clients propose and read.
//! When it dies, what is left is its [`Machine`], which starts it again.

use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::mpsc;
use turmoil::net::TcpListener;

use super::disk::Disk;
use super::fault::Fault;
use super::oracle::{Oracle, Outcome};
use crate::cluster::{
    AdminState, Change, Command, Kind, Mode, Placement, PoolSpec, Role, Settings, ShardSpec,
};
use crate::control::group::{
    Backend, Group, GroupOptions, LogError, OpenError, ProposeError, Storage, Timing,
};
use crate::ids::{BaseUrl, NodeName, PeerAddress, PoolName, ShardId, Weight, Zone};
use crate::net::peer::simulated::{SimulatedDial, SimulatedPeers};
use crate::net::peer::{Introduction, PeerAnswer, PeerClient, PeerHandler, PeerRequest, serve};

/// When nobody proposes any more.
pub const QUIET_MS: u64 = 27_000;

const PORT: u16 = 7000;

/// Clients on each node that propose one thing after another.
const PROPOSERS: usize = 2;

/// Clients in a burst, and what each proposes: more in sum than the log keeps behind a snapshot.
const BURST: (usize, usize) = (50, 11);

pub type Shared<T> = Arc<Mutex<T>>;

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds of simulated time.
pub fn ms(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).expect("runs are short")
}

/// Simulated milliseconds since the start of the run, for whoever lives in it.
fn now_ms() -> u64 {
    turmoil::sim_elapsed().map_or(0, ms)
}

/// What is there whether the node runs or not.
#[derive(Clone)]
pub struct Machine {
    /// Its name, and its host's.
    pub name: String,
    /// What it shall be in the cluster.
    pub role: Role,
    /// Which of the nodes it is; the first founds the cluster.
    pub index: usize,
    /// How many there are.
    pub nodes: usize,
    /// For what is not on the disk.
    pub folder: PathBuf,
    /// What the log is on.
    pub disk: Disk,
    /// Seeds each of its starts.
    pub rng: Shared<Rng>,
    /// The group of the process that runs, if one does.
    pub group: Shared<Option<Group>>,
    /// Whether its last start failed.
    pub failed: Shared<bool>,
    /// How it is told what to do.
    pub errands: Shared<Option<mpsc::Sender<Fault>>>,
    /// Who is told everything.
    pub oracle: Shared<Oracle>,
}

struct Handler {
    group: Group,
    oracle: Shared<Oracle>,
}

impl PeerHandler for Handler {
    fn admit(&self, path: &str, introduction: &Introduction) -> Result<usize, PeerAnswer> {
        self.group.admission(path, introduction)
    }

    async fn answer(self: Arc<Self>, request: PeerRequest) -> PeerAnswer {
        let installs = request.path == "/peer/v1/snapshot";
        let answer = self.group.handle(request).await;
        if installs && answer.status == 200 {
            lock(&self.oracle).installs();
        }
        answer
    }
}

fn address(name: &str) -> PeerAddress {
    PeerAddress::parse(&format!("{name}:{PORT}")).expect("an address")
}

fn pool() -> PoolName {
    PoolName::new("objects").expect("a name")
}

fn shard(at: usize) -> ShardId {
    ShardId::new(&format!("s{at}")).expect("a name")
}

fn url(text: &str) -> BaseUrl {
    BaseUrl::parse(text).expect("a URL")
}

/// One shard for each proposer.
pub fn first_pool(shards: usize) -> Command {
    let spec = ShardSpec {
        url: url("http://s.example:1"),
        zone: Zone::default(),
        weight: Weight::try_from(1).expect("a weight"),
        state: AdminState::Ready,
        ketama_name: None,
    };
    Command::CreatePool {
        pool: pool(),
        spec: PoolSpec {
            kind: Kind::Cache,
            placement: Placement::Ring,
            hash_seed: "objects".to_owned(),
            vnodes: 1,
            immutable: false,
            mode: Mode::Any,
            kept: None,
        },
        shards: (0..shards).map(|at| (shard(at), spec.clone())).collect(),
    }
}

/// A command that never finds what it wants already there, so that history shows it.
pub fn move_shard(at: usize, label: &str) -> Command {
    let url = url(&format!("http://{label}.example:1"));
    Command::ChangeNow { changes: vec![Change::SetUrl { pool: pool(), shard: shard(at), url }] }
}

/// The `count`th command of a proposer; each third moves the epoch.
fn steady(at: usize, count: u64, label: &str) -> Command {
    if !count.is_multiple_of(3) {
        return move_shard(at, label);
    }
    let weight = Weight::try_from(1 + count / 3 % 16).expect("in range");
    let mut command = move_shard(at, label);
    if let Command::ChangeNow { changes } = &mut command {
        changes.push(Change::SetWeight { pool: pool(), shard: shard(at), weight });
    }
    command
}

impl Machine {
    fn say(&self, what: &str) {
        lock(&self.oracle).say(now_ms(), &format!("{} {what}", self.name));
    }

    /// Why the process that runs has fenced itself, if it has.
    pub fn storage_failed(&self) -> Option<String> {
        lock(&self.group).as_ref()?.status().storage_failed
    }

    /// Has the process that runs do something. One that is busy with the last errand leaves it.
    pub fn run_errand(&self, errand: Fault) {
        if let Some(errands) = lock(&self.errands).as_ref() {
            let _busy = errands.try_send(errand);
        }
    }

    fn options(&self, seed: u64) -> GroupOptions {
        let disk = self.disk.clone();
        GroupOptions {
            data_dir: self.folder.clone(),
            name: NodeName::new(&self.name).expect("a name"),
            address: address(&self.name),
            timing: Timing::default(),
            peers: Arc::new(PeerClient::new(SimulatedDial, None)),
            seed,
            wall_ms: now_ms,
            storage: Storage::Injected(Arc::new(move || disk.open_anew().map(Backend::new))),
        }
    }

    /// One life of the process, until it is killed.
    pub async fn live(self) -> turmoil::Result {
        let mut rng = lock(&self.rng).fork();
        let group = match Group::open(self.options(rng.u64(..))).await {
            Ok(group) => group,
            Err(error) => {
                // Where the run's files are differs each time.
                let why = error.to_string().replace(&self.folder.display().to_string(), "");
                self.say(&format!("does not start: {why}"));
                // A disk that says no is our doing; whatever else it finds wrong is not.
                if !matches!(error, OpenError::Log(LogError::Io { .. })) {
                    lock(&self.oracle).wrong.push(format!("{} cannot start: {error}", self.name));
                }
                *lock(&self.failed) = true;
                return pending().await;
            }
        };
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let handler = Handler { group: group.clone(), oracle: Arc::clone(&self.oracle) };
        tokio::spawn(serve(SimulatedPeers(listener), None, Arc::new(handler), pending()));
        *lock(&self.group) = Some(group.clone());
        self.be_born(&group).await;
        for proposer in 0..PROPOSERS {
            tokio::spawn(self.clone().propose(group.clone(), proposer, rng.fork()));
        }
        tokio::spawn(self.clone().read(group.clone(), rng.fork()));
        self.run_errands(&group).await
    }

    async fn be_born(&self, group: &Group) {
        if group.member().is_some() {
            return;
        }
        if self.index == 0 {
            let seed = vec![first_pool(PROPOSERS * self.nodes)];
            let founded = group.found("test", Settings::default(), seed).await;
            founded.expect("no fault has begun");
            return;
        }
        while let Err(error) = group.join(&[address("n0")], self.role).await {
            self.say(&format!("has not joined: {error}"));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.say("joined");
    }

    async fn run_errands(&self, group: &Group) -> turmoil::Result {
        let (sender, mut errands) = mpsc::channel(1);
        *lock(&self.errands) = Some(sender);
        let mut bursts = 0;
        while let Some(errand) = errands.recv().await {
            match (errand, group.member()) {
                (Fault::Snapshot, _) => drop(group.snapshot().await),
                (Fault::Lead(_), Some(member)) => drop(group.transfer(member.node).await),
                (Fault::Burst(_), _) => {
                    bursts += 1;
                    for client in 0..BURST.0 {
                        let label = format!("{}.b{bursts}.{client}.{}", self.name, now_ms());
                        tokio::spawn(self.clone().burst(group.clone(), label));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn burst(self, group: Group, label: String) {
        // At the end everything stands still, however many are left.
        for count in (0..BURST.1).take_while(|_| now_ms() < QUIET_MS) {
            let actor = format!("{label}.{count}");
            let command = move_shard(PROPOSERS * self.index, &actor);
            self.propose_once(&group, &actor, command).await;
        }
    }

    async fn propose(self, group: Group, proposer: usize, mut rng: Rng) {
        let born_ms = now_ms();
        let mut count = 0;
        while now_ms() < QUIET_MS {
            tokio::time::sleep(Duration::from_millis(rng.u64(50..400))).await;
            count += 1;
            let actor = format!("{}.{proposer}.{born_ms}.{count}", self.name);
            let command = steady(PROPOSERS * self.index + proposer, count, &actor);
            self.propose_once(&group, &actor, command).await;
        }
    }

    /// Proposes, and tells the oracle what it was told.
    async fn propose_once(&self, group: &Group, actor: &str, command: Command) {
        lock(&self.oracle).proposes(now_ms(), actor);
        let outcome = match group.propose(actor, command).await {
            Ok(applied) => Outcome::Acknowledged(applied.revision),
            Err(ProposeError::Refused(refusal)) => {
                lock(&self.oracle).wrong.push(format!("{actor} was refused: {refusal}"));
                Outcome::NotDone
            }
            Err(ProposeError::Unavailable { .. }) => Outcome::NotDone,
            Err(ProposeError::Unknown(_)) => Outcome::Unknown,
        };
        let mut oracle = lock(&self.oracle);
        oracle.answered(actor, outcome);
        oracle.say(now_ms(), &format!("{actor} {outcome:?}"));
    }

    async fn read(self, group: Group, mut rng: Rng) {
        while now_ms() < QUIET_MS {
            tokio::time::sleep(Duration::from_millis(rng.u64(100..500))).await;
            let acknowledged = lock(&self.oracle).acknowledged();
            if let Ok(index) = group.read_index().await {
                lock(&self.oracle).read(&self.name, acknowledged, index);
            }
        }
    }
}
