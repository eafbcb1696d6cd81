//! How does a command become agreed?
//!
//! Any node takes it and puts it to the leader, under an id that is its own for ever: the node,
//! its incarnation, a number. Lost answers are asked for again under the same id, and the agreed
//! state answers what it answered first; so each proposal is applied once, and who proposed it
//! hears what came of it, or that nobody knows ([`ProposeError::Unknown`]).
//!
//! An answer is given when the command is agreed *and* this node has applied it.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::ask::PATIENCE;
use super::error::ProposeError;
use super::part::{Group, lock, revision};
use super::types::Outcome;
use super::wire::{self, Committed};
use crate::cluster::{Actor, Applied, Command, Envelope, FEATURE_LEVEL, Refusal};
use crate::ids::{CommandId, Incarnation, Revision};

/// Proposals of one node under way at once. The agreed state remembers the last
/// [`WINDOW_MAX`](crate::cluster::WINDOW_MAX) answers of each node; this is far below it.
pub(super) const PROPOSALS_MAX: usize = 64;

/// The release, as nodes say it of themselves.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Group {
    /// Has a command agreed. Answers when it is and this node has applied it.
    ///
    /// # Errors
    /// [`ProposeError`], by what may be done about it.
    pub async fn propose(&self, actor: &str, command: Command) -> Result<Applied, ProposeError> {
        let deadline = Instant::now() + PATIENCE;
        let permit = timeout_at(deadline, self.shared().proposals.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(self.unavailable("too many other changes of this node are under way"));
        };
        let mut incarnations = self.shared().incarnation.subscribe();
        loop {
            let known = timeout_at(deadline, incarnations.wait_for(Option::is_some)).await;
            let Some(incarnation) = known.ok().and_then(Result::ok).and_then(|known| *known) else {
                return Err(
                    self.unavailable("this node's start is not agreed yet: it reaches no leader")
                );
            };
            let envelope = self.envelope(actor, command.clone(), Some(incarnation));
            match self.propose_envelope(&envelope, deadline).await {
                // Nothing was done under the id that we had: another start of this node was agreed
                // meanwhile (a late copy of ours, since this process has the folder), or while this
                // one waited for a leader so many later ones passed it that the agreed state has
                // forgotten its number.
                Err(ProposeError::Refused(Refusal::Superseded))
                    if self.has_begun_anew(incarnation) || self.was_overtaken(&envelope) => {}
                result => return result,
            }
        }
    }

    async fn propose_envelope(
        &self,
        envelope: &Envelope,
        deadline: Instant,
    ) -> Result<Applied, ProposeError> {
        let body = wire::encode(envelope);
        let asked = self.ask_leader::<Committed>(wire::PROPOSE, body, deadline).await;
        let (committed, maybe) = asked.map_err(|not| match not.maybe {
            true => ProposeError::Unknown(not.why),
            false => ProposeError::Unavailable { why: not.why, leader: not.leader },
        })?;
        // It is agreed, whatever comes now.
        if !self.shared().applied(committed.index, deadline).await
            && !*self.shared().removed.borrow()
        {
            let index = committed.index;
            tracing::warn!(index, "a change is agreed, and this node has not applied it in time");
        }
        match committed.outcome {
            Outcome::Applied(applied) => Ok(applied),
            // A copy whose answer was lost may have been applied before.
            Outcome::Refused(why @ (Refusal::Superseded | Refusal::OtherTerm)) if maybe => {
                Err(ProposeError::Unknown(why.to_string()))
            }
            Outcome::Refused(refusal) => Err(ProposeError::Refused(refusal)),
            Outcome::None => unreachable!("a command is not one of Raft's own entries"),
        }
    }

    /// Proposes a command that bears being applied twice, without an id.
    pub(super) async fn propose_bare(
        &self,
        actor: &str,
        command: Command,
    ) -> Result<Applied, ProposeError> {
        let envelope = self.envelope(actor, command, None);
        self.propose_envelope(&envelope, Instant::now() + PATIENCE).await
    }

    fn envelope(
        &self,
        actor: &str,
        command: Command,
        incarnation: Option<Incarnation>,
    ) -> Envelope {
        let member = self.member();
        let id = incarnation.zip(member).map(|(incarnation, member)| {
            let mut sequence = lock(&self.shared().sequence);
            *sequence += 1;
            CommandId { node: member.node, incarnation, sequence: *sequence }
        });
        let at_ms = (self.shared().options.wall_ms)();
        Envelope { id, actor: Actor::tamed(actor), at_ms, command }
    }

    fn unavailable(&self, why: &str) -> ProposeError {
        let leader = self.shared().leadership.borrow().other();
        ProposeError::Unavailable { why: why.to_owned(), leader }
    }

    /// Up to where this node must know the state to know everything that was agreed before this
    /// was called; and it knows it when this returns.
    ///
    /// # Errors
    /// [`ProposeError::Unavailable`].
    pub async fn read_index(&self) -> Result<Revision, ProposeError> {
        let deadline = Instant::now() + PATIENCE;
        let asked = self.ask_leader::<u64>(wire::READ_INDEX, wire::encode(&()), deadline).await;
        let (index, _) =
            asked.map_err(|not| ProposeError::Unavailable { why: not.why, leader: not.leader })?;
        if !self.shared().applied(index, deadline).await {
            return Err(self.unavailable("this node is behind what is agreed"));
        }
        Ok(revision(index))
    }

    /// Whether more proposals have begun after this one than can be under way beside it.
    fn was_overtaken(&self, envelope: &Envelope) -> bool {
        let newest = *lock(&self.shared().sequence);
        envelope.id.is_some_and(|id| newest > id.sequence + PROPOSALS_MAX as u64)
    }

    /// Whether a start later than `incarnation` is agreed; then it is given up, so that
    /// [`Self::begin_incarnations`] takes another one.
    fn has_begun_anew(&self, incarnation: Incarnation) -> bool {
        let Some(member) = self.member() else { return false };
        let agreed = self.shared().agreed.borrow().clone();
        let moved = agreed
            .state
            .nodes()
            .get(&member.node)
            .is_some_and(|node| node.incarnation > incarnation);
        if moved {
            self.shared().incarnation.send_if_modified(|current| {
                let same = *current == Some(incarnation);
                if same {
                    *current = None;
                }
                same
            });
        }
        moved
    }

    /// Has this start of the node agreed, and again when it was superseded.
    pub(super) async fn begin_incarnations(&self) {
        let mut incarnation = self.shared().incarnation.subscribe();
        loop {
            if incarnation.wait_for(Option::is_none).await.is_err() {
                return;
            }
            self.cluster_is_known().await;
            let Some(begun) = self.begin_incarnation().await else { return };
            self.shared().incarnation.send_replace(Some(begun));
        }
    }

    /// Waits until there is a cluster to start in. On the founder it must be founded first.
    async fn cluster_is_known(&self) {
        loop {
            let mut leadership = self.shared().leadership.subscribe();
            let mut agreed = self.shared().agreed.subscribe();
            let founded = agreed.borrow().state.identity().is_some();
            if founded || leadership.borrow().other().is_some() {
                return;
            }
            tokio::select! {
                biased;
                _ = leadership.changed() => {}
                _ = agreed.changed() => {}
            }
        }
    }

    /// Asks until this start is agreed; `None` if the node was removed.
    async fn begin_incarnation(&self) -> Option<Incarnation> {
        let node = self.member()?.node;
        let actor = format!("start@{}", self.shared().options.name);
        let known = self.shared().state.borrow().nodes().get(&node).map(|node| node.incarnation);
        let mut after = known.unwrap_or_default();
        loop {
            let command = Command::BeginIncarnation {
                node,
                after,
                address: self.shared().options.address.clone(),
                version: VERSION.to_owned(),
                feature_level: FEATURE_LEVEL,
            };
            match self.propose_bare(&actor, command).await {
                Ok(applied) => {
                    return Some(applied.incarnation.expect("a start has an incarnation"));
                }
                Err(ProposeError::Refused(Refusal::IncarnationMoved { now, .. })) => after = now,
                Err(ProposeError::Refused(Refusal::NodeRemoved(_))) => {
                    self.shared().removed.send_replace(true);
                    return None;
                }
                Err(error) => {
                    tracing::warn!(%error, "this node's start is not agreed yet; it asks on");
                    let pause = 200 + self.shared().draw_below(400);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
        }
    }
}
