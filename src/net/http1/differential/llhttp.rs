//! Does llhttp, the parser of Node.js, understand what we accept in the same way?
//!
//! Node runs a script (`llhttp.js`) over generated streams. What we accept it may refuse, and what
//! we refuse is not compared; but wherever both read on, they must have read the same messages:
//! method, target or status, content, and how many. Without `node` the test says so aloud and
//! passes; with `RINGWAY_REQUIRE_ALL=1` it fails.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::{Strategy, any};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::fuzz::{ANSWERS, REQUESTS, WORDS, our_answer};
use super::{each, stream};
use crate::key::mutants::mutant;

const SCRIPT: &str = include_str!("llhttp.js");

/// How many streams of each kind an ordinary run compares; `.ci/fuzz` says another number.
const STREAMS: usize = 5000;

/// What llhttp made of one stream.
#[derive(serde::Deserialize)]
struct Theirs {
    messages: Vec<(serde_json::Value, String)>,
    end: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Runs the script over these streams; `None` if there is no node.
fn read_by_llhttp(kind: char, streams: &[(Vec<u8>, usize)]) -> Option<Vec<Theirs>> {
    let started = Command::new("node")
        .args(["--no-deprecation", "-e", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut node) = started else {
        let all = std::env::var("RINGWAY_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!all, "`node` is not installed, and RINGWAY_REQUIRE_ALL=1 asks for it");
        drop(writeln!(std::io::stderr().lock(), "SKIPPED: llhttp: `node` is not installed"));
        return None;
    };
    let mut lines = String::new();
    for (bytes, piece) in streams {
        writeln!(lines, "{kind} {} {piece}", hex(bytes)).expect("a string takes all");
    }
    // The script reads all before it says a word, so neither waits for the other.
    let mut input = node.stdin.take().expect("a pipe was asked for");
    input.write_all(lines.as_bytes()).expect("node reads");
    drop(input);
    let output = node.wait_with_output().expect("node ends");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let read: Vec<Theirs> =
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(read.len(), streams.len(), "{errors}");
    Some(read)
}

/// Streams, half of them by the generator of requests, if it is one, and half of them mutants.
fn streams(kind: char) -> Vec<(Vec<u8>, usize)> {
    let count = std::env::var("RINGWAY_LLHTTP_STREAMS").ok().and_then(|text| text.parse().ok());
    // The same streams for everybody, but for who asks for more of them.
    let mut runner = match count {
        Some(_) => TestRunner::default(),
        None => TestRunner::deterministic(),
    };
    let recipes = (any::<(u8, Vec<(u16, u8, u8)>)>(), 1usize..300);
    let requests = stream::requests();
    (0..count.unwrap_or(STREAMS))
        .map(|n| {
            let (mut recipe, piece) = recipes.new_tree(&mut runner).expect("a recipe").current();
            let wholes = if kind == 'q' { &REQUESTS } else { &ANSWERS };
            if n % 2 == 0 {
                // Of much that was changed at once, hardly anything is an answer any more.
                recipe.1.truncate(1);
            }
            let bytes = match (kind, n % 2) {
                ('q', 0) => requests.new_tree(&mut runner).expect("a stream").current(),
                _ => mutant(wholes, &WORDS, &recipe),
            };
            (bytes, piece)
        })
        .collect()
}

#[test]
fn llhttp_reads_the_requests_that_we_read() {
    let streams = streams('q');
    let Some(read) = read_by_llhttp('q', &streams) else { return };
    let (mut compared, mut bodies) = (0, 0);
    for ((bytes, _), theirs) in streams.iter().zip(&read) {
        let mut ours = Vec::new();
        each(bytes, |head, whole, body| {
            let line = &whole[..memchr::memchr(b'\r', whole).unwrap_or(0)];
            let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
            let start = [head.method(whole), b" ", words[1]].concat();
            ours.push((String::from_utf8_lossy(&start).into_owned(), hex(&body)));
        });
        for ((start, body), (their_start, their_body)) in ours.iter().zip(&theirs.messages) {
            compared += 1;
            bodies += usize::from(!body.is_empty());
            // Node hands targets over as Latin-1.
            let same = start.is_ascii().then_some(start.as_str()) == their_start.as_str();
            assert!(same || !start.is_ascii(), "{start} and {their_start}: {}", shown(bytes));
            assert_eq!(body, their_body, "{start}: {}", shown(bytes));
        }
        // Who reads on after the last request that we take must have read as many as we.
        let reads_on = theirs.end == "open" || theirs.end == "cut";
        let fewer = reads_on && theirs.messages.len() < ours.len();
        assert!(!fewer, "{} and {}: {}", ours.len(), theirs.messages.len(), shown(bytes));
    }
    assert!(compared > streams.len() / 4 && bodies > streams.len() / 20, "{compared}, {bodies}");
}

#[test]
fn llhttp_reads_the_answers_that_we_read() {
    let streams = streams('s');
    let Some(read) = read_by_llhttp('s', &streams) else { return };
    let mut compared = 0;
    for ((bytes, _), theirs) in streams.iter().zip(&read) {
        let Some(((status, body), end)) = our_answer(bytes, false) else { continue };
        let last = |(start, _): &&(serde_json::Value, String)| {
            start.as_u64().is_some_and(|status| status >= 200)
        };
        let Some((their_status, their_body)) = theirs.messages.iter().find(last) else {
            let refused = theirs.end != "open" && theirs.end != "cut";
            assert!(refused || end.is_none(), "{status} is none for llhttp: {}", shown(bytes));
            continue;
        };
        compared += 1;
        assert_eq!(their_status.as_u64(), Some(u64::from(status)), "{}", shown(bytes));
        assert_eq!(*their_body, hex(&body), "{}", shown(bytes));
    }
    assert!(compared > streams.len() / 8, "{compared}");
}
