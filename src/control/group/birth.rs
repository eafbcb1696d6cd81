//! How does a node come to belong to a cluster?
//!
//! By founding one, once, as its first and only voter ([`Group::found`]); or by asking the members
//! of one ([`Group::join`]). Both may be repeated after a crash: the identity is on the disk before
//! Raft runs, and what was drawn for joining before anybody is asked.

use openraft::error::{InitializeError, RaftError};
use tokio::time::{Duration, Instant};

use super::ask::{ATTEMPT, PATIENCE};
use super::error::{FoundError, JoinError, OpenError, ProposeError};
use super::identity::Member;
use super::part::{FIRST_GENERATION, Group, Running, lock};
use super::types::Peer;
use super::wire::{self, Answer, Join, Joined};
use crate::cluster::{Command, Role, Settings};
use crate::ids::{ClusterId, NodeId, PeerAddress};

/// The founder.
const FIRST: NodeId = NodeId(1);

/// How long one address gets before the next one is asked.
const PAUSE_MS: u64 = 200;

impl Group {
    /// Founds a cluster of this node alone, with the pools that `seed` makes.
    ///
    /// # Errors
    /// [`FoundError`]. Called again after a failure it goes on where that was; once the cluster is
    /// founded it is refused.
    pub async fn found(
        &self,
        actor: &str,
        settings: Settings,
        seed: Vec<Command>,
    ) -> Result<ClusterId, FoundError> {
        let (group, actor) = (self.clone(), actor.to_owned());
        // Whoever asked may go away; half a birth would last until the next start.
        let founding = async move { group.found_whole(&actor, settings, seed).await };
        let founded = self.shared().runtime.spawn(founding).await;
        founded.unwrap_or_else(|_| Err(OpenError::Raft("the node is stopping".to_owned()).into()))
    }

    async fn found_whole(
        &self,
        actor: &str,
        settings: Settings,
        seed: Vec<Command>,
    ) -> Result<ClusterId, FoundError> {
        let _one = self.shared().birth.lock().await;
        let member = match self.member() {
            // A crash between the identity and the first command.
            Some(member) if member.node == FIRST && self.state().identity().is_none() => member,
            Some(member) => return Err(FoundError::Member(member.cluster)),
            None => {
                let cluster = ClusterId(self.shared().draw_bytes());
                let generation = FIRST_GENERATION;
                let member = Member { cluster, node: FIRST, generation, removed: false };
                self.be_born(member).await?;
                member
            }
        };
        self.initialize(member).await?;
        // Waits, like every proposal, until there is a leader and its membership is committed.
        self.propose_first(member, actor, settings).await?;
        self.seed(actor, seed).await?;
        tracing::info!(cluster = %member.cluster, "a cluster was founded");
        Ok(member.cluster)
    }

    /// Ends what was broken off: the node died between its identity and the first pools of its cluster.
    /// Whether there was anything to end. To be called at each start, and again after an error; a
    /// cluster that ever had a pool is none that was broken off, nor is one that another has founded.
    ///
    /// # Errors
    /// [`FoundError`].
    pub async fn resume_founding(
        &self,
        actor: &str,
        settings: Settings,
        seed: Vec<Command>,
    ) -> Result<bool, FoundError> {
        let _one = self.shared().birth.lock().await;
        let Some(member) = self.member().filter(|own| own.node == FIRST && !own.removed) else {
            return Ok(false);
        };
        let running = self.running()?;
        let initialized = running.raft.is_initialized().await;
        if !initialized.map_err(|error| OpenError::Raft(error.to_string()))? {
            self.initialize(member).await?;
        }
        // From here on all that was agreed is known here.
        self.read_index().await.map_err(FoundError::First)?;
        let is_founded = self.state().identity().is_some();
        if !is_founded {
            self.propose_first(member, actor, settings).await?;
        }
        let is_seeded = self.state().had_pools() || seed.is_empty();
        if !is_seeded {
            self.seed(actor, seed).await?;
        }
        Ok(!is_founded || !is_seeded)
    }

    fn running(&self) -> Result<&Running, OpenError> {
        self.shared().running().ok_or_else(|| {
            OpenError::Raft("it has not run since the node got its identity: start it anew".into())
        })
    }

    /// Makes this node the one voter of an empty log.
    async fn initialize(&self, member: Member) -> Result<(), FoundError> {
        let address = self.shared().options.address.clone();
        let alone = [(member.node.0, Peer { addr: address.to_string() })];
        let running = self.running()?;
        match running.raft.initialize(std::collections::BTreeMap::from(alone)).await {
            // The same call before the crash.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(OpenError::Raft(error.to_string()).into()),
        }
    }

