//! What is the one spelling of a key?
//!
//! Two spellings of one path must never reach two shards, and two paths must never share one key.
//! So a path is brought to one *canonical form* before anything looks at it, and the same bytes
//! are then matched, hashed, logged and forwarded:
//!
//! - an escape of an unreserved character is decoded (`%41` is `A`; RFC 3986, section 6.2.2.2);
//! - every other escape stays, in upper case (`%2f` is `%2F` and stays data, never a separator);
//! - a character that RFC 3986 does not allow in a path raw (`"`, `{`, `|`, bytes above 127 …) is
//!   escaped, as browsers and `curl` disagree about who does that;
//! - NUL in any spelling, an escape that is none (`%g1`, `%4`), a control character, and the
//!   segments `.` and `..` in any spelling are refused: what they mean depends on who reads them.
//!   That holds as well for servers that decode `%2F` and `%5C` *before* they resolve dot segments
//!   (nginx and most file servers), or cut parameters off (`..;x`, Java servers): a path that a
//!   route took to be under `/public/` would be another one for its shard.
//!
//! Empty segments stay: `a//b` and `a/b` are two keys, as they are for S3.
//!
//! The form is idempotent: canonicalising canonical bytes changes nothing.

use std::borrow::Cow;

/// Why bytes cannot be a key, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The path does not begin with `/`.
    #[error("the path must begin with `/`")]
    NotAbsolute,
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("the escape at byte {at} is not `%` and two hexadecimal digits")]
    BadEscape {
        /// Where the `%` stands, counted from 0.
        at: usize,
    },
    /// NUL, raw or as `%00`.
    #[error("NUL at byte {at} cannot be part of a key")]
    Nul {
        /// Where it stands, counted from 0.
        at: usize,
    },
    /// A raw space or control character, or `#`, which begins a fragment.
    #[error("the byte 0x{byte:02x} at {at} cannot stand in a request target: escape it")]
    BadByte {
        /// The byte that was found.
        byte: u8,
        /// Where it stands, counted from 0.
        at: usize,
    },
    /// A segment `.` or `..`, in any spelling.
    #[error("the path has a segment `.` or `..`: send the path that is meant")]
    DotSegment,
}

/// What one byte of a path becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Unreserved (RFC 3986, section 2.3): literal, and decoded when escaped.
    Unreserved,
    /// Literal stays literal, escaped stays escaped: the two may mean different things.
    Reserved,
    /// Escaped when it comes raw.
    Escape,
    /// Refused when it comes raw.
    Refuse,
}

const CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut table = [Class::Escape; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "the loop ends at 256")]
        let b = byte as u8;
        table[byte] = match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                Class::Unreserved
            }
            // sub-delims, and what else pchar and the path allow raw.
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':'
            | b'@' | b'/' => Class::Reserved,
            0..=0x20 | 0x7f | b'#' => Class::Refuse,
            _ => Class::Escape,
        };
        byte += 1;
    }
    table
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The canonical form of a path as it stands in a request target, without its query.
///
/// Borrows when `raw` is already canonical, which nearly every path is.
///
/// # Errors
/// [`KeyError`] for what has no one meaning; the request is answered 400.
pub fn canonical_path(raw: &[u8]) -> Result<Cow<'_, [u8]>, KeyError> {
    if raw.first() != Some(&b'/') {
        return Err(KeyError::NotAbsolute);
    }
    let form = canonical_component(raw)?;
    if has_dot_segment(&form) {
        return Err(KeyError::DotSegment);
    }
    Ok(form)
}

/// The canonical form of any part of a request target: a path, a segment, a query value.
///
/// Like [`canonical_path`], but knows nothing of segments. `?` is escaped when raw, so a query is
/// to be cut off before.
///
/// # Errors
/// [`KeyError::BadEscape`], [`KeyError::Nul`] or [`KeyError::BadByte`].
pub fn canonical_component(raw: &[u8]) -> Result<Cow<'_, [u8]>, KeyError> {
    let changes = |&b: &u8| !matches!(CLASSES[usize::from(b)], Class::Unreserved | Class::Reserved);
    match raw.iter().position(changes) {
        None => Ok(Cow::Borrowed(raw)),
        Some(first) => {
            let form = rewrite(raw, first)?;
            Ok(if form == raw { Cow::Borrowed(raw) } else { Cow::Owned(form) })
        }
    }
}

