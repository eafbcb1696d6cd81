//! `ringway certs`: the certificates by which the nodes of a cluster know each other.
//!
//! One folder holds the authority and what it signed. Running it again in the same folder adds
//! nodes; nothing is ever overwritten, so a slip of the fingers costs no running cluster its keys.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::error::AppError;
use super::say::say;
use super::store::unix_ms;
use crate::disk::atomic::sync_folder;
use crate::ids::{NameError, NodeName};
use crate::net::tls::{Authority, AuthorityError, EXPIRY_WARNING_DAYS, Host, HostError, Issued};
use crate::time::rfc3339;

/// How long a new authority is good. It is replaced by hand on every node, so rarely.
const AUTHORITY_DAYS: u32 = 3650;

const AUTHORITY: &str = "ca";

/// What the operator said.
#[derive(Debug, Clone)]
pub struct CertsArguments {
    /// The folder; made if it does not exist.
    pub out: PathBuf,
    /// Who gets a certificate.
    pub nodes: Vec<NodeHosts>,
    /// For how many days.
    pub days: u32,
}

/// A node and the hosts by which others dial it, written `n1=10.0.0.11,n1.example`.
#[derive(Debug, Clone)]
pub struct NodeHosts {
    name: NodeName,
    hosts: Vec<Host>,
    /// As they were written.
    shown: String,
}

/// Why a text is no node with its hosts.
#[derive(Debug, thiserror::Error)]
pub enum NodeHostsError {
    /// There is no `=`.
    #[error("`{0}` is not NAME=HOST[,HOST]: write `n1=10.0.0.11,n1.example`")]
    NoHosts(String),
    /// What is before it is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name that the authority's own files have.
    #[error("no node can be named `{AUTHORITY}` here: its files would be the authority's")]
    Reserved,
    /// What is behind it is no list of hosts.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl FromStr for NodeHosts {
    type Err = NodeHostsError;
    fn from_str(text: &str) -> Result<Self, NodeHostsError> {
        let no_hosts = || NodeHostsError::NoHosts(text.to_owned());
        let (name, hosts) = text.split_once('=').ok_or_else(no_hosts)?;
        let name = NodeName::new(name)?;
        if name.as_str() == AUTHORITY {
            return Err(NodeHostsError::Reserved);
        }
        let hosts_read = hosts.split(',').map(Host::parse).collect::<Result<_, _>>()?;
        Ok(Self { name, hosts: hosts_read, shown: hosts.replace(',', ", ") })
    }
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A node is named twice.
    #[error("node `{0}` is named twice: give all its hosts at once, as {0}=HOST,HOST")]
    Twice(NodeName),
    /// There is something already.
    #[error(
        "{} exists, and nothing is overwritten: to renew it, move it and its key away first",
        .0.display()
    )]
    Exists(PathBuf),
    /// Half an authority.
    #[error(
        "{} is not there, but {} is: nodes can be added only where both are. Put it back, or name another folder to make a new cluster's authority",
        .missing.display(), .found.display()
    )]
    HalfAuthority {
        /// Which of its files is missing.
        missing: PathBuf,
        /// Which is there.
        found: PathBuf,
    },
    /// The authority in the folder signs nothing.
    #[error("the authority in {} cannot sign: {error}", .path.display())]
    Authority {
        /// Its certificate.
        path: PathBuf,
        /// Why not.
        #[source]
        error: AuthorityError,
    },
    /// A file or the folder cannot be written or read.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CertsError {
    let path = path.to_owned();
    move |error| CertsError::Io { path, error }
}

/// Makes the certificates and says what to do with them.
///
/// # Errors
/// Which file is in the way or wrong, and what to do.
pub fn run(arguments: &CertsArguments) -> Result<(), AppError> {
    say(&make(arguments, unix_ms() / 1000)?)
}

/// The two files of whoever has a certificate.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn of(folder: &Path, name: &str) -> Self {
        let path = |end: &str| folder.join(format!("{name}{end}.pem"));
        Self { certificate: path(""), key: path("-key") }
    }

    /// The key first: a certificate that is there has its key.
    fn write(&self, issued: &Issued) -> Result<(), CertsError> {
        create(&self.key, &issued.key, 0o600)?;
        create(&self.certificate, &issued.certificate, 0o644)
    }
}

