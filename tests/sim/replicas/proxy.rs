//! The runner of clients' operations: it carries what machines say to stores, and what they answer
//! back.

use std::collections::BTreeMap;

use ringway::ids::{Incarnation, NodeId};
use ringway::level::Level;
use ringway::protocol::holding::Effect;
use ringway::protocol::quorum::{Replicas, Set};
use ringway::protocol::read::{self, Answer, Read, Record};
use ringway::protocol::write::{self, Fault, Kind, Write};
use ringway::version::{HybridClock, Proposer, Version};

use super::checks::Deleted;
use super::group::{LEASE_MS, View};
use super::rules::Rule;
use super::store::{Key, Reply, Request};
use super::upkeep::{Collection, Survey};
use super::world::{Event, Letter, STRICT_KEYS, World};
use crate::clock::Clock;
use crate::history::{self, Kind as Told};

/// How long an operation may be pinned to its epoch.
const PIN_MS: u64 = 400;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Read,
    Put,
    Delete,
}

#[derive(Debug)]
pub struct Proxy {
    pub clock: Clock,
    pub hlc: HybridClock,
    pub starts: u64,
    pub is_up: bool,
    pub stopped_until_us: u64,
    pub side: u8,
    pub epoch: u64,
    pub view: View,
    /// By its own boottime.
    pub lease_until_ms: u64,
    pub operations: BTreeMap<u64, Operation>,
    /// On its disk.
    pub hints: BTreeMap<(usize, Key), Version>,
}

/// What is the same for the whole of an operation.
#[derive(Debug, Clone)]
pub struct Head {
    pub key: Key,
    pub epoch: u64,
    pub view: View,
    pub begun_boot_ms: u64,
    pub begun: u64,
    /// What it writes.
    pub value: Option<u64>,
    pub level: Level,
    /// Under which its key was deleted for certain when it began.
    pub deleted_before: Version,
}

#[derive(Debug)]
pub struct Operation {
    pub head: Head,
    pub task: Task,
}

#[derive(Debug)]
pub enum Task {
    Write(Box<Write>),
    Read(Box<Read>),
    Survey(Survey),
    Collect(Collection),
}

impl Head {
    pub fn letter(&self, proxy: usize, operation: u64, store: usize, request: Request) -> Letter {
        let identity = self.view.identities[store];
        Letter { proxy, operation, key: self.key, epoch: self.epoch, identity, request }
    }
}

impl Proxy {
    pub fn new(clock: Clock, stores: usize) -> Self {
        Self {
            clock,
            hlc: HybridClock::default(),
            starts: 1,
            is_up: true,
            stopped_until_us: 0,
            side: 0,
            epoch: 1,
            view: View { identities: vec![1; stores], ..View::default() },
            lease_until_ms: 0,
            operations: BTreeMap::new(),
            hints: BTreeMap::new(),
        }
    }

    pub fn kill(&mut self) {
        self.is_up = false;
        self.starts += 1;
        self.lease_until_ms = 0;
        self.hlc = HybridClock::default();
        self.operations.clear();
    }

    /// What it has applied, if nothing older is in flight.
    fn reports(&self) -> u64 {
        let pinned = self.operations.values().map(|operation| operation.head.epoch).min();
        pinned.unwrap_or(self.epoch).min(self.epoch)
    }
}

impl World {
    pub fn renew(&mut self, at: usize) {
        let proxy = &self.proxies[at];
        let (starts, reported) = (proxy.starts, proxy.reports());
        let sent_boot_ms = proxy.clock.boot_ms(self.now_us);
        let (is_up, is_near) = (proxy.is_up, proxy.side == 0);
        self.after(LEASE_MS * 100, Event::Renew(at));
        if is_up {
            self.carry(is_near, || Event::Renewal { proxy: at, starts, reported, sent_boot_ms });
        }
    }

    pub fn renewal(&mut self, at: usize, starts: u64, reported: u64, sent_boot_ms: u64) {
        let is_granted = self.group.renew(self.now_us, at, reported);
        self.group.look(self.now_us);
        let (epoch, is_near) = (self.group.epoch, self.proxies[at].side == 0);
        let lease_until_ms = is_granted.then_some(sent_boot_ms + LEASE_MS);
        let view = self.group.view.clone();
        let granted =
            || Event::Granted { proxy: at, starts, epoch, view: view.clone(), lease_until_ms };
        self.carry(is_near, granted);
    }

    pub fn granted(
        &mut self,
        at: usize,
        starts: u64,
        epoch: u64,
        view: View,
        until_ms: Option<u64>,
    ) {
        let proxy = &mut self.proxies[at];
        if proxy.starts == starts && proxy.is_up {
            proxy.epoch = proxy.epoch.max(epoch);
            if view.revision > proxy.view.revision {
                proxy.view = view;
            }
            proxy.lease_until_ms = proxy.lease_until_ms.max(until_ms.unwrap_or(0));
        }
    }

