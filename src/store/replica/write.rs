//! What does the writing thread do with a write of a pool that keeps data?
//!
//! All decisions fall here, inside the transaction, in the order of the queue: fence, then what is
//! held, then the stage. See [`crate::protocol::holding`] for the rule.

use crate::ids::{Birth, ClusterId, Digest, PoolName, ShardId, Token};
use crate::protocol::holding::{Admission, Decision, Effect, Held, admit, decide, decide_damaged};
use crate::protocol::replica::{PoolEpoch, StageId, slot_of};
use crate::store::change::Change;
use crate::store::index::IndexError;
use crate::store::meta::Meta;
use crate::store::record::{BodyId, Place};
use crate::store::replica::change::Shard;
use crate::store::replica::fields::check_birth;
use crate::store::replica::record::{Kept, RowKey, Value};
use crate::store::replica::stages::Stage;
use crate::store::reserve::is_no_space;
use crate::store::writer::{Batch, NewBody, Room, WriteError};
use crate::version::Version;

/// A change that a node asks for.
#[derive(Debug)]
pub struct KeptWrite {
    /// Of which pool.
    pub pool: PoolName,
    /// Whose pool the node takes it for.
    pub cluster: ClusterId,
    /// When that pool came to be.
    pub birth: Birth,
    /// By which epoch the node acts.
    pub epoch: PoolEpoch,
    /// What is to happen.
    pub action: KeptAction,
    /// Bytes that it may add to the index.
    pub cost_bytes: usize,
}

/// What a node asks for.
#[derive(Debug)]
pub enum KeptAction {
    /// That the epoch be known.
    Raise,
    /// That the store be this shard of the pool.
    Bind(ShardId),
    /// That a staged body become the value.
    Commit(RowKey, StageId, Version),
    /// That this become the value.
    Put(RowKey, Version, Option<u64>, Meta, NewBody),
    /// That it be known that there is such a value, whose bytes nobody has.
    Lost(RowKey, Version, LostValue),
    /// That the key be deleted.
    Delete(RowKey, Version),
    /// That the value of this version, which has this body, be known as damaged. Asked by the store itself.
    Damage(RowKey, Version, BodyId),
    /// That the watermark of a slot be raised to this and to these tombstones, and they be dropped.
    Collect(u16, Version, Vec<(Vec<u8>, Version)>),
}

/// A value of which nobody has the bytes, as those describe it that had them.
#[derive(Debug, Clone, Copy)]
pub struct LostValue {
    /// How many they were.
    pub size: u64,
    /// BLAKE3 of them.
    pub digest: Digest,
    /// When it was written, in milliseconds since 1970; by its version if nobody says.
    pub modified_ms: Option<u64>,
}

