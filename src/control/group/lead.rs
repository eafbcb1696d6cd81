//! What does a leader do that is asked to?
//!
//! Each of these answers [`Answer::NotLeader`] when it may be done by another node, and tells
//! apart what was not done from what is not known to have been done: openraft refuses a proposal
//! before it is in the log, or loses its track after.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use serde::Serialize;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout};

use super::ask::ATTEMPT;
use super::part::{Group, Running};
use super::server;
use super::types::{Outcome, Peer, Proposal, TypeConfig};
use super::wire::{self, Answer, AskStanding, Committed, HandOver, Join, Joined, Leader, Standing};
use crate::cluster::{Actor, Command, Envelope};
use crate::ids::NodeId;
use crate::net::peer::PeerAnswer;

/// A little less than who asks waits for, so that it hears an answer.
const PATIENCE: Duration = Duration::from_millis(2_700);

const _: () = assert!(PATIENCE.as_millis() < ATTEMPT.as_millis(), "the answer comes in time");

impl Group {
    /// Does what only a leader may do, if this node leads.
    pub(super) async fn lead(&self, path: &str, body: Bytes) -> PeerAnswer {
        let Some(running) = self.shared().running() else {
            return PeerAnswer::problem(
                421,
                "misdirected",
                "This node belongs to no cluster yet: have it join, or address another one.",
            );
        };
        match path {
            wire::PROPOSE => match wire::decode::<Envelope>(&body) {
                Ok(envelope) => match envelope.id.map(|id| id.node) {
                    Some(node) if self.state().was_removed(node) => server::removed(node),
                    _ => answer(&self.commit(running, envelope).await),
                },
                Err(refusal) => refusal,
            },
            wire::STANDING => match wire::decode(&body) {
                Ok(AskStanding { node }) => answer(&self.standing(running, node).await),
                Err(refusal) => refusal,
            },
            wire::READ_INDEX => answer(&self.confirm(running).await),
            wire::HAND_OVER => match wire::decode(&body) {
                Ok(HandOver { to }) => answer(&self.hand_over(to).await),
                Err(refusal) => refusal,
            },
            wire::JOIN => match wire::decode(&body) {
                Ok(join) => self.admit(running, join).await,
                Err(refusal) => refusal,
            },
            _ => PeerAnswer::problem(404, "no-such-message", "This release knows no such message."),
        }
    }

    async fn commit(&self, running: &Running, envelope: Envelope) -> Answer<Committed> {
        // Before it is in any log: a member of an earlier release could not read the entry, and
        // would stop in front of it.
        if let Err(refusal) = self.state().check_level(&envelope.command) {
            return Answer::Done(Committed { index: 0, outcome: Outcome::Refused(refusal) });
        }
        // Apart, since it is rare, and Raft's own futures are large.
        let planned = Box::pin(self.planned(running, envelope));
        let (envelope, _turn) = match planned.await {
            Answer::Done(planned) => planned,
            Answer::NotLeader(leader) => return Answer::NotLeader(leader),
            Answer::Unavailable(why) => return Answer::Unavailable(why),
            Answer::Unknown(why) => return Answer::Unknown(why),
        };
        let write = running.raft.client_write(Proposal(envelope));
        match timeout(PATIENCE, write).await {
            Ok(Ok(written)) => {
                Answer::Done(Committed { index: written.log_id.index, outcome: written.data })
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                self.not_leader(&to)
            }
            Ok(Err(RaftError::APIError(error @ ClientWriteError::LogEntryDiscarded(_)))) => {
                Answer::Unknown(error.to_string())
            }
            Ok(Err(RaftError::APIError(error))) => Answer::Unavailable(error.to_string()),
            // It may have been in the log by then, and on its way to others.
            Ok(Err(RaftError::Fatal(error))) => {
                Answer::Unknown(format!("the leader has stopped: {error}"))
            }
            Err(_) => Answer::Unknown("no majority has agreed in time".to_owned()),
        }
    }

