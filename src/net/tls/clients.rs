//! How does a listener prove to clients who it is, and perhaps they to it?
//!
//! TLS 1.2 and 1.3. Suites are those of rustls, which has no others than ECDHE with an AEAD: no
//! RSA key exchange, no CBC, no RC4, nothing that would have to be switched off. Certificates are
//! chosen by name ([`names`](super::names)).
//!
//! Sessions are resumed by tickets: nothing is kept here for a client, and any worker takes them.
//! Their key is drawn at the start, replaced every six hours and forgotten after twelve, and never
//! leaves the process; a listener has its own, so that no ticket passes from one that asks for no
//! certificate to one that does. A reload keeps the key unless what is asked of clients changed:
//! whoever was let in by other rules shows a certificate again.
//!
//! Whether clients show certificates is a matter of the *listener*, not of a name or route: one
//! rule holds whatever name a client asks for in the handshake and in `Host`, so that no other name
//! leads around it, and no answer 421 is needed.
//!
//! A certificate that has expired is served and complained of, not refused: a restart must not turn
//! one old file into an outage of all names, and clients judge it anyway.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::names::{ByName, names_of};
use super::peers::EXPIRY_WARNING_DAYS;
use super::pem::{self, PemError};
use super::x509::Facts;

/// Tickets given to a TLS 1.3 client at once. Each is used once; a client that keeps a connection
/// needs one for the next, and one that wants more may ask for them (RFC 9149).
const TICKETS: usize = 1;

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked; one that is shown must be good.
    Optional,
    /// No connection without a good one.
    Required,
}

/// What a listener's TLS is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerFiles {
    /// Files of a certificate, perhaps with those that lead to its authority, and of its key. One
    /// pair at least; the first is shown where no name fits.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// The authorities that sign for clients.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show certificates; without `client_ca` they do not.
    pub client_certificates: ClientCertificates,
}

/// Why files make no TLS for a listener. Each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ListenerTlsError {
    /// One file by itself.
    #[error(transparent)]
    File(#[from] PemError),
    /// The key is another one's.
    #[error(
        "the key in {} does not belong to the first certificate in {}: name the key that it was asked for with, and put the listener's own certificate before those of its authorities",
        .key.display(), .certificate.display()
    )]
    OtherKey {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate is damaged, or its key is of a kind that is not known.
    #[error("the certificate in {} or its key cannot be used ({error}): use an ECDSA, Ed25519 or RSA certificate", .certificate.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// Why.
        #[source]
        error: rustls::Error,
    },
    /// What clients' certificates are judged by cannot be used.
    #[error("the authorities in {} cannot judge clients: {why}", .path.display())]
    Authority {
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// TLS itself cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// What is told of a certificate that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Its file.
    pub path: PathBuf,
    /// The host names that it is for.
    pub names: Vec<String>,
    /// The last second of its validity, in seconds since 1970.
    pub not_after_s: u64,
}

impl Served {
    /// What to tell the operator at `now_s` (seconds since 1970) about a certificate whose end is
    /// near; nothing until [`EXPIRY_WARNING_DAYS`] before.
    #[must_use]
    pub fn expiry_warning(&self, now_s: u64) -> Option<String> {
        let path = self.path.display();
        let cure = "put a new one in its place and reload";
        match self.not_after_s.checked_sub(now_s).map(|left_s| left_s / 86_400) {
            None => Some(format!(
                "the certificate in {path} has expired, and clients refuse it: {cure}"
            )),
            Some(days) if days < EXPIRY_WARNING_DAYS => Some(format!(
                "the certificate in {path} expires in {days} days, and then clients refuse it: {cure}"
            )),
            Some(_) => None,
        }
    }
}

/// TLS of one listener.
pub struct ListenerTls {
    now: ArcSwap<Loaded>,
}

/// What one reading of the files came to, to be [adopted](ListenerTls::adopt) or dropped.
pub struct Loaded {
    config: Arc<ServerConfig>,
    /// What is asked of clients, and whose signature is good.
    trust: blake3::Hash,
    served: Vec<Served>,
}

impl ListenerTls {
    /// Loads the files. `protocols` are offered by ALPN, the best first.
    ///
    /// # Errors
    /// Which file is wrong, and what to do.
    pub fn load(files: &ListenerFiles, protocols: &[&[u8]]) -> Result<Self, ListenerTlsError> {
        let loaded = Loaded::read(files, protocols, None)?;
        Ok(Self { now: ArcSwap::from_pointee(loaded) })
    }

    /// Reads other files, or the same again, and changes nothing yet.
    ///
    /// # Errors
    /// Which file is wrong, and what to do.
    pub fn read_again(
        &self,
        files: &ListenerFiles,
        protocols: &[&[u8]],
    ) -> Result<Loaded, ListenerTlsError> {
        Loaded::read(files, protocols, Some(&self.now.load()))
    }

