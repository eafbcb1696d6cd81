//! The node's side: may this node serve, by this epoch, now?

use std::collections::{BTreeMap, VecDeque};

use super::message::{Denial, Grant, Renewal, RingReport};
use super::settings::LeaseSettings;
use crate::ids::{Epoch, Incarnation, NodeId, PoolName, Term};

/// How many renewals may be out at once: one a second fills a lease of 10 s with ten, so that 64
/// leave room for six times as many. An answer to one that was forgotten counts for nothing.
const OUTSTANDING_MAX: usize = 64;

/// One start of one node, and the lease that it may hold.
///
/// Always true: the lease ends no later than the moment at which a renewal was sent plus the
/// duration that was granted to that very renewal; floors only grow.
#[derive(Debug)]
pub struct LeaseHolder {
    settings: LeaseSettings,
    node: NodeId,
    incarnation: Incarnation,
    /// Renewals without an answer so far, oldest first: number and when it was sent.
    outstanding: VecDeque<(u64, u64)>,
    last_number: u64,
    /// When the lease ends, or ended. `None`: this process never had one.
    until_ms: Option<u64>,
    term: Term,
    floors: BTreeMap<PoolName, Epoch>,
}

/// Why an operation may not go on (rule 5). Nothing was done if this was found at its start;
/// found before success, its outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLease {
    /// This process has not been granted a lease yet.
    #[error("this node has no lease yet")]
    NotYet,
    /// It ran out: the leader was not reached for so long.
    #[error("this node's lease ran out {ago_ms} ms ago")]
    RanOut {
        /// How long ago.
        ago_ms: u64,
    },
    /// The lease is good for later epochs only (rule 8).
    #[error("epoch {epoch} is below the barrier {floor}")]
    BelowFloor {
        /// The operation's epoch.
        epoch: Epoch,
        /// The least one that may be served.
        floor: Epoch,
    },
}

impl LeaseHolder {
    /// A node that has just begun its incarnation: without a lease, whatever it had before.
    #[must_use]
    pub fn new(settings: LeaseSettings, node: NodeId, incarnation: Incarnation) -> Self {
        Self {
            settings,
            node,
            incarnation,
            outstanding: VecDeque::new(),
            last_number: 0,
            until_ms: None,
            term: Term::default(),
            floors: BTreeMap::new(),
        }
    }

    /// Other settings were agreed. A lease that is held keeps its end.
    pub fn set_settings(&mut self, settings: LeaseSettings) {
        self.settings = settings;
    }

    /// Makes a renewal, to be sent now; call about once a second (rule 1). `epochs` is what
    /// [`Pins::report`](super::Pins::report) says at this moment.
    pub fn renew(
        &mut self,
        now_ms: u64,
        wall_ms: u64,
        epochs: BTreeMap<PoolName, Epoch>,
        rings: BTreeMap<PoolName, RingReport>,
    ) -> Renewal {
        self.last_number = self.last_number.saturating_add(1);
        if self.outstanding.len() == OUTSTANDING_MAX {
            self.outstanding.pop_front();
        }
        // Rule 2: noted before it is sent, so that all that happens on the way shortens the lease.
        self.outstanding.push_back((self.last_number, now_ms));
        Renewal {
            node: self.node,
            incarnation: self.incarnation,
            number: self.last_number,
            epochs,
            rings,
            wall_ms,
        }
    }

