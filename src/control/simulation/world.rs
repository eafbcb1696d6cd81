//! One run: who lives in it, and what befalls them.
//!
//! What makes a run repeat itself: turmoil steps all nodes in one thread, on one clock and with
//! one seeded generator for the network; faults, disks, proposals and each start of a node have
//! generators of their own, seeded from the run's seed; openraft draws its election timeouts from
//! the seed that the node was started with; the log is written in place, so that no thread of ours
//! takes part.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;
use tokio::sync::mpsc;
use turmoil::Sim;
use turmoil::net::TcpListener;

use super::disk::{Disk, Harm};
use super::oracle::{Oracle, Outcome};
use crate::cluster::{
    AdminState, Change, Command, Kind, Mode, Placement, PoolSpec, Role, Settings, ShardSpec,
};
use crate::control::group::{
    Backend, Group, GroupOptions, Leadership, LogError, OpenError, ProposeError, Storage, Timing,
};
use crate::ids::{BaseUrl, NodeName, PeerAddress, PoolName, Revision, ShardId, Weight, Zone};
use crate::net::peer::simulated::{SimulatedDial, SimulatedPeers};
use crate::net::peer::{PeerAnswer, PeerClient, PeerHandler, PeerRequest, serve};

/// When the faults begin: by then everybody has joined.
const FAULTS_FROM_MS: u64 = 4_000;

/// When everything heals.
const HEALED_MS: u64 = 20_000;

/// When nobody proposes any more.
const QUIET_MS: u64 = 28_000;

/// The end.
pub const END_MS: u64 = 30_000;

/// How often the oracle is shown what nodes believe.
const LOOKED_EACH_MS: u64 = 20;

const PORT: u16 = 7000;

/// Proposers on each node.
const PROPOSERS: u64 = 2;

type Shared<T> = Arc<Mutex<T>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Simulated milliseconds since the start of the run.
fn now_ms() -> u64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| ms(elapsed))
}

fn ms(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).expect("runs are short")
}

/// What a run came to.
pub struct Run {
    /// What happened.
    pub trace: Vec<String>,
    /// What must not have happened.
    pub wrong: Vec<String>,
    /// What the disks did.
    pub harm: Harm,
    /// Proposals that were acknowledged, not done, unknown.
    pub outcomes: [usize; 3],
    /// Terms that had a leader.
    pub leaders: usize,
    /// Nodes that had dropped a part of their log behind a snapshot.
    pub snapshots: usize,
}

/// A node's machine: what is there whether it runs or not.
#[derive(Clone)]
struct Machine {
    name: String,
    role: Role,
    folder: PathBuf,
    disk: Disk,
    rng: Shared<Rng>,
    /// The group of the process that runs, if one does.
    group: Shared<Option<Group>>,
    /// Whether its last start failed.
    failed: Shared<bool>,
    /// How it is told what to do.
    errands: Shared<Option<mpsc::Sender<Fault>>>,
    oracle: Shared<Oracle>,
}

struct Handler(Group);

impl PeerHandler for Handler {
    async fn answer(self: Arc<Self>, request: PeerRequest) -> PeerAnswer {
        self.0.handle(request).await
    }
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

/// One shard for each proposer, so that each command changes something.
fn first_pool(shards: usize) -> Command {
    let spec = ShardSpec {
        url: url("http://s.example:1"),
        zone: Zone::default(),
        weight: Weight::try_from(1).expect("a weight"),
        state: AdminState::Ready,
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
        },
        shards: (0..shards).map(|at| (shard(at), spec.clone())).collect(),
    }
}

/// The `count`th command of a proposer: never what held before.
fn command(proposer: usize, count: u64) -> Command {
    let (pool, shard) = (pool(), shard(proposer));
    let change = match count % 3 {
        0 => {
            let weight = Weight::try_from(1 + count / 3 % 16).expect("in range");
            Change::SetWeight { pool, shard, weight }
        }
        _ => Change::SetUrl { pool, shard, url: url(&format!("http://s{count}.example:1")) },
    };
    Command::ChangeNow { changes: vec![change] }
}

impl Machine {
    fn say(&self, what: &str) {
        lock(&self.oracle).say(now_ms(), &format!("{} {what}", self.name));
    }

    fn storage_failed(&self) -> Option<String> {
        lock(&self.group).as_ref()?.status().storage_failed
    }

    fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        lock(&self.rng).u64(range)
    }

    fn options(&self) -> GroupOptions {
        let disk = self.disk.clone();
        GroupOptions {
            data_dir: self.folder.clone(),
            name: NodeName::new(&self.name).expect("a name"),
            address: address(&self.name),
            timing: Timing::default(),
            peers: Arc::new(PeerClient::new(SimulatedDial, None)),
            seed: self.draw(0..u64::MAX),
            wall_ms: now_ms,
            storage: Storage::Injected(Arc::new(move || Ok(Backend::new(disk.open())))),
        }
    }

    /// One life of the process, until it is killed.
    async fn live(self, index: usize, shards: usize) -> turmoil::Result {
        let group = match Group::open(self.options()).await {
            Ok(group) => group,
            Err(error) => {
                self.say(&format!("does not start: {error}"));
                // A disk that says no is our doing; whatever else it finds wrong is not.
                if !matches!(error, OpenError::Log(LogError::Io { .. })) {
                    lock(&self.oracle).wrong.push(format!("{} cannot start: {error}", self.name));
                }
                *lock(&self.failed) = true;
                return pending().await;
            }
        };
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let handler = Arc::new(Handler(group.clone()));
        tokio::spawn(serve(SimulatedPeers(listener), None, handler, pending()));
        *lock(&self.group) = Some(group.clone());
        self.be_born(&group, index, shards).await;
        for proposer in 0..PROPOSERS {
            tokio::spawn(self.clone().propose(group.clone(), index, proposer));
        }
        tokio::spawn(self.clone().read(group.clone()));
        self.run_errands(&group).await
    }

    async fn run_errands(&self, group: &Group) -> turmoil::Result {
        let (sender, mut errands) = mpsc::channel(1);
        *lock(&self.errands) = Some(sender);
        while let Some(errand) = errands.recv().await {
            match (errand, group.member()) {
                (Fault::Snapshot(_), _) => drop(group.snapshot().await),
                (Fault::Transfer(_), Some(member)) => drop(group.transfer(member.node).await),
                _ => {}
            }
        }
        Ok(())
    }

    async fn be_born(&self, group: &Group, index: usize, shards: usize) {
        if group.member().is_some() {
            return;
        }
        if index == 0 {
            let seed = vec![first_pool(shards)];
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

    async fn propose(self, group: Group, index: usize, proposer: u64) {
        let proposer_index = index * 2 + usize::try_from(proposer).expect("small");
        let mut count = 0;
        let start = now_ms();
        while now_ms() < QUIET_MS {
            tokio::time::sleep(Duration::from_millis(self.draw(20..200))).await;
            count += 1;
            let actor = format!("{}.{proposer}.{start}.{count}", self.name);
            lock(&self.oracle).proposes(now_ms(), &actor);
            let answer = group.propose(&actor, command(proposer_index, start + count)).await;
            let outcome = match answer {
                Ok(applied) => Outcome::Acknowledged(applied.revision),
                Err(ProposeError::Refused(refusal)) => {
                    let what = format!("{actor} was refused: {refusal}");
                    lock(&self.oracle).wrong.push(what);
                    Outcome::NotDone
                }
                Err(ProposeError::Unavailable { .. }) => Outcome::NotDone,
                Err(ProposeError::Unknown(_)) => Outcome::Unknown,
            };
            let mut oracle = lock(&self.oracle);
            oracle.answered(&actor, outcome);
            oracle.say(now_ms(), &format!("{actor} {outcome:?}"));
        }
    }

    async fn read(self, group: Group) {
        while now_ms() < QUIET_MS {
            tokio::time::sleep(Duration::from_millis(self.draw(100..500))).await;
            let acknowledged = lock(&self.oracle).acknowledged();
            if let Ok(index) = group.read_index().await {
                lock(&self.oracle).read(&self.name, acknowledged, index);
            }
        }
    }
}

fn address(name: &str) -> PeerAddress {
    PeerAddress::parse(&format!("{name}:{PORT}")).expect("an address")
}

/// What befalls somebody.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The process is killed; the kernel writes on.
    Kill(usize),
    /// The machine loses its power.
    PowerCut(usize),
    /// It starts again.
    Start(usize),
    /// One node is cut off from all others.
    Isolate(usize),
    /// One node hears the others, and they do not hear it.
    Mute(usize),
    /// Nothing passes between two nodes.
    Cut(usize, usize),
    /// What passes between two nodes is late.
    Hold(usize, usize),
    /// Whatever the network had is over.
    Repair,
    /// The next fsync fails.
    FailSync(usize),
    /// The disk is full.
    Fill(usize),
    /// It has room again.
    Free(usize),
    /// A node takes a snapshot, and drops what it covers from its log.
    Snapshot(usize),
    /// Another node shall lead.
    Transfer(usize),
}

