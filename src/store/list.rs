//! What does `/_ringway/list` ask for, and how is a page of it written?
//!
//! Keys come in byte order, a page at a time. A page says where the next begins; between two
//! pages the store may change, and no snapshot spans them: a key that exists all the while is
//! listed exactly once, others perhaps.

use serde::Serialize;

use crate::store::record::Record;

/// The most, and the usual, number of keys on a page.
pub const LIMIT_MAX: usize = 1000;

/// One request for a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Only keys that begin with this; empty for all.
    pub prefix: Vec<u8>,
    /// Only keys after this one; `None` from the start.
    pub after: Option<Vec<u8>>,
    /// The most keys on the page, 1 to [`LIMIT_MAX`].
    pub limit: usize,
}

/// Why a query string was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A parameter of another name.
    #[error("`{0}` is not a parameter of a listing: use prefix, cursor and limit")]
    Unknown(String),
    /// A parameter given twice.
    #[error("`{0}` is given twice: give it once")]
    Twice(&'static str),
    /// A `%` without two hexadecimal digits.
    #[error("`{0}` has a `%` that two hexadecimal digits do not follow: write a plain `%` as %25")]
    Escape(&'static str),
    /// A limit that is no number of the range.
    #[error("limit is a number from 1 to {LIMIT_MAX}")]
    Limit,
    /// A cursor that no page gave.
    #[error("cursor is what the previous page gave as `next`: pass it on unchanged")]
    Cursor,
}

impl Query {
    /// Reads the query string, without its `?`. Values may be percent-encoded; a key's own
    /// escapes are part of the key, so that a prefix `a%20b` is asked for as `a%2520b`.
    ///
    /// # Errors
    /// [`QueryError`], which names the parameter.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let (mut prefix, mut after, mut limit) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "prefix" => {
                    let text = decode(value).ok_or(QueryError::Escape("prefix"))?;
                    once(&mut prefix, "prefix", text)?;
                }
                "cursor" => {
                    let key = parse_cursor(value).ok_or(QueryError::Cursor)?;
                    once(&mut after, "cursor", key)?;
                }
                "limit" => {
                    let number = value.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n));
                    once(&mut limit, "limit", number.ok_or(QueryError::Limit)?)?;
                }
                other => return Err(QueryError::Unknown(other.chars().take(64).collect())),
            }
        }
        let prefix = prefix.unwrap_or_default();
        Ok(Self { prefix, after, limit: limit.unwrap_or(LIMIT_MAX) })
    }

    /// The key from which to look, and whether that key itself counts.
    #[must_use]
    pub fn start(&self) -> (&[u8], bool) {
        match &self.after {
            Some(after) if *after >= self.prefix => (after, false),
            _ => (&self.prefix, true),
        }
    }
}

fn once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), QueryError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(QueryError::Twice(name)),
    }
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// A cursor is the last key of a page in hexadecimal: it needs no escaping on its way back.
pub(super) fn cursor(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn parse_cursor(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok())
        .collect()
}

/// A page of a listing, as it is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Keys in byte order.
    pub keys: Vec<Entry>,
    /// The `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One key of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The key as a request's path has it after the first `/`, escapes and all.
    pub key: String,
    /// Bytes of the value.
    pub size: u64,
    /// The entity tag, quotation marks included.
    pub etag: String,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
}

impl Page {
    /// Adds a key, which must come after all that the page has.
    pub fn push(&mut self, key: &[u8], record: &Record) {
        self.keys.push(Entry {
            // Keys come from request targets, which are UTF-8 or refused.
            key: String::from_utf8_lossy(key).into_owned(),
            size: record.size,
            etag: format!("\"{}\"", record.digest),
            modified_ms: record.modified_ms,
        });
    }

    /// Says that there is more after `last`, the last key of the page.
    pub fn more_after(&mut self, last: &[u8]) {
        self.next = Some(cursor(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let all = Query { prefix: vec![], after: None, limit: LIMIT_MAX };
        assert_eq!(Query::parse(""), Ok(all.clone()));
        assert_eq!(Query::parse("&"), Ok(all.clone()));
        assert_eq!(
            Query::parse("limit=7&prefix=a%2520%2F&cursor=61ff"),
            Ok(Query { prefix: b"a%20/".to_vec(), after: Some(vec![0x61, 0xff]), limit: 7 })
        );
        assert_eq!(Query::parse("prefix=a+b").map(|q| q.prefix), Ok(b"a+b".to_vec()));
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (query, error) in [
            ("delimiter=/", QueryError::Unknown("delimiter".to_owned())),
            ("limit=0", QueryError::Limit),
            ("limit=1001", QueryError::Limit),
            ("limit=-1", QueryError::Limit),
            ("limit=", QueryError::Limit),
            ("limit=1&limit=2", QueryError::Twice("limit")),
            ("prefix=%2", QueryError::Escape("prefix")),
            ("prefix=%zz", QueryError::Escape("prefix")),
            ("cursor=", QueryError::Cursor),
            ("cursor=abc", QueryError::Cursor),
            ("cursor=zz", QueryError::Cursor),
        ] {
            assert_eq!(Query::parse(query), Err(error), "{query}");
        }
    }

    #[test]
    fn a_page_begins_after_its_cursor_and_within_its_prefix() {
        let start = |query: &str| {
            let query = Query::parse(query).expect("a query");
            let (key, inclusive) = query.start();
            (key.to_vec(), inclusive)
        };
        assert_eq!(start("prefix=b"), (b"b".to_vec(), true));
        assert_eq!(start("prefix=b&cursor=6263"), (b"bc".to_vec(), false));
        assert_eq!(start("prefix=b&cursor=61"), (b"b".to_vec(), true));
        assert_eq!(start("cursor=61"), (b"a".to_vec(), false));
    }

    #[test]
    fn cursors_come_back() {
        for key in [&b"a"[..], b"\x00\xff", b"a/b%2Fc"] {
            assert_eq!(parse_cursor(&cursor(key)).as_deref(), Some(key));
        }
    }
}