/// What is to be said. A separate function because it is given the time.
fn make(arguments: &CertsArguments, now_s: u64) -> Result<String, CertsError> {
    let CertsArguments { out, nodes, days } = arguments;
    // Everything that can be refused is refused before the first file is written.
    for (at, NodeHosts { name, .. }) in nodes.iter().enumerate() {
        if nodes[..at].iter().any(|other| other.name == *name) {
            return Err(CertsError::Twice(name.clone()));
        }
        let Pair { certificate, key } = Pair::of(out, name.as_str());
        if let Some(path) = [certificate, key].into_iter().find(|path| path.exists()) {
            return Err(CertsError::Exists(path));
        }
    }
    DirBuilder::new().recursive(true).mode(0o700).create(out).map_err(io_error(out))?;
    let (authority, is_new) = authority(out, now_s)?;
    let until_s = now_s.saturating_add(u64::from(*days) * 86_400);
    let mut good_until_s = u64::MAX;
    for NodeHosts { name, hosts, .. } in nodes {
        let issued =
            authority.issue(name.as_str(), hosts, now_s, until_s).map_err(wrong_authority(out))?;
        Pair::of(out, name.as_str()).write(&issued)?;
        good_until_s = good_until_s.min(issued.facts.not_after_s);
    }
    sync_folder(out).map_err(io_error(out))?;
    Ok(words(out, nodes, good_until_s, is_new))
}

/// The folder's authority, made if it has none, and whether it was made.
fn authority(folder: &Path, now_s: u64) -> Result<(Authority, bool), CertsError> {
    let pair = Pair::of(folder, AUTHORITY);
    let Pair { certificate, key } = &pair;
    match (certificate.exists(), key.exists()) {
        (true, true) => {
            let read = |path: &Path| fs::read_to_string(path).map_err(io_error(path));
            let authority = Authority::open(&read(certificate)?, &read(key)?);
            Ok((authority.map_err(wrong_authority(folder))?, false))
        }
        (false, false) => {
            let (authority, issued) =
                Authority::create(now_s, AUTHORITY_DAYS).map_err(wrong_authority(folder))?;
            pair.write(&issued)?;
            Ok((authority, true))
        }
        (true, false) => {
            Err(CertsError::HalfAuthority { missing: pair.key, found: pair.certificate })
        }
        (false, true) => {
            Err(CertsError::HalfAuthority { missing: pair.certificate, found: pair.key })
        }
    }
}

fn wrong_authority(folder: &Path) -> impl FnOnce(AuthorityError) -> CertsError {
    let path = Pair::of(folder, AUTHORITY).certificate;
    move |error| CertsError::Authority { path, error }
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(
        |mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        },
    );
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CertsError::Exists(path.to_owned()),
        _ => CertsError::Io { path: path.to_owned(), error },
    })
}

