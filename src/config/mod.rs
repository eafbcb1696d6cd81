//! What does the file mean, and what is wrong with it?
//!
//! [`load()`] turns a YAML file into a [`Config`] of finished values, or into the list of *all* its
//! problems, each with file, line, column, key path, what was found and what would be accepted.
//! A file with ten mistakes is cured in one round, and not in ten.
//!
//! The way of a file, in which each step stands on what the one before has proven:
//!
//! 1. `raw` reads the shape of the document and the place of each part, and refuses what is too
//!    large, too deep or multiplied by aliases while it arrives. `values` lets `serde_yaml` say
//!    what each scalar is, and refuses what the two readers see differently.
//! 2. `spot`, `scalar` and `section` read single values against the table of known keys in
//!    `schema`: unknown keys, keys that stand twice, wrong kinds, ranges, units.
//! 3. `process`, `cluster`, `pools` and `routes` read their sections into the types of `checked`.
//! 4. `load` looks at what concerns several sections: routes without a pool, routes that are never
//!    reached, shards that are the node itself.
//!
//! Why not `#[derive(Deserialize)]`: it stops at the first problem, places duplicate keys at the
//! beginning of the file, and cannot point at two places.
//!
//! Invariants:
//!
//! 1. A [`Config`] exists only if its file has no error; what its rooms get needs no check.
//! 2. Every key of `schema` is read: what an operator writes is never silently ignored.
//! 3. The time and memory that a file takes are bounded, whatever is in it.
//!
//! Beside this way stands `json_schema`, by which editors know what may be written.
//!
//! Only `load` looks at the outside world, and only at the one file: no environment variable is
//! put into it, no host name looked up, no address tried.

mod checked;
mod cluster;
mod describe;
mod diagnostic;
#[cfg(test)]
mod fuzz;
mod json_schema;
mod kept;
mod listen;
mod load;
mod placement;
mod pools;
mod process;
mod raw;
mod routes;
mod scalar;
mod schema;
mod section;
mod spelling;
mod spot;
#[cfg(test)]
mod tests;
mod units;
mod values;

pub use checked::{
    AccessLogConfig, AccessLogFormat, AccessLogTarget, CertificateFiles, ClientCertificates,
    ClientConfig, ClusterConfig, Config, DataListener, Election, ForwardedFields, ForwardedRule,
    HostRule, ListenConfig, ListenerTls, LogConfig, LogFormat, LogLevel, NodeConfig, PoolConfig,
    PoolTlsConfig, ShardConfig, TlsConfig, TracingConfig, VNODES_DEFAULT, Workers,
};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use json_schema::json_schema;
pub use load::{FILE_BYTES_MAX, Loaded, load, parse};
