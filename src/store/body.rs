//! How do a value's bytes reach the connection?
//!
//! Small values are in memory. Large ones are read from their file piece by piece on the blocking
//! pool, one piece ahead of the connection: a slow client holds two pieces of memory and no
//! thread.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use prometheus::IntCounter;
use tokio::task::JoinHandle;

use crate::store::engine::Share;
use crate::store::patience::Busy;

/// The body of an answer.
#[derive(Debug)]
pub struct Body {
    source: Source,
    sent: Option<IntCounter>,
    /// Until the body is dropped the connection waits for us and not for the client's next head.
    _busy: Option<Busy>,
}

#[derive(Debug)]
enum Source {
    Memory(Bytes),
    File { left: u64, share: Share, reading: JoinHandle<io::Result<(File, Bytes)>> },
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::memory(Bytes::new())
    }

    /// These bytes.
    #[must_use]
    pub fn memory(bytes: Bytes) -> Self {
        Self { source: Source::Memory(bytes), sent: None, _busy: None }
    }

    /// The next `length` bytes of a file, in pieces as large as `share` has it. To be called
    /// within a runtime.
    #[must_use]
    pub(super) fn file(file: File, length: u64, share: Share) -> Self {
        if length == 0 {
            return Self::empty();
        }
        let reading = read(file, length, &share);
        let source = Source::File { left: length, share, reading };
        Self { source, sent: None, _busy: None }
    }

    /// Counts the bytes that are handed to the connection.
    #[must_use]
    pub(super) fn counted(mut self, counter: &IntCounter) -> Self {
        self.sent = Some(counter.clone());
        self
    }

    /// Keeps `busy` until the body has been sent or given up.
    #[must_use]
    pub(super) fn keeping(mut self, busy: Busy) -> Self {
        self._busy = Some(busy);
        self
    }
}

fn read(mut file: File, left: u64, share: &Share) -> JoinHandle<io::Result<(File, Bytes)>> {
    let length = share.buffer_bytes.min(usize::try_from(left).unwrap_or(usize::MAX));
    tokio::task::spawn_blocking(move || {
        let mut piece = Vec::with_capacity(length);
        Read::by_ref(&mut file).take(length as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut short"));
        }
        Ok((file, piece.into()))
    })
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match &mut self.source {
            Source::Memory(bytes) => std::mem::take(bytes),
            Source::File { left: 0, .. } => Bytes::new(),
            Source::File { left, share, reading } => {
                let read_piece = ready!(Pin::new(&mut *reading).poll(cx));
                match read_piece.map_err(io::Error::other).flatten() {
                    Ok((file, piece)) => {
                        *left -= piece.len() as u64;
                        if *left > 0 {
                            *reading = read(file, *left, share);
                        }
                        piece
                    }
                    Err(error) => {
                        // The connection is cut, which is how the client learns of it.
                        self.source = Source::Memory(Bytes::new());
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        };
        if piece.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(sent) = &self.sent {
            sent.inc_by(piece.len() as u64);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Memory(bytes) => bytes.is_empty(),
            Source::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.source {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File { left, .. } => *left,
        })
    }
}
