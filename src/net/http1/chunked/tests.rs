//! Does the decoder find the data that a naive reader finds, however the bytes arrive?

use super::*;
use crate::net::http1::chunked::ChunkError::{
    Delimiter, Extension, Size, Trailer, TrailersTooLarge,
};
use proptest::prelude::{ProptestConfig, Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};

const LIMITS: ChunkLimits = ChunkLimits { extension_bytes_max: 16, trailer_bytes_max: 64 };

/// A whole body: its data, its trailer section, and how many bytes of the input it took. `None`:
/// the input ends before the body does.
type Body = Option<(Vec<u8>, Vec<u8>, usize)>;

/// Decodes `input`, handed over in pieces that end at `cuts`.
fn decode(input: &[u8], cuts: &[usize]) -> Result<Body, ChunkError> {
    let mut decoder = Decoder::new(LIMITS);
    let (mut data, mut at) = (Vec::new(), 0);
    for &end in cuts.iter().chain([&input.len()]) {
        loop {
            let piece = &input[at..end.max(at)];
            let (used, step) = decoder.step(piece)?;
            at += used;
            match step {
                Step::Data(range) => {
                    assert!(
                        !range.is_empty() && range.end == used,
                        "data ends where the step does"
                    );
                    data.extend_from_slice(&piece[range]);
                }
                Step::End => return Ok(Some((data, decoder.trailers().to_vec(), at))),
                Step::NeedMore => {
                    assert_eq!(at, end, "all of it was looked at");
                    break;
                }
            }
        }
    }
    Ok(None)
}

fn whole(input: &[u8]) -> Result<Body, ChunkError> {
    decode(input, &[])
}

/// The same by RFC 9112, section 7.1, line by line and with no care for speed or pieces. `Err`
/// says only that the input is wrong before its end.
fn naive(input: &[u8]) -> Result<Body, ()> {
    let (mut data, mut trailers, mut extensions, mut at) = (Vec::new(), Vec::new(), 0, 0);
    // A line without its CRLF; `None` when the input ends first.
    let line = |at: &mut usize| {
        let end = input[*at..].windows(2).position(|two| two == b"\r\n")?;
        let line = &input[*at..*at + end];
        *at += end + 2;
        Some(line)
    };
    loop {
        let Some(size_line) = line(&mut at) else { return Ok(None) };
        let digits = size_line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = size_line.split_at(digits);
        if digits == 0 || digits > 15 {
            return Err(());
        }
        extensions += extension.len();
        let spaces = extension.iter().take_while(|byte| b" \t".contains(byte)).count();
        let printable = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        if extensions > LIMITS.extension_bytes_max
            || !(extension.is_empty() || extension.get(spaces) == Some(&b';'))
            || !extension.iter().all(printable)
        {
            return Err(());
        }
        let size = std::str::from_utf8(size).expect("hexadecimal digits");
        let size = usize::from_str_radix(size, 16).expect("at most 60 bits");
        if size == 0 {
            break;
        }
        if input.len() < at + size + 2 {
            // What is there of the CRLF is looked at.
            let end = input.get(at + size..).unwrap_or_default();
            return if b"\r\n".starts_with(end) { Ok(None) } else { Err(()) };
        }
        data.extend_from_slice(&input[at..at + size]);
        if input[at + size..][..2] != *b"\r\n" {
            return Err(());
        }
        at += size + 2;
    }
    loop {
        let Some(field) = line(&mut at) else { return Ok(None) };
        if field.is_empty() {
            return Ok(Some((data, trailers, at)));
        }
        if field.contains(&b'\r') || field.contains(&b'\n') {
            return Err(());
        }
        trailers.extend_from_slice(field);
        trailers.extend_from_slice(b"\r\n");
        if trailers.len() > LIMITS.trailer_bytes_max {
            return Err(());
        }
    }
}

#[track_caller]
fn refused(input: &str, error: ChunkError) {
    assert_eq!(whole(input.as_bytes()), Err(error), "{input:?}");
}

