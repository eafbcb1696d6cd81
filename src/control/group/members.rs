//! Who takes part in Raft?
//!
//! The agreed state says which nodes there are, and [`voters`] which of them vote; Raft's own
//! membership follows. The leader brings the two together, one step at a time, and begins again
//! after each: so it does not matter who led when the state changed, or where a leader stopped.
//!
//! ```text
//! in the state, not in Raft     →  a learner
//! to vote, and caught up        →  voters are changed, by joint consensus
//! in Raft, not in the state     →  no voter any more, then gone, then told
//! ```
//!
//! A learner votes only once it keeps up: its log is nearly as long as the leader's, *and* it has
//! answered just now. In a cluster where nothing happens a node that died days ago still has all of
//! the log. A voter that is behind, or down, makes majorities larger and helps no one.
//!
//! No step is taken to voters of whom those that keep up are no majority. The change would be in
//! force as soon as it is in the log, its second half would never be agreed on, and nothing after
//! it. Such a step waits until enough of them are back, and where fewer shall vote, those that are
//! down leave first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::{Instant as _, WatchReceiver};
use openraft::{ChangeMembers, RaftMetrics};
use tokio::time::{Instant, sleep, timeout};

use super::ask::PATIENCE;
use super::error::ProposeError;
use super::leadership::Leadership;
use super::part::{Group, Running};
use super::types::{LogId, Peer, TypeConfig};
use super::wire::{self, HandOver, Removed};
use crate::cluster::{Command, NodeState, Role, voters};
use crate::ids::{NodeId, PeerAddress};

/// A learner this many entries behind the leader, at most, may vote: what is appended in a round
/// trip or two.
const CAUGHT_UP_ENTRIES: u64 = 64;

/// A member that has answered nothing that was sent in so many of the longest election timeouts is
/// taken to be down. Twice what a follower waits before it takes its leader to be.
const ANSWERED_ELECTIONS: u32 = 2;

/// How often the two are compared when nothing says that they changed: a learner catches up
/// without a sign.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The first pause after a step that failed, and the last one.
const BACKOFF_MS: (u64, u64) = (100, 5_000);

/// How long a step may take before it is looked at anew.
const STEP_PATIENCE: Duration = Duration::from_secs(10);

/// How long a removed node gets to hear of it.
const TELL_PATIENCE: Duration = Duration::from_secs(2);

/// One step towards what is agreed.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Learn(NodeId, PeerAddress),
    Vote(BTreeSet<NodeId>),
    /// This leader shall not vote any more: another one does the rest.
    HandOver(NodeId),
    Leave(NodeId),
}

/// What the leader sees.
struct Seen<'a> {
    me: NodeId,
    nodes: &'a BTreeMap<NodeId, NodeState>,
    voters: BTreeSet<NodeId>,
    members: BTreeSet<NodeId>,
    /// This leader, and the members that keep up with it.
    keep_up: BTreeSet<NodeId>,
    joint: bool,
}

