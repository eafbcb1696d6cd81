//! What RFC 9112 and RFC 9110 ask of an intermediary, each duty seen from both sides: those that
//! the tables of [`crate::strict`] cannot show because they take more than one request, or look at
//! what the client gets. Which test shows which duty stands in the docs of `net::http1` and `proxy`.

use std::net::{Shutdown, TcpStream};

use crate::support::backend::{Backend, Connection, Received};
use crate::support::http::{Answer, Client};
use crate::support::ringway::{Serve, shards};
use crate::support::wait::until;

/// One pool over one shard.
fn over(backend: &Backend) -> Serve {
    over_pool(backend, "")
}

fn over_pool(backend: &Backend, pool: &str) -> Serve {
    Serve::start(&format!(
        "pools:\n  - name: p\n    health: {{ active: off, passive: off }}\n{pool}{}routes: [{{ \
         name: all, pool: p }}]\n",
        shards(&[backend.address])
    ))
}

/// A shard that answers each path with what stands behind it here, whole messages with CRLF.
fn saying(answers: &'static [(&'static str, &'static str)]) -> Backend {
    Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let path = request.asked().split(' ').nth(1).unwrap_or("").to_owned();
            let found = answers.iter().find(|(own, _)| *own == path);
            let answer = found.map_or("HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n", |(_, a)| a);
            connection.say(answer);
            // Who gave no length ends so.
            let ends = answer.contains("\r\n\r\n") && !answer.contains("Content-Length");
            if ends && answer.starts_with("HTTP/1.1 200") && !answer.contains("chunked") {
                return connection.close();
            }
        }
    })
}

fn ask(serve: &Serve, request: &str) -> Answer {
    let mut client = Client::connect(serve.data);
    client.send(request.replace('\n', "\r\n")).expect("sent");
    let answer = client.hear(request.starts_with("HEAD "));
    answer.unwrap_or_else(|error| panic!("{request:?}: {error}"))
}

/// RFC 9112, section 9.3.2.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let said = format!("{} {}", request.asked(), String::from_utf8_lossy(&request.body));
            let body = if said.starts_with("HEAD") { "" } else { said.as_str() };
            let length = said.len();
            connection.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
        }
    });
    let serve = over(&backend);
    let mut client = Client::connect(serve.data);
    let batch = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n\
                 HEAD /2 HTTP/1.1\r\nHost: h\r\n\r\n\
                 PUT /3 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nthree\
                 \r\nPOST /4 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2\r\nfo\r\n2\r\nur\r\n0\r\n\r\n\
                 GET /.. HTTP/1.1\r\nHost: h\r\n\r\n\
                 GET /6 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n\
                 GET /never HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(batch).expect("sent");
    for wanted in ["GET /1 ", "HEAD /2 ", "PUT /3 three", "POST /4 four", "", "GET /6 "] {
        let head_asked = wanted.starts_with("HEAD");
        let answer = client.hear(head_asked).expect("an answer");
        match wanted {
            "" => assert_eq!(answer.status, 400, "{answer:?}"),
            _ if head_asked => assert_eq!(answer.field("Content-Length"), Some("8")),
            _ => assert_eq!(answer.text(), wanted),
        }
    }
    assert!(client.is_closed_by_peer());
    assert!(backend.requests().iter().all(|request| !request.asked().contains("never")));
}

/// RFC 9112, section 9.6: who has said all may shut its side and still listens.
#[test]
fn a_client_that_shuts_its_side_is_answered() {
    let backend = Backend::answering("content");
    let serve = over(&backend);
    for request in [
        "GET /k HTTP/1.1\r\nHost: h\r\n\r\n",
        "PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
        "PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(serve.data).expect("connected");
        std::io::Write::write_all(&mut stream, request.as_bytes()).expect("sent");
        stream.shutdown(Shutdown::Write).expect("shut");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("heard");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("content"), "{answer}");
    }
}

