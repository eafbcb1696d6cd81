//! What is a node's part in its group?
//!
//! [`Group`] is the one door: what the rest of the program knows of Raft. It is concrete and none
//! of its methods names a type of openraft.
//!
//! A node is opened once. It is *unborn* until [`Group::found`] or [`Group::join`] gives it an
//! identity; then its Raft runs, and from the next start on it runs at once. Around Raft run five
//! loops, until [`Group::shutdown`]: who leads is published, the node's incarnation is agreed,
//! members are reconciled (on the leader), whether the node was removed is asked, and the end of
//! all is watched for: a failed disk, or a removal.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, SnapshotPolicy};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::error::OpenError;
use super::identity::{Identity, Member};
use super::leadership::Leadership;
use super::log::LogStore;
use super::log_file::{Loaded, LogFile, Owner};
use super::machine::{self, Agreed, Machine, Newest};
use super::network::Networks;
use super::options::GroupOptions;
use super::propose::PROPOSALS_MAX;
use super::snapshot::Snapshot;
use super::storage::{self, Storage};
use super::types::{Raft, Runtime};
use super::writer::Writer;
use crate::cluster::ClusterState;
use crate::disk::lock::FolderLock;
use crate::ids::{Generation, Incarnation, NodeId, Nonce, Revision};
use crate::net::peer::Introduction;

/// A snapshot is taken after this many entries. The log in memory and the replay at a start are
/// bounded by it.
pub const SNAPSHOT_ENTRIES: u64 = 1000;

/// Entries that stay in the log behind a snapshot, so that a member that was away for a moment
/// gets entries and not the whole state.
const KEPT_ENTRIES: u64 = 500;

/// How long a leader that shuts down waits for another to take over.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(2);

/// How long a shutdown waits for what is being written. A disk that takes longer hangs.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// A node's part in its group; clones are the same one.
#[derive(Clone)]
pub struct Group(Arc<Shared>);

/// What all parts of the room share.
pub(super) struct Shared {
    pub options: GroupOptions,
    /// The runtime that the group lives on, whoever calls.
    pub runtime: Handle,
    pub identity: Mutex<Identity>,
    /// One birth at a time.
    pub birth: tokio::sync::Mutex<()>,
    pub agreed: watch::Sender<Agreed>,
    pub state: watch::Sender<Arc<ClusterState>>,
    pub leadership: watch::Sender<Leadership>,
    pub removed: watch::Sender<bool>,
    /// Told when there is reason to ask whether the node was removed.
    pub doubt: Arc<Notify>,
    /// When a leader was last heard.
    pub heard: Mutex<Option<Instant>>,
    /// The incarnation that proposals are made under.
    pub incarnation: watch::Sender<Option<Incarnation>>,
    pub sequence: Mutex<u64>,
    pub proposals: Semaphore,
    /// Held, on the leader, while a command with tables is planned and agreed.
    pub planning: tokio::sync::Mutex<()>,
    rng: Mutex<fastrand::Rng>,
    running: OnceLock<Running>,
    stop: watch::Sender<bool>,
    loops: Mutex<Vec<JoinHandle<()>>>,
    _lock: FolderLock,
}

/// What there is once a node has an identity.
pub(super) struct Running {
    pub member: Member,
    pub raft: Raft,
    pub writer: Writer,
    newest: Arc<Mutex<Option<Newest>>>,
}

impl Running {
    pub fn newest(&self) -> Option<Newest> {
        lock(&self.newest).clone()
    }
}

impl Group {
    /// Takes the folder and, if the node has an identity, its part in the group.
    ///
    /// # Errors
    /// [`OpenError`], which names the file and what to do.
    pub async fn open(options: GroupOptions) -> Result<Self, OpenError> {
        let folder_lock = FolderLock::take(&options.data_dir)?;
        let mut rng = fastrand::Rng::with_seed(options.seed);
        let identity = match Identity::read(&options.data_dir)? {
            Some(identity) => identity,
            None => Identity { nonce: Nonce(draw(&mut rng)), member: None },
        };
        if identity.member.is_none() && matches!(options.storage, Storage::Files) {
            check_nothing_is_left(&options.data_dir)?;
        }
        let removed = identity.member.is_some_and(|member| member.removed);
        let group = Self(Arc::new(Shared {
            options,
            runtime: Handle::current(),
            identity: Mutex::new(identity),
            birth: tokio::sync::Mutex::new(()),
            agreed: watch::Sender::default(),
            state: watch::Sender::default(),
            leadership: watch::Sender::new(Leadership::None),
            removed: watch::Sender::new(removed),
            doubt: Arc::default(),
            heard: Mutex::default(),
            incarnation: watch::Sender::new(None),
            sequence: Mutex::new(0),
            proposals: Semaphore::new(PROPOSALS_MAX),
            planning: tokio::sync::Mutex::default(),
            rng: Mutex::new(rng),
            running: OnceLock::new(),
            stop: watch::Sender::new(false),
            loops: Mutex::default(),
            _lock: folder_lock,
        }));
        if let Some(member) = identity.member {
            if member.removed {
                tracing::error!(
                    node = %member.node,
                    cluster = %member.cluster,
                    "this node was removed from its cluster and takes no part: to let it join \
                     again as a new node, empty its `data_dir`"
                );
            } else {
                group.resume(member).await?;
            }
        }
        Ok(group)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    /// What is agreed, as far as this node knows.
    #[must_use]
    pub fn state(&self) -> Arc<ClusterState> {
        Arc::clone(&self.0.state.borrow())
    }

    /// Each state that is agreed; between two looks some may have been passed over.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.0.state.subscribe()
    }

