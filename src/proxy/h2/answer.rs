//! How does an answer go out over HTTP/2?
//!
//! The shard's head is read into a map once, without what concerns only its hop (RFC 9113, section
//! 8.2.2). Content is copied into buffers of the worker and given to the library as far as the
//! client's windows and our own bound for each stream allow; then it waits, at the pace that a
//! client of HTTP/1.1 has. The last bytes are held back so that the frame that carries them ends
//! the stream.

use std::cell::RefCell;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, EXPIRES, HeaderName, HeaderValue,
    LAST_MODIFIED, RETRY_AFTER,
};
use http::{HeaderMap, Response, StatusCode};

use super::super::answer::tells_outcome;
use super::super::client::Local;
use super::super::exchange::Exchange;
use super::super::problem::{Problem, ProblemAbout};
use super::super::seam::{Reply, Version};
use super::sender::Sender;
use crate::dispatch::seam::{About, Answer, ClientGone};
use crate::ids::digits::write_number;
use crate::net::buffer::{SMALL_BYTES, TextBuffer};
use crate::net::http1::framing::Framing;
use crate::net::http1::head::{Field, FieldKind};
use crate::net::http1::response::ResponseHead;
use crate::net::timers::Timer;
use crate::net::wire::{Pace, WireError};

/// An answer on its way to the client.
pub(super) struct StreamAnswer<'a> {
    local: &'a Local,
    timer: &'a Timer,
    sender: &'a RefCell<Sender>,
    request_id: &'a [u8; 16],
    head_asked: bool,
    /// A head that was not sent yet.
    head: Option<Response<()>>,
    /// Content that was not sent yet.
    held: TextBuffer,
    status: u16,
    sent: u64,
    too_slow: bool,
    pace: Pace,
}

const SHARD: HeaderName = HeaderName::from_static("ringway-shard");
const EPOCH: HeaderName = HeaderName::from_static("ringway-epoch");
const REQUEST_ID: HeaderName = HeaderName::from_static("ringway-request-id");
const ERROR: HeaderName = HeaderName::from_static("ringway-error");
const OUTCOME: HeaderName = HeaderName::from_static("ringway-outcome");

/// Fields of ours beside those of the shard, so that the map is made large enough once.
const OWN_FIELDS: usize = 4;

/// Bytes of their values, if the shard's name is not very long.
const OWN_VALUES_BYTES: usize = 128;

/// A value of letters, digits and marks.
fn value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).expect("our own values are printable")
}

