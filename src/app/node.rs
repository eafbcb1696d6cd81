//! How is a proxy put together, changed and taken down?
//!
//! ```text
//! config ─▶ control (durable) ─▶ topology ─▶ view ─▶ site ─▶ published ─▶ workers
//!                                              └─▶ probers
//! ```
//!
//! Worker threads serve clients; everything else runs on the *control runtime*, so that no
//! request ever waits for a scrape, a probe or an fsync. A reload goes the same way as a start:
//! what cannot be brought about as a whole changes nothing.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::assemble;
use super::doors::{self, Doors};
use super::error::AppError;
use super::healing::Healing;
use super::membership::{Membership, Opened, ShownCluster};
use super::operators::{Operators, Shown, Sockets};
use super::publisher::Publisher;
use super::reloads::Reloads;
use super::spans::Spans;
use super::store::unix_ms;
use super::wishes::Alone;
use crate::admin::api::ActionRequest;
use crate::admin::control::Control;
use crate::admin::telemetry::Gather;
use crate::background::heal::Orders;
use crate::cluster::lease::SharedLease;
use crate::cluster::{ClusterState, Report, Settings, Topology};
use crate::config::Config;
use crate::control::clock::boottime_ms;
use crate::control::own_lease::{OwnLease, begin_incarnation};
use crate::control::standalone::Standalone;
use crate::control::wishes::{Asked, Wishes};
use crate::dispatch::kept_worker::KeptParts;
use crate::ids::BaseUrl;
use crate::net::listener::bind_all;
use crate::net::splice::pipes_of_each;
use crate::proxy::access_log::{LogSender, LogWriter};
use crate::proxy::metrics::ClientMetrics;
use crate::proxy::serve::{Phase, WorkerParts, run_worker};

/// A running proxy.
pub struct Node {
    authority: Authority,
    doors: Doors,
    /// Tells of certificates that end soon.
    expiry: AbortHandle,
    publisher: Arc<Publisher>,
    reloads: Arc<Reloads>,
    ready: Arc<AtomicBool>,
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    log: Option<(LogWriter, LogSender)>,
    spans: Option<Spans>,
    healing: Healing,
    operators: Operators,
    /// Where it listens, as bound.
    pub addresses: Addresses,
}

/// What decides about pools and shards.
enum Authority {
    /// The node's own file.
    Standalone {
        alone: Alone,
        /// They end with it.
        _tasks: TaskHandles,
    },
    /// A group of nodes.
    Cluster(Box<Membership>),
}

impl Authority {
    /// What is agreed, as it moves.
    fn agreed(&self) -> watch::Receiver<Arc<ClusterState>> {
        match self {
            Self::Standalone { alone, .. } => alone.agreed.subscribe(),
            Self::Cluster(membership) => membership.group().changes(),
        }
    }

    /// Who decides what operators ask for.
    fn control(&self, publisher: &Arc<Publisher>, wishes: &Wishes) -> Control {
        match self {
            Self::Standalone { .. } => Control::Standalone(Some(wishes.clone())),
            Self::Cluster(membership) => Control::Cluster(Box::new(membership.member(publisher))),
        }
    }

    /// The cluster's part in what operators are shown.
    fn cluster(&self) -> Option<ShownCluster> {
        match self {
            Self::Standalone { .. } => None,
            Self::Cluster(membership) => Some(membership.shown()),
        }
    }
}

/// Where a node listens, ports that the system chose included.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// For clients, and whether they speak TLS there.
    pub data: Vec<(SocketAddr, bool)>,
    /// For metrics and health.
    pub telemetry: Option<SocketAddr>,
    /// For the operator.
    pub admin: Option<SocketAddr>,
    /// For other nodes.
    pub peer: Option<SocketAddr>,
}

/// What a node is given beside its configuration.
pub struct NodeParts {
    /// Where everything but requests runs.
    pub control: Handle,
    /// Where the operator's actions go.
    pub actions: mpsc::Sender<ActionRequest>,
    /// Series of other parts of the process: embedded stores.
    pub more_metrics: Gather,
}

