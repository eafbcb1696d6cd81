//! What does an HTTP request ask of the store, and how is it answered?
//!
//! | target | methods |
//! | --- | --- |
//! | `/KEY` | GET, HEAD, PUT, DELETE, OPTIONS |
//! | `/_ringway/list?prefix=&cursor=&limit=` | GET, HEAD: a page of keys ([`crate::store::list::Page`]) |
//! | `/_ringway/replica/POOL/…` | what nodes ask of a shard of a pool that keeps data ([`crate::store::replica`]) |
//! | `/_ringway/health` | GET, HEAD: 200 while reads work; the body tells reads and writes apart |
//! | `/_ringway/health/read`, `/_ringway/health/write` | GET, HEAD: 200 or 503, for probes |
//!
//! A key is the path's bytes after its first `/`, as they came: no escape is decoded, no dot
//! segment removed. `a%2Fb` and `a/b` are two keys. Making many spellings one is the proxy's work,
//! and is done there once.
//!
//! Every answer bears `Ringway-Store`, and every refusal `Ringway-Error`. What hyper refuses by itself (a head that does not parse or
//! is too long) never gets here and bears nothing.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPECT, HeaderMap,
    HeaderName, HeaderValue, LAST_MODIFIED, RANGE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming as RequestBody};

use crate::protocol::replica::words;
use crate::store::body::Body;
use crate::store::conditions::{Conditions, Current, Verdict};
use crate::store::engine::{ReadError, Store};
use crate::store::list::Query;
use crate::store::meta::{Meta, MetaError};
use crate::store::problem::Problem;
use crate::store::range::{Selection, select};
use crate::store::record::{BodyId, Place, Record};
use crate::store::replica;
use crate::store::upload::{UploadError, receive};
use crate::store::writer::{Action, NewBody, Write, WriteError, Written};

/// The longest key in bytes; a longer one is answered 414. What S3 takes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Bytes of an unwanted body that are read and dropped, so that its sender gets to see the
/// answer and the connection lives on; after more the connection is cut.
const LINGER_BYTES_MAX: u64 = 1024 * 1024;

/// How often a read is tried whose file is replaced under its hands each time.
pub(super) const READ_ATTEMPTS_MAX: u32 = 16;

const STORE: HeaderName = HeaderName::from_static("ringway-store");
const KEY_METHODS: &str = "GET, HEAD, PUT, DELETE, OPTIONS";
const OWN_METHODS: &str = "GET, HEAD, OPTIONS";
const OWN_PREFIX: &str = "/_ringway/";

pub(super) type Answer = Result<Response<Body>, Problem>;

/// Answers one request.
pub(super) async fn answer(
    store: &Arc<Store>,
    serves_nodes: bool,
    request: Request<RequestBody>,
) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let answer = route(store, serves_nodes, &parts, &mut body).await;
    linger(store, &parts, body);
    let mut response = answer.unwrap_or_else(Into::into);
    response.headers_mut().insert(STORE, store.id_field().clone());
    store.metrics().answered(&parts.method, response.status());
    response
}

async fn route(
    store: &Arc<Store>,
    serves_nodes: bool,
    parts: &Parts,
    body: &mut RequestBody,
) -> Answer {
    let path = parts.uri.path();
    if let Some(rest) = path.strip_prefix(words::PREFIX) {
        if !serves_nodes {
            return Err(replica::http::insecure());
        }
        return replica::http::answer(store, parts, rest, body).await;
    }
    if let Some(own) = path.strip_prefix(OWN_PREFIX) {
        return match parts.method {
            Method::GET | Method::HEAD => answer_own(store, own, parts.uri.query()).await,
            Method::OPTIONS => Ok(options(OWN_METHODS)),
            _ => Err(Problem::method_not_allowed(OWN_METHODS)),
        };
    }
    match parts.method {
        Method::OPTIONS => Ok(options(KEY_METHODS)),
        Method::GET | Method::HEAD => get(store, parts, key(parts)?).await,
        Method::PUT => put(store, parts, key(parts)?, body).await,
        Method::DELETE => delete(store, parts, key(parts)?).await,
        _ => Err(Problem::method_not_allowed(KEY_METHODS)),
    }
}

