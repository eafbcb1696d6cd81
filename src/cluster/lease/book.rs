//! The leader's side: who may hold a lease, and may an epoch be taken for over?

use std::collections::{BTreeMap, BTreeSet};

use super::clocks::{Offset, median};
use super::holding::{Holding, Member};
use super::message::{Denial, Grant, Renewal};
use super::settings::LeaseSettings;
use crate::ids::{Digest, Epoch, Incarnation, NodeId, PoolName, Term};

/// What one node, while it leads, knows of everybody's leases. Every node has one; it is told when
/// it leads, what is agreed, and what renewals come.
///
/// Always true while it leads: every process that can hold a lease is in `members` or `former`
/// with an end that is not before the true one, or the new leader's wait is not over.
#[derive(Debug)]
pub struct LeaseBook {
    settings: LeaseSettings,
    leading: Option<Leading>,
    /// What is agreed about the pools.
    agreed: BTreeMap<PoolName, AgreedPool>,
    /// Floors that are raised in memory, of pools that exist (rule 8). What is agreed may be
    /// higher.
    raised: BTreeMap<PoolName, Epoch>,
    members: BTreeMap<NodeId, Member>,
    /// Processes that do not count any more, and may not know it: of nodes that were removed, and
    /// former incarnations (rule 7). Kept until their leases are over.
    former: BTreeMap<NodeId, Holding>,
}

/// This node leads.
#[derive(Debug)]
struct Leading {
    term: Term,
    since_ms: u64,
    /// When the last heartbeat was sent that a majority has confirmed.
    confirmed_ms: Option<u64>,
    /// Whether the first entry of the term is applied.
    is_ready: bool,
}

/// What is agreed about a pool, as far as leases go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgreedPool {
    /// Its epoch.
    pub epoch: Epoch,
    /// The ring of that epoch; `None` while the leader itself has not built it.
    pub digest: Option<Digest>,
    /// Its barrier: no lease below it (rule 8).
    pub barrier: Epoch,
}

/// Why an epoch cannot be taken for in force everywhere yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsettled {
    /// Only the leader can know.
    #[error("this node does not lead")]
    NotLeader,
    /// The pool has not reached that epoch. A barrier above it would keep everybody from a lease.
    #[error("the epoch is not agreed yet")]
    NotAgreed,
    /// The first entry of the term is not applied: nodes may be missing in the book (rule 4).
    #[error("the leader is new, and does not know yet what was agreed before it")]
    NotReady,
    /// Leases of the leaders before may be live, with nodes that nobody here knows (rule 4).
    #[error("leases that former leaders granted may last for {for_ms} ms")]
    FormerLeaders {
        /// How much longer.
        for_ms: u64,
    },
    /// These nodes hold a lease, or may, and have not reported the epoch (rule 7).
    #[error("{} of the nodes have neither reported the epoch nor lost their lease", .0.len())]
    Nodes(Vec<NodeId>),
}

/// How the leader sees one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStanding {
    /// Its present start.
    pub incarnation: Incarnation,
    /// How long it may hold a lease from now, as the leader must assume; 0 if it is expired.
    pub holds_for_ms: u64,
    /// What it has reported.
    pub epochs: BTreeMap<PoolName, Epoch>,
    /// When its last renewal came, on the book's clock; `None` if none has since the election.
    pub heard_ms: Option<u64>,
    /// Why its last renewal was denied.
    pub denial: Option<Denial>,
    /// How much its wall clock is ahead of the median.
    pub clock_off_by_ms: Option<i64>,
}

impl LeaseBook {
    /// The book of a node that does not lead.
    #[must_use]
    pub fn new(settings: LeaseSettings) -> Self {
        Self {
            settings,
            leading: None,
            agreed: BTreeMap::new(),
            raised: BTreeMap::new(),
            members: BTreeMap::new(),
            former: BTreeMap::new(),
        }
    }

