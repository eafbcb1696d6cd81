//! What goes wrong, what operators want, and how all becomes well again.

use std::sync::Arc;

use ringway::cluster::{
    AdminState, Command, FEATURE_LEVEL, Kind, Mode, Placement, PoolSpec, Role, Settings, ShardSpec,
};
use ringway::ids::{
    BaseUrl, ClusterId, Incarnation, NodeId, NodeName, Nonce, PeerAddress, PoolName, ShardId,
    Weight, Zone,
};

use crate::clock::Clock;
use crate::group::Entry;
use crate::process::{Disk, Process};
use crate::rules::Rule;
use crate::world::{Event, Step, World, number};

const POOLS: u64 = 2;
const SHARDS: u64 = 3;

/// More nodes would make runs longer and say nothing new.
const NODES_MAX: usize = 7;

fn pool(at: u64) -> PoolName {
    PoolName::new(&format!("p{at}")).expect("a plain name")
}

fn shard(at: u64) -> ShardId {
    ShardId::new(&format!("s{at}")).expect("a plain name")
}

fn shard_spec(weight: u64) -> ShardSpec {
    ShardSpec {
        url: BaseUrl::parse("http://shard").expect("a URL"),
        zone: Zone::default(),
        weight: Weight::try_from(weight).expect("a small weight"),
        state: AdminState::Ready,
        ketama_name: None,
    }
}

fn node_name(number: u64) -> NodeName {
    NodeName::new(&format!("n{number}")).expect("a plain name")
}

fn address(number: u64) -> PeerAddress {
    PeerAddress::parse(&format!("n{number}:1")).expect("an address")
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Nonce(bytes)
}

fn add_node(number: u64, role: Role) -> Command {
    let (name, address) = (node_name(number), address(number));
    Command::AddNode { name, address, role, nonce: nonce(number) }
}

fn create_pool(at: u64) -> Command {
    let spec = PoolSpec {
        kind: Kind::Cache,
        placement: Placement::Ring,
        hash_seed: "seed".to_owned(),
        vnodes: 4,
        immutable: false,
        mode: Mode::Any,
        kept: None,
    };
    let shards = (0..SHARDS).map(|at| (shard(at), shard_spec(2))).collect();
    Command::CreatePool { pool: pool(at), spec, shards }
}

impl World {
    /// The cluster as a run finds it: founded, each node in its first incarnation, two pools, and
    /// nobody leads.
    pub fn found(&mut self) {
        let voters = self.rng.choice([1, 3, 3, 3, 5]).expect("one of them");
        let nodes = voters + self.rng.u64(1..=2);
        self.voters = (1..=voters).map(NodeId).collect();
        let mut commands = vec![Command::Found {
            cluster: ClusterId([7; 16]),
            node: node_name(1),
            address: address(1),
            settings: self.agreed_settings(self.lease_ms),
        }];
        for number in 2..=nodes {
            let role = if number <= voters { Role::Voter } else { Role::Observer };
            commands.push(add_node(number, role));
            commands.push(Command::BeginIncarnation {
                node: NodeId(number),
                after: Incarnation(0),
                address: address(number),
                version: "sim".to_owned(),
                feature_level: FEATURE_LEVEL,
            });
        }
        for at in 0..POOLS {
            commands.push(create_pool(at));
            self.down.insert(pool(at), (0..SHARDS).map(|at| (shard(at), false)).collect());
        }
        self.counter = 100;
        let clock = self.new_clock();
        self.processes.push(Process::start(NodeId(1), Disk::empty(), clock));
        for command in commands {
            let envelope = Some(self.envelope(0, None, command));
            let entry = Entry { term: self.group.term, envelope, waits: None };
            let upto = self.group.append(entry);
            self.group.commit(upto);
            let entry = Arc::clone(&self.group.log[upto - 1]);
            let outcome = self.log.committed(&entry, true).expect("nothing can be wrong yet");
            assert!(outcome.is_some_and(|outcome| outcome.is_ok()), "{entry:?}");
        }
        self.processes.clear();
        for number in 1..=nodes {
            self.joins(NodeId(number));
            let at = self.processes.len() - 1;
            self.processes[at].begin(Incarnation(1));
        }
        self.after(0, Event::LookForLeader);
        self.after(self.lease_us() / 2, Event::Fault);
        self.after(self.lease_us() / 2, Event::Change);
    }

