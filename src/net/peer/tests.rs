//! Do nodes reach each other, and say so when they do not?

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, oneshot};
use turmoil::net::TcpListener as SimulatedListener;

use super::simulated::{SimulatedDial, SimulatedPeers};
use super::socket::Dialing;
use super::*;
use crate::ids::{ClusterId, Generation, PeerAddress};

const SECOND: Duration = Duration::from_secs(1);

/// Answers with what it was asked, if the sender is of its cluster.
struct Echo {
    introduction: Introduction,
    /// Told when a request to `/wait` is there.
    reached: Notify,
    /// What it waits for.
    gate: Semaphore,
}

fn cluster(byte: u8, generation: u64) -> Introduction {
    Introduction { cluster: Some((ClusterId([byte; 16]), Generation(generation))) }
}

fn echo() -> Arc<Echo> {
    let (reached, gate) = (Notify::new(), Semaphore::new(0));
    Arc::new(Echo { introduction: cluster(1, 1), reached, gate })
}

impl PeerHandler for Echo {
    fn admit(&self, path: &str, introduction: &Introduction) -> Result<usize, PeerAnswer> {
        self.introduction.admit(introduction)?;
        Ok(if path == "/short" { 100 } else { BODY_BYTES_MAX })
    }

    async fn answer(self: Arc<Self>, request: PeerRequest) -> PeerAnswer {
        if request.path == "/wait" {
            self.reached.notify_one();
            drop(self.gate.acquire().await);
        }
        assert!(request.path != "/panic", "a handler's mistake");
        PeerAnswer::ok([request.path.as_bytes(), b" ", &request.body].concat())
    }
}

async fn start(handler: Arc<Echo>) -> (PeerAddress, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = address(listener.local_addr().expect("bound"));
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(serve(TcpPeers(listener), None, handler, async move { drop(stopped.await) }));
    (address, stop)
}

fn address(address: SocketAddr) -> PeerAddress {
    PeerAddress::parse(&address.to_string()).expect("an address")
}

fn client() -> PeerClient {
    let client = PeerClient::new(TcpDial, None);
    client.introduce(cluster(1, 1));
    client
}

/// What a server answers to these bytes, until it closes.
async fn raw(to: &PeerAddress, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect((to.host(), to.port())).await.expect("it listens");
    stream.write_all(bytes).await.expect("taken");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("a clean close");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn a_question_is_answered() {
    let (to, _stop) = start(echo()).await;
    let client = client();
    for body in ["one", "two", ""] {
        let answer =
            client.call(&to, "/peer/v1/echo", body.into(), SECOND).await.expect("answered");
        assert_eq!(answer, PeerAnswer::ok(format!("/peer/v1/echo {body}")));
    }
    let long = Bytes::from(vec![b'x'; 5 << 20]);
    let answer = client.lane().call(&to, "/", long.clone(), 5 * SECOND).await.expect("answered");
    assert_eq!(answer.body[2..], long);
}

#[tokio::test]
async fn many_at_once_wait_for_a_connection_within_their_time() {
    let handler = echo();
    let (to, _stop) = start(Arc::clone(&handler)).await;
    let client = client();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let (client, to) = (client.clone(), to.clone());
            tokio::spawn(async move { client.call(&to, "/wait", Bytes::new(), 10 * SECOND).await })
        })
        .collect();
    handler.gate.add_permits(1);
    for call in calls {
        assert_eq!(call.await.expect("no panic").expect("answered").status, 200);
    }
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_in_words() {
    let (to, _stop) = start(echo()).await;
    let client = PeerClient::new(TcpDial, None);
    for (introduction, sentence) in [
        (Introduction::default(), "the sender must join first"),
        (cluster(2, 1), "an address that another cluster uses"),
        (cluster(1, 2), "Whichever is lower must join again"),
    ] {
        client.introduce(introduction);
        let answer = client.call(&to, "/", Bytes::new(), SECOND).await.expect("answered");
        assert_eq!(answer.status, 421);
        let said = answer.refusal().expect("a problem document");
        assert!(said.contains(sentence), "{said}");
    }
    let unborn = Introduction::default().admit(&cluster(1, 1)).expect_err("it has no cluster");
    assert!(unborn.refusal().expect("a sentence").contains("belongs to no cluster yet"));
    client.introduce(cluster(1, 1));
    assert_eq!(client.call(&to, "/", Bytes::new(), SECOND).await.expect("answered").status, 200);
}

