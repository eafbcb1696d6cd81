//! How does a group of one behave, in memory?

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::{
    Actor, Applied, ClusterState, Command, Envelope, FEATURE_LEVEL, Refusal, Role, Settings,
};
use crate::ids::{
    ClusterId, CommandId, Incarnation, NodeId, NodeName, PeerAddress, Revision, Term,
};

#[derive(Debug, Clone)]
pub struct GroupStatus {
    pub node: NodeId,
    pub role: RaftRole,
    pub term: Term,
    pub leader: Option<NodeId>,
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
    pub joint: bool,
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
    pub snapshot: Option<SnapshotStatus>,
    pub quorum_acked_ms_ago: Option<u64>,
    pub storage_failed: Option<String>,
}

#[derive(Debug, Clone, Copy)]
pub struct SnapshotStatus {
    pub index: u64,
    pub age_ms: u64,
}

#[derive(Debug, Clone, Copy)]
pub enum RaftRole {
    Leader,
}

impl fmt::Display for RaftRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("leader")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("nothing can be agreed now: {why}")]
    Unavailable { why: String, leader: Option<PeerAddress> },
    #[error("nobody knows whether it was agreed: look with `ringway status`")]
    Unknown,
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

    pub async fn found(&self, settings: Settings, seed: Vec<Command>) -> Result<ClusterId, ProposeError> {
        let cluster = ClusterId([7; 16]);
        let node = NodeName::new("n1").expect("a name");
        let address: PeerAddress = PeerAddress::parse("127.0.0.1:9700").expect("an address");
        self.apply("init@n1", Command::Found { cluster, node, address, settings })?;
        for command in seed {
            self.apply("init@n1", command)?;
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

    pub async fn snapshot(&self) -> Result<(), ProposeError> {
        Ok(())
    }

    pub async fn remove_node(&self, actor: &str, node: NodeId) -> Result<(), ProposeError> {
        self.apply(actor, Command::RemoveNode { node }).map(|_| ())
    }

    pub async fn backup(&self) -> Result<Vec<u8>, ProposeError> {
        Ok(self.state().encode())
    }

    pub fn state(&self) -> Arc<ClusterState> {
        Arc::clone(&self.0.borrow())
    }

    pub fn changes(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.0.subscribe()
    }

    pub fn status(&self) -> GroupStatus {
        let Revision(applied) = self.state().revision();
        GroupStatus {
            node: NodeId(1),
            role: RaftRole::Leader,
            term: Term(1),
            leader: Some(NodeId(1)),
            voters: vec![NodeId(1)],
            learners: vec![],
            joint: false,
            last_log: applied,
            committed: applied,
            applied,
            snapshot: None,
            quorum_acked_ms_ago: Some(0),
            storage_failed: None,
        }
    }
}
