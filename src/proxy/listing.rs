//! How are the keys of a pool listed?
//!
//! `GET /_ringway/list?pool=&prefix=&delimiter=&cursor=&limit=`: JSON with `keys`, `prefixes` (what
//! keys have in common up to the delimiter) and, unless it was the last page, `next`, which is the
//! next page's `cursor`. Keys are canonical paths after their first `/`, escapes kept.

use std::io::Write;

use serde::Serialize;

use super::exchange::Exchange;
use super::problem::Problem;
use super::seam::{Reply, Upload};
use super::seen::Seen;
use super::site::Site;
use crate::dispatch::kept::{Asked, Listed, Listing, list};
use crate::dispatch::outcome::Note;
use crate::dispatch::seam::{About, ClientGone};
use crate::ids::{Epoch, PoolName};
use crate::key::canonical_component;
use crate::net::http1::response::ResponseHead;
use crate::protocol::health::Class;

/// Where keys are listed.
pub(super) const LIST_PATH: &[u8] = b"/_ringway/list";

/// Lines on a page, and the most that may be asked for.
const LIMIT: usize = 1000;

/// Bytes of a parameter: three for each of a key, and some.
const PARAMETER_BYTES_MAX: usize = 4096;

#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    version: String,
    size: u64,
    modified_ms: u64,
}

#[derive(Serialize)]
struct Document<'a> {
    keys: Vec<Line<'a>>,
    prefixes: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

impl Exchange<'_> {
    /// Answers with a page of keys.
    pub(super) async fn answer_list<'s, B: Upload, A: Reply>(
        &self,
        site: &'s Site,
        seen: &mut Seen<'s>,
        note: &mut Note,
        body: &B,
        answer: &mut A,
    ) -> Result<(), ClientGone> {
        let (pool, asked) = match understand(seen.query.unwrap_or_default()) {
            Ok(understood) => understood,
            Err(detail) => {
                let problem = Problem::list(400, "bad-list", detail);
                return self.tell(&problem, seen, note, body, answer).await;
            }
        };
        let Some(pool) = site.view.pool(&pool) else {
            let detail = format!("there is no pool `{pool}`");
            let problem = Problem::list(404, "no-pool", detail);
            return self.tell(&problem, seen, note, body, answer).await;
        };
        if pool.agreed.spec.kept.is_none() {
            let detail = format!(
                "`{}` is a cache pool, whose shards are asked for keys by nobody: only pools that \
                 keep data are listed",
                pool.agreed.name
            );
            let problem = Problem::list(400, "not-listed", detail);
            return self.tell(&problem, seen, note, body, answer).await;
        }
        note.attempts += 1;
        seen.pool = Some(pool);
        let trace = self.part.get().and_then(|part| part.trace());
        match list(&self.local.worker, self.timer, pool, &asked, trace, note).await {
            Ok(listing) => self.send_list(seen, &listing, pool.agreed.epoch, body, answer).await,
            Err(failure) => self.fail(&failure, Class::Read, seen, note, body, answer).await,
        }
    }

    async fn send_list<B: Upload, A: Reply>(
        &self,
        seen: &Seen<'_>,
        listing: &Listing,
        epoch: Epoch,
        body: &B,
        answer: &mut A,
    ) -> Result<(), ClientGone> {
        let mut document =
            Document { keys: Vec::new(), prefixes: Vec::new(), next: listing.next.as_deref() };
        for line in &listing.lines {
            match line {
                Listed::Key(entry) => document.keys.push(Line {
                    key: &entry.key,
                    version: entry.version.to_string(),
                    size: entry.size,
                    modified_ms: entry.modified_ms,
                }),
                Listed::Prefix(prefix) => document.prefixes.push(prefix),
            }
        }
        let json = serde_json::to_vec(&document).expect("texts and numbers are always JSON");
        let text = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
             Content-Length: {}\r\n\r\n",
            json.len()
        );
        let head_asked = seen.method == b"HEAD";
        let mut head = ResponseHead::default();
        head.parse(text.as_bytes(), head_asked).expect("a head of ours");
        let about = About { shard: None, epoch, fields: &[] };
        answer.head(&head, text.as_bytes(), head.framing(), &about, body.is_complete());
        if !head_asked {
            answer.data(&json).await?;
        }
        answer.end(b"").await
    }
}

/// Reads the query.
fn understand(query: &[u8]) -> Result<(PoolName, Asked), String> {
    let mut pool = None;
    let mut asked = Asked { prefix: String::new(), delimiter: None, after: None, limit: LIMIT };
    for pair in query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let name = String::from_utf8_lossy(&pair[..at]).into_owned();
        let value = decode(pair.get(at + 1..).unwrap_or_default())
            .ok_or_else(|| format!("`{name}` is not escaped as it should be, or too long"))?;
        match name.as_str() {
            "pool" => {
                pool = Some(PoolName::new(&value).map_err(|error| format!("`pool`: {error}"))?);
            }
            "prefix" => asked.prefix = canonical(&value)?,
            "delimiter" => asked.delimiter = Some(canonical(&value)?),
            "cursor" => asked.after = Some(value),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT).contains(limit));
                asked.limit =
                    limit.ok_or_else(|| format!("`limit` is a number of 1 to {LIMIT}"))?;
            }
            _ => {
                return Err(format!(
                    "`{name}` is no parameter: there are pool, prefix, delimiter, cursor and limit"
                ));
            }
        }
    }
    let pool = pool.ok_or("name a pool: /_ringway/list?pool=NAME")?;
    Ok((pool, asked))
}

/// A part of a key in the form in which keys are stored.
fn canonical(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(text);
    // What may not stand raw in a target is escaped by now, in the keys.
    let mut raw = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            ..=b' ' | 0x7f | b'#' => write!(raw, "%{byte:02X}").expect("a vector takes all"),
            _ => raw.push(byte),
        }
    }
    let form = canonical_component(&raw).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(form.into_owned()).expect("a canonical form is ASCII"))
}

/// Undoes one layer of escapes.
fn decode(value: &[u8]) -> Option<String> {
    if value.len() > PARAMETER_BYTES_MAX {
        return None;
    }
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_understood_or_told_what_is_wrong_with_it() {
        let query = b"pool=objects&prefix=%2Fa%20b%252Fc&delimiter=/&limit=7&cursor=x%7F";
        let (pool, asked) = understand(query).expect("a good query");
        assert_eq!((pool.as_str(), asked.prefix.as_str()), ("objects", "a%20b%2Fc"));
        assert_eq!((asked.delimiter.as_deref(), asked.limit), (Some("/"), 7));
        assert_eq!(asked.after.as_deref(), Some("x\x7f"));
        for (query, said) in [
            (&b""[..], "name a pool"),
            (b"pool=a b", "`pool`"),
            (b"pool=p&limit=0", "1 to 1000"),
            (b"pool=p&limit=1001", "1 to 1000"),
            (b"pool=p&prefix=%zz", "escaped"),
            (b"pool=p&prefix=%", "escaped"),
            (b"pool=p&page=2", "`page` is no parameter"),
        ] {
            let error = understand(query).expect_err("a bad query");
            assert!(error.contains(said), "{error}");
        }
    }
}
