//! How does one version of a key get from one store to another?

use super::pool::PoolNow;
use super::world::World;
use crate::drivers::native::{Committed, Fault, Got, Held, Lost, Origin, Refused};
use crate::ids::Token;
use crate::protocol::holding::Effect;
use crate::protocol::read::Record;
use crate::protocol::replica::{Entry, Refusal};
use crate::version::Version;

/// What was brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Brought {
    /// The version that the receiver holds now, or a newer one.
    pub(super) version: Version,
    /// Bytes of the value.
    pub(super) bytes: u64,
    /// Whether it changed what the receiver has.
    pub(super) applied: bool,
}

/// Why nothing was brought.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// The receiver has no bound store.
    #[error("no store is bound yet")]
    Unbound,
    /// Who had it has it no more.
    #[error("the store that had it has it no more")]
    Gone,
    /// What came is not what the giver says that it has.
    #[error("the store that has it gives other bytes than it took in: its disk may be damaged")]
    Damaged,
    /// The receiver will never take it.
    #[error("the receiver has collected deletions that are newer")]
    Forgotten,
    /// The giver failed.
    #[error("reading: {0}")]
    From(#[source] Fault),
    /// The receiver failed.
    #[error("writing: {0}")]
    To(#[source] Fault),
}

/// Has `to` hold `record`, or something newer, from `from` which has it. The newest that the giver
/// has by now is brought. Memory: one buffer, however large the value is.
pub(super) async fn bring(
    world: &World,
    pool: &PoolNow,
    (key, token): (&str, Token),
    record: Record,
    (from, to): (usize, usize),
) -> Result<Brought, CopyError> {
    if record.is_tombstone {
        return delete(world, pool, (key, token), record.version, to).await;
    }
    let giver = pool.replica(from).ok_or(CopyError::Unbound)?;
    let taker = pool.replica(to).ok_or(CopyError::Unbound)?;
    let (reading, writing) = (world.timer(), world.timer());
    let place = (key.as_bytes(), token);
    let got = giver.get(&world.means, &reading, place, None, None).await;
    let mut fetch = match got.map_err(CopyError::From)? {
        Got::Value(fetch) => fetch,
        Got::Nothing(Held::Damaged(_)) => return Err(CopyError::Damaged),
        Got::Nothing(Held::Tombstone(version)) if version >= record.version => {
            return delete(world, pool, (key, token), version, to).await;
        }
        Got::Nothing(_) | Got::Other(_) | Got::Outside => return Err(CopyError::Gone),
    };
    let value = fetch.value.clone();
    let upload = taker.begin_put(
        &world.means,
        &writing,
        place,
        value.version,
        &value.kept,
        // Whoever is brought it takes no other bytes: what a disk has spoilt is not to spread.
        Origin { modified_ms: Some(value.modified_ms), digest: value.digest.as_deref() },
        Some(value.size),
    );
    let mut upload = upload.await.map_err(CopyError::To)?;
    while let Some(bytes) =
        fetch.next(&reading).await.map_err(|doubt| CopyError::From(doubt.into()))?
    {
        upload.write(bytes).await.map_err(CopyError::To)?;
        let count = bytes.len() as u64;
        // Read once and written once.
        world.pay(pool, 2 * count).await;
    }
    let committed = upload.put().await.map_err(|fault| match fault {
        Fault::Refused(Refused::Said(Refusal::OtherBytes)) => CopyError::Damaged,
        fault => CopyError::To(fault),
    })?;
    match committed.effect {
        Effect::Forgotten => Err(CopyError::Forgotten),
        _ => Ok(brought(committed, value.version, value.size)),
    }
}

/// Has `to` know that there is this value, which nobody can give any more.
pub(super) async fn tell_lost(
    world: &World,
    pool: &PoolNow,
    value: &Entry,
    to: usize,
) -> Result<(), CopyError> {
    let taker = pool.replica(to).ok_or(CopyError::Unbound)?;
    let Entry { key, token, version, size, digest, modified_ms, .. } = value;
    let lost = Lost { size: *size, digest, modified_ms: *modified_ms };
    let (timer, place) = (world.timer(), (key.as_bytes(), *token));
    let told = taker.tell_lost(&world.means, &timer, place, *version, &lost).await;
    world.pay(pool, key.len() as u64).await;
    match told.map_err(CopyError::To)?.effect {
        Effect::Forgotten => Err(CopyError::Forgotten),
        Effect::Applied | Effect::Superseded => Ok(()),
    }
}

async fn delete(
    world: &World,
    pool: &PoolNow,
    (key, token): (&str, Token),
    version: Version,
    to: usize,
) -> Result<Brought, CopyError> {
    let taker = pool.replica(to).ok_or(CopyError::Unbound)?;
    let done = taker.delete(&world.means, &world.timer(), (key.as_bytes(), token), version).await;
    world.pay(pool, key.len() as u64).await;
    Ok(brought(done.map_err(CopyError::To)?, version, 0))
}

fn brought(committed: Committed, version: Version, bytes: u64) -> Brought {
    let applied = committed.effect == Effect::Applied;
    Brought { version: version.max(committed.newest), bytes, applied }
}
