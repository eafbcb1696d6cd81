//! How does a request's body come in over HTTP/2?
//!
//! What the client may send is bounded by its stream's window, and the window opens again only for
//! what went on to the shard: so a slow shard slows its client, and no more than the window is ever
//! held. That the content is as long as announced, the library has made sure of.

use std::cell::RefCell;

use bytes::Bytes;
use h2::{FlowControl, RecvStream};
use http::{Response, StatusCode};

use super::super::seam::Upload;
use super::super::site::Site;
use super::request::write_trailers;
use super::sender::Sender;
use crate::dispatch::seam::{Body, BodyError, Part};
use crate::net::http1::chunked::{ChunkError, trailer_fields};
use crate::net::timers::Timer;
use crate::net::wire::Pace;

/// A request's body, read from its stream as it is asked for.
pub(super) struct StreamBody<'a> {
    site: &'a Site,
    timer: &'a Timer,
    sender: &'a RefCell<Sender>,
    stream: RecvStream,
    /// None if there is no content: a handle has its price.
    window: Option<FlowControl>,
    /// What was given out last; its window is still closed.
    given: Bytes,
    pace: Pace,
    trailers: Vec<u8>,
    /// Whether the client waits to be told to send.
    waits: bool,
    ended: bool,
    received: u64,
}

impl<'a> StreamBody<'a> {
    pub(super) fn new(
        site: &'a Site,
        timer: &'a Timer,
        sender: &'a RefCell<Sender>,
        mut stream: RecvStream,
        waits: bool,
        pace: Pace,
    ) -> Self {
        // A client that has begun to send does not wait (RFC 9110, section 10.1.1).
        let ended = stream.is_end_stream();
        let window = (!ended).then(|| stream.flow_control().clone());
        let waits = waits && window.as_ref().is_none_or(|window| window.used_capacity() == 0);
        Self {
            ended,
            site,
            timer,
            sender,
            stream,
            window,
            given: Bytes::new(),
            pace,
            trailers: Vec::new(),
            waits,
            received: 0,
        }
    }

    /// Opens the window for what was given out, which by now has gone on.
    fn release(&mut self) {
        let given = std::mem::take(&mut self.given);
        if let Some(window) = self.window.as_mut().filter(|_| !given.is_empty()) {
            // A stream that was reset meanwhile has no window; the next read says so.
            let _: Result<(), h2::Error> = window.release_capacity(given.len());
        }
    }

    /// The next data; `None` at their end.
    async fn data(&mut self) -> Result<Option<Bytes>, BodyError> {
        let (stream, timer) = (&mut self.stream, self.timer);
        let waited = self.pace.wait(timer, |cx| {
            stream.poll_data(cx).map(|data| match data {
                None => (0, Ok(None)),
                Some(Ok(bytes)) => (bytes.len(), Ok(Some(bytes))),
                // Whether reset by the client or by the library, it is known already.
                Some(Err(_)) => (0, Err(BodyError::Gone)),
            })
        });
        waited.await.unwrap_or(Err(BodyError::TooSlow))
    }

    async fn read_trailers(&mut self) -> Result<(), BodyError> {
        let (stream, timer) = (&mut self.stream, self.timer);
        let waited = self.pace.wait(timer, |cx| stream.poll_trailers(cx).map(|done| (0, done)));
        let trailers = waited.await.ok_or(BodyError::TooSlow)?.map_err(|_| BodyError::Gone)?;
        let Some(trailers) = trailers else { return Ok(()) };
        let mut section = Vec::new();
        write_trailers(&mut section, &trailers).map_err(|_| ChunkError::Trailer)?;
        if section.len() > self.site.limits.trailer_bytes_max {
            return Err(ChunkError::TrailersTooLarge.into());
        }
        Ok(trailer_fields(&section, &mut self.trailers)?)
    }
}

impl Upload for StreamBody<'_> {
    fn received(&self) -> u64 {
        self.received
    }
}

impl Body for StreamBody<'_> {
    async fn next(&mut self) -> Result<Part<'_>, BodyError> {
        self.release();
        while !self.ended {
            match self.data().await? {
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => {
                    self.received += bytes.len() as u64;
                    if self.site.limits.body_bytes_max.is_some_and(|max| self.received > max) {
                        return Err(BodyError::TooLarge);
                    }
                    self.given = bytes;
                    return Ok(Part::Data(&self.given));
                }
                None => {
                    self.read_trailers().await?;
                    self.ended = true;
                }
            }
        }
        Ok(Part::End(&self.trailers))
    }

    async fn ask(&mut self) -> Result<(), BodyError> {
        if !std::mem::take(&mut self.waits) {
            return Ok(());
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::CONTINUE;
        self.sender.borrow_mut().interim(response).map_err(|_| BodyError::Gone)
    }

    fn has_more_here(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.used_capacity() > self.given.len())
    }

    fn is_complete(&self) -> bool {
        self.ended || self.stream.is_end_stream()
    }
}
