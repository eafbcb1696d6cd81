//! Every limit and every time-out, made small: each has its status, its end of the connection, and
//! its count.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::backend::Backend;
use crate::support::http::{Answer, Client, HttpError, get};
use crate::support::ringway::{Serve, shards};
use crate::support::wait::until;

/// One pool `p` over one shard, without opinions about its health.
fn over(address: SocketAddr, client: &str, pool: &str) -> String {
    format!(
        "client: {{ {client} }}\npools:\n  - name: p\n    health: {{ active: off, passive: off }}\n    \
         {pool}\n{}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&[address])
    )
}

#[track_caller]
fn refused(answer: Result<Answer, HttpError>, client: &mut Client, status: u16, kind: &str) {
    let answer = answer.unwrap_or_else(|error| panic!("{kind}: {error}"));
    assert_eq!((answer.status, answer.problem().as_str()), (status, kind));
    assert!(answer.closes() && client.is_closed_by_peer(), "{kind} ends the connection");
}

#[test]
fn what_is_too_large_is_refused() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(
        backend.address,
        "limits: { head: 4KiB, line: 1KiB, fields: 10, body: 1000, trailers: 100, \
         chunk_extensions: 50 }",
        "",
    ));
    let ask = |request: String, status: u16, kind: &str| {
        let mut client = Client::connect(serve.data);
        client.send(request).expect("sent");
        let answer = client.hear(false);
        refused(answer, &mut client, status, kind);
    };
    let host = "Host: h\r\n";
    let fields = |count: usize, length: usize| {
        let line = |n: usize| format!("X-{n}: {}\r\n", "x".repeat(length));
        (0..count).map(line).collect::<String>()
    };
    let long = "x".repeat(1024);
    ask(format!("GET /{long} HTTP/1.1\r\n{host}\r\n"), 414, "target-too-long");
    ask(format!("GET / HTTP/1.1\r\n{host}{}\r\n", fields(1, 1024)), 431, "head-too-large");
    ask(format!("GET / HTTP/1.1\r\n{host}{}\r\n", fields(10, 1)), 431, "head-too-large");
    ask(format!("GET / HTTP/1.1\r\n{host}{}\r\n", fields(9, 600)), 431, "head-too-large");
    // A head that never ends is not waited for.
    ask(format!("GET / HTTP/1.1\r\n{host}X: {long}"), 431, "head-too-large");
    let put = format!("PUT / HTTP/1.1\r\n{host}");
    ask(format!("{put}Content-Length: 1001\r\n\r\n"), 413, "body-too-large");
    ask(
        format!("{put}Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n"),
        413,
        "body-too-large",
    );
    let chunked = format!("{put}Transfer-Encoding: chunked\r\n\r\n");
    ask(format!("{chunked}3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001)), 413, "body-too-large");
    ask(
        format!("{chunked}1\r\nx\r\n0\r\nX: {}\r\n\r\n", "x".repeat(100)),
        431,
        "trailers-too-large",
    );
    ask(format!("{chunked}1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(60)), 400, "malformed-request");

    let mut client = Client::connect(serve.data);
    let largest = client.ask("PUT", "/", &fields(8, 300), &[b'x'; 1000]).expect("an answer");
    assert_eq!(largest.status, 200, "what is within all limits passes");
    let requests = backend.requests();
    assert_eq!(requests.len(), 1, "nothing else reached the shard whole: {requests:?}");

    assert_eq!(serve.count("ringway_downstream_rq_too_large_total"), 3);
    assert_eq!(serve.count("ringway_downstream_cx_protocol_error_total"), 7);
    // Seven never had a route; the other three ended in their body.
    let of = |route: &str, class: &str| {
        let labels = format!("route=\"{route}\",code_class=\"{class}\"");
        serve.count(&format!("ringway_downstream_rq_total{{{labels}}}"))
    };
    assert_eq!((of("-", "4xx"), of("all", "4xx"), of("all", "2xx")), (7, 3, 1));
}

/// A piece at a time, far more slowly than the least rate but faster than any silence counts.
const PAUSE: Duration = Duration::from_millis(40);

#[test]
fn a_client_that_dawdles_is_not_waited_for() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            if request.asked() == "GET /endless" {
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
                while connection.say([b'x'; 64 * 1024]) {}
                return;
            }
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let serve = Serve::start(&over(
        backend.address,
        "limits: { least_rate: 1KiB }, timeouts: { head: 2s, body_idle: 2s, rate_grace: 3s, keep_alive: \
         2s, linger: 2s }",
        "",
    ));
    let data = serve.data;
    let put = "PUT /p HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n";
    let small_put = "PUT /p HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n";
    thread::scope(|scope| {
        // Nothing is ever said.
        scope.spawn(|| assert!(Client::connect(data).is_closed_by_peer()));
        // Nothing more is said.
        scope.spawn(|| {
            let mut client = Client::connect(data);
            assert_eq!(client.ask("GET", "/", "", b"").expect("an answer").status, 200);
            assert!(client.is_closed_by_peer());
        });
        // A head that stops, and one that never comes to its end.
        scope.spawn(|| {
            let mut client = Client::connect(data);
            client.send("GET / HTTP/1.1\r\nHos").expect("sent");
            let answer = client.hear(false);
            refused(answer, &mut client, 408, "request-timeout");
        });
        scope.spawn(|| {
            let mut client = Client::connect(data);
            client.send("GET / HTTP/1.1\r\nX: ").expect("sent");
            let answer = client.drip(b"x", PAUSE);
            refused(answer, &mut client, 408, "request-timeout");
        });
        // A body that stops, one that drips, and one that is small enough to be held.
        for request in [put, small_put] {
            scope.spawn(move || {
                let mut client = Client::connect(data);
                client.send(request).expect("sent");
                client.send("some").expect("sent");
                let answer = client.hear(false);
                refused(answer, &mut client, 408, "body-too-slow");
            });
        }
        scope.spawn(|| {
            let mut client = Client::connect(data);
            client.send(put).expect("sent");
            let answer = client.drip(b"x", PAUSE);
            refused(answer, &mut client, 408, "body-too-slow");
        });
        // An answer that is not taken.
        scope.spawn(|| {
            let mut client = Client::connect(data);
            client.send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
            let mut answer = client.hear_head().expect("a head");
            until("the answer is given up", || {
                (serve.count("ringway_downstream_rq_too_slow_total") == 4).then_some(())
            });
            let cut = client.hear_body(&mut answer);
            assert!(matches!(cut, Err(HttpError::Cut(_) | HttpError::Closed)), "{cut:?}");
        });
    });
    assert_eq!(serve.count("ringway_downstream_cx_idle_timeout_total"), 2);
    assert_eq!(serve.count("ringway_downstream_rq_head_timeout_total"), 2);
    assert_eq!(serve.count("ringway_downstream_rq_too_slow_total"), 4);
    assert_eq!(get(serve.data, "/").status, 200);
}

#[test]
fn connections_and_their_requests_are_counted_out() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(
        backend.address,
        "limits: { connections: 3, requests_per_connection: 2 }",
        "",
    ));
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(serve.data)).collect();
    for client in &mut clients {
        assert!(!client.ask("GET", "/", "", b"").expect("an answer").closes());
    }
    assert_eq!(serve.metric("ringway_downstream_cx_active"), 3.0);
    let mut one_too_many = Client::connect(serve.data);
    let answer = one_too_many.hear(false).expect("an answer, before anything is asked");
    assert_eq!(answer.field("Retry-After"), Some("1"));
    assert_eq!(answer.field("Ringway-Outcome"), Some("not-applied"));
    refused(Ok(answer), &mut one_too_many, 503, "too-many-connections");
    assert_eq!(serve.count("ringway_downstream_cx_overflow_total"), 1);

    let last = clients[0].ask("GET", "/", "", b"").expect("an answer");
    assert!(last.closes() && clients[0].is_closed_by_peer(), "its second request is its last");
    until("there is room again", || {
        let answer = Client::connect(serve.data).ask("GET", "/", "", b"").ok()?;
        (answer.status == 200).then_some(())
    });
}

