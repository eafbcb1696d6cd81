//! How the group elects, appends, commits and delivers.

use ringway::cluster::verdict::VerdictBook;
use ringway::cluster::{Command, Envelope};
use ringway::ids::Term;

use crate::group::Entry;
use crate::rules::Rule;
use crate::world::{Event, Step, World, number};

const HEARTBEAT_US: u64 = 150_000;

impl World {
    /// Whether two processes can speak as members of the group.
    fn are_linked(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.processes[a], &self.processes[b]);
        a.side == b.side && !a.is_zombie && !b.is_zombie
    }

    /// Whether a majority of the voters answers this process.
    fn has_quorum(&self, at: usize) -> bool {
        let answers = |voter: &&ringway::ids::NodeId| {
            self.present(**voter).is_some_and(|other| {
                let runs = self.now_us >= self.processes[other].stopped_until_us;
                runs && self.are_linked(at, other)
            })
        };
        self.processes[at].is_alive
            && self.now_us >= self.processes[at].stopped_until_us
            && self.voters.iter().filter(answers).count() * 2 > self.voters.len()
    }

    pub fn look_for_leader(&mut self) {
        let wait_us = self.rng.u64(200_000..500_000);
        self.after(wait_us, Event::LookForLeader);
        let has_leader = self.group.leader.is_some_and(|leader| self.has_quorum(leader));
        if has_leader && !self.chance(2) {
            self.leaderless_since_us = None;
            return;
        }
        let since_us = *self.leaderless_since_us.get_or_insert(self.now_us);
        if has_leader || self.now_us - since_us >= 500_000 {
            self.elect();
        }
    }

    fn elect(&mut self) {
        let mut candidates: Vec<usize> = Vec::new();
        for voter in &self.voters {
            candidates.extend(self.present(*voter).filter(|at| self.has_quorum(*at)));
        }
        let Some(at) = self.rng.choice(candidates) else { return };
        self.leaderless_since_us = None;
        let upto = self.group.elect(at, &mut self.rng);
        let term = self.group.term;
        self.tell(Some(at), "wins the election", &[("term", term.0)]);
        self.count("election");
        self.commit_soon(term, upto);
        let delay_us = self.rng.u64(0..50_000);
        self.after(delay_us, Event::At(at, Step::Elected(term)));
    }

    fn commit_soon(&mut self, term: Term, upto: usize) {
        let longest_us = if self.chance(20) { self.lease_us() / 2 } else { 20_000 };
        let delay_us = self.rng.u64(500..longest_us);
        self.after(delay_us, Event::Commit { term, upto });
    }

    /// The runner of a process hears that it leads.
    pub fn elected(&mut self, at: usize, term: Term) {
        let now_ms = self.now_ms(at);
        if self.processes[at].leads.is_some_and(|known| known >= term) {
            return;
        }
        self.tell(Some(at), "leads", &[("term", term.0)]);
        let since_ms = if self.rules.keep(Rule::WaitForPredecessors) {
            now_ms
        } else {
            now_ms.saturating_sub(self.lease_settings(at).predecessors_ms())
        };
        let process = &mut self.processes[at];
        process.leads = Some(term);
        process.believed_leader = at;
        process.proposed.clear();
        process.verdicts = VerdictBook::new(process.state.verdict_settings());
        process.book.elected(term, since_ms);
        self.tell_book(at);
        if !self.rules.keep(Rule::ReadyBeforeGranting) {
            self.processes[at].book.first_entry_applied(term);
        }
        self.heartbeat(at, term);
    }

    pub fn heartbeat(&mut self, at: usize, term: Term) {
        if self.processes[at].leads != Some(term) {
            return;
        }
        self.after(HEARTBEAT_US, Event::At(at, Step::Heartbeat(term)));
        let sent_ms = self.now_ms(at);
        let delay_us = self.delay_us();
        self.after(delay_us, Event::HeartbeatHeard { leader: at, term, sent_ms });
    }

    /// A majority answers, unless it has moved on to another term, or cannot.
    pub fn heartbeat_heard(&mut self, leader: usize, term: Term, sent_ms: u64) {
        if self.group.term == term && self.has_quorum(leader) {
            let delay_us = self.delay_us();
            let step = Step::HeartbeatConfirmed { term, sent_ms };
            self.after(delay_us, Event::At(leader, step));
        }
    }

    /// Entries are appended by the leader of the latest term. What one appends that only believes
    /// to lead is never seen; or its runner hears that it does not lead, and forwards the proposal.
    pub fn propose(&mut self, at: usize, term: Term, envelope: &Envelope, waits: Option<usize>) {
        let is_own = self.group.leader == Some(at) && self.group.term == term;
        if !is_own && self.rng.bool() {
            self.tell(Some(at), "proposes in vain", &[("term", term.0)]);
            self.count("proposal lost");
            return;
        }
        // A proposer that hears no answer proposes again.
        let copies = if envelope.id.is_some() && self.chance(10) { 2 } else { 1 };
        self.tell(Some(at), "proposes", &[("term", term.0), ("copies", copies)]);
        for _ in 0..copies {
            let term = self.group.term;
            let entry = Entry { term, envelope: Some(envelope.clone()), waits };
            let upto = self.group.append(entry);
            self.commit_soon(term, upto);
        }
    }

    pub fn commit(&mut self, term: Term, upto: usize) {
        if self.group.term != term {
            return;
        }
        if !self.group.leader.is_some_and(|leader| self.has_quorum(leader)) {
            self.after(100_000, Event::Commit { term, upto });
            return;
        }
        let new = self.group.commit(upto);
        for index in self.group.log.len() - new..self.group.log.len() {
            let entry = std::sync::Arc::clone(&self.group.log[index]);
            self.committed(index, &entry);
        }
        if new > 0 {
            for at in 0..self.processes.len() {
                self.deliver(at);
            }
        }
    }

    fn committed(&mut self, index: usize, entry: &Entry) {
        let at = u64::try_from(index + 1).expect("logs are short");
        self.tell(None, "commits", &[("index", at), ("term", entry.term.0)]);
        let outcome = match self.log.committed(entry, self.rules.keep(Rule::GoodInItsTerm)) {
            Ok(outcome) => outcome,
            Err(what) => return self.check("log", Err(what)),
        };
        let (Some(envelope), Some(Ok(applied))) = (&entry.envelope, outcome) else {
            return;
        };
        match &envelope.command {
            Command::RaiseBarriers { barriers, .. } => {
                for (pool, epoch) in barriers {
                    let fields = [("pool", number(pool.as_str())), ("epoch", epoch.0)];
                    self.tell(None, "barrier passed", &fields);
                    self.count("barrier passed");
                    self.acknowledgements.barrier_passed(self.now_us, pool, *epoch);
                    self.floors.barrier_passed(pool, *epoch);
                }
            }
            Command::RemovePool { pool } => {
                self.count("pool removed");
                self.acknowledgements.pool_removed(pool);
                self.floors.pool_removed(pool);
            }
            Command::AddNode { .. } => {
                if let Some(node) = applied.node.filter(|_| !applied.repeated) {
                    self.joins(node);
                }
            }
            Command::RemoveNode { node } => {
                self.count("node removed");
                // It may not know, and serves as long as its lease lets it.
                if let Some(at) = self.present(*node) {
                    self.after(2 * self.lease_us(), Event::End(at));
                }
            }
            Command::SetVerdicts { .. } => self.count("verdict"),
            Command::SetSettings { .. } => self.count("lease of another length"),
            _ => {}
        }
    }

    /// What is committed is on its way to a process.
    pub fn deliver(&mut self, at: usize) {
        if self.processes[at].is_alive && !self.processes[at].is_zombie {
            let delay_us = self.delay_us();
            self.after(delay_us, Event::At(at, Step::Apply));
        }
    }

    pub fn apply(&mut self, at: usize) {
        let (applied, committed) = (self.processes[at].applied, self.group.log.len());
        let reached = self.group.leader.is_some_and(|leader| self.are_linked(at, leader));
        if !reached || self.now_us < self.processes[at].lags_until_us || applied == committed {
            return;
        }
        // Perhaps some of it now, and the rest a moment later.
        let upto = if self.is_healed { committed } else { self.rng.usize(applied + 1..=committed) };
        let asks = self.rules.keep(Rule::GoodInItsTerm);
        for index in applied..upto {
            let entry = std::sync::Arc::clone(&self.group.log[index]);
            self.processes[at].apply_entry(at, &entry, asks);
        }
        let fields = [("upto", u64::try_from(upto).expect("logs are short"))];
        self.tell(Some(at), "applies", &fields);
        let process = &self.processes[at];
        let checked = [
            ("log", self.log.applied(upto, &process.state)),
            ("digests", self.digests.serves(process.rings())),
            ("epochs", self.epochs.applied(at, &process.epochs())),
        ];
        checked.into_iter().for_each(|(of, checked)| self.check(of, checked));
        if self.rng.u8(0..4) == 0 {
            self.processes[at].sync();
        }
        self.take_settings(at);
        self.tell_book(at);
        if upto < committed {
            self.deliver(at);
        }
    }

    /// The process hears of the leader, if it can.
    pub fn hear_of_leader(&mut self, at: usize) {
        let Some(leader) = self.group.leader else { return };
        let is_heard = at == leader
            || (self.are_linked(at, leader)
                && self.processes[leader].is_alive
                && self.now_us >= self.processes[leader].stopped_until_us
                && !self.chance(20));
        if !is_heard {
            return;
        }
        let process = &mut self.processes[at];
        process.believed_leader = leader;
        if process.leads.is_some_and(|term| term < self.group.term) {
            process.leads = None;
            process.book.deposed();
            self.tell(Some(at), "is deposed", &[("term", self.group.term.0)]);
            self.count("deposed leader heard of it");
        }
        if self.processes[at].applied < self.group.log.len() {
            self.deliver(at);
        }
    }
}
