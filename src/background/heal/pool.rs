//! What do the loops know of a pool?

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::PoolTopology;
use crate::control::wishes::Wishes;
use crate::disk::hints::HintSink;
use crate::drivers::http::Address;
use crate::drivers::native::{Replica, Times};
use crate::ids::{BaseUrl, ClusterId, Generation, PoolName, ShardId, Token};
use crate::limits::KeptSettings;
use crate::net::tls::ShardTls;
use crate::net::upstream::{Endpoint, Keep, UpstreamKey};
use crate::protocol::replica::PoolEpoch;

/// A pool that keeps data, as it is served now.
#[derive(Clone)]
pub struct KeptPool {
    /// What is agreed about it.
    pub agreed: Arc<PoolTopology>,
    /// What this node does for it.
    pub settings: KeptSettings,
    /// How its shards are known, if they are reached by `https`.
    pub tls: Arc<ShardTls>,
    /// How long a connection to a shard may take.
    pub connect: Duration,
    /// Whether this node may serve it now: what it knows of it is what is agreed.
    pub has_lease: bool,
}

/// All such pools.
pub struct Served {
    /// As whom stores are spoken to.
    pub cluster: ClusterId,
    /// Its generation.
    pub generation: Generation,
    /// Whether this node is all the nodes that there are.
    pub alone: bool,
    /// Whether what is served is what is agreed, up to a moment ago: what is not there is no more.
    pub is_current: bool,
    /// This node's place among those of the cluster, and how many they are.
    pub place: (usize, usize),
    /// The pools.
    pub pools: Vec<KeptPool>,
}

/// What a [`Healer`](super::Healer) is made of.
pub struct HealParts {
    /// Says what is served now.
    pub served: Box<dyn Fn() -> Served + Send>,
    /// Where it is brought what must be agreed.
    pub wishes: Wishes,
    /// What replicas have missed, as far as this node knows.
    pub hints: HintSink,
    /// The node's folder.
    pub folder: PathBuf,
    /// The wall clock.
    pub unix_ms: fn() -> u64,
    /// Where the process's clock begins.
    pub origin: Instant,
    /// Makes this node's jitter its own.
    pub seed: u64,
}

/// Where one shard is; stays as long as it is there.
pub(super) struct Seat {
    pub(super) shard: ShardId,
    pub(super) url: BaseUrl,
    pub(super) address: Address,
    pub(super) endpoint: Endpoint,
    pub(super) key: UpstreamKey,
}

/// Connections that one shard is left with between two requests.
pub(super) const KEEP: Keep = Keep { idle_max: 4, idle_ms_max: 30_000, age_ms_max: 600_000 };

/// How long a store may be silent. A commit waits for its disk.
const ANSWER: Duration = Duration::from_secs(10);

/// A pool at one moment, with what is needed to speak to its stores. A loop takes it, does one
/// piece of work, and takes it anew.
pub(super) struct PoolNow {
    pub(super) agreed: Arc<PoolTopology>,
    pub(super) settings: KeptSettings,
    pub(super) seats: Vec<Rc<Seat>>,
    pub(super) cluster: ClusterId,
    pub(super) generation: Generation,
    pub(super) alone: bool,
    pub(super) place: (usize, usize),
    pub(super) has_lease: bool,
    tls: Arc<ShardTls>,
    connect: Duration,
}

impl PoolNow {
    pub(super) fn new(pool: KeptPool, served: &Served, seats: Vec<Rc<Seat>>) -> Self {
        let KeptPool { agreed, settings, tls, connect, has_lease } = pool;
        let Served { cluster, generation, alone, place, .. } = *served;
        Self { agreed, settings, seats, cluster, generation, alone, place, has_lease, tls, connect }
    }

    pub(super) fn name(&self) -> &PoolName {
        &self.agreed.name
    }

    /// The shard with this id.
    pub(super) fn shard(&self, id: &ShardId) -> Option<usize> {
        self.agreed.shards.iter().position(|shard| shard.id == *id)
    }

    /// The shards that hold a token.
    pub(super) fn replicas(&self, token: Token) -> Vec<usize> {
        self.agreed.replicas(token).iter().map(|shard| usize::from(shard.0)).collect()
    }

    /// The store that a shard is bound to; `None` while it is bound to none.
    pub(super) fn replica(&self, shard: usize) -> Option<Replica<'_>> {
        self.agreed.shards[shard].store?;
        Some(self.anybody(shard))
    }

    /// Whoever answers at a shard's address, if it is the store that it is bound to, or if it is
    /// bound to none.
    pub(super) fn anybody(&self, shard: usize) -> Replica<'_> {
        let seat = &self.seats[shard];
        Replica {
            address: &seat.address,
            endpoint: &seat.endpoint,
            tls: &self.tls,
            key: seat.key,
            connections: 0,
            keep: &KEEP,
            times: Times { connect: self.connect, answer: ANSWER, idle: ANSWER },
            pool: &self.agreed.name,
            cluster: self.cluster,
            birth: self.agreed.born,
            epoch: PoolEpoch { generation: self.generation, epoch: self.agreed.epoch },
            store: self.agreed.shards[shard].store,
        }
    }
}
