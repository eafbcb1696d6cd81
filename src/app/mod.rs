//! How is a process put together and taken down?
//!
//! Each command of the binary is one module here. [`node`] composes a proxy from its parts and is
//! the only place that knows them all; it hands each room its part of the configuration and
//! nothing else.

pub mod assemble;
pub mod certs;
pub mod check;
pub mod client;
pub mod cluster;
pub mod dev;
pub mod doors;
pub mod error;
mod healing;
pub mod locate;
pub mod membership;
pub mod node;
pub mod operators;
pub mod publisher;
pub mod reloads;
pub mod repair;
pub mod ring;
pub mod say;
pub mod serve;
pub mod signals;
mod spans;
pub mod status;
pub mod store;
pub mod table;
mod wishes;
