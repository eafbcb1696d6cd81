//! How does a file become a [`Config`], or the list of what is wrong with it?

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::checked::{Config, ListenConfig};
use super::cluster;
use super::diagnostic::{Diagnostics, Findings, Place, Unreadable};
use super::listen;
use super::pools::{self, WrittenPool};
use super::process;
use super::raw::Node;
use super::routes::{self, WrittenRoute};
use super::schema;
use super::spelling::suggestion;
use super::spot::Spot;

/// Bytes of a file. A pool of 4096 shards with every option written out has about half of it.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A file that can be used, and what its author should know all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What the file means.
    pub config: Config,
    /// What it may not mean as intended. Holds no error.
    pub warnings: Diagnostics,
}

/// Reads the file at `path`.
///
/// # Errors
/// Every problem of the file, warnings included; that it cannot be read counts as one.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    let name = path.display().to_string();
    match read_file(path) {
        Ok(bytes) => parse_bytes(&bytes, &name),
        Err(error) => Err(fail(&name, "", None, format!("cannot be read: {error}"), "")),
    }
}

/// Reads one byte more than a file may have at most: that tells which are longer, and ends also
/// with a device that has no end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads `text`, which is shown as the file `name`.
///
/// # Errors
/// Every problem of the text, warnings included.
pub fn parse(text: &str, name: &str) -> Result<Loaded, Diagnostics> {
    parse_bytes(text.as_bytes(), name)
}

fn parse_bytes(bytes: &[u8], name: &str) -> Result<Loaded, Diagnostics> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        let message = "the file is larger than 1 MiB".to_owned();
        return Err(fail(name, "", None, message, "no configuration is: is it the right file?"));
    }
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = good.matches('\n').count() + 1;
            let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let place = Some(Place { line, column, length: 1 });
            let lossy = String::from_utf8_lossy(bytes);
            return Err(fail(
                name,
                &lossy,
                place,
                "this is not UTF-8".to_owned(),
                "save the file as UTF-8",
            ));
        }
    };
    // Editors of another system put this mark before the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let findings = Findings::default();
    let config = Node::read(text, &findings).and_then(|root| check(&root, &findings));
    let diagnostics = Diagnostics::new(name, text, findings);
    match config {
        Some(config) if !diagnostics.has_errors() => Ok(Loaded { config, warnings: diagnostics }),
        _ => Err(diagnostics),
    }
}

fn fail(name: &str, text: &str, place: Option<Place>, message: String, help: &str) -> Diagnostics {
    let findings = Findings::default();
    findings.unreadable(Unreadable::new(place, message, help));
    Diagnostics::new(name, text, findings)
}

/// Reads every section, and then looks at what concerns several. What is returned counts only if
/// no error was found.
pub(super) fn check(root: &Node, findings: &Findings) -> Option<Config> {
    let file = Spot::file(root, findings).section(&schema::FILE)?;
    let node = process::node(&file);
    let clustered = file.get("cluster").is_some();
    let listen = listen::listen(&file, clustered);
    let log = process::log(&file);
    let access_log = process::access_log(&file);
    let (drain_delay, drain_timeout) = process::drain(&file);
    let tracing = process::tracing(&file);
    let client = process::client(&file);
    let cluster = cluster::cluster(&file, &listen);
    let pools = pools::pools(&file, clustered);
    let mut routes = routes::routes(&file);
    give_rules(&mut routes, &pools);
    join_routes_and_pools(&routes, &pools, clustered);
    find_unreachable(&routes);
    find_loops(&listen, &pools);
    Some(Config {
        node,
        listen,
        log,
        access_log,
        drain_delay,
        drain_timeout,
        tracing,
        client,
        cluster,
        pools: pools.into_iter().filter_map(|pool| pool.config).collect(),
        routes: routes.into_iter().filter_map(|route| route.spec).collect(),
    })
}