    pub fn has_lease(&self, at: usize, head: &Head) -> bool {
        let proxy = &self.proxies[at];
        let boot_ms = proxy.clock.boot_ms(self.now_us);
        boot_ms < proxy.lease_until_ms && boot_ms < head.begun_boot_ms + PIN_MS
    }

    pub fn client(&mut self, at: usize) {
        if self.is_healed {
            return;
        }
        let wait_us = self.rng.u64(5_000..120_000);
        self.after(wait_us, Event::Client(at));
        let asked = match self.rng.u8(0..10) {
            0..4 => Asked::Read,
            4..7 => Asked::Put,
            _ => Asked::Delete,
        };
        // Now and then a key is left alone for a while, so that its tombstone grows old.
        let last = if self.rng.bool() { 1 } else { STRICT_KEYS };
        let key = self.rng.u8(0..=last);
        let is_quiet = (self.now_us / 1_000_000 + u64::from(key)).is_multiple_of(3);
        let asked = if is_quiet { Asked::Read } else { asked };
        self.begin(at, key, asked);
    }

    pub fn begin(&mut self, at: usize, key: Key, asked: Asked) {
        if !self.proxies[at].is_up {
            return;
        }
        let level = match self.rng.u8(0..10) {
            _ if key >= STRICT_KEYS => Level::One,
            _ if self.is_healed => Level::Quorum,
            0 => Level::All,
            _ => Level::Quorum,
        };
        // What a proxy knows of stores is a little behind.
        let is_up = |store: usize| self.stores[store].is_up;
        let up: Set = (0..self.stores.len()).filter(|store| is_up(*store)).collect();
        let up = if self.chance(20) { Set::first(self.stores.len()) } else { up };
        let fresh =
            self.proxies[at].view.fresh.filter(|_| self.rules.keep(Rule::FreshProvesNothing));
        let fresh = fresh.into_iter().collect();
        let replicas = Replicas { count: self.stores.len(), up, fresh };
        let kind = match asked {
            Asked::Delete => Kind::Delete,
            _ => Kind::Put { is_held: self.rng.bool() },
        };
        let proposer = self.proposer(at);
        let task = match asked {
            Asked::Read => Read::new(level, replicas).map(|read| Task::Read(Box::new(read))),
            _ => Write::new(level, kind, replicas, proposer)
                .map(|write| Task::Write(Box::new(write))),
        };
        let Ok(task) = task else {
            self.count("refused");
            return;
        };
        let head = self.head(at, key, level);
        let value = (asked == Asked::Put).then_some(self.counter + 1);
        let is_write = asked != Asked::Read;
        let begun = head.begun;
        let operation = self.start(at, Operation { head: Head { value, ..head }, task });
        if is_write {
            let event = history::Event { kind: Told::Write(value), begun, ended: None };
            self.histories.entry(key).or_default().insert(operation, event);
        }
        self.drive(at, operation);
    }

    /// A node has the group begin an epoch, if the last is in force everywhere.
    pub fn next_epoch(&mut self, at: usize) {
        self.group.look(self.now_us);
        if self.group.barrier == self.group.epoch {
            let unix_ms = self.proxies[at].clock.wall_ms(self.now_us);
            self.group.next_epoch(unix_ms);
            self.count("epoch");
        }
    }

    fn proposer(&self, at: usize) -> Proposer {
        let incarnation = Incarnation(self.proxies[at].starts);
        Proposer { node: NodeId(at as u64 + 1), incarnation, worker: 0 }
    }

    pub fn head(&mut self, at: usize, key: Key, level: Level) -> Head {
        Head {
            key,
            epoch: self.proxies[at].epoch,
            view: self.proxies[at].view.clone(),
            begun_boot_ms: self.proxies[at].clock.boot_ms(self.now_us),
            begun: self.tick(),
            value: None,
            level,
            deleted_before: self.deleted.until_now(key),
        }
    }

    /// Takes an operation in, which ends with its time.
    pub fn start(&mut self, at: usize, operation: Operation) -> u64 {
        self.counter += 1;
        let number = self.counter;
        self.proxies[at].operations.insert(number, operation);
        self.after(PIN_MS * 1_000, Event::Timeout { proxy: at, operation: number });
        number
    }

