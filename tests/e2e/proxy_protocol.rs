//! Listeners behind a balancer that says for whom each connection is: the PROXY protocol, both
//! versions, as specified and as HAProxy sends them, and whatever is not it.

use rustix::process::Signal;
use std::net::SocketAddr;
use std::process::Command;

use crate::support::backend::Backend;
use crate::support::http::Client;
use crate::support::net::lasting_address;
use crate::support::process::Process;
use crate::support::ringway::{Serve, shards};
use crate::support::say::require;
use crate::support::tls::{BOTH, Ca, shake};
use crate::support::wait::{until, until_true};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("a short block").to_be_bytes();
    [SIGNATURE, &[command, family], &length, block].concat()
}

/// A node with two listeners that want a header, the second with TLS.
fn start(shard: SocketAddr) -> (Serve, Ca) {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Ca::new("an authority");
    ca.sign(&["site.test"]).write(folder.path(), "site");
    let text = format!(
        "node: {{ name: test, data_dir: {f}/node, workers: 2 }}\ndrain_timeout: 8s\nlisten:\n  data:\n    - {{ \
         address: \"127.0.0.1:0\", proxy_protocol: required }}\n    - {{ address: \
         \"127.0.0.1:0\", proxy_protocol: required, tls: {{ certificates: {{ cert: {f}/site.pem, \
         key: {f}/site.key }} }} }}\n  telemetry: \"127.0.0.1:0\"\n  admin: \
         \"127.0.0.1:0\"\nclient: {{ forwarded_fields: both }}\npools:\n  - name: p\n    health: \
         {{ active: off, passive: off }}\n{}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&[shard]),
        f = folder.path().display(),
    );
    std::fs::write(folder.path().join("ringway.yaml"), text).expect("written");
    (Serve::start_as_written(folder), ca)
}

fn refused(serve: &Serve) -> usize {
    serve.count("ringway_downstream_cx_proxy_protocol_error_total")
}

#[test]
fn the_address_in_a_header_is_the_clients() {
    let backend = Backend::answering("x");
    let (serve, ca) = start(backend.address);
    let address = |octets: &[u8], fill: usize| [octets, &vec![0x33; fill]].concat();
    let six: Vec<u8> = std::net::Ipv6Addr::LOCALHOST.octets().to_vec();
    let tlvs = [&address(&[192, 0, 2, 7], 8)[..], &[4, 0, 3, 1, 2, 3]].concat();
    let headers: Vec<(Vec<u8>, &str, &str)> = vec![
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(), "192.0.2.1", "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::9 ::1 56324 443\r\n".to_vec(), "2001:db8::9", "\"[2001:db8::9]\""),
        // Of no known client: the connection's own address.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1", "127.0.0.1"),
        (v2(0x21, 0x11, &address(&[192, 0, 2, 3], 8)), "192.0.2.3", "192.0.2.3"),
        (v2(0x21, 0x11, &tlvs), "192.0.2.7", "192.0.2.7"),
        (v2(0x21, 0x21, &address(&six, 20)), "::1", "\"[::1]\""),
        (v2(0x20, 0x00, b""), "127.0.0.1", "127.0.0.1"),
        (v2(0x21, 0x31, &[b'u'; 216]), "127.0.0.1", "127.0.0.1"),
    ];
    for (header, plain, standard) in &headers {
        let request = b"GET /one HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
        // With the request in one piece, and each byte by itself.
        let whole = [&header[..], request].concat();
        for step in [whole.len(), 1] {
            let mut client = Client::connect(serve.data);
            for piece in whole.chunks(step) {
                client.send(piece).expect("sent");
            }
            assert_eq!(client.hear(false).expect("an answer").status, 200, "{header:?}");
            // The header holds for the whole connection.
            let again = client.ask("GET", "/two", "", b"").expect("an answer");
            assert_eq!(again.status, 200);
        }
        // Then TLS, if the listener has it.
        let mut tcp = std::net::TcpStream::connect(serve.listeners()[1]).expect("a connection");
        std::io::Write::write_all(&mut tcp, header).expect("sent");
        let mut client = shake(tcp, "site.test", &ca.client(BOTH, &[], None)).expect("a session");
        assert_eq!(client.ask("GET", "/three", "", b"").expect("an answer").status, 200);
        let requests = backend.take_requests();
        assert_eq!(requests.len(), 5);
        for request in requests {
            let proto = if request.asked() == "GET /three" { "https" } else { "http" };
            assert_eq!(request.field("X-Forwarded-For"), Some(*plain), "{header:?}");
            assert_eq!(request.field("X-Forwarded-Proto"), Some(proto), "{header:?}");
            let forwarded = request.field("Forwarded").expect("it was asked for");
            assert!(forwarded.starts_with(&format!("for={standard};")), "{forwarded}");
            assert!(forwarded.contains(&format!("proto={proto}")), "{forwarded}");
        }
    }
    assert_eq!(refused(&serve), 0);
}

