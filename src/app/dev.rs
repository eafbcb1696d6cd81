//! `ringway dev`: a proxy and its shards in one process, to try things.
//!
//! Nothing here is a mock: the stores are those of `ringway store`, on sockets of their own and
//! in folders of their own, and the proxy is configured by a file that it writes and reads like
//! any other. So what is tried here is what runs elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::client::Client;
use super::error::AppError;
use super::node::{CONTROL_SHUTDOWN, Node, NodeParts, raise_descriptor_limit};
use super::say::{complain, say};
use super::serve::{ACTIONS_MAX, announce, control_runtime, start_log_at};
use super::signals::{Signals, Told};
use super::store::unix_ms;
use crate::admin::api::{Action, ActionRequest};
use crate::config;
use crate::store::{Metrics, Store, StoreOptions, serve};

/// What the operator said.
pub struct DevArguments {
    /// Where the data lives.
    pub data: PathBuf,
    /// Forget everything at the end.
    pub temp: bool,
    /// How many shards.
    pub shards: u16,
    /// The data port; another free one is taken if it is in use and was not asked for.
    pub port: Option<u16>,
}

/// The folder of `dev` when none is named.
pub const DEV_FOLDER: &str = "./ringway-dev";

/// The ports that are tried first: data, telemetry, admin.
const PORTS: [u16; 3] = [8080, 9600, 9601];

/// Runs until told to stop.
///
/// # Errors
/// When folder or ports cannot be had.
pub fn run(arguments: &DevArguments) -> Result<(), AppError> {
    start_log_at("warn", false);
    raise_descriptor_limit();
    let control = control_runtime()?;
    // Before the folder is made: who is told to end meanwhile removes it as well.
    let signals = {
        let _entered = control.enter();
        Signals::listen().map_err(AppError::system("cannot listen for signals"))?
    };
    let forgotten = match arguments.temp {
        true => Some(TemporaryFolder::make()?),
        false => None,
    };
    let folder = forgotten.as_ref().map_or(&arguments.data, |folder| &folder.0);
    let stores_runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("stores")
        .enable_all()
        .build()
        .map_err(AppError::system("cannot start the stores' runtime"))?;
    let mut shards = Shards::open(folder, arguments.shards, &stores_runtime)?;
    let file = folder.join("ringway.yaml");
    let text = configuration(folder, &shards, ports(arguments.port));
    std::fs::write(&file, &text).map_err(AppError::system(file.display().to_string()))?;
    let config = config::parse(&text, &file.display().to_string())?.config;

    let (actions, requests) = mpsc::channel(ACTIONS_MAX);
    let registry = shards.registry.clone();
    let parts = NodeParts {
        control: control.handle().clone(),
        actions,
        more_metrics: Box::new(move || registry.gather()),
    };
    let (node, _) = Node::start(&config, parts)?;
    announce(&node.addresses, &mut std::io::stdout());
    // Whoever started us may not be listening.
    drop(say(&hints(folder, arguments, &shards, node.addresses.data[0])));
    control.block_on(attend(node, &mut shards, signals, requests));
    stores_runtime.block_on(shards.close());
    control.shutdown_timeout(CONTROL_SHUTDOWN);
    stores_runtime.shutdown_timeout(CONTROL_SHUTDOWN);
    Ok(())
}

async fn attend(
    node: Node,
    shards: &mut Shards,
    mut signals: Signals,
    mut requests: mpsc::Receiver<ActionRequest>,
) {
    loop {
        tokio::select! {
            biased;
            told = signals.next() => match told {
                // SIGHUP: the terminal has been closed, and there is no log to open anew.
                Told::Stop | Told::Reload => break,
            },
            Some((action, answer)) = requests.recv() => {
                let done = match action {
                    Action::Reload => Err("`ringway dev` writes its own file: stop it and use \
                                           `ringway serve -c` with a copy of that".to_owned()),
                    Action::StopShard(id) => shards.stop(&id).await,
                    Action::StartShard(id) => shards.start(&id).await,
                };
                // Whoever asked may have gone.
                drop(answer.send(done));
            }
        }
    }
    drop(say("draining; once more to end at once"));
    node.stop(async move { while signals.next().await != Told::Stop {} }).await;
}

