//! Streams of requests: usual, rare and hostile.

use proptest::prelude::{Just, Strategy, any, prop};
use proptest::prop_oneof;
use proptest::sample::select;

const METHODS: [&str; 8] = ["GET", "GET", "POST", "PUT", "HEAD", "OPTIONS", "get", "M-SEARCH"];

const TARGETS: [&str; 20] = [
    "/",
    "/a",
    "/a/b?c=d",
    "/?",
    "//a",
    "/a%2Fb",
    "/%41",
    "/a;b=c?d?e",
    "/*",
    "/~a/!$&'()*+,;=:@",
    "*",
    "http://h",
    "http://h/a?b",
    "HTTP://H?x",
    "https://h/",
    "http://u@h/",
    "http://other/",
    "h:80",
    "a",
    "ftp://h/",
];

const HOSTS: [&str; 13] = [
    "Host: h",
    "host:h ",
    "HOST:\th",
    "Host: h",
    "Host: h:80",
    "Host: [::1]",
    "Host: h, h",
    "Host: u@h",
    "Host:",
    "Host: h\r\nHost: h",
    "A: b",
    "Host : h",
    "Host: h%00",
];

const FIELDS: [&str; 36] = [
    "Accept: */*",
    "Accept: */*",
    "A: b",
    "A:b",
    "A:",
    "A:   b  c \t",
    "A_b: c",
    "Cookie: a=b; c=d",
    "If-None-Match: \"a\", W/\"b\"",
    "X-Utf8: \u{e4}",
    "Expect: 100-continue",
    "Expect: x",
    "TE: trailers",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: a, te",
    "Connection: keep-alive, close",
    "Connection: content-length",
    "Connection: host",
    "Upgrade: h2c",
    "Content_Length: 3",
    "X_Forwarded_For: 1.2.3.4",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: x",
    "Transfer-Encoding:\r\n chunked",
    "A: b\r\n c",
    " A: b",
    "A: b\0c",
    "A: b\rc",
    "A: b\nContent-Length: 3",
    "A b: c",
    ": b",
    "A",
    "Content-Length: 0",
    "content-length: 3",
    "X-Content-Length: 3",
];

/// A body together with the fields that are to delimit it.
fn body() -> impl Strategy<Value = (&'static str, &'static str)> {
    const BODIES: [(&str, &str); 32] = [
        ("", ""),
        ("", ""),
        ("", ""),
        ("Content-Length: 0\r\n", ""),
        ("Content-Length: 5\r\n", "hello"),
        ("Content-Length: 5\r\n", "0\r\n\r\n"),
        ("content-length:  5 \r\n", "hello"),
        ("Content-Length: 005\r\n", "hello"),
        ("Content-Length: 21\r\n", "GET /inner HTTP/1.1\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: Chunked\r\n", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"),
        ("transfer-encoding:chunked\r\n", "05;a=b\r\nhello\r\n0;c\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "A\r\n0\r\n\r\nGET /\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5 ;x\r\nhello\r\n0\r\n\r\n"),
        // From here on hostile.
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        ("Content-Length: 5\r\nContent-Length: 0\r\n", "hello"),
        ("Content-Length: 5, 5\r\n", "hello"),
        ("Content-Length: +5\r\n", "hello"),
        ("Content-Length: 0x5\r\n", "hello"),
        ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nHost: x\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "-5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ];
    prop_oneof![12 => select(&BODIES[..16]), 1 => select(&BODIES[16..])]
}

fn fields() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        60 => select(&FIELDS[..11]),
        10 => select(&FIELDS[11..20]),
        2 => select(&FIELDS[20..]),
    ];
    prop::collection::vec(field, 0..4)
        .prop_map(|fields| fields.into_iter().map(|field| field.to_owned() + "\r\n").collect())
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    const VERSIONS: [&str; 3] = ["HTTP/1.0", "HTTP/2.0", "http/1.1"];
    let target = prop_oneof![
        12 => select(&TARGETS[..10]).prop_map(str::to_owned),
        1 => select(&TARGETS[10..]).prop_map(str::to_owned),
        6 => "(/[a-zA-Z0-9%._~-]{0,4}){1,3}(\\?[a-z=&/?]{0,5})?",
    ];
    let version = prop_oneof![20 => Just("HTTP/1.1"), 1 => select(&VERSIONS[..])];
    let host = prop_oneof![20 => select(&HOSTS[..4]), 1 => select(&HOSTS[4..])];
    (select(&METHODS[..]), target, version, host, fields(), body(), any::<bool>()).prop_map(
        |(method, target, version, host, fields, (framing, body), framing_first)| {
            let fields =
                if framing_first { framing.to_owned() + &fields } else { fields + framing };
            format!("{method} {target} {version}\r\n{host}\r\n{fields}\r\n{body}").into_bytes()
        },
    )
}

/// One to four requests behind each other; in every fifth stream one byte is not as it was.
pub(crate) fn requests() -> impl Strategy<Value = Vec<u8>> {
    const BYTES: [u8; 16] = *b"\r\n\0 \t:;,0a\x7f\xff/?_\x0b";
    let change = (any::<prop::sample::Index>(), 0..3usize, select(&BYTES[..]));
    let before = prop_oneof![20 => Just(""), 1 => Just("\r\n"), 1 => Just("\n")];
    let requests = prop::collection::vec(request(), 1..4);
    (before, requests, prop::option::weighted(0.2, change)).prop_map(
        |(before, requests, change)| {
            let mut stream = [before.as_bytes(), &requests.concat()].concat();
            if let Some((at, how, byte)) = change {
                let at = at.index(stream.len());
                match how {
                    0 => stream[at] = byte,
                    1 => stream.insert(at, byte),
                    _ => drop(stream.remove(at)),
                }
            }
            stream
        },
    )
}
