//! Who says that somebody is a node of this cluster?
//!
//! An authority of the cluster's own: one key pair that signs the nodes' certificates and nothing
//! else. Its name is derived from its key, so that two clusters' authorities are told apart by
//! eye, and so that the key alone is enough to sign again later.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::x509::Facts;

/// How far clocks of machines may be behind the one that signs.
const CLOCKS_APART_S: u64 = 3600;

/// A name or an address under which a node is dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(SanType);

/// A text that is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no host: write a name as `n1.example` or an address as `10.0.0.11`, without a port"
)]
pub struct HostError(String);

impl Host {
    /// Reads a host as it stands in a peer's address, without the port.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let wrong = || HostError(text.to_owned());
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        match ServerName::try_from(bare).map_err(|_| wrong())? {
            ServerName::IpAddress(ip) => Ok(Self(SanType::IpAddress(IpAddr::from(ip)))),
            _name => {
                let name = Ia5String::try_from(bare.to_ascii_lowercase()).map_err(|_| wrong())?;
                Ok(Self(SanType::DnsName(name)))
            }
        }
    }
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key or the certificate cannot be read, or nothing can be drawn.
    #[error(transparent)]
    Rcgen(#[from] rcgen::Error),
    /// The certificate is none, or another key's, or its time is over.
    #[error("it does not go with its key, was not made by `ringway certs`, or has expired: {0}")]
    NotOurs(#[from] rustls::Error),
}

/// A certificate and its key, as files have them.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// Whose it is, and until when it is good.
    pub facts: Facts,
}

/// What signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    not_after_s: u64,
}

impl Authority {
    /// A new one, good from `now_s` (seconds since 1970) for so many days.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn create(now_s: u64, days: u32) -> Result<(Self, Issued), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = params(&key);
        set_validity(&mut params, now_s, now_s.saturating_add(u64::from(days) * 86_400));
        let made = params.self_signed(&key)?;
        let (certificate, key_text) = (made.der().clone(), key.serialize_pem());
        let facts = facts(&certificate)?;
        let issuer = Issuer::new(params, key);
        let authority = Self { issuer, certificate, not_after_s: facts.not_after_s };
        Ok((authority, Issued { certificate: made.pem(), key: key_text, facts }))
    }

    /// One that was made before.
    ///
    /// # Errors
    /// When the texts are no certificate and key. Whether they belong together is seen when it
    /// signs.
    pub fn open(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key)?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let not_after_s = facts(&certificate)?.not_after_s;
        let issuer = Issuer::new(params(&key), key);
        Ok(Self { issuer, certificate, not_after_s })
    }

    /// Signs for a node: good for both sides of a connection, from an hour before `now_s` (clocks
    /// differ) to `until_s`, but no longer than the authority itself.
    ///
    /// # Errors
    /// When this authority's certificate does not vouch for what its key signs.
    pub fn issue(
        &self,
        name: &str,
        hosts: &[Host],
        now_s: u64,
        until_s: u64,
    ) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = hosts.iter().map(|host| host.0.clone()).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now_s, until_s.min(self.not_after_s));
        let made = params.signed_by(&key, &self.issuer)?;
        self.vouches(made.der(), now_s)?;
        let facts = facts(made.der())?;
        Ok(Issued { certificate: made.pem(), key: key.serialize_pem(), facts })
    }

    /// Whether the world will believe what was signed: judged by what judges it later.
    fn vouches(&self, made: &CertificateDer<'_>, now_s: u64) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        let made = ParsedCertificate::try_from(made)?;
        verify_server_cert_signed_by_trust_anchor(&made, &roots, &[], now, algorithms)
    }
}

/// An authority's certificate, all but its validity: what its key determines.
fn params(key: &KeyPair) -> CertificateParams {
    let digest = blake3::hash(&key.subject_public_key_info()).to_hex();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Ringway authority {}", &digest[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn set_validity(params: &mut CertificateParams, now_s: u64, until_s: u64) {
    let at = |s| date_time_ymd(1970, 1, 1) + Duration::from_secs(s);
    // The last moment that X.509 can write is the end of the year 9999.
    let last_s = 253_402_300_799;
    params.not_before = at(now_s.saturating_sub(CLOCKS_APART_S).min(last_s));
    params.not_after = at(until_s.min(last_s));
}

fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, AuthorityError> {
    Facts::of(certificate).ok_or(AuthorityError::Rcgen(rcgen::Error::CouldNotParseCertificate))
}
