//! What can a store be asked about one key, and what does it answer?

use std::time::Duration;

use super::ask::{Ask, Standing};
use super::facts::Facts;
use super::fault::{Doubt, Fault};
use super::line::{Line, Means};
use super::upload::Upload;
use crate::drivers::http::Address;
use crate::ids::{Birth, ClusterId, PoolName, ShardId, StoreId, Token};
use crate::net::buffer::ReadBuffer;
use crate::net::http1::framing::Framing;
use crate::net::timers::Timer;
use crate::net::tls::ShardTls;
use crate::net::upstream::{Endpoint, Keep, Upstream, UpstreamKey};
use crate::protocol::holding::Effect;
use crate::protocol::replica::{PoolEpoch, Refusal, StageId};
use crate::version::Version;

/// How long a store may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// For a connection.
    pub connect: Duration,
    /// From the last byte of the request to the end of the answer's head.
    pub answer: Duration,
    /// Between two bytes of a body, in either direction.
    pub idle: Duration,
}

/// One store: where it is, and as whom it is spoken to.
#[derive(Clone, Copy)]
pub struct Replica<'a> {
    /// Where, as heads need it.
    pub address: &'a Address,
    /// Where, as sockets need it.
    pub endpoint: &'a Endpoint,
    /// How it is known, if it is reached by `https`.
    pub tls: &'a ShardTls,
    /// Whose connections are used.
    pub key: UpstreamKey,
    /// Moves when the store failed: connections from before are not used.
    pub connections: u64,
    /// How long connections are kept.
    pub keep: &'a Keep,
    /// How long it may take.
    pub times: Times,
    /// The pool, whose name space is meant.
    pub pool: &'a PoolName,
    /// The cluster that asks; zeros for a node without one.
    pub cluster: ClusterId,
    /// When the pool came to be.
    pub birth: Birth,
    /// The epoch under which it is asked.
    pub epoch: PoolEpoch,
    /// The store that the shard is bound to; `None` only where it is not bound yet, to ask for its
    /// state and to bind it.
    pub store: Option<StoreId>,
}

/// A body was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// The newest version that the store knows of for the key: of a value, a deletion, or what was
    /// collected of its slot.
    pub newest: Version,
}

/// A write was carried out, or is no longer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// What it has come to. [`Effect::Forgotten`] is told only where no earlier try of the same may
    /// have come to something else.
    pub effect: Effect,
    /// The newest version that the store holds now.
    pub newest: Version,
}

/// What came of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committal {
    /// It was carried out.
    Committed(Committed),
    /// The store has no such stage (any more): what was staged must be brought to it anew.
    NotStaged,
}

/// A value as a store describes it.
#[derive(Debug, Clone)]
pub struct Value {
    /// Its version.
    pub version: Version,
    /// Its bytes.
    pub size: u64,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
    /// Its digest, as the store writes it.
    pub digest: Option<Box<str>>,
    /// The fields that are kept with it: lines with CRLF.
    pub kept: Vec<u8>,
}

/// What a store holds of a key.
#[derive(Debug, Clone)]
pub enum Held {
    /// A value.
    Value(Value),
    /// The key was deleted by this version.
    Tombstone(Version),
    /// A value of this version, whose bytes the store has lost.
    Damaged(Version),
    /// Nothing; whatever was there was at most this version.
    Absent(Version),
}

impl Held {
    /// The version that it stands for.
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::Value(value) => value.version,
            Self::Tombstone(version) | Self::Damaged(version) | Self::Absent(version) => *version,
        }
    }
}

/// What a copy bears of where it comes from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    /// When the value was written, in milliseconds since 1970; its version says it too, unless it
    /// came from a place that knew better.
    pub modified_ms: Option<u64>,
    /// What its bytes are, in the words of whoever had it: the store takes no others.
    pub digest: Option<&'a str>,
}

/// A value of which nobody has the bytes any more, as those describe it that had them.
#[derive(Debug, Clone, Copy)]
pub struct Lost<'a> {
    /// How many they were.
    pub size: u64,
    /// Their digest, in the words of whoever had them.
    pub digest: &'a str,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
}

/// What came of asking for a value.
pub enum Got {
    /// It, or the part of it that was asked for.
    Value(Box<Fetch>),
    /// Nothing.
    Nothing(Held),
    /// Another version than the one that was asked for.
    Other(Version),
    /// The part that was asked for lies outside.
    Outside,
}

/// A value on its way.
pub struct Fetch {
    /// What it is.
    pub value: Value,
    /// Whether this is a part of it only.
    pub is_part: bool,
    /// Bytes that come.
    pub length: u64,
    left: u64,
    given: usize,
    line: Line,
}

