//! Who has agreed what requests and background loops wish for?
//!
//! On a node without a cluster its own state: a wish is applied to it, made durable and published,
//! as a reload is. In a cluster the group.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::publisher::Publisher;
use crate::cluster::ClusterState;
use crate::control::group::{Group, ProposeError};
use crate::control::standalone::{ControlError, Standalone};
use crate::control::wishes::{Asked, Wish, WishError};

/// Proposals under way at once; a group takes 64 of a node.
const PROPOSALS_MAX: usize = 16;

/// A standalone node's state, and where it goes when it changes.
pub struct Alone {
    /// Whoever changes it keeps it until that is published.
    pub standalone: Arc<Mutex<Standalone>>,
    /// What is shown.
    pub agreed: watch::Sender<Arc<ClusterState>>,
}

impl Alone {
    fn grant(&self, wish: &Wish, publisher: &Publisher) -> Result<(), WishError> {
        let mut standalone = self.standalone.lock().unwrap_or_else(PoisonError::into_inner);
        if wish.holds(standalone.state()) {
            return Ok(());
        }
        let applied = standalone
            .prepare_command(&wish.command())
            .and_then(|prepared| standalone.commit(prepared));
        match applied {
            Ok(_) => {
                publisher.follow(standalone.state());
                self.agreed.send_replace(Arc::new(standalone.state().clone()));
                Ok(())
            }
            Err(ControlError::Refused(refusal)) => Err(WishError::Refused(refusal)),
            Err(error) => {
                tracing::error!(%error, "what was to be agreed cannot be written");
                Err(WishError::Unavailable(error.to_string()))
            }
        }
    }

    /// Grants wishes until nobody can bring any more, or the node is gone. It keeps nothing that
    /// has the node's folder: who starts it anew at once must find that free.
    pub fn drain(
        &self,
        mut asked: mpsc::Receiver<Asked>,
        publisher: Arc<Publisher>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (standalone, agreed) = (Arc::downgrade(&self.standalone), self.agreed.clone());
        async move {
            while let Some((wish, answer)) = asked.recv().await {
                let Some(standalone) = standalone.upgrade() else { return };
                let alone = Self { standalone, agreed: agreed.clone() };
                let publisher = Arc::clone(&publisher);
                // It waits for the disk.
                let granted = tokio::task::spawn_blocking(move || alone.grant(&wish, &publisher));
                let granted = granted.await.unwrap_or_else(|error| {
                    Err(WishError::Unavailable(format!("a defect of this node: {error}")))
                });
                // Whoever asked may have gone.
                drop(answer.send(granted));
            }
        }
    }
}

/// Puts wishes to the group until nobody can bring any more.
pub async fn propose(group: Group, actor: String, mut asked: mpsc::Receiver<Asked>) {
    let mut under_way = JoinSet::new();
    while let Some((wish, answer)) = asked.recv().await {
        if under_way.len() >= PROPOSALS_MAX {
            drop(under_way.join_next().await);
        }
        while under_way.try_join_next().is_some() {}
        let (group, actor) = (group.clone(), actor.clone());
        under_way.spawn(async move {
            let state = group.state();
            let granted = match wish.holds(&state) {
                true => Ok(()),
                false if wish.is_early(&state) => {
                    let why = "not every node acts by the pool's epoch yet";
                    Err(WishError::Unavailable(why.to_owned()))
                }
                false => group.propose(&actor, wish.command()).await.map(drop).map_err(|error| {
                    match error {
                        ProposeError::Refused(refusal) => WishError::Refused(refusal),
                        other => WishError::Unavailable(other.to_string()),
                    }
                }),
            };
            // Whoever asked may have gone.
            drop(answer.send(granted));
        });
    }
}