fn options(allow: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn key(parts: &Parts) -> Result<&[u8], Problem> {
    let key = parts.uri.path().strip_prefix('/').unwrap_or_default();
    if key.is_empty() {
        let detail = "Name a key: a path of at least one character after the first `/`.";
        return Err(Problem::bad_request("no-key", detail));
    }
    if key.len() > KEY_BYTES_MAX {
        let detail = format!("A key has at most {KEY_BYTES_MAX} bytes, this has {}.", key.len());
        let status = StatusCode::URI_TOO_LONG;
        return Err(Problem::new(status, "key-too-long", "The key is too long", detail));
    }
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        let detail = "A key has no query. Leave out what follows the `?`, or write the `?` as %3F \
                      if it is part of the key.";
        return Err(Problem::bad_request("query", detail));
    }
    Ok(key.as_bytes())
}

fn conditions(fields: &HeaderMap) -> Result<Conditions, Problem> {
    Conditions::read(fields)
        .map_err(|error| Problem::bad_request("condition-syntax", format!("{error}.")))
}

/// Entity tag and modification time of a record, in the form that [`Conditions`] look at.
struct Validators {
    tag: String,
    modified_s: u64,
}

impl Validators {
    fn of(record: &Record) -> Self {
        Self { tag: record.digest.to_string(), modified_s: record.modified_ms / 1000 }
    }

    fn current(&self) -> Current<'_> {
        Current { tag: self.tag.as_bytes(), modified_s: self.modified_s }
    }

    fn write_to(&self, fields: &mut HeaderMap) {
        let etag = HeaderValue::from_str(&format!("\"{}\"", self.tag));
        fields.insert(ETAG, etag.expect("hexadecimal digits"));
        // A clock past the year 9999 is beyond the form; such a value goes without.
        let modified = UNIX_EPOCH.checked_add(Duration::from_secs(self.modified_s));
        if let Some(modified) = modified.filter(|_| self.modified_s < 253_402_300_800) {
            let date = HeaderValue::from_str(&httpdate::fmt_http_date(modified));
            fields.insert(LAST_MODIFIED, date.expect("a date is ASCII"));
        }
    }
}

/// Looks up what a GET or HEAD asks for and answers it.
///
/// The index is looked at here and now: [`crate::store::index_file`] says why that holds nobody
/// up. A file is opened on the blocking pool, where it is read anyway.
async fn get(store: &Arc<Store>, parts: &Parts, key: &[u8]) -> Answer {
    let conditions = conditions(&parts.headers)?;
    let wants_content = parts.method == Method::GET;
    for _ in 0..READ_ATTEMPTS_MAX {
        // One view for all, so that head and bytes belong together.
        let view = store.view();
        let record = view.record(key).map_err(|error| unreadable(&error))?;
        let validators = record.as_ref().map(Validators::of);
        let verdict = conditions.for_read(validators.as_ref().map(Validators::current));
        let (record, validators) = match (verdict, record.zip(validators)) {
            (Verdict::Failed, _) => return Err(Problem::precondition_failed()),
            (_, None) => return Err(Problem::not_found()),
            (Verdict::NotModified, Some((record, validators))) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                describe(&record, &validators, response.headers_mut());
                return Ok(response);
            }
            (Verdict::Proceed, Some(both)) => both,
        };
        let range = range(parts).filter(|_| conditions.range_counts(validators.current()));
        let selection =
            range.map_or(Selection::Whole, |range| select(range.as_bytes(), record.size));
        let (status, first, length) = match selection {
            Selection::Whole => (StatusCode::OK, 0, record.size),
            Selection::Part { first, length } => (StatusCode::PARTIAL_CONTENT, first, length),
            Selection::Unsatisfiable => return Err(Problem::unsatisfiable(record.size)),
        };
        let body = match record.place {
            _ if !wants_content => Some(Body::empty()),
            Place::Index => {
                let bytes =
                    view.body(record.body, record.size).map_err(|error| unreadable(&error))?;
                let index = |at: u64| usize::try_from(at).expect("a body in memory is small");
                Some(Body::memory(bytes.slice(index(first)..index(first + length))))
            }
            Place::File => open_file(store, record.body, record.size, first)
                .await?
                .map(|f| Body::file(f, length, store.share())),
        };
        // None: the file went between the look at the index and this one. The next view has what
        // came instead.
        let Some(body) = body else { continue };
        let mut response = Response::new(body.counted(&store.metrics().sent_bytes));
        *response.status_mut() = status;
        let fields = response.headers_mut();
        describe(&record, &validators, fields);
        if !record.meta.has(&CONTENT_TYPE) {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        }
        fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if status == StatusCode::PARTIAL_CONTENT {
            let field = format!("bytes {first}-{}/{}", first + length - 1, record.size);
            fields.insert(CONTENT_RANGE, HeaderValue::from_str(&field).expect("ASCII"));
        }
        return Ok(response);
    }
    Err(unreadable(&ReadError::Damaged))
}

