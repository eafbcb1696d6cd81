//! `ringway store`: the embedded backend as a process of its own.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::Registry;
use tokio::net::TcpListener;

use super::error::AppError;
use super::serve::start_log_at;
use super::signals::{Signals, Told};
use crate::admin::telemetry::Telemetry;
use crate::admin::{http, process};
use crate::store::{Fsync, Metrics, Store, StoreOptions, serve};

/// What the operator said.
pub struct StoreArguments {
    /// Where it listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where `/metrics` and the like are served, if anywhere; port 0 as above.
    pub telemetry: Option<SocketAddr>,
    /// Where the data lives.
    pub data: PathBuf,
    /// When a write counts as durable.
    pub fsync: Fsync,
}

/// Serves a folder until told to stop.
///
/// # Errors
/// When the folder or the address cannot be had.
pub fn run(arguments: StoreArguments) -> Result<(), AppError> {
    start_log_at("info", false);
    super::node::raise_descriptor_limit();
    let registry = Registry::new();
    let metrics = Metrics::register(&registry, "store").expect("a fresh registry takes all");
    let mut options = StoreOptions::new(arguments.data, metrics, unix_ms);
    options.fsync = arguments.fsync;
    let store = Arc::new(Store::open(options)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(AppError::system("cannot start the runtime"))?;
    runtime.block_on(async {
        let mut signals =
            Signals::listen().map_err(AppError::system("cannot listen for signals"))?;
        let listener = listen(arguments.listen, "store").await?;
        let address = listener.local_addr().map_err(AppError::system("no address"))?;
        let mut text = format!("ringway store listening on http://{address}\n");
        if let Some(address) = arguments.telemetry {
            let gather = Box::new(move || {
                let mut families = registry.gather();
                families.extend(process::export());
                families
            });
            let (ready, alone) = (|| Ok("ready".to_owned()), || Ok("standalone".to_owned()));
            let handler = Telemetry::new(gather, Box::new(ready), Box::new(alone));
            let telemetry = listen(address, "telemetry").await?;
            let address = telemetry.local_addr().map_err(AppError::system("no address"))?;
            text.push_str(&format!("  telemetry  http://{address}/metrics\n"));
            tokio::spawn(http::serve(telemetry, Arc::new(handler)));
        }
        let mut out = std::io::stdout();
        // Whoever started us may not be listening.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        let stop = async {
            // A store has nothing to read again.
            while signals.next().await == Told::Reload {}
        };
        let cut = serve(listener, Arc::clone(&store), stop).await;
        if cut > 0 {
            tracing::warn!(connections = cut, "requests in flight were cut");
        }
        store.close().await;
        Ok(())
    })
}

async fn listen(address: SocketAddr, what: &'static str) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|error| AppError::Listen { address, what, error })
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "the store is handed its clock from here")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
