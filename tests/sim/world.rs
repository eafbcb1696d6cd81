//! One run: a queue of events, a network that is unkind, and the processes.
//!
//! Nothing here waits or runs at once with anything else: an event happens at a moment, changes
//! what it changes, and puts further events into the queue. All chance comes from one generator, so
//! the seed is the run.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use ringway::cluster::Envelope;
use ringway::cluster::lease::{Denial, Grant, Renewal};
use ringway::cluster::verdict::Views;
use ringway::ids::{Epoch, NodeId, PoolName, ShardId, Term};

use crate::group::Group;
use crate::invariants::{Acknowledgements, Checked, Digests, Epochs, Floors, Log, Majority, alive};
use crate::process::Process;
use crate::rules::Rules;
use crate::trace::{Field, Trace};

/// How long faults are made, in leases of the run.
const FAULTS_LEASES: u64 = 14;

/// How long everything has to become well again: those that were stopped go on, a leader is elected
/// and waits for its predecessors' leases, nodes begin and report, flapping shards are believed.
const HEALING_LEASES: u64 = 8;

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// Something in a process; later, if it is stopped then; never, if it is dead.
    At(usize, Step),
    /// A majority has what the leader of the term has sent: entries up to here.
    Commit { term: Term, upto: usize },
    /// A majority hears a heartbeat.
    HeartbeatHeard { leader: usize, term: Term, sent_ms: u64 },
    /// Somebody looks whether there is a leader.
    LookForLeader,
    /// The next fault.
    Fault,
    /// The next change that an operator makes.
    Change,
    /// A network that was divided is whole.
    Join,
    /// A node starts again.
    Restart(usize),
    /// A process ends for good.
    End(usize),
    /// No more faults.
    Heal,
    /// See whether everybody serves again.
    LookWhetherWell,
}

/// What a process does.
#[derive(Debug)]
pub enum Step {
    /// About every `renew_us`: hear of the leader, catch up, renew.
    Tick,
    /// Look at what a leader has to do.
    Steward,
    /// Send a heartbeat.
    Heartbeat(Term),
    /// A majority has confirmed one.
    HeartbeatConfirmed {
        term: Term,
        sent_ms: u64,
    },
    /// This process has been elected.
    Elected(Term),
    /// Apply what is committed.
    Apply,
    /// Append this as the leader of the term.
    Propose {
        term: Term,
        envelope: Envelope,
        waits: Option<usize>,
    },
    Renewal {
        from: usize,
        renewal: Renewal,
        views: Views,
    },
    Answer {
        number: u64,
        answer: Result<Grant, Denial>,
    },
    /// A client's request comes.
    Request,
    /// It has read the topology, and begins.
    Begin {
        pool: PoolName,
        epoch: Epoch,
    },
    /// Its shards have answered.
    End(u64),
}

#[derive(Debug)]
struct Queued {
    at_us: u64,
    sequence: u64,
    /// The heap moves what is in it often.
    event: Box<Event>,
}

/// What happened how often. A run in which nothing happens proves nothing.
pub type Coverage = BTreeMap<String, u64>;

/// A run.
#[derive(Debug)]
pub struct World {
    pub now_us: u64,
    pub rng: fastrand::Rng,
    /// The lease that the cluster begins with; other times of the run are in proportion.
    pub lease_ms: u64,
    pub rules: Rules,
    pub group: Group,
    pub processes: Vec<Process>,
    pub voters: Vec<NodeId>,
    /// Which shards are truly down.
    pub down: BTreeMap<PoolName, BTreeMap<ShardId, bool>>,
    /// Since when nobody that can lead does.
    pub leaderless_since_us: Option<u64>,
    /// Whether faults have ended.
    pub is_healed: bool,
    /// Whether everybody was seen to serve after that: the run is over.
    pub is_well: bool,
    /// Numbers operations, and what operators ask for.
    pub counter: u64,

    pub acknowledgements: Acknowledgements,
    pub digests: Digests,
    pub epochs: Epochs,
    pub floors: Floors,
    pub log: Log,
    pub majority: Majority,
    /// What was violated first.
    pub violation: Option<Violation>,
    pub coverage: Coverage,

