//! One run: a queue of events, a network that is unkind, stores and proxies.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use ringway::version::Version;

use super::checks::{Deleted, Visible, converged};
use super::group::{Group, View};
use super::proxy::{Asked, Proxy};
use super::rules::{Rule, Rules};
use super::store::{Key, Reply, Request, Store};
use crate::clock::Clock;
use crate::history::{self, linearizable};
use crate::invariants::Checked;
use crate::trace::{Field, Trace};
use crate::world::{Coverage, Outcome, Violation};

/// The keys that are read and written at `quorum` or `all`; the one after them at `one`.
pub const STRICT_KEYS: Key = 30;

const STORES: usize = 3;
const FAULTS_US: u64 = 9_000_000;

/// Those that were stopped go on, what was late arrives, hints are replayed, replicas are compared.
const HEALING_US: u64 = 9_000_000;

/// How long after healing everybody reads each key once more.
const LAST_READS_US: u64 = FAULTS_US + HEALING_US - 1_500_000;

/// What goes from a proxy to a store.
#[derive(Debug, Clone)]
pub struct Letter {
    pub proxy: usize,
    pub operation: u64,
    pub key: Key,
    pub epoch: u64,
    /// Which store is meant, by the view that the operation began with.
    pub identity: u64,
    pub request: Request,
}

/// What happens.
#[derive(Debug)]
pub enum Event {
    Arrive {
        store: usize,
        letter: Letter,
    },
    /// What a store was asked is on its disk.
    Synced {
        store: usize,
        starts: u64,
        letter: Letter,
    },
    Answer {
        proxy: usize,
        store: usize,
        operation: u64,
        reply: Reply,
    },
    /// A client comes to a proxy.
    Client(usize),
    /// It asks this.
    Begin {
        proxy: usize,
        key: Key,
        asked: Asked,
    },
    /// An operation's time is over.
    Timeout {
        proxy: usize,
        operation: u64,
    },
    Renew(usize),
    Renewal {
        proxy: usize,
        starts: u64,
        reported: u64,
        sent_boot_ms: u64,
    },
    Granted {
        proxy: usize,
        starts: u64,
        epoch: u64,
        view: View,
        lease_until_ms: Option<u64>,
    },
    Upkeep(usize),
    NextEpoch(usize),
    Fault,
    Join,
    StartStore(usize),
    StartProxy(usize),
    Heal,
}

#[derive(Debug)]
struct Queued {
    at_us: u64,
    sequence: u64,
    event: Box<Event>,
}

#[derive(Debug)]
pub struct World {
    pub now_us: u64,
    pub rng: fastrand::Rng,
    pub rules: Rules,
    pub stores: Vec<Store>,
    pub proxies: Vec<Proxy>,
    pub group: Group,
    pub is_healed: bool,
    /// In a calm run the one fault is that proxies are stopped at the worst moment.
    pub is_calm: bool,
    /// When tombstones may be collected again.
    pub collects_at_us: u64,
    /// Numbers operations; a value is the number of the one that wrote it.
    pub counter: u64,
    pub values: BTreeMap<Version, u64>,
    pub histories: BTreeMap<Key, BTreeMap<u64, history::Event>>,
    pub visible: Visible,
    pub deleted: Deleted,
    /// The keys of which the fresh store was seen to have what the others have.
    pub filled: BTreeSet<Key>,
    pub coverage: Coverage,
    violation: Option<Violation>,
    /// Tells apart what happens in one moment.
    ticks: u64,
    queue: BinaryHeap<Queued>,
    sequence: u64,
    trace: Trace,
}

/// Runs a seed.
pub fn run(seed: u64, rules: Rules, is_printed: bool) -> Outcome {
    let mut world = World::new(seed, rules, is_printed);
    for at in 0..world.proxies.len() {
        world.after(0, Event::Renew(at));
        world.after(100_000, Event::Client(at));
        world.after(200_000, Event::Upkeep(at));
        for key in 0..STRICT_KEYS {
            let wait_us = LAST_READS_US + world.rng.u64(0..500_000);
            world.after(wait_us, Event::Begin { proxy: at, key, asked: Asked::Read });
        }
    }
    world.after(300_000, Event::Fault);
    world.after(FAULTS_US, Event::Heal);
    while world.violation.is_none() {
        match world.queue.pop() {
            Some(next) if next.at_us <= FAULTS_US + HEALING_US => {
                world.now_us = next.at_us;
                world.happen(*next.event);
            }
            _ => break,
        }
    }
    world.judge();
    let World { violation, coverage, trace, .. } = world;
    Outcome { violation, digest: trace.digest(), coverage }
}

