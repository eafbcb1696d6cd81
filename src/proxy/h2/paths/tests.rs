//! A `#` is found wherever and however it is written, and nowhere else.

use super::*;

/// Huffman's code of the printable characters from the blank on: the code, and its bits.
const CODES_OF_TEXT: [(u64, u32); 95] = [
    (0x14, 6),
    (0x3f8, 10),
    (0x3f9, 10),
    (0xffa, 12),
    (0x1ff9, 13),
    (0x15, 6),
    (0xf8, 8),
    (0x7fa, 11),
    (0x3fa, 10),
    (0x3fb, 10),
    (0xf9, 8),
    (0x7fb, 11),
    (0xfa, 8),
    (0x16, 6),
    (0x17, 6),
    (0x18, 6),
    (0x0, 5),
    (0x1, 5),
    (0x2, 5),
    (0x19, 6),
    (0x1a, 6),
    (0x1b, 6),
    (0x1c, 6),
    (0x1d, 6),
    (0x1e, 6),
    (0x1f, 6),
    (0x5c, 7),
    (0xfb, 8),
    (0x7ffc, 15),
    (0x20, 6),
    (0xffb, 12),
    (0x3fc, 10),
    (0x1ffa, 13),
    (0x21, 6),
    (0x5d, 7),
    (0x5e, 7),
    (0x5f, 7),
    (0x60, 7),
    (0x61, 7),
    (0x62, 7),
    (0x63, 7),
    (0x64, 7),
    (0x65, 7),
    (0x66, 7),
    (0x67, 7),
    (0x68, 7),
    (0x69, 7),
    (0x6a, 7),
    (0x6b, 7),
    (0x6c, 7),
    (0x6d, 7),
    (0x6e, 7),
    (0x6f, 7),
    (0x70, 7),
    (0x71, 7),
    (0x72, 7),
    (0xfc, 8),
    (0x73, 7),
    (0xfd, 8),
    (0x1ffb, 13),
    (0x7fff0, 19),
    (0x1ffc, 13),
    (0x3ffc, 14),
    (0x22, 6),
    (0x7ffd, 15),
    (0x3, 5),
    (0x23, 6),
    (0x4, 5),
    (0x24, 6),
    (0x5, 5),
    (0x25, 6),
    (0x26, 6),
    (0x27, 6),
    (0x6, 5),
    (0x74, 7),
    (0x75, 7),
    (0x28, 6),
    (0x29, 6),
    (0x2a, 6),
    (0x7, 5),
    (0x2b, 6),
    (0x76, 7),
    (0x2c, 6),
    (0x8, 5),
    (0x9, 5),
    (0x2d, 6),
    (0x77, 7),
    (0x78, 7),
    (0x79, 7),
    (0x7a, 7),
    (0x7b, 7),
    (0x7ffe, 15),
    (0x7fc, 11),
    (0x3ffd, 14),
    (0x1ffd, 13),
];

const END_HEADERS: u8 = 4;