    queue: BinaryHeap<Queued>,
    sequence: u64,
    trace: Trace,
}

/// What must not be, and was.
#[derive(Debug)]
pub struct Violation {
    /// Which invariant, by the name of its file.
    pub of: &'static str,
    pub what: String,
    pub at_us: u64,
}

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    pub violation: Option<Violation>,
    pub digest: u64,
    pub coverage: Coverage,
}

/// Runs a seed.
pub fn run(seed: u64, rules: Rules, is_printed: bool) -> Outcome {
    let mut world = World::new(seed, rules, is_printed);
    world.found();
    let faults_us = FAULTS_LEASES * world.lease_us();
    let end_us = faults_us + HEALING_LEASES * world.lease_us() + 2_000_000;
    world.after(faults_us, Event::Heal);
    while world.violation.is_none() && !world.is_well {
        match world.queue.pop() {
            Some(next) if next.at_us <= end_us => {
                world.now_us = next.at_us;
                world.happen(*next.event);
            }
            _ => {
                let checked = world.everybody_serves();
                world.check("liveness", checked);
                break;
            }
        }
    }
    let World { violation, coverage, trace, .. } = world;
    Outcome { violation, digest: trace.digest(), coverage }
}

impl World {
    fn new(seed: u64, rules: Rules, is_printed: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // Most runs have short leases, so that more happens in them.
        let lease_ms = if rng.u8(0..8) == 0 { 10_000 } else { 3_000 };
        Self {
            now_us: 0,
            rng,
            lease_ms,
            rules,
            group: Group::default(),
            processes: Vec::new(),
            voters: Vec::new(),
            down: BTreeMap::new(),
            leaderless_since_us: None,
            is_healed: false,
            is_well: false,
            counter: 0,
            acknowledgements: Acknowledgements::default(),
            digests: Digests::default(),
            epochs: Epochs::default(),
            floors: Floors::default(),
            log: Log::default(),
            majority: Majority::default(),
            violation: None,
            coverage: Coverage::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            trace: Trace::new(is_printed),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::At(process, step) => self.step(process, step),
            Event::Commit { term, upto } => self.commit(term, upto),
            Event::HeartbeatHeard { leader, term, sent_ms } => {
                self.heartbeat_heard(leader, term, sent_ms);
            }
            Event::LookForLeader => self.look_for_leader(),
            Event::Fault => self.fault(),
            Event::Change => self.change(),
            Event::Join => self.join(),
            Event::Restart(process) => self.restart(process),
            Event::End(process) => self.end(process),
            Event::Heal => self.heal(),
            Event::LookWhetherWell => {
                self.after(self.lease_us() / 4, Event::LookWhetherWell);
                self.is_well = self.everybody_serves().is_ok();
            }
        }
    }

    fn step(&mut self, at: usize, step: Step) {
        let process = &self.processes[at];
        if !process.is_alive {
            // What was sent to a process that is gone may reach the one at its address now.
            let present = self.present(process.node).filter(|present| *present != at);
            if let (Step::Answer { .. }, Some(present)) = (&step, present) {
                self.after(0, Event::At(present, step));
            }
            return;
        }
        if self.now_us < process.stopped_until_us {
            // What has waited is taken up in any order.
            let late_us = process.stopped_until_us - self.now_us + self.rng.u64(0..3000);
            self.after(late_us, Event::At(at, step));
            return;
        }
        match step {
            Step::Tick => self.tick(at),
            Step::Steward => self.steward(at),
            Step::Heartbeat(term) => self.heartbeat(at, term),
            Step::HeartbeatConfirmed { term, sent_ms } => {
                self.processes[at].book.quorum_confirmed(term, sent_ms);
            }
            Step::Elected(term) => self.elected(at, term),
            Step::Apply => self.apply(at),
            Step::Propose { term, envelope, waits } => self.propose(at, term, &envelope, waits),
            Step::Renewal { from, renewal, views } => self.renewal(at, from, &renewal, views),
            Step::Answer { number, answer } => self.answer(at, number, answer),
            Step::Request => self.request(at),
            Step::Begin { pool, epoch } => self.begin(at, pool, epoch),
            Step::End(operation) => self.finish(at, operation),
        }
    }