#[track_caller]
fn carries(input: &str, data: &str, trailers: &str) {
    let body = Some((data.as_bytes().to_vec(), trailers.as_bytes().to_vec(), input.len()));
    assert_eq!(whole(input.as_bytes()), Ok(body), "{input:?}");
}

#[test]
fn data_and_ends() {
    carries("0\r\n\r\n", "", "");
    carries("5\r\nhello\r\n0\r\n\r\n", "hello", "");
    carries("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", "");
    carries("a\r\n0123456789\r\n0\r\n\r\n", "0123456789", "");
    carries("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", "");
    carries("00000000000000a\r\n0123456789\r\n000\r\n\r\n", "0123456789", "");
    carries("4\r\n0\r\n\r\r\n0\r\n\r\n", "0\r\n\r", "");
    carries("5;a=b\r\nhello\r\n0;c\r\n\r\n", "hello", "");
    carries("5 ; a = \"b;\"\r\nhello\r\n0\r\n\r\n", "hello", "");
    carries("5\t;\r\nhello\r\n0\r\n\r\n", "hello", "");
    carries("1;\u{e4}\r\nx\r\n0\r\n\r\n", "x", "");
    carries("0\r\nA: b\r\n\r\n", "", "A: b\r\n");
    carries("1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n", "x", "A: b\r\nC:\r\n");
    for unfinished in ["", "5", "5;", "5\r", "5\r\n", "5\r\nhel", "5\r\nhello", "5\r\nhello\r"] {
        assert_eq!(whole(unfinished.as_bytes()), Ok(None), "{unfinished:?}");
    }
    for unfinished in ["0", "0\r\n", "0\r\n\r", "0\r\nA", "0\r\nA: b\r\n", "0\r\nA: b\r\n\r"] {
        assert_eq!(whole(unfinished.as_bytes()), Ok(None), "{unfinished:?}");
    }
    let next = whole(b"1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n").expect("good").expect("whole");
    assert_eq!((next.0, next.2), (b"x".to_vec(), 11), "what follows is the next message's");
}

#[test]
fn what_readers_were_found_to_differ_on() {
    for size in [
        "",
        "x",
        "g",
        "-1",
        "+1",
        "0x1",
        "1g",
        "1_0",
        "١",
        " 1",
        "\t1",
        "\r\n1",
        ";",
        "\0",
        "1\0",
        "1\x0b",
        "0000000000000001",
        "fffffffffffffffff",
        "10000000000000000",
        "1,",
        "1.0",
        "\"1\"",
    ] {
        refused(&format!("{size}\r\nx\r\n0\r\n\r\n"), Size);
    }
    for line in
        ["1 ", "1\t", "1 x", "1 \t x", "1 1", "1 \0", "1;a\x01", "1;\x7f", "1;\0", "1;a\x0b"]
    {
        refused(&format!("{line}\r\nx\r\n0\r\n\r\n"), Extension);
    }
    for body in [
        "1\nx\r\n0\r\n\r\n",
        "1\r\rx\r\n0\r\n\r\n",
        "1\rx\r\n0\r\n\r\n",
        "1;a\nx\r\n0\r\n\r\n",
        "1 \nx\r\n0\r\n\r\n",
    ] {
        assert!(whole(body.as_bytes()).is_err(), "{body:?}");
    }
    for body in [
        "1\r\nx0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
        "2\r\nx\r\n0\r\n\r\n",
        "1\r\nx\n0\r\n\r\n",
        "1\r\nx\rz",
        "1\r\nx\r\r\n0\r\n\r\n",
        "0\r\n\n",
        "0\r\n\r\r",
        "0\r\n\rx",
        "0\rx",
        "0\r\nA: b\n\r\n",
        "0\r\nA: b\n\n",
        "0\r\nA: b\rc\r\n\r\n",
        "0\r\nA: b\r\r\n\r\n",
    ] {
        refused(body, Delimiter);
    }
    // A chunk that swallows what looks like its end is simply unfinished.
    assert_eq!(whole(b"f\r\nx\r\n0\r\n\r\n"), Ok(None));
    assert_eq!(whole(b"fffffffffffffff\r\nx\r\n0\r\n\r\n"), Ok(None));
}

