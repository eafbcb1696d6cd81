//! How is a body taken in whole, but never more of it than there is room for?

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

/// The longest message: a snapshot of the agreed state, which has at most a few thousand shards
/// of some hundred bytes each and a bounded history, is far below this.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a body may pause between two pieces. Nodes send what they have whole in memory, so a
/// pause is the network's, and one of this length means that it is gone.
const STALL_MAX: Duration = Duration::from_secs(10);

/// What is set aside on the word of a length field alone.
const RESERVE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a body was not taken in.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("a message of more than {BODY_BYTES_MAX} bytes")]
    TooLong,
    #[error("a message that paused for {STALL_MAX:?}")]
    Stalled,
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

pub(super) async fn read(mut body: Incoming) -> Result<Bytes, BodyError> {
    let told = body.size_hint().lower();
    if told > BODY_BYTES_MAX as u64 {
        return Err(BodyError::TooLong);
    }
    let reserve = usize::try_from(told.min(RESERVE_BYTES_MAX)).expect("a MiB fits");
    let mut whole = BytesMut::with_capacity(reserve);
    loop {
        let frame = timeout(STALL_MAX, body.frame()).await.map_err(|_| BodyError::Stalled)?;
        let Some(frame) = frame.transpose()? else { return Ok(whole.freeze()) };
        // Trailers mean nothing here.
        let Ok(piece) = frame.into_data() else { continue };
        if whole.len() + piece.len() > BODY_BYTES_MAX {
            return Err(BodyError::TooLong);
        }
        whole.extend_from_slice(&piece);
    }
}
