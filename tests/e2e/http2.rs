//! What does a client of HTTP/2 see, and what does a shard see of it? Each test stands for the
//! rules of RFC 9113 that the library leaves to us; `proxy::h2` lists them all.

use std::sync::Mutex;
use std::sync::mpsc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response};
use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, INTERNAL_ERROR,
    NO_ERROR, PROTOCOL_ERROR, RST_STREAM, fields, frame, request,
};
use crate::support::http::Client;
use crate::support::ringway::{Serve, shards};
use crate::support::wait::until;

fn over(backend: &Backend, client: &str) -> String {
    format!(
        "client: {{ {client} }}\npools:\n  - name: p\n    health: {{ active: off, passive: off }}\n\
         {}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&[backend.address])
    )
}

/// Runs a client of somebody else's making against `serve`.
fn with_client(serve: &Serve, ask: impl AsyncFnOnce(SendRequest<Bytes>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let stream = tokio::net::TcpStream::connect(serve.data).await.expect("a listener");
        let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
        let driven = tokio::spawn(connection);
        ask(client.ready().await.expect("a stream")).await;
        driven.abort();
    });
}

/// Asks; the whole answer.
async fn ask(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
) -> Result<(Response<()>, Vec<u8>, Option<HeaderMap>), h2::Error> {
    let (answer, mut stream) = client.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body), true)?;
    }
    whole(answer).await
}

async fn whole(
    answer: ResponseFuture,
) -> Result<(Response<()>, Vec<u8>, Option<HeaderMap>), h2::Error> {
    let (head, mut stream): (_, RecvStream) = answer.await?.into_parts();
    let mut content = Vec::new();
    while let Some(bytes) = stream.data().await {
        let bytes = bytes?;
        stream.flow_control().release_capacity(bytes.len())?;
        content.extend_from_slice(&bytes);
    }
    let trailers = stream.trailers().await?;
    Ok((Response::from_parts(head, ()), content, trailers))
}

fn asking(method: Method, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://a.example{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

/// 8.2.2, 8.2.3, 8.3.1: what goes on is a request of HTTP/1.1 with all that was meant.
#[test]
fn a_request_reaches_its_shard_as_one_of_http1() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let body = if request.asked().starts_with("HEAD") { "" } else { "content" };
            connection.say(format!(
                "HTTP/1.1 200 Fine\r\nContent-Length: 7\r\nConnection: keep-alive, x-hop\r\n\
                 Keep-Alive: timeout=5\r\nX-Hop: 1\r\nProxy-Connection: close\r\n\
                 Upgrade: h2c\r\nX-Kept: yes\r\n\r\n{body}"
            ));
        }
    });
    let serve = Serve::start(&over(&backend, ""));
    with_client(&serve, async |mut client| {
        let fields = [("cookie", "a=1"), ("x-kept", "v"), ("cookie", "b=2"), ("te", "trailers")];
        let request = asking(Method::GET, "/a%2Fb?c", &fields);
        let (head, content, trailers) = ask(&mut client, request, b"").await.expect("an answer");
        assert_eq!((head.status().as_u16(), &content[..]), (200, &b"content"[..]));
        assert_eq!(trailers, None);
        let fields = head.headers();
        for gone in ["connection", "keep-alive", "x-hop", "proxy-connection", "upgrade"] {
            assert!(!fields.contains_key(gone), "{gone} concerns only the shard's hop");
        }
        assert_eq!(fields["x-kept"], "yes");
        assert_eq!(fields["content-length"], "7");
        assert_eq!(fields["ringway-shard"], "s1");
        assert!(fields.contains_key("date") && fields.contains_key("ringway-request-id"));

        let head_only = asking(Method::HEAD, "/h", &[]);
        let (head, content, _) = ask(&mut client, head_only, b"").await.expect("an answer");
        assert_eq!((head.headers()["content-length"].as_bytes(), content.len()), (&b"7"[..], 0));

        let put = asking(Method::PUT, "/put", &[("content-length", "4")]);
        ask(&mut client, put, b"body").await.expect("an answer");
        let put = asking(Method::PUT, "/unknown-length", &[]);
        ask(&mut client, put, b"body").await.expect("an answer");
    });
    let requests = backend.requests();
    assert_eq!(requests[0].asked(), "GET /a%2Fb?c");
    assert_eq!(requests[0].field("cookie"), Some("a=1; b=2"), "one field (8.2.3)");
    assert_eq!(requests[0].field("x-kept"), Some("v"));
    assert_eq!(requests[0].field("x-forwarded-host"), Some("a.example"));
    assert!(requests[0].field("via").is_some_and(|via| via.starts_with("2.0 ")));
    assert_eq!(requests[1].asked(), "HEAD /h");
    assert_eq!(
        (requests[2].field("content-length"), &requests[2].body[..]),
        (Some("4"), &b"body"[..])
    );
    assert_eq!(requests[3].field("transfer-encoding"), Some("chunked"));
    assert_eq!(&requests[3].body[..], b"body");
    assert_eq!(backend.take_garbage(), Vec::<String>::new());
}