impl Seen<'_> {
    fn next_step(&self) -> Option<Step> {
        // An earlier change is not through: openraft ends it, or refuses another one.
        let learner = self.nodes.iter().find(|(id, _)| !self.members.contains(id));
        if let Some((id, node)) = learner {
            return Some(Step::Learn(*id, node.address.clone()));
        }
        let ready = |id: &NodeId| self.voters.contains(id) || self.keep_up.contains(id);
        let nodes: BTreeMap<NodeId, NodeState> = self
            .nodes
            .iter()
            .filter(|(id, _)| ready(id))
            .map(|(id, node)| (*id, node.clone()))
            .collect();
        let mut wanted = voters(&nodes, &self.voters);
        if wanted.len() < self.voters.len() && wanted.is_subset(&self.voters) {
            wanted = self.keep(&nodes, &wanted);
        }
        if !wanted.is_empty() && (wanted != self.voters || self.joint) {
            let alive = wanted.intersection(&self.keep_up).count();
            if alive * 2 <= wanted.len() {
                return None;
            }
            if !wanted.contains(&self.me) {
                let kept = |id: &&NodeId| self.voters.contains(*id) && self.keep_up.contains(*id);
                if let Some(next) = wanted.iter().find(kept) {
                    return Some(Step::HandOver(*next));
                }
            }
            return Some(Step::Vote(wanted));
        }
        let gone = self.members.iter().find(|id| !self.nodes.contains_key(id));
        gone.filter(|id| !self.voters.contains(id)).map(|id| Step::Leave(*id))
    }

    /// Which of the voters stay when fewer shall vote: this leader, then those that keep up. An
    /// even number of them stays only if all do: of two voters the dead one is a veto, and of four
    /// it is one more that every decision needs.
    fn keep(
        &self,
        nodes: &BTreeMap<NodeId, NodeState>,
        wanted: &BTreeSet<NodeId>,
    ) -> BTreeSet<NodeId> {
        let may_vote = |id: &&NodeId| nodes.get(id).is_some_and(|node| node.role == Role::Voter);
        let mut ranked: Vec<NodeId> = self.voters.iter().filter(may_vote).copied().collect();
        ranked.sort_by_key(|id| (*id != self.me, !self.keep_up.contains(id), *id));
        let uneven = !wanted.len().is_multiple_of(2);
        let count =
            if uneven || wanted.is_subset(&self.keep_up) { wanted.len() } else { wanted.len() - 1 };
        ranked.into_iter().take(count).collect()
    }
}

impl Group {
    /// Brings Raft's members to what is agreed, whenever this node leads.
    pub(super) async fn reconcile_members(&self) {
        let running = self.shared().running().expect("Raft runs before its loops do");
        let mut leadership = self.shared().leadership.subscribe();
        let mut agreed = self.shared().agreed.subscribe();
        let mut backoff_ms = BACKOFF_MS.0;
        loop {
            let leads = |leadership: &Leadership| matches!(leadership, Leadership::Leader { .. });
            if leadership.wait_for(leads).await.is_err() {
                return;
            }
            agreed.borrow_and_update();
            let Some(step) = self.next_step(running) else {
                backoff_ms = BACKOFF_MS.0;
                drop(timeout(LOOK_EVERY, agreed.changed()).await);
                continue;
            };
            let taken = timeout(STEP_PATIENCE, self.take(running, &step)).await;
            match taken.unwrap_or_else(|_| Err("no majority has agreed in time".to_owned())) {
                Ok(()) => backoff_ms = BACKOFF_MS.0,
                Err(why) => {
                    tracing::debug!(?step, %why, "a change of members has to wait");
                    let drawn = backoff_ms / 2 + self.shared().draw_below(backoff_ms);
                    sleep(Duration::from_millis(drawn)).await;
                    backoff_ms = (backoff_ms * 2).min(BACKOFF_MS.1);
                }
            }
        }
    }

    fn next_step(&self, running: &Running) -> Option<Step> {
        let state = self.state();
        // Before the first command there is nothing to follow.
        state.identity()?;
        let metrics = running.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let seen = Seen {
            me: running.member.node,
            nodes: state.nodes(),
            voters: membership.voter_ids().map(NodeId).collect(),
            members: membership.nodes().map(|(id, _)| NodeId(*id)).collect(),
            keep_up: self.keeping_up(&metrics),
            joint: membership.get_joint_config().len() > 1,
        };
        seen.next_step()
    }

    /// On a leader: itself, and the members whose logs are nearly as long as its own and that have
    /// answered lately.
    pub(super) fn keeping_up(&self, metrics: &RaftMetrics<TypeConfig>) -> BTreeSet<NodeId> {
        let last = metrics.last_log_index.unwrap_or(0);
        let patience = self.shared().options.timing.election_most() * ANSWERED_ELECTIONS;
        let heard = |node: &u64| {
            let answers = metrics.heartbeat.as_ref();
            let answered = answers.and_then(|answers| answers.get(node)?.as_ref());
            answered.is_some_and(|at| at.elapsed() <= patience)
        };
        let near = |id: &LogId| id.index + CAUGHT_UP_ENTRIES >= last;
        let matched = metrics.replication.iter().flatten();
        let keep_up = matched
            .filter(|(node, id)| id.as_ref().is_some_and(near) && heard(node))
            .map(|(node, _)| *node);
        keep_up.chain([metrics.id]).map(NodeId).collect()
    }

