//! Which keys may stand where?
//!
//! One table for all sections, so that a key in the wrong section can be told where it belongs,
//! and so that tests can prove that `config/full.yaml` names every key. What a key means is said
//! by the reader of its section; [`super::section::Section::get`] refuses to read a key that is not
//! in its section's table.

/// The keys of one section.
#[derive(Debug)]
pub(super) struct Keys {
    /// The section's key path, with `[]` for the items of a list; empty for the whole file.
    pub(super) at: &'static str,
    /// What it may have.
    pub(super) known: &'static [&'static str],
    /// What it will have, but not in this release.
    pub(super) later: &'static [&'static str],
}

pub(super) const FILE: Keys = Keys {
    at: "",
    known: &[
        "node",
        "listen",
        "log",
        "access_log",
        "drain_delay",
        "drain_timeout",
        "tracing",
        "client",
        "cluster",
        "pools",
        "routes",
    ],
    later: &[],
};

pub(super) const NODE: Keys =
    Keys { at: "node", known: &["name", "data_dir", "workers", "zone"], later: &[] };

pub(super) const LISTEN: Keys =
    Keys { at: "listen", known: &["data", "telemetry", "admin", "peer"], later: &[] };

pub(super) const LISTENER: Keys =
    Keys { at: "listen.data[]", known: &["address", "tls", "proxy_protocol"], later: &[] };

pub(super) const LISTENER_TLS: Keys = Keys {
    at: "listen.data[].tls",
    known: &["certificates", "client_ca", "client_certificates"],
    later: &[],
};

pub(super) const CERTIFICATE: Keys =
    Keys { at: "listen.data[].tls.certificates[]", known: &["cert", "key"], later: &[] };

pub(super) const LOG: Keys = Keys { at: "log", known: &["level", "format"], later: &[] };

pub(super) const ACCESS_LOG: Keys =
    Keys { at: "access_log", known: &["format", "path"], later: &[] };

pub(super) const TRACING: Keys =
    Keys { at: "tracing", known: &["otlp", "sample_percent"], later: &[] };

pub(super) const CLIENT: Keys = Keys {
    at: "client",
    known: &["forwarded", "forwarded_fields", "http2", "limits", "timeouts"],
    later: &[],
};

pub(super) const CLIENT_HTTP2: Keys = Keys {
    at: "client.http2",
    known: &["streams", "stream_window", "connection_window"],
    later: &[],
};

pub(super) const CLIENT_LIMITS: Keys = Keys {
    at: "client.limits",
    known: &[
        "head",
        "line",
        "fields",
        "body",
        "chunk_extensions",
        "trailers",
        "requests_per_connection",
        "connections",
        "replay_body",
        "least_rate",
    ],
    later: &[],
};

pub(super) const CLIENT_TIMEOUTS: Keys = Keys {
    at: "client.timeouts",
    known: &["head", "body_idle", "rate_grace", "keep_alive", "linger"],
    later: &[],
};

pub(super) const CLUSTER: Keys = Keys {
    at: "cluster",
    known: &["advertise", "join", "role", "lease", "heartbeat", "election", "tls"],
    later: &[],
};

pub(super) const CLUSTER_TLS: Keys =
    Keys { at: "cluster.tls", known: &["ca", "cert", "key"], later: &[] };

pub(super) const POOL: Keys = Keys {
    at: "pools[]",
    known: &[
        "name",
        "kind",
        "placement",
        "hash_seed",
        "vnodes",
        "immutable",
        "mode",
        "host",
        "health",
        "timeouts",
        "limits",
        "retry",
        "hash_balance_factor",
        "warm_up",
        "replicas",
        "consistency",
        "tombstone_min_age",
        "key",
        "hash_tag",
        "repair",
        "hints_max",
        "tls",
        "shards",
    ],
    later: &["driver", "max_value", "remove_after", "stale_reads_max", "write_once"],
};

pub(super) const REPAIR: Keys =
    Keys { at: "pools[].repair", known: &["interval", "rate"], later: &[] };

