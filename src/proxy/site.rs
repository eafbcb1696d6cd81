//! What does a node serve?
//!
//! Everything that a request reads travels in one [`Site`]: the routes of this node's file, what
//! bounds its clients, and the [`View`] of pools and shards. It is published whole, so that a
//! request never sees new routes with old pools; a request reads it once and carries it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::access_log::LogFormat;
use super::metrics::RouteMetrics;
use crate::dispatch::view::View;
use crate::ids::NodeName;
use crate::limits::{ClientLimits, ClientTimeouts};
use crate::net::http1::scan::HeadLimits;
use crate::route::{RouteIx, RouteTable};

/// What is done with the `X-Forwarded-…` fields that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedRule {
    /// They are replaced by what this node sees: clients are not trusted.
    #[default]
    Replace,
    /// They are kept and the client's address is appended: the client is a proxy of ours.
    Append,
}

/// One node's whole face to its clients.
pub struct Site {
    /// Pools and shards.
    pub view: Arc<View>,
    /// Which request goes to which pool.
    pub routes: RouteTable,
    /// The pool of each route, as a place in [`View::pools`].
    pub route_pools: Vec<usize>,
    /// What is counted of each route.
    pub route_metrics: Vec<Arc<RouteMetrics>>,
    /// What a client may send.
    pub limits: ClientLimits,
    /// How long a client may take.
    pub timeouts: ClientTimeouts,
    /// The same limits in the form that the scanner takes.
    pub head_limits: HeadLimits,
    /// Whether clients' `X-Forwarded-…` are believed.
    pub forwarded: ForwardedRule,
    /// What `Via` says of this node, behind the version that its client speaks; with CRLF.
    pub via: Vec<u8>,
    /// How requests are logged; `None`: not at all.
    pub log: Option<LogFormat>,
}

/// A route that names a pool which is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route `{route}` names the pool `{pool}`, which does not exist")]
pub struct UnknownPool {
    /// The route.
    pub route: String,
    /// The pool that it names.
    pub pool: String,
}

/// What a [`Site`] is made of, beside the view.
pub struct SiteParts {
    /// The routes.
    pub routes: RouteTable,
    /// What a client may send.
    pub limits: ClientLimits,
    /// How long a client may take.
    pub timeouts: ClientTimeouts,
    /// Whether clients' `X-Forwarded-…` are believed.
    pub forwarded: ForwardedRule,
    /// This node's name, for `Via`.
    pub node: NodeName,
    /// How requests are logged.
    pub log: Option<LogFormat>,
}

impl Site {
    /// Puts a site together. The metrics of routes that keep their name are taken from `previous`.
    ///
    /// # Errors
    /// [`UnknownPool`] when a route leads nowhere.
    pub fn build(
        view: Arc<View>,
        parts: SiteParts,
        previous: Option<&Site>,
        workers: usize,
    ) -> Result<Self, UnknownPool> {
        let SiteParts { routes, limits, timeouts, forwarded, node, log } = parts;
        let mut route_pools = Vec::new();
        let mut route_metrics = Vec::new();
        for route in routes.routes() {
            let pool = view.pools.iter().position(|pool| pool.agreed.name == route.pool);
            route_pools.push(pool.ok_or_else(|| UnknownPool {
                route: route.name.to_string(),
                pool: route.pool.to_string(),
            })?);
            let before = previous.and_then(|site| site.metrics_of(route.name.as_str()));
            route_metrics.push(before.unwrap_or_else(|| Arc::new(RouteMetrics::new(workers))));
        }
        let head_limits = HeadLimits {
            head_bytes_max: limits.head_bytes_max,
            line_bytes_max: limits.line_bytes_max,
            fields_max: limits.fields_max,
        };
        let via = format!("{node} (ringway)\r\n").into_bytes();
        Ok(Self {
            view,
            routes,
            route_pools,
            route_metrics,
            limits,
            timeouts,
            head_limits,
            forwarded,
            via,
            log,
        })
    }

    fn metrics_of(&self, route: &str) -> Option<Arc<RouteMetrics>> {
        let place = self.routes.routes().iter().position(|known| known.name.as_str() == route)?;
        Some(Arc::clone(&self.route_metrics[place]))
    }

    /// The name of a route.
    #[must_use]
    pub fn route_name(&self, route: RouteIx) -> &str {
        self.routes.route(route).name.as_str()
    }
}

/// The place where a node's present [`Site`] is published.
pub type Published = Arc<ArcSwap<Site>>;

/// One worker's copy of the published site. Taking it touches no counter that other threads
/// write.
pub struct SiteReader {
    published: Published,
    #[allow(clippy::redundant_allocation, reason = "the outer count belongs to this thread")]
    current: RefCell<Rc<Arc<Site>>>,
}

impl SiteReader {
    /// Reads from `published`.
    #[must_use]
    pub fn new(published: Published) -> Self {
        let current = RefCell::new(Rc::new(published.load_full()));
        Self { published, current }
    }

    /// The site as it is published now.
    #[must_use]
    #[allow(clippy::redundant_allocation, reason = "as above")]
    pub fn read(&self) -> Rc<Arc<Site>> {
        let published = self.published.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(&published, &current) {
            *current = Rc::new(Arc::clone(&published));
        }
        Rc::clone(&current)
    }
}