    async fn take(&self, running: &Running, step: &Step) -> Result<(), String> {
        let changed = match step {
            Step::Learn(node, address) => {
                tracing::info!(%node, %address, "a node becomes a learner");
                let learner = Peer { addr: address.to_string() };
                running.raft.add_learner(node.0, learner, false).await
            }
            Step::Vote(voters) => {
                tracing::info!(?voters, "the voters change");
                let voters = voters.iter().map(|node| node.0).collect();
                let change = ChangeMembers::ReplaceAllVoters(voters);
                running.raft.change_membership(change, true).await
            }
            Step::HandOver(to) => return self.transfer_here(*to, STEP_PATIENCE).await,
            Step::Leave(node) => {
                tracing::info!(%node, "a node leaves");
                let address = self.address_of(*node);
                let change = ChangeMembers::RemoveNodes(BTreeSet::from([node.0]));
                let left = running.raft.change_membership(change, false).await;
                if left.is_ok()
                    && let Some(address) = address
                {
                    self.tell_removed(*node, &address).await;
                }
                left
            }
        };
        changed.map(|_| ()).map_err(|error| error.to_string())
    }

    /// A node that was dropped from the membership does not hear of it from Raft. Who does not
    /// hear this either is told by whichever member it asks for a vote.
    async fn tell_removed(&self, node: NodeId, address: &PeerAddress) {
        let body = wire::encode(&Removed { node });
        let told = self.shared().options.peers.call(address, wire::REMOVED, body, TELL_PATIENCE);
        if let Err(error) = told.await {
            tracing::info!(%node, %error, "the removed node could not be told");
        }
    }

