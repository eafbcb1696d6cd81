//! Clients that are slow, and a server that is told to end.

use super::*;

/// A limit that passes soon, and that nobody reaches who goes on, on a machine that does much else.
const SHORT: Duration = Duration::from_millis(500);

async fn impatient() -> (Server, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut options = options(folder.path());
    let short = SHORT;
    options.timeouts.head = short;
    options.timeouts.body_idle = short;
    options.timeouts.linger = short;
    (Server::start(options).await, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_dribbles_is_cut_and_a_connection_that_idles_is_not() {
    let (server, _folder) = impatient().await;
    let mut idle = server.connect().await;
    assert_eq!(idle.ask("PUT", "/k", &[], b"x").await.status, 201);
    let mut never_used = server.connect().await;

    let mut slow = server.connect().await;
    slow.send(b"GET /k HTTP/1.1\r\nHost: ").await;
    assert!(slow.closed().await, "half a head is not waited for");

    // By now the limit for heads has passed for these, too.
    assert_eq!(idle.ask("GET", "/k", &[], b"").await.body, b"x");
    assert_eq!(never_used.ask("GET", "/k", &[], b"").await.body, b"x");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_idles_too_long_is_closed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut options = options(folder.path());
    options.timeouts.keep_alive = SHORT;
    let server = Server::start(options).await;
    let mut connection = server.connect().await;
    connection.ask("PUT", "/k", &[], b"x").await;
    assert!(connection.closed().await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_coming_is_408_and_leaves_nothing() {
    let (server, folder) = impatient().await;
    for (announced, sent) in [(10, 5), (1_000_000, 400_000)] {
        let mut connection = server.connect().await;
        connection.send(head("PUT", "/k", &[], Some(announced)).as_bytes()).await;
        connection.send(&bytes(1, sent)).await;
        connection.reply("PUT").await.refusal(408, "slow");
        assert!(connection.closed().await);
    }
    server.get("/k").await.refusal(404, "not-found");
    until("nothing is left of them", || files(folder.path(), "incoming").is_empty()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_cut() {
    let (server, _folder) = impatient().await;
    let body = bytes(1, 24 * 1024 * 1024);
    server.put("/k", &body).await;
    let mut connection = server.connect().await;
    connection.send(head("GET", "/k", &[], None).as_bytes()).await;
    connection.reply_head().await;
    until("the server stops sending", || {
        let sent = server.store().metrics().sent_bytes.get();
        #[allow(clippy::disallowed_methods, reason = "that nothing moves is seen after a while")]
        std::thread::sleep(4 * SHORT);
        sent == server.store().metrics().sent_bytes.get()
    })
    .await;
    while connection.fill().await {}
    assert!(connection.read.len() < body.len(), "it was sent all the same");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_ends_what_is_under_way_and_takes_nothing_new() {
    let (server, folder) = fresh().await;
    let mut idle = server.connect().await;
    idle.ask("PUT", "/k", &[], b"x").await;
    let mut busy = server.connect().await;
    let body = bytes(1, 100_000);
    busy.send(head("PUT", "/large", &[], Some(body.len())).as_bytes()).await;
    busy.send(&body[..1]).await;
    until("the upload has begun", || server.store().metrics().received_bytes.get() > 1).await;

    let address = server.address;
    let stopping = tokio::spawn(server.stop());
    assert!(idle.closed().await, "idle connections are closed");
    busy.send(&body[1..]).await;
    assert_eq!(busy.reply("PUT").await.status, 201);
    assert!(busy.closed().await);
    assert_eq!(stopping.await.expect("a clean end"), 0);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");

    // The folder is free, in the same process, and everything is there.
    let server = Server::start(options(folder.path())).await;
    assert_eq!(server.get("/k").await.body, b"x");
    assert!(server.get("/large").await.body == body);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_cuts_what_does_not_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut options = options(folder.path());
    options.drain = Duration::from_millis(20);
    let server = Server::start(options).await;
    let mut stuck = server.connect().await;
    stuck.send(head("PUT", "/k", &[], Some(100_000)).as_bytes()).await;
    stuck.send(&bytes(1, 90_000)).await;
    until("the upload has begun", || server.store().metrics().received_bytes.get() > 0).await;
    assert_eq!(server.stop().await, 1);
    assert!(stuck.closed().await);
    assert_eq!(files(folder.path(), "incoming").len(), 0);
}
