//! What may a client ask, and does everything else pass as it is? Limits for one client, methods,
//! who is said to have asked, and bodies that were encoded by somebody else.

use std::net::Ipv4Addr;

use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::http::{Answer, Client, get};
use crate::support::ringway::{Serve, ringway_says};

/// A pool over one shard, and routes.
fn over(backend: &Backend, before: &str, routes: &str) -> String {
    format!(
        "{before}pools:\n  - name: p\n    health: {{ active: off, passive: off }}\n    shards:\n      \
         - {{ id: only, url: \"http://{}\" }}\nroutes:\n{routes}",
        backend.address
    )
}

const LIMITED: &str = "  - { name: limited, match: { path_prefix: /limited }, pool: p, \
                       rate_limit: { requests_per_second: 1, burst: 3 } }\n  \
                       - { name: all, pool: p }\n";

/// Asks until a request is refused: with one a second that is soon, on the slowest machine. How
/// many were taken, and the refusal.
fn ask_until_refused(client: &mut Client, fields: &str) -> (usize, Answer) {
    for taken in 0..1000 {
        let answer = client.ask("GET", "/limited/a", fields, b"").expect("an answer");
        match answer.status {
            200 => {}
            _ => return (taken, answer),
        }
    }
    panic!("a thousand requests were taken");
}

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let backend = Backend::answering("only");
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let before = format!("access_log: {{ format: json, path: {} }}\n", log.display());
    let mut serve = Serve::start(&over(&backend, &before, LIMITED));
    let mut client = Client::connect(serve.data);
    let (taken, refused) = ask_until_refused(&mut client, "");
    assert!(taken >= 3, "a burst of three was not taken, only {taken}");
    assert_eq!((refused.status, refused.problem().as_str()), (429, "rate-limited"));
    assert_eq!(refused.field("Retry-After"), Some("1"));
    assert_eq!(refused.field("Ringway-Outcome"), Some("not-applied"));
    assert!(!refused.closes(), "the connection is none the worse for it");
    // What the client writes into its fields makes nobody else of it, nor does a new connection.
    let forged = "X-Forwarded-For: 9.9.9.9\r\n";
    let (_, again) = ask_until_refused(&mut Client::connect(serve.data), forged);
    assert_eq!(again.status, 429);

    // Other routes, and other clients on the same route, are not concerned.
    let other = client.ask("GET", "/free", "", b"").expect("an answer");
    assert_eq!(other.status, 200);
    let other = Client::try_connect_from(Ipv4Addr::new(127, 0, 0, 2), serve.data);
    let mut other = other.expect("a connection");
    assert_eq!(other.ask("GET", "/limited/a", "", b"").expect("an answer").status, 200);

    // A reload forgives nobody, and counts on.
    let count =
        |serve: &Serve| serve.count("ringway_downstream_rq_ratelimited_total{route=\"limited\"}");
    assert_eq!(count(&serve), 2);
    let reloaded = serve.status()["reload_error"].is_null();
    assert!(reloaded, "nothing was reloaded yet");
    let said = ringway_says(&["reload", "--data-dir", &serve.data_dir().display().to_string()]);
    assert!(said.success, "{}", said.stderr);
    assert!(said.stdout.contains("no ring changed"), "{}", said.stdout);
    ask_until_refused(&mut client, "");
    assert_eq!(count(&serve), 3);

    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    let text = std::fs::read_to_string(&log).expect("the log");
    let flags = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        (line["status"].as_u64().expect("a status"), line["flags"].as_str().map(str::to_owned))
    };
    let refused = text.lines().map(flags).filter(|(status, _)| *status == 429);
    let refused: Vec<_> = refused.map(|(_, flags)| flags.expect("flags")).collect();
    assert_eq!(refused, ["RL", "RL", "RL"]);
    let asked = backend.requests().len();
    assert_eq!(asked, text.lines().count() - 3, "what is refused reaches no shard");
}

