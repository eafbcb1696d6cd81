//! Does anybody read a request otherwise than we do?
//!
//! Streams of requests are made at random from what is usual, what is rare and what is an attack,
//! some with a byte changed. Two other readers get the same bytes: a naive one that follows the
//! grammar line by line and must agree about everything, and hyper's server, which repairs more
//! than we do, so it may read on where we stop, but must have read the same until there.

mod fuzz;
mod llhttp;
mod naive;
pub(crate) mod peer;
pub(crate) mod stream;

use proptest::prelude::{ProptestConfig, Strategy};
use proptest::{prop_assert_eq, proptest};

use super::chunked::{ChunkLimits, Decoder, Step, trailer_fields};
use super::framing::Framing;
use super::head::Persistence;
use super::request::{RequestHead, Target};
use super::scan::{HeadLimits, Scanner};

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 4096, line_bytes_max: 1024, fields_max: 20 };

/// One request as a reader understood it.
#[derive(PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) method: Vec<u8>,
    /// Path and query, or `*`.
    pub(crate) target: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        write!(f, "{} {} {:?}", text(&self.method), text(&self.target), text(&self.body))
    }
}

/// What the connection loop and the body reader of `proxy` do, without waiting: `take` gets every
/// request, its head's bytes and its body, up to the first that is refused, unfinished or the last
/// of its connection.
pub(crate) fn each(stream: &[u8], mut take: impl FnMut(&RequestHead, &[u8], Vec<u8>)) {
    let mut rest = stream;
    loop {
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        let (mut head, mut at_once) = (RequestHead::default(), RequestHead::default());
        let length_at_once = at_once.parse_at_once(rest, &LIMITS);
        let scanned = Scanner::default().scan(rest, &LIMITS).ok().flatten();
        let length = scanned.filter(|&length| head.parse(&rest[..length]).is_ok());
        // The short way takes exactly what the long way takes, and as the same.
        assert_eq!(length_at_once, length, "{:?}", String::from_utf8_lossy(rest));
        let Some(length) = length else { return };
        assert_eq!(format!("{at_once:?}"), format!("{head:?}"));
        let (whole, behind) = rest.split_at(length);
        let Some((body, used)) = body_of(head.framing(), behind, true) else { return };
        if head.target() == Target::Authority {
            return;
        }
        take(&head, whole, body);
        if head.persistence() == Persistence::Close {
            return;
        }
        rest = &behind[used..];
    }
}

fn ours(stream: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    each(stream, |head, whole, body| {
        let target = match head.target() {
            Target::Authority => unreachable!("left out"),
            // hyper has no form for an absolute target without a path.
            Target::Asterisk if !whole.starts_with(b"OPTIONS * ") => b"/".to_vec(),
            Target::Asterisk => b"*".to_vec(),
            Target::Path { path, query } => {
                let path = match path.of_bytes(whole) {
                    b"" => b"/",
                    path => path,
                };
                match query {
                    None => path.to_vec(),
                    Some(query) => [path, b"?", query.of_bytes(whole)].concat(),
                }
            }
        };
        messages.push(Message { method: head.method(whole).to_vec(), target, body });
    });
    messages
}

/// The body behind a head, and how many bytes it took. A request's trailers are judged.
fn body_of(framing: Framing, behind: &[u8], is_request: bool) -> Option<(Vec<u8>, usize)> {
    match framing {
        Framing::None => Some((Vec::new(), 0)),
        Framing::Length(length) => {
            let length = usize::try_from(length).ok()?;
            Some((behind.get(..length)?.to_vec(), length))
        }
        Framing::Chunked => {
            let limits = ChunkLimits { extension_bytes_max: 64, trailer_bytes_max: 256 };
            let (mut decoder, mut data, mut at) = (Decoder::new(limits), Vec::new(), 0);
            loop {
                let (used, step) = decoder.step(&behind[at..]).ok()?;
                match step {
                    Step::Data(range) => data.extend_from_slice(&behind[at..][range]),
                    Step::NeedMore => return None,
                    Step::End => {
                        let trailers = trailer_fields(decoder.trailers(), &mut Vec::new());
                        trailers.ok().or((!is_request).then_some(()))?;
                        return Some((data, at + used));
                    }
                }
                at += used;
            }
        }
        Framing::UntilClose => unreachable!("requests do not end with their connection"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_naive_reader_of_the_grammar_agrees(stream in stream::requests()) {
        let Ok(Some(length)) = Scanner::default().scan(&stream, &LIMITS) else { return Ok(()) };
        let whole = &stream[..length];
        let mut head = RequestHead::default();
        let ours = head.parse(whole).map(|()| naive::Facts {
            method: head.method(whole).to_vec(),
            host: head.host(whole).to_vec(),
            framing: head.framing(),
            keep_alive: head.persistence() == Persistence::KeepAlive,
        });
        prop_assert_eq!(ours.ok(), naive::read(whole), "{:?}", String::from_utf8_lossy(whole));
    }

    #[test]
    fn hyper_reads_what_we_read(stream in stream::requests(), piece in 1usize..200) {
        let ours = ours(&stream);
        let theirs = peer::read(&stream, piece);
        let theirs = theirs.get(..ours.len()).unwrap_or(&theirs);
        prop_assert_eq!(&ours[..], theirs, "{:?}", String::from_utf8_lossy(&stream));
    }
}

/// The generator is of use only if it makes both kinds.
#[test]
fn many_streams_are_read_and_many_are_refused() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut read, mut several, mut bodies, mut none) = (0, 0, 0, 0);
    for _ in 0..1000 {
        let stream = stream::requests().new_tree(&mut runner).expect("a stream").current();
        let messages = ours(&stream);
        read += usize::from(!messages.is_empty());
        several += usize::from(messages.len() > 1);
        bodies += usize::from(messages.iter().any(|message| !message.body.is_empty()));
        none += usize::from(messages.is_empty());
    }
    let all = [read, several, bodies, none];
    assert!(all.into_iter().all(|count| count > 150), "{all:?}");
}
