//! How does one speak to a shard?
//!
//! Two drivers: [`http`], any HTTP server, for pools of kind `cache`, which passes on what clients
//! ask; and [`native`], our own stores, for pools that keep several copies. S3 and WebDAV follow;
//! each says what of a request it sends and how.

pub mod http;
pub mod native;