impl World {
    fn new(seed: u64, rules: Rules, is_printed: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let proxies = rng.usize(2..=3);
        let is_calm = rng.u8(0..3) == 0;
        let clocks: Vec<Clock> = (0..proxies).map(|_| Clock::new(&mut rng, 50_000)).collect();
        Self {
            now_us: 0,
            rng,
            rules,
            stores: std::iter::repeat_with(Store::new).take(STORES).collect(),
            proxies: clocks.into_iter().map(|clock| Proxy::new(clock, STORES)).collect(),
            group: Group::new(proxies, STORES),
            is_healed: false,
            is_calm,
            collects_at_us: 0,
            counter: 0,
            values: BTreeMap::new(),
            histories: BTreeMap::new(),
            visible: Visible::default(),
            deleted: Deleted::default(),
            filled: BTreeSet::new(),
            coverage: Coverage::new(),
            violation: None,
            ticks: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            trace: Trace::new(is_printed),
        }
    }

    fn happen(&mut self, event: Event) {
        // Who is stopped takes up later what has come, in any order.
        let stopped_until_us = match &event {
            Event::Arrive { store, .. } | Event::Synced { store, .. } => {
                self.stores[*store].stopped_until_us
            }
            Event::Answer { proxy, .. }
            | Event::Client(proxy)
            | Event::Begin { proxy, .. }
            | Event::Timeout { proxy, .. }
            | Event::Renew(proxy)
            | Event::Granted { proxy, .. }
            | Event::Upkeep(proxy) => self.proxies[*proxy].stopped_until_us,
            _ => 0,
        };
        if self.now_us < stopped_until_us {
            let late_us = stopped_until_us - self.now_us + self.rng.u64(0..3_000);
            self.after(late_us, event);
            return;
        }
        match event {
            Event::Arrive { store, letter } => self.arrive(store, letter),
            Event::Synced { store, starts, letter } => self.synced(store, starts, &letter),
            Event::Answer { proxy, store, operation, reply } => {
                self.answer(proxy, operation, store, reply);
            }
            Event::Client(proxy) => self.client(proxy),
            Event::Begin { proxy, key, asked } => self.begin(proxy, key, asked),
            Event::Timeout { proxy, operation } => self.timeout(proxy, operation),
            Event::Renew(proxy) => self.renew(proxy),
            Event::Renewal { proxy, starts, reported, sent_boot_ms } => {
                self.renewal(proxy, starts, reported, sent_boot_ms);
            }
            Event::Granted { proxy, starts, epoch, view, lease_until_ms } => {
                self.granted(proxy, starts, epoch, view, lease_until_ms);
            }
            Event::Upkeep(proxy) => self.upkeep(proxy),
            Event::NextEpoch(proxy) => self.next_epoch(proxy),
            Event::Fault => self.fault(),
            Event::Join => self.join(),
            Event::StartStore(store) => self.start_store(store),
            Event::StartProxy(proxy) => self.start_proxy(proxy),
            Event::Heal => self.heal(),
        }
    }

    fn arrive(&mut self, at: usize, letter: Letter) {
        let rules = self.rules;
        let store = &mut self.stores[at];
        if !store.is_up {
            return;
        }
        if letter.identity != store.identity {
            self.reply(at, &letter, &Reply::Stale);
            return;
        }
        if !store.admits(letter.epoch, rules) {
            self.count("stale epoch");
            self.reply(at, &letter, &Reply::Stale);
            return;
        }
        if !letter.request.is_write() {
            let reply = store.act(letter.operation, letter.key, &letter.request);
            if let Some(reply) = reply {
                self.reply(at, &letter, &reply);
            }
            return;
        }
        if !rules.keep(Rule::DurableBeforeAnswer) {
            let reply = store.act(letter.operation, letter.key, &letter.request);
            if let Some(reply) = reply {
                self.reply(at, &letter, &reply);
            }
        }
        let starts = self.stores[at].starts;
        let disk_us =
            if self.chance(5) { self.rng.u64(5_000..300_000) } else { self.rng.u64(500..5_000) };
        self.after(disk_us, Event::Synced { store: at, starts, letter });
    }