/// One embedded store.
struct Shard {
    options: StoreOptions,
    address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// The embedded stores.
struct Shards {
    shards: BTreeMap<String, Shard>,
    registry: Registry,
    runtime: tokio::runtime::Handle,
}

impl Shards {
    fn open(folder: &Path, count: u16, runtime: &Runtime) -> Result<Self, AppError> {
        let registry = Registry::new();
        let mut shards = BTreeMap::new();
        for number in 1..=count.max(1) {
            let id = format!("s{number}");
            let metrics = Metrics::register(&registry, &id).expect("each shard has its own label");
            let options = StoreOptions::new(folder.join(&id), metrics, unix_ms);
            let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
            let mut shard = Shard { options, address: any, running: None };
            runtime.block_on(shard.start(runtime.handle()))?;
            shards.insert(id, shard);
        }
        Ok(Self { shards, registry, runtime: runtime.handle().clone() })
    }

    fn shard(&mut self, id: &str) -> Result<&mut Shard, String> {
        let known = self.shards.keys().cloned().collect::<Vec<_>>().join(", ");
        self.shards
            .get_mut(id)
            .ok_or_else(|| format!("there is no shard `{id}`; there are {known}"))
    }

    async fn stop(&mut self, id: &str) -> Result<String, String> {
        match self.shard(id)?.running.take() {
            None => Err(format!("shard `{id}` is stopped already")),
            Some(running) => {
                running.end().await;
                Ok(format!("shard `{id}` is stopped; start it with `ringway dev start {id}`"))
            }
        }
    }

    async fn start(&mut self, id: &str) -> Result<String, String> {
        let runtime = self.runtime.clone();
        let shard = self.shard(id)?;
        if shard.running.is_some() {
            return Err(format!("shard `{id}` is running already"));
        }
        shard.start(&runtime).await.map_err(|error| error.to_string())?;
        Ok(format!("shard `{id}` is running"))
    }

    async fn close(self) {
        for shard in self.shards.into_values() {
            if let Some(running) = shard.running {
                running.end().await;
            }
        }
    }
}

impl Shard {
    /// Opens the folder and serves it, on the same port as before if it was served before.
    async fn start(&mut self, runtime: &tokio::runtime::Handle) -> Result<(), AppError> {
        let options = self.options.clone();
        let opening = runtime.spawn_blocking(move || Store::open(options));
        let store = Arc::new(opening.await.expect("opening a store does not panic")?);
        let address = self.address;
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) =
            bound.await.map_err(|error| AppError::Listen { address, what: "store", error })?;
        self.address = address;
        let (stop, stopped) = oneshot::channel();
        let task = runtime.spawn(async move {
            // A sender that is gone says the same as one that spoke.
            let stopped = async { drop(stopped.await) };
            serve(listener, Arc::clone(&store), stopped).await;
            store.close().await;
        });
        self.running = Some(Running { stop, task });
        Ok(())
    }
}

impl Running {
    async fn end(self) {
        // A task that ended by itself has dropped its receiver.
        let _: Result<(), ()> = self.stop.send(());
        if self.task.await.is_err() {
            tracing::error!("a store's task panicked");
        }
    }
}

/// A folder below the system's temporary one, removed at the end.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn make() -> Result<Self, AppError> {
        #[allow(clippy::disallowed_methods, reason = "a name that no other process takes")]
        let name = format!("ringway-dev-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).map_err(AppError::system(folder.display().to_string()))?;
        Ok(Self(folder))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            complain(&format!("ringway: {} could not be removed: {error}", self.0.display()));
        }
    }
}

/// The ports to listen on: the usual ones where they are free.
fn ports(asked: Option<u16>) -> [u16; 3] {
    let free = |port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut ports = PORTS.map(|port| if free(port) { port } else { 0 });
    if let Some(port) = asked {
        ports[0] = port;
    }
    ports
}

