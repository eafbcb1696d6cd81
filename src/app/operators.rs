//! What does a node offer its operators, and how do they find it?
//!
//! Telemetry and admin listen on sockets of their own and run on the control runtime. Where the
//! admin listener is stands in a file of the node's folder, for the command line.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::error::AppError;
use super::publisher::Publisher;
use super::reloads::Reloads;
use crate::admin::api::{ActionRequest, Api, Served};
use crate::admin::telemetry::{Gather, Telemetry};
use crate::admin::token::Token;
use crate::admin::{http, process};
use crate::proxy::metrics::ClientMetrics;
use crate::{dispatch, proxy};

/// Where the admin listener's address stands, for the command line.
const ADMIN_ADDRESS_FILE: &str = "admin.address";

/// The two listeners. Dropped, both are closed.
pub struct Operators {
    _tasks: JoinSet<()>,
}

/// The sockets, as bound.
pub struct Sockets {
    /// For metrics and health.
    pub telemetry: Option<StdListener>,
    /// For the operator.
    pub admin: Option<StdListener>,
}

/// What is shown to operators, and what they may do.
pub struct Shown {
    /// What is served.
    pub publisher: Arc<Publisher>,
    /// How the last reload went.
    pub reloads: Arc<Reloads>,
    /// Whether clients are welcome.
    pub ready: Arc<AtomicBool>,
    /// What is counted of clients.
    pub clients: Arc<ClientMetrics>,
    /// Where the operator's actions go.
    pub actions: mpsc::Sender<ActionRequest>,
    /// Series of other parts of the process.
    pub more_metrics: Gather,
}

impl Operators {
    /// Serves both listeners on `control`, and tells the command line where.
    ///
    /// # Errors
    /// When the token or the address cannot be read or written.
    pub fn serve(
        sockets: Sockets,
        shown: Shown,
        data_dir: &Path,
        control: &Handle,
    ) -> Result<Self, AppError> {
        let _runtime = control.enter();
        let tokio =
            |socket| TcpListener::from_std(socket).map_err(AppError::system("cannot listen"));
        let mut tasks = JoinSet::new();
        let address = sockets.admin.as_ref().map(StdListener::local_addr).transpose();
        let address = address.map_err(AppError::system("a socket has no address"))?;
        if let Some(socket) = sockets.admin {
            let handler = Arc::new(api(&shown, data_dir)?);
            tasks.spawn_on(http::serve(tokio(socket)?, handler), control);
        }
        if let Some(socket) = sockets.telemetry {
            let ready = Arc::clone(&shown.ready);
            let handler = Arc::new(Telemetry::new(gather(shown), ready));
            tasks.spawn_on(http::serve(tokio(socket)?, handler), control);
        }
        tell_command_line(data_dir, address)?;
        Ok(Self { _tasks: tasks })
    }
}

fn api(shown: &Shown, data_dir: &Path) -> Result<Api, AppError> {
    let random: [u8; 32] = random().map_err(AppError::system("cannot make a token"))?;
    let token = Token::read_or_make(data_dir, random)
        .map_err(AppError::system(data_dir.display().to_string()))?;
    let published = Arc::clone(shown.publisher.published());
    let served = move || {
        let site = published.load();
        Served { view: Arc::clone(&site.view), routes: site.routes.digest() }
    };
    Ok(Api {
        node: shown.publisher.name().clone(),
        started: Instant::now(),
        served: Box::new(served),
        ready: Arc::clone(&shown.ready),
        reload_error: Arc::clone(&shown.reloads.error),
        token,
        actions: shown.actions.clone(),
    })
}

fn gather(shown: Shown) -> Gather {
    let Shown { publisher, reloads, clients, more_metrics, .. } = shown;
    Box::new(move || {
        let site = publisher.published().load_full();
        let mut families = dispatch::metrics::export(&site.view);
        families.extend(proxy::metrics::export(&site, &clients));
        families.extend(publisher.health_families());
        families.extend(process::export());
        families.extend(reloads.export());
        families.extend(more_metrics());
        families
    })
}

/// Leaves the admin address where `ringway status` looks for it.
fn tell_command_line(data_dir: &Path, admin: Option<SocketAddr>) -> Result<(), AppError> {
    let path = data_dir.join(ADMIN_ADDRESS_FILE);
    let written = match admin {
        Some(address) => std::fs::write(&path, format!("{address}\n")),
        None => match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    written.map_err(AppError::system(path.display().to_string()))
}

/// Where a folder's node can be asked.
///
/// # Errors
/// When no node runs there, or it has no admin listener.
pub fn admin_address(data_dir: &Path) -> Result<SocketAddr, AppError> {
    let path: PathBuf = data_dir.join(ADMIN_ADDRESS_FILE);
    let text = std::fs::read_to_string(&path).map_err(AppError::system(format!(
        "no node has run with the folder {}, or it has no admin listener: name its data_dir with \
         --data-dir, or its address with --admin",
        data_dir.display()
    )))?;
    text.trim().parse().map_err(|_| {
        AppError::Refused(format!(
            "{} does not hold an address: start the node again",
            path.display()
        ))
    })
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes)
}
