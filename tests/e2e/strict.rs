//! Requests and answers of every bad shape that we know: what is ambiguous never reaches the other
//! side, what is ordinary is not refused, and nothing bad outlives its connection.
//!
//! Sources of the shapes: RFC 9112, sections 2.2, 3.2, 6 and 7; HAProxy's and nginx's test suites;
//! the desynchronisation papers (Linhart et al. 2005, Kettle 2019 and 2022).

use std::net::SocketAddr;
use std::sync::mpsc;

use crate::support::backend::{Backend, Received};
use crate::support::http::{Answer, Client, HttpError};
use crate::support::ringway::{Serve, shards};

/// What must become of a request.
enum Fate {
    /// Refused with this status; the connection is closed and no shard hears of it.
    Refused(u16),
    /// Refused with this status, but it is clear where the next request begins.
    Answered(u16),
    /// Refused with this status in the middle of its body, of which the shard may have seen the
    /// beginning and must not see an end.
    Broken(u16),
    /// Passed on to the owner of the path, as this.
    Passed(&'static str),
}

use Fate::{Answered, Broken, Passed, Refused};

/// What follows each request: nobody may take it for one of the client's.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// The shapes: a request, as far as it is odd, and its fate. `\n` stands for CRLF, so that bare
/// ones can be written as `<LF>` and `<CR>`.
const REQUESTS: &[(&str, Fate)] = &[
    // Ordinary, if rare.
    ("GET /k HTTP/1.1\nHost: h\n\n", Passed("GET /k")),
    ("\nGET /k HTTP/1.1\nHost: h\n\n", Passed("GET /k")),
    ("GET /k?a=b/../c&d=%zz HTTP/1.1\nHost: h\n\n", Passed("GET /k?a=b/../c&d=%zz")),
    ("GET http://h/k HTTP/1.1\nHost: h\n\n", Passed("GET /k")),
    ("GET HTTP://H/k HTTP/1.1\nHost: h\n\n", Passed("GET /k")),
    ("GET http://h:80/k?x HTTP/1.1\nHost: h:80\n\n", Passed("GET /k?x")),
    ("GET http://h HTTP/1.1\nHost: h\n\n", Passed("GET /")),
    ("GET http://h?x HTTP/1.1\nHost: h\n\n", Passed("GET /?x")),
    ("GET /%6B HTTP/1.1\nHost: h\n\n", Passed("GET /k")),
    ("GET /k%2fl HTTP/1.1\nHost: h\n\n", Passed("GET /k%2Fl")),
    ("GET //k HTTP/1.1\nHost: h\n\n", Passed("GET //k")),
    ("GET /k{} HTTP/1.1\nHost: h\n\n", Passed("GET /k%7B%7D")),
    ("GET /..k/k.. HTTP/1.1\nHost: h\n\n", Passed("GET /..k/k..")),
    ("GET /k HTTP/1.1\nHost: [::1]:80\n\n", Passed("GET /k")),
    ("GET /k HTTP/1.1\nHost: h:\n\n", Passed("GET /k")),
    ("GET /k HTTP/1.1\nhOST:h\nX-Empty:\nX-Tab:\ta\t\n\n", Passed("GET /k")),
    ("GET /k HTTP/1.1\nHost: h\nX-Latin: caf\u{e9}\n\n", Passed("GET /k")),
    ("get /k HTTP/1.1\nHost: h\n\n", Passed("get /k")),
    ("M-SEARCH /k HTTP/1.1\nHost: h\n\n", Passed("M-SEARCH /k")),
    ("GET /k HTTP/1.1\nHost: h\nContent-Length: 2\n\nhi", Passed("GET /k")),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length: 0\n\n", Passed("POST /k")),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length: 002 \n\nhi", Passed("POST /k")),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding:\tCHUNKED\n\n2\nhi\n0\n\n", Passed("POST /k")),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\n\n", Passed("POST /k")),
    (
        "POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0002;a=\"b\"\nhi\n0 ;c\nX: y\n\n",
        Passed("POST /k"),
    ),
    (
        "GET /k HTTP/1.1\nHost: h\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAA\n\n",
        Passed("GET /k"),
    ),
    ("GET /k HTTP/1.1\nHost: h\nConnection: keep-alive,, X-A\nX-A: 1\n\n", Passed("GET /k")),
    ("GET /k HTTP/1.1\nHost: h\nRingway-Consistency: one\n\n", Passed("GET /k")),
    ("PUT /k HTTP/1.1\nHost: h\nExpect: 100-Continue\nContent-Length: 2\n\nhi", Passed("PUT /k")),
    ("GET /k HTTP/1.0\nConnection: keep-alive\nHost: h\n\n", Passed("GET /k")),
    ("OPTIONS /k HTTP/1.1\nHost: h\n\n", Passed("OPTIONS /k")),
    // Where does the body end?
    (
        "POST /k HTTP/1.1\nHost: h\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n",
        Refused(400),
    ),
    (
        "POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n",
        Refused(400),
    ),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length: 2\nContent-Length: 2\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length: 2\nContent-Length: 40\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length: 2, 2\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length: +2\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length: -2\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length: 0x2\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length: 2;3\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length: 2 3\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length:\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length: 18446744073709551618\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nContent_Length: 2\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nContent-Length : 2\n\nhi", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer_Encoding: chunked\n\n0\n\n", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding : chunked\n\n0\n\n", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding:\n chunked\n\n0\n\n", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: \u{b}chunked\n\n0\n\n", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nX: y<LF>Transfer-Encoding: chunked\n\n0\n\n", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nX: y<CR>Transfer-Encoding: chunked\n\n0\n\n", Refused(400)),
    ("POST /k HTTP/1.0\nHost: h\nTransfer-Encoding: chunked\n\n0\n\n", Refused(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked, chunked\n\n0\n\n", Refused(501)),
    (
        "POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n",
        Refused(501),
    ),
    (
        "POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nTransfer-Encoding: x\n\n0\n\n",
        Refused(501),
    ),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: gzip, chunked\n\n0\n\n", Refused(501)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: identity\n\n0\n\n", Refused(501)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: xchunked\n\n0\n\n", Refused(501)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: \"chunked\"\n\n0\n\n", Refused(501)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding:\n\n0\n\n", Refused(501)),
    // Chunks.
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\ng\nhi\n0\n\n", Broken(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0x2\nhi\n0\n\n", Broken(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n-2\nhi\n0\n\n", Broken(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n\nhi\n0\n\n", Broken(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n 2\nhi\n0\n\n", Broken(400)),
    (
        "POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n10000000000000002\nhi\n0\n\n",
        Broken(400),
    ),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2<LF>hi\n0\n\n", Broken(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2;x<LF>hi\n0\n\n", Broken(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2<CR>hi\n0\n\n", Broken(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2\nhiX0\n\n", Broken(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2\nhi<LF>0\n\n", Broken(400)),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2\nhi\n0<LF><LF>", Broken(400)),
    (
        "POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2\nhi\n0\nContent-Length: 4\n\n",
        Broken(400),
    ),
    (
        "POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2\nhi\n0\nHost: evil\n\n",
        Broken(400),
    ),
    ("POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2\nhi\n0\nX Y: z\n\n", Broken(400)),
    (
        "POST /k HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2\nhi\n0\nX: y\n z\n\n",
        Broken(400),
    ),
    // Lines and names.
    ("GET /k HTTP/1.1<LF>Host: h<LF><LF>", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h<LF>\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h\nX: a\n b\n\n", Refused(400)),
    ("GET /k HTTP/1.1\n X: a\nHost: h\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h\nX: a\u{0}b\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h\nX\u{0}: a\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h\nX Y: a\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h\n: a\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h\nnocolon\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h\nX(Y): a\n\n", Refused(400)),
    ("\n\nGET /k HTTP/1.1\nHost: h\n\n", Refused(400)),
    (" GET /k HTTP/1.1\nHost: h\n\n", Refused(400)),
    ("GET  /k HTTP/1.1\nHost: h\n\n", Refused(400)),
    ("GET /k  HTTP/1.1\nHost: h\n\n", Refused(400)),
    ("GET\t/k\tHTTP/1.1\nHost: h\n\n", Refused(400)),
    ("GET /k HTTP/1.1 \nHost: h\n\n", Refused(400)),
    ("GET /k\nHost: h\n\n", Refused(400)),
    ("G(T /k HTTP/1.1\nHost: h\n\n", Refused(400)),
    ("GET /k HTTP/1.2\nHost: h\n\n", Refused(505)),
    ("GET /k HTTP/2.0\nHost: h\n\n", Refused(505)),
    ("PRI * HTTP/2.0\n\nSM\n\n", Refused(505)),
    ("GET /k http/1.1\nHost: h\n\n", Refused(400)),
    ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\n\n", Refused(400)),
    // Whom is it for?
    ("GET /k HTTP/1.1\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h\nHost: h\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h\nHost: evil\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h, evil\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h/evil\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: u@h\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost: h:x\n\n", Refused(400)),
    ("GET /k HTTP/1.1\nHost:\n\n", Refused(400)),
    ("GET http://evil/k HTTP/1.1\nHost: h\n\n", Refused(400)),
    ("GET http://u@h/k HTTP/1.1\nHost: h\n\n", Refused(400)),
    ("GET http:///k HTTP/1.1\nHost: h\n\n", Refused(400)),
    ("GET ftp://h/k HTTP/1.1\nHost: h\n\n", Refused(400)),
    ("GET k HTTP/1.1\nHost: h\n\n", Refused(400)),
    ("GET * HTTP/1.1\nHost: h\n\n", Refused(400)),
    ("CONNECT /k HTTP/1.1\nHost: h\n\n", Refused(400)),
    // Which key is it? Where it ends is clear, so the connection may go on.
    ("GET /k/../l HTTP/1.1\nHost: h\n\n", Answered(400)),
    ("GET /k/./l HTTP/1.1\nHost: h\n\n", Answered(400)),
    ("GET /.. HTTP/1.1\nHost: h\n\n", Answered(400)),
    ("GET /k/%2E%2e/l HTTP/1.1\nHost: h\n\n", Answered(400)),
    ("GET /k/.%2e HTTP/1.1\nHost: h\n\n", Answered(400)),
    ("GET /k%00 HTTP/1.1\nHost: h\n\n", Answered(400)),
    ("GET /k%zz HTTP/1.1\nHost: h\n\n", Answered(400)),
    ("GET /k% HTTP/1.1\nHost: h\n\n", Answered(400)),
    ("GET /k%4 HTTP/1.1\nHost: h\n\n", Answered(400)),
    ("GET /k#l HTTP/1.1\nHost: h\n\n", Answered(400)),
    ("GET /k?a#l HTTP/1.1\nHost: h\n\n", Answered(400)),
    ("GET /k l HTTP/1.1\nHost: h\n\n", Refused(400)),
    ("GET /k\u{0} HTTP/1.1\nHost: h\n\n", Refused(400)),
    // What is Ringway's own, and what nobody is asked.
    ("GET /k HTTP/1.1\nHost: h\nRingway-Epoch: 9\n\n", Answered(400)),
    ("GET /k HTTP/1.1\nHost: h\nringway-shard: s1\n\n", Answered(400)),
    ("GET /k HTTP/1.1\nHost: h\nRingway-Consistency: quorum\n\n", Answered(400)),
    ("GET /k HTTP/1.1\nHost: h\nRingway_Epoch: 9\n\n", Refused(400)),
    ("GET /_ringway/list HTTP/1.1\nHost: h\n\n", Answered(404)),
    ("GET /_ringw%61y/list HTTP/1.1\nHost: h\n\n", Answered(404)),
    ("GET /k HTTP/1.1\nHost: h\nConnection: Host\n\n", Refused(400)),
    (
        "POST /k HTTP/1.1\nHost: h\nConnection: Content-Length\nContent-Length: 2\n\nhi",
        Refused(400),
    ),
    (
        "POST /k HTTP/1.1\nHost: h\nConnection: transfer-encoding\nTransfer-Encoding: chunked\n\n0\n\n",
        Refused(400),
    ),
    ("PUT /k HTTP/1.1\nHost: h\nExpect: 200-ok\nContent-Length: 2\n\nhi", Refused(417)),
    ("TRACE /k HTTP/1.1\nHost: h\n\n", Answered(405)),
    ("CONNECT h:80 HTTP/1.1\nHost: h:80\n\n", Answered(405)),
    ("OPTIONS * HTTP/1.1\nHost: h\n\n", Answered(204)),
];

fn bytes_of(shape: &str) -> Vec<u8> {
    let text = shape.replace('\n', "\r\n").replace("<LF>", "\n").replace("<CR>", "\r");
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

#[test]
fn what_is_ambiguous_is_refused_and_what_is_ordinary_is_passed_on() {
    let backends = [1, 2, 3].map(|_| Backend::answering("content"));
    let serve = Serve::start(&over(&backends));
    let owner_of = |path: &str| {
        let answer = Client::connect(serve.data).ask("GET", path, "", b"").expect("an answer");
        answer.shard().to_owned()
    };
    let (mut broken, mut broken_off) = (0, 0);
    for (shape, fate) in REQUESTS {
        let mut client = Client::connect(serve.data);
        let bytes = bytes_of(shape);
        let head_asked = bytes.starts_with(b"HEAD ");
        if let Passed(asked) = fate {
            client.send(&bytes).expect("sent");
            let answer = client.hear(head_asked);
            let answer = answer.unwrap_or_else(|error| panic!("{shape:?}: {error:?}"));
            assert_eq!(answer.status, 200, "{shape:?}: {answer:?}");
            let (requests, garbage) = seen(&backends);
            assert_eq!((requests.len(), garbage.len()), (1, 0), "{shape:?}: {garbage:?}");
            assert_eq!(requests[0].asked(), *asked, "{shape:?}");
            let content: &[u8] = if shape.contains("hi") { b"hi" } else { b"" };
            assert_eq!(requests[0].body, content, "{shape:?}");
            for own in ["Upgrade", "HTTP2-Settings", "X-A", "Ringway-Consistency", "Expect"] {
                assert_eq!(requests[0].field(own), None, "{shape:?}");
            }
            let path = asked.split([' ', '?']).nth(1).expect("a path");
            assert_eq!(answer.shard(), owner_of(path), "{shape:?} goes where its path lives");
            // The connection goes on, and what follows is a request of its own.
            client.send("GET /next HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
            assert_eq!(client.hear(false).expect("an answer").status, 200, "{shape:?}");
            seen(&backends);
            continue;
        }
        client.send([&bytes, SMUGGLED.as_bytes()].concat()).expect("sent");
        let answer = client.hear(head_asked);
        let answer = answer.unwrap_or_else(|error| panic!("{shape:?}: {error:?}"));
        let (Refused(status) | Broken(status) | Answered(status)) = fate else { unreachable!() };
        assert_eq!(answer.status, *status, "{shape:?}: {}", answer.text());
        if *status != 204 {
            answer.problem();
        }
        if let Answered(_) = fate {
            assert!(!answer.closes(), "{shape:?}");
            assert_eq!(client.hear(false).expect("an answer").status, 200, "{shape:?}");
            let (requests, garbage) = seen(&backends);
            assert_eq!(requests.len(), 1, "{shape:?}");
            assert_eq!(requests[0].asked(), "GET /smuggled", "here it is the client's own");
            broken_off += garbage.len();
            continue;
        }
        assert!(answer.closes() && client.is_closed_by_peer(), "{shape:?} closes");
        let (requests, garbage) = seen(&backends);
        assert!(requests.is_empty(), "{shape:?} reached a shard: {requests:?}");
        broken += usize::from(matches!(fate, Broken(_)));
        // The shard notices the end of its connection when it does: perhaps shapes later.
        assert!(garbage.iter().all(|what| what.contains("ends early")), "{shape:?}: {garbage:?}");
        broken_off += garbage.len();
        assert!(broken_off <= broken, "{shape:?} reached a shard: {garbage:?}");
    }
    let errors = serve.count("ringway_downstream_cx_protocol_error_total");
    let refused = REQUESTS.iter().filter(|(_, fate)| matches!(fate, Refused(_) | Broken(_)));
    assert_eq!(errors, refused.count(), "each of them is counted");
    assert!(REQUESTS.len() >= 60);
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

/// How a shard's answer is bad, and what the client may see of it.
enum Seen {
    /// A problem with this status.
    Problem(u16),
    /// The beginning of an answer that is visibly cut.
    Cut,
    /// A whole answer, no byte more.
    Whole(&'static str),
}

/// The answers, as in [`REQUESTS`]; then the shard closes if the text ends in `<END>`.
const ANSWERS: &[(&str, Seen)] = &[
    (
        "HTTP/1.1 200 OK\nContent-Length: 2\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n",
        Seen::Problem(502),
    ),
    ("HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 2\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nContent-Length: x\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nTransfer-Encoding: gzip\n\nhi<END>", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n2\nhi\n0\n\n", Seen::Problem(502)),
    ("HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n", Seen::Problem(502)),
    (
        "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n\nhi",
        Seen::Problem(502),
    ),
    ("SSH-2.0-OpenSSH_9.2p1\n\n", Seen::Problem(502)),
    ("HTTP/2.0 200 OK\nContent-Length: 2\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 20 OK\nContent-Length: 2\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 099 OK\nContent-Length: 2\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 600 OK\nContent-Length: 2\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 200 OK<LF>Content-Length: 2<LF><LF>hi", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nContent-Length: 2\nX: a<CR>Set-Cookie: evil=1\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nContent-Length: 2\nX: a<LF>Set-Cookie: evil=1\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 200 O<CR>K\nContent-Length: 2\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nContent-Length: 2\nX: a\n b\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nContent-Length: 2\nX: \u{0}\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nContent-Length : 2\n\nhi", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nConnection: Content-Length\nContent-Length: 2\n\nhi", Seen::Problem(502)),
    ("<END>", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nContent-Le<END>", Seen::Problem(502)),
    ("HTTP/1.1 200 OK\nContent-Length: 20\n\nhi<END>", Seen::Cut),
    ("HTTP/1.1 200 OK\nContent-Length: 20\n\nhi", Seen::Cut),
    ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\n<END>", Seen::Cut),
    ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\n0\n<END>", Seen::Cut),
    ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\n", Seen::Cut),
    ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\nnope\nhi\n0\n\n", Seen::Cut),
    ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhiX0\n\n", Seen::Cut),
    (
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nhiHTTP/1.1 200 OK\nContent-Length: 4\n\nevil",
        Seen::Whole("hi"),
    ),
    (
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\nHTTP/1.1 200 OK\nContent-Length: 4\n\nevil",
        Seen::Whole("hi"),
    ),
    ("HTTP/1.1 204 No Content\n\nHTTP/1.1 200 OK\nContent-Length: 4\n\nevil", Seen::Whole("")),
    ("HTTP/1.1 304 Not Modified\nContent-Length: 4\n\nevil", Seen::Whole("")),
    (
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhi\n0\nContent-Length: 99\n\n<END>",
        Seen::Whole("hi"),
    ),
    ("HTTP/1.1 200 OK\nConnection: close\nContent-Length: 2\n\nhi<END>", Seen::Whole("hi")),
    ("HTTP/1.0 200 OK\nContent-Length: 2\n\nhi<END>", Seen::Whole("hi")),
    ("HTTP/1.1 200 OK\n\nhi<END>", Seen::Whole("hi")),
];

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
    let check = |name: &str, result: Result<Answer, HttpError>, wanted: &Seen| {
        match (wanted, result) {
            (Seen::Problem(status), Ok(answer)) => {
                assert_eq!(answer.status, *status, "{name}");
                let kind = answer.problem();
                assert!(kind == "bad-answer" || kind == "shard-broke", "{name}: {kind}");
            }
            (Seen::Cut, Err(HttpError::Cut(_) | HttpError::Closed)) => {}
            // All of it came at once, so that nothing of it had gone on yet: better than a cut.
            (Seen::Cut, Ok(answer)) => assert_eq!(answer.problem(), "shard-broke", "{name}"),
            (Seen::Whole(content), Ok(answer)) => assert_eq!(answer.text(), *content, "{name}"),
            (_, result) => panic!("{name}: {result:?}"),
        }
        let used = backends[0].take_requests().iter().map(|r| r.connection).max();
        let used = used.expect("the shard was asked");
        // Whichever worker serves the next ones: none goes out on that connection.
        for _ in 0..8 {
            assert_ne!(good(), used, "{name}: the connection was used again");
        }
    };
    good();
    for (n, (shape, wanted)) in ANSWERS.iter().enumerate() {
        check(shape, ask_for(&serve, "GET", &n.to_string()), wanted);
    }
    check("a head without end", ask_for(&serve, "GET", "huge"), &Seen::Problem(502));
    check("interim answers without end", ask_for(&serve, "GET", "flood"), &Seen::Problem(502));
    check("content after HEAD", ask_for(&serve, "HEAD", "head"), &Seen::Whole(""));
    // A write that was answered badly may have been applied.
    let answer = ask_for(&serve, "PUT", "8").expect("an answer");
    assert_eq!((answer.status, answer.field("Ringway-Outcome")), (502, Some("unknown")));
    let cut = serve.count("ringway_downstream_rq_cut_total");
    let cuts = ANSWERS.iter().filter(|(_, seen)| matches!(seen, Seen::Cut)).count();
    assert_eq!(cut, cuts);
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
