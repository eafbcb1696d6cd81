//! How are this node's replicas healed?
//!
//! The log of hints is opened with the node's folder, since workers leave hints from the first
//! request on; the healing thread begins when it is known who agrees on what.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::error::AppError;
use super::publisher::Publisher;
use super::store::unix_ms;
use crate::background::heal::{HealParts, Healer, KeptPool, Orders, Served};
use crate::cluster::ClusterState;
use crate::cluster::lease::WorkerLease;
use crate::config::Config;
use crate::control::clock::boottime_ms;
use crate::control::wishes::Wishes;
use crate::disk::hints::{HintLog, HintSink};
use crate::ids::{ClusterId, Generation};
use crate::limits::KeptSettings;

/// The log of hints, and later the thread that replays them.
pub struct Healing {
    healer: Option<Healer>,
    hints: HintLog,
}

impl Healing {
    /// Opens the log of hints in the node's folder, which is ours.
    ///
    /// # Errors
    /// When it can be neither read nor written.
    pub fn open(config: &Config) -> Result<Self, AppError> {
        let pools = config.pools.iter().filter(|pool| pool.spec.kept.is_some());
        let wished = pools.map(|pool| pool.kept.hints_max).max();
        let hints_max = wished.unwrap_or(KeptSettings::default().hints_max);
        let hints_max = usize::try_from(hints_max).unwrap_or(usize::MAX);
        let hints = HintLog::open(&config.node.data_dir, hints_max)?;
        Ok(Self { healer: None, hints })
    }

    /// Where workers leave hints.
    #[must_use]
    pub fn sink(&self) -> HintSink {
        self.hints.sink()
    }

    /// Begins to heal. Gives where operators ask.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn begin(
        &mut self,
        config: &Config,
        publisher: &Arc<Publisher>,
        wishes: Wishes,
        agreed: watch::Receiver<Arc<ClusterState>>,
        own: WorkerLease,
        origin: Instant,
    ) -> Result<Orders, AppError> {
        let publisher = Arc::clone(publisher);
        #[allow(clippy::disallowed_methods, reason = "seeds are drawn here, and handed down")]
        let seed = fastrand::u64(..);
        let healer = Healer::start(HealParts {
            served: Box::new(move || {
                // Not held for longer: whoever agrees on something waits for it.
                let state = Arc::clone(&agreed.borrow());
                served(&publisher, &state, &own)
            }),
            wishes,
            hints: self.sink(),
            folder: config.node.data_dir.clone(),
            unix_ms,
            origin,
            seed,
        });
        let healer = healer.map_err(AppError::system("cannot start the healing thread"))?;
        let orders = healer.orders();
        self.healer = Some(healer);
        Ok(orders)
    }

    /// Ends the thread; then every hint that was left is on the disk.
    pub async fn stop(self) {
        if let Some(healer) = self.healer {
            healer.stop().await;
        }
        // It waits for the disk.
        let closed = tokio::task::spawn_blocking(move || drop(self.hints));
        let _: Result<(), tokio::task::JoinError> = closed.await;
    }
}

fn served(publisher: &Publisher, agreed: &ClusterState, own: &WorkerLease) -> Served {
    let site = publisher.published().load_full();
    let topology = &site.view.topology;
    let speaks_as = topology.speaks_as();
    let nodes = agreed.nodes();
    let place = own.holder().and_then(|(own, _)| nodes.keys().position(|node| *node == own));
    let kept = site.view.pools.iter().filter(|pool| pool.agreed.spec.kept.is_some());
    Served {
        cluster: speaks_as.map_or(ClusterId([0; 16]), |own| own.id),
        generation: speaks_as.map_or(Generation(0), |own| own.generation),
        alone: topology.identity().is_none(),
        // A lease is given to who has applied what the leader knows.
        is_current: own.reads_at_one(boottime_ms()),
        // A node that is not among them yet takes no turns but the first.
        place: (place.unwrap_or(0), nodes.len().max(1)),
        pools: kept
            .map(|pool| KeptPool {
                agreed: Arc::clone(&pool.agreed),
                settings: pool.settings.kept.clone(),
                tls: Arc::clone(&pool.settings.tls),
                connect: pool.settings.timeouts.connect,
                has_lease: own.hold(boottime_ms(), &pool.agreed.name, pool.agreed.epoch).is_ok(),
            })
            .collect(),
    }
}