#[tokio::test]
async fn what_is_no_request_of_a_node_is_refused() {
    let (to, _stop) = start(echo()).await;
    for (request, status) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nRingway-Protocol: 1\r\nConnection: close\r\n\r\n", "405"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nRingway-Protocol: 2\r\nConnection: close\r\n\
             Content-Length: 0\r\n\r\n",
            "421",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nRingway-Protocol: 1\r\nRingway-Cluster: 12\r\n\
             Connection: close\r\nContent-Length: 0\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nRingway-Protocol: 1\r\nConnection: close\r\n\
             Ringway-Cluster: 01010101010101010101010101010101\r\nRingway-Generation: 1\r\n\
             Content-Length: 67108865\r\n\r\n",
            "413",
        ),
    ] {
        let answer = raw(&to, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
}

/// Whoever could connect was given up to 64 MiB of memory before anybody asked who it was.
#[tokio::test]
async fn a_stranger_is_refused_before_its_body_is_read() {
    let (to, _stop) = start(echo()).await;
    // The body never comes, and the answer does.
    for (cluster, path, status) in [("02", "/", "421"), ("01", "/short", "413")] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nRingway-Protocol: 1\r\nRingway-Cluster: {}\r\n\
             Ringway-Generation: 1\r\nConnection: close\r\nContent-Length: 67108864\r\n\r\n",
            cluster.repeat(16)
        );
        let answer = raw(&to, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    let unmeasured = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nRingway-Protocol: 1\r\nRingway-Cluster: {}\r\n\
         Ringway-Generation: 1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        "01".repeat(16)
    );
    let answer = raw(&to, unmeasured.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 411 "), "{answer}");
}

#[tokio::test]
async fn errors_tell_whether_the_request_may_have_been_acted_on() {
    let client = client();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let to = address(listener.local_addr().expect("bound"));

    // The kernel takes the connection and nobody reads it.
    let late = client.call(&to, "/", Bytes::new(), SECOND / 10).await.expect_err("no answer");
    assert!(matches!(late, CallError::Timeout(_)) && !late.is_surely_unsent(), "{late}");

    let breaks = async {
        // The first is the one that was given up above.
        drop(listener.accept().await);
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let _taken = stream.read(&mut [0; 1000]).await.expect("read");
    };
    let (lost, ()) = tokio::join!(client.call(&to, "/", Bytes::new(), SECOND), breaks);
    let lost = lost.expect_err("no answer");
    assert!(matches!(lost, CallError::Lost(_)) && !lost.is_surely_unsent(), "{lost}");

    let nonsense = async {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let _taken = stream.read(&mut [0; 1000]).await.expect("read");
        stream.write_all(b"220 mail.example ESMTP\r\n").await.expect("written");
        stream
    };
    let (other, _open) = tokio::join!(client.call(&to, "/", Bytes::new(), SECOND), nonsense);
    let other = other.expect_err("no HTTP");
    assert!(matches!(other, CallError::Protocol(_)), "{other}");

    drop(listener);
    let gone = client.call(&to, "/", Bytes::new(), SECOND).await.expect_err("refused");
    assert!(matches!(gone, CallError::Unreachable(_)) && gone.is_surely_unsent(), "{gone}");
}

/// Opens nothing before it is let.
struct GatedDial {
    begun: Arc<Semaphore>,
    gate: Arc<Semaphore>,
}

impl Dial for GatedDial {
    fn dial<'a>(&'a self, to: &'a PeerAddress) -> Dialing<'a> {
        Box::pin(async move {
            self.begun.add_permits(1);
            drop(self.gate.acquire().await);
            TcpDial.dial(to).await
        })
    }
}

/// Over a long line a handshake takes longer than a heartbeat waits. Each heartbeat gave up, and
/// took with it what it had begun to open: none was ever sent.
#[tokio::test]
async fn a_connection_that_opens_too_late_for_one_call_serves_the_next() {
    let (to, _stop) = start(echo()).await;
    let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let dial = GatedDial { begun: Arc::clone(&begun), gate: Arc::clone(&gate) };
    let client = PeerClient::new(dial, None);
    client.introduce(cluster(1, 1));
    for _ in 0..3 {
        let late = client.call(&to, "/", Bytes::new(), SECOND / 50).await.expect_err("closed");
        assert!(matches!(late, CallError::Timeout(_)), "{late}");
    }
    let begun_before = begun.available_permits();
    gate.add_permits(1);
    let answer = client.call(&to, "/", Bytes::new(), 10 * SECOND).await.expect("answered");
    assert_eq!(answer.status, 200);
    // One each half second at most, however many calls there were.
    assert!(begun_before < 3 && begun.available_permits() <= begun_before + 1);
}

#[tokio::test]
async fn a_restarted_node_is_reached_over_new_connections() {
    let (to, stop) = start(echo()).await;
    let client = client();
    assert_eq!(client.call(&to, "/", Bytes::new(), SECOND).await.expect("answered").status, 200);
    stop.send(()).expect("it runs");
    let listener = loop {
        // The port is free once the server has gone.
        match TcpListener::bind((to.host(), to.port())).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    tokio::spawn(serve(TcpPeers(listener), None, echo(), pending()));
    assert_eq!(client.call(&to, "/", Bytes::new(), SECOND).await.expect("answered").status, 200);
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_was_asked() {
    let handler = echo();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let to = address(listener.local_addr().expect("bound"));
    let (asked, stop) = oneshot::channel::<()>();
    let server = serve(TcpPeers(listener), None, Arc::clone(&handler), async move {
        drop(stop.await);
    });
    let client = client();
    let order = async {
        handler.reached.notified().await;
        drop(asked);
        handler.gate.add_permits(1);
    };
    let call = client.call(&to, "/wait", Bytes::new(), SECOND);
    let (answer, (), ()) = tokio::join!(call, order, server);
    assert_eq!(answer.expect("answered").status, 200);
}

#[tokio::test]
async fn a_mistake_of_a_handler_costs_one_connection() {
    let (to, _stop) = start(echo()).await;
    let client = client();
    let broken = client.call(&to, "/panic", Bytes::new(), SECOND).await.expect_err("no answer");
    assert!(matches!(broken, CallError::Lost(_)), "{broken}");
    assert_eq!(client.call(&to, "/", Bytes::new(), SECOND).await.expect("answered").status, 200);
}

#[test]
fn the_same_code_runs_in_a_simulated_network() {
    let mut simulation = turmoil::Builder::new().build();
    simulation.host("n1", || async {
        let listener = SimulatedListener::bind("0.0.0.0:7000").await?;
        serve(SimulatedPeers(listener), None, echo(), pending()).await;
        Ok(())
    });
    simulation.client("n2", async {
        let client = PeerClient::new(SimulatedDial, None);
        client.introduce(cluster(1, 1));
        let to = PeerAddress::parse("n1:7000").expect("an address");
        let answer = client.call(&to, "/a", "b".into(), SECOND).await?;
        assert_eq!(answer, PeerAnswer::ok("/a b"));
        turmoil::partition("n1", "n2");
        let cut = client.call(&to, "/a", "b".into(), SECOND).await.expect_err("cut off");
        assert!(matches!(cut, CallError::Timeout(_)), "{cut}");
        turmoil::repair("n1", "n2");
        let answer = client.call(&to, "/a", "c".into(), SECOND).await?;
        assert_eq!(answer, PeerAnswer::ok("/a c"));
        Ok(())
    });
    simulation.run().expect("all went well");
}
