//! How does a node take part in a cluster while it runs?
//!
//! ```text
//!  peers ─▶ group (Raft) ─▶ agreed state ─▶ publisher ─▶ what requests read
//!   └─────▶ steward ◀── facts ───────────────────┘
//! ```
//!
//! Everything here runs on the control runtime. A node that belongs to no cluster yet serves all
//! the same: it answers its clients that nothing is agreed, and its operators how to change that.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::proto::MetricFamily;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::error::AppError;
use super::publisher::Publisher;
use super::store::unix_ms;
use super::wishes::propose;
use crate::admin::control::{Member, Seed};
use crate::background::heal::{Orders, StoreSeen};
use crate::cluster::lease::{RingReport, SharedLease};
use crate::cluster::{Change, Command, FEATURE_LEVEL, Settings, ShardTopology, Topology};
use crate::config::{ClusterConfig, Config};
use crate::control::clock::boottime_ms;
use crate::control::group::{Group, GroupOptions, JoinError, Storage, Timing};
use crate::control::metrics;
use crate::control::steward::{Facts, PoolView, Steward, StewardParts};
use crate::control::wishes::Asked;
use crate::ids::{NodeName, PeerAddress};
use crate::metrics::{self as series, Kind, Sample};
use crate::net::peer::{
    Introduction, PeerAnswer, PeerClient, PeerHandler, PeerRequest, TcpDial, TcpPeers, serve,
};
use crate::net::tls::{PeerTls, TlsFiles};

/// Who founds the clusters of `ringway dev`.
const ACTOR: &str = "dev";

/// Between two rounds of asking to be taken in.
const JOIN_PAUSE: Duration = Duration::from_secs(1);

/// Before what could not be published is tried again.
const PUBLISH_PAUSE: Duration = Duration::from_secs(1);

/// How often it is said that nobody takes this node in.
const JOIN_REPORT: Duration = Duration::from_secs(30);

/// How often it is looked whether the group is heard, for pools that only the group may move.
const HEARD_INTERVAL: Duration = Duration::from_millis(250);

/// How often the end of the certificate is thought of.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// A node's part in its cluster, with its state at hand and nothing running yet but Raft.
pub struct Opened {
    group: Group,
    peers: PeerClient,
    tls: Option<Arc<PeerTls>>,
    join: Vec<PeerAddress>,
    config: ClusterConfig,
}

/// A node's part in its cluster.
pub struct Membership {
    group: Group,
    steward: Steward,
    tls: Option<Arc<PeerTls>>,
    stop: watch::Sender<bool>,
    server: Option<tokio::task::JoinHandle<()>>,
    tasks: JoinSet<()>,
    /// Why this node is not fit to serve, if it is not.
    unfit: watch::Receiver<Option<String>>,
}

/// A task whose end, unless it was asked for, takes the node out of the balancer: a node whose
/// loops have ended would go on by what it knew last.
struct Vital {
    what: &'static str,
    unfit: watch::Sender<Option<String>>,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(what = self.what, "a part of this node panicked; restart it");
            let why = format!("{} has ended by a defect: restart this node", self.what);
            self.unfit.send_replace(Some(why));
        }
    }
}

impl Vital {
    async fn run(
        what: &'static str,
        unfit: watch::Sender<Option<String>>,
        task: impl Future<Output = ()>,
    ) {
        let _vital = Self { what, unfit };
        task.await;
    }
}