#[test]
fn what_is_beside_the_data_is_bounded() {
    let bytes = |n: usize| "a".repeat(n);
    carries(&format!("1;{}\r\nx\r\n0\r\n\r\n", bytes(15)), "x", "");
    refused(&format!("1;{}\r\nx\r\n0\r\n\r\n", bytes(16)), Extension);
    refused(&format!("1;{0}\r\nx\r\n1;{0}\r\nx\r\n0\r\n\r\n", bytes(8)), Extension);
    refused(&format!("1{};\r\nx\r\n0\r\n\r\n", " ".repeat(16)), Extension);
    carries(&format!("0\r\nA:{}\r\n\r\n", bytes(60)), "", &format!("A:{}\r\n", bytes(60)));
    refused(&format!("0\r\nA:{}\r\n\r\n", bytes(61)), TrailersTooLarge);
    refused(&format!("0\r\n{}\r\n", "A:\r\n".repeat(17)), TrailersTooLarge);
    let flood = "0\r\nA: b".to_owned() + &bytes(1000);
    refused(&flood, TrailersTooLarge);
}

fn judged(section: &str) -> Result<String, ChunkError> {
    let mut out = Vec::new();
    trailer_fields(section.as_bytes(), &mut out)?;
    Ok(String::from_utf8(out).expect("text"))
}

#[test]
fn trailers() {
    for (section, passed_on) in [
        ("", ""),
        ("A: b\r\n", "A: b\r\n"),
        ("a:b\r\nC:  d \t\r\nE:\r\n", "a: b\r\nC: d\r\nE: \r\n"),
        ("X-Amz-Checksum-Crc32: sOO8/Q==\r\n", "X-Amz-Checksum-Crc32: sOO8/Q==\r\n"),
        ("ETag: \"a\"\r\nServer-Timing: a\r\n", "ETag: \"a\"\r\nServer-Timing: a\r\n"),
        (
            "Keep-Alive: 5\r\nConnection: a\r\nTE: b\r\nTrailer: c\r\nUpgrade: d\r\nA: b\r\n",
            "A: b\r\n",
        ),
    ] {
        assert_eq!(judged(section).as_deref(), Ok(passed_on), "{section:?}");
    }
    for name in [
        "Content-Length",
        "content-length",
        "Transfer-Encoding",
        "Host",
        "HOST",
        "Content_Length",
        "Transfer_Encoding",
        "Expect",
        "Destination",
        "Date",
        "Retry-After",
        "Ringway-Consistency",
        "Ringway_X",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X_Forwarded_For",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Cache-Control",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
        "Range",
        "Max-Forwards",
        "Proxy-Authorization",
        "Forwarded",
        "Via",
        "If",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
        "If-Range",
        "Location",
        "WWW-Authenticate",
        "Proxy-Authenticate",
        "Vary",
        "Age",
        "Expires",
        "Pragma",
        "Authentication-Info",
        "Overwrite",
        "Depth",
    ] {
        assert_eq!(judged(&format!("A: b\r\n{name}: 1\r\n")), Err(Trailer), "{name}");
    }
    for section in [
        "A\r\n",
        ": b\r\n",
        "A : b\r\n",
        " A: b\r\n",
        "A: b\r\n c\r\n",
        "A: b\0\r\n",
        "A: b\x0b\r\n",
        "A: b\x7f\r\n",
        "A b: c\r\n",
        "A\0: b\r\n",
        "\tb\r\n",
        "HTTP/1.1 200 OK\r\n",
    ] {
        assert_eq!(judged(section), Err(Trailer), "{section:?}");
    }
    assert!(judged(&"A: b\r\n".repeat(64)).is_ok());
    assert_eq!(judged(&"A: b\r\n".repeat(65)), Err(TrailersTooLarge));
}

#[test]
fn chunk_heads_are_read_as_they_were_written() {
    for length in [0, 1, 9, 10, 15, 16, 255, 65_536, usize::MAX >> 4] {
        let mut line = [0; CHUNK_HEAD_BYTES];
        assert_eq!(chunk_head(&mut line, length), format!("{length:x}\r\n").as_bytes());
    }
    let mut line = [0; CHUNK_HEAD_BYTES];
    assert_eq!(chunk_head(&mut line, usize::MAX).len(), CHUNK_HEAD_BYTES);
}

