//! When does a store read what nobody asks for?
//!
//! Bytes that nobody reads rot unnoticed, on one replica after the other, until none is left that has
//! them. So a store reads every value that it keeps for pools once in
//! [`scrub`](crate::store::StoreOptions::scrub), compares it with its digest, and notes damage as
//! every reader does ([`damage`](super::damage)); the others then bring it anew.
//!
//! It reads no faster than that takes, nor than [`BYTES_PER_S_MAX`]: where there is more than fits, a round
//! takes longer. Where it begins follows from the time of its start, so that a store which is started
//! often gets everywhere in the end without remembering how far it came.

use std::fs::File;
use std::io::Read;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ids::{PoolName, Token};
use crate::store::engine::{ReadError, Store};
use crate::store::index::IndexError;
use crate::store::record::Place;
use crate::store::replica::damage::{BY_SCRUBBING, Suspect, is_loss};
use crate::store::replica::record::{Kept, RowKey, split};

/// A store that was just started has other things to do.
const BEGIN_AFTER: Duration = Duration::from_secs(60);

/// Bytes a second, at most: a small part of what a disk gives.
const BYTES_PER_S_MAX: u64 = 32 * 1024 * 1024;

/// Bytes a second, at least.
const BYTES_PER_S_MIN: u64 = 256 * 1024;

/// Bytes read at once, and rows looked at.
const PIECE_BYTES: usize = 1024 * 1024;
const ROWS: usize = 256;

