//! Why did a command end without doing what it was asked?

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::certs::CertsError;
use crate::config::Diagnostics;
use crate::control;
use crate::control::standalone::ControlError;
use crate::disk::hints::HintLogError;
use crate::ids::PoolName;
use crate::net::tls::{ListenerTlsError, ShardTlsError, TlsError};
use crate::proxy::site::{OtherKey, UnknownPool};
use crate::route::RouteTableError;
use crate::store::OpenError;

/// An error as the operator reads it: the last line before the process exits non-zero.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The file is wrong; the text has every place.
    #[error("{0}")]
    Config(Box<Diagnostics>),
    /// What the file asks for cannot be brought about.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The routes make no table.
    #[error(transparent)]
    Routes(#[from] RouteTableError),
    /// A route leads nowhere.
    #[error(transparent)]
    UnknownPool(#[from] UnknownPool),
    /// A route has another rule for keys than what is agreed of its pool.
    #[error(transparent)]
    OtherKey(#[from] OtherKey),
    /// Changes that a running process cannot make: all of them.
    #[error("{} cannot change while the node runs: restart it, or change that back", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({what}): {error}{}", in_use(.error))]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What for.
        what: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// An embedded store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The log of what replicas have missed cannot be opened.
    #[error(transparent)]
    Hints(#[from] HintLogError),
    /// Certificates cannot be made.
    #[error(transparent)]
    Certs(#[from] CertsError),
    /// A node's part in its cluster cannot begin.
    #[error(transparent)]
    Group(#[from] control::group::OpenError),
    /// Certificates that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Shards of a pool cannot be reached by TLS.
    #[error("pool `{pool}`: {error}")]
    ShardTls {
        /// The pool.
        pool: PoolName,
        /// Why.
        #[source]
        error: Arc<ShardTlsError>,
    },
    /// A data listener cannot speak TLS.
    #[error("listener {address}: {error}")]
    ListenerTls {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        error: Box<ListenerTlsError>,
    },
    /// Something else of the system's.
    #[error("{what}: {error}")]
    System {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
    /// A running node answered no, or not at all.
    #[error("{0}")]
    Refused(String),
}

fn in_use(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            ": another process listens there, perhaps another ringway; stop it, or choose another port"
        }
        _ => "",
    }
}

impl AppError {
    pub(super) fn listener_tls(address: SocketAddr, error: ListenerTlsError) -> Self {
        Self::ListenerTls { address, error: Box::new(error) }
    }

    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::System { what, error }
    }
}

impl From<Diagnostics> for AppError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Config(Box::new(diagnostics))
    }
}
