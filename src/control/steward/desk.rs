//! What does the leader keep of the others, and what does it find due?

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::message::{Answer, Report};
use super::overview::{NodeReport, Overview};
use crate::cluster::lease::{AgreedPool, Denial, LeaseBook, NodeStanding};
use crate::cluster::verdict::{Agreed, Seen, VerdictBook, Views};
use crate::cluster::{ClusterState, Command, NodeState, Topology, VERDICTS_MAX};
use crate::ids::{FeatureLevel, NodeId, ShardId, Term};

/// How often views are counted. They come once a second; counting clones every shard's name.
const DECIDE_EVERY_MS: u64 = 500;

/// Every node has one; it is in use while the node leads.
pub struct Desk {
    book: LeaseBook,
    verdicts: VerdictBook,
    leads: Option<Term>,
    /// When views were last counted.
    decided_ms: Option<u64>,
    reports: BTreeMap<NodeId, Facts>,
}

/// What is known of this node's leadership at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leads {
    /// The term that it leads in.
    pub term: Term,
    /// Whether the first entry of that term is applied here.
    pub is_ready: bool,
    /// When the last heartbeat was sent that a majority has confirmed, by the leases' clock.
    pub confirmed_ms: Option<u64>,
}

impl Desk {
    /// The desk of a node that does not lead.
    #[must_use]
    pub fn new(state: &ClusterState) -> Self {
        Self {
            book: LeaseBook::new(state.lease_settings()),
            verdicts: VerdictBook::new(state.verdict_settings()),
            leads: None,
            decided_ms: None,
            reports: BTreeMap::new(),
        }
    }

    /// Brings the desk up to the moment: whether this node leads, and what is agreed. To be called
    /// before anything else is asked of it, with the state that is applied.
    pub fn look(
        &mut self,
        now_ms: u64,
        leads: Option<Leads>,
        state: &ClusterState,
        topology: &Topology,
    ) {
        self.book.set_settings(state.lease_settings());
        self.verdicts.set_settings(state.verdict_settings());
        let Some(leads) = leads else {
            if self.leads.take().is_some() {
                self.book.deposed();
                self.reports.clear();
            }
            return;
        };
        if self.leads != Some(leads.term) {
            self.leads = Some(leads.term);
            self.book.elected(leads.term, now_ms);
            self.verdicts = VerdictBook::new(state.verdict_settings());
            self.reports.clear();
        }
        let nodes = state.nodes().iter().map(|(id, node)| (*id, node.incarnation)).collect();
        self.book.members(now_ms, &nodes);
        self.reports.retain(|node, _| nodes.contains_key(node));
        // By the state, which may be ahead of what is published: a floor that the leader does not
        // know is one that it would grant below (rule 8).
        let pools = state.pools().iter().map(|(name, pool)| {
            let built = topology.pool(name).filter(|built| built.epoch == pool.epoch);
            let digest = built.map(|built| built.digest);
            (name.clone(), AgreedPool { epoch: pool.epoch, digest, barrier: pool.barrier })
        });
        self.book.agreed(pools.collect());
        // After the state was told, as the book asks.
        if leads.is_ready {
            self.book.first_entry_applied(leads.term);
        }
        if let Some(sent_ms) = leads.confirmed_ms {
            self.book.quorum_confirmed(leads.term, sent_ms);
        }
    }

    /// Answers a renewal.
    pub fn report(&mut self, now_ms: u64, report: &Report, state: &ClusterState) -> Answer {
        let answer = match self.book.renewal(now_ms, &report.renewal) {
            Ok(grant) => Answer::Granted(grant),
            Err(denial) => Answer::Denied(denial),
        };
        let node = report.renewal.node;
        let is_current = state
            .nodes()
            .get(&node)
            .is_some_and(|known| known.incarnation == report.renewal.incarnation);
        // A stranger's renewal, or a former process's, leaves nothing here.
        if self.leads.is_some() && is_current {
            self.verdicts.views(node, views(&report.facts));
            let facts = Facts {
                epochs: report.renewal.epochs.clone(),
                rings: report.renewal.rings.clone(),
                views: Vec::new(),
                ..report.facts.clone()
            };
            self.reports.insert(node, facts);
        }
        answer
    }

    /// What is to be proposed now. Nothing while this node does not lead.
    pub fn due(&mut self, now_ms: u64, state: &ClusterState) -> Vec<Command> {
        if self.leads.is_none() {
            return Vec::new();
        }
        let mut due: Vec<Command> = self.barriers(now_ms, state).into_iter().collect();
        due.extend(self.verdicts(now_ms, state));
        due.extend(feature_level(state));
        due
    }

    /// To whom this node is to hand over, since its own wall clock is not what the others' are: a
    /// voter that holds a lease. Versions are stamped by wall clocks, and a leader without a lease
    /// is one node less that serves.
    #[must_use]
    pub fn successor(&self, now_ms: u64, own: NodeId, voters: &BTreeSet<NodeId>) -> Option<NodeId> {
        self.leads?;
        let standing: BTreeMap<_, _> = self.book.standing(now_ms).into_iter().collect();
        let Some(Denial::ClockSkew { .. }) = standing.get(&own)?.denial else { return None };
        let holds = |node: &NodeStanding| {
            node.denial.is_none() && node.heard_ms.is_some() && node.holds_for_ms > 0
        };
        standing.iter().find(|(id, node)| voters.contains(id) && holds(node)).map(|(id, _)| *id)
    }

