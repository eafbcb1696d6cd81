//! Requests and answers of every bad shape that we know: what is ambiguous never reaches the other
//! side, what is ordinary is not refused, and nothing bad outlives its connection.
//!
//! Sources of the shapes: RFC 9112, sections 2.2, 3.2, 6 and 7; HAProxy's, nginx's and llhttp's test
//! suites; the desynchronisation papers (Linhart et al. 2005, Kettle 2019, 2022 and 2025).

mod answers;
mod requests;

use std::cell::Cell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use self::answers::{ANSWERS, Seen};
use self::requests::{FAMILIES, Fate};
use crate::support::backend::{Backend, Received};
use crate::support::http::{Answer, Client, HttpError};
use crate::support::ringway::{Serve, shards};

/// What follows each request: nobody may take it for one of the client's.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// Writes `<3*ab>` out as `ababab`.
fn expanded(shape: &str) -> String {
    let mut text = String::new();
    let mut rest = shape;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        let repeated = after.split_once('>').and_then(|(inner, after)| {
            let (count, what) = inner.split_once('*')?;
            Some((what.repeat(count.parse().ok()?), after))
        });
        rest = match repeated {
            Some((repeated, after)) => {
                text.push_str(&repeated);
                after
            }
            None => {
                text.push('<');
                after
            }
        };
    }
    text + rest
}

/// The bytes of a shape; how it is written stands in [`requests`].
fn bytes_of(shape: &str) -> Vec<u8> {
    let text = expanded(shape).replace('\n', "\r\n").replace("<LF>", "\n").replace("<CR>", "\r");
    // One byte a letter, so that bytes above 127 can be written as well.
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect()
}

fn over(backends: &[Backend]) -> String {
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    format!(
        "pools:\n  - name: p\n    health: {{ active: off, passive: off }}\n    timeouts: {{ \
         idle: 300ms, response_head: 2s }}\n{}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&addresses)
    )
}

/// Everything that reached a shard since the last call: requests and what was none.
fn seen(backends: &[Backend]) -> (Vec<Received>, Vec<String>) {
    let requests = backends.iter().flat_map(Backend::take_requests).collect();
    (requests, backends.iter().flat_map(Backend::take_garbage).collect())
}

/// A shard's view of a request that was passed on: what was meant, and nothing of the client's hop.
fn check_passed(shape: &str, asked: &str, fate: &Fate, request: &Received) {
    assert_eq!(request.asked(), asked, "{shape:?}");
    let lines: Vec<&str> = request.head.split("\r\n").skip(1).collect();
    let named = |name: &str| {
        let of_name = |line: &&&str| {
            line.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(name))
        };
        lines.iter().filter(of_name).count()
    };
    let mut content = "";
    for expectation in fate.expectations() {
        match expectation.split_at(1) {
            ("=", text) => content = text,
            ("!", name) => assert_eq!(named(name), 0, "{shape:?}: {lines:?}"),
            ("~", line) => assert!(request.trailers.contains(line), "{shape:?}: {request:?}"),
            _ => {
                let line = expanded(expectation);
                assert!(lines.contains(&line.as_str()), "{shape:?}: no {line:?} in {lines:?}");
            }
        }
    }
    assert_eq!(request.body, content.as_bytes(), "{shape:?}");
    for hop in ["Keep-Alive", "Proxy-Connection", "Upgrade", "HTTP2-Settings", "Trailer", "Expect"]
    {
        assert_eq!(named(hop), 0, "{shape:?}: {lines:?}");
    }
    // One address, and it is not the client's to choose.
    assert_eq!(request.field("X-Forwarded-For"), Some("127.0.0.1"), "{shape:?}");
    assert_eq!(named("Via"), 1 + usize::from(shape.contains("\nVia")), "{shape:?}: {lines:?}");
    let connection = request.field("Connection");
    assert!(matches!(connection, None | Some("TE")), "{shape:?}: {lines:?}");
}

#[test]
fn what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on() {
    let backends = [1, 2, 3].map(|_| Backend::answering("content"));
    let serve = Serve::start(&over(&backends));
    let owner_of = |path: &str| {
        let answer = Client::connect(serve.data).ask("GET", path, "", b"").expect("an answer");
        answer.shard().to_owned()
    };
    let (mut shapes, mut refused, mut broken, mut broken_off) = (0, 0, 0, 0);
    let mut wrong = Vec::new();
    let rows = FAMILIES.iter().flat_map(|family| family.rows.iter().map(move |row| (family, row)));
    for (family, (part, fate)) in rows {
        shapes += 1;
        refused += usize::from(matches!(fate, Fate::Refused(_) | Fate::Broken(_)));
        broken += usize::from(matches!(fate, Fate::Broken(_)));
        let shape = &family.frame.replacen("{}", part, 1);
        // Every row is tried, so that one run tells all that is wrong.
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let garbage = match fate {
                Fate::Passed(asked, _) | Fate::Last(asked, _) => {
                    let asked = expanded(asked);
                    let (shard, garbage) = try_passed(&serve, &backends, shape, &asked, fate);
                    let path = asked.split([' ', '?']).nth(1).expect("a path");
                    assert_eq!(shard, owner_of(path), "it goes where its path lives");
                    seen(&backends);
                    garbage
                }
                _ => try_refused(&serve, &backends, shape, fate),
            };
            // The shard notices the end of its connection when it does: perhaps shapes later.
            assert!(garbage.iter().all(|what| what.contains("ends early")), "{garbage:?}");
            broken_off += garbage.len();
            assert!(broken_off <= broken, "it reached a shard: {garbage:?}");
        }));
        if tried.is_err() {
            wrong.push(format!("{}: {part:?}", family.place));
            seen(&backends);
        }
    }
    assert!(wrong.is_empty(), "{} are wrong, for what stands above: {wrong:#?}", wrong.len());
    let errors = serve.count("ringway_downstream_cx_protocol_error_total");
    assert_eq!(errors, refused, "each of them is counted");
    assert!(shapes >= 500, "{shapes} shapes");
}

