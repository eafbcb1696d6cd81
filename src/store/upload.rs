//! How is the body of a PUT taken in, in bounded memory and without a half?
//!
//! A body of at most [`INLINE_BYTES_MAX`] is gathered in memory. A longer one goes into a file
//! through two buffers: while one is hashed and written on the blocking pool, the other fills
//! from the connection; when both are full, nothing is read and TCP holds the client back. A body
//! that ends early, for whatever reason, is dropped and leaves nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::Incoming as RequestBody;
use tokio::task::JoinHandle;

use crate::ids::Digest;
use crate::store::blobs::{INLINE_BYTES_MAX, Incoming};
use crate::store::engine::{Share, Store};
use crate::store::writer::{NewBody, WriteError};

/// Why a body was not taken in.
#[derive(Debug)]
pub(super) enum UploadError {
    /// It is longer than the store takes.
    TooLong,
    /// No byte came for too long.
    TooSlow,
    /// The connection ended first, or the body's framing broke.
    Broken,
    /// The disk did not take it.
    Write(WriteError),
}

/// Takes in a body. `length` is what `Content-Length` says.
///
/// # Errors
/// [`UploadError`]; nothing of the body is kept then.
pub(super) async fn receive(
    store: &Arc<Store>,
    body: &mut RequestBody,
    length: Option<u64>,
) -> Result<NewBody, UploadError> {
    let bytes_max = store.options().value_bytes_max;
    if length.is_some_and(|length| length > bytes_max) {
        return Err(UploadError::TooLong);
    }
    let idle_max = store.options().timeouts.body_idle;
    let small = length.and_then(|length| usize::try_from(length).ok());
    let small = small.filter(|&length| length <= INLINE_BYTES_MAX);
    let mut buffer: Vec<u8> = Vec::with_capacity(small.unwrap_or(0));
    let mut file: Option<Spill> = None;
    let mut received: u64 = 0;
    while let Some(mut data) = next_data(body, idle_max).await? {
        received += data.remaining() as u64;
        store.metrics().received_bytes.inc_by(data.remaining() as u64);
        if received > bytes_max {
            return Err(UploadError::TooLong);
        }
        if file.is_none() && received > INLINE_BYTES_MAX as u64 {
            file = Some(Spill::new(store));
        }
        let Some(file) = &mut file else {
            buffer.extend_from_slice(&data);
            continue;
        };
        while data.has_remaining() {
            // What was gathered so far may be more than a narrow buffer has.
            let room = file.buffer_bytes().saturating_sub(buffer.len());
            buffer.extend_from_slice(&data.split_to(room.min(data.len())));
            if buffer.len() >= file.buffer_bytes() {
                buffer = file.swap(buffer).await?;
            }
        }
    }
    match file {
        Some(file) => file.finish(buffer).await.map(NewBody::Large),
        None => {
            let digest = Digest(*blake3::hash(&buffer).as_bytes());
            Ok(NewBody::Small(buffer.into(), digest))
        }
    }
}

/// Takes in a short body, of `bytes_max` at most.
///
/// # Errors
/// [`UploadError`], but none of the disk.
pub(super) async fn gather(
    store: &Store,
    body: &mut RequestBody,
    bytes_max: usize,
) -> Result<Vec<u8>, UploadError> {
    let mut out = Vec::new();
    while let Some(data) = next_data(body, store.options().timeouts.body_idle).await? {
        store.metrics().received_bytes.inc_by(data.len() as u64);
        if out.len() + data.len() > bytes_max {
            return Err(UploadError::TooLong);
        }
        out.extend_from_slice(&data);
    }
    Ok(out)
}

async fn next_data(
    body: &mut RequestBody,
    idle_max: Duration,
) -> Result<Option<Bytes>, UploadError> {
    loop {
        let frame = tokio::time::timeout(idle_max, body.frame()).await;
        match frame.map_err(|_| UploadError::TooSlow)? {
            None => return Ok(None),
            Some(Err(_)) => return Err(UploadError::Broken),
            // Trailers are of no use to a store.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A body on its way into a file, through a buffer that is being written at any time.
struct Spill {
    store: Arc<Store>,
    share: Share,
    writing: JoinHandle<Result<(Incoming, Vec<u8>), WriteError>>,
}

impl Spill {
    fn new(store: &Arc<Store>) -> Self {
        let (own, share) = (Arc::clone(store), store.share());
        let bytes = share.buffer_bytes;
        let begin = move || Ok((own.begin_body()?, Vec::with_capacity(bytes)));
        let writing = tokio::task::spawn_blocking(begin);
        Self { store: Arc::clone(store), share, writing }
    }

    fn buffer_bytes(&self) -> usize {
        self.share.buffer_bytes
    }

    /// Sends off a full buffer once the one before it is written, and gives that back, empty.
    async fn swap(&mut self, full: Vec<u8>) -> Result<Vec<u8>, UploadError> {
        let (mut body, empty) = join(&mut self.writing).await?;
        let store = Arc::clone(&self.store);
        self.writing = tokio::task::spawn_blocking(move || {
            let mut buffer = full;
            store.write_body(&mut body, &buffer)?;
            buffer.clear();
            Ok((body, buffer))
        });
        Ok(empty)
    }

    /// Writes the last bytes and makes all of it durable.
    async fn finish(mut self, last: Vec<u8>) -> Result<Incoming, UploadError> {
        let (mut body, spare) = join(&mut self.writing).await?;
        let store = self.store;
        let mut syncing = tokio::task::spawn_blocking(move || {
            store.write_body(&mut body, &last)?;
            store.sync_body(&mut body)?;
            Ok((body, spare))
        });
        Ok(join(&mut syncing).await?.0)
    }
}

async fn join<T>(task: &mut JoinHandle<Result<T, WriteError>>) -> Result<T, UploadError> {
    // The closures do not panic by themselves, and nobody aborts them but a runtime that ends.
    let result = task.await.unwrap_or(Err(WriteError::Busy));
    result.map_err(UploadError::Write)
}
