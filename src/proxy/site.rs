//! What does a node serve?
//!
//! Everything that a request reads travels in one [`Site`]: the routes of this node's file, what
//! bounds its clients, and the [`View`] of pools and shards. It is published whole, so that a
//! request never sees new routes with old pools; a request reads it once and carries it.
//!
//! The routes are this node's own, the pools are agreed, so a route may name a pool that is not
//! there: before a cluster is founded or joined, or after a pool was removed. Such a request is
//! answered 503 and never 404, which a cache's client would take for "not stored".

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::access_log::LogFormat;
use super::metrics::RouteMetrics;
use super::rate_limit::{Limit, Rates};
use crate::dispatch::view::{Pool, View};
use crate::ids::NodeName;
use crate::limits::{ClientLimits, ClientTimeouts};
use crate::net::http1::scan::HeadLimits;
use crate::route::{RouteIx, RouteSpec, RouteTable};

/// What is done with the `X-Forwarded-…` fields that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedRule {
    /// They are replaced by what this node sees: clients are not trusted.
    #[default]
    Replace,
    /// They are kept and the client's address is appended: the client is a proxy of ours.
    Append,
}

/// In which fields a shard is told who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedFields {
    /// `X-Forwarded-For`, `-Host` and `-Proto`, which most servers understand.
    #[default]
    X,
    /// `Forwarded` (RFC 7239).
    Standard,
    /// All of them.
    Both,
}

impl ForwardedFields {
    pub(super) fn x(self) -> bool {
        self != Self::Standard
    }

    pub(super) fn standard(self) -> bool {
        self != Self::X
    }
}

/// One node's whole face to its clients.
pub struct Site {
    /// Pools and shards.
    pub view: Arc<View>,
    /// Which request goes to which pool.
    pub routes: Arc<RouteTable>,
    /// The pool of each route, as a place in [`View::pools`]; `None` if it is not among them.
    route_pools: Vec<Option<usize>>,
    /// What is counted of each route.
    pub route_metrics: Arc<[Arc<RouteMetrics>]>,
    /// What clients have asked of routes with a limit; `None` if no route has one.
    pub rates: Option<Arc<Rates>>,
    /// The limit of each route.
    route_limits: Arc<[Option<Limit>]>,
    /// What a client may send.
    pub limits: ClientLimits,
    /// How long a client may take.
    pub timeouts: ClientTimeouts,
    /// The same limits in the form that the scanner takes.
    pub head_limits: HeadLimits,
    /// Whether clients' `X-Forwarded-…` are believed.
    pub forwarded: ForwardedRule,
    /// In which fields a shard is told who asked.
    pub forwarded_fields: ForwardedFields,
    /// What `Forwarded` says of this node: a parameter with its semicolon, and CRLF.
    pub forwarded_by: Vec<u8>,
    /// What `Via` says of this node, behind the version that its client speaks; with CRLF.
    pub via: Vec<u8>,
    /// Of the requests that bring no trace along, how many are recorded, where requests are traced.
    pub trace_percent: u8,
    /// How requests are logged; `None`: not at all.
    pub log: Option<LogFormat>,
}

/// A route that would look for objects where they are not: all routes into a pool that keeps data
/// take the key from the same bytes, and which these are is agreed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "route `{route}` takes the key by the rule `{own}`, but it is agreed that in the pool `{pool}` \
     the rule is `{agreed}`: give the route that `key` (and `hash_tag`) in this node's file"
)]
pub struct OtherKey {
    /// The route.
    pub route: String,
    /// The pool.
    pub pool: String,
    /// The route's rule.
    pub own: String,
    /// The pool's.
    pub agreed: String,
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
    pub routes: Arc<RouteTable>,
    /// Where the requests of clients are counted, if a route has a limit.
    pub rates: Option<Arc<Rates>>,
    /// What a client may send.
    pub limits: ClientLimits,
    /// How long a client may take.
    pub timeouts: ClientTimeouts,
    /// Whether clients' `X-Forwarded-…` are believed.
    pub forwarded: ForwardedRule,
    /// In which fields a shard is told who asked.
    pub forwarded_fields: ForwardedFields,
    /// This node's name, for `Via` and `Forwarded`.
    pub node: NodeName,
    /// Of the requests that bring no trace along, how many are recorded, where requests are traced.
    pub trace_percent: u8,
    /// How requests are logged.
    pub log: Option<LogFormat>,
}

