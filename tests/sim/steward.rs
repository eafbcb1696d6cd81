//! What a leader does besides granting: it raises barriers and decides verdicts.

use std::collections::{BTreeMap, BTreeSet};

use ringway::cluster::lease::{LeaseSettings, NodeStanding, Unsettled};
use ringway::cluster::verdict::Agreed;
use ringway::cluster::{Actor, Command, Envelope};
use ringway::ids::{CommandId, Epoch, Incarnation, NodeId, PoolName, Term};

use crate::rules::Rule;
use crate::world::{Event, Step, World, number};

impl World {
    /// Tells a book what its node has applied.
    pub fn tell_book(&mut self, at: usize) {
        let now_ms = self.now_ms(at);
        let mut nodes = self.processes[at].nodes();
        if !self.rules.keep(Rule::WaitForFormerIncarnations) {
            nodes.values_mut().for_each(|incarnation| *incarnation = Incarnation(1));
        }
        let mut agreed = self.processes[at].agreed();
        if !self.rules.keep(Rule::FloorInState) {
            agreed.values_mut().for_each(|pool| pool.barrier = Epoch(0));
        }
        let process = &mut self.processes[at];
        process.book.members(now_ms, &nodes);
        process.book.agreed(agreed);
        process.book.first_entry_applied(process.first_of);
    }

    pub fn steward(&mut self, at: usize) {
        let wait_us = self.rng.u64(100_000..300_000);
        self.after(wait_us, Event::At(at, Step::Steward));
        if self.processes[at].leads.is_some() {
            self.raise_barriers(at);
            self.decide_verdicts(at);
        }
    }

    fn raise_barriers(&mut self, at: usize) {
        let behind: Vec<(PoolName, Epoch)> = self.processes[at]
            .state
            .pools()
            .iter()
            .filter(|(_, pool)| pool.barrier < pool.epoch)
            .map(|(name, pool)| (name.clone(), pool.epoch))
            .collect();
        for (pool, epoch) in behind {
            let lately = self.processes[at]
                .proposed
                .get(&pool)
                .is_some_and(|(known, at_us)| *known == epoch && self.now_us - at_us < 1_000_000);
            if lately {
                continue;
            }
            let Some(term) = self.advance(at, &pool, epoch) else { continue };
            let fields = [("pool", number(pool.as_str())), ("epoch", epoch.0)];
            self.tell(Some(at), "may raise the barrier", &fields);
            self.processes[at].proposed.insert(pool.clone(), (epoch, self.now_us));
            let command = Command::RaiseBarriers { term, barriers: vec![(pool, epoch)] };
            self.propose_soon(at, term, command);
        }
    }

    /// Rules 7 and 8, or what a runner would make of them that has not read them.
    fn advance(&mut self, at: usize, pool: &PoolName, epoch: Epoch) -> Option<Term> {
        let now_ms = self.now_ms(at);
        let term = match self.processes[at].book.advance(now_ms, pool, epoch) {
            Ok(term) => term,
            Err(unsettled) if self.overlooks(at, pool, epoch, &unsettled) => {
                // It would raise the floor all the same.
                let process = &mut self.processes[at];
                let mut agreed = process.agreed();
                agreed.entry(pool.clone()).and_modify(|agreed| agreed.barrier = epoch);
                process.book.agreed(agreed);
                process.leads?
            }
            Err(_) => return None,
        };
        if !self.rules.keep(Rule::FloorInMemory) {
            // A book forgets the floors of pools that are gone.
            self.processes[at].book.agreed(BTreeMap::new());
            self.tell_book(at);
        }
        Some(term)
    }

