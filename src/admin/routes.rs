//! Which requests does the admin listener know?
//!
//! One table: the handler routes by it, a request with a wrong path or method is told from it what
//! there is, and a test holds it against the OpenAPI document, line by line.

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// How the node and its shards do.
    Status,
    /// Where a key lives.
    Locate,
    /// Pools and shards as agreed.
    Ring,
    /// What applying the staged changes would do.
    Plan,
    /// Who changed what.
    History,
    /// Stage changes, or make them at once.
    Stage,
    /// Drop what is staged.
    Unstage,
    /// Do what a plan showed.
    Apply,
    /// The group of nodes.
    Cluster,
    /// Found it.
    Init,
    /// Join it.
    Join,
    /// Take a node out.
    RemoveNode,
    /// Have another node lead.
    Transfer,
    /// Write a snapshot.
    Snapshot,
    /// Hand out what is agreed.
    Backup,
    /// The description of all this.
    OpenApi,
    /// Compare a pool's replicas, and mend what differs.
    Repair,
    /// How the last comparison went, or goes.
    Repairs,
    /// Read the file again.
    Reload,
    /// End an embedded store of `ringway dev`.
    StopShard,
    /// Begin it again.
    StartShard,
}

/// One line of the table.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; a segment `{…}` stands for any one.
    pub path: &'static str,
    /// What is asked.
    pub verb: Verb,
    /// The query parameters that it may have.
    pub parameters: &'static [&'static str],
    /// Whether the token is needed.
    pub token: bool,
}

const fn open(path: &'static str, verb: Verb, parameters: &'static [&'static str]) -> Route {
    Route { method: "GET", path, verb, parameters, token: false }
}

const fn kept(method: &'static str, path: &'static str, verb: Verb) -> Route {
    Route { method, path, verb, parameters: &[], token: true }
}

const LOCATE_PARAMETERS: &[&str] =
    &["pool", "key", "target", "method", "host", "field", "epoch", "next"];

/// Every request that is answered.
pub const ROUTES: [Route; 21] = [
    open("/v1/status", Verb::Status, &[]),
    open("/v1/locate", Verb::Locate, LOCATE_PARAMETERS),
    open("/v1/ring", Verb::Ring, &["pool"]),
    open("/v1/ring/plan", Verb::Plan, &[]),
    open("/v1/ring/history", Verb::History, &["last"]),
    open("/v1/cluster", Verb::Cluster, &[]),
    open("/v1/repair/{pool}", Verb::Repairs, &[]),
    open("/v1/openapi.json", Verb::OpenApi, &[]),
    kept("POST", "/v1/ring/changes", Verb::Stage),
    kept("DELETE", "/v1/ring/changes", Verb::Unstage),
    kept("POST", "/v1/ring/apply", Verb::Apply),
    kept("POST", "/v1/cluster/init", Verb::Init),
    kept("POST", "/v1/cluster/join", Verb::Join),
    kept("POST", "/v1/cluster/transfer", Verb::Transfer),
    kept("POST", "/v1/cluster/snapshot", Verb::Snapshot),
    kept("POST", "/v1/cluster/nodes/{id}/remove", Verb::RemoveNode),
    // It holds what nodes drew for joining, and costs the node some work.
    kept("GET", "/v1/cluster/backup", Verb::Backup),
    kept("POST", "/v1/repair/{pool}", Verb::Repair),
    kept("POST", "/v1/reload", Verb::Reload),
    kept("POST", "/v1/dev/shards/{id}/stop", Verb::StopShard),
    kept("POST", "/v1/dev/shards/{id}/start", Verb::StartShard),
];

/// What became of a method and a path.
#[derive(Debug)]
pub enum Found<'a> {
    /// The route, and what stands in its `{…}`.
    Route(&'static Route, Option<&'a str>),
    /// The path is known with these methods.
    OtherMethod(Vec<&'static str>),
    /// The path is not known.
    Nothing,
}

/// Finds the route of a request. HEAD is answered as GET is.
#[must_use]
pub fn find<'a>(method: &str, path: &'a str) -> Found<'a> {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut others = Vec::new();
    for route in &ROUTES {
        let Some(captured) = matches(route.path, path) else { continue };
        if route.method == method {
            return Found::Route(route, captured);
        }
        others.push(route.method);
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethod(others) }
}

/// `Some` when `path` is of the form `pattern`, with what stands in its `{…}`. A slash at the end
/// makes no difference.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<Option<&'a str>> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    let mut captured = None;
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return Some(captured),
            (Some(name), Some(value)) if name.starts_with('{') && !value.is_empty() => {
                captured = Some(value);
            }
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return None,
        }
    }
}

/// All paths with their methods, for whoever asked for something else.
#[must_use]
pub fn list() -> String {
    let lines = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path));
    lines.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Option<(Verb, Option<String>)> {
        match find(method, path) {
            Found::Route(route, captured) => Some((route.verb, captured.map(str::to_owned))),
            _ => None,
        }
    }

    #[test]
    fn a_request_finds_its_line() {
        assert_eq!(found("GET", "/v1/status"), Some((Verb::Status, None)));
        assert_eq!(found("HEAD", "/v1/status/"), Some((Verb::Status, None)));
        let part = Some((Verb::StopShard, Some("s2".to_owned())));
        assert_eq!(found("POST", "/v1/dev/shards/s2/stop"), part);
        for path in ["/", "/v1", "/v1/status/x", "/v1/dev/shards//stop", "/v1/dev/shards/a/b/stop"]
        {
            assert!(matches!(find("POST", path), Found::Nothing), "{path}");
        }
        let Found::OtherMethod(methods) = find("DELETE", "/v1/reload") else { panic!("known") };
        assert_eq!(methods, ["POST"]);
    }
}
