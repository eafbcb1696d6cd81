//! `ringway dev`: proxies and their shards in one process, to try things.
//!
//! Nothing here is a mock: the stores are those of `ringway store`, on sockets of their own and
//! in folders of their own, and each node is configured by a file that is written and read like
//! any other. So what is tried here is what runs elsewhere. With `--nodes 3` three nodes agree by
//! Raft, over loopback.

mod file;
mod nodes;
mod stores;

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::client::Client;
use super::error::AppError;
use super::node::{CONTROL_SHUTDOWN, raise_descriptor_limit};
use super::operators::admin_address;
use super::say::{complain, say};
use super::serve::{ACTIONS_MAX, announce, control_runtime, start_log_at};
use super::signals::{Signals, Told};
use crate::admin::api::{Action, ActionRequest};
use file::{Place, hints};
use nodes::Nodes;
use stores::Shards;

/// What the operator said.
pub struct DevArguments {
    /// Where the data lives.
    pub data: PathBuf,
    /// Forget everything at the end.
    pub temp: bool,
    /// How many shards.
    pub shards: u16,
    /// How many nodes; more than one agree by Raft.
    pub nodes: u16,
    /// The data port; another free one is taken if it is in use and was not asked for.
    pub port: Option<u16>,
}

/// The folder of `dev` when none is named.
pub const DEV_FOLDER: &str = "./ringway-dev";

/// Nodes of one process: as many as may vote, and some that observe.
pub const NODES_MAX: u16 = 9;

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
    let shards = Shards::open(folder, arguments.shards, arguments.nodes <= 1, &stores_runtime)?;
    let places = Place::all(folder, arguments.nodes);
    let (actions, requests) = mpsc::channel(ACTIONS_MAX);
    let handle = control.handle().clone();
    let mut nodes = Nodes::prepare(&places, arguments.port, &shards, handle, actions)?;
    control.block_on(nodes.start_all())?;
    for (_, node) in nodes.running() {
        announce(&node.addresses, &mut std::io::stdout());
    }
    let data = nodes.running().map(|(_, node)| node.addresses.data[0].0).next();
    let data = data.expect("all were started");
    // Whoever started us may not be listening.
    drop(say(&hints(folder, arguments, &places, &shards, data)));
    let mut dev = Dev { nodes, shards };
    control.block_on(dev.attend(signals, requests));
    stores_runtime.block_on(dev.shards.close());
    control.shutdown_timeout(CONTROL_SHUTDOWN);
    stores_runtime.shutdown_timeout(CONTROL_SHUTDOWN);
    Ok(())
}

struct Dev {
    nodes: Nodes,
    shards: Shards,
}

impl Dev {
    /// Carries out what operators ask, until told to stop; then ends the nodes.
    async fn attend(&mut self, mut signals: Signals, mut requests: mpsc::Receiver<ActionRequest>) {
        let mut ending: JoinSet<()> = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                told = signals.next() => match told {
                    // SIGHUP: the terminal has been closed, and there is no log to open anew.
                    Told::Stop | Told::Reload => break,
                },
                Some((action, answer)) = requests.recv() => {
                    self.act(action, answer, &mut ending).await;
                }
            }
        }
        drop(say("draining; once more to end at once"));
        let hurry = watch::Sender::new(false);
        for node in self.nodes.take_running() {
            let mut hurried = hurry.subscribe();
            ending.spawn(node.stop(async move {
                // A sender that is gone hurries nobody.
                if hurried.wait_for(|hurried| *hurried).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }));
        }
        loop {
            tokio::select! {
                biased;
                ended = ending.join_next() => if ended.is_none() { break },
                told = signals.next() => if told == Told::Stop { hurry.send_replace(true); },
            }
        }
    }

    async fn act(
        &mut self,
        action: Action,
        answer: oneshot::Sender<Result<String, String>>,
        ending: &mut JoinSet<()>,
    ) {
        let done = match action {
            Action::Reload => Err("`ringway dev` writes its own files: stop it and use `ringway \
                                   serve -c` with a copy of one"
                .to_owned()),
            Action::StopShard(id) if self.nodes.has(&id) => {
                // The node may be the one that is asking: it is answered before it ends.
                self.nodes.take(&id).map(|node| {
                    ending.spawn(node.stop(std::future::pending()));
                    format!("node `{id}` is ending; start it with `ringway dev start {id}`")
                })
            }
            Action::StartShard(id) if self.nodes.has(&id) => {
                // Its folder and ports are free once it has ended.
                while ending.join_next().await.is_some() {}
                self.nodes.start(&id).await
            }
            Action::StopShard(id) => self.shards.stop(&id).await,
            Action::StartShard(id) => self.shards.start(&id).await,
        };
        // Whoever asked may have gone.
        drop(answer.send(done));
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

/// `ringway dev stop ID` and `… start ID`: asks the running process.
///
/// # Errors
/// When none runs there, or it refuses.
pub fn switch(data: &Path, id: &str, start: bool) -> Result<(), AppError> {
    let (node, address) = a_node(data)?;
    let verb = if start { "start" } else { "stop" };
    let path = format!("/v1/dev/shards/{id}/{verb}");
    let done = Client::of(Some(address), &node)?.act("POST", &path)?;
    say(done["done"].as_str().unwrap_or("done"))
}

/// A node that runs below the folder, whichever answers: its folder and its admin address.
///
/// # Errors
/// When none answers, or `ringway dev` has never run there.
pub fn a_node(data: &Path) -> Result<(PathBuf, SocketAddr), AppError> {
    let several = Place::all(data, NODES_MAX).into_iter().map(|place| place.folder);
    let mut found = Err(None);
    for node in [data.join("node")].into_iter().chain(several) {
        match admin_address(&node) {
            Ok(address) if TcpStream::connect(address).is_ok() => return Ok((node, address)),
            Ok(address) => found = Err(Some(address)),
            Err(_) => {}
        }
    }
    found.map_err(|address| match address {
        Some(address) => AppError::Refused(format!("no node answers at {address}: is it running?")),
        None => AppError::Refused(format!(
            "`ringway dev` has not run with the folder {}: name its folder with --data",
            data.display()
        )),
    })
}