    /// Takes an answer, however late, doubled or out of order. Returns whether the lease is longer
    /// now.
    ///
    /// Rule 2: the duration counts from the moment at which *the answered* renewal was sent. The
    /// last one's moment would be too late: its own answer may be a denial. Counted from the
    /// receipt instead, a grant that hung in a queue would begin when the leader already takes it
    /// for over.
    pub fn granted(&mut self, now_ms: u64, grant: &Grant) -> bool {
        if grant.incarnation != self.incarnation {
            return false;
        }
        // What the leader knows of floors holds whether or not the grant comes in time.
        for (pool, floor) in &grant.floors {
            let known = self.floors.entry(pool.clone()).or_default();
            *known = (*known).max(*floor);
        }
        let Some(at) = self.outstanding.iter().position(|(number, _)| *number == grant.number)
        else {
            return false;
        };
        let Some((_, sent_ms)) = self.outstanding.remove(at) else { return false };
        let until_ms = sent_ms.saturating_add(grant.duration_ms);
        let is_longer = until_ms > now_ms && self.until_ms.is_none_or(|was| was < until_ms);
        if is_longer {
            self.until_ms = Some(until_ms);
            self.term = grant.term;
        }
        is_longer
    }

    /// Takes a denial of this process's renewal.
    pub fn denied(&mut self, now_ms: u64, denial: &Denial) {
        if let Denial::BelowFloor { pool, floor, .. } = denial {
            let known = self.floors.entry(pool.clone()).or_default();
            *known = (*known).max(*floor);
        }
        // An answer to the process before this one says nothing about this one.
        let is_of_another =
            matches!(denial, Denial::Superseded { current } if *current <= self.incarnation);
        if denial.revokes() && !is_of_another {
            self.surrender(now_ms);
        }
    }

    /// Gives the lease up, answers under way included: this process found out that it must not
    /// serve (its storage failed, its state differs from what was agreed).
    pub fn surrender(&mut self, now_ms: u64) {
        self.outstanding.clear();
        self.until_ms = self.until_ms.map(|until_ms| until_ms.min(now_ms));
    }

    /// How long the lease still lasts; 0 without one.
    #[must_use]
    pub fn remaining_ms(&self, now_ms: u64) -> u64 {
        self.until_ms.map_or(0, |until_ms| until_ms.saturating_sub(now_ms))
    }

    /// When the lease ends or ended; `None` if there never was one. For the request path, which
    /// compares one number.
    #[must_use]
    pub fn until_ms(&self) -> Option<u64> {
        self.until_ms
    }

    /// Which start of which node it is for.
    #[must_use]
    pub fn start(&self) -> (NodeId, Incarnation) {
        (self.node, self.incarnation)
    }

    /// Until when reads at `one` may be answered; see [`Self::reads_at_one`].
    #[must_use]
    pub fn stale_until_ms(&self) -> Option<u64> {
        self.until_ms.map(|until_ms| until_ms.saturating_add(self.settings.stale_reads_max_ms))
    }

    /// The term of the leader that granted the lease; shown to operators.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// The least epoch of each pool that may be served.
    #[must_use]
    pub fn floors(&self) -> &BTreeMap<PoolName, Epoch> {
        &self.floors
    }

    /// Whether an operation pinned to `epoch` may go on (rule 5). Asked when it starts, after a
    /// read's version round, and again before success is told: a process that was stopped in
    /// between learns only here that its time is over.
    ///
    /// # Errors
    /// [`NoLease`]: at the start, the operation is refused as not applied; before success, its
    /// outcome is unknown.
    pub fn check(&self, now_ms: u64, pool: &PoolName, epoch: Epoch) -> Result<(), NoLease> {
        let until_ms = self.until_ms.ok_or(NoLease::NotYet)?;
        if now_ms >= until_ms {
            return Err(NoLease::RanOut { ago_ms: now_ms.saturating_sub(until_ms) });
        }
        match self.floors.get(pool) {
            Some(&floor) if epoch < floor => Err(NoLease::BelowFloor { epoch, floor }),
            _ => Ok(()),
        }
    }

    /// Whether reads at `one` may be answered: under a lease, and for a while after it (rule 5). A
    /// process that never had one does not know how old its state is, so it answers none.
    #[must_use]
    pub fn reads_at_one(&self, now_ms: u64) -> bool {
        self.stale_until_ms().is_some_and(|until_ms| now_ms < until_ms)
    }
}