/// 8.1: trailers go both ways; interim answers come before the final one.
#[test]
fn trailers_and_interim_answers_pass() {
    let backend = Backend::start(|connection| {
        while connection.request().is_some() {
            connection
                .say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\n\r\n");
            connection.say(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                 3\r\nabc\r\n0\r\nX-Sum: 6\r\nContent-Length: 9\r\n\r\n",
            );
        }
    });
    let serve = Serve::start(&over(&backend, ""));
    with_client(&serve, async |mut client| {
        let request = asking(Method::PUT, "/t", &[("te", "trailers")]);
        let (mut answer, mut stream) = client.send_request(request, false).expect("a stream");
        stream.send_data(Bytes::from_static(b"content"), false).expect("room");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-check", "12".parse().expect("a value"));
        stream.send_trailers(trailers).expect("an end");
        let hints = std::future::poll_fn(|cx| answer.poll_informational(cx)).await;
        let hints = hints.expect("an interim answer").expect("one that is whole");
        assert_eq!(hints.status().as_u16(), 103);
        assert_eq!(hints.headers()["link"], "</a>");
        assert!(!hints.headers().contains_key("x"), "it was for the shard's hop");
        let (head, content, trailers) = whole(answer).await.expect("an answer");
        assert_eq!((head.status().as_u16(), &content[..]), (200, &b"abc"[..]));
        // Trailers with a framing field among them are all left out.
        assert_eq!(trailers, None);
    });
    let requests = backend.requests();
    assert_eq!(
        (&requests[0].body[..], requests[0].trailers.as_str()),
        (&b"content"[..], "x-check: 12\n")
    );
}

#[test]
fn sound_trailers_of_an_answer_end_it() {
    let backend = Backend::start(|connection| {
        while connection.request().is_some() {
            connection.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            connection.say("3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n");
        }
    });
    let serve = Serve::start(&over(&backend, ""));
    with_client(&serve, async |mut client| {
        let request = asking(Method::GET, "/t", &[("te", "trailers")]);
        let (_, content, trailers) = ask(&mut client, request, b"").await.expect("an answer");
        assert_eq!(content, b"abc");
        assert_eq!(trailers.expect("trailers")["x-sum"], "6");
        // Who did not say that it takes them is not sent any.
        let request = asking(Method::GET, "/t", &[]);
        let (_, content, trailers) = ask(&mut client, request, b"").await.expect("an answer");
        assert_eq!((&content[..], trailers), (&b"abc"[..], None));
    });
}