fn coded(text: &str) -> Vec<u8> {
    let mut bits = String::new();
    for byte in text.bytes() {
        let (code, length) = CODES_OF_TEXT[usize::from(byte - b' ')];
        bits.push_str(&format!("{code:0width$b}", width = length as usize));
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let byte = |at: usize| u8::from_str_radix(&bits[at..at + 8], 2).expect("eight bits");
    (0..bits.len()).step_by(8).map(byte).collect()
}

/// A number behind the first bits of a byte (RFC 7541, section 5.1).
fn number(out: &mut Vec<u8>, first: u8, bits: u32, mut value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        return out.push(first | u8::try_from(value).expect("it fits"));
    }
    out.push(first | u8::try_from(most).expect("it fits"));
    value -= most;
    while value >= 128 {
        out.push(u8::try_from(value % 128).expect("seven bits") | 128);
        value /= 128;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

fn text(out: &mut Vec<u8>, text: &str, is_coded: bool) {
    let bytes = if is_coded { coded(text) } else { text.as_bytes().to_vec() };
    number(out, u8::from(is_coded) << 7, 7, bytes.len());
    out.extend(bytes);
}

/// A field with its name in the table or written out: with incremental indexing, without, never.
fn field(kind: u8, name: Result<usize, (&str, bool)>, value: (&str, bool)) -> Vec<u8> {
    let mut out = Vec::new();
    let bits = if kind == 0x40 { 6 } else { 4 };
    number(&mut out, kind, bits, name.unwrap_or(0));
    if let Err((name, is_coded)) = name {
        text(&mut out, name, is_coded);
    }
    text(&mut out, value.0, value.1);
    out
}

const KINDS: [u8; 3] = [0x40, 0, 0x10];

/// Whether the section has a path with a `#`: in one frame, in pieces of every size, in two frames
/// wherever it is cut, and with padding and priority.
fn found(paths: &mut Paths, section: &[u8]) -> bool {
    let mut before = paths.clone();
    let one = |paths: &mut Paths, stream: u32, cut: Option<usize>, piece: usize| {
        let (first, second) = section.split_at(cut.unwrap_or(section.len()));
        let dressed = [&[3, 0, 0, 0, 1, 9], first, &[b'#'; 3]].concat();
        let flags = PADDED | PRIORITY | if cut.is_none() { END_HEADERS } else { 0 };
        paths.begin(HEADERS, flags, stream, dressed.len());
        dressed.chunks(piece).for_each(|bytes| paths.see(bytes));
        if cut.is_some() {
            paths.begin(CONTINUATION, END_HEADERS, stream, second.len());
            second.chunks(piece).for_each(|bytes| paths.see(bytes));
        }
        paths.end();
        paths.take(stream)
    };
    let found = one(paths, 7, None, usize::MAX);
    for cut in 0..section.len() {
        for piece in [1, 2, 3, 7, usize::MAX] {
            let mut again = before.clone();
            assert_eq!(one(&mut again, 9, Some(cut), piece), found, "{section:x?} {cut} {piece}");
            assert_eq!(again.entries, paths.entries);
        }
    }
    before.begin(HEADERS, END_HEADERS, 1, section.len());
    before.see(section);
    before.end();
    assert_eq!(before.take(1), found);
    found
}

#[test]
fn a_hash_is_found_however_it_is_written() {
    let names = [Ok(4), Ok(5), Err((":path", false)), Err((":path", true))];
    for kind in KINDS {
        for name in names {
            for is_coded in [false, true] {
                let of = |value| field(kind, name, (value, is_coded));
                let around = field(0x40, Err(("x-y", is_coded)), ("#1", is_coded));
                let mut paths = Paths::new();
                let section = [&around[..], &of("/doc#2"), &around].concat();
                assert!(found(&mut paths, &section), "{kind} {name:?} {is_coded}");
                let section = [&around[..], &of("/doc2"), &around].concat();
                assert!(!found(&mut paths, &section), "{kind} {name:?} {is_coded}");
                // Another stream's mark is none of this one's.
                assert!(!paths.take(11));
            }
        }
    }
    // Other names, as long as this one, and beginning like it.
    for name in ["xpath", ":patx", ":pat", ":path2", ""] {
        for is_coded in [false, true] {
            let section = field(0x40, Err((name, is_coded)), ("/doc#2", is_coded));
            assert!(!found(&mut Paths::new(), &section), "{name}");
        }
    }
}

#[test]
fn a_name_out_of_the_dynamic_table_is_known() {
    let mut paths = Paths::new();
    let other = field(0x40, Err(("other", false)), ("1", false));
    for later in 0..128 {
        let mut paths = paths.clone();
        found(&mut paths, &field(0x40, Ok(4), ("/", false)));
        for _ in 0..later {
            paths.begin(HEADERS, END_HEADERS, 1, other.len());
            paths.see(&other);
        }
        let of = |index: usize, value| field(0, Ok(index), (value, true));
        assert!(found(&mut paths, &of(62 + later, "/a#b")), "{later}");
        assert!(!found(&mut paths, &of(62 + later, "/a?b")), "{later}");
        for index in [62 + later + 1, 62 + later + 127, 62 + 128, 100_000, 61, 6, 3, 1] {
            assert!(!found(&mut paths, &of(index, "/a#b")), "{later} {index}");
        }
    }
    // A field that is in a table wholly, and a new size of the table.
    let mut section = vec![0x80 | 4, 0x80 | 62];
    number(&mut section, 0x20, 5, 4096);
    section.extend(field(0, Ok(4), ("#", false)));
    assert!(found(&mut paths, &section));
}

#[test]
fn any_text_in_huffmans_code_is_read_as_it_was_written() {
    let printable: String = (b' '..=b'~').map(char::from).collect();
    for before in 0..printable.len() {
        for length in 0..8 {
            let end = (before + length).min(printable.len());
            for value in
                [printable[before..end].to_owned(), printable[before..end].replace('#', "")]
            {
                for value in [format!("/{value}"), format!("/{value}#{value}")] {
                    let section = field(0, Ok(4), (&value, true));
                    let mut paths = Paths::new();
                    paths.begin(HEADERS, END_HEADERS, 1, section.len());
                    paths.see(&section);
                    paths.end();
                    assert_eq!(paths.take(1), value.contains('#'), "{value}");
                }
            }
        }
    }
    // The table has a code for each of 256 bytes and the end, and no bits are left that are none.
    let mut codes = 0;
    let mut first = 0;
    let mut before = 0;
    for (length, end) in CODES {
        first <<= length - before;
        (codes, first, before) = (codes + (end - first), end, length);
    }
    assert_eq!((codes, first), (257, 1 << 30));
}

/// What is malformed ends the connection elsewhere. Here it is passed over.
#[test]
fn any_bytes_are_walked_through() {
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..2000 {
        let mut paths = Paths::new();
        for stream in 0..5 {
            let bytes: Vec<u8> = (0..next() % 60).map(|_| next().to_le_bytes()[0]).collect();
            let kind = if next() % 3 == 0 { CONTINUATION } else { HEADERS };
            paths.begin(kind, next().to_le_bytes()[0], stream, bytes.len());
            paths.see(&bytes);
            paths.end();
        }
        paths.take(5);
    }
    let mut paths = Paths::new();
    paths.begin(HEADERS, END_HEADERS, 1, 100);
    paths.see(&[0xff; 100]);
    paths.begin(HEADERS, END_HEADERS, 1, 100);
    paths.see(&[&[4, 0x7f][..], &[0xff; 98]].concat());
}
