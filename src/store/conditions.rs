//! May this request go on, given what the store holds? RFC 9110, section 13, as a pure function.
//!
//! The order of evaluation is that of section 13.2.2. Conditions are read once from the head and
//! evaluated against what is *then* held: for a write, that is inside the write transaction, so
//! that of any number of racing `If-None-Match: *` exactly one finds the key absent.
//!
//! Two departures, both to the strict side:
//! - A tag list that does not parse is an error (400). Taking it for "no match" would turn a
//!   client's typing error in `If-None-Match` into an overwrite.
//! - A date in `If-Range` never holds. A date is strong only if the value surely did not change
//!   twice within its second (section 8.8.2.2), which this store does not record; so the client
//!   is sent the whole value rather than, once in a while, a splice of two.

use std::time::UNIX_EPOCH;

use http::header::{
    HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE,
};

/// What the store holds under the key, as far as conditions look at it.
#[derive(Debug, Clone, Copy)]
pub struct Current<'a> {
    /// The entity tag without its quotation marks; always a strong one.
    pub tag: &'a [u8],
    /// `Last-Modified` in whole seconds since 1970.
    pub modified_s: u64,
}

/// How a request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As if it had no conditions.
    Proceed,
    /// 304: what the client has is what we have.
    NotModified,
    /// 412.
    Failed,
}

/// A conditional field that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be `*` or a list of entity tags in double quotation marks")]
pub struct ConditionError {
    /// The field's name.
    pub field: HeaderName,
}

/// The conditions of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
    if_modified_since_s: Option<u64>,
    if_unmodified_since_s: Option<u64>,
    if_range: Option<IfRange>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    Listed(Vec<Tag>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    weak: bool,
    opaque: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum IfRange {
    Strong(Vec<u8>),
    /// A weak tag, a date, or nothing that we understand.
    NeverHolds,
}

impl Conditions {
    /// Reads the conditional fields of a request's head.
    ///
    /// A date that does not parse is as good as absent (sections 13.1.3 and 13.1.4).
    ///
    /// # Errors
    /// [`ConditionError`] when a tag list does not parse.
    pub fn read(fields: &HeaderMap) -> Result<Self, ConditionError> {
        Ok(Self {
            if_match: read_tags(fields, IF_MATCH)?,
            if_none_match: read_tags(fields, IF_NONE_MATCH)?,
            if_modified_since_s: read_date(fields, &IF_MODIFIED_SINCE),
            if_unmodified_since_s: read_date(fields, &IF_UNMODIFIED_SINCE),
            if_range: fields.get(IF_RANGE).map(|value| match tag(value.as_bytes().trim_ascii()) {
                Some((Tag { weak: false, opaque }, [])) => IfRange::Strong(opaque),
                _ => IfRange::NeverHolds,
            }),
        })
    }

    /// For GET and HEAD. A key that is absent has `current` of `None`; it is 404 whatever the
    /// verdict, unless that is [`Verdict::Failed`].
    #[must_use]
    pub fn for_read(&self, current: Option<Current<'_>>) -> Verdict {
        if self.precludes(current) {
            return Verdict::Failed;
        }
        match (&self.if_none_match, self.if_modified_since_s, current) {
            (Some(tags), _, _) if tags.match_weakly(current) => Verdict::NotModified,
            (None, Some(since_s), Some(current)) if current.modified_s <= since_s => {
                Verdict::NotModified
            }
            _ => Verdict::Proceed,
        }
    }

    /// For PUT and DELETE; never [`Verdict::NotModified`].
    #[must_use]
    pub fn for_write(&self, current: Option<Current<'_>>) -> Verdict {
        let exists = self.if_none_match.as_ref().is_some_and(|tags| tags.match_weakly(current));
        if self.precludes(current) || exists { Verdict::Failed } else { Verdict::Proceed }
    }

    /// Whether a `Range` field beside these conditions counts. To be asked after
    /// [`Conditions::for_read`] said to proceed.
    #[must_use]
    pub fn range_counts(&self, current: Current<'_>) -> bool {
        match &self.if_range {
            None => true,
            Some(IfRange::Strong(opaque)) => opaque == current.tag,
            Some(IfRange::NeverHolds) => false,
        }
    }

    /// Steps 1 and 2 of section 13.2.2. `If-Unmodified-Since` does not apply to what has no
    /// modification date, an absent key among it.
    fn precludes(&self, current: Option<Current<'_>>) -> bool {
        match (&self.if_match, self.if_unmodified_since_s, current) {
            (Some(tags), _, _) => !tags.match_strongly(current),
            (None, Some(since_s), Some(current)) => current.modified_s > since_s,
            _ => false,
        }
    }
}

impl Tags {
    fn match_strongly(&self, current: Option<Current<'_>>) -> bool {
        self.any_matches(current, |listed| !listed.weak)
    }

    fn match_weakly(&self, current: Option<Current<'_>>) -> bool {
        self.any_matches(current, |_| true)
    }

    fn any_matches(&self, current: Option<Current<'_>>, counts: impl Fn(&Tag) -> bool) -> bool {
        let Some(current) = current else { return false };
        match self {
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|t| counts(t) && t.opaque == current.tag),
        }
    }
}

