//! Are nodes told from strangers, and files that are wrong from those that are right?

use std::fs;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustls::crypto::ring;
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::{ServerName, UnixTime};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::ids::PeerAddress;
use crate::net::peer::{
    CallError, Introduction, PeerAnswer, PeerClient, PeerHandler, PeerRequest, TcpDial, TcpPeers,
    serve,
};

const YEAR_S: u64 = 365 * 86_400;

fn now_s() -> u64 {
    UnixTime::now().as_secs()
}

/// A folder with the files of an authority and of nodes.
struct Folder {
    folder: TempDir,
    authority: Authority,
    certificate: String,
}

impl Folder {
    fn new() -> Self {
        Self::made_at(now_s())
    }

    fn made_at(at_s: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (authority, issued) = Authority::create(at_s, 3650).expect("made");
        fs::write(folder.path().join("ca.pem"), &issued.certificate).expect("written");
        Self { folder, authority, certificate: issued.certificate }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Issues for the loopback address, good for a year from `at_s`.
    fn issue_at(&self, name: &str, at_s: u64) -> TlsFiles {
        let host = Host::parse("127.0.0.1").expect("an address");
        let issued = self.authority.issue(name, &[host], at_s, at_s + YEAR_S).expect("signed");
        fs::write(self.path(&format!("{name}.pem")), issued.certificate).expect("written");
        fs::write(self.path(&format!("{name}-key.pem")), issued.key).expect("written");
        self.files(name)
    }

    fn issue(&self, name: &str) -> TlsFiles {
        self.issue_at(name, now_s())
    }

    fn files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}-key.pem")),
            authority: self.path("ca.pem"),
        }
    }

    fn load(&self, name: &str) -> PeerTls {
        PeerTls::load(self.issue(name)).expect("good files")
    }
}

/// Answers with the name in the asking side's certificate.
struct WhoAsks;

impl PeerHandler for WhoAsks {
    fn admit(&self, _: &str, _: &Introduction) -> Result<usize, PeerAnswer> {
        Ok(0)
    }

    async fn answer(self: Arc<Self>, request: PeerRequest) -> PeerAnswer {
        PeerAnswer::ok(request.certificate.expect("TLS is on").as_bytes().to_vec())
    }
}

async fn start(tls: &PeerTls) -> PeerAddress {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(serve(TcpPeers(listener), Some(tls.server()), Arc::new(WhoAsks), pending()));
    PeerAddress::parse(&address).expect("an address")
}

fn client(tls: &PeerTls) -> PeerClient {
    PeerClient::new(TcpDial, Some(tls.client()))
}

async fn ask(client: &PeerClient, to: &PeerAddress) -> Result<String, CallError> {
    let answer = client.call(to, "/", Bytes::new(), Duration::from_secs(10)).await?;
    Ok(String::from_utf8(answer.body.to_vec()).expect("a name"))
}

/// What a stranger with this configuration hears when it asks as a node does.
async fn stranger(config: ClientConfig, to: &PeerAddress) -> std::io::Error {
    let stream = TcpStream::connect((to.host(), to.port())).await.expect("it listens");
    let host = ServerName::try_from("127.0.0.1").expect("an address");
    let conversation = async {
        let mut stream = TlsConnector::from(Arc::new(config)).connect(host, stream).await?;
        stream.write_all(b"POST / HTTP/1.1\r\nRingway-Protocol: 1\r\n\r\n").await?;
        stream.flush().await?;
        let read = stream.read(&mut [0; 100]).await?;
        panic!("a stranger was answered with {read} bytes");
    };
    let heard: std::io::Result<()> = conversation.await;
    heard.expect_err("a stranger")
}

fn trusting(
    authority: &Path,
    version: &'static SupportedProtocolVersion,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version of TLS")
        .with_root_certificates(roots(authority).expect("good"))
}