    /// Other settings were agreed. Leases that were granted keep their ends.
    pub fn set_settings(&mut self, settings: LeaseSettings) {
        self.settings = settings;
    }

    /// This node leads since `now_ms`, or since some moment before.
    ///
    /// Rule 4: what former leaders granted is not in this book, nor are the nodes that were removed
    /// or started anew in their time. So for the longest lease plus margin it takes *nobody* for
    /// expired and settles nothing, not even when all the nodes that it knows have reported. (The
    /// rule asks to wait for silent nodes; a removed one is silent and has no name here.) That
    /// costs a move of data some seconds after an election, and no request anything.
    pub fn elected(&mut self, term: Term, now_ms: u64) {
        self.leading =
            Some(Leading { term, since_ms: now_ms, confirmed_ms: None, is_ready: false });
        self.former.clear();
        // A floor that was raised for a proposal of a former term is either agreed by now, or that
        // proposal is lost.
        self.raised.clear();
        for member in self.members.values_mut() {
            *member = Member::new(member.incarnation, 0);
        }
    }

    /// This node does not lead any more, as far as it knows. It may have been so for long: what
    /// the book says while nobody has told it is bounded by rule 3 and void by the commit of what
    /// is proposed.
    pub fn deposed(&mut self) {
        self.leading = None;
    }

    /// The first entry of this node's own term is applied here (rule 4): with it everything that
    /// was agreed before, barriers and nodes included. Call after [`members`](Self::members) and
    /// [`agreed`](Self::agreed) were told that state.
    pub fn first_entry_applied(&mut self, term: Term) {
        if let Some(leading) = self.leading.as_mut().filter(|leading| leading.term == term) {
            leading.is_ready = true;
        }
    }

    /// A majority, this node included, has confirmed a heartbeat of this term that was *sent* at
    /// `sent_ms`. A cluster of one confirms its own at any time.
    pub fn quorum_confirmed(&mut self, term: Term, sent_ms: u64) {
        if let Some(leading) = self.leading.as_mut().filter(|leading| leading.term == term) {
            leading.confirmed_ms = leading.confirmed_ms.max(Some(sent_ms));
        }
    }

