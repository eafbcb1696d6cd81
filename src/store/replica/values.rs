//! How are bodies staged, committed, put, deleted and read?

use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming as RequestBody;

use crate::ids::Digest;
use crate::protocol::holding::Effect;
use crate::protocol::replica::{Refusal, words};
use crate::store::body::Body;
use crate::store::engine::ReadError;
use crate::store::http::{
    Answer, READ_ATTEMPTS_MAX, meta_problem, open_at, range, take_in, unreadable,
};
use crate::store::index::IndexError;
use crate::store::meta::Meta;
use crate::store::problem::Problem;
use crate::store::range::{Selection, select};
use crate::store::record::Place;
use crate::store::replica::damage::{BY_READING, Suspect, is_loss};
use crate::store::replica::fields::{Ask, VERSION, optional, required, text, version_field};
use crate::store::replica::http::effect_field;
use crate::store::replica::record::{Kept, Value};
use crate::store::replica::stages::Stage;
use crate::store::replica::write::{KeptAction, KeptDone, LostValue};
use crate::store::writer::{NewBody, WriteError};
use crate::version::Version;

const APPLIED: HeaderName = HeaderName::from_static(words::APPLIED);
const TOMBSTONE: HeaderName = HeaderName::from_static(words::TOMBSTONE);
const MODIFIED: HeaderName = HeaderName::from_static(words::MODIFIED);
const SIZE: HeaderName = HeaderName::from_static(words::SIZE);
const DIGEST: HeaderName = HeaderName::from_static(words::DIGEST);

/// Takes in a body to be committed later. A large one is synced here, while it is the client that
/// is waited for and not the commit of others.
pub(super) async fn stage(ask: &Ask<'_>, body: &mut RequestBody) -> Answer {
    let (key, id) = (ask.key()?, ask.stage()?);
    let meta = Meta::pick(&ask.parts.headers).map_err(|error| meta_problem(&error))?;
    let busy = |_| Problem::write(&WriteError::Busy);
    may_write(ask)?;
    ask.store.stages().admit().map_err(busy)?;
    let body = take_in(ask.store, body).await?;
    let newest = {
        let view = ask.store.view();
        let pool = ask.pool_in(&view)?;
        pool.held(&key).map_err(|error| unreadable(&error))?.newest()
    };
    let stage = Stage { key, meta, body, since: Instant::now() };
    ask.store.stages().put(ask.pool.clone(), id, stage).map_err(busy)?;
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(VERSION, version_field(newest));
    Ok(response)
}

/// Spares everybody a body that could not be kept. Not the last word.
fn may_write(ask: &Ask<'_>) -> Result<(), Problem> {
    ask.store.check_fence().map_err(|error| Problem::write(&error))?;
    if ask.store.has_room() { Ok(()) } else { Err(Problem::write(&WriteError::Full)) }
}