#[tokio::test]
async fn members_know_each_other_by_name() {
    let folder = Folder::new();
    let (n1, n2) = (folder.load("n1"), folder.load("n2"));
    let (to1, to2) = (start(&n1).await, start(&n2).await);
    assert_eq!(ask(&client(&n2), &to1).await.expect("a member"), "n2");
    assert_eq!(ask(&client(&n1), &to2).await.expect("a member"), "n1");
    assert_eq!(n1.facts().common_name.as_deref(), Some("n1"));
    let end_s = n1.facts().not_after_s;
    assert!(end_s.abs_diff(now_s() + YEAR_S) < 60);
    assert_eq!(n1.expiry_warning(end_s - EXPIRY_WARNING_DAYS * 86_400), None);
    let warning = n1.expiry_warning(end_s - 10 * 86_400 - 1).expect("ten days before");
    assert!(warning.contains("n1.pem expires in 10 days"), "{warning}");
}

#[tokio::test]
async fn strangers_are_refused_on_either_side() {
    let (ours, theirs) = (Folder::new(), Folder::new());
    let n1 = ours.load("n1");
    let to = start(&n1).await;

    // Of another cluster: it does not believe us either, and is first to notice.
    let other = theirs.load("n1");
    let error = ask(&client(&other), &to).await.expect_err("another authority");
    assert!(matches!(error, CallError::Tls(_)) && error.is_surely_unsent(), "{error}");

    // It believes us, but has no certificate that we believe.
    let both = format!("{}{}", ours.certificate, theirs.certificate);
    fs::write(theirs.path("ca.pem"), both).expect("written");
    let credulous = PeerTls::load(theirs.files("n1")).expect("its own authority is still there");
    let error = ask(&client(&credulous), &to).await.expect_err("another authority");
    assert!(matches!(error, CallError::Tls(_)), "{error}");

    let authority = ours.path("ca.pem");
    let nobody = trusting(&authority, &rustls::version::TLS13).with_no_client_auth();
    let heard = stranger(nobody, &to).await.to_string();
    assert!(heard.contains("CertificateRequired"), "{heard}");

    let old = trusting(&authority, &rustls::version::TLS12).with_no_client_auth();
    let heard = stranger(old, &to).await.to_string();
    assert!(heard.contains("ProtocolVersion"), "{heard}");

    let long_ago = Folder::made_at(now_s() - 2 * YEAR_S);
    let expired = long_ago.issue_at("n2", now_s() - 2 * YEAR_S);
    let n3 = long_ago.load("n3");
    let to_n3 = start(&n3).await;
    let expired = trusting(&long_ago.path("ca.pem"), &rustls::version::TLS13)
        .with_client_auth_cert(
            chain(&expired.certificate).expect("good"),
            key(&expired.key).expect("good"),
        )
        .expect("they belong together");
    let heard = stranger(expired, &to_n3).await.to_string();
    assert!(heard.contains("CertificateExpired"), "{heard}");

    // A member, but not the one that was called.
    let elsewhere = PeerAddress::parse(&format!("localhost:{}", to.port())).expect("an address");
    let n2 = ours.load("n2");
    let error = ask(&client(&n2), &elsewhere).await.expect_err("no certificate for that name");
    assert!(matches!(error, CallError::Tls(_)), "{error}");

    assert_eq!(ask(&client(&n2), &to).await.expect("a member"), "n2");
}