/// Rewrites from `first`, the first byte that may have to change.
fn rewrite(raw: &[u8], first: usize) -> Result<Vec<u8>, KeyError> {
    let mut form = Vec::with_capacity(raw.len() + 16);
    form.extend_from_slice(&raw[..first]);
    let mut at = first;
    while let Some(&byte) = raw.get(at) {
        if byte == b'%' {
            let digits = (raw.get(at + 1).copied(), raw.get(at + 2).copied());
            let (Some(high), Some(low)) =
                (digits.0.and_then(hex_value), digits.1.and_then(hex_value))
            else {
                return Err(KeyError::BadEscape { at });
            };
            let value = high << 4 | low;
            match (value, CLASSES[usize::from(value)]) {
                (0, _) => return Err(KeyError::Nul { at }),
                (_, Class::Unreserved) => form.push(value),
                _ => escape(value, &mut form),
            }
            at += 3;
            continue;
        }
        match CLASSES[usize::from(byte)] {
            Class::Unreserved | Class::Reserved => form.push(byte),
            Class::Escape => escape(byte, &mut form),
            Class::Refuse if byte == 0 => return Err(KeyError::Nul { at }),
            Class::Refuse => return Err(KeyError::BadByte { byte, at }),
        }
        at += 1;
    }
    Ok(form)
}

fn escape(byte: u8, form: &mut Vec<u8>) {
    form.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// Whether a canonical path has a segment `.` or `..`, be it only for a server that takes `%2F` or
/// `%5C` for a separator, or `;` for a segment's end. Escaped dots were decoded before.
fn has_dot_segment(path: &[u8]) -> bool {
    // Nearly no path has a dot behind a separator; a search that is prepared costs more than the path.
    path.iter().enumerate().any(|(at, &byte)| {
        if byte != b'.' {
            return false;
        }
        let before = &path[..at];
        let begins = [&b"/"[..], b"%2F", b"%5C"].iter().any(|end| before.ends_with(end));
        let behind = &path[at + 1..];
        let behind = behind.strip_prefix(b".").unwrap_or(behind);
        begins
            && matches!(
                behind,
                [] | [b'/' | b';', ..] | [b'%', b'2', b'F', ..] | [b'%', b'5', b'C', ..]
            )
    })
}

/// Checks a query, which is forwarded as it came: it selects nothing but what a route asks of it.
///
/// # Errors
/// [`KeyError::BadByte`] or [`KeyError::Nul`] for a byte that may not stand in a request target.
pub fn check_query(raw: &[u8]) -> Result<(), KeyError> {
    match raw.iter().position(|&b| CLASSES[usize::from(b)] == Class::Refuse) {
        None => Ok(()),
        Some(at) if raw[at] == 0 => Err(KeyError::Nul { at }),
        Some(at) => Err(KeyError::BadByte { byte: raw[at], at }),
    }
}

/// The pair of characters between which the hashed part of a key stands, as in Redis Cluster.
///
/// `/cart/{u42}/items` and `/profile/{u42}` then land on one shard. Only the first opening
/// character counts, with the first closing one after it; if nothing stands between them, or one
/// is missing, the whole key is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashTag {
    open: u8,
    close: u8,
}

/// Not two characters that can delimit a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash tag is two different printable ASCII characters other than `%` and `/`, as `{{}}`")]
pub struct HashTagError;

impl HashTag {
    /// Makes a tag of its two characters.
    ///
    /// # Errors
    /// [`HashTagError`] unless `text` is two different printable ASCII characters, neither `%`
    /// nor `/`.
    pub fn new(text: &str) -> Result<Self, HashTagError> {
        match *text.as_bytes() {
            [open, close]
                if open != close
                    && [open, close].iter().all(|b| b.is_ascii_graphic() && !b"%/".contains(b)) =>
            {
                Ok(Self { open, close })
            }
            _ => Err(HashTagError),
        }
    }