#[test]
fn whatever_does_not_begin_with_a_header_is_closed_unanswered() {
    let backend = Backend::answering("x");
    let (serve, ca) = start(backend.address);
    let get = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
    let v4 = [1; 12];
    let bad: Vec<Vec<u8>> = vec![
        get.to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01".to_vec(),
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
        b"proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n".to_vec(),
        b"PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n".to_vec(),
        b"PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(),
        long.into_bytes(),
        v2(0x11, 0x11, &v4),
        v2(0x22, 0x11, &v4),
        v2(0x21, 0x12, &v4),
        v2(0x21, 0x11, &v4[..8]),
        v2(0x21, 0x21, &v4),
        v2(0x21, 0x11, &[0; 5000]),
    ];
    for address in serve.listeners() {
        for bytes in &bad {
            let before = refused(&serve);
            let mut client = Client::connect(address);
            // It may be closed before all of this is sent.
            drop(client.send([bytes, &get[..]].concat()));
            let shown = String::from_utf8_lossy(bytes);
            assert!(client.is_closed_by_peer(), "{shown:?} was answered");
            assert_eq!(refused(&serve), before + 1, "{shown:?}");
        }
    }
    // A client that is not behind the balancer cannot shake hands either.
    let before = refused(&serve);
    let tcp = std::net::TcpStream::connect(serve.listeners()[1]).expect("a connection");
    assert!(shake(tcp, "site.test", &ca.client(BOTH, &[], None)).is_err());
    // One that only looks whether the port is open is nobody's mistake; one that ends in the middle
    // of its header is.
    drop(Client::connect(serve.data));
    let mut client = Client::connect(serve.data);
    client.send("PROXY TCP4 192.0.2.1").expect("sent");
    drop(client);
    until_true("two are counted", || refused(&serve) == before + 2);
    until_true("all are gone", || {
        serve.metrics().text("ringway_downstream_cx_active") == Some("0")
    });
    assert_eq!(refused(&serve), before + 2);
    assert!(backend.requests().is_empty(), "nothing reached the shard");
}

/// No request has come on such connections, so none is lost and nobody is waited for: their own time
/// would be longer than that of the drain.
#[test]
fn half_a_header_and_half_a_hello_do_not_hold_a_drain() {
    let backend = Backend::answering("x");
    let (mut serve, _) = start(backend.address);
    let listeners = serve.listeners();
    let halves = [(0, &b"PROXY TCP4"[..]), (1, b"PROXY T"), (1, b"PROXY UNKNOWN\r\n\x16\x03\x01")];
    let clients: Vec<Client> = halves
        .iter()
        .map(|(listener, half)| {
            let mut client = Client::connect(listeners[*listener]);
            client.send(half).expect("sent");
            client
        })
        .collect();
    until_true("all are there", || {
        serve.metric("ringway_downstream_cx_active") == halves.len() as f64
    });
    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    let said = serve.process.stderr();
    assert!(!said.contains("are cut"), "{said}");
    drop(clients);
}

#[test]
fn haproxy_says_for_whom_it_comes() {
    let Some(program) = require("haproxy") else { return };
    let backend = Backend::answering("x");
    let (serve, _) = start(backend.address);
    for option in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"] {
        let folder = tempfile::tempdir().expect("a folder");
        let address = lasting_address();
        let text = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  timeout server \
             20s\nfrontend f\n  bind {address}\n  default_backend b\nbackend b\n  server ringway \
             {} {option}\n",
            serve.data
        );
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(&program);
        let mut haproxy = Process::start("haproxy", command.arg("-db").arg("-f").arg(&file));
        let mut client = until("HAProxy listens", || {
            assert!(haproxy.is_running(), "HAProxy ended: {}", haproxy.stderr());
            Client::try_connect_from([127, 0, 0, 77].into(), address).ok()
        });
        assert_eq!(client.ask("GET", "/by", "", b"").expect("an answer").status, 200);
        let request = backend.take_requests().remove(0);
        assert_eq!(request.field("X-Forwarded-For"), Some("127.0.0.77"), "{option}");
    }
}
