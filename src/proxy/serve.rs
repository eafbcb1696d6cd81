//! How does one worker thread serve its share of the clients?
//!
//! Thread per core: a single-threaded runtime with a listening socket of its own. A connection
//! stays with the worker that accepted it, so nothing on the request path is shared but what is
//! published and what is counted.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::access_log::LogSender;
use super::client::{Caller, Local};
use super::connection::{self, Open};
use super::door::{self, Door};
use super::metrics::ClientMetrics;
use super::problem::{Problem, ProblemAbout};
use super::site::{Published, SiteReader};
use super::traces::Tracer;
use crate::disk::hints::HintSink;
use crate::dispatch::kept::Views;
use crate::dispatch::kept_worker::{KeptParts, KeptWorker};
use crate::dispatch::worker::Worker;
use crate::net::timers::TICK_MS;

/// In which part of its life a process is; workers follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Serving,
    /// Still serving, but each answer asks its client to close the connection.
    Draining,
    /// No new connections; those without a request are closed, the others end with theirs.
    Closing,
    /// Everything ends now.
    Ended,
}

/// What a worker is given.
pub struct WorkerParts {
    /// Which worker this is, from 0.
    pub number: usize,
    /// Where the process's clock begins.
    pub epoch: Instant,
    /// Its sockets, one for each data address, and how clients come in by each.
    pub listeners: Vec<(StdListener, Arc<Door>)>,
    /// The site.
    pub published: Published,
    /// What is counted about clients, by all workers.
    pub metrics: Arc<ClientMetrics>,
    /// Where log lines go.
    pub log: Option<LogSender>,
    /// Where spans go, if requests are traced.
    pub tracer: Option<Tracer>,
    /// The process's phase.
    pub phase: watch::Receiver<Phase>,
    /// The most pipes that large bodies pass through at once.
    pub pipes_max: usize,
    /// What it has for pools that keep data; `None`: none are served.
    pub kept: Option<KeptParts>,
    /// Where it is noted that a replica missed a write; `None`: nowhere.
    pub hints: Option<HintSink>,
    /// Makes request ids differ between workers and starts.
    pub seed: u64,
}

/// After an `accept` that failed for want of descriptors: how long to leave it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where requests that find their view old look for the present one.
fn views(published: &Published) -> Views {
    let published = Arc::clone(published);
    Rc::new(move || Some(Arc::clone(&published.load().view)))
}

/// Runs a worker on the calling thread until the process ends or everything is drained.
///
/// # Errors
/// When the runtime or a listener cannot be set up.
pub fn run_worker(parts: WorkerParts) -> io::Result<()> {
    let kept = parts.kept.as_ref().map(|kept| KeptWorker::new(parts.number, kept));
    let worker = Worker::new(parts.number, parts.epoch)
        .with_pipes(parts.pipes_max)
        .with_kept(kept.unwrap_or_else(KeptWorker::without_lease))
        .with_hints_and_views(parts.hints, views(&parts.published));
    let clock = Rc::clone(&worker.timers);
    clock.refresh();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    let sites = SiteReader::new(parts.published);
    let local = Local::new(worker, sites, parts.metrics, parts.log, parts.tracer, parts.seed);
    runtime.block_on(serve(local, parts.listeners, parts.phase))
}

async fn serve(
    local: Rc<Local>,
    listeners: Vec<(StdListener, Arc<Door>)>,
    mut phase: watch::Receiver<Phase>,
) -> io::Result<()> {
    tokio::task::spawn_local(tick(Rc::clone(&local)));
    let mut accepting = Vec::new();
    for (listener, door) in listeners {
        let listener = TcpListener::from_std(listener)?;
        let (local, phase) = (Rc::clone(&local), phase.clone());
        accepting.push(tokio::task::spawn_local(accept(local, listener, door, phase)));
    }
    // A sender that is gone means that the process is going down in disorder: end as well.
    let reached = async |phase: &mut watch::Receiver<Phase>, wanted: Phase| {
        let _: Result<_, _> = phase.wait_for(|now| *now >= wanted).await;
    };
    reached(&mut phase, Phase::Draining).await;
    local.worker.draining.set(true);
    // Connections of HTTP/2 tell their clients at once, not with the next answer.
    local.worker.timers.wake_all();
    reached(&mut phase, Phase::Closing).await;
    local.worker.closing.set(true);
    for task in accepting {
        // The listener closes with its task; what waited in its queue was accepted before.
        let _: Result<(), tokio::task::JoinError> = task.await;
    }
    local.worker.timers.wake_all();
    local.worker.upstreams.clear();
    let drained = async {
        while local.metrics.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
            local.worker.timers.wake_all();
        }
    };
    tokio::select! {
        biased;
        () = drained => {}
        () = reached(&mut phase, Phase::Ended) => {}
    }
    local.flush_log();
    Ok(())
}

