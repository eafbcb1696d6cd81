//! Certificates made on the spot, a client that speaks TLS, and a door of TLS before a backend.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream as TokioStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::http::Client;

/// How long a client waits for the next byte.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Both versions that are spoken.
pub const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Somebody who signs certificates.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate and its key.
pub struct Signed {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Ca {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("signed");
        let (certificate, pem) = (made.der().clone(), made.pem());
        Self { issuer: Issuer::new(params, key), certificate, pem }
    }

    /// Signs for names and addresses.
    pub fn sign(&self, names: &[&str]) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.issuer).expect("signed");
        Signed {
            certificate: made.der().clone(),
            certificate_pem: made.pem(),
            key_pem: key.serialize_pem(),
            key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        }
    }

    /// Writes its own certificate.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, &self.pem).expect("written");
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("an authority");
        Arc::new(roots)
    }

    /// A client that trusts it, speaks `versions`, offers `protocols` by ALPN, and shows `identity`
    /// when it is asked. Sessions are resumed by whoever uses the same value again.
    pub fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&[u8]],
        identity: Option<&Signed>,
    ) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).expect("versions");
        let builder = builder.with_root_certificates(self.roots());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(signed) => builder
                .with_client_auth_cert(vec![signed.certificate.clone()], signed.key.clone_key())
                .expect("a certificate and its key"),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

impl Signed {
    /// Writes `NAME.pem` and `NAME.key`, each whole at once.
    pub fn write(&self, folder: &Path, name: &str) {
        for (end, text) in [("pem", &self.certificate_pem), ("key", &self.key_pem)] {
            let path = folder.join(format!("{name}.{end}"));
            let draft = folder.join(format!("{name}.{end}.new"));
            std::fs::write(&draft, text).expect("written");
            std::fs::rename(draft, path).expect("renamed");
        }
    }
}

/// What a client with TLS speaks over.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Connects and shakes hands, asking for `name`. An error is the handshake's: either side's.
pub fn try_connect(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<Client<Tls>> {
    shake(TcpStream::connect(address)?, name, config)
}

/// Shakes hands on a connection that is open already.
pub fn shake(
    mut tcp: TcpStream,
    name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<Client<Tls>> {
    let address = tcp.peer_addr()?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(SILENCE_MAX))?;
    tcp.set_write_timeout(Some(SILENCE_MAX))?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    while session.is_handshaking() {
        session.complete_io(&mut tcp)?;
    }
    Ok(Client::over(StreamOwned::new(session, tcp), address))
}

/// The same, of which nothing else than a session is expected.
#[track_caller]
pub fn connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Client<Tls> {
    try_connect(address, name, config).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The certificate that a client was shown.
#[track_caller]
pub fn shown(client: &Client<Tls>) -> CertificateDer<'static> {
    let shown = client.stream().conn.peer_certificates();
    shown.and_then(<[_]>::first).expect("a certificate").clone()
}

/// TLS before a backend that has none: each connection is taken, decrypted, and passed on whole.
pub struct TlsDoor {
    /// Where it listens.
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl TlsDoor {
    /// Opens it before `backend`. With `clients`, whoever comes must show a certificate of that
    /// authority's.
    pub fn before(backend: SocketAddr, certificate: &Signed, clients: Option<&Ca>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(ca.roots(), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let chain = vec![certificate.certificate.clone()];
        let config = builder.with_single_cert(chain, certificate.key.clone_key()).expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut tls = acceptor.accept(tcp).await?;
                    let mut plain = TokioStream::connect(backend).await?;
                    tokio::io::copy_bidirectional(&mut tls, &mut plain).await
                });
            }
        });
        Self { address, runtime: Some(runtime) }
    }
}

impl Drop for TlsDoor {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
