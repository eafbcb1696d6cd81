//! HTTP/2 over TLS: who is offered it, what goes on to a shard, and what other people's clients
//! make of it.

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::backend::Backend;
use crate::support::process::run;
use crate::support::ringway::{Serve, shards};
use crate::support::say::require;
use crate::support::tls::{BOTH, Ca, connect, try_connect};
use crate::support::wait::until_true;

/// A node with one listener, with TLS, whose shard answers with what it was sent.
fn start(http2: &str) -> (Serve, Ca, Backend) {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let length = request.body.len();
            connection.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
            connection.say(&request.body);
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Ca::new("an authority");
    ca.write(&folder.path().join("ca.pem"));
    ca.sign(&["site.test", "127.0.0.1"]).write(folder.path(), "site");
    let text = file(folder.path(), http2, &backend);
    std::fs::write(folder.path().join("ringway.yaml"), text).expect("written");
    (Serve::start_as_written(folder), ca, backend)
}

fn file(folder: &std::path::Path, http2: &str, backend: &Backend) -> String {
    format!(
        "node: {{ name: test, data_dir: {f}/node, workers: 2 }}\nlisten:\n  data:\n    address: \
         \"127.0.0.1:0\"\n    tls: {{ certificates: {{ cert: {f}/site.pem, key: {f}/site.key }} \
         }}\n  telemetry: \"127.0.0.1:0\"\n  admin: \"127.0.0.1:0\"\nclient: {{ http2: {http2}, \
         forwarded_fields: both }}\npools:\n  - name: p\n    health: {{ active: off, passive: off \
         }}\n{}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&[backend.address]),
        f = folder.display(),
    )
}

const WANTED: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Runs a client of somebody else's making.
fn with_client(
    serve: &Serve,
    config: &Arc<ClientConfig>,
    ask: impl AsyncFnOnce(SendRequest<Bytes>),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let tcp = TcpStream::connect(serve.data).await.expect("a listener");
        let name = ServerName::try_from("site.test").expect("a name");
        let connecting = TlsConnector::from(Arc::clone(config)).connect(name, tcp);
        let tls = connecting.await.expect("a session");
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (client, connection) = h2::client::handshake(tls).await.expect("a handshake");
        let driven = tokio::spawn(connection);
        ask(client.ready().await.expect("a stream")).await;
        driven.abort();
    });
}

async fn put(client: &SendRequest<Bytes>, path: String, body: Bytes) -> Bytes {
    let mut client = client.clone().ready().await.expect("a stream");
    let url = format!("https://site.test{path}");
    let request = Request::builder().method(Method::PUT).uri(url).body(()).expect("a request");
    let (answer, mut stream) = client.send_request(request, false).expect("a stream");
    let sending = async {
        let mut rest = body;
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            let room = room.expect("an open stream").expect("room");
            let piece = rest.split_to(room.min(rest.len()));
            stream.send_data(piece, rest.is_empty()).expect("sent");
        }
    };
    let hearing = async {
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        let mut content = Vec::new();
        while let Some(bytes) = body.data().await {
            let bytes = bytes.expect("content");
            body.flow_control().release_capacity(bytes.len()).expect("it was taken");
            content.extend_from_slice(&bytes);
        }
        Bytes::from(content)
    };
    tokio::join!(sending, hearing).1
}

#[test]
fn streams_pass_by_tls_and_shards_are_told_so() {
    let (serve, ca, backend) = start("{}");
    for (at, version) in BOTH.iter().enumerate() {
        let config = ca.client(&[*version], WANTED, None);
        with_client(&serve, &config, async |client| {
            let body = |n: u8| Bytes::from(vec![n; 300_000 + usize::from(n)]);
            let asked = (0..8).map(|n| put(&client, format!("/{at}-{n}"), body(n)));
            let mut tasks = Vec::new();
            for one in asked {
                tasks.push(Box::pin(one));
            }
            let mut answers = futures_of(tasks).await;
            for n in (0..8).rev() {
                assert!(answers.pop() == Some(body(n)), "the content of stream {n}");
            }
        });
        let requests = backend.take_requests();
        assert_eq!(requests.len(), 8);
        for request in requests {
            assert_eq!(request.field("X-Forwarded-Proto"), Some("https"));
            assert_eq!(request.field("X-Forwarded-For"), Some("127.0.0.1"));
            assert!(request.field("Forwarded").is_some_and(|it| it.contains("proto=https")));
            assert_eq!(request.field("X-Forwarded-Host"), Some("site.test"));
        }
    }
    assert_eq!(serve.count("ringway_downstream_h2_cx_total"), 2);
}