    /// Sends one request of an operation to some stores.
    pub fn ask(&mut self, at: usize, number: u64, head: &Head, to: Set, request: &Request) {
        let letter = |store: usize| head.letter(at, number, store, request.clone());
        // The worst moment to be stopped: the lease was looked at, and nothing is sent yet.
        let mut later_us = 0;
        if request.is_write() && self.chance(4) {
            later_us = self.rng.u64(10_000..3_500_000);
            let proxy = &mut self.proxies[at];
            proxy.stopped_until_us = proxy.stopped_until_us.max(self.now_us + later_us);
            self.tell(at, "proxy is stopped before it sends", &[("for_us", later_us)]);
            self.count("stopped before it sends");
            // And what makes it matter: something is deleted and collected meanwhile.
            let other = (at + 1) % self.proxies.len();
            let deleted = self.rng.u8(0..STRICT_KEYS);
            self.after(30_000, Event::Begin { proxy: other, key: deleted, asked: Asked::Delete });
            self.after(500_000, Event::NextEpoch(other));
        }
        // The worst moment for a store to be killed and started: it has staged.
        if matches!(request, Request::Commit(_)) && self.chance(4) {
            let store = self.rng.usize(0..self.stores.len());
            self.kill_store(store, 0);
        }
        to.iter().for_each(|store| self.send(later_us, store, &letter(store)));
    }

    pub fn answer(&mut self, at: usize, number: u64, store: usize, reply: Reply) {
        let rules = self.rules;
        let Some(operation) = self.proxies[at].operations.get_mut(&number) else { return };
        let level = operation.head.level;
        match (&mut operation.task, reply) {
            (Task::Write(write), Reply::Staged(newest)) => {
                let newest =
                    if rules.keep(Rule::AskBeforeChoosing) { newest } else { Version::NONE };
                write.staged(store, newest);
            }
            (Task::Write(write), Reply::Held(held)) => {
                let is_asked = rules.keep(Rule::AskBeforeChoosing);
                write.staged(store, if is_asked { held.newest() } else { Version::NONE });
            }
            (Task::Write(write), Reply::Committed { effect: Effect::Superseded, .. })
                if !rules.keep(Rule::OneVersion)
                    && level != Level::One
                    && write.outcome().is_none() =>
            {
                self.stamp_anew(at, number);
                return;
            }
            // The network repeats letters here: an earlier one may have come to something else.
            (Task::Write(write), Reply::Committed { effect: Effect::Forgotten, .. }) => {
                write.commit_failed(store, Fault::Unknown);
            }
            (Task::Write(write), Reply::Committed { effect, newest }) => {
                write.committed(store, effect, newest);
                if effect == Effect::Superseded {
                    self.count("superseded");
                }
            }
            (Task::Write(write), Reply::NotStaged) => {
                write.commit_failed(store, Fault::NotStaged);
                self.count("not staged");
            }
            // The network repeats letters here: an earlier one may have been taken.
            (Task::Write(write), Reply::Stale) => {
                write.stage_failed(store);
                write.commit_failed(store, Fault::Unknown);
            }
            (Task::Read(read), Reply::Held(held)) => read.held(store, held),
            (Task::Read(read), Reply::Committed { effect, .. }) => read.repaired(store, effect),
            (Task::Read(read), Reply::Stale) => {
                read.failed(store);
                read.repair_failed(store);
            }
            (Task::Survey(_) | Task::Collect(_), reply) => self.heard(at, number, store, reply),
            (Task::Write(_) | Task::Read(_), _) => {}
        }
        self.drive(at, number);
    }

    pub fn timeout(&mut self, at: usize, number: u64) {
        let Some(operation) = self.proxies[at].operations.get_mut(&number) else { return };
        match &mut operation.task {
            Task::Write(write) => write.time_is_up(),
            Task::Read(read) => read.time_is_up(),
            Task::Survey(_) | Task::Collect(_) => self.survey_ends(at, number),
        }
        self.drive(at, number);
        self.proxies[at].operations.remove(&number);
    }

    /// Does what the machine says until it says no more.
    pub fn drive(&mut self, at: usize, number: u64) {
        let Some(mut operation) = self.proxies[at].operations.remove(&number) else { return };
        let is_over = match &mut operation.task {
            Task::Write(write) => {
                self.drive_write(at, number, &operation.head, write);
                write.outcome().is_some() && write.owed().is_empty()
            }
            Task::Read(read) => {
                self.drive_read(at, number, &operation.head, read);
                read.outcome().is_some()
            }
            Task::Survey(_) | Task::Collect(_) => false,
        };
        if !is_over {
            self.proxies[at].operations.insert(number, operation);
        }
    }