    pub fn lease_us(&self) -> u64 {
        self.lease_ms * 1000
    }

    /// How often a lease is renewed.
    pub fn renew_us(&self) -> u64 {
        self.lease_us() / 10
    }

    /// Puts an event into the queue.
    pub fn after(&mut self, delay_us: u64, event: Event) {
        self.sequence += 1;
        let at_us = self.now_us + delay_us;
        self.queue.push(Queued { at_us, sequence: self.sequence, event: Box::new(event) });
    }

    /// Sends from one process to another: perhaps it is lost, comes late, or twice.
    pub fn send(&mut self, from: usize, to: usize, step: impl Fn() -> Step) {
        if from == to {
            self.after(10, Event::At(to, step()));
            return;
        }
        if self.processes[from].side != self.processes[to].side || self.chance(4) {
            return;
        }
        for _ in 0..=u8::from(self.chance(3)) {
            let delay_us = self.delay_us();
            self.after(delay_us, Event::At(to, step()));
        }
    }

    /// How long something takes that takes a moment as a rule.
    pub fn delay_us(&mut self) -> u64 {
        let lease_us = self.lease_us();
        let longest_us = match self.rng.u8(0..100) {
            _ if self.is_healed => 10_000,
            0..90 => 10_000,
            90..97 => lease_us / 10,
            _ => lease_us + lease_us / 2,
        };
        self.rng.u64(200..longest_us)
    }

    /// Whether something with so many chances in a hundred happens; nothing bad does after healing.
    pub fn chance(&mut self, percent: u8) -> bool {
        !self.is_healed && self.rng.u8(0..100) < percent
    }

    /// The time by a process's clock, as its runner reads it.
    pub fn now_ms(&self, at: usize) -> u64 {
        let clock = &self.processes[at].clock;
        if self.rules.keep(crate::rules::Rule::ClockCountsSleep) {
            clock.boot_ms(self.now_us)
        } else {
            clock.monotonic_ms(self.now_us)
        }
    }

    /// Notes a violation, if this is one.
    pub fn check(&mut self, of: &'static str, checked: Checked) {
        if let Err(what) = checked
            && self.violation.is_none()
        {
            self.tell(None, "breaks an invariant", &[]);
            self.violation = Some(Violation { of, what, at_us: self.now_us });
        }
    }

    /// Notes that something happened.
    pub fn tell(&mut self, who: Option<usize>, what: &str, fields: &[Field]) {
        let who = who.map(|at| {
            let process = &self.processes[at];
            (process.node.0, process.incarnation.map_or(0, |incarnation| incarnation.0))
        });
        self.trace.tell(self.now_us, who, what, fields);
    }

    /// Counts what happened.
    pub fn count(&mut self, what: &str) {
        if let Some(count) = self.coverage.get_mut(what) {
            *count += 1;
        } else {
            self.coverage.insert(what.to_owned(), 1);
        }
    }

    /// The process that is the node now.
    pub fn present(&self, node: NodeId) -> Option<usize> {
        let is_it =
            |process: &Process| process.node == node && process.is_alive && !process.is_zombie;
        self.processes.iter().rposition(is_it)
    }

    fn everybody_serves(&self) -> Checked {
        let committed = self.group.log.len();
        for node in self.log.state().nodes().keys() {
            let Some(at) = self.present(*node) else {
                return Err(format!("after healing, node {node} is not running"));
            };
            alive(&self.processes[at], self.now_ms(at), committed, &self.down)
                .map_err(|what| format!("after healing, {what}"))?;
        }
        Ok(())
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, micros) = (self.at_us / 1_000_000, self.at_us % 1_000_000);
        write!(f, "{} ({}, at {seconds}.{micros:06} s)", self.what, self.of)
    }
}

/// The heap gives the greatest first: the earliest, and of one moment the one that was put in
/// first.
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.sequence).cmp(&(self.at_us, self.sequence))
    }
}

/// The number in the name of a pool or shard of the simulation, for the trace.
pub fn number(name: &str) -> u64 {
    name.bytes().last().map_or(0, |digit| u64::from(digit - b'0'))
}
