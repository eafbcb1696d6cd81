//! Clients that come by TLS: which certificate they are shown and which they must show, what is
//! refused, and a reload that none of them notices.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion};
use rustls_pki_types::ServerName;
use tempfile::TempDir;

use crate::support::backend::Backend;
use crate::support::http::{Client, HttpError};
use crate::support::process::run;
use crate::support::ringway::{Serve, ringway_says, shards};
use crate::support::say::require;
use crate::support::tls::{BOTH, Ca, Signed, connect, shown, try_connect};
use crate::support::wait::{PATIENCE, until_true};

/// A file whose data listeners are `listeners`, each a mapping as it stands behind `- `.
fn file(folder: &Path, listeners: &[&str], client: &str, shard: SocketAddr) -> String {
    let data_dir = folder.join("node");
    let listeners: String = listeners.iter().map(|one| format!("    - {{ {one} }}\n")).collect();
    format!(
        "node: {{ name: test, data_dir: {}, workers: 2 }}\nlisten:\n  data:\n{listeners}  \
         telemetry: \"127.0.0.1:0\"\n  admin: \"127.0.0.1:0\"\nclient: {{ {client} }}\npools:\n  \
         - name: p\n    health: {{ active: off, passive: off }}\n{}routes:\n  - {{ name: all, pool: \
         p }}\n",
        data_dir.display(),
        shards(&[shard]),
    )
}

/// Starts a node of whose listeners each has TLS by the rest of a mapping.
fn start(folder: TempDir, tls: &[&str], client: &str, shard: SocketAddr) -> Serve {
    let listeners: Vec<String> = tls.iter().map(|tls| listener(folder.path(), tls)).collect();
    let listeners: Vec<&str> = listeners.iter().map(String::as_str).collect();
    let text = file(folder.path(), &listeners, client, shard);
    std::fs::write(folder.path().join("ringway.yaml"), text).expect("written");
    Serve::start_as_written(folder)
}

/// A listener with the certificate `site` and what else is said of its TLS.
fn listener(folder: &Path, more: &str) -> String {
    let f = folder.display();
    format!(
        "address: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert: {f}/site.pem, key: \
         {f}/site.key }}], {} }}",
        more.replace("FOLDER", &f.to_string())
    )
}

/// A folder with an authority's certificate and one of `site.test`.
fn authority() -> (TempDir, Ca) {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Ca::new("an authority");
    ca.sign(&["site.test"]).write(folder.path(), "site");
    ca.write(&folder.path().join("ca.pem"));
    (folder, ca)
}

fn failed(serve: &Serve, reason: &str) -> usize {
    let name = "ringway_downstream_tls_handshake_fail_total";
    let metrics = serve.metrics();
    let count = metrics.text(&format!("{name}{{reason=\"{reason}\"}}"));
    count.map_or(0, |count| count.parse().expect("a number"))
}

