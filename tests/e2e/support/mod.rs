//! What the end-to-end tests stand on: processes, sockets, patience.

pub mod backend;
pub mod canary;
pub mod disk;
pub mod frames;
pub mod http;
pub mod net;
pub mod nginx;
pub mod process;
pub mod ringway;
pub mod say;
pub mod shim;
pub mod tls;
pub mod wait;