impl KeptAction {
    /// How many writes of a batch it counts for.
    #[must_use]
    pub fn writes(&self) -> usize {
        match self {
            KeptAction::Collect(_, _, tombstones) => tombstones.len().max(1),
            _ => 1,
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptDone {
    /// It is so.
    Done,
    /// The write was judged.
    Judged {
        /// What it has come to.
        effect: Effect,
        /// What is.
        newest: Version,
    },
    /// The value is known as damaged; whether that is news.
    Damaged(bool),
    /// Tombstones were collected.
    Dropped {
        /// How many records went.
        dropped: u64,
        /// Whether the watermark is higher than before.
        raised: bool,
    },
}

/// Why it was not done. But for some of [`WriteError`], nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptError {
    /// As of every write.
    Write(WriteError),
    /// The store is no shard of the pool.
    NotBound,
    /// The pool is another cluster's.
    OtherCluster,
    /// The store is this shard.
    OtherShard(ShardId),
    /// The store is a shard of a pool of this name that was born later.
    OtherBirth(Birth),
    /// This epoch was told before.
    Stale(PoolEpoch),
    /// There is no such stage.
    NotStaged,
    /// The key is held under this token.
    OtherToken(Token),
}

impl From<WriteError> for KeptError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

type Outcome = Result<KeptDone, KeptError>;

/// Carries out one write. The outer error ends the batch.
pub(in crate::store) fn apply(
    batch: &mut Batch<'_>,
    change: &mut Change<'_>,
    write: &mut KeptWrite,
) -> Result<Outcome, IndexError> {
    if batch.room != Room::Puts {
        change.pools().fold_later();
    }
    let Some(mut shard) = change.shard(write.pool.as_str())? else {
        let KeptAction::Bind(id) = &write.action else { return Ok(Err(KeptError::NotBound)) };
        if batch.room != Room::Puts {
            return Ok(Err(WriteError::Full.into()));
        }
        change.pools().bind(write.pool.as_str(), write.cluster, id.clone(), write.birth)?;
        return Ok(Ok(KeptDone::Done));
    };
    // The store's own word: by nobody's leave, and in no epoch.
    if let KeptAction::Damage(key, version, body) = &write.action {
        if batch.room < Room::Deletes {
            return Ok(Err(WriteError::Full.into()));
        }
        let is_news = shard.damage(key, *version, *body)?;
        batch.hurt |= is_news;
        return Ok(Ok(KeptDone::Damaged(is_news)));
    }
    if shard.facts().cluster != write.cluster {
        return Ok(Err(KeptError::OtherCluster));
    }
    let bound = shard.facts().birth;
    match (check_birth(bound, write.birth), &write.action) {
        (Ok(()), _) => {}
        (Err(KeptError::NotBound), KeptAction::Bind(id)) => {
            let of = (write.cluster, id.clone(), write.birth);
            return bind_anew(batch, change, &write.pool, bound, of);
        }
        (Err(error), _) => return Ok(Err(error)),
    }
    if let KeptAction::Bind(id) = &write.action {
        let own = &shard.facts().shard;
        return Ok(if own == id {
            Ok(KeptDone::Done)
        } else {
            Err(KeptError::OtherShard(own.clone()))
        });
    }
    let highest = shard.facts().epoch;
    match admit(highest, write.epoch) {
        Admission::Stale => return Ok(Err(KeptError::Stale(highest))),
        Admission::Raise if batch.room == Room::Nothing => {
            return Ok(Err(WriteError::Full.into()));
        }
        Admission::Raise => shard.raise_fence(write.epoch),
        Admission::Current => {}
    }
    match &mut write.action {
        KeptAction::Raise | KeptAction::Bind(_) | KeptAction::Damage(..) => Ok(Ok(KeptDone::Done)),
        KeptAction::Commit(key, stage, version) => {
            commit(batch, &mut shard, &write.pool, key, *stage, *version)
        }
        KeptAction::Put(key, version, modified_ms, meta, body) => {
            let modified_ms = modified_ms.unwrap_or(version.stamp.unix_ms());
            let before = match judge(&shard, key, *version, decide)? {
                Ok(before) => before,
                Err(judged) => return Ok(judged),
            };
            let put = Put { key, before, version: *version, modified_ms, meta };
            put.apply(batch, &mut shard, body)
        }
        KeptAction::Lost(key, version, value) => lost(batch, &mut shard, key, *version, *value),
        KeptAction::Delete(key, version) => {
            let before = match judge(&shard, key, *version, decide)? {
                Ok(before) => before,
                Err(judged) => return Ok(judged),
            };
            if batch.room < Room::Deletes {
                return Ok(Err(WriteError::Full.into()));
            }
            let modified_ms = version.stamp.unix_ms();
            let kept = Kept { version: *version, modified_ms, value: None };
            let freed = shard.put(key, before.as_ref(), &kept, &Meta::default(), b"")?;
            batch.freed.extend(freed);
            batch.hurt |= before.is_some_and(|before| before.is_damaged());
            Ok(Ok(KeptDone::Judged { effect: Effect::Applied, newest: *version }))
        }
        KeptAction::Collect(slot, least, tombstones) => {
            if batch.room != Room::Puts {
                return Ok(Err(WriteError::Full.into()));
            }
            collect(&mut shard, *slot, *least, tombstones)
        }
    }
}

/// Makes the store a shard of a later pool of the same name. It takes room for some empty tables, and
/// gives back that of the former one's: so what deletions may use serves for it, too.
fn bind_anew(
    batch: &mut Batch<'_>,
    change: &mut Change<'_>,
    pool: &PoolName,
    before: Birth,
    of: (ClusterId, ShardId, Birth),
) -> Result<Outcome, IndexError> {
    if batch.room < Room::Deletes {
        return Ok(Err(WriteError::Full.into()));
    }
    tracing::info!(%pool, %before, now = %of.2, "the pool was made anew: its former objects go");
    change.pools().bind_anew(pool.as_str(), before, of)?;
    batch.core.stages.forget_pool(pool);
    batch.doomed = true;
    // What was damaged of the former pool is counted no more.
    batch.hurt = true;
    Ok(Ok(KeptDone::Done))
}

/// What a write is to replace, by the rule for it; or its outcome, if it is to replace nothing.
fn judge(
    shard: &Shard<'_, '_>,
    key: &RowKey,
    version: Version,
    decide: impl Fn(Held, Version) -> Decision,
) -> Result<Result<Option<Kept>, Outcome>, IndexError> {
    let (held, before) = shard.held(key)?;
    let newest = held.newest();
    let decision = decide(held, version);
    Ok(match decision {
        Decision::Repeat | Decision::Superseded | Decision::Forgotten => {
            Err(Ok(KeptDone::Judged { effect: decision.effect(), newest }))
        }
        Decision::Apply if before.is_some() => Ok(before),
        // The key appears. One that is there already, elsewhere on the circle, would be there twice.
        Decision::Apply => match shard.token_of(key.key())? {
            Some(token) if token != key.token() => Err(Err(KeptError::OtherToken(token))),
            _ => Ok(None),
        },
    })
}

fn commit(
    batch: &mut Batch<'_>,
    shard: &mut Shard<'_, '_>,
    pool: &PoolName,
    key: &RowKey,
    id: StageId,
    version: Version,
) -> Result<Outcome, IndexError> {
    let stage = batch.core.stages.take(pool, id, key);
    let before = match judge(shard, key, version, decide)? {
        Ok(before) => before,
        // The stage goes: it is of no use any more.
        Err(judged) => return Ok(judged),
    };
    let Some(Stage { key, mut meta, mut body, since }) = stage else {
        return Ok(Err(KeptError::NotStaged));
    };
    let modified_ms = version.stamp.unix_ms();
    let put = Put { key: &key, before, version, modified_ms, meta: &mut meta };
    let outcome = put.apply(batch, shard, &mut body)?;
    if outcome.is_err() {
        // Nothing changed, so that the same commit may succeed later.
        batch.core.stages.give_back(pool.clone(), id, Stage { key, meta, body, since });
    }
    Ok(outcome)
}

/// Holds a value whose bytes are nowhere. It takes as little room as a deletion.
fn lost(
    batch: &mut Batch<'_>,
    shard: &mut Shard<'_, '_>,
    key: &RowKey,
    version: Version,
    LostValue { size, digest, modified_ms }: LostValue,
) -> Result<Outcome, IndexError> {
    let before = match judge(shard, key, version, decide_damaged)? {
        Ok(before) => before,
        Err(judged) => return Ok(judged),
    };
    if batch.room < Room::Deletes {
        return Ok(Err(WriteError::Full.into()));
    }
    // An empty body holds the id: ids are given on above those that are found at the next start, and
    // what replaces this value will remove the body of its id.
    let (body, place) = (batch.core.blobs.next_id(), Place::Index);
    let value = Value { body, place, size, digest, is_damaged: true };
    let modified_ms = modified_ms.unwrap_or(version.stamp.unix_ms());
    let kept = Kept { version, modified_ms, value: Some(value) };
    let freed = shard.put(key, before.as_ref(), &kept, &Meta::default(), b"")?;
    batch.freed.extend(freed);
    batch.hurt = true;
    Ok(Ok(KeptDone::Judged { effect: Effect::Applied, newest: version }))
}

/// A value that takes the place of what is held.
struct Put<'a> {
    key: &'a RowKey,
    before: Option<Kept>,
    version: Version,
    modified_ms: u64,
    meta: &'a mut Meta,
}

impl Put<'_> {
    fn apply(
        self,
        batch: &mut Batch<'_>,
        shard: &mut Shard<'_, '_>,
        body: &mut NewBody,
    ) -> Result<Outcome, IndexError> {
        if batch.room != Room::Puts {
            return Ok(Err(WriteError::Full.into()));
        }
        let (value, bytes) = match body {
            NewBody::Small(bytes, digest) => {
                let (body, size) = (batch.core.blobs.next_id(), bytes.len() as u64);
                let (place, digest) = (Place::Index, *digest);
                (Value { body, place, size, digest, is_damaged: false }, &bytes[..])
            }
            NewBody::Large(incoming) => {
                match batch.core.blobs.keep(incoming) {
                    Ok(()) => batch.moved = true,
                    Err(error) if is_no_space(&error) => return Ok(Err(WriteError::Full.into())),
                    Err(error) => return Err(error.into()),
                }
                let (body, size, digest) = (incoming.id(), incoming.size(), incoming.digest());
                let (place, is_damaged) = (Place::File, false);
                (Value { body, place, size, digest, is_damaged }, &[][..])
            }
        };
        let kept =
            Kept { version: self.version, modified_ms: self.modified_ms, value: Some(value) };
        let freed = shard.put(self.key, self.before.as_ref(), &kept, self.meta, bytes)?;
        batch.freed.extend(freed);
        batch.hurt |= self.before.is_some_and(|before| before.is_damaged());
        Ok(Ok(KeptDone::Judged { effect: Effect::Applied, newest: self.version }))
    }
}

fn collect(
    shard: &mut Shard<'_, '_>,
    slot: u16,
    least: Version,
    tombstones: &[(Vec<u8>, Version)],
) -> Result<Outcome, IndexError> {
    let versions = tombstones.iter().map(|(_, version)| *version);
    let greatest = versions.fold(least, Version::max);
    let raised = shard.raise_watermark(slot, greatest)?;
    let mut dropped = 0;
    for (key, version) in tombstones {
        let Some(token) = shard.token_of(key)? else { continue };
        if slot_of(token) != slot {
            continue;
        }
        let key = RowKey::new(token, key);
        dropped += u64::from(shard.drop_tombstone(&key, *version)?);
    }
    Ok(Ok(KeptDone::Dropped { dropped, raised }))
}