/// A body as clients write it, cut into chunks, with extensions and trailers.
fn good_body() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let chunk = (prop::collection::vec(any::<u8>(), 1..40), "|;|;a|;a=b| ;c", any::<bool>());
    let trailers = prop::collection::vec("[A-Za-z-]{1,5}: ?[ -~]{0,6}", 0..3);
    (prop::collection::vec(chunk, 0..6), trailers).prop_map(|(chunks, trailers)| {
        let (mut wire, mut data) = (Vec::new(), Vec::new());
        let mut extensions = 0;
        for (bytes, extension, zeros) in chunks {
            extensions += extension.len();
            let extension = if extensions > 16 { "" } else { extension.as_str() };
            let zeros = if zeros { "00" } else { "" };
            wire.extend_from_slice(format!("{zeros}{:x}{extension}\r\n", bytes.len()).as_bytes());
            wire.extend_from_slice(&bytes);
            wire.extend_from_slice(b"\r\n");
            data.extend_from_slice(&bytes);
        }
        wire.extend_from_slice(b"0\r\n");
        for trailer in trailers {
            wire.extend_from_slice(trailer.as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"\r\n");
        (wire, data)
    })
}

/// What an attacker might write: the alphabet of the grammar, at random.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    const PARTS: [&[u8]; 18] = [
        b"\r\n",
        b"\r",
        b"\n",
        b"0",
        b"1",
        b"2",
        b"a",
        b"x",
        b";",
        b" ",
        b"0\r\n",
        b"0\r\n\r\n",
        b"1\r\nx\r\n",
        b"3\r\nxyz\r\n",
        b"2;a=b\r\nxy\r\n",
        b"A: b\r\n",
        b"\0",
        b"\xff",
    ];
    let part = prop::sample::select(&PARTS[..]);
    prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nothing_is_lost_or_invented((wire, data) in good_body(), behind in any::<[u8; 3]>()) {
        let input = [&wire[..], &behind].concat();
        let (decoded, _, used) = whole(&input).expect("a good body").expect("a whole body");
        prop_assert_eq!((decoded, used), (data, wire.len()));
        for end in 0..wire.len() {
            prop_assert_eq!(whole(&wire[..end]), Ok(None), "no end before the end: {}", end);
        }
    }

    #[test]
    fn it_agrees_with_a_naive_reader(input in any_body()) {
        match (whole(&input), naive(&input)) {
            (Ok(ours), Ok(naive)) => prop_assert_eq!(ours, naive),
            (Err(_), Err(())) => {}
            // Wrong already, while the naive reader still waits for the end of the line.
            (Err(_), Ok(None)) => {}
            (ours, naive) => prop_assert!(false, "{:?} against {:?}", ours, naive),
        }
    }

    #[test]
    fn arriving_in_pieces_changes_nothing(input in any_body(), cuts in any::<[u8; 4]>()) {
        let at_once = whole(&input);
        for cut in 0..input.len() {
            prop_assert_eq!(&decode(&input, &[cut]), &at_once, "cut at {}", cut);
        }
        let each: Vec<usize> = (0..input.len()).collect();
        prop_assert_eq!(&decode(&input, &each), &at_once, "byte by byte");
        let mut cuts: Vec<usize> = cuts.iter().map(|&n| usize::from(n) % (input.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(&decode(&input, &cuts), &at_once);
    }

    #[test]
    fn a_good_body_in_pieces_stays_the_same((wire, data) in good_body()) {
        for cut in 0..wire.len() {
            let body = decode(&wire, &[cut]).expect("a good body").expect("a whole body");
            prop_assert_eq!(&body.0, &data);
        }
    }

    #[test]
    fn what_passes_the_judge_parses_to_the_same_fields(section in "([A-Za-z-]{1,4}:[ \t]?[ -~]{0,5}\r\n){0,4}") {
        if let Ok(once) = judged(&section) {
            prop_assert_eq!(judged(&once), Ok(once.clone()));
        }
    }
}
