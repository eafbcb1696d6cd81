//! Who is on the other side, and who may listen in?
//!
//! rustls with the provider `ring`, passed explicitly: what a connection may negotiate is decided
//! here and not by whatever else is linked in. [`pem`] loads files, for whomever; [`peers`] is
//! what nodes ask of each other, TLS 1.3 and a certificate of the cluster's own authority on both
//! sides; [`authority`] signs those certificates; [`shards`] is what a node asks of shards that are
//! reached by `https://`; [`clients`] is what a listener shows and asks of clients, and [`names`]
//! chooses its certificate; [`x509`] reads the two facts that people want to know of a certificate,
//! and [`reason`] sorts what goes wrong.
//!
//! What holds:
//! 1. Files are judged when they are loaded, by the code that will judge them in a handshake: a
//!    node with an expired certificate for its peers, another's key or a foreign authority does not
//!    start, and says which file and what to do.
//! 2. A reload takes effect whole or not at all, for new connections only.

mod authority;
mod clients;
mod names;
mod peers;
mod pem;
mod reason;
mod shards;
#[cfg(test)]
mod tests;
mod x509;

pub use authority::{Authority, AuthorityError, Host, HostError, Issued};
pub use clients::{
    ClientCertificates, ListenerFiles, ListenerTls, ListenerTlsError, Loaded as LoadedListener,
    Served,
};
pub use peers::{ClientTls, EXPIRY_WARNING_DAYS, PeerTls, ServerTls, TlsError, TlsFiles};
pub use pem::{PemError, chain, key, roots};
pub use reason::{Reason, ReasonCounts};
pub use shards::{Ca, ShardRefused, ShardTls, ShardTlsError, ShardTlsSettings};
pub use x509::Facts;
