//! How do nodes prove to each other that they are of one cluster?
//!
//! Both sides show a certificate signed by the cluster's own authority, which is the only one
//! trusted: not the system's, whose thousands of customers are no members. TLS 1.3 alone, as both
//! ends are Ringway. No session is resumed: connections live long, and each proves itself anew
//! under the files in force.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, ServerConfig};
use rustls_pki_types::{ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::pem::{self, PemError};
use super::x509::Facts;

/// How many days before a certificate ends the operator is told.
pub const EXPIRY_WARNING_DAYS: u64 = 30;

/// Where a node's certificate, its key and the cluster's authority are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate, perhaps with those that lead to the authority's.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates of the authorities that sign for nodes of this cluster.
    pub authority: PathBuf,
}

/// Why files make no TLS between nodes. Each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One file by itself.
    #[error("{0}; `ringway certs` makes all three files")]
    File(#[from] PemError),
    /// The key is another one's.
    #[error(
        "the key in {} does not belong to the certificate in {}: take both from the same run of `ringway certs`",
        .0.key.display(), .0.certificate.display()
    )]
    OtherKey(Box<TlsFiles>),
    /// The certificate's time is over.
    #[error(
        "the certificate in {} has expired: move it and its key away and run `ringway certs` again",
        .0.certificate.display()
    )]
    Expired(Box<TlsFiles>),
    /// The certificate's time has not come.
    #[error(
        "the certificate in {} is not valid yet: set this machine's clock",
        .0.certificate.display()
    )]
    NotYetValid(Box<TlsFiles>),
    /// The authority did not sign it.
    #[error(
        "the certificate in {} is not signed by an authority in {}: take both from the same run of `ringway certs`, or add the other authority's certificate to that file",
        .0.certificate.display(), .0.authority.display()
    )]
    OtherAuthority(Box<TlsFiles>),
    /// Something else that rustls knows of.
    #[error(
        "the certificate in {} and the key in {} cannot be used between nodes ({error}): make them with `ringway certs`",
        .files.certificate.display(), .files.key.display()
    )]
    Unusable {
        /// Which files.
        files: Box<TlsFiles>,
        /// Why.
        #[source]
        error: rustls::Error,
    },
}

impl TlsError {
    fn of(files: &TlsFiles, error: rustls::Error) -> Self {
        use CertificateError as Bad;
        let files = Box::new(files.clone());
        match error {
            rustls::Error::InconsistentKeys(_) => Self::OtherKey(files),
            rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
                Self::Expired(files)
            }
            rustls::Error::InvalidCertificate(
                Bad::NotValidYet | Bad::NotValidYetContext { .. },
            ) => Self::NotYetValid(files),
            // An authority of the same name with another key: `BadSignature`.
            rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
                Self::OtherAuthority(files)
            }
            error => Self::Unusable { files, error },
        }
    }
}

/// Both sides of TLS between nodes, from one set of files.
pub struct PeerTls {
    files: TlsFiles,
    server: Arc<ServerTls>,
    client: Arc<ClientTls>,
}

impl PeerTls {
    /// Loads the files and judges them as a peer will.
    ///
    /// # Errors
    /// Which file is wrong, and what to do.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let loaded = Loaded::read(&files)?;
        let server = Arc::new(ServerTls { config: ArcSwap::from(loaded.server) });
        let client =
            ClientTls { config: ArcSwap::from(loaded.client), facts: ArcSwap::from(loaded.facts) };
        Ok(Self { files, server, client: Arc::new(client) })
    }

    /// Reads the same files again; connections opened from now on use what they hold, and those
    /// that are open go on.
    ///
    /// # Errors
    /// Which file is wrong, and what to do. Nothing has changed then.
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = Loaded::read(&self.files)?;
        self.server.config.store(loaded.server);
        self.client.config.store(loaded.client);
        self.client.facts.store(loaded.facts);
        Ok(())
    }

    /// What takes connections in.
    #[must_use]
    pub fn server(&self) -> Arc<ServerTls> {
        Arc::clone(&self.server)
    }

    /// What opens connections.
    #[must_use]
    pub fn client(&self) -> Arc<ClientTls> {
        Arc::clone(&self.client)
    }

    /// What to tell the operator at `now_s` (seconds since 1970) about a certificate whose end is
    /// near; nothing until [`EXPIRY_WARNING_DAYS`] before. Once a day is often enough to ask.
    #[must_use]
    pub fn expiry_warning(&self, now_s: u64) -> Option<String> {
        let days = self.facts().not_after_s.saturating_sub(now_s) / 86_400;
        (days < EXPIRY_WARNING_DAYS).then(|| {
            format!(
                "the certificate in {} expires in {days} days, and then no node will speak to \
                 this one: move it and its key away, run `ringway certs` again and reload",
                self.files.certificate.display()
            )
        })
    }

    /// Whose certificate is in force, and until when it is good.
    #[must_use]
    pub fn facts(&self) -> Arc<Facts> {
        self.client.facts.load_full()
    }
}

/// What one reading of the files came to.
struct Loaded {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    facts: Arc<Facts>,
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let chain = pem::chain(&files.certificate)?;
        let key = pem::key(&files.key)?;
        let roots = Arc::new(pem::roots(&files.authority)?);
        let wrong = |error| TlsError::of(files, error);
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| wrong(rustls::Error::General(error.to_string())))?;

        // Peers will judge this certificate from both sides; so it is judged so here. A validity
        // is a statement about the wall clock, which rustls reads in each handshake as well.
        let (own, between) = chain.split_first().expect("a chain that was read is not empty");
        let now = UnixTime::now();
        verifier.verify_client_cert(own, between, now).map_err(wrong)?;
        let algorithms = provider.signature_verification_algorithms.all;
        ParsedCertificate::try_from(own)
            .and_then(|own| {
                verify_server_cert_signed_by_trust_anchor(&own, &roots, between, now, algorithms)
            })
            .map_err(wrong)?;
        let facts = Facts::of(own).ok_or_else(|| {
            wrong(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))
        })?;

        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(wrong)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(wrong)?;
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(wrong)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(wrong)?;
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self { server: Arc::new(server), client: Arc::new(client), facts: Arc::new(facts) })
    }
}

/// The side that takes connections in.
pub struct ServerTls {
    config: ArcSwap<ServerConfig>,
}

impl ServerTls {
    /// Shakes hands. Returns the common name in the other side's certificate as well.
    ///
    /// # Errors
    /// When the other side is no member, or does not speak TLS.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<(server::TlsStream<S>, Option<Arc<str>>)> {
        let stream = TlsAcceptor::from(self.config.load_full()).accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let name =
            certificates.and_then(|chain| Facts::of(chain.first()?)?.common_name).map(Arc::from);
        Ok((stream, name))
    }
}

/// The side that opens connections.
pub struct ClientTls {
    config: ArcSwap<ClientConfig>,
    /// Of the certificate that is shown, on both sides.
    facts: ArcSwap<Facts>,
}

impl ClientTls {
    /// Shakes hands with a node whose certificate must bear `host`, a name or an address.
    ///
    /// # Errors
    /// When the other side is no member, or does not speak TLS. Whether it takes *this* side for
    /// a member is told by the first read only (RFC 8446, section 4.4.2.4).
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> io::Result<client::TlsStream<S>> {
        let host = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        TlsConnector::from(self.config.load_full()).connect(host, stream).await
    }
}
