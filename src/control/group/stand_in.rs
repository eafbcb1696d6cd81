//! How does a group of one behave, in memory?

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::{
    Actor, Applied, ClusterState, Command, Envelope, FEATURE_LEVEL, Refusal, Role, Settings,
};
use crate::ids::{
    ClusterId, CommandId, Generation, Incarnation, NodeId, NodeName, PeerAddress, Revision, Term,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupRole {
    Unborn,
    Leader,
}

#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub term: Term,
    pub index: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct SnapshotStatus {
    pub index: u64,
    pub age_ms: u64,
}

#[derive(Debug, Clone)]
pub struct GroupStatus {
    pub node: Option<NodeId>,
    pub cluster: Option<ClusterId>,
    pub generation: Option<Generation>,
    pub incarnation: Option<Incarnation>,
    pub role: GroupRole,
    pub term: Term,
    pub leader: Option<NodeId>,
    pub voters: BTreeSet<NodeId>,
    pub learners: BTreeSet<NodeId>,
    pub joint: bool,
    pub last_log: Option<u64>,
    pub committed: Option<Place>,
    pub applied: Option<Place>,
    pub revision: Revision,
    pub purged: Option<u64>,
    pub snapshot: Option<SnapshotStatus>,
    pub quorum_acked_ms_ago: Option<u64>,
    pub matched: Vec<(NodeId, Option<u64>)>,
    pub storage_failed: Option<String>,
    pub removed: bool,
    pub stopped: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("nothing was changed: {why}")]
    Unavailable { why: String, leader: Option<NodeId> },
    #[error("it is not known whether this was changed: {0}; look before you repeat it")]
    Unknown(String),
}

#[derive(Clone)]
pub struct Group(Arc<watch::Sender<Arc<ClusterState>>>);

impl Group {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Arc::default())))
    }

    fn apply(&self, actor: &str, command: Command) -> Result<Applied, ProposeError> {
        let mut state = ClusterState::clone(&self.state());
        let at = state.revision().next();
        let once = !matches!(command, Command::Found { .. } | Command::BeginIncarnation { .. } | Command::AddNode { .. });
        let id = once.then(|| CommandId { node: NodeId(1), incarnation: Incarnation(1), sequence: at.0 });
        let envelope = Envelope { id, actor: Actor::tamed(actor), at_ms: 1_795_239_120_125, command };
        let applied = state.apply(at, &envelope)?;
        self.0.send_replace(Arc::new(state));
        Ok(applied)
    }

    pub async fn propose(&self, actor: &str, command: Command) -> Result<Applied, ProposeError> {
        self.apply(actor, command)
    }

    pub async fn found(&self, actor: &str, settings: Settings, seed: Vec<Command>) -> Result<ClusterId, ProposeError> {
        let cluster = ClusterId([7; 16]);
        let node = NodeName::new("n1").expect("a name");
        let address: PeerAddress = PeerAddress::parse("127.0.0.1:9700").expect("an address");
        self.apply(actor, Command::Found { cluster, node, address, settings })?;
        for command in seed {
            self.apply(actor, command)?;
        }
        let _ = FEATURE_LEVEL;
        Ok(cluster)
    }

    pub async fn join(&self, _: &[PeerAddress], _: Role) -> Result<NodeId, ProposeError> {
        Err(ProposeError::Unavailable { why: "stand-in".to_owned(), leader: None })
    }

    pub async fn transfer(&self, _: NodeId) -> Result<(), ProposeError> {
        Ok(())
    }

    pub async fn snapshot(&self) -> Result<u64, String> {
        Ok(7)
    }

    pub async fn remove_node(&self, actor: &str, node: NodeId) -> Result<(), ProposeError> {
        self.apply(actor, Command::RemoveNode { node }).map(|_| ())
    }

    pub fn backup(&self) -> Option<bytes::Bytes> {
        self.state().identity()?;
        Some(self.state().encode().into())
    }

    pub fn state(&self) -> Arc<ClusterState> {
        Arc::clone(&self.0.borrow())
    }

    pub fn changes(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.0.subscribe()
    }

    pub fn status(&self) -> GroupStatus {
        let state = self.state();
        let place = Place { term: Term(1), index: state.revision().0 };
        let born = state.identity().is_some();
        GroupStatus {
            node: born.then_some(NodeId(1)),
            cluster: state.identity().map(|identity| identity.id),
            generation: state.identity().map(|identity| identity.generation),
            incarnation: born.then_some(Incarnation(1)),
            role: if born { GroupRole::Leader } else { GroupRole::Unborn },
            term: Term(1),
            leader: born.then_some(NodeId(1)),
            voters: born.then_some(NodeId(1)).into_iter().collect(),
            learners: BTreeSet::new(),
            joint: false,
            last_log: Some(place.index),
            committed: Some(place),
            applied: Some(place),
            revision: state.revision(),
            purged: None,
            snapshot: None,
            quorum_acked_ms_ago: Some(0),
            matched: Vec::new(),
            storage_failed: None,
            removed: false,
            stopped: None,
        }
    }
}