fn handshakes(serve: &Serve, version: &str, resumed: bool) -> usize {
    let labels = format!("version=\"{version}\",resumed=\"{resumed}\"");
    serve.count(&format!("ringway_downstream_tls_handshakes_total{{{labels}}}"))
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_that_it_asks_for() {
    let (folder, ca) = authority();
    let path = folder.path().display().to_string();
    let site = ca.sign(&["site.test"]);
    site.write(folder.path(), "site");
    let other = ca.sign(&["other.test", "*.other.test"]);
    other.write(folder.path(), "other");
    let backend = Backend::answering("hello");
    let listener = format!(
        "address: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert: {path}/site.pem, key: \
         {path}/site.key }}, {{ cert: {path}/other.pem, key: {path}/other.key }}] }}"
    );
    let plain = "address: \"127.0.0.1:0\"";
    let text = file(folder.path(), &[&listener, plain], "", backend.address);
    std::fs::write(folder.path().join("ringway.yaml"), text).expect("written");
    let serve = Serve::start_as_written(folder);

    for (version, expected) in [
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
    ] {
        let config = ca.client(&[version], &[b"http/1.1"], None);
        for (name, certificate) in
            [("site.test", &site), ("other.test", &other), ("www.other.test", &other)]
        {
            let mut client = connect(serve.data, name, &config);
            assert_eq!(shown(&client), certificate.certificate, "{name}");
            let session = &client.stream().conn;
            assert_eq!(session.protocol_version(), Some(expected));
            assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
            for path in ["/one", "/two"] {
                let answer = client.ask("GET", path, "", b"").expect("an answer");
                assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
            }
            let requests = backend.take_requests();
            for request in &requests {
                assert_eq!(request.field("X-Forwarded-Proto"), Some("https"));
                assert_eq!(request.field("X-Forwarded-For"), Some("127.0.0.1"));
            }
            assert_eq!(requests.len(), 2);
        }
        // A name that nobody has is shown the first, and the client judges.
        let error = try_connect(serve.data, "nobody.test", &config).err().expect("a refusal");
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }
    assert_eq!((handshakes(&serve, "1.3", false), handshakes(&serve, "1.2", false)), (3, 3));
    // The listener beside it speaks in the clear, and the shard is told that too.
    let mut client = Client::connect(serve.listeners()[1]);
    assert_eq!(client.ask("GET", "/", "", b"").expect("an answer").status, 200);
    assert_eq!(backend.take_requests()[0].field("X-Forwarded-Proto"), Some("http"));
    // When a certificate ends can be watched.
    let ends = serve.metrics().sum("ringway_listener_certificate_expiry_timestamp_seconds{");
    assert!(ends > 2e9, "{ends}");
}

#[test]
fn large_bodies_pass_both_ways_and_pipelined_requests_are_answered_in_turn() {
    let (folder, ca) = authority();
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let length = request.body.len();
            connection.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
            connection.say(&request.body);
        }
    });
    let serve = start(folder, &[""], "", backend.address);
    let body: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    for version in BOTH {
        let mut client = connect(serve.data, "site.test", &ca.client(&[version], &[], None));
        let answer = client.ask("PUT", "/large", "", &body).expect("an answer");
        assert!(answer.status == 200 && answer.body == body, "{} bytes", answer.body.len());
        let put =
            |n: usize| format!("PUT /{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n{n}");
        client.send((0..9).map(put).collect::<String>()).expect("sent");
        for n in 0..9 {
            assert_eq!(client.hear(false).expect("an answer").text(), n.to_string());
        }
        client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("sent");
        assert!(client.hear(false).expect("an answer").closes());
        // The end is said (`close_notify`), so that a cut by somebody else can be told from it.
        assert!(client.is_closed_by_peer());
    }
}

/// Runs OpenSSL's client to the end of a handshake; what it said.
fn openssl(program: &Path, address: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(["s_client", "-connect", &address.to_string(), "-servername", "site.test"]);
    let said = run("openssl", command.args(arguments).stdin(Stdio::null()));
    format!("{}\n{}", said.stdout, said.stderr)
}

#[test]
fn old_versions_and_weak_suites_are_refused() {
    let Some(program) = require("openssl") else { return };
    let (folder, _) = authority();
    let backend = Backend::answering("x");
    let serve = start(folder, &[""], "", backend.address);
    for good in [
        &["-tls1_3"][..],
        &["-tls1_2"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
    ] {
        let said = openssl(&program, serve.data, good);
        assert!(said.contains("Cipher is ") && !said.contains("(NONE)"), "{good:?}: {said}");
    }
    // The client must be made to want them: its own defaults do not offer them any more. Some it
    // cannot be made to offer at all, of which nothing is learnt.
    let mut tried = 0;
    for weak in [
        &["-tls1"][..],
        &["-tls1_1"],
        &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "aNULL:eNULL:@SECLEVEL=0"],
    ] {
        let before = failed(&serve, "nothing_in_common");
        let mut arguments = weak.to_vec();
        if weak.len() == 1 {
            arguments.extend(["-cipher", "ALL:@SECLEVEL=0"]);
        }
        let said = openssl(&program, serve.data, &arguments);
        assert!(!said.contains("Cipher is ") || said.contains("(NONE)"), "{weak:?}: {said}");
        if said.contains("alert") {
            tried += 1;
            until_true("the node counts it", || failed(&serve, "nothing_in_common") == before + 1);
        }
    }
    assert!(tried >= 4, "{tried} were refused by the node itself");
}