/// Where all clients are proxies of one's own, the client is who asked the last of them.
#[test]
fn behind_a_proxy_of_ones_own_its_clients_are_counted() {
    let backend = Backend::answering("only");
    let serve = Serve::start(&over(&backend, "client: { forwarded: append }\n", LIMITED));
    let mut client = Client::connect(serve.data);
    let (taken, refused) =
        ask_until_refused(&mut client, "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n");
    assert!(taken >= 3 && refused.status == 429, "{refused:?}");
    let mut status =
        |fields: &str| client.ask("GET", "/limited/a", fields, b"").expect("an answer").status;
    // What stands before the last address was written by the client itself.
    assert_eq!(status("X-Forwarded-For: 6.6.6.6, 192.0.2.2\r\n"), 200);
    assert_eq!(status("X-Forwarded-For: unknown\r\n"), 200, "the connection's own address");
    // Nobody has what a proxy wrote taken away, or puts another field in its place.
    let limited = "X-Forwarded-For: 192.0.2.1\r\n";
    let mut in_vain = |another: &dyn Fn(usize) -> String| {
        (0..1000).any(|n| status(&format!("{}{limited}", another(n))) == 429)
    };
    assert!(in_vain(&|n| format!(
        "Connection: X-Forwarded-For\r\nForwarded: for=50.0.{}.{}\r\n",
        n / 250,
        n % 250
    )));
    assert!(in_vain(&|n| format!("Forwarded: for=50.1.{}.{}\r\n", n / 250, n % 250)));

    let settings = "client: { forwarded: append, forwarded_fields: forwarded }\n";
    let serve = Serve::start(&over(&backend, settings, LIMITED));
    let mut client = Client::connect(serve.data);
    let limited = "Forwarded: for=6.6.6.6, for=192.0.2.1;host=\"a,for=6.6.6.7\"\r\n";
    let (taken, refused) = ask_until_refused(&mut client, limited);
    assert!(taken >= 3 && refused.status == 429, "{refused:?}");
    let mut status =
        |fields: &str| client.ask("GET", "/limited/a", fields, b"").expect("an answer").status;
    let other = |n: usize| format!("X-Forwarded-For: 50.2.{}.{}\r\n", n / 250, n % 250);
    assert!((0..1000).any(|n| status(&format!("{}{limited}", other(n))) == 429));
    assert_eq!(status("Forwarded: for=192.0.2.3;proto=https\r\n"), 200);
}

#[test]
fn methods_that_a_route_does_not_allow_are_refused() {
    let backend = Backend::answering("only");
    let routes = "  - { name: read, match: { path_prefix: /read }, pool: p, \
                  allow_methods: [HEAD, GET] }\n  \
                  - { name: get, match: { path_prefix: /get }, pool: p, allow_methods: GET }\n  \
                  - { name: mine, match: { path_prefix: /mine, methods: [PURGE, GET] }, pool: p, \
                  allow_methods: PURGE }\n";
    let serve = Serve::start(&over(&backend, "", routes));
    let mut client = Client::connect(serve.data);
    // The path, the method, the status, and what is named as allowed.
    for (path, method, status, allow) in [
        ("/read", "GET", 200, None),
        ("/read", "HEAD", 200, None),
        ("/read", "OPTIONS", 405, Some("GET, HEAD")),
        ("/read", "DELETE", 405, Some("GET, HEAD")),
        ("/read", "PUT", 405, Some("GET, HEAD")),
        // Nothing is added to the list, not even HEAD: it says what the shard is to be sent.
        ("/get", "HEAD", 405, Some("GET")),
        ("/get", "get", 405, Some("GET")),
        ("/mine", "PURGE", 200, None),
        ("/mine", "GET", 405, Some("PURGE")),
        // A method that the match leaves out is another route's business, and there is none.
        ("/mine", "DELETE", 404, None),
        ("/read", "TRACE", 405, Some("")),
    ] {
        let answer = client.ask(method, path, "", b"").expect("an answer");
        let told = answer.field("Allow");
        assert_eq!(answer.status, status, "{method} {path}");
        match allow {
            Some("") => assert!(told.is_some_and(|allow| !allow.contains("TRACE"))),
            allow => assert_eq!(told, allow, "{method} {path}"),
        }
        if status == 405 {
            assert_eq!(answer.problem(), "method-not-allowed");
            assert_eq!(answer.field("Ringway-Outcome"), Some("not-applied"));
        }
        if answer.closes() {
            client = Client::connect(serve.data);
        }
    }
    assert_eq!(backend.requests().len(), 3, "what is refused reaches no shard");
    // The whole server's methods are asked for with a star, whatever the routes say.
    let answer = client.ask("OPTIONS", "*", "", b"").expect("an answer");
    assert_eq!(answer.status, 204);
    assert!(answer.field("Allow").is_some_and(|allow| allow.contains("GET")));
}