fn read_date(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = fields.get(name)?.to_str().ok()?;
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// All lines of a field are one list (section 5.3).
fn read_tags(fields: &HeaderMap, name: HeaderName) -> Result<Option<Tags>, ConditionError> {
    let mut lines = fields.get_all(&name).iter().map(http::HeaderValue::as_bytes).peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let joined = lines.collect::<Vec<_>>().join(&b","[..]);
    let tags = if joined.trim_ascii() == b"*" {
        Some(Tags::Any)
    } else {
        list(&joined).filter(|tags| !tags.is_empty()).map(Tags::Listed)
    };
    tags.map(Some).ok_or(ConditionError { field: name })
}

/// `#entity-tag`, empty elements skipped.
fn list(mut text: &[u8]) -> Option<Vec<Tag>> {
    let mut tags = Vec::new();
    loop {
        text = text.trim_ascii_start();
        if let Some(rest) = text.strip_prefix(b",") {
            text = rest;
            continue;
        }
        if text.is_empty() {
            return Some(tags);
        }
        let (one, rest) = tag(text)?;
        tags.push(one);
        text = rest.trim_ascii_start();
        if !text.is_empty() && !text.starts_with(b",") {
            return None;
        }
    }
}

/// `[ W/ ] DQUOTE *etagc DQUOTE`, and what follows it.
fn tag(text: &[u8]) -> Option<(Tag, &[u8])> {
    let (weak, quoted) = match text.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let inner = quoted.strip_prefix(b"\"")?;
    let end = inner.iter().position(|&b| b == b'"')?;
    let (opaque, rest) = inner.split_at(end);
    let plain = opaque.iter().all(|&b| b == 0x21 || (0x23..=0x7e).contains(&b) || b >= 0x80);
    plain.then(|| (Tag { weak, opaque: opaque.to_vec() }, &rest[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Failed, NotModified, Proceed};
    use http::HeaderValue;

    /// The value under test was last modified at this moment.
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";

    const CURRENT: Current<'static> = Current { tag: b"a", modified_s: 784_111_777 };

    fn conditions(fields: &[(&'static str, &str)]) -> Result<Conditions, ConditionError> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).expect("a field value"));
        }
        Conditions::read(&map)
    }

    /// Fields, then the verdicts for: read and write of the value, read and write of an absent
    /// key.
    type Case<'a> = (&'a [(&'static str, &'a str)], [Verdict; 4]);

    #[test]
    fn conditions_are_evaluated_in_the_order_of_the_rfc() {
        let cases: &[Case<'_>] = &[
            (&[], [Proceed; 4]),
            // Step 1: If-Match, strong comparison.
            (&[("if-match", "*")], [Proceed, Proceed, Failed, Failed]),
            (&[("if-match", "\"a\"")], [Proceed, Proceed, Failed, Failed]),
            (&[("if-match", "\"b\", \"a\"")], [Proceed, Proceed, Failed, Failed]),
            (&[("if-match", "\"b\""), ("if-match", "\"a\"")], [Proceed, Proceed, Failed, Failed]),
            (&[("if-match", "\"b\"")], [Failed; 4]),
            (&[("if-match", "W/\"a\"")], [Failed; 4]),
            // Step 2: If-Unmodified-Since, only without If-Match.
            (&[("if-unmodified-since", MODIFIED)], [Proceed; 4]),
            (&[("if-unmodified-since", AFTER)], [Proceed; 4]),
            (&[("if-unmodified-since", BEFORE)], [Failed, Failed, Proceed, Proceed]),
            (&[("if-unmodified-since", "yesterday")], [Proceed; 4]),
            (
                &[("if-match", "\"a\""), ("if-unmodified-since", BEFORE)],
                [Proceed, Proceed, Failed, Failed],
            ),
            // Step 3: If-None-Match, weak comparison.
            (&[("if-none-match", "*")], [NotModified, Failed, Proceed, Proceed]),
            (&[("if-none-match", "\"a\"")], [NotModified, Failed, Proceed, Proceed]),
            (&[("if-none-match", "W/\"a\"")], [NotModified, Failed, Proceed, Proceed]),
            (&[("if-none-match", "\"b\",, \"c\",")], [Proceed; 4]),
            (&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], [Failed; 4]),
            (
                &[("if-match", "\"a\""), ("if-none-match", "\"a\"")],
                [NotModified, Failed, Failed, Failed],
            ),
            // Step 4: If-Modified-Since, only for reads and only without If-None-Match.
            (&[("if-modified-since", MODIFIED)], [NotModified, Proceed, Proceed, Proceed]),
            (&[("if-modified-since", AFTER)], [NotModified, Proceed, Proceed, Proceed]),
            (&[("if-modified-since", BEFORE)], [Proceed; 4]),
            (&[("if-modified-since", "0")], [Proceed; 4]),
            (&[("if-none-match", "\"b\""), ("if-modified-since", AFTER)], [Proceed; 4]),
        ];
        for (fields, expected) in cases {
            let read = conditions(fields).expect("conditions that parse");
            let found = [
                read.for_read(Some(CURRENT)),
                read.for_write(Some(CURRENT)),
                read.for_read(None),
                read.for_write(None),
            ];
            assert_eq!(found, *expected, "{fields:?}");
        }
    }

    #[test]
    fn a_range_counts_only_beside_the_strong_tag_it_was_made_for() {
        for (field, counts) in [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            ("\"a\", \"b\"", false),
            (MODIFIED, false),
            ("a", false),
        ] {
            let read = conditions(&[("if-range", field)]).expect("If-Range is never an error");
            assert_eq!(read.range_counts(CURRENT), counts, "{field}");
        }
        assert!(conditions(&[]).expect("no fields").range_counts(CURRENT));
    }

    #[test]
    fn tag_lists_that_do_not_parse_are_errors() {
        for bad in ["", ",", "a", "\"a", "\"a\" \"b\"", "*, \"a\"", "w/\"a\"", "\"a b\"", "\"a\"x"]
        {
            for field in ["if-match", "if-none-match"] {
                let error = conditions(&[(field, bad)]).expect_err(bad);
                assert_eq!(error.field, field, "{bad:?}");
            }
        }
    }

    #[test]
    fn tags_may_have_commas_and_bytes_beyond_ascii() {
        let mut map = HeaderMap::new();
        let value = HeaderValue::from_bytes(b"\"a,b\", \"\xff\"").expect("a field value");
        map.append(IF_MATCH, value);
        let read = Conditions::read(&map).expect("two tags");
        for tag in [&b"a,b"[..], b"\xff"] {
            let verdict = read.for_write(Some(Current { tag, modified_s: 0 }));
            assert_eq!(verdict, Proceed, "{tag:?}");
        }
    }
}