    /// Has connections from now on use `loaded`; those that are open go on.
    pub fn adopt(&self, loaded: Loaded) {
        self.now.store(Arc::new(loaded));
    }

    /// The certificates in force.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        self.now.load().served.clone()
    }

    /// Shakes hands with a client, of whose bytes `first` were read already.
    ///
    /// # Errors
    /// What the client sent is no TLS, or the two have nothing in common. It was told by an alert.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        first: &[u8],
    ) -> io::Result<TlsStream<S>> {
        let config = Arc::clone(&self.now.load().config);
        let mut fed = Ok(());
        let accepting =
            TlsAcceptor::from(config).accept_with(stream, |session| fed = feed(session, first));
        let mut accepting = pin!(accepting);
        if let Err(error) = fed {
            // Polled once, it sends the alert, which is not waited for.
            std::future::poll_fn(|cx| {
                let _alert_sent = accepting.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
            return Err(error);
        }
        accepting.await
    }
}

/// Gives a session what was read for it.
fn feed(session: &mut ServerConnection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        session.read_tls(&mut bytes)?;
        session
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Ok(())
}

impl Loaded {
    fn read(
        files: &ListenerFiles,
        protocols: &[&[u8]],
        before: Option<&Loaded>,
    ) -> Result<Self, ListenerTlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut certified = Vec::new();
        let mut served = Vec::new();
        for (certificate, key) in &files.certificates {
            let (pair, facts) = read_pair(certificate, key, &provider)?;
            certified.push(pair);
            served.push(facts);
        }
        let (verifier, trust) = verifier(files, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ListenerTlsError::Setup)?;
        let builder = match verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName::new(&certified)));
        config.ticketer = match before.filter(|before| before.trust == trust) {
            Some(before) => Arc::clone(&before.config.ticketer),
            None => new_ticketer()?,
        };
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = TICKETS;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self { config: Arc::new(config), trust, served })
    }
}

fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, ListenerTlsError> {
    ring::Ticketer::new().map_err(ListenerTlsError::Setup)
}

fn read_pair(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<(Arc<CertifiedKey>, Served), ListenerTlsError> {
    let chain = pem::chain(certificate)?;
    let own = chain.first().expect("a chain that was read is not empty").clone();
    let unusable =
        |error| ListenerTlsError::Unusable { certificate: certificate.to_owned(), error };
    let pair =
        CertifiedKey::from_der(chain, pem::key(key)?, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => ListenerTlsError::OtherKey {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            },
            error => unusable(error),
        })?;
    let facts = Facts::of(&own).ok_or_else(|| {
        unusable(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))
    })?;
    let names: BTreeSet<String> = names_of(&own).into_iter().collect();
    let served = Served {
        path: certificate.to_owned(),
        names: names.into_iter().collect(),
        not_after_s: facts.not_after_s,
    };
    Ok((Arc::new(pair), served))
}

type Verifier = Arc<dyn rustls::server::danger::ClientCertVerifier>;

/// What judges clients' certificates, if any does, and a digest of what that hangs on.
fn verifier(
    files: &ListenerFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<(Option<Verifier>, blake3::Hash), ListenerTlsError> {
    let mut digest = blake3::Hasher::new();
    let (ClientCertificates::Optional | ClientCertificates::Required, Some(path)) =
        (files.client_certificates, &files.client_ca)
    else {
        return Ok((None, digest.finalize()));
    };
    let roots = pem::roots(path)?;
    let required = files.client_certificates == ClientCertificates::Required;
    digest.update(&[u8::from(required)]);
    for root in &roots.roots {
        digest.update(&root.subject);
        digest.update(&root.subject_public_key_info);
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    let verifier = builder.build().map_err(|error| ListenerTlsError::Authority {
        path: path.clone(),
        why: error.to_string(),
    })?;
    Ok((Some(verifier), digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_told_in_time() {
        const DAY_S: u64 = 86_400;
        let end_s = 1_000 * DAY_S;
        let served = Served { path: "a.pem".into(), names: vec![], not_after_s: end_s };
        let told = |at_s: u64| served.expiry_warning(at_s);
        assert_eq!(told(end_s - EXPIRY_WARNING_DAYS * DAY_S), None);
        let soon = told(end_s - 10 * DAY_S - 1).expect("ten days before");
        assert!(soon.contains("a.pem expires in 10 days"), "{soon}");
        assert!(told(end_s).expect("its last second").contains("expires in 0 days"));
        assert!(told(end_s + 1).expect("after its end").contains("has expired"));
    }
}