impl Opened {
    /// Takes the folder and, if the node belongs to a cluster, its part in the group. `listens` is
    /// where its peers reach it unless the file says otherwise.
    ///
    /// # Errors
    /// When certificates or files of the folder cannot be used; each error names the cure.
    pub async fn open(
        config: &Config,
        cluster: &ClusterConfig,
        name: NodeName,
        listens: SocketAddr,
    ) -> Result<Self, AppError> {
        let files = cluster.tls.as_ref().map(|tls| TlsFiles {
            certificate: tls.cert.clone(),
            key: tls.key.clone(),
            authority: tls.ca.clone(),
        });
        let tls = files.map(PeerTls::load).transpose()?.map(Arc::new);
        let address = cluster.advertise.clone().map_or_else(
            || {
                PeerAddress::parse(&listens.to_string())
                    .map_err(|e| AppError::Refused(e.to_string()))
            },
            Ok,
        )?;
        let peers = PeerClient::new(TcpDial, tls.as_ref().map(|tls| tls.client()));
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let election = cluster.election;
        #[allow(clippy::disallowed_methods, reason = "seeds are drawn here, and handed down")]
        let seed = fastrand::u64(..);
        let group = Group::open(GroupOptions {
            data_dir: config.node.data_dir.clone(),
            name,
            address: address.clone(),
            timing: Timing {
                heartbeat_ms: millis(cluster.heartbeat),
                election_ms: (millis(election.min), millis(election.max)),
            },
            peers: Arc::new(peers.clone()),
            seed,
            wall_ms: unix_ms,
            storage: Storage::Files,
        })
        .await?;
        let join = cluster.join.iter().filter(|other| **other != address).cloned().collect();
        Ok(Self { group, peers, tls, join, config: cluster.clone() })
    }

    /// What is agreed, as far as this node knows at its start.
    ///
    /// # Errors
    /// When no ring can be made of it, which applied commands exclude.
    pub fn topology(&self) -> Result<Arc<Topology>, AppError> {
        let topology = Topology::build(&self.group.state(), None);
        topology.map(Arc::new).map_err(|error| AppError::Refused(error.to_string()))
    }

    /// Begins to take part: peers are answered, what is agreed is published, the lease is renewed.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn run(
        self,
        socket: StdListener,
        publisher: &Arc<Publisher>,
        control: &Handle,
        lease: Arc<SharedLease>,
        asked: mpsc::Receiver<Asked>,
        heal: Arc<OnceLock<Orders>>,
    ) -> Result<Membership, AppError> {
        let _runtime = control.enter();
        let listener = TcpListener::from_std(socket).map_err(AppError::system("cannot listen"))?;
        let steward = Steward::new(StewardParts {
            group: self.group.clone(),
            peers: Arc::new(self.peers.lane()),
            facts: {
                let (publisher, lease) = (Arc::clone(publisher), Arc::clone(&lease));
                Box::new(move || facts(&publisher, &lease, heal.get()))
            },
            lease,
            published: publisher.revision(),
            topology: {
                let publisher = Arc::clone(publisher);
                Box::new(move || publisher.topology())
            },
            wall_ms: unix_ms,
        });
        let (stop, mut stopped) = watch::channel(false);
        let handler = Arc::new(Peers { group: self.group.clone(), steward: steward.clone() });
        let server_tls = self.tls.as_ref().map(|tls| tls.server());
        let server = control.spawn(serve(TcpPeers(listener), server_tls, handler, async move {
            // A sender that is gone says the same as one that spoke.
            drop(stopped.wait_for(|stopped| *stopped).await);
        }));
        let mut tasks = JoinSet::new();
        let (unfit, seen_unfit) = watch::channel(None);
        let mut vital = |what, task: Pin<Box<dyn Future<Output = ()> + Send>>| {
            tasks.spawn_on(Vital::run(what, unfit.clone(), task), control);
        };
        vital("publishing", Box::pin(publish(self.group.clone(), Arc::clone(publisher))));
        let proposing = propose(self.group.clone(), publisher.name().to_string(), asked);
        vital("the proposals", Box::pin(proposing));
        vital("the steward", Box::pin(steward.clone().run()));
        let heard = tell_whether_heard(steward.clone(), Arc::clone(publisher));
        vital("the watch over the lease", Box::pin(heard));
        vital("the watch over removal", Box::pin(watch_removal(self.group.clone(), unfit.clone())));
        if let Some(tls) = &self.tls {
            vital("the watch over certificates", Box::pin(watch_certificate(Arc::clone(tls))));
        }
        let resuming = resume_founding(self.group.clone(), Arc::clone(publisher));
        tasks.spawn_on(resuming, control);
        match (self.group.member(), self.join.is_empty()) {
            (Some(_), _) => {}
            (None, false) => {
                let joining = be_taken_in(self.group.clone(), self.join, self.config);
                tasks.spawn_on(joining, control);
            }
            // Whoever started the node founds a cluster with it, or says what is missing.
            (None, true) => {}
        }
        Ok(Membership {
            group: self.group,
            steward,
            tls: self.tls,
            stop,
            server: Some(server),
            tasks,
            unfit: seen_unfit,
        })
    }
}