/// 8.1: `100 Continue` is said when the shard wants the body, and only then.
#[test]
fn a_client_that_waits_is_told_to_send() {
    let backend = Backend::start(|connection| {
        if let Some(head) = connection.head() {
            if head.starts_with("PUT /refused") {
                connection.say("HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                connection.close();
                return;
            }
            connection.say("HTTP/1.1 100 Continue\r\n\r\n");
            if connection.more().is_some_and(|bytes| bytes > 0) {
                connection.say("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    let serve = Serve::start(&over(&backend, "limits: { replay_body: 0 }"));
    let mut client = Frames::connect(serve.data);
    let expecting = [("expect", "100-continue"), ("content-length", "4")];
    client.send(frame(HEADERS, END_HEADERS, 1, &request("PUT", "/refused", &expecting)));
    let refused = client.until_on(1, HEADERS);
    assert!(!refused.payload.starts_with(b"\x08\x03100"), "it is not asked for its body");
    assert!(refused.ends_stream());

    client.send(frame(HEADERS, END_HEADERS, 3, &request("PUT", "/taken", &expecting)));
    let interim = client.until_on(3, HEADERS);
    assert!(!interim.ends_stream(), "100 Continue does not end the stream");
    client.send(frame(DATA, END_STREAM, 3, b"body"));
    assert!(client.until_on(3, HEADERS).ends_stream());
}

/// 8.1: an answer that breaks is never one that ended.
#[test]
fn an_answer_that_breaks_is_reset() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            match request.asked() {
                "GET /length" => connection.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
                "GET /chunks" => connection
                    .say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
                _ => connection.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            };
            if request.asked() != "GET /next" {
                connection.close();
                return;
            }
        }
    });
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Frames::connect(serve.data);
    for (stream, path) in [(1, "/length"), (3, "/chunks")] {
        client.ask(stream, path);
        let end = loop {
            let came = client.until("an end", |frame| frame.stream == stream);
            assert!(!came.ends_stream(), "{path} did not end: {came:?}");
            if came.kind == RST_STREAM {
                break came;
            }
        };
        assert_eq!(end.error(), INTERNAL_ERROR);
    }
    client.ask(5, "/next");
    assert_eq!(client.answer(5), (Some(200), b"ok".to_vec()), "the others go on");
}

/// 5.4.2, 8.1: a stream that its client gives up is no work for a shard any more.
#[test]
fn a_request_that_is_given_up_is_given_up_at_the_shard() {
    let (told, tells) = mpsc::sync_channel(16);
    let told = Mutex::new(told);
    let backend = Backend::start(move |connection| {
        while let Some(request) = connection.request() {
            if request.asked() == "GET /slow" {
                connection.until_closed();
                drop(told.lock().map(|told| told.send(())));
                return;
            }
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Frames::connect(serve.data);
    client.ask(1, "/slow");
    until("it is with the shard", || (!backend.requests().is_empty()).then_some(()));
    client.send(frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()));
    tells.recv_timeout(crate::support::wait::PATIENCE).expect("the shard is left alone");
    client.ask(3, "/fast");
    assert_eq!(client.answer(3), (Some(200), b"ok".to_vec()));
    until("it is counted", || {
        (serve.count("ringway_downstream_rq_rx_reset_total") == 1).then_some(())
    });
    assert_eq!(serve.count("ringway_downstream_h2_rx_reset_total"), 1);
}

/// 8.1.1, 8.2.1, 8.3.1: what is malformed goes no further. What the library finds is a stream
/// error, what we find is an answer; both leave the connection alone.
#[test]
fn a_malformed_request_goes_no_further() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Frames::connect(serve.data);
    let mut stream = 1;
    let get = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let with = |more: &[(&'static str, &'static str)]| fields(&[&get[..], more].concat());
    let authority = (":authority", "h");
    let refused: [(&str, Vec<u8>); 11] = [
        ("Host differs from :authority", with(&[authority, ("host", "other")])),
        ("two hosts", with(&[("host", "h"), ("host", "h")])),
        ("no host", with(&[])),
        ("user information", with(&[(":authority", "user@h")])),
        ("white space before a value", with(&[authority, ("x", " v")])),
        ("white space behind a value", with(&[authority, ("x", "v\t")])),
        ("a length twice", with(&[authority, ("content-length", "0"), ("content-length", "0")])),
        ("a lookalike", with(&[authority, ("content_length", "3")])),
        ("a field of ours", with(&[authority, ("ringway-epoch", "3")])),
        (
            "a path that is no path",
            fields(&[(":method", "GET"), (":scheme", "http"), (":path", "?a"), authority]),
        ),
        (
            "another scheme",
            fields(&[(":method", "GET"), (":scheme", "ftp"), (":path", "/"), authority]),
        ),
    ];
    for (what, section) in refused {
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &section));
        assert_eq!(client.until_on(stream, HEADERS).status(), Some(400), "{what}");
        stream += 2;
    }
    let reset: [(&str, Vec<u8>); 6] = [
        ("a field of HTTP/1.1's connection", with(&[authority, ("connection", "close")])),
        ("a transfer coding", with(&[authority, ("transfer-encoding", "chunked")])),
        ("an upgrade", with(&[authority, ("upgrade", "h2c")])),
        ("TE of another kind", with(&[authority, ("te", "gzip")])),
        ("a pseudo-field behind the others", with(&[("x", "y"), authority])),
        ("content where there is none", with(&[authority, ("content-length", "3")])),
    ];
    for (what, section) in reset {
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &section));
        assert_eq!(client.until_on(stream, RST_STREAM).error(), PROTOCOL_ERROR, "{what}");
        stream += 2;
    }
    // More content than announced, and less.
    for content in ["more", "a"] {
        let put = request("PUT", "/", &[("content-length", "3")]);
        client.send(frame(HEADERS, END_HEADERS, stream, &put));
        client.send(frame(DATA, END_STREAM, stream, content.as_bytes()));
        assert_eq!(client.until_on(stream, RST_STREAM).error(), PROTOCOL_ERROR, "{content}");
        stream += 2;
    }
    client.ask(stream, "/sound");
    assert_eq!(client.answer(stream), (Some(200), b"content".to_vec()));
    // What cannot be a field at all ends the connection: its decoder is not to be trusted.
    let never = [
        ("upper case", with(&[authority, ("X-Upper", "1")])),
        ("an unknown pseudo-field", with(&[(":other", "1"), authority])),
        ("a line's end in a value", with(&[authority, ("x", "a\r\nb: c")])),
    ];
    for (what, section) in never {
        let mut client = Frames::connect(serve.data);
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &section));
        assert_eq!(client.until_closed(), Some(PROTOCOL_ERROR), "{what}");
    }
    let asked: Vec<_> = backend.requests().iter().map(|r| r.asked().to_owned()).collect();
    assert_eq!(asked, ["GET /sound"], "nothing else reached the shard");
}

