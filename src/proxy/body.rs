//! How does a request's body come in over HTTP/1.1?

use std::ops::Range;

use tokio::io::{AsyncRead, AsyncWrite};

use super::client::Client;
use super::seam::Upload;
use crate::dispatch::seam::{Body, BodyError, Part, Passage};
use crate::net::buffer::ReadBuffer;
use crate::net::http1::chunked::{ChunkLimits, Decoder, Step, trailer_fields};
use crate::net::http1::framing::Framing;
use crate::net::splice::{Pipes, SPLICED_BYTES_MIN, Spliced};
use crate::net::wire::{Pace, Transport, WireError};

enum State {
    Bytes { left: u64 },
    Chunks(Decoder),
    Ended,
}

/// A request's body, read from the client as it is asked for.
pub(super) struct RequestBody<'a, S> {
    client: &'a Client<'a, S>,
    /// Begins with what came behind the head; holds at the end what came behind the body. None:
    /// there is no body.
    buffer: Option<ReadBuffer>,
    /// Bytes at the buffer's front that were given out.
    given: usize,
    state: State,
    /// Whether it comes in pipes, once what came with the head is used.
    by_pipe: bool,
    pace: Pace,
    trailers: Vec<u8>,
    /// Whether the client waits to be told to send.
    waits: bool,
    received: u64,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin + Transport> RequestBody<'a, S> {
    /// A body of which `buffer` holds the first bytes, if any came; `None` for no body.
    pub(super) fn new(
        client: &'a Client<'a, S>,
        buffer: Option<ReadBuffer>,
        framing: Framing,
        expects_continue: bool,
    ) -> Self {
        let limits = &client.site.limits;
        let state = match framing {
            Framing::None | Framing::UntilClose => State::Ended,
            Framing::Length(left) => State::Bytes { left },
            Framing::Chunked => State::Chunks(Decoder::new(ChunkLimits {
                extension_bytes_max: limits.chunk_extension_bytes_max,
                trailer_bytes_max: limits.trailer_bytes_max,
            })),
        };
        // A client that has begun to send does not wait (RFC 9110, section 10.1.1).
        let waits = expects_continue && buffer.as_ref().is_some_and(ReadBuffer::is_empty);
        Self {
            pace: client.body_pace(),
            trailers: Vec::new(),
            client,
            buffer,
            given: 0,
            by_pipe: matches!(framing, Framing::Length(SPLICED_BYTES_MIN..))
                && client.wire.is_clear(),
            state,
            waits,
            received: 0,
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.received += bytes as u64;
        match self.client.site.limits.body_bytes_max {
            Some(max) if self.received > max => Err(BodyError::TooLarge),
            _ => Ok(()),
        }
    }

    /// Gives back what came behind the body: the next request. `None` if there was no body.
    pub(super) fn into_rest(mut self) -> Option<ReadBuffer> {
        if let Some(buffer) = &mut self.buffer {
            buffer.consume(self.given);
            buffer.shrink();
        }
        self.buffer
    }

    /// Finds the next data in the buffer, reading as needed. `None`: the end.
    async fn find(&mut self) -> Result<Option<Range<usize>>, BodyError> {
        let Some(buffer) = &mut self.buffer else { return Ok(None) };
        buffer.consume(std::mem::take(&mut self.given));
        loop {
            match &mut self.state {
                State::Ended => return Ok(None),
                State::Bytes { left: 0 } => self.state = State::Ended,
                State::Bytes { left } if !buffer.is_empty() => {
                    let here = buffer.filled().len();
                    let here = here.min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= here as u64;
                    return Ok(Some(0..here));
                }
                State::Bytes { left } => {
                    let left = *left;
                    read(self.client, buffer, &mut self.pace, left).await?;
                }
                State::Chunks(decoder) => {
                    let (used, step) = decoder.step(buffer.filled())?;
                    match step {
                        Step::Data(range) => {
                            buffer.consume(range.start);
                            return Ok(Some(0..range.len()));
                        }
                        Step::End => {
                            trailer_fields(decoder.trailers(), &mut self.trailers)?;
                            self.state = State::Ended;
                            buffer.consume(used);
                        }
                        Step::NeedMore => {
                            buffer.consume(used);
                            read(self.client, buffer, &mut self.pace, u64::MAX).await?;
                        }
                    }
                }
            }
        }
    }
}

/// Reads on; `left` is the most that the body still has.
async fn read<S: AsyncRead + AsyncWrite + Unpin + Transport>(
    client: &Client<'_, S>,
    buffer: &mut ReadBuffer,
    pace: &mut Pace,
    left: u64,
) -> Result<(), BodyError> {
    match client.wire.read_body(client.timer, buffer, left, pace).await {
        Ok(0) | Err(WireError::Broken(_)) => Err(BodyError::Gone),
        Ok(_) => Ok(()),
        Err(WireError::TimedOut) => Err(BodyError::TooSlow),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Transport> Upload for RequestBody<'_, S> {
    fn received(&self) -> u64 {
        self.received
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Transport> Body for RequestBody<'_, S> {
    async fn next(&mut self) -> Result<Part<'_>, BodyError> {
        let Some(range) = self.find().await? else { return Ok(Part::End(&self.trailers)) };
        self.count(range.len())?;
        self.given = range.len();
        let buffer = self.buffer.as_ref().expect("data was found in it");
        Ok(Part::Data(&buffer.filled()[range]))
    }

    async fn next_piped(&mut self, pipes: &Pipes) -> Result<Passage, BodyError> {
        let (true, Some(buffer), State::Bytes { left }) =
            (self.by_pipe, &mut self.buffer, &mut self.state)
        else {
            return Ok(Passage::Copied);
        };
        buffer.consume(std::mem::take(&mut self.given));
        if !buffer.is_empty() || *left == 0 {
            return Ok(Passage::Copied);
        }
        let client = self.client;
        match client.wire.splice_in(client.timer, pipes, *left, &mut self.pace).await {
            Ok(Spliced::Piped(pipe)) => {
                *left -= pipe.held() as u64;
                self.count(pipe.held())?;
                Ok(Passage::Piped(pipe))
            }
            Ok(Spliced::NoPipe) => Ok(Passage::NoPipe),
            Ok(Spliced::Ended) | Err(WireError::Broken(_)) => Err(BodyError::Gone),
            Err(WireError::TimedOut) => Err(BodyError::TooSlow),
        }
    }

    async fn ask(&mut self) -> Result<(), BodyError> {
        if !std::mem::take(&mut self.waits) {
            return Ok(());
        }
        let told = self.client.write([b"HTTP/1.1 100 Continue\r\n\r\n"], &mut self.pace).await;
        told.map_err(|error| match error {
            WireError::TimedOut => BodyError::TooSlow,
            WireError::Broken(_) => BodyError::Gone,
        })
    }

    fn has_more_here(&self) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| buffer.filled().len() > self.given)
    }

    fn is_complete(&self) -> bool {
        matches!(self.state, State::Ended | State::Bytes { left: 0 })
    }
}
