//! What exactly was asked, once it has been read?
//!
//! A request is taken apart here and nowhere else: query parameters that no route knows, a body
//! that is no JSON of the form asked for, or one without end are answered before a verb sees them.

use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use serde::de::DeserializeOwned;

use super::http::Problem;

/// The longest body that is read: a thousand shards are staged with about 200 KiB.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long a body may take to arrive, since an operator's own tools send it in one piece.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The parameters behind `?`, percent-decoded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query that may have the parameters `known`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                let known = match known {
                    [] => "none".to_owned(),
                    names => names.join(", "),
                };
                let detail = format!(
                    "the parameter `{name}` is not known here; the known ones are: {known}"
                );
                return Err(Problem::new(400, "bad-query", detail));
            }
            let value = percent_decode(value).ok_or_else(|| {
                let detail = format!(
                    "the value of `{name}` is not UTF-8 in percent-encoding: write `%25` for `%`"
                );
                Problem::new(400, "bad-query", detail)
            })?;
            pairs.push((name.to_owned(), value));
        }
        Ok(Self(pairs))
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter; the first if there are several.
    #[must_use]
    pub fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// The value of a parameter that is a whole number.
    ///
    /// # Errors
    /// One that is none.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let parse = |text: &str| {
            let detail = format!("`{name}={text}` is no whole number");
            text.parse().map_err(|_| Problem::new(400, "bad-query", detail))
        };
        self.get(name).map(parse).transpose()
    }
}

/// `+` stays `+`: it stands in keys, and only forms mean a space by it.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

/// Reads a body whole.
///
/// # Errors
/// One that is too long, too slow or broken off.
pub async fn read_body<B>(body: B) -> Result<Bytes, Problem>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Ok(Ok(whole)) => {
            let mut whole = whole.aggregate();
            Ok(whole.copy_to_bytes(whole.remaining()))
        }
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let detail = format!("a body has at most {BODY_BYTES_MAX} bytes here");
            Err(Problem::new(413, "body-too-long", detail))
        }
        Ok(Err(_)) => Err(Problem::new(400, "bad-body", "the body broke off")),
        Err(_) => Err(Problem::new(408, "bad-body", "the body did not arrive in time")),
    }
}

/// Understands a body as a JSON document; an empty one as `{}`.
///
/// # Errors
/// The place, and what was expected there.
pub fn document<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(400, "bad-body", format!("the body is not understood: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    #[test]
    fn parameters_are_decoded_once_and_unknown_ones_refused() {
        let query = Query::read(Some("pool=p&key=%2Fa%252Fb+c"), &["pool", "key"]).expect("good");
        assert_eq!((query.get("pool"), query.get("key")), (Some("p"), Some("/a%2Fb+c")));
        assert_eq!(query.get("epoch"), None);
        assert_eq!(Query::read(None, &[]).expect("none"), Query::default());
        for bad in ["pol=p", "pool=%", "pool=%4", "pool=%+1", "pool=%ff"] {
            let refused = Query::read(Some(bad), &["pool"]).expect_err(bad);
            assert_eq!(refused.answer().status(), 400, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_body_is_bounded() {
        let body = |bytes: usize| Full::new(Bytes::from(vec![b' '; bytes]));
        assert_eq!(read_body(body(BODY_BYTES_MAX)).await.expect("whole").len(), BODY_BYTES_MAX);
        assert_eq!(
            read_body(body(BODY_BYTES_MAX + 1)).await.expect_err("longer").answer().status(),
            413
        );
    }
}