/// What a worker does between requests: time, deadlines, old connections, log lines.
async fn tick(local: Rc<Local>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut count = 0u64;
    loop {
        ticks.tick().await;
        let timers = &local.worker.timers;
        timers.refresh();
        timers.advance();
        count += 1;
        if count.is_multiple_of(TICKS_PER_SWEEP) {
            let site = local.sites.read();
            local.worker.upstreams.sweep(timers.now_ms(), |key| site.view.keep_of(key));
        }
        local.flush_log();
    }
}

/// Once a second.
const TICKS_PER_SWEEP: u64 = 1000 / TICK_MS;

/// How often it is said that connections cannot be accepted.
const ACCEPT_REPORT_MS: u64 = 10_000;

async fn accept(
    local: Rc<Local>,
    listener: TcpListener,
    door: Arc<Door>,
    mut phase: watch::Receiver<Phase>,
) {
    let mut report_from_ms = 0;
    // One for all connections: to wait for it anew with each takes and frees two locks.
    let mut closing = pin!(phase.wait_for(|now| *now >= Phase::Closing));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut closing => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => begin(&local, &door, stream, address),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Twenty times a second, this would fill the disk that the node's log is on.
                let now_ms = local.worker.timers.now_ms();
                if now_ms >= report_from_ms {
                    report_from_ms = now_ms + ACCEPT_REPORT_MS;
                    tracing::warn!(%error, "client connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Connections that the kernel has completed already would be reset with the listener.
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG_MAX {
        let Ok((stream, address)) = listener.accept() else { return };
        let tokio_stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = tokio_stream {
            begin(&local, &door, stream, address);
        }
    }
}

/// The most connections that can wait in a listener's queue.
const BACKLOG_MAX: usize = 4096;

fn begin(local: &Rc<Local>, door: &Arc<Door>, stream: TcpStream, address: SocketAddr) {
    local.worker.timers.refresh();
    local.metrics.cx_total.inc(local.worker.stripe);
    let max = local.sites.read().limits.connections_max;
    if local.metrics.connections() >= max {
        local.metrics.cx_overflow.inc(local.worker.stripe);
        // Where bytes are expected first, whoever sends them would not understand the answer.
        if door.is_open() {
            refuse(&stream);
        }
        return;
    }
    let (open, address) = (Open::count(local), address.ip().to_canonical());
    match door.is_open() {
        true => {
            let caller = Caller { address, secure: false };
            tokio::task::spawn_local(connection::serve(open, stream, caller, None));
        }
        false => {
            let door = Arc::clone(door);
            tokio::task::spawn_local(door::enter(open, door, stream, address));
        }
    }
}

/// Tells a client that there are too many, if that can be done without waiting.
fn refuse(stream: &TcpStream) {
    let problem = Problem::too_many_connections();
    let json = problem.json(&ProblemAbout { request_id: "-", ..ProblemAbout::default() });
    let mut answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
         Content-Length: {}\r\nRingway-Error: {}\r\nRingway-Outcome: not-applied\r\nRetry-After: 1\r\nConnection: close\r\n\r\n",
        json.len(),
        problem.kind
    )
    .into_bytes();
    answer.extend_from_slice(&json);
    // A client whose buffer is full already sees only the connection close.
    let _: io::Result<usize> = stream.try_write(&answer);
}