/// The one `Range` field of a GET. It is defined for no other method (RFC 9110, section 14.2),
/// and two of them are none.
pub(super) fn range(parts: &Parts) -> Option<&HeaderValue> {
    let mut lines = parts.headers.get_all(RANGE).iter();
    let first = lines.next().filter(|_| parts.method == Method::GET)?;
    lines.next().is_none().then_some(first)
}

/// Opens a value's file at an offset; `None` when it was removed since its record was read.
pub(super) async fn open_file(
    store: &Arc<Store>,
    body: BodyId,
    size: u64,
    first: u64,
) -> Result<Option<File>, Problem> {
    open_at(store, body, size, first).await?.map_err(|error| unreadable(&error))
}

/// The same, for whoever has to know why not.
pub(super) async fn open_at(
    store: &Arc<Store>,
    body: BodyId,
    size: u64,
    first: u64,
) -> Result<Result<Option<File>, ReadError>, Problem> {
    let store = Arc::clone(store);
    let opened = on_disk(move || {
        let Some(mut file) = store.open_body(body, size)? else { return Ok(None) };
        file.seek(SeekFrom::Start(first))?;
        Ok(Some(file))
    });
    opened.await
}

pub(super) fn unreadable(error: &dyn std::error::Error) -> Problem {
    Problem::unreadable(&error.to_string())
}

/// The fields that a value has on 200, 206 and 304 alike.
fn describe(record: &Record, validators: &Validators, fields: &mut HeaderMap) {
    for (name, value) in record.meta.iter() {
        fields.append(name.clone(), value.clone());
    }
    validators.write_to(fields);
}

async fn put(store: &Arc<Store>, parts: &Parts, key: &[u8], body: &mut RequestBody) -> Answer {
    if parts.headers.contains_key(CONTENT_RANGE) {
        let detail = "A PUT stores a whole value; a part of one, as Content-Range says, is not \
                      taken. Send the whole value without Content-Range.";
        return Err(Problem::bad_request("content-range", detail));
    }
    let conditions = conditions(&parts.headers)?;
    let meta = Meta::pick(&parts.headers).map_err(|error| meta_problem(&error))?;
    // Neither look is the last word; both spare the client a body that nobody wants.
    store.check_fence().map_err(|error| Problem::write(&error))?;
    if conditions != Conditions::default() {
        fails_already(store, key, &conditions)?;
    }
    let body = take_in(store, body).await?;
    write(store, Write { key: key.to_vec(), conditions, action: Action::Put(meta, body) }).await
}

/// Takes in the body of a PUT.
pub(super) async fn take_in(
    store: &Arc<Store>,
    body: &mut RequestBody,
) -> Result<NewBody, Problem> {
    let length = body.size_hint().exact();
    let bytes_max = store.options().value_bytes_max;
    receive(store, body, length).await.map_err(|error| upload_problem(error, bytes_max))
}

/// What is said of a body that was not taken in, of which there may be so many bytes.
pub(super) fn upload_problem(error: UploadError, bytes_max: u64) -> Problem {
    match error {
        UploadError::TooLong => Problem::too_large(bytes_max),
        UploadError::TooSlow => Problem::too_slow(),
        // Nobody is there to read it, most likely.
        UploadError::Broken => Problem::bad_request("body", "The body ended early. Send it whole."),
        UploadError::Write(error) => Problem::write(&error),
    }
}