impl Node {
    /// Starts a proxy. When this returns, clients are served.
    ///
    /// # Errors
    /// [`AppError`]; whatever was begun has been taken down.
    pub async fn start(config: &Config, parts: NodeParts) -> Result<(Self, Report), AppError> {
        let origin = Instant::now();
        let name = assemble::node_name(config);
        let peer = config.listen.peer.map(|at| bind_one(at, "peer")).transpose()?;
        let begun = match (&config.cluster, peer) {
            (Some(cluster), Some(socket)) => {
                let listens = local(&socket)?;
                let opened = Opened::open(config, cluster, name.clone(), listens).await?;
                Begun::Cluster(Box::new(opened), socket)
            }
            (None, _) | (_, None) => {
                let (standalone, report) =
                    Standalone::open(&config.node.data_dir, &config.desired())?;
                Begun::Standalone(Box::new(standalone), report)
            }
        };
        let topology = begun.topology()?;
        let publisher = Publisher::start(config.clone(), name, &topology, &parts.control, origin)?;
        let publisher = Arc::new(publisher);
        let workers = publisher.workers();
        let op_pin_max_ms = Settings::default().op_pin_max_ms;
        let lease = SharedLease::new(workers, op_pin_max_ms);
        let (wishes, asked) = Wishes::new();
        let kept = KeptParts { lease, wishes, unix_ms };
        let mut healing = Healing::open(config)?;

        let mut data = Vec::new();
        let doors = Doors::open(config)?;
        for listener in &config.listen.data {
            data.push(bind(listener.address, workers, "data")?);
        }
        let telemetry = config.listen.telemetry.map(|at| bind_one(at, "telemetry")).transpose()?;
        let admin = config.listen.admin.map(|at| bind_one(at, "admin")).transpose()?;
        let addresses = Addresses {
            data: data
                .iter()
                .zip(doors.iter())
                .map(|(sockets, door)| Ok((local(&sockets[0])?, door.tls.is_some())))
                .collect::<Result<_, AppError>>()?,
            telemetry: telemetry.as_ref().map(local).transpose()?,
            admin: admin.as_ref().map(local).transpose()?,
            peer: begun.listens()?,
        };

        let log = match assemble::log_target(config) {
            None => None,
            Some(target) => Some(
                LogWriter::start(target).map_err(AppError::system("cannot open the access log"))?,
            ),
        };
        let spans = Spans::start(config, publisher.name(), workers, origin, &parts.control);
        let reloads = Arc::new(Reloads::begun());
        let ready = Arc::new(AtomicBool::new(true));
        let clients = Arc::new(ClientMetrics::new(workers));
        let (phase, phase_seen) = watch::channel(Phase::Serving);

        let lease = Arc::clone(&kept.lease);
        // What healing sees of the stores goes to the group; it begins by what the group has agreed.
        let eyes = Arc::new(OnceLock::new());
        let joint = (lease, asked, Arc::clone(&eyes));
        let (authority, report) = begun.run(config, &publisher, &parts.control, joint)?;
        let (agreed, own) = (authority.agreed(), kept.lease.of_worker(0));
        let heal = healing.begin(config, &publisher, kept.wishes.clone(), agreed, own, origin)?;
        eyes.get_or_init(|| heal.clone());
        let shown = Shown {
            started: origin,
            agreed: authority.agreed(),
            decides: authority.control(&publisher, &kept.wishes),
            cluster: authority.cluster(),
            publisher: Arc::clone(&publisher),
            reloads: Arc::clone(&reloads),
            ready: Arc::clone(&ready),
            clients: Arc::clone(&clients),
            doors: doors.clone(),
            actions: parts.actions,
            heal,
            more_metrics: with_spans(parts.more_metrics, spans.as_ref()),
        };
        let sockets = Sockets { telemetry, admin };
        let data_dir = &config.node.data_dir;
        let operators = Operators::serve(sockets, shown, data_dir, &parts.control)?;
        let expiry = parts.control.spawn(doors.clone().watch()).abort_handle();
        let mut node = Self {
            authority,
            doors,
            expiry,
            publisher,
            reloads,
            ready,
            phase,
            threads: Vec::new(),
            log,
            spans,
            healing,
            operators,
            addresses,
        };
        node.start_workers(data, origin, &clients, &phase_seen, &kept)?;
        Ok((node, report))
    }