impl Membership {
    /// The node's part in the group.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// What is shown of it.
    #[must_use]
    pub fn shown(&self) -> ShownCluster {
        ShownCluster {
            group: self.group.clone(),
            steward: self.steward.clone(),
            tls: self.tls.clone(),
            unfit: self.unfit.clone(),
        }
    }

    /// Who holds this node's lease.
    #[must_use]
    pub fn steward(&self) -> &Steward {
        &self.steward
    }

    /// Reads the certificates again.
    ///
    /// # Errors
    /// Which file is wrong; the old ones stay in force.
    pub fn reload_certificates(&self) -> Result<(), AppError> {
        let Some(tls) = &self.tls else { return Ok(()) };
        tls.reload()?;
        if let Some(warning) = tls.expiry_warning(unix_ms() / 1000) {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// What operators may ask of the cluster through this node.
    #[must_use]
    pub fn member(&self, publisher: &Arc<Publisher>) -> Member {
        let (steward, leader) = (self.steward.clone(), self.steward.clone());
        let (drifting, group) = (Arc::clone(publisher), self.group.clone());
        let seeding = Arc::clone(publisher);
        Member {
            group: self.group.clone(),
            lease: Box::new(move || steward.lease()),
            overview: Box::new(move || {
                let leader = leader.clone();
                Box::pin(async move { leader.overview().await })
            }),
            drift: Box::new(move || drifting.config().drift(&group.state())),
            seed: Box::new(move || {
                let (settings, commands) = seed(&seeding.config());
                Seed { settings, commands }
            }),
        }
    }

    /// Where the file and what is agreed differ, in sentences.
    #[must_use]
    pub fn drift(&self, config: &Config) -> Vec<String> {
        config.drift(&self.group.state())
    }

    /// Founds a cluster with what the file says, unless the node belongs to one.
    ///
    /// # Errors
    /// When that is not agreed, or cannot be written.
    pub async fn found_if_unborn(&self, config: &Config) -> Result<(), AppError> {
        if self.group.member().is_some() {
            return Ok(());
        }
        let (settings, commands) = seed(config);
        let founded = self.group.found(ACTOR, settings, commands).await;
        founded.map(drop).map_err(|error| AppError::Refused(error.to_string()))
    }

    /// Whether the node is in a cluster, or was in one.
    #[must_use]
    pub fn is_born(&self) -> bool {
        self.group.member().is_some()
    }

    /// Waits until this node holds a lease, at most so long.
    pub async fn until_leased(&self, at_most: Duration) -> bool {
        let held = async {
            while !self.steward.lease().is_held() {
                tokio::time::sleep(HEARD_INTERVAL / 5).await;
            }
        };
        tokio::time::timeout(at_most, held).await.is_ok()
    }

    /// Leaves in order: a leader hands over first.
    pub async fn stop(mut self) {
        self.group.shutdown().await;
        self.stop.send_replace(true);
        if let Some(server) = self.server.take()
            && server.await.is_err()
        {
            tracing::error!("the listener for peers panicked");
        }
        // The folder is free once nobody has the group any more.
        self.tasks.shutdown().await;
    }
}

/// What a cluster begins with, by this node's file.
#[must_use]
pub fn seed(config: &Config) -> (Settings, Vec<Command>) {
    let lease = config.cluster.as_ref().map(|cluster| cluster.lease);
    let usual = Settings::default();
    let lease_ms =
        lease.map_or(usual.lease_ms, |lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
    // All at once: a cluster that has some of its pools would refuse requests for the others.
    let pools = config.desired().into_iter().map(|(pool, wanted)| Change::CreatePool {
        pool,
        spec: wanted.spec,
        shards: wanted.shards.into_iter().collect(),
    });
    let changes: Vec<Change> = pools.collect();
    let commands = match changes.is_empty() {
        true => Vec::new(),
        false => vec![Command::ChangeNow { changes }],
    };
    (Settings { lease_ms, ..usual }, commands)
}

/// The series of the group, of the lease and of what the file has otherwise.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "differences are counted in dozens")]
pub fn export(shown: &ShownCluster, publisher: &Publisher) -> Vec<MetricFamily> {
    let ShownCluster { group, steward, tls, .. } = shown;
    let mut families = metrics::export(&group.status());
    families.extend(steward.export());
    let help = "Differences between the node's file and what is agreed.";
    let mut drift = series::Group::new("ringway_config_drift", help, Kind::Gauge, &[]);
    drift.push(&[], Sample::Gauge(publisher.config().drift(&group.state()).len() as f64));
    families.extend(drift.finish());
    let help = "When the certificate that this node shows its peers ends, in seconds since 1970.";
    let name = "ringway_peer_certificate_expiry_timestamp_seconds";
    let mut expiry = series::Group::new(name, help, Kind::Gauge, &[]);
    if let Some(tls) = tls {
        expiry.push(&[], Sample::Gauge(tls.facts().not_after_s as f64));
    }
    families.extend(expiry.finish());
    families
}

/// A node's part in its cluster, as far as it is shown.
#[derive(Clone)]
pub struct ShownCluster {
    /// Its part in the group.
    pub group: Group,
    /// Its lease.
    pub steward: Steward,
    /// Its certificates.
    pub tls: Option<Arc<PeerTls>>,
    /// Why it is not fit to serve, if it is not.
    pub unfit: watch::Receiver<Option<String>>,
}

/// The longest renewal: what a node has seen of some hundred thousand shards.
const RENEWAL_BYTES_MAX: usize = 16 << 20;

/// Answers other nodes: leases here, all else by the group.
struct Peers {
    group: Group,
    steward: Steward,
}

impl PeerHandler for Peers {
    fn admit(&self, path: &str, introduction: &Introduction) -> Result<usize, PeerAnswer> {
        let bytes_max = self.group.admission(path, introduction)?;
        // A renewal bears what the node has seen of every shard.
        Ok(if Steward::answers(path) { RENEWAL_BYTES_MAX } else { bytes_max })
    }

    async fn answer(self: Arc<Self>, request: PeerRequest) -> PeerAnswer {
        if !Steward::answers(&request.path) {
            return self.group.handle(request).await;
        }
        let certificate = request.certificate.as_deref();
        match Steward::sender(&request.path, &request.body)
            .map_or(Ok(()), |node| self.group.vouch(certificate, node))
        {
            Err(refusal) => refusal,
            Ok(()) => self.steward.answer(&request.path, &request.body),
        }
    }
}

/// Puts what is agreed before the requests, as it moves. Rings are built on a thread of their own:
/// those of a thousand shards take milliseconds in which no heartbeat would be sent.
async fn publish(group: Group, publisher: Arc<Publisher>) {
    let mut agreed = group.changes();
    loop {
        let state = Arc::clone(&agreed.borrow_and_update());
        let follower = Arc::clone(&publisher);
        let published = tokio::task::spawn_blocking(move || follower.follow(&state)).await;
        if published.is_err() {
            tracing::error!("what is agreed could not be published: building it panicked");
            tokio::time::sleep(PUBLISH_PAUSE).await;
            continue;
        }
        if agreed.changed().await.is_err() {
            return;
        }
    }
}

fn facts(publisher: &Publisher, lease: &SharedLease, heal: Option<&Orders>) -> Facts {
    let site = publisher.published().load_full();
    let mut facts = Facts {
        routes_digest: site.routes.digest().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        feature_level: FEATURE_LEVEL,
        ..Facts::default()
    };
    for pool in &site.view.pools {
        let (name, epoch) = (pool.agreed.name.clone(), pool.agreed.epoch);
        let ring = RingReport { epoch, digest: pool.agreed.digest };
        facts.epochs.insert(name.clone(), epoch);
        facts.rings.insert(name.clone(), ring);
        let views = pool.health.own_views().into_iter();
        let shards = views.map(|(shard, down)| (shard, down.read, down.write)).collect();
        // What was seen before the shard got its present store, or lost it, says nothing of that one.
        let is_foreign = |shard: &&ShardTopology| {
            let seen = heal.map(|heal| heal.seen(&name, &shard.id));
            matches!((shard.store, seen), (Some(own), Some(StoreSeen::Foreign(other))) if other != own)
        };
        let foreign = match &pool.agreed.spec.kept {
            Some(_) => {
                let shards = pool.agreed.shards.iter().filter(is_foreign);
                shards.map(|shard| shard.id.clone()).collect()
            }
            None => Vec::new(),
        };
        facts.views.push(PoolView { pool: name, shards, foreign });
    }
    // An epoch counts when nothing older is in flight. Requests of caches are pinned to none.
    facts.epochs = lease.report(boottime_ms(), &facts.epochs);
    facts
}

/// A removed node will never learn another ring: clients must not be sent to it.
async fn watch_removal(group: Group, unfit: watch::Sender<Option<String>>) {
    let mut removed = group.removed();
    if removed.wait_for(|removed| *removed).await.is_ok() {
        let why = "this node was removed from its cluster; to let it join again as a new node, \
                   empty its `data_dir`";
        unfit.send_replace(Some(why.to_owned()));
    }
}

/// While the group is not heard, no verdict can come: the node goes by its own view until it is
/// heard again.
async fn tell_whether_heard(steward: Steward, publisher: Arc<Publisher>) {
    let mut ticks = tokio::time::interval(HEARD_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let heard = steward.lease().is_held();
        for pool in &publisher.published().load().view.pools {
            pool.health.set_group_heard(heard);
        }
    }
}

async fn watch_certificate(tls: Arc<PeerTls>) {
    let mut ticks = tokio::time::interval(CERTIFICATE_INTERVAL);
    loop {
        ticks.tick().await;
        if let Some(warning) = tls.expiry_warning(unix_ms() / 1000) {
            tracing::warn!("{warning}");
        }
    }
}

/// Goes on with a founding that the end of the process, or of the disk's patience, broke off: a cluster
/// without its first pools answers nobody, and no node but the one that founded it knows what they are.
async fn resume_founding(group: Group, publisher: Arc<Publisher>) {
    // Whoever founds one in this process has the first turn.
    let mut agreed = group.changes();
    if group.member().is_none()
        && agreed.wait_for(|state| state.identity().is_some()).await.is_err()
    {
        return;
    }
    let actor = format!("founding@{}", publisher.name());
    let (mut last, mut said) = (None, None);
    loop {
        let (settings, commands) = seed(&publisher.config());
        match group.resume_founding(&actor, settings, commands).await {
            Ok(false) => return,
            Ok(true) => {
                tracing::warn!("the founding of the cluster, which was broken off, is ended");
                return;
            }
            // What is over at the next try was the start of a group, and nobody's concern.
            Err(error) => {
                let why = Some(error.to_string());
                if last == why && said != why {
                    tracing::warn!(
                        "whether the founding of the cluster was broken off is not known yet, and if \
                         it was, it is not ended: {error}"
                    );
                    said = last;
                }
                last = why;
            }
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    }
}

/// Asks the nodes of the list, round by round, until one takes this node in.
async fn be_taken_in(group: Group, join: Vec<PeerAddress>, config: ClusterConfig) {
    let mut said: Option<tokio::time::Instant> = None;
    loop {
        match group.join(&join, config.role).await {
            Ok(node) => {
                tracing::info!(%node, "this node has joined the cluster");
                return;
            }
            // Founded or joined by an operator's command meanwhile.
            Err(JoinError::Member(_)) => return,
            Err(error @ JoinError::Open(_)) => {
                tracing::error!(%error, "this node cannot join; restart it when that is mended");
                return;
            }
            // Whoever must be removed first, or another name be given, on the other side: it asks
            // on, so that this alone is the cure.
            Err(error @ JoinError::Refused(_)) => {
                if said.is_none_or(|said| said.elapsed() >= JOIN_REPORT) {
                    said = Some(tokio::time::Instant::now());
                    tracing::error!(%error, "the cluster does not take this node in; it asks on");
                }
            }
            Err(error @ JoinError::Unavailable(_)) => {
                if said.is_none_or(|said| said.elapsed() >= JOIN_REPORT) {
                    said = Some(tokio::time::Instant::now());
                    tracing::warn!(
                        %error,
                        "this node waits to be taken in; if there is no cluster yet, found it on \
                         one node with `ringway cluster init`"
                    );
                }
            }
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
