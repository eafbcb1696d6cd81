//! `ringway serve`: one proxy over the shards that a file names.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::error::AppError;
use super::node::{Addresses, CONTROL_SHUTDOWN, Node, NodeParts, raise_descriptor_limit};
use super::say::complain;
use super::signals::{Signals, Told};
use crate::admin::api::{Action, ActionRequest};
use crate::cluster::Report;
use crate::config::{self, Config, LogFormat, LogLevel};

/// Actions of operators that wait to be carried out, one after the other.
pub(super) const ACTIONS_MAX: usize = 16;

/// Serves until told to stop.
///
/// # Errors
/// When the file is wrong or the node cannot start. Once it serves, nothing ends it but a signal.
pub fn run(file: &Path) -> Result<(), AppError> {
    let loaded = config::load(file)?;
    start_log(&loaded.config);
    if !loaded.warnings.is_empty() {
        complain(&loaded.warnings.to_string());
    }
    raise_descriptor_limit();
    let runtime = control_runtime()?;
    let (actions, requests) = mpsc::channel(ACTIONS_MAX);
    let signals = {
        let _entered = runtime.enter();
        Signals::listen().map_err(AppError::system("cannot listen for signals"))?
    };
    let parts =
        NodeParts { control: runtime.handle().clone(), actions, more_metrics: Box::new(Vec::new) };
    let (node, report) = runtime.block_on(Node::start(&loaded.config, parts))?;
    log_report(&report);
    tell_unborn(&node, &loaded.config);
    announce(&node.addresses, &mut std::io::stdout());
    runtime.block_on(attend(node, file.to_owned(), signals, requests));
    runtime.shutdown_timeout(CONTROL_SHUTDOWN);
    Ok(())
}

/// Carries out what signals and operators ask, until told to stop.
async fn attend(
    mut node: Node,
    file: PathBuf,
    mut signals: Signals,
    mut requests: mpsc::Receiver<ActionRequest>,
) {
    loop {
        tokio::select! {
            biased;
            told = signals.next() => match told {
                Told::Stop => break,
                Told::Reload => drop(reload(&mut node, &file)),
            },
            Some((action, answer)) = requests.recv() => {
                let done = match action {
                    Action::Reload => reload(&mut node, &file),
                    Action::StopShard(_) | Action::StartShard(_) => {
                        Err("only `ringway dev` has embedded stores".to_owned())
                    }
                };
                // Whoever asked may have gone.
                drop(answer.send(done));
            }
        }
    }
    tracing::info!("draining");
    node.stop(async move { while signals.next().await != Told::Stop {} }).await;
    tracing::info!("ended");
}

/// Reads the file again. A bad one changes nothing and says why.
fn reload(node: &mut Node, file: &Path) -> Result<String, String> {
    let outcome = match config::load(file) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                complain(&loaded.warnings.to_string());
            }
            node.reload(loaded.config)
        }
        Err(diagnostics) => {
            let error = AppError::from(diagnostics);
            node.reload_refused(&error);
            Err(error)
        }
    };
    match outcome {
        Ok(report) => {
            log_report(&report);
            let pools = report.len();
            let certificates = node.certificates();
            tracing::info!(rings_changed = pools, certificates, "reloaded");
            let rings = match pools {
                0 => "no ring changed".to_owned(),
                1 => "1 ring changed".to_owned(),
                more => format!("{more} rings changed"),
            };
            // A ring is one thing of many in a file, so what else was read is said.
            let read = certificates.map(|all| format!("; certificates read again: {all}"));
            Ok(format!(
                "reloaded: settings and routes are those of the file; {rings}{}",
                read.unwrap_or_default()
            ))
        }
        Err(error) => {
            tracing::error!("the reload was refused and changed nothing:\n{error}");
            Err(error.to_string())
        }
    }
}

/// Says what a node of no cluster waits for, unless it was told whom to join.
fn tell_unborn(node: &Node, config: &Config) {
    let waits = node.membership().is_some_and(|membership| !membership.is_born());
    let joins = config.cluster.as_ref().is_some_and(|cluster| !cluster.join.is_empty());
    if waits && !joins {
        tracing::warn!(
            "this node belongs to no cluster: found one with `ringway cluster init`, or name nodes \
             of one under `cluster.join`"
        );
    }
}

/// Tells what a start or reload changed.
pub(super) fn log_report(report: &Report) {
    for pool in report {
        let epoch =
            |epoch: Option<crate::ids::Epoch>| epoch.map_or("-".to_owned(), |e| e.to_string());
        match (pool.epoch_before, pool.epoch_after) {
            (None, Some(epoch)) => {
                tracing::info!(pool = %pool.pool, %epoch, "pool begins");
                continue;
            }
            (Some(_), None) => {
                tracing::info!(pool = %pool.pool, "pool goes");
                continue;
            }
            _ => {}
        }
        tracing::info!(
            pool = %pool.pool,
            epoch_before = %epoch(pool.epoch_before),
            epoch = %epoch(pool.epoch_after),
            moved = %pool.moved,
            "pool changed"
        );
    }
}

/// Where everything but requests runs. Two threads, so that a scrape of a thousand shards or a plan
/// over them, which compute for a tenth of a second, delay no heartbeat.
pub(super) fn control_runtime() -> Result<Runtime, AppError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(AppError::system("cannot start the control runtime"))
}

/// Says on standard output where the node listens: the sign that it is ready.
pub(super) fn announce(addresses: &Addresses, out: &mut impl Write) {
    let mut text = format!("ringway {} is ready\n", env!("CARGO_PKG_VERSION"));
    for (address, tls) in &addresses.data {
        let scheme = if *tls { "https" } else { "http" };
        text.push_str(&format!("  data       {scheme}://{address}\n"));
    }
    if let Some(address) = addresses.telemetry {
        text.push_str(&format!("  telemetry  http://{address}/metrics\n"));
    }
    if let Some(address) = addresses.admin {
        text.push_str(&format!("  admin      http://{address}/v1/status\n"));
    }
    // Whoever started us may not be listening.
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Begins to write the process's own messages to standard error.
pub(super) fn start_log(config: &Config) {
    let level = match config.log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    start_log_at(level, config.log.format == LogFormat::Json);
}

/// The same, for commands without a file. `RINGWAY_LOG` overrides the level, module by module.
pub(super) fn start_log_at(level: &str, json: bool) {
    use tracing_subscriber::EnvFilter;
    // What openraft warns of is told by this crate in its own words, or is an operator's everyday:
    // a node that is away, an election.
    let quiet = || EnvFilter::new(format!("{level},openraft=error,openraft::raft::raft_inner=off"));
    let filter = EnvFilter::try_from_env("RINGWAY_LOG").unwrap_or_else(|_| quiet());
    // Colours are for people: in a file or a journal they are noise.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // It would tell of a message that cannot be written by one more, and panic if that cannot
        // be written either: a full disk would end the node at its next message.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // A second subscriber in one process is refused; the first goes on.
    drop(if json { builder.json().try_init() } else { builder.try_init() });
}
