//! How does a node know a shard that is reached by `https://`?
//!
//! By a certificate for the shard's name that an authority signed which the pool trusts: those of
//! the operating system, or those of a file. There is no switch to trust anybody, and a shard that
//! fails the test is never spoken to in the clear.
//!
//! The system's authorities are read from the system's store (`rustls-native-certs`), not from a
//! list built into the program: whoever runs the machine adds an authority of their own there, and
//! distrust of one arrives with the system's updates instead of with our next release. A machine
//! without a store is told so.
//!
//! Sessions are resumed, so a shard that closes its connections costs one full handshake and not
//! one for each of them. ALPN offers `http/1.1` alone, which is what is spoken to shards.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pem::{self, PemError};
use super::reason::Reason;

/// Sessions remembered, by shard: a pool may have 4,096.
const SESSIONS_MAX: usize = 4096;

/// Whose signature makes a shard's certificate good.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Ca {
    /// The operating system's authorities.
    #[default]
    System,
    /// Those of a PEM file, and no others.
    File(PathBuf),
}

/// What a pool's settings say about TLS to its shards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardTlsSettings {
    /// Who is trusted.
    pub ca: Ca,
    /// The name that is asked for and must be in the certificate; `None`: the host in the URL.
    pub server_name: Option<ServerName<'static>>,
    /// The files of the certificate and key that this node shows when it is asked for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why settings make no TLS to shards. Each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ShardTlsError {
    /// One file by itself.
    #[error(transparent)]
    File(#[from] PemError),
    /// The operating system names no authorities.
    #[error(
        "`ca: system` finds no authorities on this system{why}: install the package `ca-certificates`, or name a file in `tls.ca`"
    )]
    NoSystemStore {
        /// What reading the store said, if anything.
        why: String,
    },
    /// The key is another one's.
    #[error(
        "the key in {} does not belong to the first certificate in {}: name the key that the certificate was asked for with, and put that certificate first",
        .key.display(), .certificate.display()
    )]
    OtherKey {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Something else that rustls knows of.
    #[error("TLS to shards cannot be set up: {0}")]
    Unusable(#[source] rustls::Error),
}

/// Why a shard is not spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ShardRefused {
    /// The handshake failed.
    #[error("TLS: {error}")]
    Handshake {
        /// In a word.
        reason: Reason,
        /// In the words of the TLS library.
        #[source]
        error: io::Error,
    },
    /// This node's own settings cannot be used.
    #[error(transparent)]
    Settings(Arc<ShardTlsError>),
    /// The URL's host is no name that a certificate can have.
    #[error("a certificate cannot be for this host: write a `server_name` in the pool's `tls`")]
    NoName,
}

impl ShardRefused {
    /// What a session came to that ended behind the handshake of TLS 1.3, before anything was said
    /// in it: only then does a shard judge this node's certificate (RFC 8446, section 4.4.2.4).
    /// The error again, if it says nothing of that.
    ///
    /// # Errors
    /// The error.
    pub fn after_handshake(error: io::Error) -> Result<Self, io::Error> {
        match Reason::of_own_certificate(&error) {
            Some(reason) => Ok(Self::Handshake { reason, error }),
            None => Err(error),
        }
    }

    /// In a word.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Handshake { reason, .. } => *reason,
            Self::Settings(_) => Reason::Other,
            Self::NoName => Reason::WrongName,
        }
    }
}

/// TLS to the shards of one pool. Files are read when they are first needed or
/// [asked for](Self::ready), which whoever puts a pool together does before it is used.
#[derive(Debug, Default)]
pub struct ShardTls {
    settings: ShardTlsSettings,
    loaded: OnceLock<Result<Loaded, Arc<ShardTlsError>>>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ClientConfig>,
    /// Of everything that was in the files.
    digest: blake3::Hash,
}

impl ShardTls {
    /// By these settings, of which no file is read yet.
    #[must_use]
    pub fn new(settings: ShardTlsSettings) -> Self {
        Self { settings, loaded: OnceLock::new() }
    }

    /// Reads the files, if that was not done before. It blocks: not for the threads of requests.
    ///
    /// # Errors
    /// Which file is wrong and what to do, the same for ever after: a reload begins with a new
    /// value.
    pub fn ready(&self) -> Result<(), Arc<ShardTlsError>> {
        self.loaded().map(|_| ())
    }

    fn loaded(&self) -> Result<&Loaded, Arc<ShardTlsError>> {
        let loaded = self.loaded.get_or_init(|| Loaded::read(&self.settings).map_err(Arc::new));
        loaded.as_ref().map_err(Arc::clone)
    }

    /// Shakes hands with a shard, whose certificate must be for `host` unless the settings name
    /// another.
    ///
    /// # Errors
    /// [`ShardRefused`]; nothing of a request was sent.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: Option<&ServerName<'static>>,
        stream: S,
    ) -> Result<TlsStream<S>, ShardRefused> {
        let loaded = self.loaded().map_err(ShardRefused::Settings)?;
        let name = self.settings.server_name.as_ref().or(host).ok_or(ShardRefused::NoName)?;
        TlsConnector::from(Arc::clone(&loaded.config))
            .connect(name.clone(), stream)
            .await
            .map_err(|error| ShardRefused::Handshake { reason: Reason::of(&error), error })
    }
}

/// Two are equal if they do the same. As long as one of them has not read its files, what counts
/// is which they are.
impl PartialEq for ShardTls {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
            && match (self.loaded.get(), other.loaded.get()) {
                (Some(Ok(own)), Some(Ok(other))) => own.digest == other.digest,
                (None, _) | (_, None) => true,
                (Some(Err(_)), _) | (_, Some(Err(_))) => false,
            }
    }
}

impl Eq for ShardTls {}

impl Loaded {
    fn read(settings: &ShardTlsSettings) -> Result<Self, ShardTlsError> {
        let mut digest = blake3::Hasher::new();
        let roots = match &settings.ca {
            Ca::System => system_roots()?,
            Ca::File(path) => pem::roots(path)?,
        };
        for root in &roots.roots {
            digest.update(&root.subject);
            digest.update(&root.subject_public_key_info);
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(ShardTlsError::Unusable)?
            .with_root_certificates(roots);
        let mut config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, own) = (pem::chain(certificate)?, pem::key(key)?);
                for der in &chain {
                    digest.update(der);
                }
                digest.update(own.secret_der());
                builder.with_client_auth_cert(chain, own).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => ShardTlsError::OtherKey {
                        certificate: certificate.clone(),
                        key: key.clone(),
                    },
                    error => ShardTlsError::Unusable(error),
                })?
            }
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), digest: digest.finalize() })
    }
}

fn system_roots() -> Result<RootCertStore, ShardTlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A store has certificates that no library takes; those that are good are enough.
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(ShardTlsError::NoSystemStore { why });
    }
    Ok(roots)
}