    /// Settings with times in proportion to the run's, but for the lease.
    fn agreed_settings(&self, lease_ms: u64) -> Settings {
        Settings {
            lease_ms,
            op_pin_max_ms: self.lease_ms / 2,
            verdict_hold_ms: self.lease_ms / 6,
            verdict_hold_off_max_ms: self.lease_ms * 2 / 3,
            verdict_forgive_ms: self.lease_ms,
            ..Settings::default()
        }
    }

    /// A node was added: its first start gets a snapshot of what is agreed.
    pub fn joins(&mut self, node: NodeId) {
        let disk = Disk::of(self.log.state().clone(), self.log.len());
        let clock = self.new_clock();
        self.starts(Process::start(node, disk, clock));
    }

    /// Two clocks differ by up to a tenth, as much as the margin of a lease covers; or by three.
    fn new_clock(&mut self) -> Clock {
        let most_ppm = if self.rules.keep(Rule::ClocksWithinATenth) { 50_000 } else { 150_000 };
        Clock::new(&mut self.rng, most_ppm)
    }

    fn starts(&mut self, process: Process) {
        self.processes.push(process);
        let at = self.processes.len() - 1;
        self.take_settings(at);
        for step in [Step::Tick, Step::Steward, Step::Request] {
            let delay_us = self.rng.u64(0..self.renew_us());
            self.after(delay_us, Event::At(at, step));
        }
    }

    /// One more thing goes wrong.
    pub fn fault(&mut self) {
        if self.is_healed {
            return;
        }
        let wait_us = self.rng.u64(self.lease_us() / 20..self.lease_us() / 2);
        self.after(wait_us, Event::Fault);
        let running: Vec<usize> =
            (0..self.processes.len()).filter(|at| self.processes[*at].is_alive).collect();
        let leader = self.group.leader.filter(|_| self.rng.u8(0..3) == 0);
        let Some(at) = leader.or_else(|| self.rng.choice(running)) else { return };
        match self.rng.u8(0..100) {
            0..20 => self.stop(at),
            20..45 => self.divide(at),
            45..65 => self.lag(at),
            65..72 => self.crash(at),
            72..76 => self.copy(at),
            76..82 => {
                // Set wrong, and by the next time set right.
                let is_wrong = self.processes[at].clock.wall_off_by_ms.abs() > 100;
                let most_ms = if is_wrong { 100 } else { 3_000 };
                let off_by_ms = self.rng.i64(-most_ms..=most_ms);
                self.processes[at].clock.wall_off_by_ms = off_by_ms;
                let fields = [("by_ms", off_by_ms.unsigned_abs())];
                self.tell(Some(at), "has its wall clock set", &fields);
            }
            82..88 => {
                let has_bad_card = !self.processes[at].has_bad_card;
                self.processes[at].has_bad_card = has_bad_card;
                self.tell(Some(at), "has a bad card", &[("is", u64::from(has_bad_card))]);
            }
            _ => self.turn_shard(),
        }
    }

    /// SIGSTOP, or the machine sleeps.
    fn stop(&mut self, at: usize) {
        let for_us = self.rng.u64(10_000..2 * self.lease_us());
        let is_asleep = self.rng.bool();
        let process = &mut self.processes[at];
        if self.now_us < process.stopped_until_us {
            return;
        }
        process.stopped_until_us = self.now_us + for_us;
        if is_asleep {
            process.clock.slept(for_us);
        }
        let fields = [("for_us", for_us), ("asleep", u64::from(is_asleep))];
        self.tell(Some(at), "is stopped", &fields);
        self.count("stop");
    }

    /// The network falls apart: one process alone, or two sides.
    fn divide(&mut self, at: usize) {
        let is_one = self.rng.bool();
        for other in 0..self.processes.len() {
            let side = if is_one { u8::from(other == at) } else { self.rng.u8(0..2) };
            self.processes[other].side = side;
            if side == 1 {
                self.tell(Some(other), "is on the other side", &[]);
            }
        }
        let for_us = self.rng.u64(100_000..self.lease_us() * 5 / 2);
        self.after(for_us, Event::Join);
        self.count("division");
    }

    pub fn join(&mut self) {
        self.processes.iter_mut().for_each(|process| process.side = 0);
        self.tell(None, "is whole again", &[]);
    }

    /// It hears everything and applies nothing for a while.
    fn lag(&mut self, at: usize) {
        let for_us = self.rng.u64(10_000..2 * self.lease_us());
        self.processes[at].lags_until_us = self.now_us + for_us;
        self.tell(Some(at), "lags", &[("for_us", for_us)]);
    }