/// 8.5, 3.1: no tunnels, and no other protocols inside.
#[test]
fn connect_is_refused_and_the_server_itself_can_be_asked() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(&backend, ""));
    with_client(&serve, async |mut client| {
        let connect = Request::connect("a.example:443").body(()).expect("a request");
        let (head, content, _) = ask(&mut client, connect, b"").await.expect("an answer");
        assert_eq!(head.status().as_u16(), 405);
        assert!(head.headers().contains_key("allow") && !content.is_empty());
        let trace = asking(Method::TRACE, "/", &[]);
        assert_eq!(ask(&mut client, trace, b"").await.expect("an answer").0.status(), 405);
        let options = asking(Method::OPTIONS, "/", &[("max-forwards", "0")]);
        assert_eq!(ask(&mut client, options, b"").await.expect("an answer").0.status(), 204);
    });
    let mut client = Frames::connect(serve.data);
    let star =
        fields(&[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "h")]);
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &star));
    assert_eq!(client.until_on(1, HEADERS).status(), Some(204));
    assert!(backend.requests().is_empty());
}

/// 3.3, 3.4: prior knowledge, however slowly it is told; and HTTP/1.1 on the same port.
#[test]
fn both_protocols_share_a_port() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Frames::silent(serve.data);
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        client.send([*byte]);
    }
    client.send(frame(4, 0, 0, b""));
    client.ask(1, "/two");
    assert_eq!(client.answer(1), (Some(200), b"content".to_vec()));
    let mut http1 = Client::connect(serve.data);
    assert_eq!(http1.ask("GET", "/one", "", b"").expect("an answer").status, 200);
    // Not in the middle of a connection of HTTP/1.1.
    http1.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
    assert_eq!(http1.hear(false).expect("an answer").status, 505);
    // And not one that only looks like it.
    let mut wrong = Frames::silent(serve.data);
    wrong.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    wrong.until_closed();
    assert_eq!(serve.count("ringway_downstream_h2_cx_total"), 2);
}