/// Drops a stage, or finds none.
pub(super) fn abort(ask: &Ask<'_>) -> Answer {
    let (key, id) = (ask.key()?, ask.stage()?);
    drop(ask.store.stages().take(&ask.pool, id, &key));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Makes a staged body the value.
pub(super) async fn commit(ask: &Ask<'_>) -> Answer {
    let (key, id, version) = (ask.key()?, ask.stage()?, ask.version()?);
    let cost_bytes = ask.store.stages().memory_bytes(&ask.pool, id);
    judged(ask.write(KeptAction::Commit(key, id, version), cost_bytes).await?)
}

/// Puts a value under its version at once.
pub(super) async fn put(ask: &Ask<'_>, body: &mut RequestBody) -> Answer {
    let (key, version) = (ask.key()?, ask.version()?);
    let modified_ms = optional::<u64>(&ask.parts.headers, words::MODIFIED)?;
    let meta = Meta::pick(&ask.parts.headers).map_err(|error| meta_problem(&error))?;
    may_write(ask)?;
    let body = take_in(ask.store, body).await?;
    check_digest(ask, &body)?;
    let inline = if let NewBody::Small(bytes, _) = &body { bytes.len() } else { 0 };
    let cost_bytes = meta.len_bytes() + inline;
    judged(ask.write(KeptAction::Put(key, version, modified_ms, meta, body), cost_bytes).await?)
}

/// Refuses a body that is not what the one who sends it was given.
fn check_digest(ask: &Ask<'_>, body: &NewBody) -> Result<(), Problem> {
    let Some(told) = text(&ask.parts.headers, words::DIGEST)? else { return Ok(()) };
    let found = match body {
        NewBody::Small(_, digest) => *digest,
        NewBody::Large(incoming) => incoming.digest(),
    };
    if told.eq_ignore_ascii_case(&found.to_string()) {
        return Ok(());
    }
    let detail = format!(
        "The body has the digest {found}, `Ringway-Digest` says {told}; nothing was done. It was \
         spoilt where it was read, or on its way."
    );
    Err(Problem::refusal(Refusal::OtherBytes, "The bytes are others", detail))
}

/// Takes in that there is a value of which nobody has the bytes.
pub(super) async fn lost(ask: &Ask<'_>) -> Answer {
    let (key, version) = (ask.key()?, ask.version()?);
    let fields = &ask.parts.headers;
    let value = LostValue {
        size: required(fields, words::SIZE)?,
        digest: required(fields, words::DIGEST)?,
        modified_ms: optional(fields, words::MODIFIED)?,
    };
    let name = String::from_utf8_lossy(key.key()).into_owned();
    let done = ask.write(KeptAction::Lost(key, version, value), 0).await?;
    if matches!(done, KeptDone::Judged { effect: Effect::Applied, .. }) {
        tracing::warn!(
            pool = %ask.pool,
            key = name,
            %version,
            "told of a value that no replica can give any more: reads of it fail until it is written \
             again or deleted"
        );
    }
    judged(done)
}

/// Deletes a key under a version.
pub(super) async fn delete(ask: &Ask<'_>) -> Answer {
    let (key, version) = (ask.key()?, ask.version()?);
    judged(ask.write(KeptAction::Delete(key, version), 0).await?)
}

fn judged(done: KeptDone) -> Answer {
    let KeptDone::Judged { effect, newest } = done else {
        unreachable!("a write of one key is judged")
    };
    let mut response = Response::new(Body::empty());
    let fields = response.headers_mut();
    fields.insert(VERSION, version_field(newest));
    fields.insert(APPLIED, effect_field(effect));
    Ok(response)
}

/// Answers what is held, perhaps with its bytes. As for a cache pool, the index is looked at here
/// and now.
pub(super) async fn get(ask: &Ask<'_>) -> Answer {
    let key = ask.key()?;
    let only = optional::<Version>(&ask.parts.headers, words::IF_VERSION)?;
    let wants_content = ask.parts.method == Method::GET;
    for _ in 0..READ_ATTEMPTS_MAX {
        let view = ask.store.view();
        let pool = ask.pool_in(&view)?;
        let record = pool.record(&key).map_err(|error| unreadable(&error))?;
        let (kept, meta) = match record {
            Ok((kept, meta)) => (kept, meta),
            Err(watermark) => return Ok(absent(watermark, false)),
        };
        let Some(value) = kept.value else { return Ok(absent(kept.version, true)) };
        let suspect = || Suspect::new(ask.store, &ask.pool, &key, kept.version, value);
        if only.is_some_and(|only| only != kept.version) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::PRECONDITION_FAILED;
            response.headers_mut().insert(VERSION, version_field(kept.version));
            return Ok(response);
        }
        if value.is_damaged {
            return Err(damaged(kept.version));
        }
        let selection = match range(ask.parts) {
            Some(range) => select(range.as_bytes(), value.size),
            None => Selection::Whole,
        };
        let (status, first, length) = match selection {
            Selection::Whole => (StatusCode::OK, 0, value.size),
            Selection::Part { first, length } => (StatusCode::PARTIAL_CONTENT, first, length),
            Selection::Unsatisfiable => {
                let version = version_field(kept.version);
                return Err(Problem::unsatisfiable(value.size).with(VERSION, version));
            }
        };
        let body = match value.place {
            _ if !wants_content => Some(Body::empty()),
            Place::Index => match view.body(value.body, value.size) {
                Ok(bytes) if *blake3::hash(&bytes).as_bytes() == value.digest.0 => {
                    Some(Body::memory(part(&bytes, first, length)))
                }
                Ok(_) => return Err(spoilt(suspect(), kept.version, OTHERS).await),
                Err(IndexError::Body) => {
                    return Err(spoilt(suspect(), kept.version, "it is not in the index").await);
                }
                Err(error) => return Err(unreadable(&error)),
            },
            Place::File => match open_at(ask.store, value.body, value.size, first).await? {
                Ok(file) => file.map(|file| {
                    let is_whole = selection == Selection::Whole;
                    Body::watched(file, length, ask.store.share(), suspect(), is_whole)
                }),
                Err(ReadError::Damaged) => {
                    let why = "its file is gone or has another length";
                    return Err(spoilt(suspect(), kept.version, why).await);
                }
                Err(ReadError::Body(error)) if is_loss(&error) => {
                    return Err(spoilt(suspect(), kept.version, &error.to_string()).await);
                }
                Err(error) => return Err(unreadable(&error)),
            },
        };
        // None: the file went between the look at the index and this one. The next view has what
        // came instead.
        let Some(body) = body else { continue };
        let mut response = Response::new(body.counted(&ask.store.metrics().sent_bytes));
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.reserve(8);
        describe(&kept, &value, &meta, fields);
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if status == StatusCode::PARTIAL_CONTENT {
            let field = format!("bytes {first}-{}/{}", first + length - 1, value.size);
            fields.insert(CONTENT_RANGE, HeaderValue::try_from(field).expect("ASCII"));
        }
        return Ok(response);
    }
    Err(unreadable(&ReadError::Damaged))
}

