//! Nodes in one process, and what is between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::super::{Call, Calling, Group, GroupOptions, OpenError, Storage, Timing, Unanswered};
use crate::cluster::{Command, Kind, Mode, Placement, PoolSpec, Role, Settings};
use crate::ids::{NodeId, NodeName, PeerAddress, PoolName};
use crate::net::peer::{Introduction, PeerRequest};

/// Far more than anything takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(40);

/// No two nodes may draw the same.
static SEEDS: AtomicU64 = AtomicU64::new(1);

#[derive(Default)]
struct World {
    groups: BTreeMap<PeerAddress, Group>,
    /// Nothing reaches these, and nothing comes from them.
    cut_off: BTreeSet<PeerAddress>,
    /// Of messages to this path every second answer is lost.
    losing: Option<&'static str>,
    /// No message to this path arrives.
    swallowing: Option<&'static str>,
    asked: u64,
    /// What each node has sent, by path, whether it came through or not.
    sent: BTreeMap<(PeerAddress, &'static str), u64>,
}

/// What is between the nodes.
#[derive(Clone, Default)]
pub struct Wires(Arc<Mutex<World>>);

/// One node's end of it.
#[derive(Clone)]
struct End {
    wires: Wires,
    own: PeerAddress,
    introduction: Arc<Mutex<Introduction>>,
}

impl Wires {
    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while it holds this")
    }

    pub fn cut_off(&self, node: usize) {
        self.world().cut_off.insert(address(node));
    }

    pub fn heal(&self) {
        self.world().cut_off.clear();
    }

    pub fn lose_answers(&self, path: Option<&'static str>) {
        self.world().losing = path;
    }

    pub fn swallow(&self, path: &'static str) {
        self.world().swallowing = Some(path);
    }

    /// How many messages to `path` a node has sent.
    pub fn sent(&self, node: usize, path: &'static str) -> u64 {
        self.world().sent.get(&(address(node), path)).copied().unwrap_or(0)
    }

    pub fn unplug(&self, node: usize) {
        self.world().groups.remove(&address(node));
    }
}

impl Call for End {
    fn call<'a>(
        &'a self,
        to: &'a PeerAddress,
        path: &'static str,
        body: Bytes,
        _: Duration,
    ) -> Calling<'a> {
        Box::pin(async move {
            let fail = |unsent| Unanswered { why: format!("{to} is cut off"), unsent };
            let (group, loses) = {
                let mut world = self.wires.world();
                *world.sent.entry((self.own.clone(), path)).or_default() += 1;
                let swallowed = world.swallowing == Some(path);
                if swallowed || world.cut_off.contains(to) || world.cut_off.contains(&self.own) {
                    return Err(fail(true));
                }
                let loses = world.losing == Some(path);
                world.asked += u64::from(loses);
                let loses = loses && world.asked % 2 == 1;
                (world.groups.get(to).cloned().ok_or_else(|| fail(true))?, loses)
            };
            let request = PeerRequest {
                path: path.to_owned(),
                body,
                introduction: *self.introduction.lock().expect("held for a moment"),
                certificate: None,
                from: ([127, 0, 0, 1], 1).into(),
            };
            let answer = group.handle(request).await;
            let cut = self.wires.world().cut_off.contains(&self.own);
            if cut || loses { Err(fail(false)) } else { Ok(answer) }
        })
    }

    fn lane(&self) -> Arc<dyn Call> {
        Arc::new(self.clone())
    }

    fn introduce(&self, introduction: Introduction) {
        *self.introduction.lock().expect("held for a moment") = introduction;
    }
}

pub fn address(node: usize) -> PeerAddress {
    format!("n{node}.example:1").parse().expect("an address")
}

