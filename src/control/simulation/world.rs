//! One run: who lives in it, and what becomes of them.
//!
//! What makes a run repeat itself: turmoil steps all nodes in one thread, on one clock and with
//! one seeded generator for the network; faults, disks, clients and each start of a node have
//! generators of their own, seeded from the run's seed; openraft draws its election timeouts from
//! the seed that the node was started with; the log is written in place, so that no thread of ours
//! takes part.
//!
//! What is left are two things of Tokio's. Tasks that wait for one `watch` are woken in an order
//! that it draws at random, and no seed reaches that generator unless everything is built with
//! `--cfg tokio_unstable`; and the tasks of a runtime that is dropped go in an order that depends on
//! how many the process has had. Built so, and in a process of its own, a seed gives one run,
//! message for message, and `one_seed_is_one_run` shows it; otherwise it gives the same faults at
//! the same times on the same disks, and messages in slightly another order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;
use turmoil::Sim;

use super::disk::{Disk, Harm};
use super::fault::{Fault, HEALED_MS, schedule};
use super::machine::{Machine, Shared, lock, ms};
use super::oracle::Oracle;
use crate::cluster::Role;
use crate::control::group::{Group, Leadership};
use crate::ids::Revision;

/// The end.
const END_MS: u64 = 30_000;

/// In every so manieth run a node stays away until it needs another's snapshot.
pub const AWAY_EACH: u64 = 10;

/// How often the oracle is shown what nodes believe.
const LOOKED_EACH_MS: u64 = 20;

/// What disks do when they are told to sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// What they say.
    Honest,
    /// Nothing.
    Lying,
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
    /// Snapshots that nodes got from others.
    pub installed: usize,
}

/// The world of one run.
struct World<'a> {
    sim: Sim<'a>,
    rng: Rng,
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
pub fn run(seed: u64, disks: Disks) -> Run {
    let mut rng = Rng::with_seed(seed);
    // Groups of three, and some of five; the last one of every second run only learns.
    let nodes = if rng.u8(0..3) == 0 { 5 } else { 3 };
    let observes = rng.bool();
    let mut world = World::new(&mut rng, nodes, observes, disks);
    let mut faults = schedule(&mut rng, nodes, seed.is_multiple_of(AWAY_EACH));
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
            return world.end();
        }
    }
}

impl World<'_> {
    fn new(rng: &mut Rng, nodes: usize, observes: bool, disks: Disks) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let oracle = Shared::<Oracle>::default();
        let mut sim = turmoil::Builder::new()
            .rng_seed(rng.u64(..))
            .simulation_duration(Duration::from_millis(2 * END_MS))
            .tick_duration(Duration::from_millis(2))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(20))
            .tcp_capacity(4096)
            .build();
        let machines: Vec<_> = (0..nodes)
            .map(|index| Machine {
                name: format!("n{index}"),
                role: if observes && index + 1 == nodes { Role::Observer } else { Role::Voter },
                index,
                nodes,
                folder: folder.path().join(format!("n{index}")),
                disk: Disk::new(rng.u64(..), disks == Disks::Lying),
                rng: Arc::new(Mutex::new(rng.fork())),
                group: Arc::default(),
                failed: Arc::default(),
                errands: Arc::default(),
                oracle: Arc::clone(&oracle),
            })
            .collect();
        for machine in &machines {
            std::fs::create_dir_all(machine.folder.join("raft")).expect("a folder");
            let machine = machine.clone();
            sim.host(machine.name.clone(), move || machine.clone().live());
        }
        let seen = vec![Revision::default(); nodes];
        let (down, failed) = (BTreeSet::new(), BTreeMap::new());
        Self { sim, rng: rng.fork(), machines, oracle, seen, down, failed, _folder: folder }
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
            Fault::Cut(node, other) => self.sim.partition(name(node), name(other)),
            Fault::Hold(node, other) => self.sim.hold(name(node), name(other)),
            Fault::Repair => self.repair(),
            Fault::FailSync(node) => self.machines[node].disk.fail_next_sync(),
            Fault::Fill(node) => self.machines[node].disk.set_full(true),
            Fault::Free(node) => self.machines[node].disk.set_full(false),
            Fault::Snapshot => self.machines.iter().for_each(|machine| machine.run_errand(fault)),
            Fault::Lead(node) | Fault::Burst(node) => self.machines[node].run_errand(fault),
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
        match power {
            true => machine.disk.lose_power(),
            false => machine.disk.lose_process(),
        }
        lock(&machine.group).take();
        lock(&machine.errands).take();
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

    /// A node that fenced itself, or that could not start, is started again a second later: the
    /// process, or the machine. After an fsync that failed those are different things, for a kernel
    /// that runs on shows bytes that are not on the disk.
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
                let power = self.rng.bool();
                self.stop(node, power);
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
        let mut oracle = std::mem::take(&mut *lock(&self.oracle));
        let mut harm = Harm::default();
        self.machines.iter().for_each(|machine| harm += machine.disk.harm());
        if oracle.wrong.is_empty() {
            let mut states = Vec::new();
            for machine in &self.machines {
                match lock(&machine.group).as_ref() {
                    Some(group) => states.push((machine.name.clone(), group.state())),
                    None => oracle.wrong.push(format!("{} does not run at the end", machine.name)),
                }
                if !oracle.was_heard_since(&format!("{}.", machine.name), HEALED_MS + 3_000) {
                    let what = format!("{} got nothing through after healing", machine.name);
                    oracle.wrong.push(what);
                }
            }
            oracle.ends(&states);
        }
        Run {
            outcomes: oracle.outcomes(),
            leaders: oracle.leaders(),
            installed: oracle.installed(),
            trace: oracle.trace,
            wrong: oracle.wrong,
            harm,
        }
    }
}
