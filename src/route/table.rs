//! Which route takes a request, and what is its key?

use std::collections::BTreeSet;

use crate::ids::{Digest, PoolName, RouteName};
use crate::key::HashTag;
use crate::limits::RateLimit;

use super::digest::digest;
use super::key_rule::{KeyError, KeyRule};
use super::matcher::RouteMatch;
use super::names::Methods;
use super::request::RequestView;

/// The most routes of a table. They are tried one after the other at about 6 ns each, so that the
/// last of as many costs about what the rest of a small request does.
pub const ROUTES_MAX: usize = 1024;

/// One route: which requests it takes, where it sends them, and where their key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// Labels metrics and log lines; no two routes of a table share it.
    pub name: RouteName,
    /// The requests it takes.
    pub matcher: RouteMatch,
    /// Where it sends them.
    pub pool: PoolName,
    /// Where their key is.
    pub key: KeyRule,
    /// The part of the key that is hashed; without one, all of it.
    pub hash_tag: Option<HashTag>,
    /// The methods that are forwarded; requests that the route takes with another method are
    /// answered 405. (A method that [`RouteMatch::methods`] leaves out goes on to the next route.)
    pub allowed_methods: Methods,
    /// What one client may ask of it; `None`: as much as it likes. Each node counts for itself, so
    /// nodes whose tables differ in this alone have equal digests.
    pub rate_limit: Option<RateLimit>,
}

/// The place of a route in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteIx(pub u16);

/// The routes of one node, in the order in which they are tried. Immutable.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<RouteSpec>,
    digest: Digest,
}

/// Why a list of routes is not a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteTableError {
    /// Two routes would share their metrics.
    #[error("two routes are called `{0}`")]
    DuplicateName(RouteName),
    /// More than [`ROUTES_MAX`].
    #[error("{0} routes are more than {ROUTES_MAX}")]
    TooMany(usize),
}

impl RouteTable {
    /// Makes a table of `routes`, which are tried in the order given.
    ///
    /// # Errors
    /// [`RouteTableError`] when two routes share a name or there are too many.
    pub fn compile(routes: Vec<RouteSpec>) -> Result<Self, RouteTableError> {
        if routes.len() > ROUTES_MAX {
            return Err(RouteTableError::TooMany(routes.len()));
        }
        let mut names = BTreeSet::new();
        if let Some(twin) = routes.iter().find(|route| !names.insert(&route.name)) {
            return Err(RouteTableError::DuplicateName(twin.name.clone()));
        }
        let digest = digest(&routes);
        Ok(Self { routes, digest })
    }

    /// The first route that takes `request`.
    #[must_use]
    pub fn find(&self, request: &RequestView<'_>) -> Option<RouteIx> {
        let place = self.routes.iter().position(|route| route.matcher.matches(request))?;
        Some(RouteIx(u16::try_from(place).expect("a table has at most ROUTES_MAX routes")))
    }

    /// The route at `ix`.
    ///
    /// # Panics
    /// When `ix` is of a table with more routes.
    #[must_use]
    pub fn route(&self, ix: RouteIx) -> &RouteSpec {
        &self.routes[usize::from(ix.0)]
    }

    /// All routes in the order in which they are tried.
    #[must_use]
    pub fn routes(&self) -> &[RouteSpec] {
        &self.routes
    }

    /// The bytes of `request` that are hashed, when it goes by the route at `ix`. `scratch` is
    /// overwritten when they do not stand in the request as they are.
    ///
    /// # Errors
    /// [`KeyError`] when the request has no key, an empty one, or more than one.
    ///
    /// # Panics
    /// When `ix` is of a table with more routes.
    pub fn key_of<'a>(
        &self,
        ix: RouteIx,
        request: &RequestView<'a>,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], KeyError> {
        let route = self.route(ix);
        let key = route.key.extract(request, scratch).map_err(|fault| KeyError {
            route: route.name.clone(),
            part: route.key.to_string().into(),
            fault,
        })?;
        match route.hash_tag {
            Some(tag) => Ok(tag.hashed_part(key)),
            None => Ok(key),
        }
    }

    /// Equal digests mean equal tables: two nodes with the same one route every request alike.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}
