//! Which bytes of a value does a `Range` field ask for? RFC 9110, section 14.
//!
//! One range is served as 206. Several are answered with the whole value, which section 14.2
//! allows: `multipart/byteranges` is asked for by next to nobody and is a known way to make a
//! server do much work for a small request. A field that does not parse is ignored for the same
//! section's sake.

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// The whole value, as if there were no `Range`.
    Whole,
    /// `length` bytes from offset `first` on; never empty, always within the value.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Number of bytes, at least one.
        length: u64,
    },
    /// Nothing of what was asked for exists: 416.
    Unsatisfiable,
}

/// What the value `field` of `Range` selects from a value of `size` bytes.
#[must_use]
pub fn select(field: &[u8], size: u64) -> Selection {
    let Some(spec) = parse(field) else { return Selection::Whole };
    match spec {
        // "The last 5" of an empty value has no bytes that a Content-Range could name.
        Spec::Last(_) if size == 0 => Selection::Whole,
        Spec::Last(0) => Selection::Unsatisfiable,
        Spec::Last(count) => {
            let length = count.min(size);
            Selection::Part { first: size - length, length }
        }
        Spec::From { first, .. } if first >= size => Selection::Unsatisfiable,
        Spec::From { first, last } => {
            let end = last.map_or(size, |last| size.min(last.saturating_add(1)));
            Selection::Part { first, length: end - first }
        }
    }
}

enum Spec {
    /// `first-` or `first-last`.
    From { first: u64, last: Option<u64> },
    /// `-count`.
    Last(u64),
}

/// `None` for another unit, several ranges, or what the grammar does not have.
fn parse(field: &[u8]) -> Option<Spec> {
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\t']);
    let (unit, set) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim_matches([' ', '\t']).split_once('-')?;
    match (first, last) {
        ("", count) => Some(Spec::Last(number(count)?)),
        (first, "") => Some(Spec::From { first: number(first)?, last: None }),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From { first, last: Some(last) })
        }
    }
}

/// Digits only; a number past 2^64 is past the end of every value, and so is `u64::MAX`.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Selection::{Unsatisfiable, Whole};

    fn part(first: u64, length: u64) -> Selection {
        Selection::Part { first, length }
    }

    #[test]
    fn one_range_selects_what_the_rfc_says() {
        for (field, size, expected) in [
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=0-9", 10, part(0, 10)),
            ("bytes=0-99", 10, part(0, 10)),
            ("bytes=3-", 10, part(3, 7)),
            ("bytes=9-", 10, part(9, 1)),
            ("bytes=-1", 10, part(9, 1)),
            ("bytes=-10", 10, part(0, 10)),
            ("bytes=-11", 10, part(0, 10)),
            ("Bytes=2-3", 10, part(2, 2)),
            (" bytes= 2-3 ", 10, part(2, 2)),
            ("bytes=0-18446744073709551615", 10, part(0, 10)),
            ("bytes=0-99999999999999999999999", 10, part(0, 10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-11", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
        ] {
            assert_eq!(select(field.as_bytes(), size), expected, "{field} of {size}");
        }
    }

    #[test]
    fn whatever_else_is_asked_the_whole_is_sent() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=1-2,4-5",
            "bytes=-1,-2",
            "lines=0-1",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=1-2-3",
            "bytes 0-1",
            "bytes=0x1-2",
            "\u{e9}=0-1",
        ] {
            assert_eq!(select(field.as_bytes(), 10), Whole, "{field:?}");
        }
        assert_eq!(select(b"bytes=\xff-", 10), Whole);
    }
}
