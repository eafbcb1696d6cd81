//! How is the group doing, as this node sees it?

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::{Instant, WatchReceiver};
use serde::Serialize;

use super::part::{Group, lock};
use super::types::LogId;
use crate::ids::{ClusterId, Generation, Incarnation, NodeId, Revision, Term};

/// What a node is to its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupRole {
    /// It belongs to no cluster yet.
    Unborn,
    /// It learns and does not vote.
    Learner,
    /// It follows a leader, or waits for one.
    Follower,
    /// It stands for election.
    Candidate,
    /// It leads, or believes so: a leader that was cut off does not know it yet.
    Leader,
    /// It takes no part any more.
    Stopped,
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The term of the leader that wrote it.
    pub term: Term,
    /// Counts entries, from 0.
    pub index: u64,
}

impl From<LogId> for Place {
    fn from(id: LogId) -> Self {
        Self { term: Term(**id.committed_leader_id()), index: id.index }
    }
}

/// The newest snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SnapshotStatus {
    /// Up to where it reaches.
    pub index: u64,
    /// How old it is, by the wall clock.
    pub age_ms: u64,
}

/// How the group is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// This node; none while unborn.
    pub node: Option<NodeId>,
    /// The cluster.
    pub cluster: Option<ClusterId>,
    /// How often it was rebuilt.
    pub generation: Option<Generation>,
    /// This start of the node; none until it is agreed.
    pub incarnation: Option<Incarnation>,
    /// What the node is.
    pub role: GroupRole,
    /// Its term.
    pub term: Term,
    /// Who leads: as far as it has heard within the largest election timeout. A leader that no
    /// majority has answered for that long names nobody either, though its role is what it was.
    pub leader: Option<NodeId>,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who learns.
    pub learners: BTreeSet<NodeId>,
    /// Whether voters are just being changed, and both sets must agree.
    pub joint: bool,
    /// The end of its log.
    pub last_log: Option<u64>,
    /// Up to where the log is known to be committed.
    pub committed: Option<Place>,
    /// Up to where it is applied.
    pub applied: Option<Place>,
    /// The state's own count.
    pub revision: Revision,
    /// Up to where the log was dropped behind a snapshot.
    pub purged: Option<u64>,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotStatus>,
    /// On a leader: how long ago it sent what a majority has answered last.
    pub quorum_acked_ms_ago: Option<u64>,
    /// On a leader: how far each member's log is known to reach.
    pub matched: Vec<(NodeId, Option<u64>)>,
    /// Why nothing is written any more.
    pub storage_failed: Option<String>,
    /// For what writing waits: space. Nothing is acknowledged meanwhile, and it goes on by itself.
    pub storage_waits: Option<String>,
    /// Whether the cluster removed this node.
    pub removed: bool,
    /// Why Raft has stopped, unless it was told to.
    pub stopped: Option<String>,
}

impl Group {
    /// How the group is doing.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        let agreed = self.shared().agreed.borrow().clone();
        let mut status = GroupStatus {
            node: None,
            cluster: None,
            generation: None,
            incarnation: None,
            role: GroupRole::Unborn,
            term: Term(0),
            leader: None,
            voters: BTreeSet::new(),
            learners: BTreeSet::new(),
            joint: false,
            last_log: None,
            committed: None,
            applied: agreed.applied.map(Place::from),
            revision: agreed.state.revision(),
            purged: None,
            snapshot: None,
            quorum_acked_ms_ago: None,
            matched: Vec::new(),
            storage_failed: None,
            storage_waits: None,
            removed: *self.shared().removed.borrow(),
            stopped: None,
        };
        let Some(running) = self.shared().running() else { return status };
        status.node = Some(running.member.node);
        status.cluster = Some(running.member.cluster);
        status.generation = Some(running.member.generation);
        status.incarnation = *self.shared().incarnation.borrow();
        status.storage_failed = running.writer.failed().borrow().clone();
        status.storage_waits = running.writer.waits().borrow().clone();
        let metrics = running.raft.metrics();
        let metrics = metrics.borrow_watched();
        status.stopped = metrics.running_state.as_ref().err().map(ToString::to_string);
        status.role = match metrics.state {
            _ if status.stopped.is_some() => GroupRole::Stopped,
            ServerState::Learner => GroupRole::Learner,
            ServerState::Follower => GroupRole::Follower,
            ServerState::Candidate => GroupRole::Candidate,
            ServerState::Leader => GroupRole::Leader,
            ServerState::Shutdown => GroupRole::Stopped,
        };
        status.term = Term(metrics.current_term);
        let current = metrics.current_leader.map(NodeId);
        let membership = metrics.membership_config.membership();
        status.voters = membership.voter_ids().map(NodeId).collect();
        status.learners = membership.learner_ids().map(NodeId).collect();
        status.joint = membership.get_joint_config().len() > 1;
        status.last_log = metrics.last_log_index;
        status.committed = metrics.local_committed.map(Place::from);
        status.purged = metrics.purged.map(|purged| purged.index);
        let matched = metrics.replication.iter().flatten();
        status.matched = matched.map(|(node, id)| (NodeId(*node), id.map(|id| id.index))).collect();
        drop(metrics);
        let now_ms = (self.shared().options.wall_ms)();
        status.snapshot = running.newest().map(|newest| SnapshotStatus {
            index: newest.meta.last_log_id.map_or(0, |id| id.index),
            age_ms: now_ms.saturating_sub(newest.taken_ms),
        });
        let ago = self.quorum_confirmed_ago();
        status.quorum_acked_ms_ago =
            ago.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
        let heard = match status.role {
            GroupRole::Leader => ago,
            _ => lock(&self.shared().heard).map(|at| at.elapsed()),
        };
        let long = self.shared().options.timing.election_most();
        status.leader = current.filter(|_| heard.is_some_and(|heard| heard <= long));
        status
    }

    /// On a leader: how long ago it *sent* what a majority of voters has answered since. `None`
    /// on any other node, and on a leader that no majority has answered yet.
    ///
    /// Whoever adds this to a clock reads the clock first, or the sum is late by what passes in
    /// between.
    #[must_use]
    pub fn quorum_confirmed_ago(&self) -> Option<Duration> {
        let running = self.shared().running()?;
        let metrics = running.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.running_state.is_err() || metrics.state != ServerState::Leader {
            return None;
        }
        let mut voters = metrics.membership_config.voter_ids();
        if voters.next() == Some(metrics.id) && voters.next().is_none() {
            return Some(Duration::ZERO);
        }
        metrics.last_quorum_acked.as_ref().map(|at| at.elapsed())
    }

    /// Whether this node has applied an entry of `term`. A leader that has not may be behind what
    /// was agreed before it.
    #[must_use]
    pub fn first_entry_applied(&self, term: Term) -> bool {
        let applied = self.shared().agreed.borrow().applied;
        applied.is_some_and(|applied| **applied.committed_leader_id() == term.0)
    }
}
