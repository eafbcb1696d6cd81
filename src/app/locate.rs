//! `ringway locate`: which shard owns a key, and why?
//!
//! Of a running node, or from a file alone. Both answer by the very code that serves requests:
//! canonical form, route, key rule, ring.

use std::path::Path;

use super::client::{Client, query_value};
use super::error::AppError;
use super::say::say;
use super::table::table;
use crate::admin::locate::{Holder, Located, Routed, routed};
use crate::cluster::{ClusterState, Topology, changes};
use crate::config;
use crate::ids::PoolName;
use crate::key::canonical_path;
use crate::route::{RequestView, RouteTable};
use crate::version::Version;

/// What is located.
pub struct Question<'a> {
    /// Request targets: paths, perhaps with a query.
    pub targets: &'a [String],
    /// The pool, for keys that are given as they are hashed; otherwise routes decide.
    pub pool: Option<&'a PoolName>,
    /// The epoch, unless it is the one in force.
    pub at: Option<u64>,
    /// The method that routes may look at.
    pub method: &'a str,
    /// The host that routes may look at.
    pub host: &'a str,
    /// Further fields, as `Name: value`.
    pub fields: &'a [String],
    /// How many shards beyond the owner are named.
    pub next: usize,
}

/// Prints where a running node has each target.
///
/// # Errors
/// When no node answers, or a target belongs nowhere.
pub fn from_node(client: &Client, question: &Question<'_>, json: bool) -> Result<(), AppError> {
    for target in question.targets {
        let answer = client.get(&path(question, target))?;
        if json {
            say(&format!("{answer:#}"))?;
            continue;
        }
        let located: Located = client.read(answer)?;
        let when = if located.in_force { "in force" } else { "no longer in force" };
        let by = located.route.map_or("given".to_owned(), |route| format!("route `{route}`"));
        say(&format!(
            "{target}\n  key     {} ({by})\n  pool    {} at epoch {}, {when}",
            located.key, located.pool, located.epoch
        ))?;
        for line in located.explanation.lines() {
            say(&format!("  {line}"))?;
        }
        if !located.holders.is_empty() {
            say(&format!("  at this moment\n{}", holders(&located.holders)))?;
        }
    }
    Ok(())
}

/// What each replica holds; the newest version is marked.
fn holders(holders: &[Holder]) -> String {
    let version = |holder: &Holder| holder.version.as_deref()?.parse::<Version>().ok();
    let newest = holders.iter().filter_map(version).max();
    let rows: Vec<_> = holders
        .iter()
        .map(|holder| {
            let mark = match version(holder) {
                Some(version) if Some(version) == newest => "newest".to_owned(),
                _ => holder.why.clone().unwrap_or_default(),
            };
            let version = holder.version.clone().unwrap_or_default();
            [holder.shard.clone(), holder.holds.clone(), version, mark]
        })
        .collect();
    let shown = table(["shard", "holds", "version", ""], &rows);
    shown.lines().map(|line| format!("  {line}\n")).collect()
}

fn path(question: &Question<'_>, target: &str) -> String {
    let value = |name: &str, text: &str| format!("&{name}={}", query_value(text));
    let mut path = format!("/v1/locate?next={}", question.next);
    match question.pool {
        Some(pool) => path += &(value("pool", pool.as_str()) + &value("key", target)),
        None => {
            path += &value("target", target);
            path += &value("method", question.method);
            path += &value("host", question.host);
            path.extend(question.fields.iter().map(|field| value("field", field)));
        }
    }
    path.extend(question.at.map(|epoch| format!("&epoch={epoch}")));
    path
}

/// Prints where a node that starts with this file and an empty folder would have each target.
///
/// # Errors
/// When the file is wrong, or a target belongs nowhere.
pub fn from_file(file: &Path, question: &Question<'_>) -> Result<(), AppError> {
    let config = config::load(file)?.config;
    let topology = topology(&config)?;
    let routes = RouteTable::compile(config.routes.clone())?;
    let fields = fields(question.fields)?;
    for target in question.targets {
        let (pool, key, by) = match question.pool {
            Some(pool) => (pool.clone(), target.clone().into_bytes(), "given".to_owned()),
            None => by_route(question, &routes, &fields, target)?,
        };
        let pool = topology
            .pool(&pool)
            .ok_or_else(|| AppError::Refused(format!("there is no pool `{pool}`")))?;
        say(&format!(
            "{target}\n  key     {} ({by})\n  pool    {} at epoch {} of this file",
            String::from_utf8_lossy(&key),
            pool.name,
            pool.epoch
        ))?;
        for line in pool.explain(&key, question.next).lines() {
            say(&format!("  {line}"))?;
        }
    }
    Ok(())
}

/// The topology of a node that starts with this file and an empty folder.
fn topology(config: &config::Config) -> Result<Topology, AppError> {
    let mut state = ClusterState::default();
    for command in changes(&state, &config.desired()) {
        let command = state.planned(command);
        state.apply_command(&command).map_err(crate::control::standalone::ControlError::from)?;
    }
    Ok(Topology::build(&state, None).map_err(crate::control::standalone::ControlError::from)?)
}

fn fields(written: &[String]) -> Result<Vec<(String, Vec<u8>)>, AppError> {
    let field = |text: &String| {
        let (name, value) = text.split_once(':')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().as_bytes().to_vec()))
    };
    written
        .iter()
        .map(|text| {
            field(text).ok_or_else(|| {
                AppError::Refused(format!("`{text}` is no field: write `Name: value`"))
            })
        })
        .collect()
}

fn by_route(
    question: &Question<'_>,
    routes: &RouteTable,
    fields: &Vec<(String, Vec<u8>)>,
    target: &str,
) -> Result<(PoolName, Vec<u8>, String), AppError> {
    let refused = |why: String| AppError::Refused(format!("{target}: {why}"));
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.as_bytes())),
        None => (target, None),
    };
    let path = canonical_path(path.as_bytes()).map_err(|error| refused(error.to_string()))?;
    let host = question.host.to_ascii_lowercase();
    let view = RequestView {
        method: question.method.as_bytes(),
        host: host.as_bytes(),
        path: &path,
        query,
        fields,
    };
    let Routed { pool, key, route } = routed(routes, &view).map_err(refused)?;
    Ok((pool, key, format!("route `{route}`")))
}
