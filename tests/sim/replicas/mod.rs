//! Do the machines of replicated pools keep their promises, with stores as nodes?
//!
//! Three stores keep a few keys of one slot by the rules of `protocol::holding`; some proxies run
//! [`Write`](ringway::protocol::write::Write) and [`Read`](ringway::protocol::read::Read) for
//! clients, replay hints, compare replicas, collect tombstones, and fill a store that replaced another.
//! As in the world of the group, faults come first and healing after, and one seed is one run.
//!
//! | file | what is in it |
//! |---|---|
//! | `world` | the queue of events, the network, the run |
//! | `store` | a store: what it holds, what a kill takes from it, what it refuses |
//! | `proxy`, `upkeep` | the runners: clients' operations; hints, mending, collection |
//! | `group` | leases, epochs and barriers, as little of them as stores and writes see |
//! | `faults` | kills, stops, replaced stores, divisions, clocks |
//! | `checks/` | what must hold, one file each |
//! | `rules` | the rules, each of which can be switched off |
//!
//! Not modelled: bodies and their carrying (a value is its number), bounds of any kind, moving data.
//! Leases and barriers are those of `cluster::lease`, whose own world is next door; here they are
//! granted by a group that never fails.

mod checks;
mod faults;
mod group;
mod proxy;
mod rules;
mod runs;
mod store;
mod upkeep;
mod world;