    fn drive_write(&mut self, at: usize, number: u64, head: &Head, write: &mut Write) {
        loop {
            let proxy = &mut self.proxies[at];
            let wall_ms = proxy.clock.wall_ms(self.now_us);
            let Some(said) = write.poll(&mut proxy.hlc, wall_ms) else { return };
            let bring = |version, is_tombstone| Request::Bring(Record { version, is_tombstone });
            let (to, request) = match said {
                write::Output::CheckLease if self.has_lease(at, head) => {
                    write.lease_held();
                    continue;
                }
                write::Output::CheckLease => {
                    self.count("lease lost");
                    write.lease_lost();
                    continue;
                }
                write::Output::Hint { version, replica } => {
                    self.hint(at, replica, head.key, version);
                    if !self.rules.keep(Rule::HintsAreNoAcks) {
                        write.committed(replica, Effect::Superseded, Version::NONE);
                    }
                    continue;
                }
                write::Output::Done(outcome) => {
                    self.written(at, number, head, outcome, write.version());
                    continue;
                }
                write::Output::Stage { to } => (to, Request::Stage),
                write::Output::Ask { to } => (to, Request::Ask),
                write::Output::Commit { version, to } => (to, Request::Commit(version)),
                write::Output::Put { version, to } => (to, bring(version, false)),
                write::Output::Remove { version, to } => (to, bring(version, true)),
                write::Output::Copy { version, to, .. } => {
                    self.count("copy");
                    (Set::only(to), bring(version, false))
                }
                write::Output::Abort { to } => (to, Request::Abort),
            };
            if let (Some(version), Some(value)) = (write.version(), head.value) {
                self.values.insert(version, value);
            }
            self.ask(at, number, head, to, &request);
        }
    }

    fn drive_read(&mut self, at: usize, number: u64, head: &Head, read: &mut Read) {
        while let Some(said) = read.poll() {
            match said {
                // Reads at `one` need no lease.
                read::Output::CheckLease
                    if head.level == Level::One || self.has_lease(at, head) =>
                {
                    read.lease_held();
                }
                read::Output::CheckLease => read.lease_lost(),
                read::Output::Ask { to } => self.ask(at, number, head, to, &Request::Ask),
                read::Output::Repair { to, .. } if !self.rules.keep(Rule::RepairBeforeAnswer) => {
                    to.iter().for_each(|replica| read.repaired(replica, Effect::Superseded));
                }
                read::Output::Repair { record, to, .. } => {
                    self.count("read repair");
                    self.ask(at, number, head, to, &Request::Bring(record));
                }
                read::Output::Done(answer) => self.read(at, number, head, answer),
            }
        }
    }

    fn written(
        &mut self,
        at: usize,
        number: u64,
        head: &Head,
        outcome: write::Outcome,
        version: Option<Version>,
    ) {
        let ended = self.tick();
        let history = self.histories.entry(head.key).or_default();
        match outcome {
            write::Outcome::Acknowledged { version, .. } => {
                // Whoever stamps anew ends the event of the write that he began.
                let event = history.values_mut().find(|event| {
                    event.begun == head.begun && event.kind == Told::Write(head.value)
                });
                event.expect("it was begun").ended = Some(ended);
                self.tell(
                    at,
                    "acknowledged",
                    &[("operation", number), ("key", u64::from(head.key))],
                );
                self.count("acknowledged");
                if head.level != Level::One {
                    self.visible.acknowledged(head.key, version);
                    if head.value.is_none() {
                        self.deleted.acknowledged(head.key, version);
                    }
                    let checked = self.visible.check(&self.stores, self.group.view.fresh);
                    self.check("visible", checked);
                }
            }
            // Of what was sent, the network may repeat what the answer did not speak of.
            write::Outcome::NotApplied(_) if version.is_none() => {
                history.remove(&number);
                self.count("not applied");
            }
            write::Outcome::NotApplied(_) | write::Outcome::Unknown(_) => self.count("unknown"),
        }
    }

    fn read(&mut self, at: usize, number: u64, head: &Head, answer: Answer) {
        if head.level == Level::One {
            return;
        }
        let found = match answer {
            Answer::None(_) => {
                self.count("no answer");
                return;
            }
            Answer::Absent { .. } => None,
            Answer::Value { version, .. } => {
                let checked = Deleted::answered(head.key, version, head.deleted_before);
                self.check("deleted", checked);
                Some(self.values[&version])
            }
        };
        let ended = Some(self.tick());
        let event = history::Event { kind: Told::Read(found), begun: head.begun, ended };
        self.histories.entry(head.key).or_default().insert(number, event);
        let fields = [("key", u64::from(head.key)), ("value", found.unwrap_or(0))];
        self.tell(at, "read", &fields);
        self.count("read");
    }

    /// What must never be done: the write begins anew, and may take effect twice.
    fn stamp_anew(&mut self, at: usize, number: u64) {
        let Some(operation) = self.proxies[at].operations.remove(&number) else { return };
        let kind = operation.head.value.map_or(Kind::Delete, |_| Kind::Put { is_held: true });
        let replicas = Replicas::all_up(self.stores.len());
        let proposer = self.proposer(at);
        let write = Write::new(operation.head.level, kind, replicas, proposer);
        let task = Task::Write(Box::new(write.expect("all are up")));
        let again = self.start(at, Operation { task, ..operation });
        self.drive(at, again);
    }
}
