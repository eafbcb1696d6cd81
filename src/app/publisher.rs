//! How does what is agreed become what requests read?
//!
//! ```text
//! topology + file ─▶ site ─▶ published ─▶ workers
//!                     └─▶ probers
//! ```
//!
//! A topology comes from two sides: from a reload of the file, and, in a cluster, from the agreed
//! state, at any time. Both meet in [`Publisher`], which makes one site of the newest of each and
//! publishes it whole.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::assemble;
use super::error::AppError;
use crate::background::probe::Probers;
use crate::cluster::{ClusterState, Topology};
use crate::config::Config;
use crate::ids::{NodeName, Revision};
use crate::proxy::site::{Published, Site};

/// Publishes sites, one at a time.
pub struct Publisher {
    name: NodeName,
    workers: usize,
    published: Published,
    probers: Mutex<Probers>,
    /// The file in force; to read it waits for nobody.
    config: ArcSwap<Config>,
    /// Held from the making of a site to its publishing, so that none is published over a newer
    /// one. Rings may be built meanwhile: nothing that must be quick takes it.
    turn: Mutex<()>,
    revision: watch::Sender<Revision>,
}

/// A site that can be published and is not yet. While it lives, nobody else publishes.
pub struct Candidate<'a> {
    publisher: &'a Publisher,
    site: Site,
    config: Config,
    _turn: MutexGuard<'a, ()>,
}

impl Publisher {
    /// Makes the first site and publishes it.
    ///
    /// # Errors
    /// When the routes make no table, or one leads nowhere.
    pub fn start(
        config: Config,
        name: NodeName,
        topology: &Arc<Topology>,
        control: &Handle,
        origin: Instant,
    ) -> Result<Self, AppError> {
        let workers = assemble::workers(&config);
        let site = assemble::site(&config, &name, topology, None, workers)?;
        #[allow(clippy::disallowed_methods, reason = "seeds are drawn here, and handed down")]
        let seed = fastrand::u64(..);
        let publisher = Self {
            name,
            workers,
            published: Arc::new(ArcSwap::from_pointee(site)),
            probers: Mutex::new(Probers::new(control.clone(), origin, seed)),
            config: ArcSwap::from_pointee(config),
            turn: Mutex::new(()),
            revision: watch::Sender::new(topology.revision()),
        };
        publisher.follow_health();
        Ok(publisher)
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// How many threads serve requests.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Where workers read.
    #[must_use]
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// The revision that requests see, as it moves.
    #[must_use]
    pub fn revision(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// What is known of the shards' health, for a scrape.
    #[must_use]
    pub fn health_families(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.probers.lock().unwrap_or_else(PoisonError::into_inner).export()
    }

    /// Makes a site of another file, to be published or dropped. `None` keeps the topology.
    ///
    /// # Errors
    /// When the routes make no table, or one leads nowhere; nothing has changed.
    pub fn candidate(
        &self,
        config: Config,
        topology: Option<&Arc<Topology>>,
    ) -> Result<Candidate<'_>, AppError> {
        let turn = self.take_turn();
        let previous = self.published.load_full();
        let topology = topology.unwrap_or(&previous.view.topology);
        let site = assemble::site(&config, &self.name, topology, Some(&previous), self.workers)?;
        Ok(Candidate { publisher: self, site, config, _turn: turn })
    }

    /// What requests read of what is agreed.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.published.load().view.topology)
    }

    /// Publishes what is agreed, with the file in force.
    pub fn follow(&self, state: &ClusterState) {
        let _turn = self.take_turn();
        let config = self.config();
        let previous = self.published.load_full();
        let before = &previous.view.topology;
        if before.revision() == state.revision() {
            return;
        }
        let topology = match Topology::build(state, Some(before)) {
            Ok(topology) => Arc::new(topology),
            Err(error) => {
                // `apply` lets no state become agreed that has no rings.
                tracing::error!(%error, "what is agreed cannot be served; the old rings stay");
                return;
            }
        };
        let site = assemble::republished(&config, &topology, &previous, self.workers);
        self.publish(site);
    }

    fn publish(&self, site: Site) {
        let revision = site.view.topology.revision();
        self.published.store(Arc::new(site));
        self.follow_health();
        self.revision.send_replace(revision);
    }

    fn follow_health(&self) {
        let site = self.published.load_full();
        let pools = &site.view.pools;
        let pools = pools.iter().map(|pool| (&pool.agreed.name, &pool.health, &pool.settings.tls));
        self.probers.lock().unwrap_or_else(PoisonError::into_inner).follow(pools);
    }

    fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Candidate<'_> {
    /// From here on every request reads it.
    pub fn publish(self) {
        self.publisher.config.store(Arc::new(self.config));
        self.publisher.publish(self.site);
    }
}
