//! `ringway store`: the embedded backend as a process of its own.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::store::{Fsync, Metrics, Store, StoreOptions, serve};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address to listen on, as HOST:PORT; port 0 takes any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Folder of the data; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// When a write counts as durable.
    #[arg(long, value_enum, default_value_t = FsyncArgument::Always)]
    fsync: FsyncArgument,
    /// With `--fsync interval`: milliseconds between two syncs.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    fsync_interval_ms: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FsyncArgument {
    /// Before it is acknowledged.
    Always,
    /// After a while; a crash takes back what was acknowledged since.
    Interval,
    /// Never by our doing; a crash of the machine may cost the whole folder.
    Never,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let metrics = Metrics::register(&Registry::new(), "store")?;
    let mut options = StoreOptions::new(arguments.data, metrics, unix_ms);
    options.fsync = match arguments.fsync {
        FsyncArgument::Always => Fsync::Always,
        FsyncArgument::Interval => {
            Fsync::Interval(Duration::from_millis(arguments.fsync_interval_ms))
        }
        FsyncArgument::Never => Fsync::Never,
    };
    let store = Arc::new(Store::open(options)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(arguments.listen)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut out = std::io::stdout();
        // Whoever started us may have stopped listening.
        let _ = writeln!(out, "ringway store listening on http://{}", listener.local_addr()?);
        let _ = out.flush();
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let cut = serve(listener, Arc::clone(&store), stop).await;
        if cut > 0 {
            tracing::warn!(connections = cut, "requests under way were cut off");
        }
        store.close().await;
        Ok(())
    })
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
