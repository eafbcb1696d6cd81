//! What does a node offer its operators, and how do they find it?
//!
//! Telemetry and admin listen on sockets of their own and run on the control runtime. Where the
//! admin listener is stands in a file of the node's folder, for the command line.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::doors::Doors;
use super::error::AppError;
use super::membership::{self, ShownCluster};
use super::publisher::Publisher;
use super::reloads::Reloads;
use crate::admin::api::{ActionRequest, Api, Served};
use crate::admin::control::Control;
use crate::admin::telemetry::{Gather, Judge, Telemetry};
use crate::admin::token::Token;
use crate::admin::{http, locate, process};
use crate::background::heal::Orders;
use crate::cluster::ClusterState;
use crate::ids::Revision;
use crate::proxy::metrics::ClientMetrics;
use crate::route::RequestView;
use crate::{dispatch, proxy};

/// Where the admin listener's address stands, for the command line.
const ADMIN_ADDRESS_FILE: &str = "admin.address";

/// The two listeners. Dropped, both are closed.
pub struct Operators {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
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
    /// When the process started; the workers' clock begins there.
    pub started: Instant,
    /// What is served.
    pub publisher: Arc<Publisher>,
    /// How the last reload went.
    pub reloads: Arc<Reloads>,
    /// What is agreed, as it moves.
    pub agreed: watch::Receiver<Arc<ClusterState>>,
    /// Who decides.
    pub decides: Control,
    /// The node's part in a cluster, if it has one.
    pub cluster: Option<ShownCluster>,
    /// Whether clients are welcome.
    pub ready: Arc<AtomicBool>,
    /// What is counted of clients.
    pub clients: Arc<ClientMetrics>,
    /// By which clients come in.
    pub doors: Doors,
    /// Where the operator's actions go.
    pub actions: mpsc::Sender<ActionRequest>,
    /// Where replicas are compared and healed.
    pub heal: Orders,
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
        mut shown: Shown,
        data_dir: &Path,
        control: &Handle,
    ) -> Result<Self, AppError> {
        let _runtime = control.enter();
        let tokio =
            |socket| TcpListener::from_std(socket).map_err(AppError::system("cannot listen"));
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let address = sockets.admin.as_ref().map(StdListener::local_addr).transpose();
        let address = address.map_err(AppError::system("a socket has no address"))?;
        if let Some(socket) = sockets.admin {
            let decides = std::mem::replace(&mut shown.decides, Control::Standalone(None));
            let handler = Arc::new(api(&shown, decides, data_dir)?);
            tasks.spawn_on(http::serve_until(tokio(socket)?, handler, stopped.clone()), control);
        }
        let no_more: Gather = Box::new(Vec::new);
        let more = std::mem::replace(&mut shown.more_metrics, no_more);
        if let Some(socket) = sockets.telemetry {
            let handler =
                Arc::new(Telemetry::new(gather(&shown, more), readiness(&shown), quorum(&shown)));
            tasks.spawn_on(http::serve_until(tokio(socket)?, handler, stopped.clone()), control);
        }
        tell_command_line(data_dir, address)?;
        Ok(Self { tasks, stop })
    }

    /// Closes both. Whoever is being answered still is, for a moment.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if ended.is_err() {
                tracing::error!("a listener for operators panicked");
            }
        }
    }
}

fn api(shown: &Shown, control: Control, data_dir: &Path) -> Result<Api, AppError> {
    let random: [u8; 32] = random().map_err(AppError::system("cannot make a token"))?;
    let token = Token::read_or_make(data_dir, random)
        .map_err(AppError::system(data_dir.display().to_string()))?;
    let published = Arc::clone(shown.publisher.published());
    let served = move || {
        let site = published.load();
        Served { view: Arc::clone(&site.view), routes: site.routes.digest() }
    };
    let published = Arc::clone(shown.publisher.published());
    let routed = move |request: &RequestView<'_>| locate::routed(&published.load().routes, request);
    Ok(Api {
        node: shown.publisher.name().clone(),
        started: shown.started,
        served: Box::new(served),
        routed: Box::new(routed),
        agreed: shown.agreed.clone(),
        published: shown.publisher.revision(),
        control,
        ready: Arc::clone(&shown.ready),
        reload_error: Arc::clone(&shown.reloads.error),
        token,
        actions: shown.actions.clone(),
        heal: shown.heal.clone(),
    })
}

/// Whether clients are welcome. Not whether this node holds a lease: when the leader is lost, all
/// nodes would leave the balancer at once.
fn readiness(shown: &Shown) -> Judge {
    let (ready, publisher) = (Arc::clone(&shown.ready), Arc::clone(&shown.publisher));
    let cluster = shown.cluster.clone();
    let unfit = move || cluster.as_ref().and_then(|cluster| cluster.unfit.borrow().clone());
    let in_cluster = shown.cluster.is_some();
    Box::new(move || match (ready.load(Ordering::Relaxed), unfit()) {
        (false, _) => Err("draining".to_owned()),
        (true, Some(why)) => Err(why),
        (true, None) if in_cluster && publisher.topology().revision() == Revision(0) => {
            Err("no topology: this node belongs to no cluster yet, or has just joined".to_owned())
        }
        (true, None) => Ok("ready".to_owned()),
    })
}

/// Whether this node may serve what needs agreement.
fn quorum(shown: &Shown) -> Judge {
    let Some(ShownCluster { steward, .. }) = shown.cluster.clone() else {
        // A node that stands alone is its own quorum.
        return Box::new(|| Ok("standalone".to_owned()));
    };
    Box::new(move || {
        let lease = steward.lease();
        match lease.is_held() {
            true => Ok(format!("lease for {} ms", lease.remaining_ms)),
            false => Err(format!(
                "no lease: {}",
                lease.trouble.as_deref().unwrap_or("none was granted yet")
            )),
        }
    })
}

fn gather(shown: &Shown, more_metrics: Gather) -> Gather {
    let publisher = Arc::clone(&shown.publisher);
    let reloads = Arc::clone(&shown.reloads);
    let clients = Arc::clone(&shown.clients);
    let doors = shown.doors.clone();
    let cluster = shown.cluster.clone();
    let heal = shown.heal.clone();
    Box::new(move || {
        let site = publisher.published().load_full();
        let mut families = dispatch::metrics::export(&site.view);
        families.extend(proxy::metrics::export(&site, &clients));
        families.extend(publisher.health_families());
        families.extend(process::export());
        families.extend(reloads.export());
        families.extend(doors.export());
        families.extend(heal.export());
        families.extend(more_metrics());
        if let Some(cluster) = &cluster {
            families.extend(membership::export(cluster, &publisher));
        }
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
