//! What does each key take, and what does it mean?
//!
//! A new key needs a line here, in the section that has it in [`crate::config::schema`]: its name,
//! what it [`Takes`](super::takes::Takes), one sentence; then `.usually(…)` with its default as it
//! would be written, or `.needed()` if it must be there. Those of listeners are in
//! [`super::listen`], those of routes in [`super::routes`].

use super::takes::Takes::{
    Duration, Either, List, Number, OneOrList, Section, Size, Text, Truth, Words,
};
use super::takes::{Described, GIB, KIB, MIB, NAME, PATH, PEER, TIME, key};
use super::{kept, listen, routes};
use crate::config::schema;

/// Every section, the whole file first.
pub(super) fn sections() -> impl Iterator<Item = &'static Described> {
    SECTIONS.iter().chain(kept::SECTIONS).chain(listen::SECTIONS).chain(routes::SECTIONS)
}

const SECTIONS: &[Described] = &[
    Described {
        section: &schema::FILE,
        says: "The configuration of a Ringway process.",
        rule: r#"{
            "if": { "not": { "required": ["cluster"] } },
            "then": {
                "required": ["pools"],
                "properties": { "pools": { "items": { "required": ["shards"] } } }
            }
        }"#,
        keys: &[
            key("node", Section(&schema::NODE), "The process itself."),
            key("listen", Section(&schema::LISTEN), "Where the process listens."),
            key("log", Section(&schema::LOG), "What the node says about itself, on standard error."),
            key("access_log", Section(&schema::ACCESS_LOG), "What the node says about each request."),
            key(
                "drain_delay",
                Duration("0s", "24h"),
                "How long a node that was told to stop goes on taking connections, so that a \
                 balancer can turn away first.",
            )
            .usually("1s"),
            key(
                "drain_timeout",
                Duration("0s", "24h"),
                "How long it then waits for the requests in flight; 0s cuts them off.",
            )
            .usually("30s"),
            key(
                "tracing",
                Either(&[Words(&["off"]), Section(&schema::TRACING)]),
                "Spans of requests, sent to an OpenTelemetry collector; off unless set.",
            ),
            key("client", Section(&schema::CLIENT), "What clients may do."),
            key(
                "cluster",
                Section(&schema::CLUSTER),
                "Makes the node part of a cluster, whose nodes agree on pools, shards and what is \
                 down; without it the node is standalone.",
            ),
            key(
                "pools",
                List(&Section(&schema::POOL), 1, 256),
                "The shards, in pools; in a cluster those that a new one begins with.",
            ),
            key(
                "routes",
                List(&Section(&schema::ROUTE), 1, 1024),
                "Where requests go, tried in this order: the first that matches counts.",
            )
            .needed(),
        ],
    },
    Described {
        section: &schema::NODE,
        says: "The process itself.",
        rule: "",
        keys: &[
            key(
                "name",
                Either(&[Words(&["auto"]), NAME]),
                "The node's name in its cluster, in Via, Forwarded and spans, and in `ringway status`; auto: the name of the host.",
            )
            .usually("auto"),
            key(
                "data_dir",
                PATH,
                "Folder of what must survive a restart: the node's epoch and its admin token.",
            )
            .usually("./ringway-data"),
            key(
                "workers",
                Either(&[Words(&["auto"]), Number(1, 1024)]),
                "Threads that serve requests; auto: one per core that the process may use.",
            )
            .usually("auto"),
            key(
                "zone",
                Either(&[Words(&["none"]), NAME]),
                "What fails together with this node: replicas in the same zone are read first.",
            )
            .usually("none"),
        ],
    },
    Described {
        section: &schema::LOG,
        says: "What the node says about itself, on standard error.",
        rule: "",
        keys: &[
            key(
                "level",
                Words(&["error", "warn", "info", "debug", "trace"]),
                "The least important messages that are written.",
            )
            .usually("info"),
            key("format", Words(&["text", "json"]), "Lines for people, or one JSON object a line.")
                .usually("text"),
        ],
    },
    Described {
        section: &schema::ACCESS_LOG,
        says: "What the node says about each request.",
        rule: "",
        keys: &[
            key(
                "format",
                Words(&["off", "json", "common"]),
                "One JSON object a line, or the Common Log Format.",
            )
            .usually("off"),
            key("path", PATH, "A file, which is appended to; \"-\" is standard output.")
                .usually("\"-\""),
        ],
    },
    Described {
        section: &schema::TRACING,
        says: "Spans of requests, sent to an OpenTelemetry collector.",
        rule: "",
        keys: &[
            key(
                "otlp",
                Text("^[Hh][Tt][Tt][Pp]://[^/?#]"),
                "Where the collector takes OTLP over HTTP, as http://127.0.0.1:4318/v1/traces.",
            )
            .needed(),
            key(
                "sample_percent",
                Number(0, 100),
                "Of the requests that bring no traceparent along, how many are recorded.",
            )
            .usually("1"),
        ],
    },
    Described {
        section: &schema::CLIENT,
        says: "What clients may do.",
        rule: "",
        keys: &[
            key(
                "forwarded",
                Words(&["replace", "append"]),
                "What becomes of such fields that a request has already: replaced by what this \
                 node sees, or appended to, if all clients are proxies of your own.",
            )
            .usually("replace"),
            key(
                "forwarded_fields",
                Words(&["x_forwarded", "forwarded", "both"]),
                "Which fields tell a shard who asked: X-Forwarded-For, -Host and -Proto, or \
                 Forwarded (RFC 7239), or all of them.",
            )
            .usually("x_forwarded"),
            key(
                "http2",
                Either(&[Words(&["off"]), Section(&schema::CLIENT_HTTP2)]),
                "HTTP/2 beside HTTP/1.1, on the same port; or off.",
            ),
            key("limits", Section(&schema::CLIENT_LIMITS), "What clients may send."),
            key("timeouts", Section(&schema::CLIENT_TIMEOUTS), "How long clients may take."),
        ],
    },
    Described {
        section: &schema::CLIENT_HTTP2,
        says: "What a connection of HTTP/2 may do.",
        rule: "",
        keys: &[
            key("streams", Number(1, 1000), "Requests in flight at once.").usually("100"),
            key("stream_window", Size(64 * KIB, 16 * MIB), "Of one body under way.")
                .usually("64KiB"),
            key("connection_window", Size(64 * KIB, GIB), "Of all bodies under way together.")
                .usually("1MiB"),
        ],
    },
    Described {
        section: &schema::CLIENT_LIMITS,
        says: "What clients may send; beyond a limit a request is refused with the status given.",
        rule: "",
        keys: &[
            key("head", Size(KIB, MIB), "Of a request's head: 431.").usually("32KiB"),
            key("line", Size(256, MIB), "Of its first line: 414; of a field: 431.").usually("8KiB"),
            key("fields", Number(1, 256), "Fields of a head: 431.").usually("100"),
            key(
                "body",
                Either(&[Words(&["none"]), Size(0, u64::MAX)]),
                "Of a body: 413; none: bodies are streamed, whatever their size.",
            )
            .usually("none"),
            key("chunk_extensions", Size(0, MIB), "Of the chunk extensions in one body: 400.")
                .usually("4KiB"),
            key("trailers", Size(0, MIB), "Of trailer fields: 431.").usually("8KiB"),
            key(
                "requests_per_connection",
                Number(1, u32::MAX as u64),
                "Requests after which a connection is closed, so that load spreads anew.",
            )
            .usually("10000"),
            key("connections", Number(1, 1_000_000), "Connections open at once: 503.")
                .usually("10000"),
            key(
                "replay_body",
                Size(0, 16 * MIB),
                "A longer body is not kept, so its request is not repeated.",
            )
            .usually("16KiB"),
            key(
                "least_rate",
                Either(&[Words(&["none"]), Size(0, GIB)]),
                "Bytes per second at which a body must move, after rate_grace.",
            )
            .usually("1KiB"),
        ],
    },
    Described {
        section: &schema::CLIENT_TIMEOUTS,
        says: "How long clients may take.",
        rule: "",
        keys: &[
            key("head", TIME, "From the first byte of a request to the end of its head.")
                .usually("10s"),
            key("body_idle", TIME, "Between two bytes of a body.").usually("30s"),
            key("rate_grace", TIME, "How long a body may be slower than least_rate.").usually("10s"),
            key("keep_alive", TIME, "Between two requests.").usually("60s"),
            key("linger", TIME, "For what still arrives on a connection being closed.").usually("2s"),
        ],
    },
    Described {
        section: &schema::CLUSTER,
        says: "How the node takes part in a cluster.",
        rule: "",
        keys: &[
            key(
                "advertise",
                PEER,
                "HOST:PORT at which the other nodes reach this one; listen.peer unless set.",
            ),
            key(
                "join",
                OneOrList(&PEER, 0, 64),
                "Nodes that a new one asks to be taken in; one that answers is enough.",
            )
            .usually("[]"),
            key(
                "role",
                Words(&["voter", "observer"]),
                "Whether it may be among the 1, 3 or 5 nodes that decide.",
            )
            .usually("voter"),
            key(
                "lease",
                Duration("1s", "10m"),
                "How long a node that hears nothing of the others may go on by the ring that it \
                 knows.",
            )
            .usually("10s"),
            key("heartbeat", Duration("10ms", "24h"), "How often the leader is heard.")
                .usually("150ms"),
            key(
                "election",
                Text("^ *[0-9]+(ms|s|m|h) *- *[0-9]+(ms|s|m|h) *$"),
                "How long the leader may be silent before another is elected: the shortest and the \
                 longest time.",
            )
            .usually("500ms-1s"),
            key(
                "tls",
                Section(&schema::CLUSTER_TLS),
                "By what nodes prove to each other who they are; `ringway certs` makes the files.",
            ),
        ],
    },
    Described {
        section: &schema::CLUSTER_TLS,
        says: "By what nodes prove to each other who they are.",
        rule: "",
        keys: &[
            key("ca", PATH, "The authority of all nodes, in PEM.").needed(),
            key("cert", PATH, "This node's certificate, in PEM.").needed(),
            key("key", PATH, "Its private key, in PEM.").needed(),
        ],
    },
    Described {
        section: &schema::POOL,
        says: "Shards among which keys are divided.",
        rule: "",
        keys: &[
            key("name", NAME, "By which routes refer to the pool.").needed(),
            key(
                "kind",
                Words(&["cache", "replicated"]),
                "cache: for what can be fetched again; each key has one shard. replicated: for what \
                 must not be lost; each object is on several shards, which are native stores.",
            )
            .usually("cache"),
            key(
                "placement",
                Words(&["ring", "ketama", "balanced"]),
                "ring: consistent hashing; a shard that joins or leaves moves only its own keys. \
                 ketama: the same as nginx's `hash … consistent`. balanced: what replicated pools \
                 have, in which each shard has its share to the slot.",
            )
            .usually("ring"),
            key(
                "hash_seed",
                Text("^.{1,256}$"),
                "What the ring is derived from, the pool's name unless set; never change it.",
            ),
            key(
                "vnodes",
                Number(1, 4096),
                "Places of a shard on the ring, per unit of its weight.",
            )
            .usually("256"),
            key(
                "immutable",
                Truth,
                "Whether what stands under a key never changes: then writes and deletes, too, go to \
                 the next shard while the owner is down.",
            )
            .usually("false"),
            key(
                "mode",
                Words(&["any", "primary"]),
                "Whose word says that a shard is down: that of most nodes and each node's own, or \
                 only that of most nodes.",
            )
            .usually("any"),
            key(
                "host",
                Words(&["shard", "client"]),
                "The Host field that shards are sent: their own, or as the client sent it.",
            )
            .usually("shard"),
            key("health", Section(&schema::HEALTH), "Which shards work?"),
            key(
                "timeouts",
                Section(&schema::POOL_TIMEOUTS),
                "How long a shard may take; then 504, unless another may be asked.",
            ),
            key("limits", Section(&schema::POOL_LIMITS), "What the pool's connections may grow to."),
            key("retry", Section(&schema::RETRY), "When a request is tried again."),
            key(
                "hash_balance_factor",
                Either(&[Words(&["none"]), Number(101, 10_000)]),
                "The most that a shard may have in flight, in percent of its fair share; what is \
                 more goes to the next shard.",
            )
            .usually("none"),
            key(
                "warm_up",
                Either(&[Words(&["off"]), TIME]),
                "How long what a shard that is new or back does not find is looked for where it \
                 was before; with immutable keys.",
            )
            .usually("off"),
            key(
                "replicas",
                Number(1, 16),
                "On how many shards each object is, in a replicated pool; in distinct zones while \
                 zones last.",
            )
            .usually("3"),
            key(
                "consistency",
                Words(&["one", "quorum", "all"]),
                "How strong a request of a replicated pool is that does not say it itself.",
            )
            .usually("quorum"),
            key(
                "tombstone_min_age",
                Duration("15m", "24h"),
                "How long a deleted object is remembered at least.",
            )
            .usually("1h"),
            key(
                "key",
                Section(&schema::KEY),
                "Where the key is of all requests to a replicated pool: in their path, all of it unless set.",
            ),
            key(
                "hash_tag",
                Either(&[Words(&["none"]), Text("^..$")]),
                "Two characters: if the key has both, only what stands between them is hashed.",
            )
            .usually("none"),
            key("repair", Section(&schema::REPAIR), "How replicas are kept alike."),
            key(
                "hints_max",
                Number(0, 100_000_000),
                "Writes that this node remembers for shards that are away.",
            )
            .usually("1000000"),
            key("tls", Section(&schema::POOL_TLS), "How shards with https are known."),
            key("shards", List(&Section(&schema::SHARD), 1, 4096), "The pool's shards."),
        ],
    },
    Described {
        section: &schema::HEALTH,
        says: "Which shards work? Decides who answers, never who owns a key.",
        rule: "",
        keys: &[
            key(
                "active",
                Either(&[Words(&["off"]), Section(&schema::ACTIVE)]),
                "Questions on a schedule.",
            ),
            key(
                "passive",
                Either(&[Words(&["off"]), Section(&schema::PASSIVE)]),
                "What clients' requests show; a shard is put aside for a while.",
            ),
            key(
                "panic_percent",
                Number(0, 100),
                "When more shards than this look down, all are tried.",
            )
            .usually("50"),
            key(
                "slow_start",
                Either(&[Words(&["none"]), TIME]),
                "How long a shard that is back takes to get all of its keys again.",
            )
            .usually("none"),
        ],
    },
    Described {
        section: &schema::ACTIVE,
        says: "Questions that each shard is asked on a schedule.",
        rule: "",
        keys: &[
            key("method", Words(&["GET", "HEAD", "OPTIONS"]), "The question's method.")
                .usually("GET"),
            key("path", Text("^/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*$"), "Its path, below the shard's URL.")
                .usually("/"),
            key(
                "expect",
                OneOrList(&Text("^[2-5][0-9][0-9](-[2-5][0-9][0-9])?$"), 1, 32),
                "Statuses and ranges that are good.",
            )
            .usually("[200-499]"),
            key("interval", TIME, "From one question to the next.").usually("2s"),
            key("timeout", TIME, "For the answer.").usually("1s"),
            key("fall", Number(1, 100), "Bad answers in a row that put a shard down.").usually("3"),
            key("rise", Number(1, 100), "Good answers in a row that bring it up again.").usually("2"),
        ],
    },
    Described {
        section: &schema::PASSIVE,
        says: "What clients' requests show of a shard.",
        rule: "",
        keys: &[
            key(
                "consecutive_5xx",
                Either(&[Words(&["off"]), Number(1, 1_000_000)]),
                "Failed answers in a row that put a shard aside.",
            )
            .usually("5"),
            key("keys_min", Number(1, 255), "Over so many keys: one bad key is not a bad shard.")
                .usually("3"),
            key(
                "connect_errors",
                Either(&[Words(&["off"]), Number(1, 1_000_000)]),
                "Connections in a row that could not be made.",
            )
            .usually("3"),
            key(
                "error_rate_percent",
                Either(&[Words(&["off"]), Number(1, 100)]),
                "Failed requests within the window.",
            )
            .usually("50"),
            key(
                "error_rate_requests_min",
                Number(1, 1_000_000_000),
                "Requests within the window below which no rate is judged.",
            )
            .usually("50"),
            key("window", TIME, "Over which the rate is judged.").usually("10s"),
            key(
                "base_ejection_time",
                TIME,
                "How long a shard is put aside the first time; the n-th time n times as long.",
            )
            .usually("30s"),
            key("max_ejection_time", TIME, "But no longer than this.").usually("5m"),
            key("max_ejection_percent", Number(0, 100), "Of the shards that may be put aside at once.")
                .usually("50"),
        ],
    },
    Described {
        section: &schema::POOL_TIMEOUTS,
        says: "How long a shard may take; then 504, unless another may be asked.",
        rule: "",
        keys: &[
            key("connect", TIME, "For a connection, name lookup included.").usually("1s"),
            key(
                "response_head",
                TIME,
                "From the end of the request to the end of the answer's head.",
            )
            .usually("30s"),
            key("idle", TIME, "Between two bytes of a body.").usually("30s"),
            key(
                "request",
                Either(&[Words(&["none"]), TIME]),
                "For the whole request, repeats included.",
            )
            .usually("none"),
            key("pool_wait", TIME, "For a free place among in_flight_per_shard; then 503.")
                .usually("1s"),
            key("expect_continue", TIME, "For the shard's word that it wants the body.").usually("1s"),
        ],
    },
    Described {
        section: &schema::POOL_LIMITS,
        says: "What the pool's connections may grow to.",
        rule: "",
        keys: &[
            key(
                "in_flight_per_shard",
                Number(1, 1_000_000),
                "Requests to a shard at once; further ones wait.",
            )
            .usually("1024"),
            key(
                "idle_per_worker",
                Number(0, 100_000),
                "Idle connections to a shard that each worker keeps.",
            )
            .usually("128"),
            key("idle", TIME, "How long; less than the shard's own keep-alive timeout.")
                .usually("30s"),
            key("age", TIME, "After which a connection is made anew.").usually("10m"),
            key("response_head", Size(KIB, MIB), "Of an answer's head; a larger one is 502.")
                .usually("32KiB"),
            key(
                "interim_responses",
                Number(0, 1000),
                "1xx answers before the final one; more are 502.",
            )
            .usually("16"),
        ],
    },
    Described {
        section: &schema::RETRY,
        says: "When a request is tried again; only if that is harmless.",
        rule: "",
        keys: &[
            key("attempts", Number(1, 10), "Shards asked in all; 1 asks no other.").usually("3"),
            key(
                "budget_percent",
                Number(0, 100),
                "Repeats in flight, of the requests in flight.",
            )
            .usually("20"),
            key("budget_min", Number(0, 10_000), "Repeats that are always allowed.").usually("20"),
            key(
                "on_gateway_error",
                Truth,
                "Whether 502, 503, 504 of a shard count as failed attempts.",
            )
            .usually("false"),
            key(
                "hedge_after",
                Either(&[Words(&["none"]), TIME]),
                "How long the shard of a read may be silent until a second one is asked too.",
            )
            .usually("none"),
        ],
    },
    Described {
        section: &schema::POOL_TLS,
        says: "How shards with https are known: always by a certificate for their name.",
        rule: "",
        keys: &[
            key(
                "ca",
                Either(&[Words(&["system"]), PATH]),
                "Whose signature is good: the system's authorities, or those of a PEM file.",
            )
            .usually("system"),
            key(
                "server_name",
                Either(&[Words(&["none"]), PATH]),
                "The name in their certificates, if not the host in the URL.",
            )
            .usually("none"),
            key(
                "cert",
                Either(&[Words(&["none"]), PATH]),
                "A certificate that this node shows them, in PEM; with `key`.",
            )
            .usually("none"),
            key("key", Either(&[Words(&["none"]), PATH]), "Its private key, in PEM.")
                .usually("none"),
        ],
    },
    Described {
        section: &schema::SHARD,
        says: "One shard.",
        rule: "",
        keys: &[
            key("id", NAME, "Its place on the ring hangs on the id, not on the address.").needed(),
            key("url", Text("^[Hh][Tt][Tt][Pp][Ss]?://[^/?#]"), "http://HOST[:PORT][/BASE], or https.").needed(),
            key("zone", NAME, "What fails together.").usually("default"),
            key("weight", Number(0, 256), "Its share of the keys; 0 owns nothing.").usually("1"),
            key(
                "state",
                Words(&["ready", "maint"]),
                "maint: it owns its keys, but is sent nothing.",
            )
            .usually("ready"),
            key(
                "ketama_name",
                Text("^[!-~]{1,512}$"),
                "With placement ketama: the word after `server` in nginx's file; url: HOST:PORT.",
            )
            .usually("url"),
        ],
    },
];