/// What is said of bytes that do not fit their digest.
const OTHERS: &str = "its bytes are not those that were taken in";

/// Notes the damage, and says so.
async fn spoilt(suspect: Suspect, version: Version, why: &str) -> Problem {
    suspect.note(BY_READING, why).await;
    damaged(version)
}

/// The answer where bytes should be and are not. It tells the version, as every answer about a key
/// does, so that nothing older is taken for the newest.
fn damaged(version: Version) -> Problem {
    let detail = "The bytes of this value are lost or spoilt here. Ask another replica, and write \
                  this version once more here.";
    Problem::refusal(Refusal::Damaged, "The value is damaged", detail)
        .with(VERSION, version_field(version))
}

fn part(bytes: &Bytes, first: u64, length: u64) -> Bytes {
    let index = |at: u64| usize::try_from(at).expect("a body in memory is small");
    bytes.slice(index(first)..index(first + length))
}

fn absent(version: Version, is_tombstone: bool) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_FOUND;
    let fields = response.headers_mut();
    fields.insert(VERSION, version_field(version));
    if is_tombstone {
        fields.insert(TOMBSTONE, HeaderValue::from_static(words::YES));
    }
    response
}

fn describe(kept: &Kept, value: &Value, meta: &Meta, fields: &mut http::HeaderMap) {
    for (name, value) in meta.iter() {
        fields.append(name.clone(), value.clone());
    }
    fields.insert(VERSION, version_field(kept.version));
    fields.insert(SIZE, HeaderValue::from(value.size));
    fields.insert(DIGEST, digest_field(value.digest));
    fields.insert(MODIFIED, HeaderValue::from(kept.modified_ms));
}

fn digest_field(digest: Digest) -> HeaderValue {
    HeaderValue::from_bytes(digest.text().as_bytes()).expect("hexadecimal digits")
}