pub(super) fn meta_problem(error: &MetaError) -> Problem {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    Problem::new(status, "fields", "The fields to be kept are too long", format!("{error}."))
}

/// Refuses a write whose conditions do not hold before its body is asked for.
fn fails_already(store: &Store, key: &[u8], conditions: &Conditions) -> Result<(), Problem> {
    let record = store.view().record(key).map_err(|error| unreadable(&error))?;
    let validators = record.as_ref().map(Validators::of);
    match conditions.for_write(validators.as_ref().map(Validators::current)) {
        Verdict::Failed => Err(Problem::precondition_failed()),
        Verdict::Proceed | Verdict::NotModified => Ok(()),
    }
}

async fn delete(store: &Arc<Store>, parts: &Parts, key: &[u8]) -> Answer {
    let conditions = conditions(&parts.headers)?;
    write(store, Write { key: key.to_vec(), conditions, action: Action::Delete }).await
}

async fn write(store: &Arc<Store>, write: Write) -> Answer {
    let written = store.write(write).await.map_err(|error| Problem::write(&error))?;
    let mut response = Response::new(Body::empty());
    let (status, record) = match written {
        Written::Created(record) => (StatusCode::CREATED, Some(record)),
        Written::Replaced(record) => (StatusCode::NO_CONTENT, Some(record)),
        Written::Deleted => (StatusCode::NO_CONTENT, None),
        Written::Missing => return Err(Problem::not_found()),
        Written::ConditionFailed => return Err(Problem::precondition_failed()),
    };
    *response.status_mut() = status;
    if let Some(record) = record {
        Validators::of(&record).write_to(response.headers_mut());
    }
    Ok(response)
}

async fn answer_own(store: &Arc<Store>, path: &str, query: Option<&str>) -> Answer {
    let query = query.unwrap_or_default();
    if path == "list" {
        let query = Query::parse(query)
            .map_err(|error| Problem::bad_request("list", format!("{error}.")))?;
        let store = Arc::clone(store);
        let page = on_disk(move || store.view().list(&query)).await?;
        let page = page.map_err(|error| unreadable(&error))?;
        return Ok(json(StatusCode::OK, &page));
    }
    let (reads, writes) = match path {
        "health" => (true, false),
        "health/read" => (true, false),
        "health/write" => (false, true),
        _ => {
            let detail = "Under /_ringway/ there are list, health, health/read and health/write.";
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "no-such-page",
                "There is no such page",
                detail,
            ));
        }
    };
    if !query.is_empty() {
        return Err(Problem::bad_request("query", "Ask for health without a query."));
    }
    let own = Arc::clone(store);
    let health = on_disk(move || own.health()).await?;
    let totals = store.totals();
    let sick = (reads && health.read.is_err()) || (writes && health.write.is_err());
    let status = if sick { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let side = |side: &Result<(), String>| match side {
        Ok(()) => serde_json::json!({ "ok": true }),
        Err(reason) => serde_json::json!({ "ok": false, "reason": reason }),
    };
    let text = serde_json::json!({
        "store": store.id().to_string(),
        "read": side(&health.read),
        "write": side(&health.write),
        "objects": totals.objects,
        "bytes": totals.bytes,
    });
    Ok(json(status, &text))
}

pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    let text = serde_json::to_vec(value).expect("plain values serialize");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    *response.body_mut() = Body::memory(text.into());
    response
}

/// Runs what may wait for the disk where no connection waits for it.
pub(super) async fn on_disk<T: Send + 'static>(
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let gone = |_| Problem::write(&WriteError::Busy);
    tokio::task::spawn_blocking(look).await.map_err(gone)
}

/// Reads and drops what is left of a body for a while, without holding back the answer. A client
/// that waits for `100 Continue` sends none, and is not asked to.
fn linger(store: &Store, parts: &Parts, mut body: RequestBody) {
    if body.is_end_stream() || parts.headers.contains_key(EXPECT) {
        return;
    }
    let patience = store.options().timeouts.linger;
    tokio::spawn(tokio::time::timeout(patience, async move {
        let mut left = LINGER_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            left = match left.checked_sub(length) {
                Some(left) => left,
                None => break,
            };
        }
    }));
}