    /// The nodes of the applied state, each in its present incarnation. Call with each state that
    /// is applied.
    ///
    /// Rule 7: who is new here counts as a holder until it reports, or a lease has passed. Who is
    /// gone, and who was started anew, held what it held until that is over: its process may be
    /// running still, cut off, or twice on two machines. The successor's reports are its own: it
    /// may have forgotten an epoch that its predecessor had reported.
    pub fn members(&mut self, now_ms: u64, nodes: &BTreeMap<NodeId, Incarnation>) {
        self.former.retain(|_, holding| holding.is_live(now_ms));
        let gone: Vec<NodeId> = self
            .members
            .iter()
            .filter(|(id, member)| nodes.get(id) != Some(&member.incarnation))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let Some(member) = self.members.remove(&id) else { continue };
            if member.holding.is_live(now_ms) {
                self.former
                    .entry(id)
                    .and_modify(|holding| holding.join(&member.holding))
                    .or_insert(member.holding);
            }
        }
        let until_ms = now_ms.saturating_add(self.settings.predecessors_ms());
        for (id, incarnation) in nodes {
            self.members.entry(*id).or_insert_with(|| Member::new(*incarnation, until_ms));
        }
    }

    /// The pools of the applied state. Call with each state that is applied.
    pub fn agreed(&mut self, pools: BTreeMap<PoolName, AgreedPool>) {
        self.raised.retain(|pool, _| pools.contains_key(pool));
        let holdings = self.members.values_mut().map(|member| &mut member.holding);
        for holding in holdings.chain(self.former.values_mut()) {
            holding.epochs.retain(|pool, _| pools.contains_key(pool));
        }
        self.agreed = pools;
    }

    /// Answers a renewal.
    ///
    /// # Errors
    /// [`Denial`]. A denied node's report is noted all the same: it is true whether or not it gets
    /// a lease for it.
    pub fn renewal(&mut self, now_ms: u64, renewal: &Renewal) -> Result<Grant, Denial> {
        let term = self.leading.as_ref().ok_or(Denial::NotLeader)?.term;
        let member = self.members.get_mut(&renewal.node).ok_or(Denial::Unknown)?;
        let current = member.incarnation;
        if renewal.incarnation < current {
            return Err(Denial::Superseded { current });
        }
        if renewal.incarnation > current {
            // Agreed already, and not applied here yet.
            return Err(Denial::Unknown);
        }
        member.holding.report(&renewal.epochs, |pool| self.agreed.contains_key(pool));
        member.heard = Some((now_ms, Offset::new(renewal.wall_ms, now_ms)));
        let judged = self.judge(now_ms, renewal);
        let member = self.members.get_mut(&renewal.node).ok_or(Denial::Unknown)?;
        member.denial = judged.as_ref().err().cloned();
        let duration_ms = judged?;
        let over_ms = now_ms.saturating_add(LeaseSettings::with_margin(duration_ms));
        member.holding.until_ms = member.holding.until_ms.max(over_ms);
        Ok(Grant {
            incarnation: current,
            number: renewal.number,
            duration_ms,
            floors: self.floors(),
            term,
        })
    }

    /// For how long a renewal is granted.
    fn judge(&self, now_ms: u64, renewal: &Renewal) -> Result<u64, Denial> {
        let leading = self.leading.as_ref().ok_or(Denial::NotLeader)?;
        // Rule 4: before it, barriers that were raised by a predecessor may be unknown here.
        if !leading.is_ready {
            return Err(Denial::NotReady);
        }
        // Rule 8: such a node would be given back the right that the barrier has taken from it.
        for (pool, floor) in self.floors() {
            let reported = renewal.epochs.get(&pool).copied().unwrap_or_default();
            if reported < floor {
                return Err(Denial::BelowFloor { pool, reported, floor });
            }
        }
        for (pool, ring) in &renewal.rings {
            let agreed = self.agreed.get(pool).filter(|agreed| agreed.epoch == ring.epoch);
            if agreed.and_then(|agreed| agreed.digest).is_some_and(|digest| digest != ring.digest) {
                return Err(Denial::DigestMismatch { pool: pool.clone(), epoch: ring.epoch });
            }
        }
        if let Some(off_by_ms) = self.clock_off_by_ms(now_ms, renewal.node)
            && off_by_ms.unsigned_abs() > self.settings.clock_skew_max_ms
        {
            return Err(Denial::ClockSkew { off_by_ms });
        }
        // Rule 3: whoever was elected since that heartbeat waits for one lease from its election,
        // and this grant is over by then, even if this node does not know that it is deposed.
        let confirmed_ms = leading.confirmed_ms.ok_or(Denial::NoQuorum)?.min(now_ms);
        let lease_ms = self.settings.lease_ms;
        match confirmed_ms.saturating_add(lease_ms).saturating_sub(now_ms).min(lease_ms) {
            0 => Err(Denial::NoQuorum),
            duration_ms => Ok(duration_ms),
        }
    }

    /// The least epoch of each pool that a lease is granted at.
    fn floors(&self) -> BTreeMap<PoolName, Epoch> {
        let floor = |(pool, agreed): (&PoolName, &AgreedPool)| {
            let raised = self.raised.get(pool).copied().unwrap_or_default();
            (pool.clone(), agreed.barrier.max(raised))
        };
        self.agreed.iter().map(floor).collect()
    }

    /// How much a node's wall clock is ahead of the median of the reports of the last lease.
    fn clock_off_by_ms(&self, now_ms: u64, node: NodeId) -> Option<i64> {
        let recent = |member: &Member| {
            let (at_ms, offset) = member.heard?;
            (now_ms.saturating_sub(at_ms) < self.settings.lease_ms).then_some(offset)
        };
        let own = recent(self.members.get(&node)?)?;
        median(self.members.values().filter_map(recent).collect()).map(|all| own.ahead_of(all))
    }

    /// Whether the barrier for `epoch` may be proposed: `RaiseBarriers` by this node, in the term
    /// that is returned and in no other (see the module's doc).
    ///
    /// Rule 8: in the same step the floor is raised. If it were raised by the commit alone, a stale
    /// node could be given a lease between the proposal and the commit.
    ///
    /// # Errors
    /// [`Unsettled`]; no floor is raised. Ask again later.
    pub fn advance(
        &mut self,
        now_ms: u64,
        pool: &PoolName,
        epoch: Epoch,
    ) -> Result<Term, Unsettled> {
        self.unsettled(now_ms, pool, epoch)?;
        let raised = self.raised.entry(pool.clone()).or_default();
        *raised = (*raised).max(epoch);
        self.leading.as_ref().map(|leading| leading.term).ok_or(Unsettled::NotLeader)
    }

    /// Rule 7: whether every process that may hold a lease has reported `epoch`, or is expired.
    ///
    /// # Errors
    /// [`Unsettled`], which says what is waited for.
    pub fn unsettled(&self, now_ms: u64, pool: &PoolName, epoch: Epoch) -> Result<(), Unsettled> {
        let leading = self.leading.as_ref().ok_or(Unsettled::NotLeader)?;
        if !leading.is_ready {
            return Err(Unsettled::NotReady);
        }
        if self.agreed.get(pool).is_none_or(|agreed| agreed.epoch < epoch) {
            return Err(Unsettled::NotAgreed);
        }
        let for_ms = self.former_leaders_ms(now_ms, leading);
        if for_ms > 0 {
            return Err(Unsettled::FormerLeaders { for_ms });
        }
        let members = self.members.iter().map(|(id, member)| (id, &member.holding));
        let behind: BTreeSet<NodeId> = members
            .chain(&self.former)
            .filter(|(_, holding)| !holding.is_past(now_ms, pool, epoch))
            .map(|(id, _)| *id)
            .collect();
        if behind.is_empty() { Ok(()) } else { Err(Unsettled::Nodes(behind.into_iter().collect())) }
    }

    /// How long leases of former leaders may still be live.
    fn former_leaders_ms(&self, now_ms: u64, leading: &Leading) -> u64 {
        let until_ms = leading.since_ms.saturating_add(self.settings.predecessors_ms());
        until_ms.saturating_sub(now_ms)
    }

    /// The nodes whose views make verdicts: members that hold a lease, or may. A node that has
    /// been silent for long does not count; one that a new leader has not heard yet does, or the
    /// first to renew would decide alone.
    #[must_use]
    pub fn holders(&self, now_ms: u64) -> BTreeSet<NodeId> {
        let Some(leading) = &self.leading else { return BTreeSet::new() };
        let all = self.former_leaders_ms(now_ms, leading) > 0;
        self.members
            .iter()
            .filter(|(_, member)| all || member.holding.is_live(now_ms))
            .map(|(id, _)| *id)
            .collect()
    }

    /// How the leader sees the nodes; empty if this node does not lead.
    #[must_use]
    pub fn standing(&self, now_ms: u64) -> Vec<(NodeId, NodeStanding)> {
        let Some(leading) = &self.leading else { return Vec::new() };
        let at_least_ms = self.former_leaders_ms(now_ms, leading);
        let standing = |(id, member): (&NodeId, &Member)| {
            let holds_for_ms = member.holding.until_ms.saturating_sub(now_ms).max(at_least_ms);
            let standing = NodeStanding {
                incarnation: member.incarnation,
                holds_for_ms,
                epochs: member.holding.epochs.clone(),
                heard_ms: member.heard.map(|(at_ms, _)| at_ms),
                denial: member.denial.clone(),
                clock_off_by_ms: self.clock_off_by_ms(now_ms, *id),
            };
            (*id, standing)
        };
        self.members.iter().map(standing).collect()
    }
}
