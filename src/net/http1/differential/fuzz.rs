//! Inputs that are almost right, read by several readers: what we accept, `httparse`, hyper and a
//! naive reader of the grammar understand in the same way. We may refuse more.
//!
//! The same checks as in [`super`], with inputs that `.ci/fuzz` can go on making for hours.

use super::{LIMITS, body_of, naive, ours, peer};
use crate::key::mutants::{ORDINARY_RUN, Recipe, mutant};
use crate::net::http1::chunked::{ChunkLimits, Decoder, Step, trailer_fields};
use crate::net::http1::framing::Framing;
use crate::net::http1::head::Persistence;
use crate::net::http1::request::RequestHead;
use crate::net::http1::response::ResponseHead;
use crate::net::http1::scan::Scanner;

pub(crate) const REQUESTS: [&[u8]; 8] = [
    b"GET /k HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET http://h/k?a=b HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nConnection: keep-alive, X\r\nX: y\r\n\r\n",
    b"POST /k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /k HTTP/1.1\r\nhost:h:80 \r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\n\r\n",
    b"POST /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n5\r\nGET /\r\n0\r\n\r\n",
    b"PUT /k HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 26\r\n\r\nGET /inner HTTP/1.1\r\nX: y\r\n",
];

pub(crate) const ANSWERS: [&[u8]; 8] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
];

pub(crate) const WORDS: [&[u8]; 48] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"1",
    b"5",
    b"a",
    b"\x0b",
    b"\x7f",
    b"\xff",
    b"\"",
    b"%",
    b"0\r\n\r\n",
    b"1\r\nx\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"Content-Length: 0\r\n",
    b"Content-Length: 5\r\n",
    b"content-length:05\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length : 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding:\tChunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: chunked\r\n\t, x\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: Host\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"Host: h\r\n",
    b"X: y\r\n",
    b" X: y\r\n",
    b"X\r\n",
    b"Expect: 100-continue\r\n",
    b"Trailer: Content-Length\r\n",
    b"FFFFFFFFFFFFFFFF\r\n",
    b"-1\r\n",
];

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[test]
fn fuzz_request_heads() {
    bolero::check!().with_iterations(5 * ORDINARY_RUN).with_type::<Recipe>().for_each(|recipe| {
        let bytes = mutant(&REQUESTS, &WORDS, recipe);
        let Ok(Some(length)) = Scanner::default().scan(&bytes, &LIMITS) else { return };
        let whole = &bytes[..length];
        let mut head = RequestHead::default();
        let taken = head.parse(whole).is_ok();
        let facts = taken.then(|| naive::Facts {
            method: head.method(whole).to_vec(),
            host: head.host(whole).to_vec(),
            framing: head.framing(),
            keep_alive: head.persistence() == Persistence::KeepAlive,
        });
        assert_eq!(facts, naive::read(whole), "{}", shown(whole));
        if !taken {
            return;
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut theirs = httparse::Request::new(&mut fields);
        assert_eq!(theirs.parse(whole), Ok(httparse::Status::Complete(length)), "{}", shown(whole));
        assert_eq!(theirs.version, Some(head.minor()));
        let read = head.fields().iter();
        let read = read.map(|field| (field.name.of_bytes(whole), field.value.of_bytes(whole)));
        let wanted = theirs.headers.iter().map(|field| (field.name.as_bytes(), field.value));
        assert!(read.eq(wanted), "{}", shown(whole));
    });
}

#[test]
fn fuzz_request_streams() {
    bolero::check!().with_iterations(ORDINARY_RUN).with_type::<(Recipe, u8)>().for_each(
        |(recipe, piece)| {
            let bytes = mutant(&REQUESTS, &WORDS, recipe);
            let ours = ours(&bytes);
            let theirs = peer::read(&bytes, 1 + usize::from(*piece));
            // hyper may refuse what is passed on: its URIs have no `"` in a query, for one. What both
            // read is the same, to where either stops.
            let both = ours.len().min(theirs.len());
            assert_eq!(ours[..both], theirs[..both], "{}", shown(&bytes));
        },
    );
}

/// One answer as it would be passed on: its status and its content.
type Answered = (u16, Vec<u8>);

/// What `dispatch` makes of an answer to GET or HEAD: `None` where it is refused or cut. And where
/// it ends; `None` there means with the connection.
pub(super) fn our_answer(bytes: &[u8], head_asked: bool) -> Option<(Answered, Option<usize>)> {
    let mut begin = 0;
    loop {
        let rest = &bytes[begin..];
        let length = Scanner::default().scan(rest, &LIMITS).ok()??;
        let (whole, behind) = rest.split_at(length);
        let mut head = ResponseHead::default();
        head.parse(whole, head_asked).ok()?;
        begin += length;
        if head.is_interim() {
            continue;
        }
        let (body, used) = match head.framing() {
            Framing::UntilClose => return Some(((head.status(), behind.to_vec()), None)),
            framing => body_of(framing, behind, false)?,
        };
        return Some(((head.status(), body), Some(begin + used)));
    }
}

#[test]
fn fuzz_answers() {
    bolero::check!().with_iterations(ORDINARY_RUN).with_type::<(Recipe, u8, bool)>().for_each(
        |(recipe, piece, head_asked)| {
            let bytes = mutant(&ANSWERS, &WORDS, recipe);
            let Some((ours, _)) = our_answer(&bytes, *head_asked) else { return };
            let theirs = peer::answer(&bytes, 1 + usize::from(*piece), *head_asked);
            assert!(theirs.is_none_or(|theirs| theirs == ours), "{}", shown(&bytes));
        },
    );
}

/// The decoder against hyper's, which takes more: data and end are the same wherever both read on.
#[test]
fn fuzz_chunks() {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    const BODIES: [&[u8]; 4] = [
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"1;a=b\r\nh\r\n4 ;c\r\nello\r\n0\r\nX: y\r\n\r\n",
        b"A\r\n0\r\n\r\nGET /\r\n0\r\n\r\n",
    ];
    bolero::check!().with_iterations(ORDINARY_RUN).with_type::<(Recipe, u8)>().for_each(
        |(recipe, piece)| {
            let body = mutant(&BODIES, &WORDS, recipe);
            let limits = ChunkLimits { extension_bytes_max: 64, trailer_bytes_max: 256 };
            let (mut decoder, mut data, mut at) = (Decoder::new(limits), Vec::new(), 0);
            let step = usize::from(*piece) + 1;
            loop {
                let end = body.len().min(at + step);
                let Ok((used, found)) = decoder.step(&body[at..end]) else { return };
                match found {
                    Step::Data(range) => data.extend_from_slice(&body[at..][range]),
                    Step::NeedMore if end == body.len() => return,
                    Step::NeedMore => {}
                    Step::End => break,
                }
                at += used;
            }
            if trailer_fields(decoder.trailers(), &mut Vec::new()).is_err() {
                return;
            }
            let theirs = peer::read(&[HEAD, &body].concat(), step);
            let first = theirs.first().map(|message| &message.body);
            assert_eq!(first, Some(&data), "hyper reads {}", shown(&body));
        },
    );
}