/// Asks once; what the client's certificate comes to shows with the first answer, as a client of
/// TLS 1.3 believes itself connected before it has been judged.
fn let_in(address: SocketAddr, config: &Arc<ClientConfig>) -> bool {
    let Ok(mut client) = try_connect(address, "site.test", config) else { return false };
    client.ask("GET", "/", "", b"").is_ok_and(|answer| answer.status == 200)
}

#[test]
fn clients_show_certificates_where_they_are_asked_to() {
    let (folder, ca) = authority();
    let clients = Ca::new("of clients");
    clients.write(&folder.path().join("clients.pem"));
    let good = clients.sign(&["somebody"]);
    let foreign = ca.sign(&["somebody"]);
    let backend = Backend::answering("x");
    let rule = |rule: &str| format!("client_ca: FOLDER/clients.pem, client_certificates: {rule}");
    let serve = start(folder, &[&rule("required"), &rule("optional"), ""], "", backend.address);
    let [required, optional, off] = serve.listeners()[..] else { panic!("three listeners") };
    for version in BOTH {
        let config = |identity: Option<&Signed>| ca.client(&[version], &[], identity);
        for (address, identity, expected) in [
            (required, Some(&good), true),
            (required, None, false),
            (required, Some(&foreign), false),
            (optional, Some(&good), true),
            (optional, None, true),
            (optional, Some(&foreign), false),
            // Nobody asks, so nothing is shown.
            (off, Some(&foreign), true),
            (off, None, true),
        ] {
            let place = serve.listeners().iter().position(|one| *one == address);
            let what = format!("listener {place:?}, a certificate: {}", identity.is_some());
            assert_eq!(let_in(address, &config(identity)), expected, "{what}");
        }
        // A session of a listener that asks for nothing opens no door that does.
        let shared = config(None);
        assert!(let_in(off, &shared) && !let_in(required, &shared));
    }
    until_true("all are counted", || {
        (failed(&serve, "no_certificate"), failed(&serve, "unknown_authority")) == (4, 4)
    });
}

#[test]
fn sessions_are_resumed_by_tickets_also_after_a_reload() {
    let (folder, ca) = authority();
    let backend = Backend::answering("x");
    let serve = start(folder, &[""], "", backend.address);
    let mut expected = 0;
    for (version, label) in [(&rustls::version::TLS13, "1.3"), (&rustls::version::TLS12, "1.2")] {
        let config = ca.client(&[version], &[], None);
        let kind = || {
            let mut client = connect(serve.data, "site.test", &config);
            assert_eq!(client.ask("GET", "/", "", b"").expect("an answer").status, 200);
            client.stream().conn.handshake_kind().expect("hands were shaken")
        };
        assert_eq!(kind(), HandshakeKind::Full);
        assert_eq!(kind(), HandshakeKind::Resumed);
        let said = ringway_says(&["reload", "--data-dir", &serve.data_dir().display().to_string()]);
        assert!(said.success, "{}", said.stderr);
        assert!(said.stdout.contains("certificates read again"), "{}", said.stdout);
        assert_eq!(kind(), HandshakeKind::Resumed);
        expected += 3;
        assert_eq!((handshakes(&serve, label, false), handshakes(&serve, label, true)), (1, 2));
    }
    assert_eq!(backend.requests().len(), expected);
}