/// RFC 9112, section 8: a request that is cut is not completed by the intermediary.
#[test]
fn an_upload_that_breaks_off_is_not_completed() {
    let backend = Backend::answering("content");
    let serve = over(&backend);
    // Longer than what is held back for a repeat, so that the shard sees the beginning.
    let part = "x".repeat(50_000);
    for (framing, body) in [
        ("Content-Length: 100000", part.clone()),
        ("Transfer-Encoding: chunked", format!("c350\r\n{part}\r\n")),
        ("Transfer-Encoding: chunked", format!("c350\r\n{part}\r\n0\r\n")),
    ] {
        let mut client = Client::connect(serve.data);
        client.send(format!("PUT /k HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n")).expect("sent");
        client.send(body).expect("sent");
        drop(client);
        let garbage = until("the shard notices", || {
            let garbage = backend.take_garbage();
            (!garbage.is_empty()).then_some(garbage)
        });
        assert!(garbage.iter().all(|what| what.contains("end")), "{garbage:?}");
        assert!(backend.take_requests().is_empty(), "{framing}");
    }
}

/// RFC 9110, sections 6.6.1, 8.6, 9.3.2, 15.3.5 and 15.4.5.
#[test]
fn answers_without_content_keep_their_fields() {
    let backend = saying(&[
        ("/head", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"a\"\r\n\r\n"),
        ("/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"),
        ("/304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"a\"\r\n\r\n"),
        ("/204", "HTTP/1.1 204 No Content\r\nETag: \"a\"\r\n\r\n"),
    ]);
    let serve = over(&backend);
    let answer = ask(&serve, "HEAD /head HTTP/1.1\nHost: h\n\n");
    assert_eq!(
        (answer.field("Content-Length"), answer.field("ETag")),
        (Some("1234"), Some("\"a\""))
    );
    let answer = ask(&serve, "HEAD /chunked HTTP/1.1\nHost: h\n\n");
    assert_eq!((answer.field("Content-Length"), answer.field("X")), (None, Some("y")));
    let answer = ask(&serve, "GET /304 HTTP/1.1\nHost: h\nIf-None-Match: \"a\"\n\n");
    assert_eq!((answer.status, answer.field("Content-Length")), (304, Some("7")));
    let answer = ask(&serve, "GET /204 HTTP/1.1\nHost: h\n\n");
    assert_eq!((answer.status, answer.field("Content-Length")), (204, None));
    assert_eq!(answer.field("Transfer-Encoding"), None);
}

/// RFC 9110, section 15.2: interim answers go on, but not to who cannot know them.
#[test]
fn interim_answers_go_on_to_who_knows_them() {
    let backend = saying(&[(
        "/k",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 199 Own\r\n\r\n\
         HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    )]);
    let serve = over(&backend);
    let answer = ask(&serve, "GET /k HTTP/1.1\nHost: h\n\n");
    // Nobody asked for 100 Continue.
    assert_eq!((answer.interim.as_slice(), answer.text().as_str()), (&[103, 199][..], "hi"));
    let answer = ask(&serve, "GET /k HTTP/1.0\nHost: h\n\n");
    assert_eq!((answer.interim.as_slice(), answer.text().as_str()), (&[][..], "hi"));
}