impl Site {
    /// Puts a site together. The metrics of routes that keep their name are taken from `previous`.
    #[must_use]
    pub fn build(
        view: Arc<View>,
        parts: SiteParts,
        previous: Option<&Site>,
        workers: usize,
    ) -> Self {
        let SiteParts {
            routes,
            rates,
            limits,
            timeouts,
            forwarded,
            forwarded_fields,
            node,
            trace_percent,
            log,
        } = parts;
        let route_metrics = match previous {
            Some(site) if Arc::ptr_eq(&site.routes, &routes) => Arc::clone(&site.route_metrics),
            _ => {
                let metrics = routes.routes().iter().map(|route| {
                    let before = previous.and_then(|site| site.metrics_of(route.name.as_str()));
                    before.unwrap_or_else(|| Arc::new(RouteMetrics::new(workers)))
                });
                metrics.collect()
            }
        };
        let head_limits = HeadLimits {
            head_bytes_max: limits.head_bytes_max,
            line_bytes_max: limits.line_bytes_max,
            fields_max: limits.fields_max,
        };
        let via = format!("{node} (ringway)\r\n").into_bytes();
        // A name is made of the characters that an obfuscated identifier may have.
        let forwarded_by = format!(";by=_{node}\r\n").into_bytes();
        let limit = |route: &RouteSpec| Some(rates.as_ref()?.limit(&route.name, route.rate_limit?));
        let route_limits = routes.routes().iter().map(limit).collect();
        let route_pools = places(&routes, &view);
        Self {
            view,
            routes,
            route_pools,
            route_metrics,
            rates,
            route_limits,
            limits,
            timeouts,
            head_limits,
            forwarded,
            forwarded_fields,
            forwarded_by,
            via,
            trace_percent,
            log,
        }
    }

    /// This site over another view: what a change of the agreed state alone does to it. Cheap, as
    /// there may be dozens of such changes a second; no route is compiled or compared.
    #[must_use]
    pub fn over(&self, view: Arc<View>) -> Self {
        Self {
            route_pools: places(&self.routes, &view),
            view,
            routes: Arc::clone(&self.routes),
            route_metrics: Arc::clone(&self.route_metrics),
            rates: self.rates.clone(),
            route_limits: Arc::clone(&self.route_limits),
            limits: self.limits.clone(),
            timeouts: self.timeouts.clone(),
            head_limits: self.head_limits,
            forwarded: self.forwarded,
            forwarded_fields: self.forwarded_fields,
            forwarded_by: self.forwarded_by.clone(),
            via: self.via.clone(),
            trace_percent: self.trace_percent,
            log: self.log,
        }
    }

    /// The pool of a route; `None` if what is agreed has no pool of that name, or one with another
    /// rule for keys, or nothing is agreed yet.
    #[must_use]
    pub fn pool_of(&self, route: RouteIx) -> Option<&Arc<Pool>> {
        let place = self.route_pools[usize::from(route.0)]?;
        Some(&self.view.pools[place])
    }

    /// Where a route's requests are counted, and what it takes of one client.
    pub(super) fn limit_of(&self, route: RouteIx) -> Option<(&Rates, &Limit)> {
        let rates = self.rates.as_ref()?;
        Some((rates, self.route_limits[usize::from(route.0)].as_ref()?))
    }

    /// The routes whose pool is not there: requests by them are answered 503.
    pub fn unknown_pools(&self) -> impl Iterator<Item = UnknownPool> {
        let routes = self.routes.routes().iter().zip(&self.route_pools);
        let unknown = routes
            .filter(|(route, place)| place.is_none() && self.view.place_of(&route.pool).is_none());
        unknown.map(|(route, _)| UnknownPool {
            route: route.name.to_string(),
            pool: route.pool.to_string(),
        })
    }

    /// The routes whose rule for keys is not their pool's: requests by them are answered 503.
    pub fn other_keys(&self) -> impl Iterator<Item = OtherKey> {
        self.routes.routes().iter().filter_map(|route| other_key(route, &self.view))
    }

    /// How a route's rule for keys differs from its pool's, if it does.
    #[must_use]
    pub fn other_key_of(&self, route: RouteIx) -> Option<OtherKey> {
        other_key(self.routes.route(route), &self.view)
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

/// The place of each route's pool in the view.
fn places(routes: &RouteTable, view: &View) -> Vec<Option<usize>> {
    let place = |route: &RouteSpec| match other_key(route, view) {
        Some(_) => None,
        None => view.place_of(&route.pool),
    };
    routes.routes().iter().map(place).collect()
}

fn other_key(route: &RouteSpec, view: &View) -> Option<OtherKey> {
    let agreed = &view.pools[view.place_of(&route.pool)?].agreed.spec.kept.as_ref()?.key;
    let own = route.key.canonical(route.hash_tag);
    (own != *agreed).then(|| OtherKey {
        route: route.name.to_string(),
        pool: route.pool.to_string(),
        own,
        agreed: agreed.clone(),
    })
}

/// The place where a node's present [`Site`] is published.
pub type Published = Arc<ArcSwap<Site>>;

/// One worker's copy of the published site. Taking it touches no counter that other threads
/// write, and no locked instruction: while nothing new is published it is a comparison.
pub struct SiteReader {
    cache: RefCell<Cache<Published, Arc<Site>>>,
    #[allow(clippy::redundant_allocation, reason = "the outer count belongs to this thread")]
    current: RefCell<Rc<Arc<Site>>>,
}

impl SiteReader {
    /// Reads from `published`.
    #[must_use]
    pub fn new(published: Published) -> Self {
        let current = RefCell::new(Rc::new(published.load_full()));
        Self { cache: RefCell::new(Cache::new(published)), current }
    }

    /// The site as it is published now.
    #[must_use]
    #[allow(clippy::redundant_allocation, reason = "as above")]
    pub fn read(&self) -> Rc<Arc<Site>> {
        let mut cache = self.cache.borrow_mut();
        let published = cache.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(published, &current) {
            *current = Rc::new(Arc::clone(published));
        }
        Rc::clone(&current)
    }
}