fn words(out: &Path, nodes: &[NodeHosts], good_until_s: u64, is_new: bool) -> String {
    let folder = out.display();
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes all");
    let until = rfc3339(good_until_s.saturating_mul(1000));
    let day = until.split_once('T').map_or(until.as_str(), |(day, _)| day);
    let certificates = if nodes.len() == 1 { "a certificate" } else { "certificates" };
    line(match is_new {
        true => format!("Made the authority of a new cluster and {certificates}, in {folder}."),
        false => format!("Made {certificates}, signed by the authority in {folder}."),
    });
    line(format!("Good until {day}; a node warns in its log {EXPIRY_WARNING_DAYS} days before."));
    line(String::new());
    line("Copy to each node its three files:".to_owned());
    let name_width = nodes.iter().map(|node| node.name.as_str().len()).max().unwrap_or(0);
    for NodeHosts { name, shown, .. } in nodes {
        let name = name.as_str();
        line(format!(
            "  {name:name_width$}  ca.pem {name}.pem {name}-key.pem  (dialled as {shown})"
        ));
    }
    line(String::new());
    let name = nodes.first().map_or("n1", |node| node.name.as_str());
    line(format!("and say in its configuration where they are, as for {name}:"));
    line("  cluster:".to_owned());
    line("    tls:".to_owned());
    line(format!("      ca: {folder}/ca.pem"));
    line(format!("      cert: {folder}/{name}.pem"));
    line(format!("      key: {folder}/{name}-key.pem"));
    line(String::new());
    line(format!(
        "Keep {folder}/ca-key.pem away from the nodes: who has it can make a member of the cluster."
    ));
    line("It is needed again to add a node or to renew a certificate.".to_owned());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::{PeerTls, TlsFiles};
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn arguments(folder: &TempDir, nodes: &[&str]) -> CertsArguments {
        let nodes = nodes.iter().map(|text| text.parse().expect("a node")).collect();
        CertsArguments { out: folder.path().join("certs"), nodes, days: 1095 }
    }

    fn load(folder: &TempDir, name: &str) -> PeerTls {
        let path = |file: String| folder.path().join("certs").join(file);
        PeerTls::load(TlsFiles {
            certificate: path(format!("{name}.pem")),
            key: path(format!("{name}-key.pem")),
            authority: path("ca.pem".to_owned()),
        })
        .expect("the files that were made")
    }

    #[test]
    fn one_command_makes_all_and_another_adds_a_node() {
        let folder = tempfile::tempdir().expect("a folder");
        let now_s = unix_ms() / 1000;
        let three = arguments(&folder, &["n1=10.0.0.11,n1.example", "n2=::1", "n3=[::1]"]);
        let said = make(&three, now_s).expect("made");
        for part in [
            "authority of a new cluster and certificates, in ",
            "  n1  ca.pem n1.pem n1-key.pem  (dialled as 10.0.0.11, n1.example)\n",
            "  cluster:\n    tls:\n      ca: ",
            "ca-key.pem away from the nodes",
        ] {
            assert!(said.contains(part), "`{part}` in: {said}");
        }
        let authority = fs::read(three.out.join("ca.pem")).expect("written");
        let said = make(&arguments(&folder, &["n4=n4.example"]), now_s).expect("added");
        assert!(said.starts_with("Made a certificate, signed by the authority in "), "{said}");
        assert_eq!(fs::read(three.out.join("ca.pem")).expect("there"), authority);
        for name in ["n1", "n2", "n3", "n4"] {
            let facts = load(&folder, name).facts();
            assert_eq!(facts.common_name.as_deref(), Some(name));
            assert_eq!(facts.not_after_s, now_s + 1095 * 86_400);
        }
        let mode = |name: &str| {
            let path = folder.path().join(name);
            fs::metadata(path).expect("there").permissions().mode() & 0o777
        };
        for (name, expected) in [
            ("certs", 0o700),
            ("certs/ca-key.pem", 0o600),
            ("certs/n4-key.pem", 0o600),
            ("certs/n4.pem", 0o644),
        ] {
            assert_eq!(mode(name), expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_done_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let now_s = unix_ms() / 1000;
        let refused = |nodes: &[&str]| {
            let files = || fs::read_dir(folder.path().join("certs")).map_or(0, Iterator::count);
            let before = files();
            let error = make(&arguments(&folder, nodes), now_s).expect_err("refused").to_string();
            assert_eq!(files(), before);
            error
        };
        assert!(refused(&["n1=a", "n1=b"]).contains("`n1` is named twice"));
        make(&arguments(&folder, &["n1=a"]), now_s).expect("made");
        let said = refused(&["n2=a", "n1=a"]);
        assert!(said.contains("n1.pem exists, and nothing is overwritten"), "{said}");

        let key = folder.path().join("certs/ca-key.pem");
        let kept = fs::read(&key).expect("there");
        fs::remove_file(&key).expect("removed");
        let said = refused(&["n2=a"]);
        assert!(said.contains("ca-key.pem is not there, but "), "{said}");
        let other = tempfile::tempdir().expect("a folder");
        make(&arguments(&other, &["n1=a"]), now_s).expect("made");
        fs::copy(other.path().join("certs/ca-key.pem"), &key).expect("copied");
        let said = refused(&["n2=a"]);
        assert!(said.contains("ca.pem cannot sign: it does not go with its key"), "{said}");
        fs::write(&key, kept).expect("put back");
        make(&arguments(&folder, &["n2=a"]), now_s).expect("added");
    }

    #[test]
    fn nodes_are_written_with_their_hosts() {
        for (text, said) in [
            ("n1", "is not NAME=HOST[,HOST]"),
            ("n 1=a", "`n 1` is not a name"),
            ("ca=a", "no node can be named `ca`"),
            ("n1=", "`` is no host"),
            ("n1=a,", "`` is no host"),
            ("n1=10.0.0.11:7000", "without a port"),
        ] {
            let error = text.parse::<NodeHosts>().expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