/// RFC 9110, section 10.1.1.
#[test]
fn an_expectation_is_the_shards_to_meet() {
    let backend = Backend::start(|connection| {
        let Some(head) = connection.head() else { return };
        assert!(head.contains("\r\nExpect: 100-continue"), "{head}");
        if head.starts_with("PUT /told") {
            connection.say("HTTP/1.1 100 Continue\r\n\r\n");
        }
        if head.starts_with("PUT /refused") {
            connection.say("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
            return connection.until_closed();
        }
        // Who knows nothing of expectations waits for the body.
        for _ in 0.. {
            connection.more();
            if connection.held().ends_with(b"end") {
                break;
            }
        }
        // One request a connection: the next must not meet its end.
        connection.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
    });
    let serve = over_pool(&backend, "    timeouts: { expect_continue: 3s }\n");
    let body = [vec![b'x'; 20_000], b"end".to_vec()].concat();
    for (path, told) in [("/told", true), ("/silent", true), ("/refused", false)] {
        let mut client = Client::connect(serve.data);
        let length = body.len();
        let head = format!("PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n");
        client.send(head + "Expect: 100-continue\r\n\r\n").expect("sent");
        let mut answer = client.hear_head().expect("a head");
        if told {
            assert_eq!(answer.status, 100, "{path}");
            client.send(&body).expect("sent");
            assert_eq!(client.hear(false).expect("an answer").text(), "hi", "{path}");
        } else {
            client.hear_body(&mut answer).expect("a body");
            assert_eq!((answer.status, answer.text().as_str()), (403, "no"), "{path}");
            assert!(answer.closes(), "the body, sent or not, would be taken for a request");
        }
    }
}

/// RFC 9112, sections 6.1, 6.3 and 7.1; RFC 9110, section 6.5.1.
#[test]
fn an_answers_end_is_told_to_each_in_its_way() {
    let backend = saying(&[
        ("/closes", "HTTP/1.1 200 OK\r\n\r\nhi"),
        (
            "/chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;e=1\r\nh\r\n1\r\ni\r\n0\r\n\
             X-Sum: 1\r\nContent-Length: 9\r\n\r\n",
        ),
        (
            "/trailers",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n\
             0\r\nX-Sum: 1\r\n\r\n",
        ),
    ]);
    let serve = over(&backend);
    for path in ["/closes", "/chunked", "/trailers"] {
        let answer = ask(&serve, &format!("GET {path} HTTP/1.1\nHost: h\n\n"));
        assert_eq!(answer.text(), "hi", "{path}");
        assert_eq!(answer.field("Transfer-Encoding"), Some("chunked"), "{path}");
        assert!(!answer.closes() && answer.trailers.is_empty(), "{path}: {answer:?}");
        let answer = ask(&serve, &format!("GET {path} HTTP/1.0\nConnection: keep-alive\n\n"));
        assert_eq!(answer.text(), "hi", "{path}");
        assert_eq!(answer.field("Transfer-Encoding"), None, "{path}");
        assert!(answer.closes(), "{path}: only the end of the connection is the end");
    }
    let answer = ask(&serve, "GET /trailers HTTP/1.1\nHost: h\nTE: trailers\nConnection: TE\n\n");
    assert_eq!(answer.trailers, [("X-Sum".to_owned(), "1".to_owned())]);
    assert_eq!(answer.field("X-Sum"), None, "a trailer is not made a field of the head");
    let answer = ask(&serve, "GET /chunked HTTP/1.1\nHost: h\nTE: trailers\nConnection: TE\n\n");
    assert_eq!(answer.trailers, [], "one of them may not be a trailer");
}

/// RFC 9110, sections 5.3, 6.2, 6.6.1, 7.7, 14.4 and 15: what is not ours is not touched.
#[test]
fn what_is_end_to_end_is_not_touched() {
    let backend = saying(&[
        (
            "/k",
            "HTTP/1.1 206 Partial Content\r\nSet-Cookie: a=1, b\r\nX-a:  1 \r\nSet-Cookie: c=2\r\n\
             Content-Range: bytes 0-1/9\r\nContent-Encoding: gzip\r\nVary: *\r\nx-A: 2\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: x\r\nVia: 1.1 y\r\nContent-Length: 2\r\n\
             \r\n\x1f\x7f",
        ),
        ("/own", "HTTP/1.1 299 Our Own\r\nContent-Length: 0\r\n\r\n"),
    ]);
    let serve = over(&backend);
    let answer = ask(&serve, "GET /k HTTP/1.1\nHost: h\nRange: bytes=0-1\n\n");
    let kept: Vec<_> =
        answer.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let wanted = [
        "Set-Cookie: a=1, b",
        "X-a: 1",
        "Set-Cookie: c=2",
        "Content-Range: bytes 0-1/9",
        "Content-Encoding: gzip",
        "Vary: *",
        "x-A: 2",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT",
        "Server: x",
        "Via: 1.1 y",
    ];
    assert_eq!(kept[..wanted.len()], wanted, "in order, and as they were spelled");
    assert_eq!((answer.status, answer.body.as_slice()), (206, &b"\x1f\x7f"[..]));
    let answer = ask(&serve, "BREW /own HTTP/1.1\nHost: h\n\n");
    assert_eq!(answer.status, 299, "whatever the class of a status means, it goes on");
    assert!(answer.field("Date").is_some(), "what has no date is given one");
}

/// RFC 9112, section 9.3: a shard's connection lives on for as long as both sides are in step.
#[test]
fn connections_to_shards_live_on() {
    let backend = Backend::answering("content");
    // One worker, so that there is one place where connections wait.
    let serve = over(&backend);
    let mut client = Client::connect(serve.data);
    for n in 0..20 {
        let chunked = "Transfer-Encoding: chunked\r\n";
        let request = match n % 4 {
            0 => "GET /k HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            1 => "HEAD /k HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            2 => "PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
            _ => format!("PUT /k HTTP/1.1\r\nHost: h\r\n{chunked}\r\n2\r\nhi\r\n0\r\n\r\n"),
        };
        client.send(request).expect("sent");
        assert_eq!(client.hear(n % 4 == 1).expect("an answer").status, 200);
    }
    let used: Vec<usize> = backend.requests().iter().map(|request| request.connection).collect();
    assert_eq!(used, [0; 20]);
}

/// RFC 9112, section 3.2.2 and RFC 9110, section 7.2: whose name the shard hears.
#[test]
fn the_shard_hears_the_host_that_the_pool_says() {
    let backend = Backend::answering("content");
    for (host, wanted) in [("shard", backend.address.to_string()), ("client", "h:81".to_owned())] {
        let serve = over_pool(&backend, &format!("    host: {host}\n"));
        for request in
            ["GET /k HTTP/1.1\nHost: h:81\n\n", "GET http://h:81/k HTTP/1.1\nHost: H:81\n\n"]
        {
            ask(&serve, request);
            let seen: Vec<Received> = backend.take_requests();
            assert_eq!(seen[0].field("Host"), Some(wanted.as_str()), "{request}");
            assert!(seen[0].head.starts_with("GET /k HTTP/1.1\r\n"), "never in absolute form");
        }
        // Who names no host asks the shard by its own name.
        ask(&serve, "GET /k HTTP/1.0\n\n");
        let own = backend.address.to_string();
        assert_eq!(backend.take_requests()[0].field("Host"), Some(own.as_str()));
    }
}

/// RFC 9112, section 9.3.1: what was cut before any answer is not sent twice, unless it may be.
#[test]
fn only_what_may_be_repeated_is_repeated() {
    fn cut(connection: &mut Connection) {
        while let Some(request) = connection.request() {
            if !request.asked().ends_with("/k") {
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            return connection.close();
        }
    }
    let backend = Backend::start(cut);
    let serve = over(&backend);
    for (method, body, fields) in
        [("POST", "hi", ""), ("PATCH", "hi", ""), ("PUT", "hi", "If-Match: \"a\"\r\n")]
    {
        let mut client = Client::connect(serve.data);
        client.ask("GET", "/warm", "", b"").expect("an answer");
        backend.take_requests();
        let answer = client.ask(method, "/k", fields, body.as_bytes()).expect("an answer");
        assert_eq!((answer.status, answer.field("Ringway-Outcome")), (502, Some("unknown")));
        let asked: Vec<Received> = backend.take_requests();
        assert_eq!(asked.len(), 1, "{method} was sent twice: {asked:?}");
    }
}