    /// Who leads, as far as this node knows. Nothing may be fenced by it: a leader that was cut
    /// off is the last to know.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.subscribe()
    }

    /// Who this node is; `None` while it is unborn.
    #[must_use]
    pub fn member(&self) -> Option<Member> {
        lock(&self.0.identity).member
    }

    /// The incarnation of this start; `None` until it is agreed.
    #[must_use]
    pub fn incarnation(&self) -> watch::Receiver<Option<Incarnation>> {
        self.0.incarnation.subscribe()
    }

    /// Whether the cluster removed this node.
    #[must_use]
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.0.removed.subscribe()
    }

    /// Takes a snapshot now. Tells up to where it reaches.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn snapshot(&self) -> Result<u64, String> {
        let running = self.0.running().ok_or("this node belongs to no cluster yet")?;
        let applied = self.0.agreed.borrow().applied.ok_or("nothing is agreed yet")?;
        running.raft.trigger().snapshot().await.map_err(|error| error.to_string())?;
        let mut metrics = running.raft.metrics();
        let taken = async {
            loop {
                let reached = metrics.borrow_watched().snapshot;
                if reached >= Some(applied) {
                    return reached.map(|reached| reached.index);
                }
                metrics.changed().await.ok()?;
            }
        };
        match timeout(Duration::from_secs(30), taken).await {
            Ok(Some(index)) => Ok(index),
            Ok(None) => Err("the group has stopped".to_owned()),
            Err(_) => Err("the snapshot takes longer than 30 s".to_owned()),
        }
    }

    /// What is agreed, as the bytes of a snapshot; `None` while nothing is.
    #[must_use]
    pub fn backup(&self) -> Option<Bytes> {
        let agreed = self.0.agreed.borrow().clone();
        agreed.state.identity()?;
        Some(machine::take(&agreed, (self.0.options.wall_ms)()).encode())
    }

    /// Ends the node's part: a leader hands over first. The files are closed when this returns,
    /// unless the disk hangs.
    pub async fn shutdown(&self) {
        self.0.stop.send_replace(true);
        let loops = std::mem::take(&mut *lock(&self.0.loops));
        if let Some(running) = self.0.running() {
            self.hand_over_before_leaving(running).await;
            // Whoever grants by it grants no more.
            self.0.leadership.send_replace(Leadership::None);
            let writer = running.writer.clone();
            let closed = async {
                // What it could not end cleanly has ended all the same.
                drop(running.raft.shutdown().await);
                // It waits for its thread, and that for the disk.
                drop(self.0.runtime.spawn_blocking(move || writer.close()).await);
            };
            if timeout(CLOSE_PATIENCE, closed).await.is_err() {
                tracing::error!("the disk does not answer: the log is left as it is");
            }
        }
        for task in loops {
            task.abort();
            drop(task.await);
        }
    }

    async fn hand_over_before_leaving(&self, running: &Running) {
        let Leadership::Leader { .. } = *self.0.leadership.borrow() else { return };
        let next = {
            let metrics = running.raft.metrics();
            let metrics = metrics.borrow_watched();
            let me = metrics.id;
            let matched = metrics.replication.clone().unwrap_or_default();
            let up = self.keeping_up(&metrics);
            let may_lead = |voter: &u64| *voter != me && up.contains(&NodeId(*voter));
            let voters = metrics.membership_config.voter_ids().filter(may_lead);
            voters.max_by_key(|voter| matched.get(voter).copied().flatten())
        };
        let Some(next) = next else { return };
        // The other may be leaving as well; then there is nobody to hand over to.
        if let Err(why) = self.transfer_here(NodeId(next), HAND_OVER_PATIENCE).await {
            tracing::info!(next, %why, "this leader leaves without having handed over");
        }
    }

    /// Starts Raft on the files of a node that has an identity.
    async fn resume(&self, member: Member) -> Result<(), OpenError> {
        let options = &self.0.options;
        let owner = Owner { cluster: member.cluster, node: member.node };
        let path = storage::log_path(&options.data_dir);
        let (log, loaded) = LogFile::open(&path, &options.storage, owner)?;
        let snapshot = Snapshot::read(&storage::snapshot_path(&options.data_dir))?;
        let path = storage::snapshot_path(&options.data_dir);
        check_together(&path, member, &loaded, snapshot.as_ref().map(|(snapshot, _)| snapshot))?;
        self.start(member, log, loaded, snapshot).await
    }

    /// Gives the node an identity and starts Raft on an empty log. The log is made first: an
    /// identity without one is a node that lost its votes.
    pub(super) async fn be_born(&self, member: Member) -> Result<(), OpenError> {
        let options = &self.0.options;
        let owner = Owner { cluster: member.cluster, node: member.node };
        let log = LogFile::create(&storage::log_path(&options.data_dir), &options.storage, owner)?;
        let identity = Identity { member: Some(member), ..*lock(&self.0.identity) };
        identity.write(&options.data_dir)?;
        *lock(&self.0.identity) = identity;
        self.start(member, log, Loaded::default(), None).await
    }

    async fn start(
        &self,
        member: Member,
        log: LogFile,
        loaded: Loaded,
        snapshot: Option<(Snapshot, Bytes)>,
    ) -> Result<(), OpenError> {
        let options = &self.0.options;
        options
            .peers
            .introduce(Introduction { cluster: Some((member.cluster, member.generation)) });
        let reaches = snapshot
            .as_ref()
            .and_then(|(snapshot, _)| snapshot.meta.last_log_id)
            .map(|id| id.index);
        let snapshot_path = storage::snapshot_path(&options.data_dir);
        let writer = Writer::new(log, snapshot_path, reaches, &options.storage)
            .map_err(|error| OpenError::Raft(format!("its thread cannot start: {error}")))?;
        let told_before = loaded.committed.map(|committed| committed.index).max(reaches);
        let machine = Machine::new(
            snapshot,
            told_before,
            machine::Published { agreed: self.0.agreed.clone(), state: self.0.state.clone() },
            writer.clone(),
            options.wall_ms,
        );
        let newest = machine.newest();
        let networks = Networks::new(
            &*options.peers,
            member.node,
            self.0.agreed.subscribe(),
            Arc::clone(&self.0.doubt),
            options.timing,
        );
        let store = LogStore::new(loaded, writer.clone());
        let config = Arc::new(self.config()?);
        let seed = lock(&self.0.rng).u64(..);
        // Raft's own tasks draw from this seed and from nothing else.
        let raft = Raft::new(member.node.0, config, networks, store, machine);
        let raft = Runtime::scope(seed, raft).await.map_err(|error| {
            writer.close();
            OpenError::Raft(error.to_string())
        })?;
        let running = Running { member, raft, writer, newest };
        assert!(self.0.running.set(running).is_ok(), "a node is born once");
        self.spawn_loop(|group| async move { group.follow_leadership().await });
        self.spawn_loop(|group| async move { group.begin_incarnations().await });
        self.spawn_loop(|group| async move { group.reconcile_members().await });
        self.spawn_loop(|group| async move { group.look_for_removal().await });
        self.spawn_loop(|group| async move { group.watch_for_the_end().await });
        Ok(())
    }

    fn config(&self) -> Result<Config, OpenError> {
        let timing = self.0.options.timing;
        timing.check().map_err(OpenError::Timing)?;
        let config = Config {
            cluster_name: "ringway".to_owned(),
            heartbeat_interval: timing.heartbeat_ms,
            // openraft counts its random time only from the end of the leader's own lease on its
            // followers, which lasts the longest such time. So each is half of what is meant, and
            // both together end between the two bounds.
            election_timeout_min: timing.drawn_least_ms(),
            election_timeout_max: timing.drawn_most_ms(),
            enable_pre_vote: Some(true),
            // A leader that restarts stands for election like any other node: its state may be
            // behind what it had told.
            enable_leader_restore: Some(false),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
            max_in_snapshot_log_to_keep: KEPT_ENTRIES,
            ..Config::default()
        };
        config.validate().map_err(|error| OpenError::Timing(error.to_string()))
    }

    fn spawn_loop<F>(&self, task: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut stop = self.0.stop.subscribe();
        let task = task(self.clone());
        let handle = self.0.runtime.spawn(async move {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => {}
                () = task => {}
            }
        });
        lock(&self.0.loops).push(handle);
    }

    /// Stops Raft when its disk has failed or the cluster has removed the node.
    async fn watch_for_the_end(&self) {
        let running = self.0.running().expect("Raft runs before its loops do");
        let mut failed = running.writer.failed();
        let mut removed = self.0.removed.subscribe();
        tokio::select! {
            biased;
            _ = failed.wait_for(Option::is_some) => {}
            _ = removed.wait_for(|removed| *removed) => self.note_removal(),
        }
        self.0.leadership.send_replace(Leadership::None);
        drop(running.raft.shutdown().await);
    }

    fn note_removal(&self) {
        let mut identity = lock(&self.0.identity);
        let Some(member) = &mut identity.member else { return };
        member.removed = true;
        let (node, cluster) = (member.node, member.cluster);
        tracing::error!(
            %node, %cluster,
            "this node was removed from its cluster and takes no part any more"
        );
        if let Err(error) = identity.write(&self.0.options.data_dir) {
            // It is told again at the next start, by whichever member it asks.
            tracing::warn!(%error, "the removal could not be written down");
        }
    }
}

