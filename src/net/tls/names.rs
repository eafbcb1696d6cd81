//! Which of several certificates is shown to a client?
//!
//! The one for the name that the client asks for (SNI, RFC 6066, section 3): by its exact name
//! first, then by a wildcard, which stands for one label (RFC 9525, section 6.3). Of several for
//! one name, the first whose key the client can verify: so RSA may stand beside ECDSA. A client
//! that names nobody, or somebody else, is shown the first certificate of all, and judges itself.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

type Candidates = Vec<Arc<CertifiedKey>>;

/// Certificates by the names that they are for.
#[derive(Debug, Default)]
pub(super) struct ByName {
    /// Without a match; one at least.
    default: Candidates,
    exact: HashMap<String, Candidates>,
    /// By what stands behind `*.`.
    wildcards: HashMap<String, Candidates>,
}

impl ByName {
    /// Of certificates in the order in which they are preferred.
    pub(super) fn new(certified: &[Arc<CertifiedKey>]) -> Self {
        let mut by_name = Self { default: certified.to_vec(), ..Self::default() };
        for key in certified {
            let names = key.cert.first().map(names_of).unwrap_or_default();
            for name in names {
                let candidates = match name.strip_prefix("*.") {
                    Some(parent) => by_name.wildcards.entry(parent.to_owned()),
                    None => by_name.exact.entry(name),
                };
                candidates.or_default().push(Arc::clone(key));
            }
        }
        by_name
    }

    fn candidates(&self, name: Option<&str>) -> &Candidates {
        let Some(name) = name else { return &self.default };
        // The name comes in lower case; it costs nothing to be sure.
        let lower: String;
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => {
                lower = name.to_ascii_lowercase();
                &lower
            }
            false => name,
        };
        let wildcard = || self.wildcards.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wildcard).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = self.candidates(hello.server_name());
        let schemes = hello.signature_schemes();
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        candidates.iter().find(fits).or(candidates.first()).map(Arc::clone)
    }
}

/// The host names that a certificate is for, in lower case. Clients look at no other field than
/// `subjectAltName`, and so do we.
pub(super) fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let parsed = EndEntityCert::try_from(certificate);
    parsed.map_or_else(
        |_| Vec::new(),
        |parsed| parsed.valid_dns_names().map(str::to_ascii_lowercase).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::ring;

    fn certified(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed").der().clone();
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = ring::default_provider();
        let loaded = CertifiedKey::from_der(vec![certificate], key, &provider);
        Arc::new(loaded.expect("they belong together"))
    }

    #[test]
    fn exact_names_come_before_wildcards_and_those_before_the_first() {
        let first = certified(&["first.example"]);
        // A wildcard for a whole top-level domain counts for nobody, here as for clients.
        let wild = certified(&["*.site.example", "*.Deep.example", "*.test"]);
        let exact = certified(&["www.site.example", "127.0.0.1"]);
        let all = [&first, &wild, &exact].map(Arc::clone);
        let by_name = ByName::new(&all);
        for (asked, expected) in [
            (None, &first),
            (Some("first.example"), &first),
            (Some("www.site.example"), &exact),
            (Some("WWW.Site.example"), &exact),
            (Some("other.site.example"), &wild),
            (Some("a.deep.example"), &wild),
            // A wildcard stands for one label, and for one at least.
            (Some("a.b.site.example"), &first),
            (Some("site.example"), &first),
            (Some("example"), &first),
            (Some(""), &first),
            (Some("nobody.test"), &first),
        ] {
            let found = by_name.candidates(asked).first().expect("somebody is shown");
            assert!(Arc::ptr_eq(found, expected), "{asked:?}");
        }
    }
}
