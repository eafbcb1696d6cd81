//! What bounds a request: sizes, counts and waits, with the defaults that a careful operator wants.
//!
//! Plain values, read from the configuration and handed to the rooms that enforce them. Each
//! default is at most what the field's proxies were found to allow; where ours is smaller, the
//! field's doc says why.

use std::time::Duration;

/// What a client may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLimits {
    /// Bytes of a whole request head; more is answered 431. Real heads stay under 8 KiB, cookies
    /// of single sign-on reach 16.
    pub head_bytes_max: usize,
    /// Bytes of one line of the head: a longer request line is 414, a longer field 431.
    pub line_bytes_max: usize,
    /// Fields of one head; more is 431.
    pub fields_max: usize,
    /// Bytes of a request body; more is 413. `None` streams bodies of any size.
    pub body_bytes_max: Option<u64>,
    /// Bytes of chunk extensions in one body, which are dropped; more is 400. Nobody uses them
    /// but to hide requests in.
    pub chunk_extension_bytes_max: usize,
    /// Bytes of trailer fields; more is 431.
    pub trailer_bytes_max: usize,
    /// Requests on one connection, after which it is closed so that load spreads anew.
    pub requests_per_connection_max: u32,
    /// Connections open at once on the data listeners, all workers together; further ones are
    /// answered 503 and closed.
    pub connections_max: usize,
    /// Bytes of a request body that are held so that the request can be repeated on another
    /// connection or shard. A longer body streams, and its request is not repeated.
    pub replay_body_bytes_max: usize,
    /// The least rate, in bytes per second, at which a client must send a body and take an
    /// answer, after [`ClientTimeouts::rate_grace`] of waiting for it.
    pub rate_bytes_per_second_min: u64,
    /// What a connection of HTTP/2 may do; `None`: it is not spoken.
    pub http2: Option<Http2Limits>,
}

/// What a client may do on one connection of HTTP/2, beside what bounds its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2Limits {
    /// Requests in flight at once. The least that RFC 9113 asks servers to allow, and what HAProxy
    /// and Envoy's edge profile have.
    pub streams_max: u32,
    /// Bytes of one request's body that may be under way, and of its answer that are held.
    pub stream_window_bytes: u32,
    /// Bytes of all bodies together that may be under way to us, and of all answers that are held.
    pub connection_window_bytes: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            streams_max: 100,
            stream_window_bytes: 64 * 1024,
            connection_window_bytes: 1024 * 1024,
        }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            line_bytes_max: 8 * 1024,
            fields_max: 100,
            body_bytes_max: None,
            chunk_extension_bytes_max: 4 * 1024,
            trailer_bytes_max: 8 * 1024,
            requests_per_connection_max: 10_000,
            connections_max: 10_000,
            replay_body_bytes_max: 16 * 1024,
            rate_bytes_per_second_min: 1024,
            http2: Some(Http2Limits::default()),
        }
    }
}

/// How long a client may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From the first byte of a request to the end of its head; then 408.
    pub head: Duration,
    /// Between two bytes of a body, in either direction.
    pub body_idle: Duration,
    /// How long a body may stay under the least rate, waiting time summed up, before the
    /// connection is closed.
    pub rate_grace: Duration,
    /// Between two requests on one connection.
    pub keep_alive: Duration,
    /// How long a connection that was told to close may go on sending before it is cut.
    pub linger: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            rate_grace: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            linger: Duration::from_secs(2),
        }
    }
}

/// How long a shard may take, for one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// For a TCP connection, name lookup included.
    pub connect: Duration,
    /// From the last byte of the request to the end of the response head; then 504.
    pub response_head: Duration,
    /// Between two bytes of a body, in either direction.
    pub idle: Duration,
    /// For the whole request, repeats included; then 504, or the connection is cut if the answer
    /// has begun. `None` bounds only the parts.
    pub request: Option<Duration>,
    /// How long a request waits for one of a shard's connections when all are in use; then 503.
    pub pool_wait: Duration,
    /// How long the shard may take to say `100 Continue`, after which the body is asked for.
    pub expect_continue: Duration,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            response_head: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            request: None,
            pool_wait: Duration::from_secs(1),
            expect_continue: Duration::from_secs(1),
        }
    }
}

/// What one pool's connections may grow to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLimits {
    /// Requests in flight to one shard at once, all workers together; further ones wait.
    pub in_flight_per_shard_max: usize,
    /// Idle connections to one shard that each worker keeps.
    pub idle_per_worker_max: usize,
    /// How long an idle connection is kept. Must be below the shard's own keep-alive timeout, or
    /// requests meet connections that are just being closed.
    pub idle_max: Duration,
    /// How long a connection is used before it is replaced, so that a shard behind a balancer or
    /// a changed name is found anew.
    pub age_max: Duration,
    /// Bytes of a response head; more is 502.
    pub response_head_bytes_max: usize,
    /// Interim (1xx) answers before the final one; more is 502.
    pub interim_responses_max: u32,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            in_flight_per_shard_max: 1024,
            idle_per_worker_max: 128,
            idle_max: Duration::from_secs(30),
            age_max: Duration::from_secs(600),
            response_head_bytes_max: 32 * 1024,
            interim_responses_max: 16,
        }
    }
}

/// What one client may ask of one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests a second in the long run; at least 1.
    pub requests_per_second: u32,
    /// Requests at once, after a pause; at least 1. The pause that fills it up again is this by
    /// the rate.
    pub burst: u32,
}

/// When and how often a request is tried again, for one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Shards tried in all, the first included; 1 never asks another. A repeat on a new connection
    /// to the same shard, because a kept-alive one was closed under the request, does not count.
    pub attempts_max: u32,
    /// Repeats in flight, as a percentage of requests in flight (Envoy's retry budget). Bounds
    /// what a sick pool is burdened with in addition.
    pub budget_percent: u32,
    /// Repeats always allowed. Envoy has 3; ours is what dies with one shard of three in the middle
    /// of 60 requests, so that a crash costs a small proxy's clients nothing.
    pub budget_min: u32,
    /// Whether 502, 503 and 504 answers of a shard to a safe request are tried on the next shard.
    pub on_gateway_error: bool,
    /// How long a read without a body waits for the head of its answer before a second shard is
    /// asked besides. `None`: it is asked only if the first fails.
    pub hedge_after: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            budget_percent: 20,
            budget_min: 20,
            on_gateway_error: false,
            hedge_after: None,
        }
    }
}

/// What one node does for a pool that keeps data, beside serving it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSettings {
    /// How often all replicas are compared, and brought to the newest. `None`: only when asked.
    pub repair_interval: Option<Duration>,
    /// How much that may read and write, together.
    pub repair_bytes_per_second_max: u64,
    /// Hints that are kept for shards that are away; what is beyond is left to the comparison.
    pub hints_max: u64,
}

impl Default for KeptSettings {
    fn default() -> Self {
        Self {
            repair_interval: Some(Duration::from_secs(3600)),
            repair_bytes_per_second_max: 32 << 20,
            hints_max: 1_000_000,
        }
    }
}