    /// Plans the tables that a command needs, on everything that was agreed before. One such command
    /// is under way at a time, until it is applied, or what it was planned on would be overtaken.
    async fn planned<'a>(
        &'a self,
        running: &Running,
        mut envelope: Envelope,
    ) -> Answer<(Envelope, Option<MutexGuard<'a, ()>>)> {
        if !envelope.command.may_need_tables() {
            return Answer::Done((envelope, None));
        }
        let turn = self.shared().planning.lock().await;
        let deadline = Instant::now() + PATIENCE;
        let index = match self.confirm(running).await {
            Answer::Done(index) => index,
            Answer::NotLeader(leader) => return Answer::NotLeader(leader),
            Answer::Unavailable(why) => return Answer::Unavailable(why),
            Answer::Unknown(why) => return Answer::Unavailable(why),
        };
        if !self.shared().applied(index, deadline).await {
            return Answer::Unavailable("the leader is behind what is agreed".to_owned());
        }
        let (state, command) = (self.state(), envelope.command.clone());
        // Tens of milliseconds of a thousand shards: no heartbeat waits for that.
        match tokio::task::spawn_blocking(move || state.planned(command)).await {
            Ok(command) => envelope.command = command,
            Err(error) => return Answer::Unavailable(format!("no table was planned: {error}")),
        }
        Answer::Done((envelope, Some(turn)))
    }

    /// How it stands with a node, after everything that was agreed before this was asked.
    async fn standing(&self, running: &Running, node: NodeId) -> Answer<Standing> {
        let deadline = Instant::now() + PATIENCE;
        let index = match self.confirm(running).await {
            Answer::Done(index) => index,
            Answer::NotLeader(leader) => return Answer::NotLeader(leader),
            Answer::Unavailable(why) => return Answer::Unavailable(why),
            Answer::Unknown(why) => return Answer::Unknown(why),
        };
        if !self.shared().applied(index, deadline).await {
            return Answer::Unavailable("the leader is behind what is agreed".to_owned());
        }
        let metrics = running.raft.server_metrics();
        let membership = Arc::clone(&metrics.borrow_watched().membership_config);
        let agreed = self.shared().agreed.borrow().clone();
        // Until its removal from Raft is committed too, its vote may be what that needs.
        let is_out =
            *membership.log_id() <= agreed.applied && membership.get_node(&node.0).is_none();
        Answer::Done(Standing { removed: is_out && agreed.state.was_removed(node) })
    }

    async fn confirm(&self, running: &Running) -> Answer<u64> {
        let confirmed = running.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match timeout(PATIENCE, confirmed).await {
            Ok(Ok(read)) => Answer::Done(read.log_id().index),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to)))) => {
                self.not_leader(&to)
            }
            Ok(Err(error)) => Answer::Unavailable(error.to_string()),
            Err(_) => Answer::Unavailable("no majority has answered in time".to_owned()),
        }
    }

    async fn hand_over(&self, to: NodeId) -> Answer<()> {
        match self.transfer_here(to, PATIENCE).await {
            Ok(()) => Answer::Done(()),
            Err(answer) => Answer::Unavailable(answer),
        }
    }

    /// Makes another voter lead, if this node does.
    ///
    /// # Errors
    /// What stands in the way.
    pub(super) async fn transfer_here(&self, to: NodeId, patience: Duration) -> Result<(), String> {
        let running = self.shared().running().ok_or("this node belongs to no cluster yet")?;
        let mut metrics = running.raft.server_metrics();
        let (leader, is_voter) = {
            let metrics = metrics.borrow_watched();
            let is_voter = metrics.membership_config.voter_ids().any(|voter| voter == to.0);
            (metrics.current_leader, is_voter)
        };
        if leader == Some(to.0) {
            return Ok(());
        }
        if !is_voter {
            return Err(format!("node {to} is no voter and cannot lead"));
        }
        running.raft.trigger().transfer_leader(to.0).await.map_err(|error| error.to_string())?;
        let leads = async {
            while metrics.borrow_watched().current_leader != Some(to.0) {
                metrics.changed().await.map_err(|_| "the group has stopped".to_owned())?;
            }
            Ok(())
        };
        timeout(patience, leads)
            .await
            .unwrap_or_else(|_| Err(format!("node {to} has not taken over in time")))
    }

    /// Takes a node in: in the agreed state, which gives it its id, and then in Raft as a learner.
    /// Either may be repeated.
    async fn admit(&self, running: &Running, join: Join) -> PeerAnswer {
        let Join { name, address, role, nonce } = join;
        let actor = Actor::tamed(&format!("join@{name}"));
        let at_ms = (self.shared().options.wall_ms)();
        let command = Command::AddNode { name, address: address.clone(), role, nonce };
        let envelope = Envelope { id: None, actor, at_ms, command };
        let committed = match self.commit(running, envelope).await {
            Answer::Done(committed) => committed,
            other => return answer(&other),
        };
        let applied = match committed.outcome {
            Outcome::Applied(applied) => applied,
            Outcome::Refused(refusal) => {
                return PeerAnswer::problem(409, "join-refused", &refusal.to_string());
            }
            Outcome::None => unreachable!("a command is not one of Raft's own entries"),
        };
        let node = applied.node.expect("a node that was added has an id");
        let learner = Peer { addr: address.to_string() };
        let added = running.raft.add_learner(node.0, learner, false);
        let joined: Answer<Joined> = match timeout(PATIENCE, added).await {
            Ok(Ok(_)) => Answer::Done(Joined {
                cluster: running.member.cluster,
                generation: running.member.generation,
                node,
            }),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                self.not_leader(&to)
            }
            Ok(Err(error)) => Answer::Unavailable(error.to_string()),
            Err(_) => Answer::Unavailable("no majority has agreed in time".to_owned()),
        };
        answer(&joined)
    }

    fn not_leader<T>(&self, to: &ForwardToLeader<TypeConfig>) -> Answer<T> {
        let node = to.leader_id.map(NodeId);
        let leader = node.and_then(|node| Some(Leader { node, address: self.address_of(node)? }));
        Answer::NotLeader(leader)
    }
}

fn answer<T: Serialize>(answer: &Answer<T>) -> PeerAnswer {
    PeerAnswer::ok(wire::encode(answer))
}
