//! How do a value's bytes reach the connection?
//!
//! Small values are in memory. Large ones are read from their file piece by piece on the blocking
//! pool, one piece ahead of the connection: a slow client holds two pieces of memory and no
//! thread.
//!
//! A body of a pool that keeps data is *watched*: what the disk lost is noted before the connection
//! is cut for it ([`damage`](crate::store::replica::damage)).

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
use crate::store::replica::damage::{BY_READING, Suspect, is_loss};

/// The body of an answer.
pub struct Body {
    source: Source,
    /// The value that is watched.
    suspect: Option<Suspect>,
    sent: Option<IntCounter>,
    /// Until the body is dropped the connection waits for us and not for the client's next head.
    _busy: Option<Busy>,
}

#[derive(Debug)]
enum Source {
    Memory(Bytes),
    File {
        left: u64,
        share: Share,
        reading: JoinHandle<io::Result<(Reading, Bytes)>>,
    },
    /// The rest will not come, and that is being noted.
    Failing {
        noting: JoinHandle<()>,
        error: Option<io::Error>,
    },
}

/// A file, and what was read of it so far.
#[derive(Debug)]
struct Reading {
    file: File,
    watch: Option<Watch>,
}

/// Compares what is read with what was taken in.
struct Watch {
    suspect: Suspect,
    /// Of all bytes so far; `None` where not all are read.
    hasher: Option<Box<blake3::Hasher>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
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
        Self { source: Source::Memory(bytes), suspect: None, sent: None, _busy: None }
    }

    /// The next `length` bytes of a file, in pieces as large as `share` has it. To be called
    /// within a runtime.
    #[must_use]
    pub(super) fn file(file: File, length: u64, share: Share) -> Self {
        Self::read(Reading { file, watch: None }, length, share)
    }

    /// The same of a value that is noted as damaged if these are not its bytes: by their digest if
    /// they are all of them.
    #[must_use]
    pub(super) fn watched(
        file: File,
        length: u64,
        share: Share,
        suspect: Suspect,
        is_whole: bool,
    ) -> Self {
        let hasher = is_whole.then(Box::default);
        Self::read(Reading { file, watch: Some(Watch { suspect, hasher }) }, length, share)
    }

    fn read(reading: Reading, length: u64, share: Share) -> Self {
        if length == 0 {
            return Self::empty();
        }
        let suspect = reading.watch.as_ref().map(|watch| watch.suspect.clone());
        let reading = read(reading, length, &share);
        let source = Source::File { left: length, share, reading };
        Self { source, suspect, sent: None, _busy: None }
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

fn read(
    mut reading: Reading,
    left: u64,
    share: &Share,
) -> JoinHandle<io::Result<(Reading, Bytes)>> {
    let length = share.buffer_bytes.min(usize::try_from(left).unwrap_or(usize::MAX));
    tokio::task::spawn_blocking(move || {
        let mut piece = Vec::with_capacity(length);
        Read::by_ref(&mut reading.file).take(length as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut short"));
        }
        if let Some(Watch { suspect, hasher: Some(hasher) }) = &mut reading.watch {
            hasher.update(&piece);
            let is_last = piece.len() as u64 == left;
            if is_last && !suspect.is_of(&hasher.finalize()) {
                let why = "its bytes are not those that were taken in";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        Ok((reading, piece.into()))
    })
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = loop {
            let read_piece = match &mut self.source {
                Source::Memory(bytes) => break std::mem::take(bytes),
                Source::File { left: 0, .. } => break Bytes::new(),
                Source::File { left, share, reading } => {
                    let read_piece = ready!(Pin::new(&mut *reading).poll(cx));
                    let read_piece = read_piece.map_err(io::Error::other).flatten();
                    read_piece.map(|(file, piece)| {
                        *left -= piece.len() as u64;
                        if *left > 0 {
                            *reading = read(file, *left, share);
                        }
                        piece
                    })
                }
                Source::Failing { noting, error } => {
                    // Whether it could be noted, the log says.
                    let _ = ready!(Pin::new(noting).poll(cx));
                    let error = error.take();
                    self.source = Source::Memory(Bytes::new());
                    // The connection is cut, which is how the client learns of it.
                    return Poll::Ready(error.map(Err));
                }
            };
            match (read_piece, self.suspect.take()) {
                (Ok(piece), suspect) => {
                    self.suspect = suspect;
                    break piece;
                }
                (Err(error), Some(suspect)) if is_loss(&error) => {
                    let why = error.to_string();
                    let noting = tokio::spawn(async move { suspect.note(BY_READING, &why).await });
                    self.source = Source::Failing { noting, error: Some(error) };
                }
                (Err(error), _) => {
                    self.source = Source::Memory(Bytes::new());
                    return Poll::Ready(Some(Err(error)));
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
            Source::Failing { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.source {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File { left, .. } => *left,
            // It was told, and does not come.
            Source::Failing { .. } => 1,
        })
    }
}