/// A value that later answers will not have, so that it is kept out of the client's table of fields
/// (RFC 7541, section 7.1.3). The library compares a field with all of its name in that table, which
/// is soon full of ids or dates.
fn passing(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// What the library says when the stream or its connection is gone.
fn gone(error: h2::Error) -> ClientGone {
    WireError::from(match error.is_io() {
        true => error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        false => io::Error::new(io::ErrorKind::ConnectionReset, error),
    })
    .into()
}

impl<'a> StreamAnswer<'a> {
    pub(super) fn new(
        exchange: &'a Exchange<'a>,
        timer: &'a Timer,
        sender: &'a RefCell<Sender>,
        head_asked: bool,
        pace: Pace,
    ) -> Self {
        let local = exchange.local;
        Self {
            local,
            timer,
            sender,
            request_id: &exchange.request_id,
            head_asked,
            head: None,
            held: local.worker.buffers.text(),
            status: 0,
            sent: 0,
            too_slow: false,
            pace,
        }
    }

    pub(super) fn timer(&self) -> &'a Timer {
        self.timer
    }

    pub(super) fn sender(&self) -> &'a RefCell<Sender> {
        self.sender
    }

    /// A response of this status, which has all its fields.
    fn set_head(&mut self, status: u16, fields: HeaderMap) {
        self.status = status;
        let mut response = Response::new(());
        *response.status_mut() =
            StatusCode::from_u16(status).expect("statuses are judged, or ours");
        *response.headers_mut() = fields;
        self.head = Some(response);
    }

    /// An answer of our own, with the fields that every answer has.
    fn set_own_head(&mut self, status: u16, mut fields: HeaderMap) {
        fields.insert(DATE, passing(value(&self.local.date())));
        fields.insert(REQUEST_ID, passing(value(self.request_id)));
        self.set_head(status, fields);
    }

    /// Sends the head, if it was not sent.
    fn send_head(&mut self, end: bool) -> Result<(), ClientGone> {
        match self.head.take() {
            Some(head) => self.sender.borrow_mut().head(head, end).map_err(gone),
            None => Ok(()),
        }
    }

    /// Sends bytes behind the head, as the windows allow.
    async fn send(&mut self, mut bytes: &[u8], end: bool) -> Result<(), ClientGone> {
        loop {
            let capacity = self.capacity(bytes.len()).await?;
            let (now, later) = bytes.split_at(capacity);
            let mut text = self.local.worker.buffers.text();
            text.extend_from_slice(now);
            let last = later.is_empty();
            self.sender.borrow_mut().data(text, end && last).map_err(gone)?;
            if last {
                return Ok(());
            }
            bytes = later;
        }
    }

    /// Sends what is held, behind the head; its buffer goes along if all of it may go.
    async fn send_held(&mut self, end: bool) -> Result<(), ClientGone> {
        let held = std::mem::replace(&mut self.held, self.local.worker.buffers.text());
        if self.capacity(held.len()).await? == held.len() {
            return self.sender.borrow_mut().data(held, end).map_err(gone);
        }
        self.send(&held, end).await
    }

    /// How many of `wanted` bytes may be sent; waits for one of them.
    async fn capacity(&mut self, wanted: usize) -> Result<usize, ClientGone> {
        let sender = self.sender;
        let mut capacity = 0;
        let waited = self.pace.wait(self.timer, |cx| {
            let polled = sender.borrow_mut().poll_capacity(cx, wanted);
            polled.map(|result| match result {
                Ok(bytes) => {
                    capacity = bytes;
                    (bytes, Ok(()))
                }
                Err(error) => (0, Err(gone(error))),
            })
        });
        match waited.await {
            Some(done) => done.map(|()| capacity),
            None => {
                self.too_slow = true;
                Err(WireError::TimedOut.into())
            }
        }
    }

    /// The shard's fields that go on, and whether `Date` is among them. `shared` begins with the
    /// whole head, and all values are parts of it.
    fn map(fields: &[Field], shared: &Bytes, keep_length: bool) -> (HeaderMap, bool) {
        let mut map = HeaderMap::with_capacity(fields.len() + OWN_FIELDS);
        let mut dated = false;
        for field in fields.iter().filter(|field| !field.nominated) {
            let (name, text) = (field.name.of_bytes(shared), field.value.of_bytes(shared));
            match field.kind {
                FieldKind::Connection
                | FieldKind::HopByHop
                | FieldKind::Te
                | FieldKind::TransferEncoding => continue,
                FieldKind::Ringway if !tells_outcome(field, shared) => continue,
                FieldKind::ContentLength if !keep_length => continue,
                FieldKind::Date => dated = true,
                _ => {}
            }
            let value = HeaderValue::from_maybe_shared(shared.slice_ref(text));
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
                let passes = matches!(name, DATE | EXPIRES | LAST_MODIFIED | CONTENT_RANGE);
                map.append(name, if passes { passing(value) } else { value });
            }
        }
        (map, dated)
    }
}

/// Text of which parts become values, without an allocation for each.
struct SharedText(Vec<u8>);

impl SharedText {
    /// Begins with a shard's head.
    fn new(whole: &[u8]) -> Self {
        let mut text = Vec::with_capacity(whole.len() + OWN_VALUES_BYTES);
        text.extend_from_slice(whole);
        Self(text)
    }

    /// Adds what is written.
    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let begin = self.0.len();
        write(&mut self.0);
        begin..self.0.len()
    }
}

/// A part of letters, digits and marks.
fn part(shared: &Bytes, part: Range<usize>) -> HeaderValue {
    HeaderValue::from_maybe_shared(shared.slice(part)).expect("our own values are printable")
}

impl Reply for StreamAnswer<'_> {
    type Watch<'w>
        = &'w RefCell<Sender>
    where
        Self: 'w;

    fn watch<'w>(&self) -> Self::Watch<'w>
    where
        Self: 'w,
    {
        self.sender
    }

    fn version(&self) -> Version {
        Version::Http2
    }

    fn status(&self) -> u16 {
        self.status
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn has_begun(&self) -> bool {
        self.sender.borrow().has_begun()
    }

    fn was_too_slow(&self) -> bool {
        self.too_slow
    }

    async fn problem(
        &mut self,
        problem: &Problem,
        about: &ProblemAbout<'_>,
        _upload_complete: bool,
    ) -> Result<(), ClientGone> {
        debug_assert!(!self.has_begun(), "an answer cannot be taken back");
        let json = problem.json(about);
        let mut fields = HeaderMap::with_capacity(8);
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        fields.insert(CONTENT_LENGTH, json.len().into());
        fields.insert(ERROR, HeaderValue::from_static(problem.kind));
        if let Some(outcome) = problem.outcome {
            fields.insert(OUTCOME, HeaderValue::from_static(outcome.as_str()));
        }
        if let Some(seconds) = problem.retry_after {
            fields.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = &problem.allow {
            fields.insert(ALLOW, value(allow.as_bytes()));
        }
        for (name, text) in &problem.fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a field's name");
            fields.insert(name, value(text.as_bytes()));
        }
        self.set_own_head(problem.status, fields);
        self.held.clear();
        if self.head_asked {
            return self.send_head(true);
        }
        self.sent = json.len() as u64;
        self.send_head(false)?;
        self.send(&json, true).await
    }

    async fn plain(
        &mut self,
        status: u16,
        fields: &[(&str, &str)],
        _upload_complete: bool,
    ) -> Result<(), ClientGone> {
        let mut map = HeaderMap::with_capacity(4);
        for (name, text) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a field's name");
            map.insert(name, value(text.as_bytes()));
        }
        if status != 204 {
            map.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        self.set_own_head(status, map);
        self.send_head(true)
    }
}