pub(super) const HEALTH: Keys = Keys {
    at: "pools[].health",
    known: &["active", "passive", "panic_percent", "slow_start"],
    later: &[],
};

pub(super) const ACTIVE: Keys = Keys {
    at: "pools[].health.active",
    known: &["method", "path", "expect", "interval", "timeout", "fall", "rise"],
    later: &[],
};

pub(super) const PASSIVE: Keys = Keys {
    at: "pools[].health.passive",
    known: &[
        "consecutive_5xx",
        "keys_min",
        "connect_errors",
        "error_rate_percent",
        "error_rate_requests_min",
        "window",
        "base_ejection_time",
        "max_ejection_time",
        "max_ejection_percent",
    ],
    later: &[],
};

pub(super) const POOL_TIMEOUTS: Keys = Keys {
    at: "pools[].timeouts",
    known: &["connect", "response_head", "idle", "request", "pool_wait", "expect_continue"],
    later: &[],
};

pub(super) const POOL_LIMITS: Keys = Keys {
    at: "pools[].limits",
    known: &[
        "in_flight_per_shard",
        "idle_per_worker",
        "idle",
        "age",
        "response_head",
        "interim_responses",
    ],
    later: &[],
};

pub(super) const RETRY: Keys = Keys {
    at: "pools[].retry",
    known: &["attempts", "budget_percent", "budget_min", "on_gateway_error", "hedge_after"],
    later: &[],
};

pub(super) const POOL_TLS: Keys =
    Keys { at: "pools[].tls", known: &["ca", "server_name", "cert", "key"], later: &[] };

pub(super) const SHARD: Keys = Keys {
    at: "pools[].shards[]",
    known: &["id", "url", "zone", "weight", "state", "ketama_name"],
    later: &[],
};

pub(super) const ROUTE: Keys = Keys {
    at: "routes[]",
    known: &["name", "match", "pool", "key", "hash_tag", "allow_methods", "rate_limit"],
    later: &[],
};

pub(super) const RATE_LIMIT: Keys =
    Keys { at: "routes[].rate_limit", known: &["requests_per_second", "burst"], later: &[] };

pub(super) const MATCH: Keys = Keys {
    at: "routes[].match",
    known: &["host", "path_prefix", "path_regex", "methods", "headers"],
    later: &[],
};

pub(super) const KEY: Keys = Keys {
    at: "routes[].key",
    known: &[
        "path",
        "path_after",
        "path_segment",
        "header",
        "query",
        "cookie",
        "path_regex",
        "use",
        "otherwise",
    ],
    later: &[],
};

/// Every section.
pub(super) const ALL: [&Keys; 29] = [
    &FILE,
    &NODE,
    &LISTEN,
    &LISTENER,
    &LISTENER_TLS,
    &CERTIFICATE,
    &LOG,
    &ACCESS_LOG,
    &TRACING,
    &CLIENT,
    &CLIENT_HTTP2,
    &CLIENT_LIMITS,
    &CLIENT_TIMEOUTS,
    &CLUSTER,
    &CLUSTER_TLS,
    &POOL,
    &REPAIR,
    &HEALTH,
    &ACTIVE,
    &PASSIVE,
    &POOL_TIMEOUTS,
    &POOL_LIMITS,
    &RETRY,
    &POOL_TLS,
    &SHARD,
    &ROUTE,
    &RATE_LIMIT,
    &MATCH,
    &KEY,
];

/// Where `key` may stand, if that is a few places: the key paths of their sections.
pub(super) fn homes_of(key: &str) -> Option<String> {
    const FEW: usize = 3;
    let having = ALL.into_iter().filter(|keys| keys.known.contains(&key));
    let homes: Vec<_> = having
        .map(|keys| if keys.at.is_empty() { "the top of the file" } else { keys.at })
        .collect();
    let (last, others) = homes.split_last().filter(|_| homes.len() <= FEW)?;
    Some(match others {
        [] => (*last).to_owned(),
        others => format!("{} or {last}", others.join(", ")),
    })
}
