//! Does the whole of it work? Real processes on loopback: Ringway as it is shipped, in front of
//! nginx, of its own store, and of backends that misbehave on purpose.
//!
//! House rules: no fixed port, no sleep in place of a condition, an end to every wait, and each
//! process killed by its own id. A test whose program is not installed says so aloud and passes;
//! with `RINGWAY_REQUIRE_ALL=1` it fails.

#![allow(
    clippy::cast_precision_loss,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "counts are compared with metrics, and what is said is read when a test fails"
)]

mod abusive;
mod births;
mod ccache;
mod dav;
mod dev;
mod duties;
mod easing;
mod failover;
mod front;
mod gateway;
mod healing;
mod http2;
mod http2_floods;
mod http_client;
mod kept;
mod kept_disks;
mod kept_replace;
mod kept_seen;
mod kept_uploads;
mod limits;
mod operators;
mod outlet;
mod proxy_protocol;
mod refused_upload;
mod reload;
mod slow;
mod store_child;
mod store_fsync;
mod store_kill;
mod store_life;
mod store_memory;
mod store_replica;
mod store_replica_kill;
mod store_replica_points;
mod strict;
#[allow(dead_code, reason = "the cluster tests use the rest of it")]
mod support;
mod telemetry;
mod tls_clients;
mod tls_http2;
mod tls_shards;
mod tracing;