impl Shared {
    pub fn running(&self) -> Option<&Running> {
        self.running.get()
    }

    /// A number below `end`, drawn from the seed.
    pub fn draw_below(&self, end: u64) -> u64 {
        lock(&self.rng).u64(..end)
    }

    pub fn draw_bytes(&self) -> [u8; 16] {
        draw(&mut lock(&self.rng))
    }

    /// Waits until this node has applied everything up to `index`. False if it has not in time, or
    /// was removed and never will.
    pub async fn applied(&self, index: u64, deadline: Instant) -> bool {
        let (mut agreed, mut removed) = (self.agreed.subscribe(), self.removed.subscribe());
        let reached = |agreed: &Agreed| agreed.applied.is_some_and(|id| id.index >= index);
        tokio::select! {
            biased;
            reached = agreed.wait_for(reached) => reached.is_ok(),
            _ = removed.wait_for(|removed| *removed) => false,
            () = tokio::time::sleep_until(deadline) => false,
        }
    }
}

/// Refuses to begin anew beside what a member has agreed by: its identity was lost, and to found or
/// join with the id of another would leave all that behind in silence.
fn check_nothing_is_left(data_dir: &Path) -> Result<(), OpenError> {
    LogFile::check_unused(&storage::log_path(data_dir))?;
    let path = storage::snapshot_path(data_dir);
    if let Some((snapshot, _)) = Snapshot::read(&path)? {
        let cluster = snapshot.state.identity().map(|identity| identity.id.to_string());
        return Err(OpenError::Torn(format!(
            "{}: here is a snapshot of cluster {}, and the file `identity` beside its folder is \
             missing: bring it back from a copy of this very node, or, if the rest of the cluster \
             has a majority, remove this node there (`ringway cluster remove-node`), empty its \
             `data_dir` and let it join anew",
            path.display(),
            cluster.as_deref().unwrap_or("unknown"),
        )));
    }
    Ok(())
}

