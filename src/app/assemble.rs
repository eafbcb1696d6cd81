//! What does each room get of the configuration?

use std::collections::HashMap;
use std::sync::Arc;

use super::error::AppError;
use super::operators::random;
use crate::cluster::Topology;
use crate::config::{
    AccessLogFormat, AccessLogTarget, Config, ForwardedFields as Fields,
    ForwardedRule as Forwarded, HostRule as Host, PoolConfig, PoolTlsConfig, Workers,
};
use crate::dispatch::view::{PoolSettings, View};
use crate::drivers::http::HostRule;
use crate::ids::{NodeName, PoolName, Zone};
use crate::limits::ClientLimits;
use crate::net::tls::{Ca, ShardTls, ShardTlsSettings};
use crate::proxy::access_log::{LogFormat, LogTarget};
use crate::proxy::rate_limit::Rates;
use crate::proxy::site::{ForwardedFields, ForwardedRule, Site, SiteParts};
use crate::route::RouteTable;

fn settings(pool: &PoolConfig, zone: Option<&Zone>) -> PoolSettings {
    PoolSettings {
        hash_balance_factor: pool.hash_balance_factor,
        warm_up: pool.warm_up,
        timeouts: pool.timeouts.clone(),
        limits: pool.limits.clone(),
        retry: pool.retry.clone(),
        health: pool.health.clone(),
        host: match pool.host {
            Host::Shard => HostRule::Shard,
            Host::Client => HostRule::Client,
        },
        kept: pool.kept.clone(),
        zone: zone.cloned(),
        tls: Arc::new(ShardTls::new(shard_tls(&pool.tls))),
    }
}

fn shard_tls(tls: &PoolTlsConfig) -> ShardTlsSettings {
    ShardTlsSettings {
        ca: tls.ca.clone().map_or(Ca::System, Ca::File),
        server_name: tls.server_name.clone(),
        identity: tls.identity.clone(),
    }
}

/// Whether a pool has shards that are reached by TLS.
fn needs_tls(topology: &Topology, pool: &PoolName) -> bool {
    let known = topology.pools().iter().find(|known| known.name == *pool);
    known.is_some_and(|pool| pool.shards.iter().any(|shard| shard.url.is_tls()))
}

/// Puts together what requests read, at a start or when the file was read again. The parts of
/// `previous` that stay the same go over.
///
/// # Errors
/// When the routes make no table, or a standalone node's leads nowhere; and, of a node that runs, when
/// a route has another rule for keys than its pool. At a start that is told, and the route refuses
/// requests: what is agreed may have changed since the file was written, and the others go on.
pub fn site(
    config: &Config,
    node: &NodeName,
    topology: &Arc<Topology>,
    previous: Option<&Site>,
    workers: usize,
) -> Result<Site, AppError> {
    let zone = config.node.zone.as_ref();
    let mut settings: HashMap<PoolName, PoolSettings> =
        config.pools.iter().map(|pool| (pool.name.clone(), settings(pool, zone))).collect();
    // Read now what a request would have to wait for; and whatever is wrong refuses the whole.
    for pool in &config.pools {
        if pool.tls != PoolTlsConfig::default() || needs_tls(topology, &pool.name) {
            let unusable = |error| AppError::ShardTls { pool: pool.name.clone(), error };
            settings[&pool.name].tls.ready().map_err(unusable)?;
        }
    }
    let view =
        View::build(Arc::clone(topology), previous.map(|site| &*site.view), workers, |pool| {
            Arc::new(settings.remove(pool).unwrap_or_default())
        });
    let routes = match previous {
        Some(site) if site.routes.routes() == config.routes => Arc::clone(&site.routes),
        _ => Arc::new(RouteTable::compile(config.routes.clone())?),
    };
    let limits = &config.client.limits;
    let parts = SiteParts {
        rates: rates(&routes, previous)?,
        routes,
        limits: ClientLimits {
            connections_max: connections_max(limits, topology, descriptors(), previous),
            ..limits.clone()
        },
        timeouts: config.client.timeouts.clone(),
        forwarded: match config.client.forwarded {
            Forwarded::Replace => ForwardedRule::Replace,
            Forwarded::Append => ForwardedRule::Append,
        },
        forwarded_fields: match config.client.forwarded_fields {
            Fields::XForwarded => ForwardedFields::X,
            Fields::Forwarded => ForwardedFields::Standard,
            Fields::Both => ForwardedFields::Both,
        },
        node: node.clone(),
        trace_percent: config.tracing.as_ref().map_or(0, |tracing| tracing.sample_percent),
        log: config.access_log.as_ref().map(|log| match log.format {
            AccessLogFormat::Json => LogFormat::Json,
            AccessLogFormat::Common => LogFormat::Common,
        }),
    };
    let site = Site::build(Arc::new(view), parts, previous, workers);
    // In a cluster the pools are agreed, and may come and go.
    if config.cluster.is_some() {
        if let Some(other) = site.other_keys().next().filter(|_| previous.is_some()) {
            return Err(other.into());
        }
        tell_unknown_pools(&site, previous);
        tell_other_keys(&site, previous);
        return Ok(site);
    }
    let unknown = site.unknown_pools().next();
    unknown.map_or(Ok(site), |unknown| Err(unknown.into()))
}

/// Where the requests of clients are counted, if a route has a limit: as before, so that a reload
/// forgives nobody.
fn rates(routes: &RouteTable, previous: Option<&Site>) -> Result<Option<Arc<Rates>>, AppError> {
    if routes.routes().iter().all(|route| route.rate_limit.is_none()) {
        return Ok(None);
    }
    if let Some(rates) = previous.and_then(|site| site.rates.as_ref()) {
        return Ok(Some(Arc::clone(rates)));
    }
    let key = random().map_err(AppError::system("cannot draw a key"))?;
    Ok(Some(Arc::new(Rates::new(key))))
}