/// The file that a user would write for these shards.
fn configuration(folder: &Path, shards: &Shards, [data, telemetry, admin]: [u16; 3]) -> String {
    let node = folder.join("node");
    let mut text = format!(
        "# Written by `ringway dev` at each start. Copy it to begin a file of your own.\n\
         node:\n  name: dev\n  data_dir: {}\n\
         listen:\n  data: 127.0.0.1:{data}\n  telemetry: 127.0.0.1:{telemetry}\n  admin: 127.0.0.1:{admin}\n\
         log: {{ level: warn }}\ndrain_delay: 0s\n\
         pools:\n",
        serde_json::Value::String(node.display().to_string())
    );
    let pools = [
        ("objects", "false", "objects may change: a write goes to the owner of its key or nowhere"),
        (
            "blobs",
            "true",
            "objects never change (content-addressed): writes may go to the next shard",
        ),
    ];
    for (pool, immutable, comment) in pools {
        write!(
            text,
            "  # {comment}\n  - name: {pool}\n    kind: cache\n    immutable: {immutable}\n    \
             health:\n      active: {{ path: /_ringway/health, interval: 1s }}\n    shards:\n"
        )
        .expect("a string takes all");
        for (id, shard) in &shards.shards {
            writeln!(text, "      - {{ id: {id}, url: \"http://{}\" }}", shard.address)
                .expect("a string takes all");
        }
    }
    text.push_str(
        "routes:\n  - name: blobs\n    match: { path_prefix: /blobs }\n    pool: blobs\n  \
         - name: objects\n    pool: objects\n",
    );
    text
}

/// What to try, as lines for a shell.
fn hints(folder: &Path, arguments: &DevArguments, shards: &Shards, data: SocketAddr) -> String {
    let mut text = String::from("shards\n");
    for (id, shard) in &shards.shards {
        writeln!(text, "  {id:<9}  http://{}", shard.address).expect("a string takes all");
    }
    let (shown, program) = (folder.display(), program());
    let with_data = match arguments.temp || arguments.data != Path::new(DEV_FOLDER) {
        true => format!(" --data {shown}"),
        false => String::new(),
    };
    let with_status = match with_data.is_empty() {
        true => String::new(),
        false => format!(" --data-dir {shown}/node"),
    };
    let lines = [
        (
            format!("curl -i -X PUT -d hello http://{data}/hello"),
            "stored on the shard that owns /hello",
        ),
        (format!("curl -i http://{data}/hello"), "Ringway-Shard says which one answered"),
        (format!("{program} locate -c {shown}/ringway.yaml /hello"), "and why"),
        (format!("{program} dev stop s2{with_data}"), "a shard goes away ..."),
        (format!("{program} status{with_status}"), "... and is seen to be down"),
        (format!("{program} dev start s2{with_data}"), ""),
    ];
    text.push_str("\ntry, in another terminal:\n");
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, comment) in &lines {
        let line = match comment.is_empty() {
            true => format!("  {command}"),
            false => format!("  {command:<width$}  # {comment}"),
        };
        writeln!(text, "{line}").expect("a string takes all");
    }
    let kept = match arguments.temp {
        true => "everything is forgotten then".to_owned(),
        false => format!("what was stored stays in {shown}"),
    };
    writeln!(text, "Ctrl-C ends it; {kept}.").expect("a string takes all");
    text
}

/// This program, as whoever started it can name it: `cargo run` starts one that is on no path.
fn program() -> String {
    std::env::args()
        .next()
        .filter(|name| name.contains('/'))
        .unwrap_or_else(|| "ringway".to_owned())
}

/// `ringway dev stop ID` and `… start ID`: asks the running process.
///
/// # Errors
/// When none runs there, or it refuses.
pub fn switch(data: &Path, id: &str, start: bool) -> Result<(), AppError> {
    let node = data.join("node");
    let verb = if start { "start" } else { "stop" };
    let path = format!("/v1/dev/shards/{id}/{verb}");
    let done = Client::of(None, &node)?.act("POST", &path)?;
    say(done["done"].as_str().unwrap_or("done"))
}
