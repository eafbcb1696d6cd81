//! What is in a snapshot?
//!
//! The agreed state at one place of the log, as one run of bytes that serves as file, as message
//! to a member that is far behind, and as backup:
//!
//! ```text
//! ringway-snapshot blake3 <64 hex digits>      the sum of all that follows this line
//! {"version":1,"meta":…,"taken_ms":…}          what it covers
//! …                                            the state, as `ClusterState::encode` makes it
//! ```
//!
//! The file is replaced whole and durably ([`crate::disk::atomic`]), so that the one before is
//! there until the new one is.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::types::Meta;
use crate::cluster::ClusterState;

const MAGIC: &[u8] = b"ringway-snapshot blake3 ";

/// A snapshot, taken apart.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What it covers.
    pub meta: Meta,
    /// When it was taken, by its maker's wall clock; shown, never decided on.
    pub taken_ms: u64,
    /// The state.
    pub state: ClusterState,
}

/// The version of the second line.
const VERSION: u32 = 1;

/// The second line. A struct and no tagged enum: serde reads keys that are numbers, as members'
/// ids are, only where it reads them directly.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    meta: Meta,
    taken_ms: u64,
}

/// Why bytes are no snapshot.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoSnapshot(String);

/// Why a node's snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is not what was written.
    #[error(
        "{}: the snapshot is damaged ({what}): bring the whole folder back from a copy of this \
         very node, or, if the rest of the cluster has a majority, remove this node there (`ringway \
         cluster remove-node`), empty its `data_dir` and let it join anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl Snapshot {
    /// The bytes of it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let head = Head { version: VERSION, meta: self.meta.clone(), taken_ms: self.taken_ms };
        let mut body = serde_json::to_vec(&head).expect("ids, addresses and numbers are JSON");
        body.push(b'\n');
        body.extend_from_slice(&self.state.encode());
        let mut bytes = Vec::with_capacity(MAGIC.len() + 65 + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(blake3::hash(&body).to_hex().as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(&body);
        bytes.into()
    }

    /// Takes bytes apart and checks them.
    ///
    /// # Errors
    /// [`NoSnapshot`].
    pub fn decode(bytes: &[u8]) -> Result<Self, NoSnapshot> {
        let no = |what: &str| NoSnapshot(what.to_owned());
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| no("it does not begin as one"))?;
        let (sum, body) = split_line(rest).ok_or_else(|| no("its first line has no end"))?;
        if sum != blake3::hash(body).to_hex().as_bytes() {
            return Err(no("its checksum is another"));
        }
        let (head, state) = split_line(body).ok_or_else(|| no("its second line has no end"))?;
        let Head { version, meta, taken_ms } =
            serde_json::from_slice(head).map_err(|error| NoSnapshot(error.to_string()))?;
        if version != VERSION {
            return Err(NoSnapshot(format!("it is of version {version}, of a later release")));
        }
        let state = ClusterState::decode(state).map_err(|error| NoSnapshot(error.to_string()))?;
        Ok(Self { meta, taken_ms, state })
    }

    /// Reads a node's snapshot; `None` if there is none.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn read(path: &Path) -> Result<Option<(Self, Bytes)>, SnapshotError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SnapshotError::Io { path: path.to_owned(), error }),
        };
        let snapshot = Self::decode(&bytes)
            .map_err(|NoSnapshot(what)| SnapshotError::Damaged { path: path.to_owned(), what })?;
        Ok(Some((snapshot, bytes)))
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'\n', bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}