/// The request had been read, and carried out for all we know, when a damaged record broke the
/// answer. It was told as a handshake that failed, which means that nothing was sent.
#[tokio::test]
async fn an_answer_that_tls_breaks_may_be_that_of_a_request_that_was_acted_on() {
    let folder = Folder::new();
    let (n1, n2) = (folder.load("n1"), folder.load("n2"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let to = PeerAddress::parse(&address).expect("an address");
    for beginning in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"] {
        let breaks = async {
            let (stream, _) = listener.accept().await.expect("accepted");
            let (mut stream, _) = n1.server().accept(stream).await.expect("a member");
            let _taken = stream.read(&mut [0; 1000]).await.expect("the request");
            stream.write_all(beginning.as_bytes()).await.expect("taken");
            stream.flush().await.expect("sent");
            let (tcp, _) = stream.get_mut();
            tcp.write_all(&[
                23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
                20,
            ])
            .await
            .expect("taken");
            stream
        };
        let client = client(&n2);
        let (answer, _open) = tokio::join!(ask(&client, &to), breaks);
        let error = answer.expect_err("a damaged record");
        assert!(!error.is_surely_unsent(), "{error}");
    }
}

#[tokio::test]
async fn a_stranger_without_tls_gets_a_clean_close() {
    let folder = Folder::new();
    let to = start(&folder.load("n1")).await;
    let mut stream = TcpStream::connect((to.host(), to.port())).await.expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n").await.expect("taken");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.expect("no reset");
    // One alert of TLS, and no word of HTTP.
    assert_eq!(heard.first(), Some(&21));
    assert!(heard.len() < 16, "{heard:?}");

    // The same the other way round: a node with TLS calls one without.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(serve(TcpPeers(listener), None, Arc::new(WhoAsks), pending()));
    let to = PeerAddress::parse(&address).expect("an address");
    let error = ask(&client(&folder.load("n2")), &to).await.expect_err("no TLS there");
    assert!(matches!(error, CallError::Tls(_)), "{error}");
}

/// One authority replaces another while every node is asked all the time: first both are
/// trusted, then certificates of the new one are shown, then the old one is forgotten.
#[tokio::test]
async fn certificates_are_replaced_under_load_and_no_call_fails() {
    let (old, new) = (Folder::new(), Folder::new());
    let nodes: Arc<Vec<PeerTls>> = Arc::new(vec![old.load("n1"), old.load("n2")]);
    let to = start(&nodes[0]).await;
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let keeps = client(&nodes[1]);
    assert_eq!(ask(&keeps, &to).await.expect("a member"), "n2");
    let load: Vec<_> = (0..4)
        .map(|task| {
            let (nodes, to, keeps) = (Arc::clone(&nodes), to.clone(), keeps.clone());
            let (done, answered) = (Arc::clone(&done), Arc::clone(&answered));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    // Half of them on connections that are kept, half on a new one each time.
                    let client = if task % 2 == 0 { keeps.clone() } else { client(&nodes[1]) };
                    let name = ask(&client, &to).await.expect("no call fails");
                    assert!(name.starts_with("n2"), "{name}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more_calls = async || {
        let enough = answered.load(Ordering::Relaxed) + 50;
        while answered.load(Ordering::Relaxed) < enough {
            tokio::task::yield_now().await;
        }
    };
    let reload = || nodes.iter().for_each(|node| node.reload().expect("good files"));

    more_calls().await;
    fs::write(old.path("ca.pem"), format!("{}{}", old.certificate, new.certificate))
        .expect("written");
    reload();
    more_calls().await;
    for (file, name) in [("n1", "n1"), ("n2", "n2-renewed")] {
        let renewed = new.issue(name);
        fs::copy(renewed.certificate, old.path(&format!("{file}.pem"))).expect("copied");
        fs::copy(renewed.key, old.path(&format!("{file}-key.pem"))).expect("copied");
    }
    reload();
    more_calls().await;
    fs::write(old.path("ca.pem"), &new.certificate).expect("written");
    reload();
    more_calls().await;
    done.store(true, Ordering::Relaxed);
    for task in load {
        task.await.expect("no call failed");
    }
    assert_eq!(ask(&client(&nodes[1]), &to).await.expect("a member"), "n2-renewed");
    assert_eq!(ask(&keeps, &to).await.expect("its connection goes on"), "n2");
}

#[tokio::test]
async fn a_bad_reload_changes_nothing() {
    let folder = Folder::new();
    let (n1, n2) = (folder.load("n1"), folder.load("n2"));
    let to = start(&n1).await;
    let facts = n1.facts();
    folder.issue("other");
    fs::copy(folder.path("other.pem"), folder.path("n1.pem")).expect("copied");
    let error = n1.reload().expect_err("half of the files were replaced");
    assert!(matches!(error, TlsError::OtherKey(_)), "{error}");
    fs::write(folder.path("n1.pem"), "").expect("written");
    let error = n1.reload().expect_err("an empty file").to_string();
    assert!(error.contains("n1.pem holds no certificate: it is empty"), "{error}");
    assert_eq!(n1.facts(), facts);
    assert_eq!(ask(&client(&n2), &to).await.expect("as before"), "n2");
}

#[test]
fn files_that_are_wrong_are_named_with_a_cure() {
    let folder = Folder::new();
    let good = folder.issue("n1");
    PeerTls::load(good.clone()).expect("good files");
    folder.issue("n2");
    let other = Folder::new();
    let long_ago = Folder::made_at(now_s() - 3 * YEAR_S);
    let write = |name: &str, text: &str| {
        fs::write(folder.path(name), text).expect("written");
        folder.path(name)
    };
    let torn = {
        let text = fs::read_to_string(&good.certificate).expect("text");
        write("torn.pem", &text[..text.len() / 2])
    };
    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = good.clone();
        change(&mut files);
        PeerTls::load(files).err().expect("wrong files").to_string()
    };
    let n2_key = folder.path("n2-key.pem");
    let notes = write("notes.pem", "remember the milk\n");
    let sealed = write(
        "sealed.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    for (said, name, cure) in [
        (
            with(&|files| files.key = "/nowhere/n1.pem".into()),
            "private key /nowhere/n1.pem",
            "ringway certs",
        ),
        (
            with(&|files| std::mem::swap(&mut files.key, &mut files.certificate)),
            "n1-key.pem",
            "swapped?",
        ),
        (with(&|files| files.key = files.certificate.clone()), "n1.pem", "swapped?"),
        (with(&|files| files.key.clone_from(&n2_key)), "n2-key.pem", "same run of `ringway certs`"),
        (
            with(&|files| files.certificate.clone_from(&torn)),
            "torn.pem is damaged",
            "write the certificate again",
        ),
        (
            with(&|files| files.authority.clone_from(&notes)),
            "notes.pem holds no authority's",
            "no PEM file",
        ),
        (with(&|files| files.key.clone_from(&sealed)), "sealed.pem", "passphrase"),
        (with(&|files| files.authority = "/dev/zero".into()), "/dev/zero", "no authority's"),
        (
            with(&|files| files.authority = other.path("ca.pem")),
            "ca.pem",
            "add the other authority's",
        ),
        (
            with(&|files| *files = long_ago.issue_at("n1", now_s() - 2 * YEAR_S)),
            "n1.pem has expired",
            "run `ringway certs` again",
        ),
        (
            with(&|files| *files = folder.issue_at("n3", now_s() + YEAR_S)),
            "n3.pem is not valid yet",
            "clock",
        ),
    ] {
        assert!(said.contains(name) && said.contains(cure), "`{name}` and `{cure}` in: {said}");
    }
}

#[test]
fn hosts_are_names_and_addresses_without_a_port() {
    for good in ["n1", "n1.example", "N1.Example", "10.0.0.11", "::1", "[2001:db8::1]"] {
        Host::parse(good).expect(good);
    }
    assert_eq!(Host::parse("[::1]"), Host::parse("::1"));
    assert_eq!(Host::parse("N1"), Host::parse("n1"));
    for bad in ["", "n1:7000", "10.0.0.11:7000", "[::1]:1", "a b", "*.example", "http://n1"] {
        assert!(Host::parse(bad).is_err(), "{bad:?} was taken");
    }
}

#[test]
fn an_authority_that_was_made_before_signs_again() {
    let (first, made) = Authority::create(now_s(), 3650).expect("made");
    let again = Authority::open(&made.certificate, &made.key).expect("ours");
    let host = || [Host::parse("n1").expect("a host")];
    let day = now_s() + 86_400;
    for authority in [&first, &again] {
        authority.issue("n1", &host(), now_s(), day).expect("signed");
    }
    let (_, other) = Authority::create(now_s(), 3650).expect("made");
    let mixed = Authority::open(&made.certificate, &other.key).expect("two good files");
    let error = mixed.issue("n1", &host(), now_s(), day).expect_err("another's key");
    assert!(matches!(error, AuthorityError::NotOurs(_)), "{error}");
    // Nobody is certified for longer than the authority is.
    let long = again.issue("n1", &host(), now_s(), now_s() + 100 * YEAR_S).expect("signed");
    assert_eq!(long.facts.not_after_s, made.facts.not_after_s);
}
