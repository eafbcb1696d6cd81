//! Three proxies in one cluster before three native stores, each a process.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::group::{AGREEMENT_MAX, Cluster, POOL, Setup};
use crate::links::{Links, Sources};
use crate::support::http::{Answer, Client};
use crate::support::ringway::Store;
use crate::support::wait::until_within;

/// Slots of a pool: see `protocol::replica`.
const SLOTS: usize = 1 << 16;

/// From the end of all faults until the replicas are the same, with nobody asking for it.
pub const HEALED_MAX: Duration = Duration::from_secs(60);

/// The cluster and its stores.
pub struct World {
    /// The proxies.
    pub cluster: Cluster,
    /// The stores; behind a lock, since one is started again while others are asked.
    pub stores: Vec<Mutex<Store>>,
    /// Has what nodes are started with again.
    _setup: Setup,
}

impl World {
    /// Starts everything and waits until a write goes through. Nodes meet through wires, if there
    /// are `sources` for them.
    #[track_caller]
    pub fn start(sources: Option<Sources>) -> Self {
        Self::start_by(sources, |_| None)
    }

    /// The same, with wires from each node to each store, too.
    #[track_caller]
    pub fn wired(sources: Sources) -> Self {
        Self::start_by(Some(sources), |stores| Some(Links::new(stores, 3)))
    }

    #[track_caller]
    fn start_by(
        sources: Option<Sources>,
        wires: impl FnOnce(&[SocketAddr]) -> Option<Links>,
    ) -> Self {
        let stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
        let mut addresses: Vec<SocketAddr> = stores.iter().map(|store| store.address).collect();
        let views = wires(&addresses);
        if let Some(views) = &views {
            addresses.clone_from(&views.addresses);
        }
        let setup = Setup { wired: sources, shards: 0, ..Setup::default() };
        let mut cluster = Cluster::prepare(&setup, |_, _, rest| {
            rest.shards.clone_from(&addresses);
            rest.weight = 1;
            rest.probe = "/_ringway/health/write";
            rest.replicas = Some(3);
        });
        cluster.views = views;
        let world = Self {
            cluster: cluster.founded(),
            stores: stores.into_iter().map(Mutex::new).collect(),
            _setup: setup,
        };
        for at in world.cluster.running() {
            // By all stores: each node finds out by itself who is there.
            until_within("a node takes writes", AGREEMENT_MAX, || {
                let level = "Ringway-Consistency: all\r\n";
                let answer = world.ask(at, "PUT", &format!("/ready/{at}"), level, b"ready");
                matches!(answer?.status, 200 | 201 | 204).then_some(())
            });
        }
        world
    }

    /// One request to a node on a connection of its own; `None` if it gives no whole answer.
    pub fn ask(
        &self,
        at: usize,
        method: &str,
        path: &str,
        fields: &str,
        body: &[u8],
    ) -> Option<Answer> {
        let address = self.cluster.members[at].data;
        let mut client = Client::try_connect_within(address, Duration::from_secs(10)).ok()?;
        client.ask(method, path, fields, body).ok()
    }

    /// The sums of all slots that a store keeps, as it tells them.
    fn sums(&self, at: usize) -> Option<Vec<u8>> {
        let view = self.cluster.view(self.cluster.running()[0])?;
        let (cluster, generation) = (view.cluster_id()?, view.generation());
        let epoch = view.serves().get(POOL)?.0;
        let store = self.stores[at].lock().unwrap_or_else(PoisonError::into_inner).address;
        let mut client = Client::try_connect_within(store, Duration::from_secs(10)).ok()?;
        let health = client.ask("GET", "/_ringway/health", "", b"").ok()?;
        let id = health.field("Ringway-Store")?.to_owned();
        let fields = format!(
            "Ringway-Cluster: {cluster}\r\nRingway-Epoch: {generation}.{epoch}\r\nRingway-Store: {id}\r\n"
        );
        // Which pool of the name it keeps, it says itself.
        let page =
            client.ask("GET", &format!("/_ringway/replica/{POOL}/state"), &fields, b"").ok()?;
        let state: serde_json::Value = serde_json::from_slice(&page.body).ok()?;
        let birth = state["pool"]["birth"].as_str()?;
        let fields = format!("{fields}Ringway-Birth: {birth}\r\n");
        let path = format!("/_ringway/replica/{POOL}/digests?from=0&count={SLOTS}&fold=1");
        let answer = client.ask("GET", &path, &fields, b"").ok()?;
        assert_eq!(answer.status, 200, "{answer:?}");
        Some(answer.body)
    }

    /// Waits until all stores hold the same, and returns how long that took.
    #[track_caller]
    pub fn until_replicas_are_the_same(&self) -> Duration {
        let begun = std::time::Instant::now();
        until_within("the replicas are the same", HEALED_MAX, || {
            let sums: Option<Vec<_>> = (0..self.stores.len()).map(|at| self.sums(at)).collect();
            let sums = sums?;
            assert!(!sums[0].is_empty(), "a store tells of its slots");
            sums.iter().all(|sum| *sum == sums[0]).then_some(())
        });
        begun.elapsed()
    }
}
