//! How long may the line between two nodes be?

use std::future::pending;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redb::backends::InMemoryBackend;
use turmoil::Sim;
use turmoil::net::TcpListener;

use super::super::{Backend, Group, GroupOptions, GroupStatus, Storage, Timing};
use super::nodes::create;
use crate::cluster::{Role, Settings};
use crate::ids::{NodeName, PeerAddress};
use crate::net::peer::simulated::{SimulatedDial, SimulatedPeers};
use crate::net::peer::{Introduction, PeerAnswer, PeerClient, PeerHandler, PeerRequest, serve};

/// Far more than three nodes need to find each other over the longest line here.
const BIRTH_MAX: Duration = Duration::from_secs(120);

/// How long they then keep one leader.
const KEPT: Duration = Duration::from_secs(30);

type Groups = Arc<Mutex<Vec<Group>>>;

struct Handler(Group);

impl PeerHandler for Handler {
    fn admit(&self, path: &str, introduction: &Introduction) -> Result<usize, PeerAnswer> {
        self.0.admission(path, introduction)
    }

    async fn answer(self: Arc<Self>, request: PeerRequest) -> PeerAnswer {
        self.0.handle(request).await
    }
}

fn address(node: u64) -> PeerAddress {
    PeerAddress::parse(&format!("n{node}:7000")).expect("an address")
}

async fn live(node: u64, folder: &Path, timing: Timing, groups: Groups) -> turmoil::Result {
    let options = GroupOptions {
        data_dir: folder.to_owned(),
        name: NodeName::new(&format!("n{node}")).expect("a name"),
        address: address(node),
        timing,
        peers: Arc::new(PeerClient::new(SimulatedDial, None)),
        seed: node,
        wall_ms: || 1_000,
        storage: Storage::Injected(Arc::new(|| Ok(Backend::new(InMemoryBackend::new())))),
    };
    let group = Group::open(options).await?;
    let listener = TcpListener::bind("0.0.0.0:7000").await?;
    let handler = Arc::new(Handler(group.clone()));
    tokio::spawn(serve(SimulatedPeers(listener), None, handler, pending()));
    groups.lock().expect("no host panics").push(group.clone());
    if node == 1 {
        group.found("test", Settings::default(), vec![create("p")]).await?;
    } else {
        while let Err(error) = group.join(&[address(1)], Role::Voter).await {
            println!("n{node}: {error}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    pending().await
}

fn seen(groups: &Groups) -> Vec<GroupStatus> {
    groups.lock().expect("no host panics").iter().map(Group::status).collect()
}

/// Three voters over a line this long: one leader, that knows of its majority all the time.
fn keeps_one_leader(one_way: Duration, timing: Timing) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sim: Sim<'_> = turmoil::Builder::new()
        .rng_seed(1)
        .simulation_duration(BIRTH_MAX + KEPT * 2)
        .tick_duration(Duration::from_millis(5))
        .min_message_latency(one_way)
        .max_message_latency(one_way)
        .build();
    let groups = Groups::default();
    for node in 1..=3 {
        let (folder, groups) = (folder.path().join(format!("n{node}")), Arc::clone(&groups));
        std::fs::create_dir_all(folder.join("raft")).expect("a folder");
        sim.host(format!("n{node}"), move || {
            let (folder, groups) = (folder.clone(), Arc::clone(&groups));
            async move { live(node, &folder, timing, groups).await }
        });
    }
    let is_whole = |status: &GroupStatus| {
        status.voters.len() == 3 && !status.joint && status.incarnation.is_some()
    };
    while !(seen(&groups).len() == 3 && seen(&groups).iter().all(is_whole)) {
        assert!(sim.elapsed() < BIRTH_MAX, "not whole in time: {:#?}", seen(&groups));
        sim.step().expect("no host ends");
    }
    let settled = sim.elapsed() + timing.election_most() * 4;
    while sim.elapsed() < settled {
        sim.step().expect("no host ends");
    }
    let (term, end) = (seen(&groups)[0].term, sim.elapsed() + KEPT);
    while sim.elapsed() < end {
        sim.step().expect("no host ends");
        for status in seen(&groups) {
            assert!(status.leader.is_some() && status.term == term, "{status:#?}");
        }
    }
}

/// Each heartbeat needed a connection that took longer to open than it waited.
#[test]
fn a_hundred_milliseconds_there_and_back_are_nothing_special() {
    keeps_one_leader(Duration::from_millis(50), Timing::default());
}

#[test]
fn a_long_line_needs_slow_heartbeats_and_no_more() {
    let timing = Timing { heartbeat_ms: 600, election_ms: (2_400, 4_800) };
    keeps_one_leader(Duration::from_millis(200), timing);
}
