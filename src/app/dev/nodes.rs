//! The nodes of `ringway dev`: one that stands alone, or several that agree.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::Registry;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::file::{Place, configuration, ports};
use super::stores::Shards;
use crate::admin::api::ActionRequest;
use crate::app::error::AppError;
use crate::app::node::{Node, NodeParts};
use crate::app::say::complain;
use crate::config::{self, Config};

/// How long a start waits for the nodes to agree. On an idle machine that takes a second.
const LEASE_PATIENCE: Duration = Duration::from_secs(20);

/// Every node, running or not.
pub struct Nodes {
    nodes: BTreeMap<String, DevNode>,
    control: Handle,
    actions: mpsc::Sender<ActionRequest>,
    stores: Registry,
}

struct DevNode {
    config: Config,
    running: Option<Node>,
}

impl Nodes {
    /// Writes a file for each place.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn prepare(
        places: &[Place],
        asked: Option<u16>,
        shards: &Shards,
        control: Handle,
        actions: mpsc::Sender<ActionRequest>,
    ) -> Result<Self, AppError> {
        let alone = places.len() == 1;
        let mut first_peer = None;
        let mut nodes = BTreeMap::new();
        for (index, place) in (0..).zip(places) {
            let ports = ports(place, index, alone, asked)?;
            first_peer = first_peer.or(ports.peer());
            let text = configuration(place, shards, ports, first_peer);
            std::fs::write(&place.file, &text)
                .map_err(AppError::system(place.file.display().to_string()))?;
            let config = config::parse(&text, &place.file.display().to_string())?.config;
            nodes.insert(place.name.clone(), DevNode { config, running: None });
        }
        Ok(Self { nodes, control, actions, stores: shards.registry.clone() })
    }

    /// Starts every node, the first one first.
    ///
    /// # Errors
    /// When one cannot start.
    pub async fn start_all(&mut self) -> Result<(), AppError> {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        let several = names.len() > 1;
        for (index, name) in names.iter().enumerate() {
            self.start_node(name).await?;
            // Before the others ask to be taken in.
            if several && index == 0 {
                let node = &self.nodes[name];
                let membership = node.running.as_ref().and_then(Node::membership);
                membership.expect("one of several").found_if_unborn(&node.config).await?;
            }
        }
        for (name, node) in self.running() {
            let Some(membership) = node.membership() else { continue };
            if !membership.until_leased(LEASE_PATIENCE).await {
                complain(&format!("ringway: node `{name}` has no lease yet; it goes on trying"));
            }
        }
        for (name, node) in self.running() {
            if !node.until_bound(LEASE_PATIENCE).await {
                let what = "knows no store of some shards yet";
                complain(&format!("ringway: node `{name}` {what}; it goes on trying"));
            }
        }
        Ok(())
    }

    async fn start_node(&mut self, name: &str) -> Result<(), AppError> {
        let stores = self.stores.clone();
        let parts = NodeParts {
            control: self.control.clone(),
            actions: self.actions.clone(),
            more_metrics: Box::new(move || stores.gather()),
        };
        let Some(node) = self.nodes.get_mut(name) else { return Ok(()) };
        let (running, _) = Node::start(&node.config, parts).await?;
        node.running = Some(running);
        Ok(())
    }

    /// Whether one has this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// Those that run, by name.
    pub fn running(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().filter_map(|(name, node)| Some((name.as_str(), node.running.as_ref()?)))
    }

    /// Takes a node out, to be ended by the caller.
    ///
    /// # Errors
    /// A sentence, when it is not running or is the last.
    pub fn take(&mut self, name: &str) -> Result<Node, String> {
        if self.running().count() == 1 {
            return Err(format!("`{name}` is the last node: end it with Ctrl-C"));
        }
        let node = self.nodes.get_mut(name).and_then(|node| node.running.take());
        node.ok_or_else(|| format!("node `{name}` is stopped already"))
    }

    /// Begins a node again.
    ///
    /// # Errors
    /// A sentence, when it is running or cannot start.
    pub async fn start(&mut self, name: &str) -> Result<String, String> {
        if self.nodes.get(name).is_some_and(|node| node.running.is_some()) {
            return Err(format!("node `{name}` is running already"));
        }
        self.start_node(name).await.map_err(|error| error.to_string())?;
        Ok(format!("node `{name}` is running"))
    }

    /// Everything that runs, to be ended.
    pub fn take_running(&mut self) -> Vec<Node> {
        self.nodes.values_mut().filter_map(|node| node.running.take()).collect()
    }
}