/// What a look at some rows found.
#[derive(Default)]
struct Looked {
    /// Behind which row to go on; `None` at the end.
    last: Option<RowKey>,
    bytes: u64,
    damaged: Vec<(Suspect, &'static str)>,
    /// Those that are files, to be read piece by piece.
    files: Vec<Suspect>,
}

/// Reads all values again and again. Runs until it is dropped.
pub(in crate::store) async fn run(store: Arc<Store>) {
    let Some(interval) = store.options().scrub else { return };
    tokio::time::sleep(BEGIN_AFTER.min(interval)).await;
    let seed = blake3::hash(&(store.options().clock)().to_le_bytes());
    let first = seed.as_bytes().first_chunk().expect("32 bytes have 8");
    let first = Token(u64::from_be_bytes(*first));
    loop {
        let begun = Instant::now();
        let pools: Vec<(PoolName, u64)> = {
            let view = store.view();
            view.pools().map(|pool| (pool.name().clone(), pool.facts().bytes)).collect()
        };
        let total: u64 = pools.iter().map(|(_, bytes)| bytes).sum();
        let bytes_per_s =
            (total / interval.as_secs().max(1)).clamp(BYTES_PER_S_MIN, BYTES_PER_S_MAX);
        for (pool, _) in &pools {
            // From the middle to the end, and from the beginning to the middle.
            let middle = RowKey::new(first, b"");
            round(&store, pool, Bound::Included(middle.clone()), None, bytes_per_s).await;
            round(&store, pool, Bound::Unbounded, Some(middle), bytes_per_s).await;
        }
        tokio::time::sleep(interval.saturating_sub(begun.elapsed())).await;
    }
}

/// Reads what lies behind `from`, and before `until` if that is said.
async fn round(
    store: &Arc<Store>,
    pool: &PoolName,
    mut from: Bound<RowKey>,
    until: Option<RowKey>,
    bytes_per_s: u64,
) {
    loop {
        let (own, name, start, end) = (Arc::clone(store), pool.clone(), from, until.clone());
        let looked = on_disk(move || look(&own, &name, &start, end.as_ref())).await;
        let looked = match looked {
            Some(Ok(looked)) => looked,
            Some(Err(error)) => {
                tracing::warn!(%pool, %error, "the index cannot be read through");
                return;
            }
            None => return,
        };
        for (suspect, why) in looked.damaged {
            suspect.note(BY_SCRUBBING, why).await;
        }
        pay(looked.bytes, bytes_per_s).await;
        for suspect in looked.files {
            read_file(store, suspect, bytes_per_s).await;
        }
        match looked.last {
            Some(last) => from = Bound::Excluded(last),
            None => return,
        }
    }
}

/// Reads some rows, and the bodies of those that are in the index.
fn look(
    store: &Arc<Store>,
    name: &PoolName,
    from: &Bound<RowKey>,
    until: Option<&RowKey>,
) -> Result<Looked, IndexError> {
    let view = store.view();
    let mut looked = Looked::default();
    // Not bound any more: there is nothing to read.
    let Some(pool) = view.pool(name.as_str()) else { return Ok(looked) };
    let start = from.as_ref().map(RowKey::bytes);
    let mut rows = pool.table().range::<&[u8]>((start, Bound::Unbounded))?;
    for _ in 0..ROWS {
        let Some(row) = rows.next().transpose()? else { return Ok(ended(looked)) };
        let (token, key) = split(row.0.value());
        let key = RowKey::new(token, key);
        if until.is_some_and(|until| key.bytes() >= until.bytes()) {
            return Ok(ended(looked));
        }
        let kept = match Kept::decode(row.1.value()) {
            Ok((kept, _)) => kept,
            // What it is nobody knows; that must not keep the rest from being read.
            Err(error) => {
                tracing::warn!(pool = %name, %error, "a row of the index does not decode");
                looked.last = Some(key);
                continue;
            }
        };
        if let Some(value) = kept.value.filter(|value| !value.is_damaged) {
            let suspect = Suspect::new(store, name, &key, kept.version, value);
            match value.place {
                Place::File => looked.files.push(suspect),
                Place::Index => {
                    looked.bytes += value.size;
                    match view.body(value.body, value.size) {
                        Ok(bytes) if suspect.is_of(&blake3::hash(&bytes)) => {}
                        Ok(_) => looked.damaged.push((suspect, OTHERS)),
                        Err(IndexError::Body) => looked.damaged.push((suspect, GONE)),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        looked.last = Some(key);
        if looked.bytes >= PIECE_BYTES as u64 {
            break;
        }
    }
    Ok(looked)
}

const OTHERS: &str = "its bytes are not those that were taken in";
const GONE: &str = "its body is gone or has another length";

fn ended(looked: Looked) -> Looked {
    Looked { last: None, ..looked }
}

/// Reads a body that is a file.
async fn read_file(store: &Arc<Store>, suspect: Suspect, bytes_per_s: u64) {
    let (own, (body, size)) = (Arc::clone(store), suspect.body());
    let mut file = match on_disk(move || own.open_body(body, size)).await {
        Some(Ok(Some(file))) => file,
        Some(Err(ReadError::Damaged)) => return suspect.note(BY_SCRUBBING, GONE).await,
        // Replaced meanwhile, or the store is short of something: the next round.
        Some(Ok(None) | Err(_)) | None => return,
    };
    let mut hasher = Box::<blake3::Hasher>::default();
    loop {
        let piece = on_disk(move || read_piece(file, hasher)).await;
        match piece {
            Some(Ok((_, done, 0))) => {
                if !suspect.is_of(&done.finalize()) {
                    suspect.note(BY_SCRUBBING, OTHERS).await;
                }
                return;
            }
            Some(Ok((again, so_far, count))) => {
                (file, hasher) = (again, so_far);
                pay(count as u64, bytes_per_s).await;
            }
            Some(Err(error)) if is_loss(&error) => {
                return suspect.note(BY_SCRUBBING, &error.to_string()).await;
            }
            Some(Err(_)) | None => return,
        }
    }
}

type Hashed = (File, Box<blake3::Hasher>, usize);

fn read_piece(file: File, mut hasher: Box<blake3::Hasher>) -> std::io::Result<Hashed> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let count = (&file).take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
    hasher.update(&piece);
    Ok((file, hasher, count))
}

/// Waits as long as so many bytes may take.
async fn pay(bytes: u64, bytes_per_s: u64) {
    tokio::time::sleep(Duration::from_millis(bytes.saturating_mul(1000) / bytes_per_s)).await;
}

/// Runs what waits for the disk; `None` if the runtime ends.
async fn on_disk<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(look).await.ok()
}
