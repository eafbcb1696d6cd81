//! How does an answer's body reach the client?
//!
//! Piece by piece: what was read is written before more is read, so a slow client slows the shard
//! and never fills memory. A large body of known length goes through pipes instead, where both
//! sides are TCP in the clear (see [`splice`](crate::net::splice)) and nobody has to look at its
//! bytes ([`Proof`]); what is said of pieces holds of both.

use super::outcome::TryError;
use super::proof::Proof;
use super::seam::Answer;
use super::view::{Pool, Shard};
use super::worker::Worker;
use crate::net::buffer::ReadBuffer;
use crate::net::http1::chunked::{ChunkLimits, Decoder, Step, trailer_fields};
use crate::net::http1::framing::Framing;
use crate::net::splice::{SPLICED_BYTES_MIN, Spliced};
use crate::net::timers::Timer;
use crate::net::upstream::UpstreamStream;
use crate::net::wire::{Pace, Turn, Wire, WireError};

/// What a shard's chunked answer may carry beside data.
const CHUNK_LIMITS: ChunkLimits =
    ChunkLimits { extension_bytes_max: 16 * 1024, trailer_bytes_max: 16 * 1024 };

/// One answer's body under way.
pub(super) struct Relay<'a> {
    pub(super) worker: &'a Worker,
    pub(super) timer: &'a Timer,
    pub(super) pool: &'a Pool,
    pub(super) shard: &'a Shard,
    pub(super) wire: &'a Wire<UpstreamStream>,
    /// Begins with what came together with the head. What is left at the end nobody asked for.
    pub(super) buffer: ReadBuffer,
    pub(super) pace: Pace,
    pub(super) trailers_wanted: bool,
    pub(super) received: u64,
    /// Of a whole value that a pool keeps: it looks at each byte, so that none goes by pipe.
    pub(super) proof: Option<&'a mut Proof>,
}

impl Relay<'_> {
    /// Passes the whole body on, and the answer's end.
    pub(super) async fn run<A: Answer>(
        &mut self,
        framing: Framing,
        answer: &mut A,
    ) -> Result<(), TryError> {
        let result = match framing {
            Framing::None => answer.end(b"").await.map_err(TryError::from),
            Framing::Chunked => self.chunks(answer).await,
            Framing::Length(length) => self.bytes(Some(length), answer).await,
            Framing::UntilClose => self.bytes(None, answer).await,
        };
        self.shard.metrics.rx_bytes.add(self.worker.stripe, self.received);
        result
    }

    /// So many bytes, or all until the connection ends.
    async fn bytes<A: Answer>(
        &mut self,
        length: Option<u64>,
        answer: &mut A,
    ) -> Result<(), TryError> {
        let mut left = length.unwrap_or(u64::MAX);
        let by_pipe = length.is_some_and(|length| length >= SPLICED_BYTES_MIN)
            && answer.takes_pipes()
            && self.wire.is_clear()
            && self.proof.is_none();
        let mut overflowed = false;
        let mut turn = Turn::default();
        loop {
            let bytes = self.buffer.filled();
            let here = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if here > 0 {
                if let Some(proof) = &mut self.proof
                    && !proof.admits(&bytes[..here], left)
                {
                    return Err(TryError::AnswerBroke);
                }
                answer.data(&bytes[..here]).await?;
                self.buffer.consume(here);
                left -= here as u64;
                self.received += here as u64;
                turn.moved(here).await;
            }
            while by_pipe && left > 0 {
                let Some(piped) = self.piece(left, answer).await? else {
                    if !std::mem::replace(&mut overflowed, true) {
                        self.pool.metrics.pipe_overflow.inc(self.worker.stripe);
                    }
                    break;
                };
                left -= piped as u64;
                turn.moved(piped).await;
            }
            if left == 0 || !self.more(left, length.is_none(), answer).await? {
                return Ok(answer.end(b"").await?);
            }
        }
    }

    /// Passes the next piece on in a pipe, the client having all that came before; gives its
    /// length. `None`: there is no pipe.
    async fn piece<A: Answer>(
        &mut self,
        left: u64,
        answer: &mut A,
    ) -> Result<Option<usize>, TryError> {
        answer.flush().await?;
        let pipes = &self.worker.pipes;
        match self.wire.splice_in(self.timer, pipes, left, &mut self.pace).await {
            Ok(Spliced::Piped(mut pipe)) => {
                let bytes = pipe.held();
                answer.piped(&mut pipe).await?;
                self.received += bytes as u64;
                Ok(Some(bytes))
            }
            Ok(Spliced::NoPipe) => Ok(None),
            Ok(Spliced::Ended) | Err(WireError::Broken(_) | WireError::TimedOut) => {
                Err(TryError::AnswerBroke)
            }
        }
    }

    async fn chunks<A: Answer>(&mut self, answer: &mut A) -> Result<(), TryError> {
        let mut decoder = Decoder::new(CHUNK_LIMITS);
        let mut turn = Turn::default();
        loop {
            let (used, step) =
                decoder.step(self.buffer.filled()).map_err(|_| TryError::AnswerBroke)?;
            if let Step::Data(range) = &step {
                answer.data(&self.buffer.filled()[range.clone()]).await?;
                self.received += range.len() as u64;
                turn.moved(range.len()).await;
            }
            self.buffer.consume(used);
            match step {
                Step::Data(_) => {}
                Step::End => break,
                Step::NeedMore => {
                    self.more(u64::MAX, false, answer).await?;
                }
            }
        }
        let mut trailers = self.worker.buffers.text();
        // Trailers that may not be passed on are left out: the data before them was sound.
        if self.trailers_wanted && trailer_fields(decoder.trailers(), &mut trailers).is_err() {
            trailers.clear();
        }
        Ok(answer.end(&trailers).await?)
    }

    /// Reads on, the client having all that is there. False at an end that is allowed.
    async fn more<A: Answer>(
        &mut self,
        left: u64,
        may_end: bool,
        answer: &mut A,
    ) -> Result<bool, TryError> {
        answer.flush().await?;
        match self.wire.read_body(self.timer, &mut self.buffer, left, &mut self.pace).await {
            Ok(0) if may_end => Ok(false),
            Ok(0) | Err(_) => Err(TryError::AnswerBroke),
            Ok(_) => Ok(true),
        }
    }
}