impl Fetch {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`Doubt`]: the rest will not come.
    pub async fn next(&mut self, timer: &Timer) -> Result<Option<&[u8]>, Doubt> {
        self.line.buffer.consume(std::mem::take(&mut self.given));
        if self.left == 0 {
            self.line.put_back();
            return Ok(None);
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let here = self.line.more(timer, self.left).await?.len().min(left);
        self.left -= here as u64;
        self.given = here;
        Ok(Some(&self.line.buffer.filled()[..here]))
    }

    /// Drops the value. Its connection is kept if all of it has come already.
    pub fn let_go(mut self) {
        if let Ok(here) = usize::try_from(self.left)
            && self.line.buffer.filled().len() == self.given + here
        {
            self.line.buffer.consume(self.given + here);
            self.line.put_back();
        }
    }

    /// The connection, and what came of the body so far, to pass the rest on by other means. The
    /// last says whether the connection may be used again.
    #[must_use]
    pub fn into_parts(mut self) -> Option<(Upstream, ReadBuffer, bool)> {
        let is_persistent = self.line.is_persistent();
        let upstream = self.line.take()?;
        Some((upstream, self.line.buffer, is_persistent))
    }
}

/// Bytes of an answer whose body does not matter, read so that its connection lives on.
const REST_BYTES_MAX: usize = 64 * 1024;

impl<'a> Replica<'a> {
    pub(super) fn standing(&self) -> Standing<'a> {
        let Self { pool, cluster, birth, epoch, store, .. } = *self;
        Standing { pool, cluster, birth, epoch, store }
    }

    /// Stages a body that is held.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn stage(
        &self,
        means: &Means,
        timer: &Timer,
        (key, token): (&[u8], Token),
        stage: StageId,
        kept: &[u8],
        body: &[u8],
    ) -> Result<Staged, Fault> {
        let ask = Ask::Stage { key, stage, token, kept };
        staged(Line::ask(self, means, timer, &ask, Some(body)).await?, timer).await
    }

    /// Begins to stage a body that is sent piece by piece; `length` if it is known.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn begin_stage(
        &'a self,
        means: &'a Means,
        timer: &'a Timer,
        (key, token): (&[u8], Token),
        stage: StageId,
        kept: &[u8],
        length: Option<u64>,
    ) -> Result<Upload<'a>, Fault> {
        let ask = Ask::Stage { key, stage, token, kept };
        Upload::begin(self, means, timer, &ask, length).await
    }

    /// Gives a stage up. To be called where it was, or may have been, taken in.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn abort(
        &self,
        means: &Means,
        timer: &Timer,
        (key, token): (&[u8], Token),
        stage: StageId,
    ) -> Result<(), Fault> {
        let line = Line::ask(self, means, timer, &Ask::Abort { key, stage, token }, None).await?;
        finished(line, timer).await
    }

    /// Makes what was staged the key's value, under this version.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn commit(
        &self,
        means: &Means,
        timer: &Timer,
        (key, token): (&[u8], Token),
        stage: StageId,
        version: Version,
    ) -> Result<Committal, Fault> {
        let ask = Ask::Commit { key, stage, version, token };
        let mut line = Line::ask(self, means, timer, &ask, Some(b"")).await?;
        if line.facts.refusal == Some(Refusal::NotStaged) {
            line.body(timer, REST_BYTES_MAX).await?;
            return Ok(Committal::NotStaged);
        }
        committed(line, timer).await.map(Committal::Committed)
    }

    /// Writes a value that is held, if it is newer than what the store holds.
    ///
    /// # Errors
    /// [`Fault`].
    #[allow(clippy::too_many_arguments, reason = "what a value consists of")]
    pub async fn put(
        &self,
        means: &Means,
        timer: &Timer,
        (key, token): (&[u8], Token),
        version: Version,
        kept: &[u8],
        origin: Origin<'_>,
        body: &[u8],
    ) -> Result<Committed, Fault> {
        let ask = Ask::Put { key, version, token, kept, origin };
        committed(Line::ask(self, means, timer, &ask, Some(body)).await?, timer).await
    }

    /// Begins to write a value that is sent piece by piece; `length` if it is known.
    ///
    /// # Errors
    /// [`Fault`].
    #[allow(clippy::too_many_arguments, reason = "what a value consists of")]
    pub async fn begin_put(
        &'a self,
        means: &'a Means,
        timer: &'a Timer,
        (key, token): (&[u8], Token),
        version: Version,
        kept: &[u8],
        origin: Origin<'_>,
        length: Option<u64>,
    ) -> Result<Upload<'a>, Fault> {
        let ask = Ask::Put { key, version, token, kept, origin };
        Upload::begin(self, means, timer, &ask, length).await
    }

    /// Tells the store of a value that nobody can give any more, if that is newer than what it holds:
    /// it is one that has it damaged then.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn tell_lost(
        &self,
        means: &Means,
        timer: &Timer,
        (key, token): (&[u8], Token),
        version: Version,
        lost: &Lost<'_>,
    ) -> Result<Committed, Fault> {
        let ask = Ask::Damaged { key, version, token, lost };
        committed(Line::ask(self, means, timer, &ask, Some(b"")).await?, timer).await
    }

    /// Deletes a key, if that is newer than what the store holds.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn delete(
        &self,
        means: &Means,
        timer: &Timer,
        (key, token): (&[u8], Token),
        version: Version,
    ) -> Result<Committed, Fault> {
        let ask = Ask::Delete { key, version, token };
        committed(Line::ask(self, means, timer, &ask, None).await?, timer).await
    }

    /// Asks what the store holds of a key.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn head(
        &self,
        means: &Means,
        timer: &Timer,
        (key, token): (&[u8], Token),
    ) -> Result<Held, Fault> {
        let mut line = Line::ask(self, means, timer, &Ask::Head { key, token }, None).await?;
        let held = match line.facts.status {
            200 => Held::Value(value(&mut line.facts)?),
            _ if let Some(damaged) = damaged(&line.facts) => damaged,
            404 if let Some(nothing) = nothing(&line.facts) => nothing,
            _ => return Err(line.refusal(timer).await),
        };
        line.put_back();
        Ok(held)
    }

    /// Asks for a value, or for its bytes from the first to the last of `range`; with `version`
    /// only if it is that one.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn get(
        &self,
        means: &Means,
        timer: &Timer,
        (key, token): (&[u8], Token),
        range: Option<(u64, u64)>,
        version: Option<Version>,
    ) -> Result<Got, Fault> {
        let ask = Ask::Get { key, token, range, version };
        let mut line = Line::ask(self, means, timer, &ask, None).await?;
        let got = match line.facts.status {
            200 | 206 => {
                let length = match line.facts.framing {
                    Framing::None => 0,
                    Framing::Length(length) => length,
                    _ => return Err(Doubt::BadAnswer("no_length").into()),
                };
                let is_part = line.facts.status == 206;
                let value = value(&mut line.facts)?;
                if !is_part && value.size != length {
                    return Err(Doubt::BadAnswer("length_is_not_the_size").into());
                }
                let fetch = Fetch { value, is_part, length, left: length, given: 0, line };
                return Ok(Got::Value(Box::new(fetch)));
            }
            404 if let Some(nothing) = nothing(&line.facts) => Got::Nothing(nothing),
            _ if let Some(damaged) = damaged(&line.facts) => Got::Nothing(damaged),
            412 if let Some(version) = line.facts.version => Got::Other(version),
            416 => Got::Outside,
            _ => return Err(line.refusal(timer).await),
        };
        line.body(timer, REST_BYTES_MAX).await?;
        Ok(got)
    }

    /// Tells the store that the pool's name space in it is this cluster's, and whose copies it
    /// keeps. Gives the store's id.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn bind(
        &self,
        means: &Means,
        timer: &Timer,
        shard: &ShardId,
    ) -> Result<StoreId, Fault> {
        let line = Line::ask(self, means, timer, &Ask::Bind { shard }, Some(b"")).await?;
        let store = line.facts.store;
        finished(line, timer).await?;
        store.ok_or_else(|| Doubt::BadAnswer("no_store_id").into())
    }
}