    /// Has the first command agreed, or finds it so.
    async fn propose_first(
        &self,
        member: Member,
        actor: &str,
        settings: Settings,
    ) -> Result<(), FoundError> {
        let found = Command::Found {
            cluster: member.cluster,
            node: self.shared().options.name.clone(),
            address: self.shared().options.address.clone(),
            settings,
        };
        self.propose_bare(actor, found).await.map(drop).map_err(FoundError::First)
    }

    /// Makes the first pools.
    async fn seed(&self, actor: &str, seed: Vec<Command>) -> Result<(), FoundError> {
        // A node that is alone speaks for all; the level that its pools need is agreed with them.
        let needs = seed.iter().map(Command::feature_level).max();
        if let Some(level) = needs.filter(|needs| *needs > self.state().feature_level()) {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let command = Command::RaiseFeatureLevel { level };
                match self.propose(actor, command).await {
                    Ok(_) => break,
                    // A node that waited for this cluster has joined already, and has not said yet
                    // which levels it speaks.
                    Err(ProposeError::Refused(_)) if Instant::now() < deadline => {
                        tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
                    }
                    Err(error) => return Err(FoundError::Seed(error)),
                }
            }
        }
        for command in seed {
            self.propose(actor, command).await.map_err(FoundError::Seed)?;
        }
        Ok(())
    }

    /// Joins the cluster that any of `members` belongs to. Asks one after the other until one has
    /// taken this node in, or one refuses it, or each was asked for a while.
    ///
    /// # Errors
    /// [`JoinError`]; unless refused, it may be called again, and gets the same id.
    pub async fn join(&self, members: &[PeerAddress], role: Role) -> Result<NodeId, JoinError> {
        let (group, members) = (self.clone(), members.to_owned());
        let joining = async move { group.join_whole(&members, role).await };
        let joined = self.shared().runtime.spawn(joining).await;
        joined.unwrap_or_else(|_| Err(OpenError::Raft("the node is stopping".to_owned()).into()))
    }

    async fn join_whole(&self, members: &[PeerAddress], role: Role) -> Result<NodeId, JoinError> {
        let _one = self.shared().birth.lock().await;
        if let Some(member) = self.member() {
            return Err(JoinError::Member(member.cluster));
        }
        let options = &self.shared().options;
        let identity = *lock(&self.shared().identity);
        identity.write(&options.data_dir).map_err(OpenError::Identity)?;
        let body = wire::encode(&Join {
            name: options.name.clone(),
            address: options.address.clone(),
            role,
            nonce: identity.nonce,
        });
        let deadline = Instant::now() + PATIENCE;
        let mut why = "no address was given".to_owned();
        // Who leads, as a member says, is asked next.
        let mut hint: Option<PeerAddress> = None;
        let mut next = members.iter().cycle();
        while Instant::now() < deadline {
            let Some(address) = hint.take().or_else(|| next.next().cloned()) else { break };
            match options.peers.call(&address, wire::JOIN, body.clone(), ATTEMPT).await {
                Err(unanswered) => why = unanswered.to_string(),
                Ok(answer) if answer.status == 409 => {
                    return Err(JoinError::Refused(answer.refusal().unwrap_or_default()));
                }
                Ok(answer) if answer.status != 200 => {
                    let said = answer.refusal().unwrap_or_default();
                    why = format!("{address} answered {}: {said}", answer.status);
                }
                Ok(answer) => match serde_json::from_slice::<Answer<Joined>>(&answer.body) {
                    Ok(Answer::Done(joined)) => {
                        let Joined { cluster, generation, node } = joined;
                        let member = Member { cluster, node, generation, removed: false };
                        self.be_born(member).await?;
                        tracing::info!(%cluster, %node, "this node has joined");
                        return Ok(node);
                    }
                    Ok(Answer::NotLeader(Some(leader))) if leader.address != address => {
                        hint = Some(leader.address);
                        continue;
                    }
                    Ok(Answer::NotLeader(_)) => why = format!("{address} knows no leader"),
                    Ok(Answer::Unavailable(said) | Answer::Unknown(said)) => why = said,
                    Err(error) => why = format!("{address}: {error}"),
                },
            }
            let pause = PAUSE_MS / 2 + self.shared().draw_below(PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Err(JoinError::Unavailable(why))
    }
}