    fn start_workers(
        &mut self,
        data: Vec<Vec<StdListener>>,
        origin: Instant,
        clients: &Arc<ClientMetrics>,
        phase: &watch::Receiver<Phase>,
        kept: &KeptParts,
    ) -> Result<(), AppError> {
        let mut data: Vec<_> = data.into_iter().map(Vec::into_iter).collect();
        for number in 0..self.publisher.workers() {
            #[allow(clippy::disallowed_methods, reason = "seeds are drawn here, and handed down")]
            let parts = WorkerParts {
                number,
                epoch: origin,
                listeners: data
                    .iter_mut()
                    .filter_map(Iterator::next)
                    .zip(self.doors.iter().map(Arc::clone))
                    .collect(),
                published: Arc::clone(self.publisher.published()),
                metrics: Arc::clone(clients),
                log: self.log.as_ref().map(|(_, sender)| sender.clone()),
                tracer: self.spans.as_ref().map(Spans::tracer),
                phase: phase.clone(),
                pipes_max: pipes_of_each(self.publisher.workers()),
                kept: Some(kept.clone()),
                hints: Some(self.healing.sink()),
                seed: fastrand::u64(..),
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn({
                    let ready = Arc::clone(&self.ready);
                    move || {
                        let _going = Going(ready);
                        run_worker(parts)
                    }
                })
                .map_err(AppError::system("cannot start a worker thread"))?;
            self.threads.push(thread);
        }
        Ok(())
    }

    /// Brings the running node to `config`, or changes nothing.
    ///
    /// # Errors
    /// [`AppError`]; everything goes on as before.
    pub fn reload(&mut self, config: Config) -> Result<Report, AppError> {
        let result = self.try_reload(config);
        match &result {
            Ok(_) => self.reloads.succeeded(),
            Err(error) => self.reloads.failed(error.to_string()),
        }
        result
    }

    fn try_reload(&mut self, config: Config) -> Result<Report, AppError> {
        refuse_restarts(&self.publisher.config(), &config)?;
        // Whatever might be refused comes before anything is changed.
        let certificates = self.doors.read_again(&config)?;
        let report = match &mut self.authority {
            Authority::Standalone { alone: Alone { standalone, agreed }, .. } => {
                let mut standalone = standalone.lock().unwrap_or_else(PoisonError::into_inner);
                let prepared = standalone.prepare(&config.desired())?;
                let candidate = self.publisher.candidate(config, Some(prepared.topology()))?;
                let report = standalone.commit(prepared)?;
                candidate.publish();
                agreed.send_replace(Arc::new(standalone.state().clone()));
                report
            }
            // What is agreed changes by commands only; the file's share is routes and settings.
            Authority::Cluster(membership) => {
                let candidate = self.publisher.candidate(config, None)?;
                membership.reload_certificates()?;
                candidate.publish();
                for difference in membership.drift(&self.publisher.config()) {
                    tracing::warn!("{difference}");
                }
                Report::new()
            }
        };
        self.doors.adopt(certificates);
        self.reopen_log();
        Ok(report)
    }

    /// Takes down why a reload did not even come to be tried.
    pub fn reload_refused(&self, error: &AppError) {
        self.reloads.failed(error.to_string());
    }

    /// The node's part in a cluster, if it has one.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        match &self.authority {
            Authority::Standalone { .. } => None,
            Authority::Cluster(membership) => Some(membership),
        }
    }

    /// Waits until every shard of pools that keep data has its store, so that a first write finds
    /// all its replicas; `false` if that takes longer than `at_most`.
    pub async fn until_bound(&self, at_most: Duration) -> bool {
        let mut revisions = self.publisher.revision();
        let bound = async {
            loop {
                let topology = self.publisher.topology();
                let kept = topology.pools().iter().filter(|pool| pool.spec.kept.is_some());
                let mut shards = kept.flat_map(|pool| &pool.shards);
                if shards.all(|shard| shard.store.is_some()) || revisions.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(at_most, bound).await.is_ok()
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.publisher.config()
    }

    /// Opens the access log anew, for rotation.
    pub fn reopen_log(&self) {
        if let Some((_, sender)) = &self.log {
            sender.reopen();
        }
    }

    /// Requests that are with a shard.
    fn requests_in_flight(&self) -> usize {
        let site = self.publisher.published().load_full();
        let shards = site.view.pools.iter().flat_map(|pool| pool.shards.iter());
        shards.map(|shard| shard.in_flight()).sum()
    }

    /// The certificates that clients are shown, and until when each is good, as a sentence has it;
    /// none without TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<String> {
        self.doors.certificates()
    }

    /// Takes the node down. For `drain_delay` it says that it is going, then takes no new
    /// connections; the present requests may end within `drain_timeout`, and what is left when
    /// `hurry` is ready, or then, is cut.
    pub async fn stop(mut self, hurry: impl Future<Output = ()>) {
        let config = self.publisher.config();
        self.expiry.abort();
        let mut hurry = std::pin::pin!(hurry);
        self.ready.store(false, Ordering::Relaxed);
        self.phase.send_replace(Phase::Draining);
        let hurried = tokio::select! {
            biased;
            () = &mut hurry => true,
            () = tokio::time::sleep(config.drain_delay) => false,
        };
        self.phase.send_replace(Phase::Closing);
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                match thread.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(%error, "a worker ended early"),
                    Err(_) => tracing::error!("a worker panicked"),
                }
            }
        });
        let mut joined = std::pin::pin!(joined);
        let ended = !hurried
            && tokio::select! {
                biased;
                _ = &mut joined => true,
                () = tokio::time::sleep(config.drain_timeout) => false,
                () = &mut hurry => false,
            };
        if !ended {
            match (self.requests_in_flight(), hurried) {
                (0, true) => tracing::info!("ended at once, as told a second time"),
                (0, false) => tracing::warn!("connections were still open and are cut"),
                (requests, _) => {
                    tracing::warn!(requests, "requests were still in flight and are cut");
                }
            }
            self.phase.send_replace(Phase::Ended);
            let _: Result<(), tokio::task::JoinError> = joined.await;
        }
        self.healing.stop().await;
        if let Authority::Cluster(membership) = self.authority {
            membership.stop().await;
        }
        self.operators.stop().await;
        if let Some(spans) = self.spans.take() {
            spans.stop().await;
        }
        if let Some((writer, sender)) = self.log.take() {
            drop(sender);
            let written = tokio::task::spawn_blocking(move || writer.join());
            let _: Result<(), tokio::task::JoinError> = written.await;
        }
    }
}