/// Opens one connection after the other until told to stop; panics at whatever fails.
fn visitor(address: SocketAddr, config: &Arc<ClientConfig>, stop: &AtomicBool, seen: &AtomicUsize) {
    while !stop.load(Ordering::SeqCst) {
        let mut client = connect(address, "site.test", config);
        for _ in 0..2 {
            let answer = client.ask("GET", "/", "", b"").expect("an answer");
            assert_eq!((answer.status, answer.closes()), (200, false));
        }
        seen.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn certificates_are_replaced_under_load_without_a_failed_handshake() {
    let (folder, ca) = authority();
    let backend = Backend::tireless("x");
    let serve = start(folder, &[""], "", backend.address);
    let (stop, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    // One that resumes its sessions, and one that never does.
    let resuming = ca.client(BOTH, &[], None);
    let fresh = || {
        let mut config = (*ca.client(BOTH, &[], None)).clone();
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    };
    let mut lasting = connect(serve.data, "site.test", &resuming);
    let first = shown(&lasting);
    thread::scope(|scope| {
        let visitors: Vec<_> = [fresh(), fresh(), Arc::clone(&resuming)]
            .into_iter()
            .map(|config| {
                let (stop, seen, address) = (&stop, &seen, serve.data);
                scope.spawn(move || visitor(address, &config, stop, seen))
            })
            .collect();
        let ended = || visitors.iter().any(thread::ScopedJoinHandle::is_finished);
        for _ in 0..5 {
            let next = ca.sign(&["site.test"]);
            next.write(serve.folder(), "site");
            serve.process.signal(Signal::HUP);
            until_true("the new certificate is shown", || {
                shown(&connect(serve.data, "site.test", &fresh())) == next.certificate
            });
            let so_far = seen.load(Ordering::SeqCst);
            until_true("visitors come on", || ended() || seen.load(Ordering::SeqCst) > so_far + 20);
        }
        stop.store(true, Ordering::SeqCst);
    });
    // Whoever was there before stays, by what was shown then.
    assert_eq!(lasting.ask("GET", "/", "", b"").expect("an answer").status, 200);
    assert_eq!(shown(&lasting), first);
    assert_eq!(serve.metrics().sum("ringway_downstream_tls_handshake_fail_total"), 0.0);
}

#[test]
fn a_reload_with_a_bad_file_changes_nothing_and_says_which() {
    let (folder, ca) = authority();
    let backend = Backend::answering("x");
    let serve = start(folder, &[""], "", backend.address);
    let config = ca.client(BOTH, &[], None);
    let before = shown(&connect(serve.data, "site.test", &config));
    let data_dir = serve.data_dir().display().to_string();
    // Another's key: what is left when a renewal is caught in its middle.
    let key = std::fs::read(serve.folder().join("site.key")).expect("a key");
    ca.sign(&["site.test"]).write(serve.folder(), "site");
    std::fs::write(serve.folder().join("site.key"), key).expect("written");
    let said = ringway_says(&["reload", "--data-dir", &data_dir]);
    assert!(!said.success && said.stderr.contains("site.key"), "{}", said.stderr);
    assert_eq!(shown(&connect(serve.data, "site.test", &config)), before);
    let after = ca.sign(&["site.test"]);
    after.write(serve.folder(), "site");
    let said = ringway_says(&["reload", "--data-dir", &data_dir]);
    assert!(said.success, "{}", said.stderr);
    assert_eq!(shown(&connect(serve.data, "site.test", &config)), after.certificate);
    // A start reads the files too.
    std::fs::write(serve.folder().join("site.key"), "no key").expect("written");
    let folder = serve.into_folder();
    let file = folder.path().join("ringway.yaml").display().to_string();
    let said = ringway_says(&["serve", "-c", &file]);
    assert!(!said.success && said.stderr.contains("site.key"), "{}", said.stderr);
}

#[test]
fn http_in_the_clear_is_told_so_and_tls_where_there_is_none_is_counted() {
    let (folder, ca) = authority();
    let backend = Backend::answering("x");
    let tls = listener(folder.path(), "");
    let text = file(folder.path(), &[&tls, "address: \"127.0.0.1:0\""], "", backend.address);
    std::fs::write(folder.path().join("ringway.yaml"), text).expect("written");
    let serve = Serve::start_as_written(folder);
    let mut client = Client::connect(serve.data);
    let answer = client.ask("GET", "/secret", "", b"").expect("an answer");
    assert_eq!((answer.status, answer.problem().as_str()), (400, "tls-wanted"));
    assert!(answer.closes() && client.is_closed_by_peer());
    assert_eq!(failed(&serve, "not_tls"), 1);
    // What is neither TLS nor HTTP is answered nothing that could be taken for either.
    let mut client = Client::connect(serve.data);
    client.send([0u8; 64]).expect("sent");
    assert!(client.hear(false).is_err());
    until_true("it is counted", || failed(&serve, "not_tls") == 2);

    let error = try_connect(serve.listeners()[1], "site.test", &ca.client(BOTH, &[], None));
    assert!(error.is_err());
    assert_eq!(serve.count("ringway_downstream_cx_tls_in_the_clear_total"), 1);
    serve.process.stderr_line("the log tells of it", 0, |line| {
        line.contains("speaks TLS to a data listener without").then_some(())
    });
    assert!(backend.requests().is_empty());
}

#[test]
fn a_silent_client_is_closed_in_time_and_counts_from_its_first_byte_on() {
    let (folder, ca) = authority();
    let backend = Backend::answering("x");
    let short = "timeouts: { head: 200ms }, limits: { connections: 1000 }";
    let serve = start(folder, &[""], short, backend.address);
    let hello = {
        let name = ServerName::try_from("site.test").expect("a name");
        let config = ca.client(BOTH, &[], None);
        let mut session = ClientConnection::new(config, name).expect("a session");
        let mut bytes = Vec::new();
        session.write_tls(&mut bytes).expect("a hello");
        bytes
    };
    // Nothing, half a hello, a hello and then nothing.
    for so_far in [&[][..], &hello[..hello.len() / 2], &hello] {
        let before = failed(&serve, "timeout");
        let mut stream = TcpStream::connect(serve.data).expect("a connection");
        // On a busy machine its time may be over before.
        drop(stream.write_all(so_far));
        let mut heard = Vec::new();
        // A reset is an end as well.
        drop(stream.read_to_end(&mut heard));
        until_true("it is counted", || failed(&serve, "timeout") == before + 1);
    }
    drop(serve);

    // Those that never come through are clients too, and cannot be more than these may be.
    let (folder, _) = authority();
    let long = "timeouts: { head: 1h }, limits: { connections: 3 }";
    let serve = start(folder, &[""], long, backend.address);
    let silent: Vec<_> = (0..3).map(|_| TcpStream::connect(serve.data).expect("open")).collect();
    until_true("all are counted", || {
        serve.metrics().text("ringway_downstream_cx_active") == Some("3")
    });
    let mut one_more = Client::connect(serve.data);
    assert!(matches!(one_more.hear(false), Err(HttpError::Closed)));
    assert_eq!(serve.count("ringway_downstream_cx_overflow_total"), 1);
    drop(silent);
}

/// Head and content of a small answer leave in one record: two would be two encryptions, and two
/// wake-ups of the client.
#[test]
fn a_small_answer_is_one_record() {
    let (folder, ca) = authority();
    let backend = Backend::answering("a small answer");
    let serve = start(folder, &[""], "", backend.address);
    for version in BOTH {
        let name = ServerName::try_from("site.test").expect("a name");
        let config = ca.client(&[version], &[], None);
        let mut session = ClientConnection::new(config, name).expect("a session");
        let mut tcp = TcpStream::connect(serve.data).expect("a connection");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a socket");
        while session.is_handshaking() {
            session.complete_io(&mut tcp).expect("a handshake");
        }
        // With the first answer come tickets, or have come before.
        let records = (0..3).map(|_| {
            let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
            session.writer().write_all(request).expect("room");
            session.write_tls(&mut tcp).expect("sent");
            let (mut records, mut answer) = (0, Vec::new());
            while !answer.ends_with(b"a small answer") {
                let mut record = vec![0; 5];
                tcp.read_exact(&mut record).expect("a record");
                record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
                tcp.read_exact(&mut record[5..]).expect("the whole of it");
                let mut rest = &record[..];
                while !rest.is_empty() {
                    session.read_tls(&mut rest).expect("room");
                    session.process_new_packets().expect("a good record");
                }
                // An error is that there is nothing.
                drop(session.reader().read_to_end(&mut answer));
                records += 1;
            }
            records
        });
        assert_eq!(records.skip(1).collect::<Vec<_>>(), [1, 1]);
    }
}