    /// It dies, and starts again from what it had written.
    fn crash(&mut self, at: usize) {
        if self.processes[at].is_zombie {
            return;
        }
        self.tell(Some(at), "dies", &[]);
        self.count("crash");
        self.processes[at].is_alive = false;
        let wait_us = self.rng.u64(10_000..self.lease_us());
        self.after(wait_us, Event::Restart(at));
    }

    /// Its machine is started from a copy, while it goes on by itself: a machine that was taken for
    /// dead, or an image that was restored too early.
    fn copy(&mut self, at: usize) {
        if self.processes[at].is_zombie {
            return;
        }
        self.tell(Some(at), "is started elsewhere as well", &[]);
        self.count("zombie");
        self.processes[at].is_zombie = true;
        let wait_us = self.rng.u64(1_000..500_000);
        self.after(wait_us, Event::Restart(at));
        let end_us = self.rng.u64(1_000..3 * self.lease_us());
        self.after(end_us, Event::End(at));
    }

    pub fn restart(&mut self, former: usize) {
        let node = self.processes[former].node;
        if self.present(node).is_some() || !self.log.state().nodes().contains_key(&node) {
            return;
        }
        let disk = self.processes[former].disk.clone();
        // Its boottime begins anew, as after a reboot.
        let clock = self.new_clock();
        self.starts(Process::start(node, disk, clock));
        self.tell(Some(self.processes.len() - 1), "starts", &[]);
    }

    pub fn end(&mut self, at: usize) {
        self.processes[at].is_alive = false;
        self.tell(Some(at), "ends", &[]);
    }

    fn turn_shard(&mut self) {
        let (pool, shard) = (pool(self.rng.u64(0..POOLS)), shard(self.rng.u64(0..SHARDS)));
        let fields = [("pool", number(pool.as_str())), ("shard", number(shard.as_str()))];
        let is_down = self.down.entry(pool).or_default().entry(shard).or_default();
        *is_down = !*is_down;
        let what = if *is_down { "shard goes down" } else { "shard comes up" };
        self.tell(None, what, &fields);
    }

    /// An operator wants something.
    pub fn change(&mut self) {
        if self.is_healed {
            return;
        }
        let wait_us = self.rng.u64(self.lease_us() / 4..self.lease_us() * 3 / 2);
        self.after(wait_us, Event::Change);
        let Some(leader) = self.group.leader else { return };
        let nodes = self.log.state().nodes();
        let observers: Vec<NodeId> =
            nodes.keys().filter(|node| !self.voters.contains(node)).copied().collect();
        let has_last = self.log.state().pools().contains_key(&pool(POOLS - 1));
        let command = match self.rng.u8(0..14) {
            0 if nodes.len() < NODES_MAX => {
                self.counter += 1;
                add_node(self.counter, Role::Observer)
            }
            1 if !observers.is_empty() => {
                let node = self.rng.choice(observers).expect("not empty");
                Command::RemoveNode { node }
            }
            2..4 => {
                let lease_ms = self.rng.choice([self.lease_ms, self.lease_ms / 3]);
                let lease_ms = lease_ms.expect("one of two");
                Command::SetSettings { settings: self.agreed_settings(lease_ms) }
            }
            4 if has_last => Command::RemovePool { pool: pool(POOLS - 1) },
            4..6 if !has_last => create_pool(POOLS - 1),
            _ => {
                let put = (shard(self.rng.u64(0..SHARDS)), shard_spec(self.rng.u64(1..=4)));
                let pool = pool(self.rng.u64(0..POOLS));
                Command::SetShards { pool, put: vec![put], remove: vec![] }
            }
        };
        let term = self.group.term;
        self.propose_soon(leader, term, command);
    }

    /// Faults end; what they have left behind does not.
    pub fn heal(&mut self) {
        self.is_healed = true;
        self.tell(None, "is healed", &[]);
        self.after(self.lease_us(), Event::LookWhetherWell);
        for process in &mut self.processes {
            process.side = 0;
            process.lags_until_us = 0;
            process.clock.wall_off_by_ms = 0;
            process.has_bad_card = false;
            process.is_alive &= !process.is_zombie;
        }
        let nodes: Vec<NodeId> = self.log.state().nodes().keys().copied().collect();
        for node in nodes {
            if let Some(last) = self.processes.iter().rposition(|process| process.node == node) {
                self.restart(last);
            }
        }
    }
}
