//! `ringway store`: the embedded backend as a process of its own.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::Registry;
use tokio::net::TcpListener;

use super::error::AppError;
use super::serve::start_log_at;
use super::signals::{Signals, Told};
use crate::admin::telemetry::Telemetry;
use crate::admin::{http, process};
use crate::net::tls::{ClientCertificates, ListenerFiles, ListenerTls};
use crate::store::{Door, Fsync, Metrics, Store, StoreOptions, serve_at};

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
    /// In how much time every value of a pool that keeps data is read and compared once, if at all.
    pub scrub: Option<Duration>,
    /// Its certificate, and whose clients' are good; plain connections without.
    pub tls: Option<ListenerFiles>,
    /// Whether nodes are served beyond loopback without being known.
    pub insecure: bool,
}

/// Serves a folder until told to stop.
///
/// # Errors
/// When the folder, the address or the certificate cannot be had.
pub fn run(arguments: StoreArguments) -> Result<(), AppError> {
    start_log_at("info", false);
    super::node::raise_descriptor_limit();
    let tls = match &arguments.tls {
        None => None,
        Some(files) => {
            let wrong = |error| AppError::listener_tls(arguments.listen, error);
            Some(Arc::new(ListenerTls::load(files, PROTOCOLS).map_err(wrong)?))
        }
    };
    warn_of_expiry(tls.as_deref());
    let serves_nodes = serves_nodes(&arguments);
    let registry = Registry::new();
    let metrics = Metrics::register(&registry, "store").expect("a fresh registry takes all");
    let mut options = StoreOptions::new(arguments.data, metrics, unix_ms);
    options.fsync = arguments.fsync;
    options.scrub = arguments.scrub;
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
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut text = format!("ringway store listening on {scheme}://{address}\n");
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
            while signals.next().await == Told::Reload {
                if let (Some(tls), Some(files)) = (&tls, &arguments.tls) {
                    read_again(tls, files);
                }
            }
        };
        let door = Door { listener, tls: tls.clone(), serves_nodes };
        let cut = serve_at(door, Arc::clone(&store), stop).await;
        if cut > 0 {
            tracing::warn!(connections = cut, "requests in flight were cut");
        }
        store.close().await;
        Ok(())
    })
}

/// Whether everybody who connects may be taken for a node: on loopback, by a certificate, or because
/// the operator says so.
fn serves_nodes(arguments: &StoreArguments) -> bool {
    let knows_clients = arguments
        .tls
        .as_ref()
        .is_some_and(|files| files.client_certificates == ClientCertificates::Required);
    let beyond_loopback = !arguments.listen.ip().is_loopback();
    if beyond_loopback && !knows_clients && !arguments.insecure {
        tracing::warn!(
            listen = %arguments.listen,
            "shards of pools that keep data are not served here, because anybody may connect: give \
             --tls-cert, --tls-key and --client-ca, or --insecure where only nodes can"
        );
    }
    !beyond_loopback || knows_clients || arguments.insecure
}

/// What a store speaks within TLS.
const PROTOCOLS: &[&[u8]] = &[b"http/1.1"];

fn read_again(tls: &ListenerTls, files: &ListenerFiles) {
    match tls.read_again(files, PROTOCOLS) {
        Ok(loaded) => {
            tls.adopt(loaded);
            warn_of_expiry(Some(tls));
            tracing::info!("the certificate was read again");
        }
        Err(error) => tracing::error!(%error, "the certificate stays as it was"),
    }
}

fn warn_of_expiry(tls: Option<&ListenerTls>) {
    let now_s = unix_ms() / 1000;
    let served = tls.map(ListenerTls::served).unwrap_or_default();
    for warning in served.iter().filter_map(|served| served.expiry_warning(now_s)) {
        tracing::warn!("{warning}");
    }
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
