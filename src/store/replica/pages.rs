//! How does a store tell what it holds, and forget what is deleted everywhere?

use std::ops::Bound;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::Incoming as RequestBody;

use crate::ids::Token;
use crate::protocol::replica::words::{self, WATERMARK_KEYS_MAX};
use crate::protocol::replica::{Dropped, Entry, Page, SUM_BYTES, Watermark, Watermarks};
use crate::store::body::Body;
use crate::store::http::{Answer, json, on_disk, unreadable, upload_problem};
use crate::store::index::IndexError;
use crate::store::list::cursor;
use crate::store::problem::Problem;
use crate::store::replica::change::decode_version;
use crate::store::replica::fields::{Ask, check_key, optional};
use crate::store::replica::queries::{Query, wrong};
use crate::store::replica::record::{Kept, RowKey, split};
use crate::store::replica::sums;
use crate::store::replica::view::PoolView;
use crate::store::replica::write::{KeptAction, KeptDone};
use crate::store::upload::gather;
use crate::store::view::View;
use crate::version::Version;

/// Rows of tombstones that one page looks at: most of them are young in a pool where much is
/// deleted.
const GRAVES_MAX: usize = 10_000;

/// Bytes of the lines of one collection: its keys at their longest, each with its version.
const COLLECT_BYTES_MAX: usize = WATERMARK_KEYS_MAX * (words::KEY_BYTES_MAX + 80);

type Rows<T> = Result<T, IndexError>;

/// Runs a look at many rows where no connection waits for it.
async fn look<T: Send + 'static>(
    ask: &Ask<'_>,
    look: impl FnOnce(&View, &PoolView) -> Rows<T> + Send + 'static,
) -> Result<T, Problem> {
    let (view, name) = (ask.store.view(), ask.pool.clone());
    ask.pool_in(&view)?;
    let looked = on_disk(move || {
        let pool = view.pool(name.as_str()).expect("a pool that was bound stays so");
        look(&view, pool)
    });
    looked.await?.map_err(|error| unreadable(&error))
}

fn entry(row_key: &[u8], row: &[u8]) -> Rows<Entry> {
    let (token, key) = split(row_key);
    let (kept, _) = Kept::decode(row)?;
    Ok(Entry {
        // Keys come from request targets, which are ASCII or refused.
        key: String::from_utf8_lossy(key).into_owned(),
        token,
        version: kept.version,
        tombstone: kept.value.is_none(),
        size: kept.value.map_or(0, |value| value.size),
        digest: kept.value.map_or_else(String::new, |value| value.digest.to_string()),
        damaged: kept.is_damaged(),
        modified_ms: kept.modified_ms,
    })
}

/// A page by token and key.
pub(super) async fn keys(ask: &Ask<'_>) -> Answer {
    let query = Query::parse(ask.parts.uri.query(), &["from", "to", "cursor", "limit"])?;
    let from = query.token("from")?.unwrap_or(Token(0));
    let to = query.token("to")?.unwrap_or(Token(u64::MAX));
    let (after, limit) = (query.cursor()?, query.limit()?);
    let page = look(ask, move |_, pool| {
        let from = from.0.to_be_bytes();
        let start = match &after {
            Some(after) if after[..] >= from[..] => Bound::Excluded(&after[..]),
            _ => Bound::Included(&from[..]),
        };
        let mut page = Page::default();
        let mut last = Vec::new();
        for row in pool.table().range::<&[u8]>((start, Bound::Unbounded))? {
            let (key, row) = row?;
            if split(key.value()).0 > to {
                break;
            }
            if page.keys.len() == limit {
                page.next = Some(cursor(&last));
                break;
            }
            page.keys.push(entry(key.value(), row.value())?);
            key.value().clone_into(&mut last);
        }
        Ok(page)
    });
    Ok(json(StatusCode::OK, &page.await?))
}

/// A page by key.
pub(super) async fn list(ask: &Ask<'_>) -> Answer {
    let query = Query::parse(ask.parts.uri.query(), &["prefix", "after", "limit"])?;
    let prefix = query.bytes("prefix")?.unwrap_or_default();
    let (after, limit) = (query.bytes("after")?, query.limit()?);
    let page = look(ask, move |view, pool| {
        let tables = pool.tables();
        let names = view.transaction().open_table(tables.names())?;
        let start = match &after {
            Some(after) if *after >= prefix => Bound::Excluded(&after[..]),
            _ => Bound::Included(&prefix[..]),
        };
        let mut page = Page::default();
        for row in names.range::<&[u8]>((start, Bound::Unbounded))? {
            let (key, token) = row?;
            if !key.value().starts_with(&prefix) {
                break;
            }
            if page.keys.len() == limit {
                page.next = page.keys.last().map(|last| last.key.clone());
                break;
            }
            let row_key = RowKey::new(Token(token.value()), key.value());
            let row = pool.table().get(row_key.bytes())?.ok_or(IndexError::Body)?;
            page.keys.push(entry(row_key.bytes(), row.value())?);
        }
        Ok(page)
    });
    Ok(json(StatusCode::OK, &page.await?))
}

