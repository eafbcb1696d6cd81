//! Which part of a value is wanted? Ranges as RFC 9110, section 14 has them.

use super::conditions::seconds;
use crate::drivers::native::Value;

/// One range of bytes, as a client asks for it. Of several, the whole value is sent, which is always
/// allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// From the first byte to the last, both included.
    From(u64, u64),
    /// So many at the end.
    Last(u64),
}

/// What of a value is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selected {
    Whole,
    /// From the first byte on, so many.
    Part {
        first: u64,
        length: u64,
    },
    Outside,
}

impl Wanted {
    /// Reads `Range`; `None` where it is to be ignored.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Self> {
        let (unit, range) = std::str::from_utf8(value).ok()?.split_once('=')?;
        let (first, last) = range.trim().split_once('-')?;
        let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            // A position beyond all numbers lies behind every end.
            true => Some(digits.parse().unwrap_or(u64::MAX)),
            false => None,
        };
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        match (first, last) {
            ("", "") => None,
            ("", last) => number(last).map(Self::Last),
            (first, "") => Some(Self::From(number(first)?, u64::MAX)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, last))
            }
        }
    }

    /// What that is of a value of this size.
    pub(super) fn of(self, size: u64) -> Selected {
        let (first, end) = match self {
            Self::From(first, last) => (first, last.saturating_add(1).min(size)),
            Self::Last(length) => (size.saturating_sub(length), size),
        };
        match end.checked_sub(first) {
            None | Some(0) => Selected::Outside,
            Some(length) => Selected::Part { first, length },
        }
    }
}

/// Whether `If-Range` allows a part (section 13.1.5): a strong tag of this very version, or the date
/// of its last change.
pub(super) fn range_counts(if_range: Option<&[u8]>, value: &Value) -> bool {
    let Some(if_range) = if_range else { return true };
    match if_range.first() {
        Some(b'"') => if_range == format!("\"{}\"", value.version).as_bytes(),
        _ => seconds(if_range) == Some(value.modified_ms / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood_and_all_else_is_the_whole() {
        let part = |first, length| Selected::Part { first, length };
        for (value, size, expected) in [
            ("bytes=0-0", 10, Some(part(0, 1))),
            ("bytes=2-", 10, Some(part(2, 8))),
            ("Bytes= 2-99", 10, Some(part(2, 8))),
            ("bytes=-3", 10, Some(part(7, 3))),
            ("bytes=-30", 10, Some(part(0, 10))),
            ("bytes=-0", 10, Some(Selected::Outside)),
            ("bytes=10-", 10, Some(Selected::Outside)),
            ("bytes=0-", 0, Some(Selected::Outside)),
            ("bytes=0-99999999999999999999999", 10, Some(part(0, 10))),
            ("bytes=3-2", 10, None),
            ("bytes=0-1,3-4", 10, None),
            ("bytes=-", 10, None),
            ("bytes=a-b", 10, None),
            ("lines=1-2", 10, None),
            ("bytes", 10, None),
        ] {
            let selected = Wanted::read(value.as_bytes()).map(|wanted| wanted.of(size));
            assert_eq!(selected, expected, "{value} of {size}");
        }
    }
}
