//! What is in a file of certificates or keys?

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The longest file that is read: a chain or a bundle of authorities has a few KiB. Keeps a path
/// that names a device or a log from filling the memory.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a file cannot be used. Each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The system says no.
    #[error("cannot read the {what} {}: {error}", .path.display())]
    Read {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// Far too long.
    #[error("{} has more than {FILE_BYTES_MAX} bytes: it is no {what}", .path.display())]
    TooLong {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Not text in the PEM form, or torn.
    #[error("{} is damaged, or no PEM file: {why}; write the {what} again", .path.display())]
    Damaged {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the reader stumbled over.
        why: String,
    },
    /// In the PEM form, and something else.
    #[error("{} holds no {what}{found}", .path.display())]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is there instead, and what that suggests.
        found: &'static str,
    },
}

/// The certificates of a file in their order: first the holder's, then those that lead to the
/// authority's.
///
/// # Errors
/// When there is none.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let what = "certificate";
    let file = File::read(what, path)?;
    file.all::<CertificateDer<'static>>()
}

/// The first private key of a file.
///
/// # Errors
/// When there is none, or none in the clear.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let file = File::read("private key", path)?;
    file.all::<PrivateKeyDer<'static>>().map(|mut all| all.swap_remove(0))
}

/// The authorities of a file, all of them trusted: while one replaces another, both stand there.
///
/// # Errors
/// When there is none, or one that cannot be trusted by anybody.
pub fn roots(path: &Path) -> Result<RootCertStore, PemError> {
    let file = File::read("authority's certificate", path)?;
    let mut roots = RootCertStore::empty();
    for certificate in file.all::<CertificateDer<'static>>()? {
        roots.add(certificate).map_err(|error| file.damaged(&error.to_string()))?;
    }
    Ok(roots)
}

struct File<'a> {
    what: &'static str,
    path: &'a Path,
    bytes: Vec<u8>,
}

impl<'a> File<'a> {
    fn read(what: &'static str, path: &'a Path) -> Result<Self, PemError> {
        let mut bytes = Vec::new();
        fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| PemError::Read { what, path: path.to_owned(), error })?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(PemError::TooLong { what, path: path.to_owned() });
        }
        Ok(Self { what, path, bytes })
    }

    /// What the file has of `T`: at least one.
    fn all<T: PemObject>(&self) -> Result<Vec<T>, PemError> {
        let all = T::pem_slice_iter(&self.bytes)
            .collect::<Result<Vec<T>, _>>()
            .map_err(|error| self.damaged(&error.to_string()))?;
        if all.is_empty() {
            let (what, path) = (self.what, self.path.to_owned());
            return Err(PemError::Missing { what, path, found: self.instead() });
        }
        Ok(all)
    }

    fn damaged(&self, why: &str) -> PemError {
        PemError::Damaged { what: self.what, path: self.path.to_owned(), why: why.to_owned() }
    }

    /// What stands in the file in place of what was looked for, as far as we know a cure.
    fn instead(&self) -> &'static str {
        let text = String::from_utf8_lossy(&self.bytes);
        if text.trim().is_empty() {
            return ": it is empty";
        }
        if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY") || text.contains("ENCRYPTED\n") {
            return " in the clear: a node starts with nobody there to type a passphrase; remove it \
                    (`openssl pkey -in OLD -out NEW`)";
        }
        let first = <(SectionKind, Vec<u8>)>::from_pem_slice(&self.bytes);
        match first.map(|(kind, _)| kind) {
            Ok(SectionKind::Certificate) => {
                " but a certificate: are the files of the certificate and of the key swapped?"
            }
            Ok(
                SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey,
            ) => " but a private key: are the files of the certificate and of the key swapped?",
            Ok(SectionKind::Csr) => " but a request for a certificate: have it signed first",
            Ok(_) => " but something else in PEM",
            Err(_) => ": it is no PEM file (`-----BEGIN …`); the binary form is not read",
        }
    }
}
