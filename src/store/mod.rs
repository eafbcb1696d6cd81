//! The embedded backend: an HTTP object store in one folder, for `ringway store` and
//! `ringway dev`.
//!
//! # The promise
//!
//! **Acknowledged means durable** (under `fsync: always`): a PUT or DELETE that was answered 2xx
//! is found after kill -9 or loss of power, whole. One that was not answered is found whole or
//! not at all. Conditions are decided in the order in which writes happen, so that the store is an
//! atomic conditional writer: of any number of racing `If-None-Match: *` exactly one wins.
//!
//! # The way of a write
//!
//! `http` reads the head → `upload` takes in the body, small into memory, large into a synced
//! file → `writer`, one thread, decides conditions and commits many writes in one transaction of
//! `index` → the view that reads use is replaced whole → all of them are answered.
//!
//! # The way of a read
//!
//! `http` looks into the current view of `index` → `conditions`, `range` judge → bytes from the
//! index, or from a file of `blobs` through `body`. A read waits for no write and sees only what
//! is committed.
//!
//! # When the disk fails
//!
//! | fault | writes | reads |
//! | --- | --- | --- |
//! | disk full | 507, nothing changed; taken again once there is room (`reserve`) | go on |
//! | fsync, write or commit fails | what was under way: 500 and `unknown`; from then on 503 until the next start (`fence`) | go on, from the last good commit (`index_file`) |
//! | read of the index fails | as above | 500 |
//! | index damaged or gone at start | refused with file and cure (`engine`) | - |
//!
//! # What it does not do
//!
//! It decodes no key (the proxy does, once), verifies no body of a cache pool when it reads it,
//! keeps no older versions, and authenticates nobody.

mod blobs;
mod body;
mod change;
mod conditions;
mod engine;
mod fence;
mod http;
mod identity;
mod index;
mod index_file;
mod list;
mod meta;
mod metrics;
mod options;
mod patience;
mod problem;
mod range;
mod record;
mod replica;
mod reserve;
mod serve;
mod tables;
mod upload;
mod view;
mod writer;

pub use engine::{Health, OpenError, Store};
pub use metrics::Metrics;
pub use options::{Clock, Fsync, StoreOptions};
pub use serve::{Door, serve, serve_at};
pub use tables::Totals;

#[cfg(test)]
#[allow(clippy::large_futures, reason = "each test has a stack of its own")]
mod tests;