/// Sends what is to be passed on; who answered, and what else shards saw.
fn try_passed(
    serve: &Serve,
    backends: &[Backend],
    shape: &str,
    asked: &str,
    fate: &Fate,
) -> (String, Vec<String>) {
    let mut client = Client::connect(serve.data);
    let bytes = bytes_of(shape);
    let last = matches!(fate, Fate::Last(..));
    let behind = if last { SMUGGLED } else { "" };
    client.send([&bytes, behind.as_bytes()].concat()).expect("sent");
    let answer = client.hear(bytes.starts_with(b"HEAD ")).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.closes(), last, "{answer:?}");
    if last {
        assert!(client.is_closed_by_peer(), "it closes");
    }
    let (requests, garbage) = seen(backends);
    assert_eq!(requests.len(), 1, "{requests:?}");
    check_passed(shape, asked, fate, &requests[0]);
    if !last {
        // The connection goes on, and what follows is a request of its own.
        client.send("GET /next HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
        assert_eq!(client.hear(false).expect("an answer").status, 200);
        seen(backends);
    }
    (answer.shard().to_owned(), garbage)
}

/// Sends what Ringway itself is to answer; what shards saw beside requests.
fn try_refused(serve: &Serve, backends: &[Backend], shape: &str, fate: &Fate) -> Vec<String> {
    let mut client = Client::connect(serve.data);
    let (Fate::Refused(status) | Fate::Broken(status) | Fate::Answered(status)) = *fate else {
        unreachable!("it is not passed on")
    };
    client.send([&bytes_of(shape), SMUGGLED.as_bytes()].concat()).expect("sent");
    let answer = client.hear(false).expect("an answer");
    assert_eq!(answer.status, status, "{}", answer.text());
    if status != 204 {
        answer.problem();
    }
    let (requests, garbage) = if let Fate::Answered(_) = fate {
        assert!(!answer.closes());
        assert_eq!(client.hear(false).expect("an answer").status, 200);
        let (mut requests, garbage) = seen(backends);
        let own = requests.pop().expect("a request");
        assert_eq!(own.asked(), "GET /smuggled", "here it is the client's own");
        (requests, garbage)
    } else {
        assert!(answer.closes() && client.is_closed_by_peer(), "it closes");
        seen(backends)
    };
    assert!(requests.is_empty(), "it reached a shard: {requests:?}");
    garbage
}

#[test]
fn a_request_in_single_bytes_is_the_same_request() {
    let backends = [Backend::answering("content")];
    let serve = Serve::start(&over(&backends));
    let mut client = Client::connect(serve.data);
    let bytes = b"PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n";
    for byte in bytes {
        client.send([*byte]).expect("sent");
    }
    assert_eq!(client.hear(false).expect("an answer").status, 200);
    let (requests, garbage) = seen(&backends);
    assert_eq!(
        (requests[0].body.as_slice(), requests[0].trailers.as_str()),
        (&b"abcde"[..], "X: y\n")
    );
    assert!(garbage.is_empty());
}

/// Asks for answer number `n`, on a connection of its own.
fn ask_for(serve: &Serve, method: &str, n: &str) -> Result<Answer, HttpError> {
    Client::connect(serve.data).ask(method, &format!("/answer/{n}"), "", b"")
}

/// A shard that gives the answer that it is asked for, and a good one to everything else.
fn misbehaving() -> Backend {
    Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let path = request.asked().split(' ').nth(1).unwrap_or("").to_owned();
            let Some(n) = path.strip_prefix("/answer/") else {
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
                continue;
            };
            match n {
                "huge" => {
                    connection.say("HTTP/1.1 200 OK\r\n");
                    while connection.say(format!("X-Long: {}\r\n", "x".repeat(4000))) {}
                    return;
                }
                "flood" => {
                    while connection.say("HTTP/1.1 103 Early Hints\r\n\r\n") {}
                    return;
                }
                "head" => {
                    connection.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
                    continue;
                }
                n => {
                    let (shape, _) = &ANSWERS[n.parse::<usize>().expect("a number")];
                    let bytes = bytes_of(shape);
                    match bytes.strip_suffix(b"<END>") {
                        Some(bytes) => {
                            connection.say(bytes);
                            return connection.close();
                        }
                        None => connection.say(bytes),
                    };
                }
            }
        }
    })
}