/// What decides, opened and not yet running.
enum Begun {
    Standalone(Box<Standalone>, Report),
    Cluster(Box<Opened>, StdListener),
}

impl Begun {
    fn topology(&self) -> Result<Arc<Topology>, AppError> {
        match self {
            Self::Standalone(standalone, _) => Ok(Arc::clone(standalone.topology())),
            Self::Cluster(opened, _) => opened.topology(),
        }
    }

    fn listens(&self) -> Result<Option<SocketAddr>, AppError> {
        match self {
            Self::Standalone(..) => Ok(None),
            Self::Cluster(_, socket) => local(socket).map(Some),
        }
    }

    fn run(
        self,
        config: &Config,
        publisher: &Arc<Publisher>,
        control: &Handle,
        (lease, asked, eyes): (Arc<SharedLease>, mpsc::Receiver<Asked>, Arc<OnceLock<Orders>>),
    ) -> Result<(Authority, Report), AppError> {
        match self {
            Self::Standalone(standalone, report) => {
                let incarnation = begin_incarnation(&config.node.data_dir)?;
                let settings = standalone.state().lease_settings();
                let lease_ms = settings.lease_ms;
                lease.set_op_pin_max_ms(settings.op_pin_max_ms);
                let mut own = OwnLease::new(settings, incarnation, lease, boottime_ms());
                // Before the first client, so that none is refused for want of a lease.
                own.renew(boottime_ms(), unix_ms(), &publisher.topology());
                let topology = Arc::clone(publisher);
                let agreed = watch::Sender::new(Arc::new(standalone.state().clone()));
                let alone = Alone { standalone: Arc::new(Mutex::new(*standalone)), agreed };
                let tasks = TaskHandles(vec![
                    control
                        .spawn(own.keep(lease_ms, unix_ms, move || topology.topology()))
                        .abort_handle(),
                    control.spawn(alone.drain(asked, Arc::clone(publisher))).abort_handle(),
                ]);
                Ok((Authority::Standalone { alone, _tasks: tasks }, report))
            }
            Self::Cluster(opened, socket) => {
                let membership = opened.run(socket, publisher, control, lease, asked, eyes)?;
                Ok((Authority::Cluster(Box::new(membership)), Report::new()))
            }
        }
    }
}