#[test]
fn who_asked_is_said_as_rfc_7239_has_it() {
    let backend = Backend::answering("only");
    let all = "  - { name: all, pool: p }\n";
    let sent = "Forwarded: for=\"[2001:db8::1]:4711\"\r\nX-Forwarded-For: 6.6.6.6\r\n\
                X-Forwarded-Proto: https\r\nForwarded: for=6.6.6.6;by=_x\r\n";
    let ask = |client: &str, fields: &str| {
        let serve = Serve::start(&over(&backend, &format!("client: {client}\n"), all));
        Client::connect(serve.data).ask("GET", "/a", fields, b"").expect("an answer");
        let seen = backend.take_requests().pop().expect("one request");
        (seen, format!("for=127.0.0.1;host=\"{}\";proto=http;by=_test", serve.data))
    };
    let (seen, own) = ask("{ forwarded_fields: forwarded }", sent);
    assert_eq!(seen.field("Forwarded"), Some(own.as_str()), "clients are not believed");
    for gone in ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"] {
        assert_eq!(seen.field(gone), None);
    }
    let (seen, own) = ask("{ forwarded_fields: both }", "");
    assert_eq!(seen.field("Forwarded"), Some(own.as_str()));
    assert_eq!(seen.field("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(seen.field("X-Forwarded-Proto"), Some("http"));
    let (seen, own) = ask("{ forwarded: append, forwarded_fields: both }", sent);
    let all_of_them = format!("for=\"[2001:db8::1]:4711\", for=6.6.6.6;by=_x, {own}");
    assert_eq!(seen.field("Forwarded"), Some(all_of_them.as_str()), "one line, ours at its end");
    assert_eq!(seen.field("X-Forwarded-For"), Some("6.6.6.6, 127.0.0.1"));
    assert_eq!(seen.field("X-Forwarded-Proto"), Some("https"));
    let (seen, _) = ask("{ forwarded: append }", sent);
    assert!(seen.head.contains("\r\nForwarded: for=6.6.6.6;by=_x\r\n"), "goes on as it came");
    let (seen, _) = ask("{ forwarded: replace }", sent);
    assert_eq!(seen.field("Forwarded"), None);
}

/// A body as an encoder makes it: bytes of every kind, line ends and zeros among them.
fn encoded(magic: &[u8]) -> Vec<u8> {
    let noise = (0..70_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]);
    [magic, b"\r\n\r\n0\r\n\r\n\0", &noise.collect::<Vec<_>>()].concat()
}

