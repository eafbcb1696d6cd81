//! How does a body reach a store that is not held as a whole?

use std::time::Duration;

use super::ask::Ask;
use super::calls::{Committed, Replica, Staged, Times, committed, staged};
use super::fault::Fault;
use super::line::{Line, Means, open};
use crate::net::http1::chunked::{CHUNK_HEAD_BYTES, chunk_head};
use crate::net::http1::framing::Framing;
use crate::net::splice::Lane;
use crate::net::timers::Timer;
use crate::net::upstream::Upstream;
use crate::net::wire::{Pace, Turn, WireError};

/// A request whose body is being sent. Dropped before its end, the connection is reset, so that
/// the store sees at once that the rest will not come.
pub struct Upload<'a> {
    replica: &'a Replica<'a>,
    means: &'a Means,
    timer: &'a Timer,
    /// `None` once the end was sent.
    upstream: Option<Upstream>,
    is_chunked: bool,
    /// Bytes of the body that were sent.
    sent: u64,
    turn: Turn,
}

impl<'a> Upload<'a> {
    pub(super) async fn begin(
        replica: &'a Replica<'a>,
        means: &'a Means,
        timer: &'a Timer,
        ask: &Ask<'_>,
        length: Option<u64>,
    ) -> Result<Self, Fault> {
        let framing = length.map_or(Framing::Chunked, Framing::Length);
        let mut head = means.buffers.text();
        ask.write(&mut head, replica.address, &replica.standing(), framing);
        let upstream = open(replica, means, timer, false, true).await?;
        let mut upload = Self {
            replica,
            means,
            timer,
            upstream: Some(upstream),
            is_chunked: framing == Framing::Chunked,
            sent: 0,
            turn: Turn::default(),
        };
        upload.send([&head, b"", b""]).await?;
        Ok(upload)
    }

    async fn send(&mut self, parts: [&[u8]; 3]) -> Result<(), Fault> {
        let upstream = self.upstream.as_ref().expect("only its end takes the connection");
        let mut pace = Pace::idle(self.replica.times.idle);
        let sent = upstream.wire.write_all(self.timer, parts, &mut pace).await;
        self.judge(sent).await
    }

    async fn judge(&mut self, sent: Result<(), WireError>) -> Result<(), Fault> {
        if sent.is_ok() {
            return Ok(());
        }
        // It takes no more. Its answer may still say why.
        let upstream = self.upstream.take().expect("it was there");
        let line = Line::finish(self.replica, self.means, self.timer, upstream, false).await?;
        Err(line.refusal(self.timer).await)
    }

    /// Sends the next bytes of the body.
    ///
    /// # Errors
    /// [`Fault`]; nothing more can be sent.
    ///
    /// # Panics
    /// When it is called again after a fault.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut line = [0; CHUNK_HEAD_BYTES];
        let (before, after): (&[u8], &[u8]) = match self.is_chunked {
            true => (chunk_head(&mut line, bytes.len()), b"\r\n"),
            false => (b"", b""),
        };
        self.send([before, bytes, after]).await?;
        self.sent += bytes.len() as u64;
        self.turn.moved(bytes.len()).await;
        Ok(())
    }

    /// Sends the next bytes of the body, which wait in a lane. Only for a body of known length, to a
    /// store that is reached in the clear.
    ///
    /// # Errors
    /// [`Fault`]; nothing more can be sent.
    ///
    /// # Panics
    /// When it is called again after a fault.
    pub async fn write_load(&mut self, lane: &Lane, bytes: usize) -> Result<(), Fault> {
        let upstream = self.upstream.as_ref().expect("only its end takes the connection");
        let mut pace = Pace::idle(self.replica.times.idle);
        let sent = upstream.wire.splice_lane(self.timer, lane, bytes, &mut pace).await;
        self.judge(sent).await?;
        self.sent += bytes as u64;
        self.turn.moved(bytes).await;
        Ok(())
    }

    async fn end(mut self) -> Result<Line, Fault> {
        if self.is_chunked {
            self.send([b"0\r\n\r\n", b"", b""]).await?;
        }
        let upstream = self.upstream.take().expect("a fault ends it before");
        let Times { answer, .. } = self.replica.times;
        let times = Times { answer: answer + syncing(self.sent), ..self.replica.times };
        let replica = Replica { times, ..*self.replica };
        Line::finish(&replica, self.means, self.timer, upstream, true).await
    }

    /// Ends the body of a stage.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn staged(self) -> Result<Staged, Fault> {
        let timer = self.timer;
        staged(self.end().await?, timer).await
    }

    /// Ends the body of a put.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn put(self) -> Result<Committed, Fault> {
        let timer = self.timer;
        committed(self.end().await?, timer).await
    }
}

/// How much longer than other requests a body of so many bytes may take from its last byte to the
/// answer: the store has it on its disk by then. A disk that is slower than 8 MB a second beside its
/// other work is of no use for bodies of such a size.
#[must_use]
pub fn syncing(bytes: u64) -> Duration {
    const BYTES_PER_MS: u64 = 8_000;
    Duration::from_millis(bytes / BYTES_PER_MS)
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if let Some(upstream) = &self.upstream {
            upstream.wire.abort();
        }
    }
}
