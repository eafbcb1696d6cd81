//! How does one speak to a shard?
//!
//! Today one driver: [`http`], any HTTP server, for pools of kind `cache`. The native store, S3
//! and WebDAV follow; each says what of a request it sends and how.

pub mod http;