/// When what happens: faults, each with its end, one group after another.
fn schedule(rng: &mut Rng, nodes: usize) -> BTreeMap<u64, Vec<Fault>> {
    let mut schedule: BTreeMap<u64, Vec<Fault>> = BTreeMap::new();
    let mut at_ms = FAULTS_FROM_MS;
    while at_ms < HEALED_MS {
        let mut put = |at_ms: u64, fault| schedule.entry(at_ms).or_default().push(fault);
        let (node, other) = (rng.usize(0..nodes), rng.usize(0..nodes));
        let end_ms = at_ms + rng.u64(200..3_000);
        match rng.u8(0..10) {
            0 => {
                put(at_ms, Fault::Kill(node));
                put(end_ms, Fault::Start(node));
            }
            1 | 2 => {
                put(at_ms, Fault::PowerCut(node));
                put(end_ms, Fault::Start(node));
            }
            3 => {
                put(at_ms, Fault::Isolate(node));
                put(end_ms, Fault::Repair);
            }
            4 => {
                put(at_ms, Fault::Mute(node));
                put(end_ms, Fault::Repair);
            }
            5 => {
                put(at_ms, Fault::Cut(node, other));
                put(end_ms, Fault::Repair);
            }
            6 => {
                put(at_ms, Fault::Hold(node, other));
                put(end_ms, Fault::Repair);
            }
            7 => put(at_ms, Fault::FailSync(node)),
            8 => {
                put(at_ms, Fault::Fill(node));
                put(end_ms, Fault::Free(node));
            }
            _ => {
                put(at_ms, Fault::Snapshot(node));
                put(at_ms + 100, Fault::Transfer(other));
            }
        }
        at_ms += rng.u64(100..1_200);
    }
    schedule.retain(|at_ms, _| *at_ms < HEALED_MS);
    schedule
}

/// The world of one run.
struct World<'a> {
    sim: Sim<'a>,
    machines: Vec<Machine>,
    oracle: Shared<Oracle>,
    /// What each node had applied when it was last looked at.
    seen: Vec<Revision>,
    down: BTreeSet<usize>,
    /// Nodes whose disk failed, and when whoever looks after them starts them again.
    failed: BTreeMap<usize, u64>,
    _folder: TempDir,
}

/// Lives through a run.
pub fn run(seed: u64) -> Run {
    let mut rng = Rng::with_seed(seed);
    // Groups of three and five; the last one of every second run only learns.
    let nodes = if rng.bool() { 3 } else { 5 };
    let observes = rng.bool();
    let mut world = World::new(seed, &mut rng, nodes, observes);
    let mut faults = schedule(&mut rng, nodes);
    let mut healed = false;
    loop {
        world.sim.step().expect("no node ends by itself");
        let at_ms = ms(world.sim.elapsed());
        if at_ms.is_multiple_of(LOOKED_EACH_MS) {
            world.look(at_ms);
            world.start_what_failed(at_ms);
        }
        while let Some(entry) = faults.first_entry().filter(|entry| *entry.key() <= at_ms) {
            for fault in entry.remove() {
                world.befall(at_ms, fault);
            }
        }
        if !healed && at_ms >= HEALED_MS {
            healed = true;
            world.heal(at_ms);
        }
        if at_ms >= END_MS || !lock(&world.oracle).wrong.is_empty() {
            break;
        }
    }
    world.end()
}