/// Nothing is encoded, decoded, weakened or merged: what a shard says of a body's form reaches the
/// client byte by byte, and what the client says of the forms that it takes reaches the shard.
#[test]
fn encoded_bodies_pass_as_they_are() {
    let gzip = encoded(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    let brotli = encoded(&[0x8b, 0x7f]);
    let bodies = [gzip.clone(), brotli.clone()];
    let backend = Backend::start(move |connection| {
        while let Some(request) = connection.request() {
            let (body, coding) = match request.asked().contains("/gzip") {
                true => (&bodies[0], "gzip"),
                false => (&bodies[1], "br"),
            };
            let form = format!(
                "Content-Encoding: {coding}\r\nETag: W/\"a-{coding}\"\r\nVary: Accept-Encoding\r\n\
                 vary:  origin\r\nCache-Control: max-age=5\r\nAccept-Ranges: bytes\r\n\
                 Content-Type: text/plain; charset=\"utf-8\"\r\n"
            );
            let head_only = request.asked().starts_with("HEAD ");
            let range = request.field("Range").and_then(|range| {
                let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
                Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
            });
            if request.field("If-None-Match").is_some() {
                connection.say(format!("HTTP/1.1 304 Not Modified\r\n{form}\r\n"));
            } else if let Some((first, last)) = range {
                let part = &body[first..=last];
                connection.say(format!(
                    "HTTP/1.1 206 Partial Content\r\n{form}Content-Range: bytes {first}-{last}/{}\r\n\
                     Content-Length: {}\r\n\r\n",
                    body.len(),
                    part.len()
                ));
                connection.say(part);
            } else if request.asked().contains("chunked") {
                connection
                    .say(format!("HTTP/1.1 200 OK\r\n{form}Transfer-Encoding: chunked\r\n\r\n"));
                for piece in body.chunks(if head_only { usize::MAX } else { 7_001 }) {
                    if !head_only {
                        connection.say(format!("{:x}\r\n", piece.len()));
                        connection.say(piece);
                        connection.say("\r\n");
                    }
                }
                if !head_only {
                    connection.say("0\r\n\r\n");
                }
            } else {
                let length = body.len();
                connection
                    .say(format!("HTTP/1.1 200 OK\r\n{form}Content-Length: {length}\r\n\r\n"));
                if !head_only {
                    connection.say(body);
                }
            }
        }
    });
    let serve = Serve::start(&over(&backend, "", "  - { name: all, pool: p }\n"));
    let mut client = Client::connect(serve.data);
    let accepts = "Accept-Encoding: gzip;q=1.0, br ;q=0.5,*;q=0\r\n";
    for (coding, body) in [("gzip", &gzip), ("br", &brotli)] {
        let form = |answer: &Answer| {
            assert_eq!(answer.field("Content-Encoding"), Some(coding));
            assert_eq!(answer.field("ETag"), Some(format!("W/\"a-{coding}\"").as_str()));
            let vary = answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("vary"));
            let vary: Vec<_> = vary.map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(vary, [("Vary", "Accept-Encoding"), ("vary", "origin")]);
            assert_eq!(answer.field("Accept-Ranges"), Some("bytes"));
            assert_eq!(answer.field("Content-Type"), Some("text/plain; charset=\"utf-8\""));
        };
        for framing in ["length", "chunked"] {
            for method in ["GET", "HEAD"] {
                let path = format!("/{coding}/{framing}");
                let answer = client.ask(method, &path, accepts, b"").expect("an answer");
                form(&answer);
                let length = body.len().to_string();
                let (told, chunked) = match (framing, method) {
                    ("length", _) => (Some(length.as_str()), None),
                    // Where there is nothing to frame, nothing is said of the frame.
                    (_, "HEAD") => (None, None),
                    _ => (None, Some("chunked")),
                };
                assert_eq!(answer.field("Content-Length"), told, "{method} {path}");
                assert_eq!(answer.field("Transfer-Encoding"), chunked, "{method} {path}");
                match method {
                    "GET" => assert!(&answer.body == body, "{path} is not the shard's"),
                    _ => assert!(answer.body.is_empty()),
                }
            }
        }
        for (first, last) in [(0, 0), (9, 40_000), (body.len() - 3, body.len() - 1)] {
            let fields = format!("{accepts}Range: bytes={first}-{last}\r\nIf-Range: \"a\"\r\n");
            let path = format!("/{coding}/length");
            let answer = client.ask("GET", &path, &fields, b"").expect("an answer");
            form(&answer);
            assert_eq!(answer.status, 206);
            let range = format!("bytes {first}-{last}/{}", body.len());
            assert_eq!(answer.field("Content-Range"), Some(range.as_str()));
            assert!(answer.body == body[first..=last], "{range} is not the shard's");
        }
        let fields = format!("{accepts}If-None-Match: W/\"a-{coding}\", \"b\"\r\n");
        let answer = client.ask("GET", &format!("/{coding}/length"), &fields, b"");
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 304);
        form(&answer);
        let seen = backend.take_requests();
        let all = seen.iter().filter(|one| {
            one.head.contains("\r\nAccept-Encoding: gzip;q=1.0, br ;q=0.5,*;q=0\r\n")
        });
        assert_eq!(all.count(), seen.len(), "what the client takes is said as it was said");
        let last = seen.last().expect("the question whether it changed");
        let condition = format!("W/\"a-{coding}\", \"b\"");
        assert_eq!(last.field("If-None-Match"), Some(condition.as_str()));
        let ranged = seen.iter().filter(|one| one.field("If-Range") == Some("\"a\"")).count();
        assert_eq!(ranged, 3);
    }
    assert!(backend.take_garbage().is_empty());

    // And uploads: an encoded body is what the shard gets, framed as it came.
    let fields = "Content-Encoding: gzip\r\nContent-Type: a/b\r\n";
    let answer = client.ask("PUT", "/gzip/length", fields, &gzip).expect("an answer");
    assert_eq!(answer.status, 200);
    let head = format!(
        "PUT /gzip/chunked HTTP/1.1\r\nHost: {}\r\n{fields}Transfer-Encoding: chunked\r\n\r\n",
        serve.data
    );
    client.send(head).expect("sent");
    for piece in gzip.chunks(9_999) {
        client
            .send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
            .expect("sent");
    }
    client.send("0\r\n\r\n").expect("sent");
    assert_eq!(client.hear(false).expect("an answer").status, 200);
    let seen = backend.take_requests();
    for (request, framing) in seen.iter().zip(["Content-Length", "Transfer-Encoding"]) {
        assert_eq!(request.field("Content-Encoding"), Some("gzip"));
        assert!(request.field(framing).is_some(), "{framing}: {}", request.head);
        assert!(request.body == gzip, "the shard got other bytes");
    }
    assert_eq!(seen.len(), 2);
    assert_eq!(get(serve.telemetry, "/readyz").status, 200);
}

