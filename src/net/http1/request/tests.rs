//! Which request heads are refused, and why; which are taken, and for what?
//!
//! The tables hold what is known to have confused servers: request smuggling writes, the desync
//! tests of other proxies, and the corners of RFC 9112's grammar. The sweeps put every byte at
//! every kind of place and compare with the grammar itself.

use super::*;
use crate::net::http1::head::HeadError::{FieldName, FieldValue, FirstLine, LineEnd, Version};
use crate::net::http1::scan::{HeadLimits, ScanError, Scanner};

mod bodies;
mod hops;
mod targets;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 32 * 1024, line_bytes_max: 8 * 1024, fields_max: 100 };

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Unfinished,
    Scan(ScanError),
    Request(RequestError),
}

impl From<ScanError> for Refusal {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

impl<E: Into<RequestError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Request(error.into())
    }
}

fn read(bytes: &[u8]) -> Result<(RequestHead, usize), Refusal> {
    let length = Scanner::default().scan(bytes, &LIMITS)?.ok_or(Refusal::Unfinished)?;
    let mut head = RequestHead::default();
    head.parse(&bytes[..length])?;
    Ok((head, length))
}

/// What a head was understood to say, in one line.
fn facts(bytes: &[u8]) -> Result<String, Refusal> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (head, _) = read(bytes)?;
    let target = match head.target() {
        Target::Asterisk => "the server".to_owned(),
        Target::Authority => "a tunnel".to_owned(),
        Target::Path { path, query: None } => format!("`{}`", text(path.of_bytes(bytes))),
        Target::Path { path, query: Some(query) } => {
            format!("`{}` ? `{}`", text(path.of_bytes(bytes)), text(query.of_bytes(bytes)))
        }
    };
    let mut line = format!("{} {target} of `{}`", text(head.method(bytes)), text(head.host(bytes)));
    match head.framing() {
        Framing::None => {}
        Framing::Length(length) => line += &format!(", {length} bytes"),
        Framing::Chunked => line += ", chunks",
        Framing::UntilClose => line += ", until the end",
    }
    for (is, what) in [
        (head.minor() == 0, "old"),
        (head.persistence() == Persistence::Close, "last"),
        (head.expects_continue(), "waits"),
        (head.wants_trailers(), "trailers"),
    ] {
        if is {
            line = line + ", " + what;
        }
    }
    let kept = head.fields().iter().filter(|field| field.nominated);
    for field in kept {
        line += &format!(", without {}", text(field.name.of_bytes(bytes)));
    }
    Ok(line)
}

/// A GET with these field lines behind a good `Host`.
fn get(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes()
}

#[track_caller]
fn refused(head: impl AsRef<[u8]>, error: impl Into<Refusal>) {
    let head = head.as_ref();
    assert_eq!(facts(head), Err(error.into()), "{:?}", String::from_utf8_lossy(head));
}

#[track_caller]
fn taken(head: impl AsRef<[u8]>, expected: &str) {
    let head = head.as_ref();
    assert_eq!(facts(head).as_deref(), Ok(expected), "{:?}", String::from_utf8_lossy(head));
}

#[test]
fn first_lines() {
    for line in [
        "GET/ HTTP/1.1",
        " GET / HTTP/1.1",
        "\tGET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / x HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET HTTP/1.1",
        "GET",
        "GET ",
        "/ HTTP/1.1",
        " / HTTP/1.1",
        "G(T / HTTP/1.1",
        "G@T / HTTP/1.1",
        "\"GET\" / HTTP/1.1",
        "GÉT / HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\rx HTTP/1.1",
        "G\rET / HTTP/1.1",
        "HTTP/1.1 200 OK",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1",
    ] {
        refused(format!("{line}\r\nHost: h\r\n\r\n"), FirstLine);
    }
    for line in [
        "GET / HTTP/2",
        "GET / HTTP/3",
        "GET / HTTP/01.1",
        "GET / HTTP/1,1",
        "GET / http/1.1",
        "GET / Http/1.1",
        "GET / HTTPS/1.1",
        "GET / HTTP /1.1",
        "GET /  HTTP/2.0",
        "GET / ICAP/1.0",
    ] {
        refused(format!("{line}\r\nHost: h\r\n\r\n"), FirstLine);
    }
    for end in [" ", "\t", "\rx", "x", "0", "\r"] {
        refused(format!("GET / HTTP/1.1{end}\r\nHost: h\r\n\r\n"), LineEnd);
    }
    for line in ["GET / HTTP/0.9", "GET / HTTP/1.2", "GET / HTTP/2.0", "PRI * HTTP/2.0"] {
        refused(format!("{line}\r\nHost: h\r\n\r\n"), Version);
    }
    refused("PRI * HTTP/2.0\r\n\r\n", Version);
    // HTTP/0.9 has no version, and no fields either.
    refused("GET /\r\n\r\n", FirstLine);
    taken(get(""), "GET / of `h`".replace('/', "`/`").as_str());
    taken("M-SEARCH / HTTP/1.1\r\nHost: h\r\n\r\n", "M-SEARCH `/` of `h`");
    taken("get / HTTP/1.1\r\nHost: h\r\n\r\n", "get `/` of `h`");
    taken("!#$%&'*+-.^_`|~09aZ / HTTP/1.1\r\nHost: h\r\n\r\n", "!#$%&'*+-.^_`|~09aZ `/` of `h`");
    let longest = "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF";
    taken(format!("{longest} / HTTP/1.1\r\nHost: h\r\n\r\n"), &format!("{longest} `/` of `h`"));
}

