//! How is a body taken in whole, but never more of it than there is room for?

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The longest message: a snapshot of the agreed state, which has at most a few thousand shards
/// of some hundred bytes each and a bounded history, is far below this.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What all requests that are taken in or answered at one moment may hold together: two of the
/// longest. Small ones do not count, so that no heartbeat waits for a snapshot; their number is
/// that of connections.
const BODIES_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// Up to this length a message is small.
const SMALL_BYTES_MAX: usize = 64 * 1024;

/// How long a body may pause between two pieces. Nodes send what they have whole in memory, so a
/// pause is the network's, and one of this length means that it is gone. Also how long a large
/// message waits until there is room for it.
const STALL_MAX: Duration = Duration::from_secs(10);

/// What is set aside on the word of a length field alone.
const RESERVE_BYTES_MAX: usize = 1024 * 1024;

/// Why a body was not taken in.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("a message of more than {0} bytes")]
    TooLong(usize),
    #[error("a message that does not say how long it is")]
    NoLength,
    #[error("a message for which there was no room within {STALL_MAX:?}")]
    NoRoom,
    #[error("a message that paused for {STALL_MAX:?}")]
    Stalled,
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

/// Room for the bodies of requests; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BODIES_BYTES_MAX)))
    }
}

impl Room {
    /// Takes in the body of a request, of at most so many bytes. It has its room as long as the
    /// second value lives.
    pub(super) async fn read(
        &self,
        body: Incoming,
        bytes_max: usize,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), BodyError> {
        let length = body.size_hint().exact().ok_or(BodyError::NoLength)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > bytes_max {
            return Err(BodyError::TooLong(bytes_max));
        }
        let place = if length > SMALL_BYTES_MAX {
            let bytes = u32::try_from(length).expect("no message is that long");
            let place = Arc::clone(&self.0).acquire_many_owned(bytes);
            let place = timeout(STALL_MAX, place).await.map_err(|_| BodyError::NoRoom)?;
            Some(place.expect("the semaphore is never closed"))
        } else {
            None
        };
        Ok((read(body, bytes_max).await?, place))
    }
}

/// Lets go of the body of a request that is refused. A small one is read first: whoever closes
/// with something unread takes back what was just answered.
pub(super) async fn discard(body: Incoming) {
    if body.size_hint().upper().is_some_and(|most| most <= SMALL_BYTES_MAX as u64) {
        drop(read(body, SMALL_BYTES_MAX).await);
    }
}

pub(super) async fn read(mut body: Incoming, bytes_max: usize) -> Result<Bytes, BodyError> {
    let told = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if told > bytes_max {
        return Err(BodyError::TooLong(bytes_max));
    }
    let mut whole = BytesMut::with_capacity(told.min(RESERVE_BYTES_MAX));
    loop {
        let frame = timeout(STALL_MAX, body.frame()).await.map_err(|_| BodyError::Stalled)?;
        let Some(frame) = frame.transpose()? else { return Ok(whole.freeze()) };
        // Trailers mean nothing here.
        let Ok(piece) = frame.into_data() else { continue };
        if whole.len() + piece.len() > bytes_max {
            return Err(BodyError::TooLong(bytes_max));
        }
        whole.extend_from_slice(&piece);
    }
}