/// What requests read after a change of the agreed state: `previous` over another topology. The
/// file is asked only for the settings of pools that `previous` does not have.
///
/// Routes that have lost their pool, or found it, are told of in the log.
#[must_use]
pub fn republished(
    config: &Config,
    topology: &Arc<Topology>,
    previous: &Site,
    workers: usize,
) -> Site {
    let view = View::build(Arc::clone(topology), Some(&previous.view), workers, |name| {
        match previous.view.pool(name) {
            Some(pool) => Arc::clone(&pool.settings),
            None => {
                let written = config.pools.iter().find(|pool| pool.name == *name);
                let zone = config.node.zone.as_ref();
                let own = || PoolSettings { zone: zone.cloned(), ..PoolSettings::default() };
                Arc::new(written.map_or_else(own, |pool| settings(pool, zone)))
            }
        }
    });
    for pool in view.pools.iter().filter(|pool| needs_tls(topology, &pool.agreed.name)) {
        // What is agreed cannot be refused. Requests to such a shard fail, and are counted.
        if let Err(error) = pool.settings.tls.ready() {
            tracing::error!(pool = %pool.agreed.name, "{error}");
        }
    }
    let site = previous.over(Arc::new(view));
    tell_unknown_pools(&site, Some(previous));
    tell_other_keys(&site, Some(previous));
    site
}

/// Tells once which routes would look for objects where they are not, and when that is mended.
fn tell_other_keys(site: &Site, previous: Option<&Site>) {
    let before: Vec<_> = previous.into_iter().flat_map(Site::other_keys).collect();
    let now: Vec<_> = site.other_keys().collect();
    for other in now.iter().filter(|other| !before.contains(other)) {
        tracing::error!("requests are refused: {other}");
    }
    for mended in before.iter().filter(|other| !now.contains(other)) {
        tracing::info!(route = mended.route, pool = mended.pool, "the route's key is the pool's");
    }
}

/// Tells once which routes lead to pools that are not there, and when they are there again. As
/// long as nothing is agreed, no pool is missed.
fn tell_unknown_pools(site: &Site, previous: Option<&Site>) {
    let knows = |site: &&Site| !site.view.topology.pools().is_empty();
    let (Some(site), previous) = (Some(site).filter(knows), previous.filter(knows)) else {
        return;
    };
    let before: Vec<_> = previous.into_iter().flat_map(Site::unknown_pools).collect();
    let now: Vec<_> = site.unknown_pools().collect();
    for unknown in now.iter().filter(|unknown| !before.contains(unknown)) {
        tracing::warn!(route = unknown.route, pool = unknown.pool, "the cluster has no such pool");
    }
    for found in before.iter().filter(|unknown| !now.contains(unknown)) {
        tracing::info!(route = found.route, pool = found.pool, "the route has its pool");
    }
}

/// Descriptors that are left to all but clients and their requests: operators, listeners, logs,
/// runtimes. Each shard may cost one more, for its probe.
const DESCRIPTORS_RESERVED: usize = 192;

/// Below so many connections nothing is served; rather let descriptors run out.
const CONNECTIONS_MIN: usize = 16;

/// As many clients as the file allows and the process has descriptors for: a client may cost two,
/// its own and that of a shard. Beyond them a client is told so; without this, nobody at all
/// could connect when descriptors run out, not even an operator.
fn connections_max(
    limits: &ClientLimits,
    topology: &Topology,
    descriptors: usize,
    previous: Option<&Site>,
) -> usize {
    let asked = limits.connections_max;
    let shards: usize = topology.pools().iter().map(|pool| pool.shards.len()).sum();
    let left = descriptors.saturating_sub(DESCRIPTORS_RESERVED + shards) / 2;
    let given = asked.min(left.max(CONNECTIONS_MIN));
    if given < asked && previous.is_none_or(|site| site.limits.connections_max != given) {
        tracing::warn!(
            "only {given} connections are taken: raise the limit on open files, which is \
             {descriptors} (`ulimit -n`, LimitNOFILE of systemd), to {} or more, or lower \
             `client.limits.connections`, which is {asked}",
            asked * 2 + DESCRIPTORS_RESERVED + shards
        );
    }
    given
}

/// How many descriptors this process may have open.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.and_then(|current| usize::try_from(current).ok()).unwrap_or(usize::MAX)
}

/// Where the access log goes, if there is one.
#[must_use]
pub fn log_target(config: &Config) -> Option<LogTarget> {
    config.access_log.as_ref().map(|log| match &log.target {
        AccessLogTarget::Stdout => LogTarget::Stdout,
        AccessLogTarget::File(path) => LogTarget::File(path.clone()),
    })
}

/// How many threads serve requests.
#[must_use]
pub fn workers(config: &Config) -> usize {
    match config.node.workers {
        Workers::Fixed(count) => usize::from(count.get()),
        Workers::Auto => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// The node's name: the file's, or the host's, or, if the host's is none, `node`.
#[must_use]
pub fn node_name(config: &Config) -> NodeName {
    let host = || {
        let uname = rustix::system::uname();
        NodeName::new(uname.nodename().to_str().ok()?).ok()
    };
    let name = config.node.name.clone().or_else(host);
    name.unwrap_or_else(|| NodeName::new("node").expect("`node` is a name"))
}
