//! Ringway: a consistent-hashing sharding proxy in front of HTTP storage backends.
//!
//! The library exists for the binary `ringway`, its tests and its benchmarks; it promises no
//! stable interface. `README.md` has the architecture; the rooms below stand on floors, and a
//! room uses only what stands beneath it (`tests/architecture.rs` checks that).

// Floor 0: words and numbers.
pub mod ids;
pub mod key;
pub mod level;
pub mod limits;
pub mod metrics;
pub mod time;
pub mod trace;

// Floors 1 to 3: pure decisions.
pub mod cluster;
pub mod protocol;
pub mod ring;
pub mod route;
pub mod version;

// Floors 4 and 5: bytes to others, bytes that survive.
pub mod control;
pub mod disk;
pub mod drivers;
pub mod net;
pub mod store;

// Floors 6 to 9: requests, processes, operators.
pub mod admin;
pub mod app;
pub mod background;
pub mod cli;
pub mod config;
pub mod dispatch;
pub mod proxy;
