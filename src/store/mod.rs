//! The embedded backend: an HTTP object store in one folder, for `ringway store` and
//! `ringway dev`.
//!
//! (docs below)

mod blobs;
mod body;
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
mod reserve;
mod serve;
mod upload;
mod writer;

pub use engine::{Health, OpenError, Store};
pub use identity::StoreId;
pub use metrics::Metrics;
pub use options::{Clock, Fsync, StoreOptions};
pub use serve::serve;
