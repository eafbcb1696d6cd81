//! What does each room get of the configuration?

use std::collections::HashMap;
use std::sync::Arc;

use super::error::AppError;
use crate::cluster::Topology;
use crate::config::{
    AccessLogFormat, AccessLogTarget, Config, ForwardedRule as Forwarded, HostRule as Host,
    PoolConfig, Workers,
};
use crate::dispatch::view::{PoolSettings, View};
use crate::drivers::http::HostRule;
use crate::ids::{NodeName, PoolName};
use crate::proxy::access_log::{LogFormat, LogTarget};
use crate::proxy::site::{ForwardedRule, Site, SiteParts};
use crate::route::RouteTable;

fn settings(pool: &PoolConfig) -> PoolSettings {
    PoolSettings {
        timeouts: pool.timeouts.clone(),
        limits: pool.limits.clone(),
        retry: pool.retry.clone(),
        health: pool.health.clone(),
        host: match pool.host {
            Host::Shard => HostRule::Shard,
            Host::Client => HostRule::Client,
        },
    }
}

/// Puts together what requests read. The parts of `previous` that stay the same go over.
///
/// # Errors
/// When the routes make no table, or one leads nowhere.
pub fn site(
    config: &Config,
    node: &NodeName,
    topology: &Arc<Topology>,
    previous: Option<&Site>,
    workers: usize,
) -> Result<Site, AppError> {
    let mut settings: HashMap<PoolName, PoolSettings> =
        config.pools.iter().map(|pool| (pool.name.clone(), settings(pool))).collect();
    let view =
        View::build(Arc::clone(topology), previous.map(|site| &*site.view), workers, |pool| {
            settings.remove(pool).unwrap_or_default()
        });
    let parts = SiteParts {
        routes: RouteTable::compile(config.routes.clone())?,
        limits: config.client.limits.clone(),
        timeouts: config.client.timeouts.clone(),
        forwarded: match config.client.forwarded {
            Forwarded::Replace => ForwardedRule::Replace,
            Forwarded::Append => ForwardedRule::Append,
        },
        node: node.clone(),
        log: config.access_log.as_ref().map(|log| match log.format {
            AccessLogFormat::Json => LogFormat::Json,
            AccessLogFormat::Common => LogFormat::Common,
        }),
    };
    Ok(Site::build(Arc::new(view), parts, previous, workers)?)
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
