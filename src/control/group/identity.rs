//! Who is this node?
//!
//! The file `identity` in the node's folder says it, and it lives and dies with the log beside it:
//! an id that came back with an empty log would vote a second time where it has voted already.
//! `node.name` in the configuration is a label and decides nothing.
//!
//! A node is *unborn* until `cluster init` or a join gives it an id. What it draws before it asks
//! to join, its nonce, is written down first: a join that is repeated after a crash gets the same
//! id.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::atomic;
use crate::ids::{ClusterId, Generation, NodeId, Nonce};

const FILE: &str = "identity";

/// The file's first line is this, followed by the BLAKE3 of all that comes behind the line.
const MAGIC: &str = "ringway-identity blake3 ";

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node within it.
    pub node: NodeId,
    /// How often the cluster was rebuilt after a loss of its quorum.
    pub generation: Generation,
    /// Whether the cluster removed it. It may not take part any more, ever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Drawn before the node asked to join for the first time.
    pub nonce: Nonce,
    /// None for an unborn node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "version")]
enum Persisted {
    #[serde(rename = "1")]
    V1(Identity),
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It is not what was written.
    #[error(
        "{}: the file is damaged ({what}): bring it back from a copy of this very node, or, if the \
         rest of the cluster has a majority, remove this node there (`ringway cluster \
         remove-node`), empty its `data_dir` and let it join anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl Identity {
    /// What the folder says; `None` if it says nothing.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read(data_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IdentityError::Io { path, error }),
        };
        let parsed = parse(&bytes);
        parsed.map(Some).map_err(|what| IdentityError::Damaged { path, what })
    }

    /// Makes this what the folder says, durably.
    ///
    /// # Errors
    /// [`IdentityError::Io`]; the folder then says what it said.
    pub fn write(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let json = serde_json::to_vec_pretty(&Persisted::V1(*self))
            .expect("ids and numbers are always JSON");
        let mut bytes = format!("{MAGIC}{}\n", blake3::hash(&json).to_hex()).into_bytes();
        bytes.extend_from_slice(&json);
        let path = data_dir.join(FILE);
        atomic::replace(&path, &bytes, 0o600).map_err(|error| IdentityError::Io { path, error })
    }
}

fn parse(bytes: &[u8]) -> Result<Identity, String> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or("no such file of ours")?;
    let at = memchr::memchr(b'\n', rest).ok_or("its first line has no end")?;
    let (sum, json) = (&rest[..at], &rest[at + 1..]);
    if sum != blake3::hash(json).to_hex().as_bytes() {
        return Err("its checksum is another".to_owned());
    }
    let Persisted::V1(identity) =
        serde_json::from_slice(json).map_err(|error| error.to_string())?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let member = Member {
            cluster: ClusterId([7; 16]),
            node: NodeId(3),
            generation: Generation(1),
            removed: false,
        };
        Identity { nonce: Nonce([9; 16]), member: Some(member) }
    }

    #[test]
    fn what_was_written_is_read_and_damage_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Identity::read(folder.path()).expect("none"), None);
        identity().write(folder.path()).expect("written");
        assert_eq!(Identity::read(folder.path()).expect("there"), Some(identity()));
        let path = folder.path().join(FILE);
        let whole = std::fs::read(&path).expect("a file");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            std::fs::write(&path, damaged).expect("written");
            let error = Identity::read(folder.path()).expect_err("damaged");
            assert!(error.to_string().contains("identity"), "{error}");
        }
    }

    #[test]
    fn the_file_of_version_1_stays_readable() {
        let json = r#"{"version":"1","nonce":"09090909090909090909090909090909","member":{"cluster":"07070707070707070707070707070707","node":3,"generation":1}}"#;
        let bytes = format!("{MAGIC}{}\n{json}", blake3::hash(json.as_bytes()).to_hex());
        assert_eq!(parse(bytes.as_bytes()), Ok(identity()));
    }
}