    /// Whether a mistaken runner would advance although the book says no.
    fn overlooks(&self, at: usize, pool: &PoolName, epoch: Epoch, why: &Unsettled) -> bool {
        let now_ms = self.now_ms(at);
        let silent_ms = 2 * self.renew_us() / 1000;
        let standing: BTreeMap<NodeId, NodeStanding> =
            self.processes[at].book.standing(now_ms).into_iter().collect();
        match why {
            Unsettled::FormerLeaders { .. } => {
                let has_reported =
                    |node: &NodeStanding| node.epochs.get(pool).is_some_and(|told| *told >= epoch);
                !self.rules.keep(Rule::WaitForUnknown) && standing.values().all(has_reported)
            }
            Unsettled::Nodes(waits_for) => waits_for.iter().all(|node| match standing.get(node) {
                None => !self.rules.keep(Rule::WaitForRemoved),
                Some(standing) => {
                    !self.rules.keep(Rule::WaitForSilent)
                        && standing.heard_ms.is_none_or(|heard_ms| now_ms - heard_ms > silent_ms)
                }
            }),
            Unsettled::NotLeader | Unsettled::NotReady | Unsettled::NotAgreed => false,
        }
    }

    /// What a process takes for agreed about leases.
    pub fn lease_settings(&self, at: usize) -> LeaseSettings {
        let settings = self.processes[at].state.lease_settings();
        if self.rules.keep(Rule::WaitForLongest) {
            settings
        } else {
            LeaseSettings { lease_longest_ms: settings.lease_ms, ..settings }
        }
    }

    pub fn take_settings(&mut self, at: usize) {
        let lease = self.lease_settings(at);
        self.processes[at].take_settings(lease);
    }

    fn decide_verdicts(&mut self, at: usize) {
        let now_ms = self.now_ms(at);
        let process = &mut self.processes[at];
        let Some(term) = process.leads else { return };
        let agreed: Agreed = process
            .state
            .pools()
            .iter()
            .map(|(name, pool)| {
                let verdicts = pool.shards.keys().map(|id| (id.clone(), pool.verdict(id)));
                (name.clone(), verdicts.collect())
            })
            .collect();
        let mut holders = process.book.holders(now_ms);
        if !self.rules.keep(Rule::MajorityOfHolders) {
            holders = holders.into_iter().take(1).collect();
        }
        let decided = process.verdicts.decide(now_ms, &holders, &agreed);
        if decided.is_empty() {
            return;
        }
        if self.group.leader == Some(at) && self.group.term == term {
            let members = self.processes[at].nodes();
            let holding: BTreeSet<NodeId> = (0..self.processes.len())
                .filter(|other| {
                    let process = &self.processes[*other];
                    let left = process.holder.as_ref().map(|h| h.remaining_ms(self.now_ms(*other)));
                    process.is_alive && members.contains_key(&process.node) && left > Some(0)
                })
                .map(|other| self.processes[other].node)
                .collect();
            let since_us = self.now_us.saturating_sub(3 * self.lease_us());
            for (pool, shard, verdict) in &decided {
                let was = agreed.get(pool).and_then(|shards| shards.get(shard));
                if was.is_some_and(|was| was.reads_down != verdict.reads_down) {
                    let down = verdict.reads_down;
                    let checked = self.majority.decided(since_us, pool, shard, down, &holding);
                    self.check("majority", checked);
                }
            }
        }
        self.tell(Some(at), "decides a verdict", &[]);
        self.propose_soon(at, term, Command::SetVerdicts { term, verdicts: decided });
    }

    /// A proposal of the steward's: it may dawdle on the way from its thought to the log.
    pub fn propose_soon(&mut self, at: usize, term: Term, command: Command) {
        self.processes[at].sequence += 1;
        let process = &self.processes[at];
        let id = CommandId {
            node: process.node,
            incarnation: process.incarnation.unwrap_or_default(),
            sequence: process.sequence,
        };
        let envelope = self.envelope(at, Some(id), command);
        let longest_us = if self.chance(15) { self.lease_us() } else { 10_000 };
        let delay_us = self.rng.u64(100..longest_us);
        self.after(delay_us, Event::At(at, Step::Propose { term, envelope, waits: None }));
    }

    pub fn envelope(&self, at: usize, id: Option<CommandId>, command: Command) -> Envelope {
        Envelope {
            id,
            actor: Actor::tamed("sim"),
            at_ms: self.processes[at].clock.wall_ms(self.now_us),
            command,
        }
    }
}