#[test]
fn it_can_be_switched_off() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(&backend, "http2: off"));
    let mut client = Client::connect(serve.data);
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
    assert_eq!(client.hear(false).expect("an answer").status, 505);
}

/// 5.1.2: more streams than allowed are refused, not served.
#[test]
fn streams_beyond_the_limit_are_refused() {
    let (release, released) = mpsc::sync_channel::<()>(1);
    let released = Mutex::new(released);
    let backend = Backend::start(move |connection| {
        while connection.request().is_some() {
            drop(released.lock().map(|released| released.recv()));
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let serve = Serve::start(&over(&backend, "http2: { streams: 2 }"));
    let mut client = Frames::connect(serve.data);
    for stream in [1, 3, 5] {
        client.ask(stream, "/");
    }
    assert_eq!(client.until_on(5, RST_STREAM).error(), 7, "REFUSED_STREAM");
    drop(release);
    assert_eq!(client.answer(1).0, Some(200));
    assert_eq!(client.answer(3).0, Some(200));
}

/// 6.8: the client is told which streams were served, and those that are open end in order.
#[test]
fn a_connection_is_worn_out_in_order() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(&backend, "limits: { requests_per_connection: 3 }"));
    let mut client = Frames::connect(serve.data);
    for stream in [1, 3, 5] {
        client.ask(stream, "/");
    }
    for stream in [1, 3, 5] {
        assert_eq!(client.answer(stream), (Some(200), b"content".to_vec()));
    }
    assert_eq!(client.until_closed(), Some(NO_ERROR));
    assert_eq!(backend.requests().len(), 3);
}

#[test]
fn a_drain_tells_clients_and_lets_their_requests_end() {
    let (release, released) = mpsc::sync_channel::<()>(1);
    let released = Mutex::new(released);
    let backend = Backend::start(move |connection| {
        while connection.request().is_some() {
            drop(released.lock().map(|released| released.recv()));
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let mut serve = Serve::start(&format!("drain_delay: 0s\n{}", over(&backend, "")));
    let mut idle = Frames::connect(serve.data);
    idle.until("the server's settings", |frame| frame.kind == 4 && frame.flags == 1);
    let mut busy = Frames::connect(serve.data);
    busy.ask(1, "/");
    until("it is with the shard", || (!backend.requests().is_empty()).then_some(()));
    serve.process.signal(Signal::TERM);
    assert_eq!(idle.until_closed(), Some(NO_ERROR));
    assert_eq!(busy.until("GOAWAY", |frame| frame.kind == GOAWAY).error(), NO_ERROR);
    drop(release);
    assert_eq!(busy.answer(1), (Some(200), b"ok".to_vec()));
    busy.until_closed();
    assert!(serve.process.ended().success());
}

/// 6.9: a body larger than every window passes, both ways, unharmed.
#[test]
fn large_bodies_pass_through_their_windows() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            connection
                .say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()));
            connection.say(&request.body);
        }
    });
    let serve = Serve::start(&over(&backend, ""));
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    with_client(&serve, async |mut client| {
        let request = asking(Method::PUT, "/large", &[]);
        let (answer, mut stream) = client.send_request(request, false).expect("a stream");
        let mut rest = &content[..];
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            let capacity = capacity.expect("an open stream").expect("room");
            let (now, later) = rest.split_at(capacity.min(rest.len()));
            rest = later;
            stream.send_data(Bytes::copy_from_slice(now), rest.is_empty()).expect("room");
        }
        let (_, back, _) = whole(answer).await.expect("an answer");
        assert!(back == content, "{} bytes came back", back.len());
    });
}

