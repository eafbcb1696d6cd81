//! Who leads, as one node sees it?

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::part::Group;
use crate::ids::{NodeId, PeerAddress, Term};

/// Who leads, as far as one node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// This node, since a moment that it knows of.
    Leader {
        /// The term that it leads in.
        term: Term,
        /// Since when.
        since: Instant,
    },
    /// Another one.
    Follower {
        /// Which.
        leader: NodeId,
    },
    /// Nobody that this node knows of.
    None,
}

impl Leadership {
    /// The leader, if it is another node.
    #[must_use]
    pub fn other(self) -> Option<NodeId> {
        match self {
            Self::Follower { leader } => Some(leader),
            Self::Leader { .. } | Self::None => None,
        }
    }
}

impl Group {
    /// Publishes who leads, for as long as Raft runs.
    pub(super) async fn follow_leadership(&self) {
        let running = self.shared().running().expect("Raft runs before its loops do");
        let mut metrics = running.raft.server_metrics();
        loop {
            let (leader, led_by_me, term) = {
                let metrics = metrics.borrow_watched();
                let leads = metrics.state == ServerState::Leader && metrics.vote.is_committed();
                (metrics.current_leader, leads, Term(metrics.vote.leader_id().term))
            };
            self.shared().leadership.send_if_modified(|published| {
                let now = match (led_by_me, leader) {
                    (true, _) => match *published {
                        Leadership::Leader { term: before, since } if before == term => {
                            Leadership::Leader { term, since }
                        }
                        _ => Leadership::Leader { term, since: Instant::now() },
                    },
                    (false, Some(leader)) if NodeId(leader) != running.member.node => {
                        Leadership::Follower { leader: NodeId(leader) }
                    }
                    (false, _) => Leadership::None,
                };
                std::mem::replace(published, now) != now
            });
            if metrics.changed().await.is_err() {
                self.shared().leadership.send_replace(Leadership::None);
                let stopped = running.raft.metrics().borrow_watched().running_state.clone();
                if let Err(why) = stopped {
                    tracing::error!(%why, "this node's part in the group has ended");
                }
                return;
            }
        }
    }

    /// Where a member is reached: as agreed, or as it was when it joined.
    #[must_use]
    pub fn address_of(&self, node: NodeId) -> Option<PeerAddress> {
        let agreed = self.shared().agreed.borrow().clone();
        if let Some(node) = agreed.state.nodes().get(&node) {
            return Some(node.address.clone());
        }
        let running = self.shared().running()?;
        let metrics = running.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_node(&node.0)?.addr.parse().ok()
    }
}