impl Answer for StreamAnswer<'_> {
    async fn interim(&mut self, head: &ResponseHead, whole: &[u8]) -> Result<(), ClientGone> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(head.status()).expect("a judged status");
        let shared = Bytes::copy_from_slice(whole);
        *response.headers_mut() = Self::map(head.fields(), &shared, false).0;
        self.sender.borrow_mut().interim(response).map_err(gone)
    }

    fn head(
        &mut self,
        head: &ResponseHead,
        whole: &[u8],
        framing: Framing,
        about: &About<'_>,
        _upload_complete: bool,
    ) {
        // What is announced is the shard's to say; but 204 has no length (RFC 9110, section 8.6).
        let keep_length = match framing {
            Framing::None => head.status() != 204,
            Framing::Length(_) => true,
            Framing::Chunked | Framing::UntilClose => false,
        };
        let mut text = SharedText::new(whole);
        let shard =
            about.shard.map(|shard| text.add(|out| out.extend_from_slice(shard.as_bytes())));
        let epoch = text.add(|out| write_number(out, about.epoch.0));
        let request_id = text.add(|out| out.extend_from_slice(self.request_id));
        let date = text.add(|out| out.extend_from_slice(&self.local.date()));
        let shared = Bytes::from(text.0);
        let (mut fields, dated) = Self::map(head.fields(), &shared, keep_length);
        if let Some(shard) = shard {
            fields.insert(SHARD, part(&shared, shard));
        }
        for (name, text) in about.fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a field's name");
            fields.insert(name, value(text.as_bytes()));
        }
        fields.insert(EPOCH, part(&shared, epoch));
        if !dated {
            fields.insert(DATE, passing(part(&shared, date)));
        }
        fields.insert(REQUEST_ID, passing(part(&shared, request_id)));
        self.set_head(head.status(), fields);
    }

    async fn flush(&mut self) -> Result<(), ClientGone> {
        self.send_head(false)?;
        if self.held.is_empty() { Ok(()) } else { self.send_held(false).await }
    }

    async fn data(&mut self, bytes: &[u8]) -> Result<(), ClientGone> {
        self.sent += bytes.len() as u64;
        if self.held.len() + bytes.len() <= SMALL_BYTES {
            self.held.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush().await?;
        self.send(bytes, false).await
    }

    async fn end(&mut self, trailers: &[u8]) -> Result<(), ClientGone> {
        let trailers = Some(trailers).filter(|lines| !lines.is_empty()).map(read_trailers);
        let trailers = trailers.filter(|trailers| !trailers.is_empty());
        let (no_content, no_trailers) = (self.held.is_empty(), trailers.is_none());
        let begun = self.head.is_none();
        self.send_head(no_content && no_trailers)?;
        if !no_content {
            self.send_held(no_trailers).await?;
        } else if begun && no_trailers {
            let nothing = self.local.worker.buffers.text();
            return self.sender.borrow_mut().data(nothing, true).map_err(gone);
        }
        match trailers {
            Some(trailers) => self.sender.borrow_mut().trailers(trailers).map_err(gone),
            None => Ok(()),
        }
    }
}

/// Reads rendered trailers into a map.
fn read_trailers(lines: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_fields_go_on_without_those_of_its_hop() {
        let whole = b"HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 2\r\n\
                      Transfer-Encoding: chunked\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
                      Ringway-Shard: theirs\r\nRingway-Outcome: unknown\r\nTrailer: t\r\n\
                      Upgrade: h2c\r\nProxy-Connection: close\r\nEmpty:\r\n\r\n";
        let mut head = ResponseHead::default();
        head.parse(whole, false).expect("an answer");
        let (map, dated) = StreamAnswer::map(head.fields(), &Bytes::from_static(whole), true);
        assert!(!dated);
        let fields: Vec<_> =
            map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(&str, &[u8]); 4] = [
            ("set-cookie", b"a"),
            ("set-cookie", b"b"),
            ("ringway-outcome", b"unknown"),
            ("empty", b""),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn trailers_are_read_as_they_were_written() {
        let map = read_trailers(b"A: b: c\r\nD:\r\n");
        assert_eq!(map["a"], "b: c");
        assert_eq!(map["d"], "");
        assert_eq!(map.len(), 2);
    }
}
