//! The embedded stores of `ringway dev`: those of `ringway store`, in this process.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::file::kept_port;
use crate::app::error::AppError;
use crate::app::store::unix_ms;
use crate::store::{Metrics, Store, StoreOptions, serve};

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
pub struct Shards {
    shards: BTreeMap<String, Shard>,
    /// What they count.
    pub registry: Registry,
    runtime: tokio::runtime::Handle,
}

impl Shards {
    /// Opens `count` stores below `folder` and serves them. Those of a cluster are others than those
    /// of a node that stands alone: what a store keeps belongs to one of them.
    ///
    /// # Errors
    /// When one cannot be opened, or has no port.
    pub fn open(
        folder: &Path,
        count: u16,
        alone: bool,
        runtime: &Runtime,
    ) -> Result<Self, AppError> {
        let folder = &if alone { folder.to_owned() } else { folder.join("cluster") };
        let registry = Registry::new();
        std::fs::create_dir_all(folder).map_err(AppError::system(folder.display().to_string()))?;
        let mut shards = BTreeMap::new();
        for number in 1..=count.max(1) {
            let id = format!("s{number}");
            let metrics = Metrics::register(&registry, &id).expect("each shard has its own label");
            let options = StoreOptions::new(folder.join(&id), metrics, unix_ms);
            // What is agreed remembers where a shard is, from one start to the next.
            let port = kept_port(&folder.join(format!("{id}.port")), 0)?;
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
            let mut shard = Shard { options, address, running: None };
            runtime.block_on(shard.start(runtime.handle()))?;
            shards.insert(id, shard);
        }
        Ok(Self { shards, registry, runtime: runtime.handle().clone() })
    }

    /// Each with its address.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.shards.iter().map(|(id, shard)| (id.as_str(), shard.address))
    }

    fn shard(&mut self, id: &str) -> Result<&mut Shard, String> {
        let known = self.shards.keys().cloned().collect::<Vec<_>>().join(", ");
        self.shards
            .get_mut(id)
            .ok_or_else(|| format!("there is no shard `{id}`; there are {known}"))
    }

    /// Ends one of them.
    ///
    /// # Errors
    /// A sentence, when there is none or it is not running.
    pub async fn stop(&mut self, id: &str) -> Result<String, String> {
        match self.shard(id)?.running.take() {
            None => Err(format!("shard `{id}` is stopped already")),
            Some(running) => {
                running.end().await;
                Ok(format!("shard `{id}` is stopped; start it with `ringway dev start {id}`"))
            }
        }
    }

    /// Begins one of them again, on the same port.
    ///
    /// # Errors
    /// A sentence, when there is none or it is running.
    pub async fn start(&mut self, id: &str) -> Result<String, String> {
        let runtime = self.runtime.clone();
        let shard = self.shard(id)?;
        if shard.running.is_some() {
            return Err(format!("shard `{id}` is running already"));
        }
        shard.start(&runtime).await.map_err(|error| error.to_string())?;
        Ok(format!("shard `{id}` is running"))
    }

    /// Ends all of them.
    pub async fn close(self) {
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
