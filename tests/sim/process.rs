//! One process: the machines of a node, and what its runner remembers.

use std::collections::BTreeMap;

use ringway::cluster::ClusterState;
use ringway::cluster::lease::{
    AgreedPool, LeaseBook, LeaseHolder, LeaseSettings, Pin, Pins, RingReport,
};
use ringway::cluster::verdict::{Seen, VerdictBook, Views};
use ringway::ids::{Epoch, Incarnation, NodeId, PoolName, Revision, ShardId, Term};
use ringway::ring::Ring;

use crate::clock::Clock;
use crate::group::Entry;

/// What a process finds when it starts again.
#[derive(Debug, Clone)]
pub struct Disk {
    pub applied: usize,
    pub state: ClusterState,
    pub first_of: Term,
}

impl Disk {
    /// Nothing was written yet.
    pub fn empty() -> Self {
        Self::of(ClusterState::default(), 0)
    }

    /// A snapshot of the state after so many entries.
    pub fn of(state: ClusterState, applied: usize) -> Self {
        Self { applied, state, first_of: Term::default() }
    }
}

/// One start of a node, or what is left of one.
#[derive(Debug)]
pub struct Process {
    pub node: NodeId,
    /// `None` until the group has agreed on one.
    pub incarnation: Option<Incarnation>,
    pub is_alive: bool,
    /// Its data folder was copied and started elsewhere: another process is the node now, and this
    /// one does not know.
    pub is_zombie: bool,
    /// Takes no step until then.
    pub stopped_until_us: u64,
    /// Applies nothing until then.
    pub lags_until_us: u64,
    /// Which part of a divided network it is in.
    pub side: u8,
    pub clock: Clock,
    /// Its network card fails: it sees every shard down.
    pub has_bad_card: bool,

    pub state: ClusterState,
    /// How much of the log is in `state`.
    pub applied: usize,
    /// The latest term whose first entry is in `state`.
    pub first_of: Term,
    pub disk: Disk,
    rings: BTreeMap<PoolName, RingReport>,

    pub holder: Option<LeaseHolder>,
    pub pins: Pins,
    pub operations: BTreeMap<u64, Operation>,
    /// When each renewal was sent; only mistaken runners need it.
    pub sent_ms: BTreeMap<u64, u64>,
    /// The process that it takes for the leader.
    pub believed_leader: usize,

    pub book: LeaseBook,
    pub verdicts: VerdictBook,
    /// The term in which it leads, as far as it knows.
    pub leads: Option<Term>,
    /// Barriers that it has proposed lately, and when.
    pub proposed: BTreeMap<PoolName, (Epoch, u64)>,
    /// Numbers its proposals.
    pub sequence: u64,
}

/// An operation that runs.
#[derive(Debug)]
pub struct Operation {
    pub pool: PoolName,
    pub pin: Pin,
}

impl Process {
    /// A start of `node` from what is on its disk.
    pub fn start(node: NodeId, disk: Disk, clock: Clock) -> Self {
        let mut process = Self {
            node,
            incarnation: None,
            is_alive: true,
            is_zombie: false,
            stopped_until_us: 0,
            lags_until_us: 0,
            side: 0,
            clock,
            has_bad_card: false,
            state: disk.state.clone(),
            applied: disk.applied,
            first_of: disk.first_of,
            disk,
            rings: BTreeMap::new(),
            holder: None,
            pins: Pins::new(0),
            operations: BTreeMap::new(),
            sent_ms: BTreeMap::new(),
            believed_leader: 0,
            book: LeaseBook::new(LeaseSettings::default()),
            verdicts: VerdictBook::default(),
            leads: None,
            proposed: BTreeMap::new(),
            sequence: 0,
        };
        process.build_rings();
        process
    }

    /// Its incarnation is agreed: it may ask for a lease.
    pub fn begin(&mut self, incarnation: Incarnation) {
        self.incarnation = Some(incarnation);
        self.holder = Some(LeaseHolder::new(self.state.lease_settings(), self.node, incarnation));
    }

    /// Its machines follow the settings that it has applied, `lease` among them.
    pub fn take_settings(&mut self, lease: LeaseSettings) {
        self.book.set_settings(lease);
        self.pins.set_op_pin_max_ms(lease.op_pin_max_ms);
        self.verdicts.set_settings(self.state.verdict_settings());
        if let Some(holder) = &mut self.holder {
            holder.set_settings(lease);
        }
    }

    /// Applies the next entry. `own` is the number of this process: it may have waited for this
    /// entry to begin. For `asks` see [`Entry::effective`].
    pub fn apply_entry(&mut self, own: usize, entry: &Entry, asks: bool) {
        self.applied += 1;
        if entry.envelope.is_none() {
            self.first_of = self.first_of.max(entry.term);
        }
        let Some(envelope) = entry.effective(asks) else { return };
        let at = Revision(u64::try_from(self.applied).expect("logs are short"));
        let applied = self.state.apply(at, envelope);
        self.build_rings();
        let began = applied.ok().and_then(|applied| applied.incarnation);
        if let Some(incarnation) = began.filter(|_| entry.waits == Some(own)) {
            self.begin(incarnation);
        }
    }

    /// Writes what it has applied to its disk.
    pub fn sync(&mut self) {
        let (applied, state, first_of) = (self.applied, self.state.clone(), self.first_of);
        self.disk = Disk { applied, state, first_of };
    }

    /// As the publisher of topologies does: a ring for each new epoch.
    fn build_rings(&mut self) {
        let pools = self.state.pools();
        self.rings.retain(|pool, _| pools.contains_key(pool));
        for (name, pool) in pools {
            if self.rings.get(name).is_some_and(|ring| ring.epoch == pool.epoch) {
                continue;
            }
            let ring = Ring::build(&pool.ring_spec()).expect("apply keeps rings buildable");
            let report = RingReport { epoch: pool.epoch, digest: ring.digest() };
            self.rings.insert(name.clone(), report);
        }
    }

    pub fn rings(&self) -> &BTreeMap<PoolName, RingReport> {
        &self.rings
    }

    /// The epochs that it has applied.
    pub fn epochs(&self) -> BTreeMap<PoolName, Epoch> {
        self.state.pools().iter().map(|(name, pool)| (name.clone(), pool.epoch)).collect()
    }

    /// The nodes that it has applied.
    pub fn nodes(&self) -> BTreeMap<NodeId, Incarnation> {
        self.state.nodes().iter().map(|(id, node)| (*id, node.incarnation)).collect()
    }

    /// What its book is to be told of the pools.
    pub fn agreed(&self) -> BTreeMap<PoolName, AgreedPool> {
        let agreed = |(name, ring): (&PoolName, &RingReport)| {
            let barrier = self.state.pools().get(name).map(|pool| pool.barrier).unwrap_or_default();
            (name.clone(), AgreedPool { epoch: ring.epoch, digest: Some(ring.digest), barrier })
        };
        self.rings.iter().map(agreed).collect()
    }

    /// What it sees of the shards, given how they are.
    pub fn views(&self, down: &BTreeMap<PoolName, BTreeMap<ShardId, bool>>) -> Views {
        down.iter()
            .map(|(pool, shards)| {
                let seen = shards.iter().map(|(shard, is_down)| {
                    let reads_down = Some(*is_down || self.has_bad_card);
                    let seen = Seen { reads_down, writes_down: reads_down, foreign: false };
                    (shard.clone(), seen)
                });
                (pool.clone(), seen.collect())
            })
            .collect()
    }
}
