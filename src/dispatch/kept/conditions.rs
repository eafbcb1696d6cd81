//! May the client use the copy that it has? The conditions of RFC 9110, section 13.
//!
//! Conditions of reads, looked at against what a version round found. Writes of replicated pools have
//! none: to compare and then set needs agreement, which is what register pools are for.

use std::time::UNIX_EPOCH;

use crate::version::Version;

/// What a read is conditional on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
    if_modified_since_s: Option<u64>,
    if_unmodified_since_s: Option<u64>,
}

/// A list of entity tags.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    /// As they stood between their quotes, and whether each was weak.
    These(Vec<(bool, Box<[u8]>)>),
}

/// What a read's conditions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The value is to be sent.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412.
    Failed,
}

impl Conditions {
    /// Takes a field in; says whether it was one. Dates that are none are ignored, as the standard
    /// wants it.
    pub fn take(&mut self, name: &[u8], value: &[u8]) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("if-match") {
            Tags::add(&mut self.if_match, value);
        } else if is("if-none-match") {
            Tags::add(&mut self.if_none_match, value);
        } else if is("if-modified-since") {
            self.if_modified_since_s = seconds(value);
        } else if is("if-unmodified-since") {
            self.if_unmodified_since_s = seconds(value);
        } else {
            return false;
        }
        true
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Looks at them in the order of RFC 9110, section 13.2.2. `modified_ms` is when the value was
    /// written.
    #[must_use]
    pub fn judge(&self, version: Version, modified_ms: u64) -> Verdict {
        let tag = version.to_string();
        let modified_s = modified_ms / 1000;
        match (&self.if_match, self.if_unmodified_since_s) {
            (Some(tags), _) if !tags.have(tag.as_bytes(), true) => return Verdict::Failed,
            (None, Some(since)) if modified_s > since => return Verdict::Failed,
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since_s) {
            (Some(tags), _) if tags.have(tag.as_bytes(), false) => Verdict::NotModified,
            (None, Some(since)) if modified_s <= since => Verdict::NotModified,
            _ => Verdict::Proceed,
        }
    }

    /// What they come to where there is no value.
    #[must_use]
    pub fn judge_nothing(&self) -> Verdict {
        if self.if_match.is_some() { Verdict::Failed } else { Verdict::Proceed }
    }
}

impl Tags {
    /// Several lines are one list (section 5.3).
    fn add(tags: &mut Option<Self>, value: &[u8]) {
        let more = Self::read(value);
        *tags = Some(match (tags.take(), more) {
            (Some(Self::Any), _) | (_, Self::Any) => Self::Any,
            (None, more) => more,
            (Some(Self::These(mut these)), Self::These(more)) => {
                these.extend(more);
                Self::These(these)
            }
        });
    }

    fn read(value: &[u8]) -> Self {
        if value == b"*" {
            return Self::Any;
        }
        let mut these = Vec::new();
        let mut rest = value;
        while let Some(quote) = memchr::memchr(b'"', rest) {
            let is_weak = rest[..quote].ends_with(b"W/");
            let Some(end) = memchr::memchr(b'"', &rest[quote + 1..]) else { break };
            these.push((is_weak, rest[quote + 1..quote + 1 + end].into()));
            rest = &rest[quote + end + 2..];
        }
        Self::These(these)
    }

    /// Whether the tag, which is strong, is among them.
    fn have(&self, tag: &[u8], strongly: bool) -> bool {
        match self {
            Self::Any => true,
            Self::These(these) => {
                these.iter().any(|(is_weak, this)| **this == *tag && !(strongly && *is_weak))
            }
        }
    }
}

/// A date as seconds since 1970.
pub(super) fn seconds(value: &[u8]) -> Option<u64> {
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Stamp;

    #[test]
    fn conditions_are_looked_at_in_their_order() {
        let version = Version { stamp: Stamp::of_ms(1_763_762_400_125), ..Version::NONE };
        let tag = format!("\"{version}\"");
        let (weak, both) = (format!("W/{tag}"), format!("\"a,b\" , {tag}"));
        let (at, before) = ("Fri, 21 Nov 2025 22:00:00 GMT", "Fri, 21 Nov 2025 21:59:59 GMT");
        for (fields, expected) in [
            (&[][..], Verdict::Proceed),
            (&[("If-None-Match", tag.as_str())], Verdict::NotModified),
            (&[("If-None-Match", weak.as_str())], Verdict::NotModified),
            (&[("if-none-match", "\"x\""), ("If-None-Match", both.as_str())], Verdict::NotModified),
            (&[("If-None-Match", "*")], Verdict::NotModified),
            (&[("If-None-Match", "\"x\", \"")], Verdict::Proceed),
            (&[("If-Match", weak.as_str())], Verdict::Failed),
            (&[("If-Match", both.as_str())], Verdict::Proceed),
            (&[("If-Match", "*"), ("If-None-Match", "*")], Verdict::NotModified),
            (&[("If-Modified-Since", at)], Verdict::NotModified),
            (&[("If-Modified-Since", before)], Verdict::Proceed),
            (&[("If-Modified-Since", at), ("If-None-Match", "\"x\"")], Verdict::Proceed),
            (&[("If-Modified-Since", "soon")], Verdict::Proceed),
            (&[("If-Unmodified-Since", before)], Verdict::Failed),
            (&[("If-Unmodified-Since", at)], Verdict::Proceed),
            (&[("If-Unmodified-Since", before), ("If-Match", tag.as_str())], Verdict::Proceed),
        ] {
            let mut conditions = Conditions::default();
            for (name, value) in fields {
                assert!(conditions.take(name.as_bytes(), value.as_bytes()));
            }
            assert_eq!(conditions.is_empty(), fields.is_empty() || fields[0].1 == "soon");
            assert_eq!(conditions.judge(version, 1_763_762_400_125), expected, "{fields:?}");
        }
        assert!(!Conditions::default().take(b"If-Range", b"*"));
    }
}