/// Drives all of them at once.
async fn futures_of<T>(mut futures: Vec<std::pin::Pin<Box<impl Future<Output = T>>>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *done = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// What a client that offers these is given.
fn agreed(serve: &Serve, ca: &Ca, offered: &[&[u8]]) -> Option<Vec<u8>> {
    let client = connect(serve.data, "site.test", &ca.client(BOTH, offered, None));
    client.stream().conn.alpn_protocol().map(<[u8]>::to_vec)
}

#[test]
fn the_protocol_is_agreed_upon_in_the_handshake_alone() {
    let (serve, ca, backend) = start("{}");
    assert_eq!(agreed(&serve, &ca, WANTED), Some(b"h2".to_vec()));
    // The order is ours.
    assert_eq!(agreed(&serve, &ca, &[b"http/1.1", b"h2"]), Some(b"h2".to_vec()));
    assert_eq!(agreed(&serve, &ca, &[b"http/1.1"]), Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(&serve, &ca, &[]), None);
    // Nothing in common is an alert and not a guess (RFC 7301, section 3.2).
    let config = ca.client(BOTH, &[b"spdy/3"], None);
    let error = try_connect(serve.data, "site.test", &config).err().expect("a refusal");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    // Without ALPN it is HTTP/1.1, whatever the client goes on with (RFC 9113, section 3.3).
    let mut client = connect(serve.data, "site.test", &ca.client(BOTH, &[], None));
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
    let answer = client.hear(false).expect("an answer");
    assert!((400..=505).contains(&answer.status) && answer.closes(), "{answer:?}");
    let mut client = connect(serve.data, "site.test", &ca.client(BOTH, &[], None));
    assert_eq!(client.ask("GET", "/", "", b"").expect("an answer").status, 200);

    // Turned off by a reload, it is offered to nobody from then on; turned on, to all again.
    serve.reload_as_written(&file(serve.folder(), "off", &backend));
    until_true("it is off", || agreed(&serve, &ca, WANTED) == Some(b"http/1.1".to_vec()));
    assert!(try_connect(serve.data, "site.test", &ca.client(BOTH, &[b"h2"], None)).is_err());
    serve.reload_as_written(&file(serve.folder(), "{}", &backend));
    until_true("it is on", || agreed(&serve, &ca, WANTED) == Some(b"h2".to_vec()));
}

#[test]
fn curl_speaks_it() {
    let Some(program) = require("curl") else { return };
    let (serve, _, backend) = start("{}");
    let ca = serve.folder().join("ca.pem").display().to_string();
    let url = format!("https://{}/by-curl", serve.data);
    for (version, expected) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let mut command = Command::new(&program);
        command.args(["-q", "-sS", "--noproxy", "*", "--max-time", "20", version, "--cacert", &ca]);
        command.args(["-w", "\n%{http_version}", "--data-binary", "content", &url]);
        let said = run("curl", &mut command);
        assert!(said.success, "{}", said.stderr);
        assert_eq!(said.stdout, format!("content\n{expected}"));
        let request = backend.take_requests().remove(0);
        assert_eq!(request.field("X-Forwarded-Proto"), Some("https"));
    }
}

#[test]
fn nghttp_speaks_it() {
    let Some(program) = require("nghttp") else { return };
    let (serve, _, backend) = start("{}");
    let mut command = Command::new(program);
    command.args(["-v", "-n", "--no-verify-peer", "-m", "20"]);
    let said = run("nghttp", command.arg(format!("https://{}/by-nghttp", serve.data)));
    assert!(said.success, "{} {}", said.stdout, said.stderr);
    assert!(said.stdout.contains("The negotiated protocol: h2"), "{}", said.stdout);
    assert_eq!(said.stdout.matches(":status: 200").count(), 20, "{}", said.stdout);
    assert_eq!(backend.requests().len(), 20);
}