#[test]
fn a_bad_answer_is_never_taken_for_a_good_one_and_its_connection_never_used_again() {
    let backends = [misbehaving()];
    let serve = Serve::start(&over(&backends));
    let good = || {
        let answer = Client::connect(serve.data).ask("GET", "/good", "", b"").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
        backends[0].take_requests().pop().expect("it was asked").connection
    };
    let cuts = Cell::new(0);
    let check = |name: &str, result: Result<Answer, HttpError>, wanted: &Seen| {
        match (wanted, result) {
            (Seen::Problem(status), Ok(answer)) => {
                assert_eq!(answer.status, *status, "{name}");
                let kind = answer.problem();
                assert!(kind == "bad-answer" || kind == "shard-broke", "{name}: {kind}");
            }
            (Seen::Cut, Err(HttpError::Cut(_) | HttpError::Closed)) => cuts.set(cuts.get() + 1),
            // All of it came at once, so that nothing of it had gone on yet: better than a cut.
            (Seen::Cut, Ok(answer)) => assert_eq!(answer.problem(), "shard-broke", "{name}"),
            (Seen::Whole(content) | Seen::Good(content), Ok(answer)) => {
                assert_eq!(answer.text(), *content, "{name}");
                // What concerns the shard's hop, or is Ringway's to say, is not passed on.
                for hop in ["X-A", "Keep-Alive", "Upgrade"] {
                    assert_eq!(answer.field(hop), None, "{name}");
                }
                assert_eq!(answer.shard(), "s1", "{name}");
                assert!(answer.field("Date").is_some(), "{name}");
            }
            (_, result) => panic!("{name}: {result:?}"),
        }
        let used = backends[0].take_requests().iter().map(|r| r.connection).max();
        let used = used.expect("the shard was asked");
        if let Seen::Good(_) = wanted {
            return;
        }
        // Whichever worker serves the next ones: none goes out on that connection.
        for _ in 0..8 {
            assert_ne!(good(), used, "{name}: the connection was used again");
        }
    };
    good();
    let mut wrong: Vec<&str> = Vec::new();
    for (n, (shape, wanted)) in ANSWERS.iter().enumerate() {
        let answer = ask_for(&serve, "GET", &n.to_string());
        let tried = catch_unwind(AssertUnwindSafe(|| check(shape, answer, wanted)));
        wrong.extend(tried.is_err().then_some(shape));
    }
    assert!(wrong.is_empty(), "{} are wrong, for what stands above: {wrong:#?}", wrong.len());
    check("a head without end", ask_for(&serve, "GET", "huge"), &Seen::Problem(502));
    check("interim answers without end", ask_for(&serve, "GET", "flood"), &Seen::Problem(502));
    check("content after HEAD", ask_for(&serve, "HEAD", "head"), &Seen::Whole(""));
    // A write that was answered badly may have been applied.
    let answer = ask_for(&serve, "PUT", "0").expect("an answer");
    assert_eq!((answer.status, answer.field("Ringway-Outcome")), (502, Some("unknown")));
    assert!(cuts.get() > 0, "nothing was cut");
    assert_eq!(serve.count("ringway_downstream_rq_cut_total"), cuts.get());
}

#[test]
fn what_a_shard_says_unasked_is_nobodys_answer() {
    let (say, said) = mpsc::sync_channel(1);
    let backend = Backend::start(move |connection| {
        while connection.request().is_some() {
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
            // As servers do that give up an idle connection; the bytes are there when this returns.
            connection.say("HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nevil");
            say.send(()).expect("the test listens");
        }
    });
    let serve = Serve::start(&over(std::slice::from_ref(&backend)));
    let mut client = Client::connect(serve.data);
    for n in 0..20 {
        let answer = client.ask("GET", &format!("/{n}"), "", b"").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
        said.recv().expect("the shard spoke");
    }
}

#[test]
fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let backend = Backend::start(|connection| {
        while let Some(head) = connection.head() {
            if head.starts_with("PUT /refused") {
                connection
                    .say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\n\r\ntoo big");
                return connection.until_closed();
            }
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
        }
    });
    let serve = Serve::start(&over(std::slice::from_ref(&backend)));
    let mut client = Client::connect(serve.data);
    let length = 64 << 20;
    let head = format!("PUT /refused HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    client.send(head).expect("sent");
    client.send(vec![b'x'; 100_000]).expect("sent");
    let answer = client.hear(false).expect("the answer comes before the body is sent");
    assert_eq!((answer.status, answer.text().as_str()), (413, "too big"));
    assert!(answer.closes(), "the rest of the body is not read");
    // The same, told before the body was asked for: nothing of it is sent.
    let mut client = Client::connect(serve.data);
    let head = format!(
        "PUT /refused HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    );
    client.send(head).expect("sent");
    let answer = client.hear(false).expect("an answer");
    assert_eq!((answer.status, answer.interim.len()), (413, 0), "no body was asked for");
    let answer = Client::connect(serve.data).ask("GET", "/good", "", b"").expect("an answer");
    assert_eq!(answer.text(), "good");
}
