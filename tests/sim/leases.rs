//! How leases are renewed: what the runner of a node does about every second, and what it does with
//! the answers.

use std::collections::BTreeMap;

use ringway::cluster::lease::{Denial, Grant, Renewal};
use ringway::cluster::verdict::Views;
use ringway::cluster::{Command, FEATURE_LEVEL};
use ringway::ids::{Epoch, Incarnation, PoolName};

use crate::rules::Rule;
use crate::world::{Event, Step, World};

impl World {
    pub fn tick(&mut self, at: usize) {
        let jitter_us = self.rng.u64(0..self.renew_us() / 5);
        self.after(self.renew_us() - jitter_us, Event::At(at, Step::Tick));
        self.hear_of_leader(at);
        if self.processes[at].incarnation.is_none() {
            self.ask_for_incarnation(at);
        } else {
            self.renew(at);
        }
    }

    /// A node that has started asks until its own start is applied.
    fn ask_for_incarnation(&mut self, at: usize) {
        let Some(leader) = self.group.leader.filter(|_| !self.chance(30)) else { return };
        let (node, term) = (self.processes[at].node, self.group.term);
        let Some(known) = self.processes[at].state.nodes().get(&node) else { return };
        let command = Command::BeginIncarnation {
            node,
            after: known.incarnation,
            address: known.address.clone(),
            version: "sim".to_owned(),
            feature_level: FEATURE_LEVEL,
        };
        let envelope = self.envelope(at, None, command);
        self.send(at, leader, || Step::Propose {
            term,
            envelope: envelope.clone(),
            waits: Some(at),
        });
    }

    fn renew(&mut self, at: usize) {
        let now_ms = self.now_ms(at);
        let epochs = self.report(at);
        let process = &mut self.processes[at];
        let (wall_ms, rings) = (process.clock.wall_ms(self.now_us), process.rings().clone());
        let Some(holder) = &mut process.holder else { return };
        let mut renewal = holder.renew(now_ms, wall_ms, epochs.clone(), rings);
        process.sent_ms.insert(renewal.number, now_ms);
        let views = process.views(&self.down);
        let (node, to, is_zombie) = (process.node, process.believed_leader, process.is_zombie);
        if !self.rules.keep(Rule::WaitForFormerIncarnations) {
            renewal.incarnation = Incarnation(1);
        }
        if !is_zombie {
            let checked = self.epochs.reported(node, &epochs);
            self.check("epochs", checked);
            self.majority.said(self.now_us, node, &views);
        }
        self.tell(Some(at), "renews", &[("number", renewal.number)]);
        self.send(at, to, || Step::Renewal {
            from: at,
            renewal: renewal.clone(),
            views: views.clone(),
        });
    }

    /// Rule 6, or what a runner would report that has not heard of it.
    fn report(&mut self, at: usize) -> BTreeMap<PoolName, Epoch> {
        let now_ms = self.now_ms(at);
        let process = &mut self.processes[at];
        let applied = process.epochs();
        if self.rules.keep(Rule::ReportNothingInFlight) {
            process.pins.report(now_ms, &applied)
        } else {
            applied
        }
    }

    pub fn renewal(&mut self, at: usize, from: usize, renewal: &Renewal, views: Views) {
        let now_ms = self.now_ms(at);
        let process = &mut self.processes[at];
        if let Some(term) = process.leads.filter(|_| !self.rules.keep(Rule::BoundByQuorum)) {
            process.book.quorum_confirmed(term, now_ms);
        }
        let answer = process.book.renewal(now_ms, renewal);
        let what = match &answer {
            Ok(grant) => {
                process.verdicts.views(renewal.node, views);
                let fields = [
                    ("to", renewal.node.0),
                    ("number", renewal.number),
                    ("duration_ms", grant.duration_ms),
                ];
                self.tell(Some(at), "grants", &fields);
                let checked = self.floors.granted(&renewal.epochs);
                self.check("floors", checked);
                "granted"
            }
            Err(denial) => {
                let what = named(denial);
                self.tell(Some(at), what, &[("to", renewal.node.0), ("number", renewal.number)]);
                what
            }
        };
        self.count(what);
        let number = renewal.number;
        self.send(at, from, || Step::Answer { number, answer: answer.clone() });
    }

    pub fn answer(&mut self, at: usize, number: u64, answer: Result<Grant, Denial>) {
        let now_ms = self.now_ms(at);
        let process = &mut self.processes[at];
        let Some(holder) = &mut process.holder else { return };
        match answer {
            Ok(mut grant) => {
                if !self.rules.keep(Rule::WaitForFormerIncarnations) {
                    grant.incarnation = process.incarnation.unwrap_or_default();
                }
                if !self.rules.keep(Rule::CountedFromSending) {
                    let sent_ms = process.sent_ms.get(&number).copied().unwrap_or(now_ms);
                    grant.duration_ms += now_ms.saturating_sub(sent_ms);
                }
                if holder.granted(now_ms, &grant) {
                    let for_ms = holder.remaining_ms(now_ms);
                    self.tell(Some(at), "holds a lease", &[("for_ms", for_ms)]);
                }
            }
            Err(denial) => holder.denied(now_ms, &denial),
        }
    }

    /// Whether the lease lets an operation go on, as the runner takes it (rule 5).
    pub fn may_go_on(&self, at: usize, pool: &PoolName, epoch: Epoch) -> Result<(), &'static str> {
        use ringway::cluster::lease::NoLease;

        let Some(holder) = &self.processes[at].holder else { return Err("has not begun") };
        match holder.check(self.now_ms(at), pool, epoch) {
            Ok(()) => Ok(()),
            Err(NoLease::RanOut { .. }) if !self.rules.keep(Rule::LeasesRunOut) => Ok(()),
            Err(NoLease::RanOut { .. }) => Err("lease ran out"),
            Err(NoLease::NotYet) => Err("no lease yet"),
            Err(NoLease::BelowFloor { .. }) => Err("below the floor"),
        }
    }
}

fn named(denial: &Denial) -> &'static str {
    match denial {
        Denial::NotLeader => "denied: not leader",
        Denial::NotReady => "denied: not ready",
        Denial::NoQuorum => "denied: no quorum",
        Denial::Unknown => "denied: unknown",
        Denial::Superseded { .. } => "denied: superseded",
        Denial::BelowFloor { .. } => "denied: below floor",
        Denial::DigestMismatch { .. } => "denied: digest mismatch",
        Denial::ClockSkew { .. } => "denied: clock skew",
    }
}
