//! Shards that are reached by `https://`: known by their authority and their name, probed in the
//! same way, and never spoken to otherwise.

use std::net::SocketAddr;

use crate::support::backend::Backend;
use crate::support::http::{get, put};
use crate::support::ringway::Serve;
use crate::support::tls::{Ca, TlsDoor};
use crate::support::wait::until_true;

/// A pool whose one shard is at `url`; `tls` and `health` as they stand in the file.
fn pool(url: &str, tls: &str, health: &str) -> String {
    format!(
        "pools:\n  - name: p\n    health: {{ {health} }}\n    tls: {{ {tls} }}\n    shards:\n      \
         - {{ id: s1, url: \"{url}\" }}\nroutes:\n  - {{ name: all, pool: p }}\n"
    )
}

const NO_OPINION: &str = "active: off, passive: off";

/// A folder with the authority's certificate, and the authority.
fn authority() -> (tempfile::TempDir, Ca) {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Ca::new("of shards");
    ca.write(&folder.path().join("ca.pem"));
    (folder, ca)
}

fn failed(serve: &Serve, reason: &str) -> f64 {
    let series = format!("{{pool=\"p\",shard=\"s1\",reason=\"{reason}\"}}");
    serve.metrics().value(&format!("ringway_upstream_tls_fail_total{series}")).unwrap_or(0.0)
}

#[test]
fn a_shard_of_a_trusted_authority_is_asked_and_its_connection_kept() {
    let (folder, ca) = authority();
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let length = request.body.len();
            connection.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
            connection.say(&request.body);
        }
    });
    let door = TlsDoor::before(backend.address, &ca.sign(&["127.0.0.1"]), None);
    let tls = format!("ca: {}/ca.pem", folder.path().display());
    let url = format!("https://{}/base", door.address);
    let serve = Serve::start_in(folder, &pool(&url, &tls, NO_OPINION));
    let mut client = crate::support::http::Client::connect(serve.data);
    let body: Vec<u8> = (0..2_000_000u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    for _ in 0..3 {
        let answer = client.ask("PUT", "/key", "", &body).expect("an answer");
        assert!(answer.status == 200 && answer.body == body, "{}", answer.status);
    }
    let requests = backend.take_requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!((request.asked(), request.connection), ("PUT /base/key", 0));
        assert_eq!(request.field("Host"), Some(door.address.to_string().as_str()));
    }
    assert_eq!(serve.metrics().sum("ringway_upstream_tls_fail_total"), 0.0);
}

#[test]
fn a_shard_that_is_not_who_it_should_be_is_not_spoken_to() {
    let backend = Backend::answering("secret");
    let ask = |tls: &str, url: &str, folder, reason: &str| {
        let serve = Serve::start_in(folder, &pool(url, tls, NO_OPINION));
        let answer = get(serve.data, "/x");
        assert_eq!((answer.status, answer.problem().as_str()), (503, "shard-untrusted"));
        assert!(answer.text().contains(reason), "{}", answer.text());
        assert!(failed(&serve, reason) >= 1.0, "{}", serve.metrics().0);
        serve
    };
    let at = |door: &TlsDoor| format!("https://{}", door.address);

    let (folder, ca) = authority();
    let stranger = TlsDoor::before(backend.address, &Ca::new("other").sign(&["127.0.0.1"]), None);
    let tls = format!("ca: {}/ca.pem", folder.path().display());
    ask(&tls, &at(&stranger), folder, "unknown_authority");

    let (folder, other_ca) = authority();
    let misnamed = TlsDoor::before(backend.address, &other_ca.sign(&["store.test"]), None);
    let tls = format!("ca: {}/ca.pem", folder.path().display());
    let serve = ask(&tls, &at(&misnamed), folder, "wrong_name");
    // The name that the certificate has can be asked for instead, by a reload.
    serve.hang_up(&pool(&at(&misnamed), &format!("{tls}, server_name: store.test"), NO_OPINION));
    until_true("the name is right", || get(serve.data, "/x").status == 200);
    backend.take_requests();

    let (folder, _) = authority();
    let tls = format!("ca: {}/ca.pem", folder.path().display());
    let clear = Backend::start(|connection| {
        connection.more();
        connection.say("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        connection.until_closed();
    });
    ask(&tls, &format!("https://{}", clear.address), folder, "not_tls");

    // A shard that wants a certificate is shown one where the pool has it.
    let (folder, clients) = authority();
    let asking = TlsDoor::before(backend.address, &ca.sign(&["127.0.0.1"]), Some(&clients));
    ca.write(&folder.path().join("ca.pem"));
    clients.sign(&["this node"]).write(folder.path(), "node-cert");
    let f = folder.path().display().to_string();
    let serve =
        Serve::start_in(folder, &pool(&at(&asking), &format!("ca: {f}/ca.pem"), NO_OPINION));
    // By TLS 1.3 it says so behind the handshake, when the request may be on its way already.
    for _ in 0..3 {
        let answer = get(serve.data, "/x");
        assert_eq!((answer.status, answer.problem().as_str()), (503, "shard-untrusted"));
        let written = put(serve.data, "/x", &[7; 100_000]);
        assert_eq!((written.status, written.problem().as_str()), (503, "shard-untrusted"));
        assert_eq!(written.field("Ringway-Outcome"), Some("not-applied"));
        assert!(answer.text().contains("no_certificate"), "{}", answer.text());
    }
    assert!(failed(&serve, "no_certificate") >= 6.0, "{}", serve.metrics().0);
    assert!(backend.requests().is_empty(), "nothing reached a shard that was not to be trusted");
    let with = format!("ca: {f}/ca.pem, cert: {f}/node-cert.pem, key: {f}/node-cert.key");
    serve.hang_up(&pool(&at(&asking), &with, NO_OPINION));
    until_true("the shard is content", || get(serve.data, "/x").status == 200);
}

#[test]
fn probes_go_by_tls_and_tell_a_stranger() {
    let (folder, ca) = authority();
    let backend = Backend::answering("well");
    let good = TlsDoor::before(backend.address, &ca.sign(&["127.0.0.1"]), None);
    let bad = TlsDoor::before(backend.address, &Ca::new("other").sign(&["127.0.0.1"]), None);
    let tls = format!("ca: {}/ca.pem", folder.path().display());
    let url = |address: SocketAddr| format!("https://{address}");
    let active = "active: { path: /probe, interval: 50ms }, passive: off";
    let serve = Serve::start_in(folder, &pool(&url(good.address), &tls, active));
    until_true("probes come", || {
        backend.requests().iter().any(|request| request.asked() == "GET /probe")
    });
    serve.until_shard_is("p", "s1", true);
    serve.hang_up(&pool(&url(bad.address), &tls, active));
    serve.until_shard_is("p", "s1", false);
    let seen = serve.shard_status("p", "s1").to_string();
    assert!(seen.contains("authority"), "the status says why: {seen}");
    // And one that wants a certificate, where the pool has none.
    let asking = TlsDoor::before(backend.address, &ca.sign(&["127.0.0.1"]), Some(&ca));
    serve.hang_up(&pool(&url(asking.address), &tls, active));
    until_true("the status says what it wants", || {
        serve.shard_status("p", "s1").to_string().contains("no_certificate")
    });
}