#[test]
fn the_schema_is_printed() {
    let said = ringway_says(&["schema"]);
    assert!(said.success, "{}", said.stderr);
    let schema: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let limit = &schema["$defs"]["routes[].rate_limit"]["properties"]["burst"];
    assert_eq!((&limit["minimum"], &limit["maximum"]), (&1.into(), &100_000.into()));
}

/// Of two `If` the first was written anew and went last, the other went first and as it came: a
/// condition about a host that the shard does not know.
#[test]
fn a_condition_that_stands_twice_is_refused() {
    let backend = Backend::answering("only");
    let serve = Serve::start(&over(&backend, "", "  - { name: all, pool: p }\n"));
    let mut client = Client::connect(serve.data);
    let two = "If: </a> (<urn:1>)\r\nX: y\r\nif: (<urn:2>)\r\n";
    let refused = client.ask("PUT", "/a", two, b"x").expect("an answer");
    assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed-request"));
    assert!(refused.text().contains("`If` stands twice"), "{}", refused.text());
    assert_eq!(backend.requests().len(), 0);
    let one = "If: </a> (<urn:1>)\r\n";
    let mut client = Client::connect(serve.data);
    assert_eq!(client.ask("PUT", "/a", one, b"x").expect("an answer").status, 200);
    let condition = format!("<http://{}/a> (<urn:1>)", backend.address);
    assert_eq!(backend.requests()[0].field("If"), Some(condition.as_str()));
}
