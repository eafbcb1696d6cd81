//! How do bytes reach clients, shards and other nodes?
//!
//! Sockets, deadlines, buffers, TLS and the HTTP/1.1 codec. This room knows bytes, messages and
//! time; it knows no pool, key or ring. What clients and shards are served by belongs to one
//! worker thread and takes no lock; [`peer`] and [`tls`] belong to the control plane.

pub mod buffer;
pub mod http1;
pub mod listener;
pub mod peer;
pub mod proxy_protocol;
pub mod splice;
pub mod timers;
pub mod tls;
pub mod upstream;
mod upstream_stream;
pub mod wire;