/// 8.1: an answer that does not wait for the body ends the stream, and asks for no more of it.
#[test]
fn a_body_that_is_not_wanted_is_not_waited_for() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(&backend, "limits: { body: 10 }"));
    with_client(&serve, async |mut client| {
        let request = asking(Method::PUT, "/large", &[("content-length", "11")]);
        let (answer, mut stream) = client.send_request(request, false).expect("a stream");
        let (head, _, _) = whole(answer).await.expect("an answer");
        assert_eq!(head.status().as_u16(), 413);
        let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
        assert_eq!(reset.expect("a reset"), Reason::NO_ERROR);
    });
}

#[test]
fn the_log_says_which_protocol_was_spoken() {
    let backend = Backend::answering("content");
    let rest =
        format!("access_log: {{ format: common, path: access.log }}\n{}", over(&backend, ""));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let rest = rest.replace("access.log", &path.display().to_string());
    let serve = Serve::start(&rest);
    let mut client = Frames::connect(serve.data);
    client.ask(1, "/logged");
    assert_eq!(client.answer(1).0, Some(200));
    let line =
        until("a line", || std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n')));
    assert!(line.contains("\"GET /logged HTTP/2.0\" 200 7 shard=s1"), "{line}");
}

/// `DELETE /doc#3` deleted `/doc`: the library cuts off what stands behind a `#`.
#[test]
fn a_path_with_a_fragment_is_refused_and_not_cut() {
    let backend = Backend::answering("content");
    let serve = Serve::start(&over(&backend, ""));
    let mut client = Frames::connect(serve.data);
    let first = fields(&[(":method", "DELETE"), (":scheme", "http"), (":authority", "h")]);
    // `/doc#2` and `/doc2` in Huffman's code; the name is in the static table.
    let coded = [&[0x44, 0x85][..], &[0x62, 0x43, 0x93, 0xfe, 0x85]].concat();
    let sound = [&[0x44, 0x84][..], &[0x62, 0x43, 0x90, 0x5f]].concat();
    let plain = [&[0x04, 6][..], b"/doc#2"].concat();
    // The newest field of the dynamic table: that of `sound`.
    let again = [&[0x0f, 62 - 15, 6][..], b"/doc#2"].concat();
    let mut stream = 1;
    for (path, status) in [(&coded, 400), (&plain, 400), (&sound, 200), (&again, 400)] {
        // In two frames, so that the path is cut as well.
        let section = [&first[..], path].concat();
        let (one, other) = section.split_at(section.len() - 3);
        client.send(frame(HEADERS, END_STREAM, stream, one));
        client.send(frame(CONTINUATION, END_HEADERS, stream, other));
        assert_eq!(client.answer(stream).0, Some(status), "{path:x?}");
        stream += 2;
    }
    let asked: Vec<String> =
        backend.requests().iter().map(|request| request.asked().to_owned()).collect();
    assert_eq!(asked, ["DELETE /doc2"]);
    // As with the other protocol.
    let mut client = Client::connect(serve.data);
    assert_eq!(client.ask("DELETE", "/doc#2", "", b"").expect("an answer").status, 400);
}