/// Tasks that end with the node.
struct TaskHandles(Vec<AbortHandle>);

impl Drop for TaskHandles {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// Takes the node out of the balancer when a worker ends, in order or not: what it listened on is
/// closed with it.
struct Going(Arc<AtomicBool>);

impl Drop for Going {
    fn drop(&mut self) {
        if self.0.swap(false, Ordering::Relaxed) {
            tracing::error!("a worker ended early: the node is no longer ready; restart it");
        }
    }
}

/// The series of other parts, and those of spans.
fn with_spans(more: Gather, spans: Option<&Spans>) -> Gather {
    let Some(metrics) = spans.map(Spans::metrics) else { return more };
    Box::new(move || {
        let mut families = more();
        families.extend(metrics.export());
        families
    })
}

fn collector(config: &Config) -> Option<&BaseUrl> {
    config.tracing.as_ref().map(|tracing| &tracing.otlp)
}

/// What is bound or made at the start cannot change later.
fn refuse_restarts(old: &Config, new: &Config) -> Result<(), AppError> {
    let fixed = [
        ("`listen`", !doors::same_sockets(&old.listen, &new.listen)),
        ("`node`", old.node != new.node),
        ("`cluster`", old.cluster != new.cluster),
        ("`log`", old.log != new.log),
        ("the target of `access_log`", assemble::log_target(old) != assemble::log_target(new)),
        ("`tracing.otlp`", collector(old) != collector(new)),
    ];
    let changed: Vec<_> =
        fixed.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect();
    if changed.is_empty() { Ok(()) } else { Err(AppError::NeedsRestart(changed)) }
}

fn bind(
    address: SocketAddr,
    count: usize,
    what: &'static str,
) -> Result<Vec<StdListener>, AppError> {
    bind_all(address, count).map_err(|error| AppError::Listen { address, what, error })
}

fn bind_one(address: SocketAddr, what: &'static str) -> Result<StdListener, AppError> {
    let mut sockets = bind(address, 1, what)?;
    Ok(sockets.remove(0))
}

fn local(socket: &StdListener) -> Result<SocketAddr, AppError> {
    socket.local_addr().map_err(AppError::system("a socket has no address"))
}

/// Lets the process have as many descriptors as the system allows it: each client connection is
/// one, and the usual soft limit of 1024 is for programs that use `select`.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
}

/// How long the control runtime may take to end: a name lookup can hang in it.
pub const CONTROL_SHUTDOWN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn config(head: &str) -> Config {
        let text = format!(
            "{head}pools: [ {{ name: p, shards: [ {{ id: a, url: 'http://127.0.0.1:9' }} ] }} ]\n\
             routes: [ {{ name: r, pool: p }} ]\n"
        );
        crate::config::parse(&text, "file").expect("a good file").config
    }

    #[test]
    fn everything_that_needs_a_restart_is_named_at_once() {
        let old = config("");
        assert!(refuse_restarts(&old, &config("drain_timeout: 7s\n")).is_ok());
        let new = config("node: { name: other }\nlog: { level: debug }\n");
        let refused = refuse_restarts(&old, &new).expect_err("both are bound at the start");
        assert_eq!(
            refused.to_string(),
            "`node`, `log` cannot change while the node runs: restart it, or change that back"
        );
    }
}