/// Refuses files that do not belong together: each is whole by itself.
pub(super) fn check_together(
    path: &Path,
    member: Member,
    loaded: &Loaded,
    snapshot: Option<&Snapshot>,
) -> Result<(), OpenError> {
    let path = path.display();
    let reaches = snapshot.and_then(|snapshot| snapshot.meta.last_log_id);
    if loaded.purged > reaches {
        return Err(OpenError::Torn(format!(
            "{path}: the log begins behind the snapshot, which is missing or too old: bring the \
             whole folder back from a copy of this very node, or, if the rest of the cluster has a \
             majority, remove this node there (`ringway cluster remove-node`), empty its `data_dir` \
             and let it join anew"
        )));
    }
    let Some(found) = snapshot.and_then(|snapshot| snapshot.state.identity()) else {
        return Ok(());
    };
    if (found.id, found.generation) != (member.cluster, member.generation) {
        return Err(OpenError::Torn(format!(
            "{path}: this is a snapshot of cluster {}, generation {}, and `identity` says cluster \
             {}, generation {}: one of the files was copied from elsewhere; bring back the one \
             that belongs here. If `ringway cluster recover` was interrupted, run it again",
            found.id, found.generation, member.cluster, member.generation
        )));
    }
    Ok(())
}

fn draw(rng: &mut fastrand::Rng) -> [u8; 16] {
    rng.u128(..).to_be_bytes()
}

/// The first generation of every cluster.
pub(super) const FIRST_GENERATION: Generation = Generation(1);

/// The revision of a place in the log.
pub(super) fn revision(index: u64) -> Revision {
    Revision(index)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