/// The answer to a stage.
pub(super) async fn staged(mut line: Line, timer: &Timer) -> Result<Staged, Fault> {
    match (line.facts.status, line.facts.version) {
        (200, Some(newest)) => {
            line.body(timer, REST_BYTES_MAX).await?;
            Ok(Staged { newest })
        }
        (200, None) => Err(Doubt::BadAnswer("no_version").into()),
        _ => Err(line.refusal(timer).await),
    }
}

/// The answer to a write.
pub(super) async fn committed(mut line: Line, timer: &Timer) -> Result<Committed, Fault> {
    match (line.facts.status, line.facts.version, line.facts.effect) {
        // The first try may have been taken, overwritten and forgotten since.
        (200, _, Some(Effect::Forgotten)) if line.may_have_been_done() => Err(Doubt::Broke.into()),
        (200, Some(newest), Some(effect)) => {
            line.body(timer, REST_BYTES_MAX).await?;
            Ok(Committed { effect, newest })
        }
        (200, ..) => Err(Doubt::BadAnswer("no_version").into()),
        _ => Err(line.refusal(timer).await),
    }
}

/// An answer of which nothing matters but that it is no refusal.
pub(super) async fn finished(mut line: Line, timer: &Timer) -> Result<(), Fault> {
    match line.facts.status {
        200 | 204 => {
            line.body(timer, REST_BYTES_MAX).await?;
            Ok(())
        }
        _ => Err(line.refusal(timer).await),
    }
}

/// What the head says of a value.
fn value(facts: &mut Facts) -> Result<Value, Fault> {
    let (Some(version), Some(size)) = (facts.version, facts.size) else {
        return Err(Doubt::BadAnswer("no_version").into());
    };
    Ok(Value {
        version,
        size,
        modified_ms: facts.modified_ms.unwrap_or_else(|| version.stamp.unix_ms()),
        digest: facts.digest.take(),
        kept: std::mem::take(&mut facts.kept),
    })
}

/// What is told of a value that the store has lost the bytes of.
fn damaged(facts: &Facts) -> Option<Held> {
    facts.version.filter(|_| facts.refusal == Some(Refusal::Damaged)).map(Held::Damaged)
}

/// What a 404 says, if it is about a key.
fn nothing(facts: &Facts) -> Option<Held> {
    let version = facts.version?;
    Some(if facts.tombstone { Held::Tombstone(version) } else { Held::Absent(version) })
}