    fn barriers(&mut self, now_ms: u64, state: &ClusterState) -> Option<Command> {
        let mut raised = None;
        let mut barriers = Vec::new();
        for (name, pool) in state.pools() {
            if pool.barrier < pool.epoch
                && let Ok(term) = self.book.advance(now_ms, name, pool.epoch)
            {
                raised = Some(term);
                barriers.push((name.clone(), pool.epoch));
            }
        }
        let term = raised?;
        Some(Command::RaiseBarriers { term, barriers })
    }

    fn verdicts(&mut self, now_ms: u64, state: &ClusterState) -> Option<Command> {
        let term = self.leads?;
        let again_ms = self.decided_ms.map(|decided_ms| decided_ms.saturating_add(DECIDE_EVERY_MS));
        if again_ms.is_some_and(|again_ms| now_ms < again_ms) {
            return None;
        }
        self.decided_ms = Some(now_ms);
        let holders: BTreeSet<NodeId> = self.book.holders(now_ms);
        let agreed: Agreed = state
            .pools()
            .iter()
            .map(|(name, pool)| {
                let shards = pool.shards.keys().map(|id| (id.clone(), pool.verdict(id)));
                (name.clone(), shards.collect())
            })
            .collect();
        let mut verdicts = self.verdicts.decide(now_ms, &holders, &agreed);
        // What does not fit is decided again.
        verdicts.truncate(VERDICTS_MAX);
        (!verdicts.is_empty()).then_some(Command::SetVerdicts { term, verdicts })
    }

    /// What the leader knows of every node.
    #[must_use]
    pub fn overview(&self, now_ms: u64, state: &ClusterState) -> Overview {
        let standing: BTreeMap<_, _> = self.book.standing(now_ms).into_iter().collect();
        let nodes = state
            .nodes()
            .iter()
            .map(|(id, node)| of_node(now_ms, *id, node, standing.get(id), self.reports.get(id)));
        Overview { nodes: nodes.collect() }
    }
}

fn of_node(
    now_ms: u64,
    id: NodeId,
    node: &NodeState,
    seen: Option<&NodeStanding>,
    facts: Option<&Facts>,
) -> NodeReport {
    let rings = facts.iter().flat_map(|facts| &facts.rings);
    let holds_for_ms = seen.map_or(0, |seen| seen.holds_for_ms);
    NodeReport {
        node: id,
        incarnation: node.incarnation,
        version: facts.map_or(&node.version, |facts| &facts.version).clone(),
        last_seen_ms_ago: seen
            .and_then(|seen| seen.heard_ms)
            .map(|heard_ms| now_ms.saturating_sub(heard_ms)),
        lease_remaining_ms: (holds_for_ms > 0).then_some(holds_for_ms),
        epochs: rings
            .map(|(pool, ring)| (pool.clone(), ring.epoch, ring.digest.to_string()))
            .collect(),
        routes_digest: facts.map(|facts| facts.routes_digest.clone()).unwrap_or_default(),
        clock_offset_ms: seen.and_then(|seen| seen.clock_off_by_ms),
        standing: match seen.map(|seen| (&seen.denial, seen.heard_ms)) {
            None => "not known to the leader yet".to_owned(),
            Some((Some(denial), _)) => format!("no lease: {denial}"),
            Some((None, None)) if holds_for_ms > 0 => "silent; it may hold a lease".to_owned(),
            Some((None, None)) => "silent; its lease is over".to_owned(),
            Some((None, Some(_))) if holds_for_ms > 0 => "holds a lease".to_owned(),
            Some((None, Some(_))) => "its lease is over".to_owned(),
        },
    }
}

fn views(facts: &Facts) -> Views {
    let of_pool = |view: &super::facts::PoolView| {
        let shards = view.shards.iter().map(|(shard, reads_down, writes_down)| {
            let (reads_down, writes_down) = (Some(*reads_down), Some(*writes_down));
            (shard.clone(), Seen { reads_down, writes_down, foreign: false })
        });
        let mut shards: BTreeMap<ShardId, Seen> = shards.collect();
        // Of what it has not probed yet it knows that at the most.
        for shard in &view.foreign {
            shards.entry(shard.clone()).or_default().foreign = true;
        }
        (view.pool.clone(), shards)
    };
    facts.views.iter().map(of_pool).collect()
}

/// The level that every node speaks, if it is higher than what is agreed.
fn feature_level(state: &ClusterState) -> Option<Command> {
    let spoken: Option<FeatureLevel> = state.nodes().values().map(|node| node.feature_level).min();
    let level = spoken.filter(|level| *level > state.feature_level())?;
    Some(Command::RaiseFeatureLevel { level })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::steward::facts::PoolView;
    use crate::ids::PoolName;

    #[test]
    fn what_is_foreign_and_not_probed_is_not_said_to_be_up() {
        let id = |name: &str| ShardId::new(name).expect("a name");
        let pool = PoolName::new("p").expect("a name");
        let shards = vec![(id("a"), false, true)];
        let view = PoolView { pool: pool.clone(), shards, foreign: vec![id("a"), id("b")] };
        let seen = views(&Facts { views: vec![view], ..Facts::default() });
        let told = |reads_down, writes_down| Seen { reads_down, writes_down, foreign: true };
        assert_eq!(seen[&pool][&id("a")], told(Some(false), Some(true)));
        assert_eq!(seen[&pool][&id("b")], told(None, None));
    }
}