/// A page of tombstones.
pub(super) async fn tombstones(ask: &Ask<'_>) -> Answer {
    let query = Query::parse(ask.parts.uri.query(), &["before", "cursor", "limit"])?;
    let before = query.number("before")?.unwrap_or(u64::MAX);
    let (after, limit) = (query.cursor()?, query.limit()?);
    let page = look(ask, move |view, pool| {
        let tables = pool.tables();
        let graves = view.transaction().open_table(tables.graves())?;
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Page::default();
        let mut last = Vec::new();
        for (looked_at, row) in graves.range::<&[u8]>((start, Bound::Unbounded))?.enumerate() {
            let (key, written_ms) = row?;
            if page.keys.len() == limit || looked_at == GRAVES_MAX {
                page.next = Some(cursor(&last));
                break;
            }
            if written_ms.value() <= before {
                let row = pool.table().get(key.value())?.ok_or(IndexError::Body)?;
                page.keys.push(entry(key.value(), row.value())?);
            }
            key.value().clone_into(&mut last);
        }
        Ok(page)
    });
    Ok(json(StatusCode::OK, &page.await?))
}

/// The sums of slots.
pub(super) async fn digests(ask: &Ask<'_>) -> Answer {
    let query = Query::parse(ask.parts.uri.query(), &["from", "count", "fold"])?;
    let (from, count) = query.slots()?;
    let fold = query.number("fold")?.unwrap_or(1);
    let fold = u32::try_from(fold).ok().filter(|fold| (1..=count).contains(fold));
    let fold = fold.ok_or_else(|| wrong("`fold` is a number from 1 to `count`".to_owned()))?;
    let bytes = look(ask, move |view, pool| {
        let tables = pool.tables();
        let slots = (from, last_slot(from, count));
        let folded = sums::read(view.transaction(), &tables, slots, fold)?;
        let mut bytes = Vec::with_capacity(folded.len() * SUM_BYTES);
        folded.iter().for_each(|sum| bytes.extend_from_slice(&sum.to_bytes()));
        Ok(bytes)
    });
    let mut response = Response::new(Body::memory(bytes.await?.into()));
    let octets = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, octets);
    Ok(response)
}

fn last_slot(from: u16, count: u32) -> u16 {
    u16::try_from(u32::from(from) + count - 1).expect("a query's slots are there")
}

/// The watermarks of slots.
pub(super) async fn watermarks(ask: &Ask<'_>) -> Answer {
    let query = Query::parse(ask.parts.uri.query(), &["from", "count"])?;
    let (from, count) = query.slots()?;
    let found = look(ask, move |_, pool| {
        let mut found = Watermarks::default();
        for row in pool.marks().range(from..=last_slot(from, count))? {
            let (slot, version) = row?;
            let version = decode_version(version.value())?;
            found.watermarks.push(Watermark { slot: slot.value(), version });
        }
        Ok(found)
    });
    Ok(json(StatusCode::OK, &found.await?))
}

/// Raises a slot's watermark and drops tombstones.
pub(super) async fn collect(ask: &Ask<'_>, body: &mut RequestBody) -> Answer {
    let query = Query::parse(ask.parts.uri.query(), &["slot"])?;
    let slot = query.slot("slot")?.ok_or_else(|| wrong("`slot` is missing".to_owned()))?;
    let least = optional(&ask.parts.headers, words::VERSION)?.unwrap_or(Version::NONE);
    let lines = gather(ask.store, body, COLLECT_BYTES_MAX)
        .await
        .map_err(|error| upload_problem(error, COLLECT_BYTES_MAX as u64))?;
    let tombstones = parse_lines(&lines)?;
    let versions = tombstones.iter().map(|(_, version)| *version);
    ask.check_clock(versions.fold(least, Version::max))?;
    let done = ask.write(KeptAction::Collect(slot, least, tombstones), 0).await?;
    let KeptDone::Dropped { dropped, raised } = done else { unreachable!("a collection drops") };
    ask.store.metrics().replica.collected(dropped, raised);
    Ok(json(StatusCode::OK, &Dropped { dropped }))
}

/// Lines `KEY VERSION`.
fn parse_lines(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Version)>, Problem> {
    let wrong = |what: String| Problem::bad_request("lines", what);
    let text = std::str::from_utf8(bytes)
        .map_err(|_| wrong("The lines are not UTF-8, which every key is.".to_owned()))?;
    let mut out = Vec::new();
    for line in text.lines() {
        if out.len() == WATERMARK_KEYS_MAX {
            let detail = format!("There are more than {WATERMARK_KEYS_MAX} lines. Send fewer.");
            return Err(wrong(detail));
        }
        let (key, version) = line
            .split_once(' ')
            .ok_or_else(|| wrong("A line is a key, a space and a version.".to_owned()))?;
        check_key(key.as_bytes())?;
        let version = version.parse().map_err(|error| wrong(format!("{error}.")))?;
        out.push((key.as_bytes().to_vec(), version));
    }
    Ok(out)
}