/// Opens node `node` on a folder and plugs it in.
pub async fn open(
    wires: &Wires,
    node: usize,
    folder: &Path,
    storage: Storage,
) -> Result<Group, OpenError> {
    let end = End { wires: wires.clone(), own: address(node), introduction: Arc::default() };
    let options = GroupOptions {
        data_dir: folder.to_owned(),
        name: NodeName::new(&format!("n{node}")).expect("a name"),
        address: address(node),
        timing: Timing { heartbeat_ms: 60, election_ms: (300, 600) },
        peers: Arc::new(end),
        seed: SEEDS.fetch_add(1, Ordering::Relaxed),
        wall_ms: || 1_000,
        storage,
    };
    let group = Group::open(options).await?;
    wires.world().groups.insert(address(node), group.clone());
    Ok(group)
}

/// Three nodes that vote, each on a folder of its own.
pub struct Three {
    pub wires: Wires,
    pub groups: Vec<Group>,
    pub folders: Vec<tempfile::TempDir>,
}

impl Three {
    pub async fn found() -> Self {
        let wires = Wires::default();
        let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a folder")).collect();
        let mut groups = Vec::new();
        for (index, folder) in folders.iter().enumerate() {
            let group = open(&wires, index + 1, folder.path(), Storage::Files).await;
            groups.push(group.expect("opened"));
        }
        groups[0].found("admin@n1", Settings::default(), vec![create("p")]).await.expect("founded");
        for group in &groups[1..] {
            group.join(&[address(1)], Role::Voter).await.expect("joined");
        }
        let three = Self { wires, groups, folders };
        for group in &three.groups {
            until("three voters", || {
                let status = group.status();
                status.voters.len() == 3 && !status.joint && status.incarnation.is_some()
            })
            .await;
        }
        three
    }

    /// The one that leads, and all see it.
    pub async fn leader(&self) -> usize {
        let leads = |group: &Group| group.status().leader;
        until("one leader for all", || {
            let first = leads(&self.groups[0]);
            first.is_some() && self.groups.iter().all(|group| leads(group) == first)
        })
        .await;
        let NodeId(leader) = leads(&self.groups[0]).expect("just seen");
        usize::try_from(leader).expect("a small number") - 1
    }

    pub async fn restart(&mut self, index: usize) {
        self.stop(index).await;
        let folder = self.folders[index].path();
        self.groups[index] =
            open(&self.wires, index + 1, folder, Storage::Files).await.expect("opened again");
    }

    /// Stops a node and lets go of its folder.
    pub async fn stop(&mut self, index: usize) {
        let folder = self.folders[index].path();
        self.wires.unplug(index + 1);
        self.groups[index].shutdown().await;
        // Its last clones go with the tasks that held them; the folder's lock goes with those.
        let spare = tempfile::tempdir().expect("a folder");
        let nobody = open(&Wires::default(), 9, spare.path(), Storage::Files).await;
        self.groups[index] = nobody.expect("an unborn node");
        until("the folder is free", || crate::disk::lock::FolderLock::take(folder).is_ok()).await;
    }

    pub async fn shutdown(&self) {
        for group in &self.groups {
            group.shutdown().await;
        }
    }
}

/// Waits until something holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain: {what}");
}

/// Waits until several nodes show the same.
pub async fn until_same<T: PartialEq + Debug>(groups: &[Group], show: impl Fn(&Group) -> T) {
    until("all show the same", || groups.windows(2).all(|pair| show(&pair[0]) == show(&pair[1])))
        .await;
}

pub fn create(pool: &str) -> Command {
    let spec = PoolSpec {
        kind: Kind::Cache,
        placement: Placement::Ring,
        hash_seed: pool.to_owned(),
        vnodes: 4,
        immutable: false,
        mode: Mode::Any,
        kept: None,
    };
    let shard = crate::cluster::ShardSpec {
        url: crate::ids::BaseUrl::parse("http://s.example").expect("a URL"),
        zone: crate::ids::Zone::default(),
        weight: crate::ids::Weight::ONE,
        state: crate::cluster::AdminState::Ready,
        ketama_name: None,
    };
    let shards = vec![(crate::ids::ShardId::new("s1").expect("a name"), shard)];
    Command::CreatePool { pool: PoolName::new(pool).expect("a name"), spec, shards }
}