    /// Removes a node for good. Returns when it is neither in the agreed state nor in Raft.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn remove_node(&self, actor: &str, node: NodeId) -> Result<(), ProposeError> {
        self.propose(actor, Command::RemoveNode { node }).await?;
        let Some(running) = self.shared().running() else { return Ok(()) };
        let mut metrics = running.raft.server_metrics();
        let gone = async {
            while metrics.borrow_watched().membership_config.get_node(&node.0).is_some() {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        // It is removed; what is left the leader does as soon as it can.
        drop(timeout(PATIENCE, gone).await);
        Ok(())
    }

    /// Makes another voter lead. Returns when it does.
    ///
    /// # Errors
    /// [`ProposeError::Unavailable`].
    pub async fn transfer(&self, to: NodeId) -> Result<(), ProposeError> {
        let deadline = Instant::now() + PATIENCE;
        let body = wire::encode(&HandOver { to });
        let asked = self.ask_leader::<()>(wire::HAND_OVER, body, deadline).await;
        asked
            .map(|_| ())
            .map_err(|not| ProposeError::Unavailable { why: not.why, leader: not.leader })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{FeatureLevel, Incarnation, NodeName, Nonce, Revision};

    fn nodes(ids: &[u64]) -> BTreeMap<NodeId, NodeState> {
        let node = |id: &u64| {
            let node = NodeState {
                name: NodeName::new(&format!("n{id}")).expect("a name"),
                address: format!("n{id}.example:1").parse().expect("an address"),
                role: Role::Voter,
                incarnation: Incarnation(1),
                joined: Revision(1),
                version: String::new(),
                feature_level: FeatureLevel(1),
                nonce: Nonce([0; 16]),
            };
            (NodeId(*id), node)
        };
        ids.iter().map(node).collect()
    }

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// What the leader 2 does, of these nodes, voters, members and those that keep up.
    fn step(agreed: &[u64], voters: &[u64], members: &[u64], keep_up: &[u64]) -> Option<Step> {
        let seen = Seen {
            me: NodeId(2),
            nodes: &nodes(agreed),
            voters: set(voters),
            members: set(members),
            keep_up: set(keep_up),
            joint: false,
        };
        seen.next_step()
    }

    #[test]
    fn members_follow_what_is_agreed_one_step_at_a_time() {
        let all = [1, 2, 3];
        assert_eq!(step(&all, &all, &all, &all), None);
        let address = "n3.example:1".parse().expect("an address");
        assert_eq!(step(&all, &[2], &[1, 2], &[1, 2]), Some(Step::Learn(NodeId(3), address)));
        assert_eq!(step(&all, &[2], &all, &[1, 2]), None, "two voters outlive no more than one");
        assert_eq!(step(&all, &[2], &all, &all), Some(Step::Vote(set(&all))));
        assert_eq!(step(&[1, 2], &[2], &all, &all), Some(Step::Leave(NodeId(3))));
    }

    /// Node 3 was removed while node 1 was down. To leave node 1 as the only voter, because its id
    /// is the lowest, would have ended all agreement until it came back.
    #[test]
    fn a_voter_that_is_down_is_not_the_one_that_stays() {
        let all = [1, 2, 3];
        assert_eq!(step(&[1, 2], &all, &all, &[2, 3]), Some(Step::Vote(set(&[2]))));
        let five = [1, 2, 3, 4, 5];
        assert_eq!(
            step(&[1, 2, 3, 4], &five, &five, &[2, 3, 4]),
            Some(Step::Vote(set(&[2, 3, 4])))
        );
    }

    /// Nodes 1 and 3 died while nothing was written, so both had all of the log; then node 5 was
    /// removed. Left were voters 1, 2 and 3, and with them no majority for ever.
    #[test]
    fn voters_that_died_in_silence_are_not_those_that_stay() {
        let five = [1, 2, 3, 4, 5];
        assert_eq!(
            step(&[1, 2, 3, 4], &five, &five, &[2, 4, 5]),
            Some(Step::Vote(set(&[1, 2, 4])))
        );
        assert_eq!(step(&[1, 2, 3], &five, &five, &[2, 4, 5]), None, "two of three are dead");
        assert_eq!(step(&[1, 2, 3, 4, 5], &[2], &five, &[2]), None, "nor do dead learners vote");
    }

    #[test]
    fn two_of_three_go_on_together() {
        let all = [1, 2, 3];
        assert_eq!(step(&[1, 2], &all, &all, &all), Some(Step::Vote(set(&[1, 2]))));
        assert_eq!(step(&[1, 2], &[1, 2], &[1, 2], &[1, 2]), None);
        assert_eq!(step(&[1, 2], &[1, 2], &[1, 2], &[2]), None, "one that is away is waited for");
        assert_eq!(step(&[2], &[1, 2], &[1, 2], &[1, 2]), Some(Step::Vote(set(&[2]))));
        let four = [1, 2, 4];
        assert_eq!(step(&four, &[1, 2], &four, &four), Some(Step::Vote(set(&four))));
    }

    #[test]
    fn a_voter_that_is_down_is_not_replaced_unasked() {
        assert_eq!(step(&[1, 2, 3, 4], &[1, 2, 3], &[1, 2, 3, 4], &[2, 3, 4]), None);
        let replaced = step(&[2, 3, 4], &[1, 2, 3], &[1, 2, 3, 4], &[2, 3, 4]);
        assert_eq!(replaced, Some(Step::Vote(set(&[2, 3, 4]))), "removed, it is");
    }

    #[test]
    fn a_leader_that_shall_not_vote_hands_over_first() {
        let all = [1, 2, 3];
        assert_eq!(step(&[1, 3], &all, &all, &all), Some(Step::HandOver(NodeId(1))));
    }
}
