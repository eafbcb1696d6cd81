//! Who decides what the operator asks for?
//!
//! In a cluster the group does: a change is proposed, whichever node was asked, and answered once
//! it is agreed, applied here, and what this node serves. A node that stands alone has its file
//! for that, and says so.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;

use super::http::Problem;
use crate::cluster::{Actor, Applied, Change, ClusterState, Command, Settings};
use crate::control::group::{Group, ProposeError};
use crate::control::steward::{LeaseStatus, Overview};
use crate::control::wishes::{Wish, WishError, Wishes};
use crate::ids::{NodeName, Revision};

/// Who decides.
pub enum Control {
    /// The node's file; and what no file can say is brought here, if anybody listens.
    Standalone(Option<Wishes>),
    /// The group of nodes.
    Cluster(Box<Member>),
}

/// Something to be awaited, as a trait object.
pub type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a node of a cluster can ask its other parts.
pub struct Member {
    /// What is agreed, and how it is changed.
    pub group: Group,
    /// Says how this node's lease stands.
    pub lease: Box<dyn Fn() -> LeaseStatus + Send + Sync>,
    /// Asks the leader for what only it knows; `None` when it does not tell in time.
    pub overview: Box<dyn Fn() -> Waiting<Option<Overview>> + Send + Sync>,
    /// Says what the node's file has otherwise than what is agreed, in sentences.
    pub drift: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Says what the node's file founds a cluster with.
    pub seed: Box<dyn Fn() -> Seed + Send + Sync>,
}

/// What a cluster begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Its settings.
    pub settings: Settings,
    /// The commands that make its pools.
    pub commands: Vec<Command>,
}

/// How long an answer waits for this node to serve what was agreed. Building the rings of a large
/// change takes a part of a second.
const PUBLISH_WAIT: Duration = Duration::from_secs(5);

impl Control {
    /// The group, or the cure.
    pub(super) fn member(&self) -> Result<&Member, Problem> {
        match self {
            Self::Cluster(member) => Ok(member),
            Self::Standalone(_) => Err(standalone()),
        }
    }
}

/// What can be asked of a node without a cluster: what is lost with a disk is in no file.
pub(super) async fn change_alone(
    wishes: Option<&Wishes>,
    changes: Vec<Change>,
    now: bool,
) -> Result<(), Problem> {
    let only_lost = changes.iter().all(|change| {
        matches!(change, Change::ReplaceShard { url: None, .. } | Change::DropPool { .. })
    });
    let Some(wishes) = wishes.filter(|_| only_lost && !changes.is_empty()) else {
        return Err(standalone());
    };
    if !now {
        let detail = "this node is standalone and stages nothing: use `--now`";
        return Err(Problem::new(409, "standalone", detail));
    }
    let asked = Box::pin(wishes.ask(Wish::Change { changes }));
    asked.await.map_err(|error| match error {
        WishError::Refused(_) => Problem::new(409, "refused", error.to_string()),
        WishError::Busy | WishError::Unavailable(_) => {
            Problem::new(503, "unavailable", error.to_string())
        }
    })
}

/// What a node without a cluster answers.
pub(super) fn standalone() -> Problem {
    let detail = "this node is standalone: change its file and `ringway reload`, or give it a \
                  `cluster:` section";
    Problem::new(409, "standalone", detail)
}

impl Member {
    /// What is agreed by now, for decisions: a node that has just joined, or was cut off, may be
    /// behind, and would plan on what was.
    pub(super) async fn newest(&self) -> Result<Arc<ClusterState>, Problem> {
        self.group.read_index().await.map_err(|error| refusal(&error))?;
        Ok(self.group.state())
    }

    /// Has the group agree on a command, and waits until this node serves by it.
    pub(super) async fn change(
        &self,
        actor: &str,
        command: Command,
        published: &watch::Receiver<Revision>,
    ) -> Result<Applied, Problem> {
        let proposed = Box::pin(self.group.propose(actor, command));
        let applied = proposed.await.map_err(|error| refusal(&error))?;
        if !applied.pools.is_empty() {
            let mut published = published.clone();
            let served = published.wait_for(|revision| *revision >= applied.revision);
            // Late or never: agreed it is, and `status` shows what is served.
            drop(tokio::time::timeout(PUBLISH_WAIT, served).await);
        }
        Ok(applied)
    }
}

/// Why a change was not made, or that nobody knows.
pub(super) fn refusal(error: &ProposeError) -> Problem {
    let detail = error.to_string();
    match error {
        ProposeError::Refused(_) => Problem::new(409, "refused", detail),
        ProposeError::Unavailable { .. } => {
            Problem::new(503, "unavailable", detail).with_outcome("not-applied")
        }
        ProposeError::Unknown(_) => Problem::new(504, "unknown", detail).with_outcome("unknown"),
    }
}

/// Who asked, for the history: the node that was asked, and the name that the asker gave.
#[must_use]
pub(super) fn actor(node: &NodeName, said: Option<&HeaderValue>) -> String {
    let name = said.and_then(|name| name.to_str().ok()).map_or("", str::trim);
    match name.is_empty() {
        true => format!("admin@{node}"),
        false => Actor::tamed(&format!("admin@{node} ({name})")).to_string(),
    }
}