/// Every route leads to a pool, and to every pool leads a route. In a cluster the pools are
/// agreed, and the file need not know them.
fn join_routes_and_pools(routes: &[WrittenRoute<'_>], pools: &[WrittenPool<'_>], clustered: bool) {
    let names = || pools.iter().filter_map(|pool| pool.name.as_ref());
    let leads = || routes.iter().filter_map(|route| route.pool.as_ref());
    // A pool or route whose own name or pool cannot be read may be the one that is missed.
    if !pools.is_empty() && pools.iter().all(|pool| pool.name.is_some()) {
        let known: Vec<_> = names().map(|(name, _)| name.as_str()).collect();
        for (lead, spot) in leads().filter(|(lead, _)| !known.contains(&lead.as_str())) {
            let suggestion = suggestion(lead.as_str(), known.iter().copied());
            let help = format!("{suggestion}pools of this file: {}", known.join(", "));
            if clustered {
                let message = format!("this file has no pool `{lead}`; the cluster may have it");
                spot.warn(message, format!("{help}; its settings are the defaults"));
            } else {
                spot.refuse::<()>(format!("there is no pool `{lead}`"), help);
            }
        }
    }
    if !routes.is_empty() && routes.iter().all(|route| route.pool.is_some()) {
        for (name, spot) in names().filter(|(name, _)| !leads().any(|(lead, _)| lead == name)) {
            let message = format!("no route leads to the pool `{name}`");
            spot.warn(message, "add a route, or remove the pool");
        }
    }
}

/// All routes into a pool that keeps data find the key as the pool says: by another rule an object
/// would be looked for where it is not. One that says nothing has the pool's rule.
fn give_rules(routes: &mut [WrittenRoute<'_>], pools: &[WrittenPool<'_>]) {
    for route in routes {
        let Some(spec) = &mut route.spec else { continue };
        let of_pool = |pool: &&WrittenPool<'_>| {
            pool.name.as_ref().is_some_and(|(name, _)| *name == spec.pool)
        };
        let Some(rule) = pools.iter().find(of_pool).and_then(|pool| pool.rule.as_ref()) else {
            continue;
        };
        let Some(spot) = &route.rule else {
            spec.key = rule.key.clone();
            spec.hash_tag = rule.hash_tag;
            continue;
        };
        let (own, pools) = (spec.key.canonical(spec.hash_tag), rule.key.canonical(rule.hash_tag));
        if own != pools {
            let message = format!("the key is `{own}`, but in the pool it is `{pools}`");
            let other = (rule.spot.place(), "all routes into the pool have its rule");
            spot.clash(message, other, "remove it, so that the route has the pool's rule");
        }
    }
}

/// A route after one that takes all of its requests is never reached.
fn find_unreachable(routes: &[WrittenRoute<'_>]) {
    let specs = || routes.iter().filter_map(|route| Some((route.spec.as_ref()?, &route.spot)));
    for (at, (spec, spot)) in specs().enumerate() {
        let covering = specs().take(at).find(|(first, _)| first.matcher.covers(&spec.matcher));
        if let Some((first, first_spot)) = covering {
            let message = format!(
                "the route `{}` is never reached: `{}` takes its requests",
                spec.name, first.name
            );
            let other = (first_spot.place(), "the first match wins, in the order of the file");
            spot.warn_of(message, other, "move the narrower route up, or remove it");
        }
    }
}

/// A shard that is this node's own data listener would send each request round and round.
fn find_loops(listen: &ListenConfig, pools: &[WrittenPool<'_>]) {
    for (url, spot) in pools.iter().flat_map(|pool| &pool.urls) {
        let host = match url.host() {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            host => host.parse().ok(),
        };
        let Some(host) = host else { continue };
        let itself = |own: &SocketAddr| {
            let same_host = own.ip() == host || (own.ip().is_unspecified() && host.is_loopback());
            own.port() == url.port() && same_host
        };
        let mut own = listen.data.iter().map(|listener| listener.address);
        if let Some(own) = own.find(itself) {
            let message = format!("this shard is the node itself, which listens on {own}");
            spot.refuse::<()>(message, "write the address of the storage server");
        }
    }
}
