//! Who grants a lease to a node without a cluster?
//!
//! It does so itself, by the very rules and the very code by which a leader grants to its followers
//! (DESIGN, section 5): nothing switches leases off. What it gains is the end of a lease when the
//! process was stopped for longer than one, and an operation that began before knows it.
//!
//! A node's versions bear its *incarnation*: which start of it chose them. A cluster counts starts
//! through Raft; here a file in the node's folder does, and is durable before anything is served. It
//! begins at a number that was drawn: two such nodes before the same stores, or one whose folder was
//! lost, must not choose one version for two writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::clock::boottime_ms;
use super::standalone::ControlError;
use crate::cluster::Topology;
use crate::cluster::lease::{
    AgreedPool, LeaseBook, LeaseHolder, LeaseSettings, RingReport, SharedLease,
};
use crate::disk::atomic;
use crate::ids::{Epoch, Incarnation, NodeId, PoolName, Term};

/// The id of a node without a cluster; a cluster's nodes are counted from 1.
pub const STANDALONE_NODE: NodeId = NodeId(0);

const FILE: &str = "incarnation";

/// What the file begins with; the number and the checksum of it follow.
const MAGIC: &str = "ringway-incarnation";

/// The only term of a node that nobody else could lead.
const TERM: Term = Term(1);

/// Renewals within one lease, as in a cluster.
const RENEWALS_PER_LEASE: u64 = 10;

/// Counts this start of a node in its folder, which the caller holds the lock of. Durable when it
/// returns.
///
/// # Errors
/// [`ControlError`] when the file cannot be read or written, or is none.
pub fn begin_incarnation(data_dir: &Path) -> Result<Incarnation, ControlError> {
    let path = data_dir.join(FILE);
    let error = |error| ControlError::Io { path: path.clone(), error };
    let last = match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).ok_or_else(|| ControlError::Incarnation { path: path.clone() })?,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => drawn().map_err(error)?,
        Err(other) => return Err(error(other)),
    };
    let begun = last.next();
    atomic::replace(&path, line(begun).as_bytes(), 0o600).map_err(error)?;
    Ok(begun)
}

/// Where a new folder begins to count: far from where others do, and below 2^53, so that every
/// reader of JSON takes it for the same number.
fn drawn() -> io::Result<Incarnation> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Incarnation(u64::from(u32::from_le_bytes(bytes) >> 3) << 24))
}

fn line(incarnation: Incarnation) -> String {
    let body = format!("{MAGIC} {incarnation}");
    let sum = blake3::hash(body.as_bytes()).to_hex();
    format!("{body} {}\n", &sum[..16])
}

fn parse(text: &str) -> Option<Incarnation> {
    let number = text.strip_prefix(MAGIC)?.split_whitespace().next()?;
    let incarnation = Incarnation(number.parse().ok()?);
    (line(incarnation) == text).then_some(incarnation)
}

/// The lease that a node without a cluster grants itself.
pub struct OwnLease {
    book: LeaseBook,
    holder: LeaseHolder,
    shared: Arc<SharedLease>,
    incarnation: Incarnation,
}

impl OwnLease {
    /// A start of the node, without a lease yet.
    #[must_use]
    pub fn new(
        settings: LeaseSettings,
        incarnation: Incarnation,
        shared: Arc<SharedLease>,
        now_ms: u64,
    ) -> Self {
        let mut book = LeaseBook::new(settings);
        book.elected(TERM, now_ms);
        let holder = LeaseHolder::new(settings, STANDALONE_NODE, incarnation);
        Self { book, holder, shared, incarnation }
    }

    /// Renews the lease by what requests read.
    pub fn renew(&mut self, now_ms: u64, wall_ms: u64, topology: &Topology) {
        let pools = topology.pools();
        let published: BTreeMap<PoolName, Epoch> =
            pools.iter().map(|pool| (pool.name.clone(), pool.epoch)).collect();
        let rings = pools
            .iter()
            .map(|pool| (pool.name.clone(), RingReport { epoch: pool.epoch, digest: pool.digest }));
        let agreed = pools.iter().map(|pool| {
            let agreed =
                AgreedPool { epoch: pool.epoch, digest: Some(pool.digest), barrier: pool.barrier };
            (pool.name.clone(), agreed)
        });
        self.book.members(now_ms, &BTreeMap::from([(STANDALONE_NODE, self.incarnation)]));
        self.book.agreed(agreed.collect());
        self.book.first_entry_applied(TERM);
        self.book.quorum_confirmed(TERM, now_ms);
        let epochs = self.shared.report(now_ms, &published);
        let renewal = self.holder.renew(now_ms, wall_ms, epochs, rings.collect());
        match self.book.renewal(now_ms, &renewal) {
            Ok(grant) => drop(self.holder.granted(now_ms, &grant)),
            Err(denial) => {
                tracing::error!(%denial, "this node has no lease");
                self.holder.denied(now_ms, &denial);
            }
        }
        self.shared.tell(&self.holder);
    }

    /// Renews it for ever.
    pub async fn keep(
        mut self,
        lease_ms: u64,
        wall_ms: fn() -> u64,
        topology: impl Fn() -> Arc<Topology> + Send,
    ) {
        let every = Duration::from_millis((lease_ms / RENEWALS_PER_LEASE).max(1));
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.renew(boottime_ms(), wall_ms(), &topology());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClusterState;

    #[test]
    fn each_start_has_an_incarnation_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = begin_incarnation(folder.path()).expect("counted");
        assert!(first.0 < 1 << 53);
        for later in 1..4 {
            let begun = begin_incarnation(folder.path()).expect("counted");
            assert_eq!(begun, Incarnation(first.0 + later));
        }
        let other = tempfile::tempdir().expect("a folder");
        let other = begin_incarnation(other.path()).expect("counted");
        assert!(other.0.abs_diff(first.0) > 1000, "two folders do not count alike");
        let path = folder.path().join(FILE);
        let good = std::fs::read_to_string(&path).expect("a file");
        for damage in ["", "ringway-incarnation 9 0000000000000000\n", &good[..good.len() - 1]] {
            std::fs::write(&path, damage).expect("written");
            let error = begin_incarnation(folder.path()).expect_err("damaged");
            assert!(matches!(error, ControlError::Incarnation { .. }), "{error}");
        }
    }

    #[test]
    fn a_node_alone_holds_a_lease_at_once_and_loses_it_when_it_is_stopped() {
        let state = ClusterState::default();
        let topology = Topology::build(&state, None).expect("nothing to build");
        let settings = state.lease_settings();
        let shared = SharedLease::new(1, settings.op_pin_max_ms);
        let worker = shared.of_worker(0);
        let pool = PoolName::new("p").expect("a name");
        let mut own = OwnLease::new(settings, Incarnation(5), shared, 1_000);
        own.renew(1_000, 1_000, &topology);
        let held = worker.hold(1_001, &pool, Epoch(1)).expect("a lease");
        assert_eq!(worker.holder(), Some((STANDALONE_NODE, Incarnation(5))));
        assert!(held.check(5_000).is_ok());
        drop(held);
        // Stopped for a minute.
        assert!(worker.hold(61_000, &pool, Epoch(1)).is_err());
        own.renew(61_000, 61_000, &topology);
        assert!(worker.hold(61_000, &pool, Epoch(1)).is_ok());
    }
}
