//! `ringway locate`: which shard owns a key, and why?
//!
//! Answers from a file alone, by the very code that serves requests: canonical form, route, key
//! rule, ring.

use std::path::Path;

use super::error::AppError;
use super::say::say;
use crate::cluster::{ClusterState, Topology, changes};
use crate::config;
use crate::ids::PoolName;
use crate::key::canonical_path;
use crate::route::{RequestView, RouteTable};

/// What is located.
pub struct Question<'a> {
    /// The configuration.
    pub file: &'a Path,
    /// Request targets: paths, perhaps with a query.
    pub targets: &'a [String],
    /// The pool, for keys that are given as they are hashed; otherwise routes decide.
    pub pool: Option<&'a str>,
    /// The method that routes may look at.
    pub method: &'a str,
    /// The host that routes may look at.
    pub host: &'a str,
    /// Further fields, as `Name: value`.
    pub fields: &'a [String],
    /// How many shards beyond the owner are named.
    pub next: usize,
}

/// Prints where each target lives.
///
/// # Errors
/// When the file is wrong, or a target belongs nowhere.
pub fn run(question: &Question<'_>) -> Result<(), AppError> {
    let config = config::load(question.file)?.config;
    let topology = topology(&config)?;
    let routes = RouteTable::compile(config.routes.clone())?;
    let fields = fields(question.fields)?;
    for target in question.targets {
        let (pool, key, by) = match question.pool {
            Some(pool) => {
                let name = PoolName::new(pool).map_err(|e| AppError::Refused(e.to_string()))?;
                (name, target.clone().into_bytes(), "given".to_owned())
            }
            None => routed(question, &routes, &fields, target)?,
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
        for line in pool.ring.explain(&key, question.next).to_string().lines() {
            say(&format!("  {line}"))?;
        }
    }
    Ok(())
}

/// The topology of a node that starts with this file and an empty folder.
fn topology(config: &config::Config) -> Result<Topology, AppError> {
    let mut state = ClusterState::default();
    for command in changes(&state, &config.desired()) {
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

fn routed(
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
    let route = routes.find(&view).ok_or_else(|| {
        refused("no route takes it: compare host, path and method with `routes`".to_owned())
    })?;
    let mut scratch = Vec::new();
    let key = routes
        .key_of(route, &view, &mut scratch)
        .map_err(|error| refused(error.to_string()))?
        .to_vec();
    let spec = routes.route(route);
    Ok((spec.pool.clone(), key, format!("route `{}`", spec.name)))
}
