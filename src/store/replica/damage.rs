//! How does a store notice that it has lost what it keeps, and what does it do then?
//!
//! Disks lose bytes without a word, and people lose files. So what is read for a node is compared
//! with the digest that was taken when it came in: a small body before any of it is sent, a large one
//! while it is, so that its last piece is not sent, and the reader sees that it was cut. Who was sent
//! the pieces before may have got spoilt ones. A node that takes the rest from elsewhere therefore
//! takes the digest of all by itself (`dispatch::proof`): what is noted here may come too late, or be
//! lost with a full disk. A part of a large body is compared with nothing.
//!
//! What nobody asks for is read by [`scrub`](super::scrub).
//!
//! What was found is written down with the record (see [`Kept`]), so that the
//! store does not answer with it any more, and remembers across restarts what it lacks.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use redb::ReadableTable;

use crate::ids::{Birth, ClusterId, PoolName};
use crate::protocol::replica::PoolEpoch;
use crate::store::engine::Store;
use crate::store::index::{Index, IndexError};
use crate::store::record::{BodyId, Place};
use crate::store::replica::record::{Kept, RowKey, Value, split};
use crate::store::replica::write::{KeptAction, KeptDone, KeptWrite};
use crate::version::Version;

/// What comes upon damage.
pub(in crate::store) const FOUND: [&str; 3] = ["start", "read", "scrub"];
/// Index of [`FOUND`].
pub(in crate::store) const AT_START: usize = 0;
/// Index of [`FOUND`].
pub(in crate::store) const BY_READING: usize = 1;
/// Index of [`FOUND`].
pub(in crate::store) const BY_SCRUBBING: usize = 2;

/// A value that is being read, to be noted as damaged if it proves to be.
#[derive(Clone)]
pub(in crate::store) struct Suspect {
    store: Arc<Store>,
    pool: PoolName,
    key: RowKey,
    version: Version,
    value: Value,
}

impl Suspect {
    pub(super) fn new(
        store: &Arc<Store>,
        pool: &PoolName,
        key: &RowKey,
        version: Version,
        value: Value,
    ) -> Self {
        Self { store: Arc::clone(store), pool: pool.clone(), key: key.clone(), version, value }
    }

    /// Whether its bytes should have this digest.
    pub(in crate::store) fn is_of(&self, found: &blake3::Hash) -> bool {
        *found.as_bytes() == self.value.digest.0
    }

    /// Its body, and how long that is.
    pub(super) fn body(&self) -> (BodyId, u64) {
        (self.value.body, self.value.size)
    }

    /// Notes that its bytes are lost or spoilt. When this returns, the record says so, if the disk
    /// takes anything at all.
    pub(in crate::store) async fn note(self, by: usize, why: &str) {
        let Self { store, pool, key, version, value } = self;
        let name = String::from_utf8_lossy(key.key()).into_owned();
        // The store acts for itself: by no cluster's word and in no epoch.
        let write = KeptWrite {
            pool: pool.clone(),
            cluster: ClusterId([0; 16]),
            birth: Birth::default(),
            epoch: PoolEpoch::default(),
            action: KeptAction::Damage(key.clone(), version, value.body),
            cost_bytes: 0,
        };
        // A write that comes between has replaced the body, and then there is nothing to note.
        match own(store.write_kept(write).await) {
            Ok(true) => {
                store.metrics().replica.damage_found[by].inc();
                tracing::error!(
                    %pool,
                    key = name,
                    %version,
                    body = %format_args!("{:016x}", value.body.0),
                    "a value is damaged: {why}; another replica will bring it. Look at the disk"
                );
            }
            Ok(false) => {}
            Err(error) => tracing::error!(
                %pool,
                key = name,
                %version,
                "a value is damaged: {why}; that cannot be noted: {error}"
            ),
        }
    }
}

fn own(done: Result<KeptDone, crate::store::replica::write::KeptError>) -> Result<bool, String> {
    match done {
        Ok(KeptDone::Damaged(is_news)) => Ok(is_news),
        Ok(other) => Err(format!("the store answered itself {other:?}")),
        Err(error) => Err(format!("{error:?}")),
    }
}

/// Whether a failure to read says that the bytes are gone, and not that the system is short of
/// something.
pub(in crate::store) fn is_loss(error: &io::Error) -> bool {
    let is_bad_disk = rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::IO);
    let kinds = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    is_bad_disk || kinds.contains(&error.kind())
}

/// Notes at the start which values have lost their files; says how many.
///
/// # Errors
/// When the index cannot be read or changed.
pub(in crate::store) fn note_lost(index: &Index, lost: &[BodyId]) -> Result<u64, IndexError> {
    if lost.is_empty() {
        return Ok(0);
    }
    let lost: BTreeSet<u64> = lost.iter().map(|body| body.0).collect();
    let view = index.view();
    let mut count = 0;
    for pool in view.pools() {
        let mut found: Vec<(RowKey, Version, BodyId)> = Vec::new();
        for row in pool.table().iter()? {
            let (key, row) = row?;
            let (kept, _) = Kept::decode(row.value())?;
            if let Some(value) = kept.value
                && value.place == Place::File
                && lost.contains(&value.body.0)
            {
                let (token, key) = split(key.value());
                found.push((RowKey::new(token, key), kept.version, value.body));
            }
        }
        for some in found.chunks(NOTED_AT_ONCE) {
            let name = pool.name().as_str();
            let (noted, _) = index.change(true, |change| {
                let mut shard = change.shard(name)?.expect("a pool that was bound stays so");
                let mut noted = 0;
                for (key, version, body) in some {
                    noted += u64::from(shard.damage(key, *version, *body)?);
                }
                Ok(noted)
            })?;
            count += noted;
        }
    }
    Ok(count)
}

/// Records changed in one transaction, as few as a batch has.
const NOTED_AT_ONCE: usize = 256;
