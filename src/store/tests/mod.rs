//! The store as its clients see it: over loopback HTTP, on a folder of its own.

mod conditional;
mod faults;
mod lifecycle;
mod reading;
mod replica;
mod waiting;
mod writing;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Registry;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// 2023-11-14 22:13:20 UTC, always.
fn noon() -> u64 {
    1_700_000_000_000
}

fn options(folder: &Path) -> StoreOptions {
    let metrics = Metrics::register(&Registry::new(), "test").expect("a fresh registry");
    let mut options = StoreOptions::new(folder.to_owned(), metrics, noon);
    options.reserve_bytes = 1024 * 1024;
    options
}

/// A store being served.
struct Server {
    store: Option<Arc<Store>>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<usize>,
}

impl Server {
    async fn start(options: StoreOptions) -> Self {
        let store = Arc::new(Store::open(options).expect("the folder can be opened"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, Arc::clone(&store), async {
            let _ = stopped.await;
        }));
        Self { store: Some(store), address, stop: Some(stop), serving }
    }

    fn store(&self) -> &Arc<Store> {
        self.store.as_ref().expect("the server was not stopped")
    }

    /// Drains and closes; answers how many connections had to be cut.
    async fn stop(mut self) -> usize {
        drop(self.stop.take());
        let cut = (&mut self.serving).await.expect("the server ends in peace");
        self.store.take().expect("the server was not stopped").close().await;
        cut
    }

    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        // Head and body are two writes, and the second must not wait for an acknowledgement.
        stream.set_nodelay(true).expect("a TCP socket");
        Connection { stream, read: vec![] }
    }

    /// One request on a connection of its own.
    async fn ask(&self, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Reply {
        self.connect().await.ask(method, target, fields, body).await
    }

    async fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[], b"").await
    }

    async fn put(&self, target: &str, body: &[u8]) -> Reply {
        self.ask("PUT", target, &[], body).await
    }
}

/// A server on a folder that goes with it.
async fn fresh() -> (Server, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    (Server::start(options(folder.path())).await, folder)
}

/// A raw connection, so that nothing between a test and the wire is polite.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server reads");
    }

    async fn ask(&mut self, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Reply {
        let head = head(method, target, fields, Some(body.len()));
        self.send(head.as_bytes()).await;
        // A refusal may come, and the connection end, before all of the body is sent.
        let _ = self.stream.write_all(body).await;
        self.reply(method).await
    }

    /// Reads more; false at the end of the stream.
    async fn fill(&mut self) -> bool {
        self.read.reserve(16 * 1024);
        self.stream.read_buf(&mut self.read).await.unwrap_or(0) > 0
    }

    async fn closed(&mut self) -> bool {
        !self.fill().await
    }

    /// Reads the head of an answer, interim ones skipped.
    async fn reply_head(&mut self) -> Reply {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut parsed = httparse::Response::new(&mut fields);
            if let httparse::Status::Complete(length) =
                parsed.parse(&self.read).expect("an answer that parses")
            {
                let reply = Reply {
                    status: parsed.code.expect("a status"),
                    fields: parsed
                        .headers
                        .iter()
                        .map(|f| {
                            let value = String::from_utf8(f.value.to_vec()).expect("UTF-8");
                            (f.name.to_ascii_lowercase(), value)
                        })
                        .collect(),
                    body: vec![],
                };
                self.read.drain(..length);
                if reply.status >= 200 {
                    return reply;
                }
                continue;
            }
            assert!(self.fill().await, "the connection ended before the answer");
        }
    }

    async fn reply(&mut self, method: &str) -> Reply {
        let mut reply = self.reply_head().await;
        let bodiless = method == "HEAD" || matches!(reply.status, 204 | 304);
        let length = if bodiless { 0 } else { reply.number("content-length") };
        while self.read.len() < length {
            assert!(self.fill().await, "the connection ended within the body");
        }
        reply.body = self.read.drain(..length).collect();
        reply
    }
}

fn head(method: &str, target: &str, fields: &[&str], length: Option<usize>) -> String {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: store\r\n");
    for field in fields {
        head += &format!("{field}\r\n");
    }
    if let Some(length) = length {
        head += &format!("Content-Length: {length}\r\n");
    }
    head + "\r\n"
}

/// An answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> usize {
        self.field(name).and_then(|text| text.parse().ok()).expect("a field that is a number")
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Checks that this is a refusal as RFC 9457 has it, and answers its detail.
    fn refusal(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.field("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:ringway:problem:store:{kind}"));
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string());
        problem["detail"].as_str().expect("a detail").to_owned()
    }
}

/// Bytes that differ from place to place and from seed to seed.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn etag(body: &[u8]) -> String {
    format!("\"{}\"", blake3::hash(body).to_hex())
}

/// Waits until `holds`, which something under way must bring about.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn files(folder: &Path, name: &str) -> Vec<PathBuf> {
    std::fs::read_dir(folder.join(name))
        .expect("a folder of the store")
        .map(|entry| entry.expect("an entry").path())
        .collect()
}