    fn synced(&mut self, at: usize, starts: u64, letter: &Letter) {
        let rules = self.rules;
        let store = &mut self.stores[at];
        if store.starts != starts {
            return; // It was killed meanwhile.
        }
        if !rules.keep(Rule::DurableBeforeAnswer) {
            store.sync();
            return;
        }
        // A higher epoch may have come while this one waited for the disk.
        if !store.admits(letter.epoch, rules) {
            self.reply(at, letter, &Reply::Stale);
            return;
        }
        let reply = store.act(letter.operation, letter.key, &letter.request);
        store.sync();
        if let Request::Raise(collected) = &letter.request {
            collected.iter().for_each(|(key, version)| self.deleted.collected(*key, *version));
        }
        let checked = self.deleted.check(&self.stores[at]);
        self.check("deleted", checked);
        if let Some(reply) = reply {
            self.reply(at, letter, &reply);
        }
    }

    fn reply(&mut self, from: usize, letter: &Letter, reply: &Reply) {
        let Letter { proxy, operation, .. } = *letter;
        let event = || Event::Answer { proxy, store: from, operation, reply: reply.clone() };
        self.carry(self.stores[from].side == self.proxies[proxy].side, event);
    }

    /// Sends a request to a store, so much later than it was said.
    pub fn send(&mut self, later_us: u64, to: usize, letter: &Letter) {
        let is_near = self.stores[to].side == self.proxies[letter.proxy].side;
        self.carry_later(later_us, is_near, || Event::Arrive { store: to, letter: letter.clone() });
    }

    pub fn carry(&mut self, is_near: bool, event: impl Fn() -> Event) {
        self.carry_later(0, is_near, event);
    }

    /// Carries a message: perhaps it is lost, comes late, or twice.
    fn carry_later(&mut self, later_us: u64, is_near: bool, event: impl Fn() -> Event) {
        if !is_near || self.chance(if self.is_calm { 1 } else { 4 }) {
            return;
        }
        for _ in 0..=u8::from(self.chance(3)) {
            let longest_us = match self.rng.u8(0..100) {
                _ if self.is_healed || self.is_calm => 5_000,
                0..90 => 5_000,
                90..97 => 200_000,
                _ => 4_000_000,
            };
            let delay_us = self.rng.u64(200..longest_us);
            self.after(later_us + delay_us, event());
        }
    }

    /// Puts an event into the queue.
    pub fn after(&mut self, delay_us: u64, event: Event) {
        self.sequence += 1;
        let at_us = self.now_us + delay_us;
        self.queue.push(Queued { at_us, sequence: self.sequence, event: Box::new(event) });
    }

    /// Whether something with so many chances in a hundred happens; nothing bad does after healing.
    pub fn chance(&mut self, percent: u8) -> bool {
        !self.is_healed && self.rng.u8(0..100) < percent
    }

    /// A moment of its own, for histories.
    pub fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    pub fn tell(&mut self, who: usize, what: &str, fields: &[Field]) {
        self.trace.tell(self.now_us, Some((who as u64, 0)), what, fields);
    }

    pub fn count(&mut self, what: &str) {
        *self.coverage.entry(what.to_owned()).or_default() += 1;
    }

    pub fn check(&mut self, of: &'static str, checked: Checked) {
        if let Err(what) = checked
            && self.violation.is_none()
        {
            self.tell(0, "breaks an invariant", &[]);
            self.violation = Some(Violation { of, what, at_us: self.now_us });
        }
    }

    /// Looks at the whole run.
    fn judge(&mut self) {
        for key in 0..STRICT_KEYS {
            let Some(history) = self.histories.get(&key) else { continue };
            let events: Vec<history::Event> = history.values().copied().collect();
            let judged = linearizable(&events).map_err(|why| format!("key {key}: {why}"));
            self.check("linearizable", judged);
        }
        let checked = self.visible.check(&self.stores, self.group.view.fresh);
        self.check("visible", checked);
        let checked = converged(&self.stores);
        self.check("converged", checked);
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The heap gives the greatest first: the earliest.
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at_us, other.sequence).cmp(&(self.at_us, self.sequence))
    }
}
