//! Who may serve by which epoch? As much of leases and barriers as stores and writes see of them.
//!
//! The group itself never fails here. Its rules are those of DESIGN, section 5: a lease counts from
//! its sending, nobody is granted one who reports less than the epoch in force, and a barrier passes
//! when each node has reported its epoch or is expired, with a margin for the clocks' rates.

/// How long a lease lasts.
pub const LEASE_MS: u64 = 1_000;

/// A tenth and a moment.
const MARGIN_MS: u64 = LEASE_MS / 10 + 100;

/// What is agreed of the stores.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Later views are greater.
    pub revision: u64,
    /// Which store each shard is bound to.
    pub identities: Vec<u64>,
    /// The shard whose store replaced another and is not filled.
    pub fresh: Option<usize>,
}

#[derive(Debug, Default)]
pub struct Group {
    pub epoch: u64,
    /// The greatest epoch whose barrier has passed.
    pub barrier: u64,
    /// What the proposer's wall clock showed when the epoch in force began.
    pub begun_unix_ms: u64,
    pub view: View,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Node {
    reported: u64,
    holds_until_us: u64,
}

impl Group {
    pub fn new(nodes: usize, stores: usize) -> Self {
        let view = View { identities: vec![1; stores], ..View::default() };
        let nodes = vec![Node { reported: 1, holds_until_us: 0 }; nodes];
        Self { epoch: 1, barrier: 1, begun_unix_ms: 0, view, nodes }
    }

    /// Nothing is collected under an epoch before the next begins.
    pub fn next_epoch(&mut self, unix_ms: u64) {
        self.epoch += 1;
        self.begun_unix_ms = unix_ms;
    }

    /// A shard is bound to a fresh store.
    pub fn replaced(&mut self, store: usize) {
        self.view.revision += 1;
        self.view.identities[store] += 1;
        self.view.fresh = Some(store);
    }

    /// It was brought all that the others hold.
    pub fn filled(&mut self) {
        self.view.revision += 1;
        self.view.fresh = None;
    }

    /// Whether the node gets a lease, which it counts from when it sent this.
    pub fn renew(&mut self, now_us: u64, node: usize, reported: u64) -> bool {
        let epoch = self.epoch;
        let node = &mut self.nodes[node];
        if reported < epoch {
            return false;
        }
        node.reported = reported;
        node.holds_until_us = node.holds_until_us.max(now_us + (LEASE_MS + MARGIN_MS) * 1_000);
        true
    }

    pub fn look(&mut self, now_us: u64) {
        let is_done = |node: &Node| node.reported >= self.epoch || node.holds_until_us <= now_us;
        if self.nodes.iter().all(is_done) {
            self.barrier = self.epoch;
        }
    }
}