#[test]
fn requests_that_find_no_place_are_told_to_come_again() {
    let (tell, told) = mpsc::sync_channel(1);
    let told = Mutex::new(told);
    let backend = Backend::start(move |connection| {
        while let Some(request) = connection.request() {
            if request.asked() == "GET /slow" {
                told.lock().expect("one at a time").recv().expect("the test tells");
            }
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let serve = Serve::start(&over(
        backend.address,
        "",
        "limits: { in_flight_per_shard: 1 }\n    timeouts: { pool_wait: 3s }",
    ));
    let mut slow = Client::connect(serve.data);
    slow.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
    until("the shard is busy", || (backend.requests().len() == 1).then_some(()));
    let series = "ringway_upstream_rq_pending_overflow_total{pool=\"p\",shard=\"s1\"}";
    assert_eq!((serve.count(series), &serve.shard_status("p", "s1")["in_flight"]), (0, &1.into()));
    let mut client = Client::connect(serve.data);
    let answer = client.ask("PUT", "/x", "", b"y").expect("an answer");
    assert_eq!((answer.status, answer.problem().as_str()), (503, "shard-busy"));
    assert_eq!(answer.field("Retry-After"), Some("1"));
    assert_eq!(answer.field("Ringway-Outcome"), Some("not-applied"));
    assert_eq!(serve.count(series), 1);
    // Who waits for less than that gets the place when it is free.
    client.send("GET /waits HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
    tell.send(()).expect("the backend waits");
    assert_eq!(slow.hear(false).expect("an answer").status, 200);
    assert_eq!(client.hear(false).expect("an answer").status, 200);
}

/// A socket that listens, accepts nobody, and has as many waiting as it lets wait: the kernel
/// answers no further SYN.
fn unreachable() -> (Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bound");
    socket.listen(0).expect("listening");
    let address = address_of(&socket);
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue of a socket that nobody serves is short");
    }
    (socket, waiting)
}

fn address_of(socket: &Socket) -> SocketAddr {
    socket.local_addr().expect("an address").as_socket().expect("an IP address")
}

#[test]
fn a_shard_that_dawdles_is_not_waited_for() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            if request.asked() != "GET /drips" {
                return connection.until_closed();
            }
            connection.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            // Never silent for long, never at an end.
            while connection.say("1\r\nx\r\n") {
                connection.more_within(PAUSE);
            }
        }
    });
    let (socket, _waiting) = unreachable();
    let pool = |name: &str, address: SocketAddr, timeouts: &str| {
        format!(
            "  - name: {name}\n    health: {{ active: off, passive: off }}\n    timeouts: {{ \
             {timeouts} }}\n{}",
            shards(&[address])
        )
    };
    let route = |name: &str| {
        format!("  - {{ name: {name}, match: {{ path_prefix: /{name} }}, pool: {name} }}\n")
    };
    let serve = Serve::start(&format!(
        "pools:\n{}{}{}routes:\n{}{}{}",
        pool("away", address_of(&socket), "connect: 200ms"),
        pool("mute", backend.address, "response_head: 1s"),
        // Long enough for a request to reach its shard on any machine: what was not sent is not unknown.
        pool("whole", backend.address, "request: 3s"),
        route("away"),
        route("mute"),
        "  - { name: whole, pool: whole }\n",
    ));
    let ask = |method: &str, path: &str| {
        let answer = Client::connect(serve.data).ask(method, path, "", b"");
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    };
    for (path, status, kind, outcome) in [
        ("/away", 503, "shard-unreachable", "not-applied"),
        ("/mute", 504, "shard-timeout", "unknown"),
        ("/whole", 504, "request-deadline", "unknown"),
    ] {
        let answer = ask("GET", path);
        assert_eq!((answer.status, answer.problem().as_str()), (status, kind));
        assert_eq!(answer.field("Ringway-Outcome"), None, "a read changes nothing");
        let answer = ask("PUT", path);
        assert_eq!((answer.status, answer.problem().as_str()), (status, kind));
        assert_eq!(answer.field("Ringway-Outcome"), Some(outcome), "{path}");
    }
    let cut = Client::connect(serve.data).ask("GET", "/drips", "", b"");
    assert!(matches!(cut, Err(HttpError::Cut(_))), "an answer without end ends: {cut:?}");
    let of =
        |name: &str, labels: &str| serve.count(&format!("ringway_upstream_{name}{{{labels}}}"));
    assert_eq!(of("cx_connect_timeout_total", "pool=\"away\",shard=\"s1\""), 2);
    assert_eq!(of("cx_connect_fail_total", "pool=\"away\",shard=\"s1\""), 2);
    assert_eq!(of("rq_timeout_total", "pool=\"mute\",shard=\"s1\""), 2);
    assert_eq!(of("rq_deadline_total", "pool=\"whole\""), 3);
}
