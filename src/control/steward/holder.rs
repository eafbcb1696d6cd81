//! The lease of this start of this node, and what came of asking for it.

use crate::cluster::ClusterState;
use crate::cluster::lease::{LeaseHolder, LeaseSettings, NoLease, Renewal, SharedLease};
use crate::ids::{Epoch, Incarnation, NodeId, PoolName, Term};

use super::facts::Facts;
use super::message::Answer;

/// A node's lease across its incarnations: a new one begins without.
#[derive(Debug, Default)]
pub struct Holding {
    present: Option<Present>,
}

#[derive(Debug)]
struct Present {
    node: NodeId,
    incarnation: Incarnation,
    holder: LeaseHolder,
    /// Why the last answer was none; `None` after a grant and before any answer.
    trouble: Option<String>,
}

/// How a node stands with its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseStatus {
    /// How long it lasts yet; zero without one.
    pub remaining_ms: u64,
    /// For how long the node has had none; `None` if it has one, or never had any.
    pub lost_ms_ago: Option<u64>,
    /// In which term it was granted.
    pub term: Term,
    /// Why the last renewal brought none.
    pub trouble: Option<String>,
}

impl Holding {
    /// Makes a renewal, to be sent now, under the incarnation that is agreed.
    pub fn renew(
        &mut self,
        now_ms: u64,
        wall_ms: u64,
        (node, incarnation): (NodeId, Incarnation),
        facts: &Facts,
        state: &ClusterState,
    ) -> Renewal {
        let settings = state.lease_settings();
        let present = self
            .present
            .take()
            .filter(|present| (present.node, present.incarnation) == (node, incarnation));
        let present = self
            .present
            .insert(present.unwrap_or_else(|| Present::begin(settings, node, incarnation)));
        present.holder.set_settings(settings);
        present.holder.renew(now_ms, wall_ms, facts.epochs.clone(), facts.rings.clone())
    }

    /// Takes an answer, however late.
    pub fn answered(&mut self, now_ms: u64, answer: &Answer) {
        let Some(present) = &mut self.present else { return };
        match answer {
            Answer::Granted(grant) => {
                present.holder.granted(now_ms, grant);
                present.trouble = None;
            }
            Answer::Denied(denial) => {
                present.holder.denied(now_ms, denial);
                present.trouble = Some(denial.to_string());
            }
        }
    }

    /// Notes that nobody answered, and why.
    pub fn unanswered(&mut self, why: String) {
        if let Some(present) = &mut self.present {
            present.trouble = Some(why);
        }
    }

    /// Tells the threads that serve. To be called after every step.
    pub fn tell(&self, shared: &SharedLease) {
        if let Some(present) = &self.present {
            shared.tell(&present.holder);
        }
    }

    /// Gives the lease up.
    pub fn surrender(&mut self, now_ms: u64, why: &str) {
        if let Some(present) = &mut self.present {
            present.holder.surrender(now_ms);
            present.trouble = Some(why.to_owned());
        }
    }

    /// Whether an operation pinned to `epoch` may go on (rule 5).
    ///
    /// # Errors
    /// [`NoLease`].
    pub fn check(&self, now_ms: u64, pool: &PoolName, epoch: Epoch) -> Result<(), NoLease> {
        self.present.as_ref().ok_or(NoLease::NotYet)?.holder.check(now_ms, pool, epoch)
    }

    /// How the lease stands.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> LeaseStatus {
        let Some(present) = &self.present else {
            return LeaseStatus {
                remaining_ms: 0,
                lost_ms_ago: None,
                term: Term(0),
                trouble: None,
            };
        };
        let holder = &present.holder;
        let remaining_ms = holder.remaining_ms(now_ms);
        let ended = holder.until_ms().filter(|_| remaining_ms == 0);
        LeaseStatus {
            remaining_ms,
            lost_ms_ago: ended.map(|until_ms| now_ms.saturating_sub(until_ms)),
            term: holder.term(),
            trouble: present.trouble.clone(),
        }
    }
}

impl Present {
    fn begin(settings: LeaseSettings, node: NodeId, incarnation: Incarnation) -> Self {
        let holder = LeaseHolder::new(settings, node, incarnation);
        Self { node, incarnation, holder, trouble: None }
    }
}

impl LeaseStatus {
    /// Whether there is one.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.remaining_ms > 0
    }
}