/// The connection loop drops one empty line before a request. A second one, or one that it did not
/// see, is a sign of a reader out of step.
#[test]
fn empty_lines_before_the_first() {
    refused("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", FirstLine);
    refused("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", FirstLine);
    refused("\r\n\r\n", FirstLine);
    refused("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", ScanError::BareLf);
    let mut head = RequestHead::default();
    let bare = head.parse(b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(bare, Err(FirstLine.into()), "even if the scanner was told to skip it");
    refused(" \r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", FirstLine);
}

#[test]
fn line_ends() {
    for head in [
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "GET / HTTP/1.1\r\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\n c\r\n\r\n",
        "\n",
    ] {
        refused(head, ScanError::BareLf);
    }
    refused(get("A: b\r\r\n"), FieldValue);
    refused(get("A: b\rC: d\r\n"), FieldValue);
    refused(get("A: \rb\r\n"), FieldValue);
    refused(get("A:\r\r\n"), FieldValue);
    refused(get("\rA: b\r\n"), LineEnd);
    refused(get("A\r: b\r\n"), FieldName);
    refused("GET / HTTP/1.1\r\nHost: h\r\n", Refusal::Unfinished);
    refused("GET / HTTP/1.1\r\nHost: h\r\n\r", Refusal::Unfinished);
    refused("GET / HTTP/1.1\r\nHost: h\r\n\rx\r\n\r\n", LineEnd);
}

#[test]
fn field_lines() {
    for fields in [
        " A: b\r\n",
        "\tA: b\r\n",
        "A : b\r\n",
        "A\t: b\r\n",
        "A: b\r\n c\r\n",
        "A: b\r\n\tc\r\n",
        "A:\r\n b\r\n",
        "A: b\r\n \r\n",
        "A: b\r\n : c\r\n",
        ": b\r\n",
        ":\r\n",
        "A\r\n",
        "A b: c\r\n",
        "A(b): c\r\n",
        "A@b: c\r\n",
        "A\"b\": c\r\n",
        "A/b: c\r\n",
        "[A]: c\r\n",
        "Ä: c\r\n",
        "A\0: c\r\n",
        "A\x01: c\r\n",
        "Transfer-Encoding\0: chunked\r\n",
        "Transfer-Encoding\u{b}: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 5\r\n",
        "Content-Length\u{a0}: 5\r\n",
        "GET / HTTP/1.1\r\n",
    ] {
        refused(get(fields), FieldName);
    }
    // A field's name follows the request line at once.
    refused("GET / HTTP/1.1\r\n Host: h\r\n\r\n", FieldName);
    for fields in [
        "A: b\0c\r\n",
        "A: \0\r\n",
        "A: b\x01\r\n",
        "A: b\x08c\r\n",
        "A: b\x0bc\r\n",
        "A: \x0cb\r\n",
        "A: b\x1b[0m\r\n",
        "A: b\x7f\r\n",
        "Transfer-Encoding: chunked\0\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Content-Length: 5\x0b\r\n",
    ] {
        refused(get(fields), FieldValue);
    }
    for fields in [
        "A:b\r\n",
        "A:   b   \r\n",
        "A:\tb\t\r\n",
        "A:\r\n",
        "A:   \r\n",
        "A: :\r\n",
        "A:: b\r\n",
        "A: b: c\r\n",
        "!#$%&'*+-.^_`|~: b\r\n",
        "1: b\r\n",
        "A: \u{e4}\u{20ac}\r\n",
        "A: \"quoted \\\" text\"\r\n",
        "A: b\r\nA: c\r\na: d\r\n",
        "Under_score: b\r\n",
        "X-Content_Length: 5\r\n",
        "Ringwaytoo: b\r\n",
        "Content-Length-Hint: 5\r\n",
        "HTTP2-Settings: AAMAAABkAARAAAAA\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    ] {
        let taken = facts(&get(fields)).expect(fields);
        assert!(taken.starts_with("GET `/` of `h`"), "{fields:?}: {taken}");
        assert!(!taken.contains("bytes") && !taken.contains("chunks"), "{fields:?}: {taken}");
    }
    let high = [&b"GET / HTTP/1.1\r\nHost: h\r\nA: \x80\xff\r\n\r\n"[..]].concat();
    taken(high, "GET `/` of `h`");
}

#[test]
fn values_lose_the_white_space_around_them_and_nothing_else() {
    let bytes = get("A: \t b \t c\t \r\nB:\r\n");
    let (head, _) = read(&bytes).expect("a good head");
    let lines: Vec<(&[u8], &[u8])> = head
        .fields()
        .iter()
        .map(|field| (field.name.of_bytes(&bytes), field.value.of_bytes(&bytes)))
        .collect();
    assert_eq!(lines, [(&b"Host"[..], &b"h"[..]), (b"A", b"b \t c"), (b"B", b"")]);
}

#[test]
fn sizes() {
    let fields = |n: usize| (0..n).map(|n| format!("A{n}: b\r\n")).collect::<String>();
    assert!(facts(&get(&fields(99))).is_ok());
    refused(get(&fields(100)), ScanError::TooManyFields);
    let line = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(n));
    let around = "GET / HTTP/1.1\r\n".len();
    assert!(facts(line(8192 - around).as_bytes()).is_ok());
    refused(line(8193 - around), ScanError::FirstLineTooLong);
    let field = |n: usize| format!("A: {}\r\n", "b".repeat(n - 5));
    assert!(facts(&get(&field(8192))).is_ok());
    refused(get(&field(8193)), ScanError::FieldTooLong);
    let head = |n: usize| get(&(field(8000).repeat(4) + &field(n)));
    let rest = 32 * 1024 - 32_000 - get("").len();
    assert!(facts(&head(rest)).is_ok());
    refused(head(rest + 1), ScanError::HeadTooLarge);
}

/// RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[test]
fn every_byte_at_every_kind_of_place() {
    // Long texts, so that the parser's vectorised loops see the byte as well.
    let pad = "x".repeat(40);
    let pad = pad.as_bytes();
    for byte in 0..=255u8 {
        let with = |before: &[u8], after: &[u8]| facts(&[before, &[byte], after].concat());
        let end = b" / HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(with(b"GE", end).is_ok(), is_token_byte(byte), "method: {byte:#x}");

        let start = [b"GET / HTTP/1.1\r\nHost: h\r\nA", pad].concat();
        let end = [b"b", pad, b": c\r\n\r\n"].concat();
        // A colon ends the name early, which is fine.
        let fine = is_token_byte(byte) || byte == b':';
        assert_eq!(with(&start, &end).is_ok(), fine, "field name: {byte:#x}");

        let start = [b"GET / HTTP/1.1\r\nHost: h\r\nA: ", pad].concat();
        let end = [b"b", pad, b"\r\n\r\n"].concat();
        let fine = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        assert_eq!(with(&start, &end).is_ok(), fine, "field value: {byte:#x}");

        // A byte above 127 alone is no UTF-8, and `httparse` wants a target to be that.
        let start = [b"GET /", pad].concat();
        let end = [pad, b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        assert_eq!(with(&start, &end).is_ok(), byte.is_ascii_graphic(), "target: {byte:#x}");

        let fine = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte);
        let host = with(b"GET / HTTP/1.1\r\nHost: a", b"b\r\n\r\n");
        assert_eq!(host.is_ok(), fine, "host: {byte:#x}");
        let absolute = with(b"GET http://a", b"b HTTP/1.0\r\n\r\n");
        let fine = fine || byte == b'/' || byte == b'?';
        assert_eq!(absolute.is_ok(), fine, "authority: {byte:#x}");

        let length = with(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1", b"1\r\n\r\n");
        assert_eq!(length.is_ok(), byte.is_ascii_digit(), "length: {byte:#x}");
        let coding = with(b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chu", b"ked\r\n\r\n");
        assert_eq!(coding.is_ok(), matches!(byte, b'n' | b'N'), "coding: {byte:#x}");
        let version = with(b"GET / HTTP/1.", b"\r\nHost: h\r\n\r\n");
        assert_eq!(version.is_ok(), matches!(byte, b'0' | b'1'), "version: {byte:#x}");
    }
}

#[test]
fn a_head_lends_its_vector_and_nothing_else() {
    let mut head = RequestHead::default();
    head.parse(b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTE: trailers\r\n\r\n")
        .expect("a good head");
    let second = b"GET /b HTTP/1.0\r\n\r\n";
    head.parse(second).expect("a good head");
    assert_eq!((head.framing(), head.host(second), head.minor()), (Framing::None, &b""[..], 0));
    assert!(head.fields().is_empty() && !head.wants_trailers());
}

#[test]
#[should_panic(expected = "from a parsed head only")]
fn a_refused_head_has_no_facts_of_the_one_before() {
    let mut head = RequestHead::default();
    head.parse(&get("Content-Length: 5\r\n")).expect("a good head");
    head.parse(b"GET / HTTP/1.1\r\n\r\n").expect_err("a head without Host");
    let _: Framing = head.framing();
}
