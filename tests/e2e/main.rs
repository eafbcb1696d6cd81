//! The binary as its users meet it: real processes, real sockets, real folders.

mod http_client;
mod store_child;
mod store_fsync;
mod store_kill;
mod store_life;
mod store_memory;