impl World<'_> {
    fn new(seed: u64, rng: &mut Rng, nodes: usize, observes: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let oracle = Shared::<Oracle>::default();
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(Duration::from_millis(2))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(20))
            .tcp_capacity(4096)
            .build();
        let machines: Vec<_> = (0..nodes)
            .map(|at| Machine {
                name: format!("n{at}"),
                role: if observes && at + 1 == nodes { Role::Observer } else { Role::Voter },
                folder: folder.path().join(format!("n{at}")),
                disk: Disk::new(rng.u64(..)),
                rng: Arc::new(Mutex::new(Rng::with_seed(rng.u64(..)))),
                group: Arc::default(),
                failed: Arc::default(),
                errands: Arc::default(),
                oracle: Arc::clone(&oracle),
            })
            .collect();
        for (at, machine) in machines.iter().enumerate() {
            std::fs::create_dir_all(machine.folder.join("raft")).expect("a folder");
            let machine = machine.clone();
            sim.host(machine.name.clone(), move || machine.clone().live(at, 2 * nodes));
        }
        let seen = vec![Revision::default(); nodes];
        Self {
            sim,
            machines,
            oracle,
            seen,
            down: BTreeSet::new(),
            failed: BTreeMap::new(),
            _folder: folder,
        }
    }

    fn group(&self, node: usize) -> Option<Group> {
        lock(&self.machines[node].group).clone()
    }

    /// Shows the oracle what each node believes.
    fn look(&mut self, at_ms: u64) {
        for node in 0..self.machines.len() {
            let Some(group) = self.group(node) else { continue };
            let mut oracle = lock(&self.oracle);
            if let (Leadership::Leader { term, .. }, Some(member)) =
                (*group.leadership().borrow(), group.member())
            {
                oracle.leads(at_ms, member.node, term);
            }
            let state = group.state();
            if state.revision() != self.seen[node] {
                oracle.sees(&self.machines[node].name, self.seen[node], &state);
                self.seen[node] = state.revision();
            }
        }
    }

    fn befall(&mut self, at_ms: u64, fault: Fault) {
        lock(&self.oracle).say(at_ms, &format!("{fault:?}"));
        let name = |node: usize| self.machines[node].name.clone();
        let others = |node: usize| (0..self.machines.len()).filter(move |other| *other != node);
        match fault {
            Fault::Kill(node) => self.stop(node, false),
            Fault::PowerCut(node) => self.stop(node, true),
            Fault::Start(node) => self.start(node),
            Fault::Isolate(node) => {
                others(node).for_each(|other| self.sim.partition(name(node), name(other)));
            }
            Fault::Mute(node) => {
                others(node).for_each(|other| self.sim.partition_oneway(name(node), name(other)));
            }
            Fault::Cut(node, other) if node != other => {
                self.sim.partition(name(node), name(other));
            }
            Fault::Hold(node, other) if node != other => self.sim.hold(name(node), name(other)),
            Fault::Cut(..) | Fault::Hold(..) => {}
            Fault::Repair => self.repair(),
            Fault::FailSync(node) => self.machines[node].disk.fail_next_sync(),
            Fault::Fill(node) => self.machines[node].disk.set_full(true),
            Fault::Free(node) => self.machines[node].disk.set_full(false),
            Fault::Snapshot(node) | Fault::Transfer(node) => {
                if let Some(errands) = lock(&self.machines[node].errands).as_ref() {
                    // One that is busy with the last one may leave this.
                    let _busy = errands.try_send(fault);
                }
            }
        }
    }

    fn repair(&self) {
        for (at, one) in self.machines.iter().enumerate() {
            for other in &self.machines[..at] {
                self.sim.repair(one.name.clone(), other.name.clone());
                self.sim.release(one.name.clone(), other.name.clone());
            }
        }
    }

    /// The process is gone; with `power`, so is what its disk had not synced.
    fn stop(&mut self, node: usize, power: bool) {
        if !self.down.insert(node) {
            return;
        }
        // Before the process: what it does while it is taken down does not reach the disk.
        let machine = &self.machines[node];
        if power {
            machine.disk.lose_power()
        } else {
            machine.disk.lose_process()
        }
        lock(&machine.group).take();
        *lock(&machine.failed) = false;
        self.failed.remove(&node);
        self.sim.crash(machine.name.clone());
        self.seen[node] = Revision::default();
    }

    fn start(&mut self, node: usize) {
        if self.down.remove(&node) {
            self.sim.bounce(self.machines[node].name.clone());
        }
    }

    /// A node that fenced itself, or that could not start, is started again a second later. Its
    /// machine is, to be exact: after an fsync that failed the kernel shows bytes that are not on
    /// the disk, until it is restarted.
    fn start_what_failed(&mut self, at_ms: u64) {
        for node in 0..self.machines.len() {
            let machine = &self.machines[node];
            let fenced = || Some(format!("fences itself: {}", machine.storage_failed()?));
            let not_started = || lock(&machine.failed).then(|| "is down".to_owned());
            let Some(what) = fenced().or_else(not_started) else { continue };
            let due_ms = *self.failed.entry(node).or_insert_with(|| {
                lock(&self.oracle).say(at_ms, &format!("n{node} {what}"));
                at_ms + 1_000
            });
            if due_ms <= at_ms {
                self.stop(node, true);
                self.start(node);
            }
        }
    }

    fn heal(&mut self, at_ms: u64) {
        lock(&self.oracle).say(at_ms, "everything heals");
        self.repair();
        for node in 0..self.machines.len() {
            self.machines[node].disk.set_full(false);
            self.start(node);
        }
    }

    fn end(self) -> Run {
        let (mut states, mut snapshots) = (Vec::new(), 0);
        let mut oracle = std::mem::take(&mut *lock(&self.oracle));
        for machine in &self.machines {
            match lock(&machine.group).as_ref() {
                Some(group) => {
                    states.push((machine.name.clone(), group.state()));
                    snapshots += usize::from(group.status().purged.is_some());
                }
                None => oracle.wrong.push(format!("{} does not run at the end", machine.name)),
            }
            let sent = format!("{}.", machine.name);
            if !oracle.was_heard_since(&sent, HEALED_MS + 3_000) {
                oracle.wrong.push(format!("{} got nothing through after healing", machine.name));
            }
        }
        oracle.ends(&states);
        let mut harm = Harm::default();
        for machine in &self.machines {
            harm += machine.disk.harm();
        }
        Run {
            outcomes: oracle.outcomes(),
            leaders: oracle.leaders(),
            trace: oracle.trace,
            wrong: oracle.wrong,
            harm,
            snapshots,
        }
    }
}