    /// The two characters.
    #[must_use]
    pub fn delimiters(self) -> (char, char) {
        (char::from(self.open), char::from(self.close))
    }

    /// The part of a canonical key that is hashed. A delimiter counts literal and escaped, since
    /// the canonical form escapes braces.
    #[must_use]
    pub fn hashed_part(self, key: &[u8]) -> &[u8] {
        let Some((_, begin)) = find_delimiter(key, self.open, 0) else { return key };
        match find_delimiter(key, self.close, begin) {
            Some((end, _)) if end > begin => &key[begin..end],
            _ => key,
        }
    }
}

/// Where `delimiter` stands at or after `from`: its first byte, and the first byte after it.
fn find_delimiter(key: &[u8], delimiter: u8, from: usize) -> Option<(usize, usize)> {
    let escaped = [b'%', HEX[usize::from(delimiter >> 4)], HEX[usize::from(delimiter & 15)]];
    (from..key.len()).find_map(|at| match key[at..] {
        [byte, ..] if byte == delimiter => Some((at, at + 1)),
        [a, b, c, ..] if [a, b, c] == escaped => Some((at, at + 3)),
        _ => None,
    })
}

#[cfg(test)]
pub(crate) mod mutants;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert, prop_assert_eq, prop_assume, proptest};

    fn canonical(raw: &str) -> Result<String, KeyError> {
        canonical_path(raw.as_bytes())
            .map(|form| String::from_utf8(form.into_owned()).expect("canonical forms are ASCII"))
    }

    #[test]
    fn spellings_of_one_path_have_one_form() {
        for (raw, form) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/%61/%62", "/a/b"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb", "/a%2Fb"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/café", "/caf%C3%A9"),
            ("/{u1}", "/%7Bu1%7D"),
            ("/%7bu1%7D", "/%7Bu1%7D"),
            ("/a//b/", "/a//b/"),
            ("/a%20b", "/a%20b"),
            ("/a+b", "/a+b"),
            ("/a%2Bb", "/a%2Bb"),
            ("/%7Euser", "/~user"),
            ("/.hidden/..data/a..b/...", "/.hidden/..data/a..b/..."),
            ("/a%3Fb", "/a%3Fb"),
            ("/a..%2Fb%2F.c/..d%5C..e/..%3B/...%2F", "/a..%2Fb%2F.c/..d%5C..e/..%3B/...%2F"),
            ("/a;../b;.", "/a;../b;."),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(form), "{raw}");
        }
    }

    #[test]
    fn what_has_no_one_meaning_is_refused() {
        use KeyError::{BadByte, BadEscape, DotSegment, NotAbsolute, Nul};
        for (raw, error) in [
            ("", NotAbsolute),
            ("a", NotAbsolute),
            ("*", NotAbsolute),
            ("/%", BadEscape { at: 1 }),
            ("/%4", BadEscape { at: 1 }),
            ("/%4g", BadEscape { at: 1 }),
            ("/%%41", BadEscape { at: 1 }),
            ("/a%00", Nul { at: 2 }),
            ("/a\0", Nul { at: 2 }),
            ("/a b", BadByte { byte: b' ', at: 2 }),
            ("/a#b", BadByte { byte: b'#', at: 2 }),
            ("/a\x7f", BadByte { byte: 0x7f, at: 2 }),
            ("/.", DotSegment),
            ("/..", DotSegment),
            ("/a/../b", DotSegment),
            ("/a/%2e%2E/b", DotSegment),
            ("/a/.%2e", DotSegment),
            ("/a/./b", DotSegment),
            ("/a/..%2fb", DotSegment),
            ("/a%2f..", DotSegment),
            ("/a%2F%2e%2fb", DotSegment),
            ("/a\\..\\b", DotSegment),
            ("/a%5c.", DotSegment),
            ("/a/..;/b", DotSegment),
            ("/a/.;x=y", DotSegment),
        ] {
            assert_eq!(canonical(raw), Err(error), "{raw:?}");
        }
    }

    #[test]
    fn hash_tags_follow_redis() {
        let tag = HashTag::new("{}").expect("two braces");
        for (key, part) in [
            ("/cart/%7Bu42%7D/items", "u42"),
            ("{u42}.x", "u42"),
            ("/a", "/a"),
            ("/%7B%7D/a", "/%7B%7D/a"),
            ("/%7Bab", "/%7Bab"),
            ("/%7D%7Bab%7D", "ab"),
            ("/%7B%7Ba%7D", "%7Ba"),
            ("/%7Ba%7D%7Bb%7D", "a"),
        ] {
            assert_eq!(tag.hashed_part(key.as_bytes()), part.as_bytes(), "{key}");
        }
        for bad in ["", "{", "{{", "{}}", "%}", "/}", "ä", " }"] {
            assert_eq!(HashTag::new(bad), Err(HashTagError), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_idempotent_and_safe(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
            let raw = [b"/", raw.as_slice()].concat();
            if let Ok(form) = canonical_path(&raw) {
                prop_assert_eq!(canonical_path(&form), Ok(Cow::Borrowed(form.as_ref())));
                prop_assert!(form.iter().all(|b| b.is_ascii_graphic() && *b != b'#' && *b != b'?'));
            }
        }

        #[test]
        fn escaping_a_byte_never_changes_an_unreserved_path(
            path in "(/[a-zA-Z0-9_~-]{1,6}){1,4}", at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(path.len());
            prop_assume!(path.as_bytes()[at] != b'/');
            let spelled = format!("{}%{:02x}{}", &path[..at], path.as_bytes()[at], &path[at + 1..]);
            prop_assert_eq!(canonical(&spelled), Ok(path));
        }
    }

    /// What a server that decodes a path sees of it; the RFC's way, with no care for reserved ones.
    fn decoded(path: &[u8]) -> Vec<u8> {
        let (mut bytes, mut at) = (Vec::new(), 0);
        while at < path.len() {
            let escape = (path[at] == b'%').then(|| {
                let digits = path.get(at + 1..at + 3)?;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
            });
            match escape.flatten() {
                Some(byte) => bytes.push(byte),
                None => bytes.push(path[at]),
            }
            at += if escape.flatten().is_some() { 3 } else { 1 };
        }
        bytes
    }

    /// A key is what it was in another spelling, and leads out of no prefix, whoever decodes it.
    #[test]
    fn fuzz_canonical_paths() {
        const PATHS: [&[u8]; 6] =
            [b"/", b"/a/b", b"/a%2Fb", b"/%61/caf%c3%a9", b"/a;b=c/d.e", b"/public/x"];
        const WORDS: [&[u8]; 20] = [
            b"/",
            b".",
            b"..",
            b"%2e",
            b"%2E.",
            b"%2f",
            b"%2F..%2f",
            b"%5c",
            b"\\",
            b";",
            b"%00",
            b"%",
            b"%4",
            b"%41",
            b"?",
            b"#",
            b"\xe9",
            b" ",
            b"%7e",
            b"{}",
        ];
        bolero::check!()
            .with_iterations(5 * mutants::ORDINARY_RUN)
            .with_type::<mutants::Recipe>()
            .for_each(|recipe| {
                let raw = mutants::mutant(&PATHS, &WORDS, recipe);
                let Ok(form) = canonical_path(&raw) else { return };
                assert_eq!(canonical_path(&form).as_deref(), Ok(&*form), "{form:?}");
                assert_eq!(decoded(&form), decoded(&raw), "the same to who decodes it");
                assert!(form.iter().all(|b| b.is_ascii_graphic() && !b"#?\\".contains(b)));
                assert!(!decoded(&form).contains(&0));
                let separators = |byte: &u8| *byte == b'/' || *byte == b'\\';
                for segment in decoded(&form).split(separators) {
                    let name = segment.split(|&byte| byte == b';').next().unwrap_or(b"");
                    assert!(!matches!(name, b"." | b".."), "{raw:?} leads out of its folder");
                }
            });
    }
}
