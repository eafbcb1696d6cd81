//! Which pool of which cluster is this store a shard of, and how far has its fence been raised?
//!
//! The persistent form opens with its version. Version 2, numbers little-endian:
//!
//! | bytes | content |
//! | --- | --- |
//! | 1 | version, 2 |
//! | 16 | cluster id |
//! | 8, 8 | the pool's birth: generation and epoch |
//! | 8, 8 | generation and epoch, the highest that were told |
//! | 8, 8, 8 | values, bytes of those, tombstones |
//! | rest | the shard's id |
//!
//! Version 1 has no birth, which is the unknown one.

use crate::ids::{Birth, ClusterId, Epoch, Generation, ShardId};
use crate::protocol::replica::PoolEpoch;
use crate::store::record::RecordError;

const FORM_1: u8 = 1;
const FORM_2: u8 = 2;

/// What is kept of a pool beside its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFacts {
    /// Whose pool it is.
    pub cluster: ClusterId,
    /// Which shard of it the store is.
    pub shard: ShardId,
    /// When the pool came to be.
    pub birth: Birth,
    /// The highest epoch that a request told.
    pub epoch: PoolEpoch,
    /// Values held.
    pub values: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Tombstones held.
    pub tombstones: u64,
}

impl PoolFacts {
    /// Of a pool that nothing was written to. No request of it can tell an epoch below its first.
    #[must_use]
    pub fn new(cluster: ClusterId, shard: ShardId, birth: Birth) -> Self {
        let epoch = PoolEpoch { generation: birth.generation, epoch: birth.epoch };
        Self { cluster, shard, birth, epoch, values: 0, bytes: 0, tombstones: 0 }
    }

    /// The persistent form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.shard.as_str().len());
        out.push(FORM_2);
        out.extend_from_slice(&self.cluster.0);
        let (Birth { generation, epoch }, told) = (self.birth, self.epoch);
        for number in [generation.0, epoch.0, told.generation.0, told.epoch.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.values, self.bytes, self.tombstones] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(self.shard.as_str().as_bytes());
        out
    }

    /// Reads the persistent form.
    ///
    /// # Errors
    /// [`RecordError`] for anything that [`PoolFacts::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (&form, rest) = bytes.split_first().ok_or(RecordError::Malformed)?;
        let has_birth = match form {
            FORM_1 => false,
            FORM_2 => true,
            _ => return Err(RecordError::Version(form)),
        };
        Self::decode_rest(rest, has_birth).ok_or(RecordError::Malformed)
    }

    fn decode_rest(bytes: &[u8], has_birth: bool) -> Option<Self> {
        let (cluster, mut bytes) = bytes.split_first_chunk()?;
        let mut number = || {
            let (number, rest) = bytes.split_first_chunk()?;
            bytes = rest;
            Some(u64::from_le_bytes(*number))
        };
        let birth = match has_birth {
            true => Birth { generation: Generation(number()?), epoch: Epoch(number()?) },
            false => Birth::default(),
        };
        let epoch = PoolEpoch { generation: Generation(number()?), epoch: Epoch(number()?) };
        let (values, held, tombstones) = (number()?, number()?, number()?);
        let shard = ShardId::new(std::str::from_utf8(bytes).ok()?).ok()?;
        let cluster = ClusterId(*cluster);
        Some(Self { cluster, shard, birth, epoch, values, bytes: held, tombstones })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> PoolFacts {
        PoolFacts {
            cluster: ClusterId([7; 16]),
            shard: ShardId::new("s1").expect("a name"),
            birth: Birth { generation: Generation(8), epoch: Epoch(9) },
            epoch: PoolEpoch { generation: Generation(1), epoch: Epoch(0x0203) },
            values: 4,
            bytes: 5,
            tombstones: 6,
        }
    }

    fn form(version: u8, numbers: &[[u8; 2]]) -> Vec<u8> {
        let mut form = vec![version];
        form.extend([7; 16]);
        for number in numbers {
            form.extend(number);
            form.extend([0; 6]);
        }
        form.extend(b"s1");
        form
    }

    #[test]
    fn version_2_is_pinned() {
        let bytes = facts().encode();
        let mut expected = form(2, &[[8, 0], [9, 0], [1, 0], [3, 2], [4, 0], [5, 0], [6, 0]]);
        assert_eq!(bytes, expected);
        assert_eq!(PoolFacts::decode(&bytes), Ok(facts()));
        for cut in 0..bytes.len() - 1 {
            assert_eq!(PoolFacts::decode(&bytes[..cut]), Err(RecordError::Malformed), "{cut}");
        }
        expected[0] = 3;
        assert_eq!(PoolFacts::decode(&expected), Err(RecordError::Version(3)));
    }

    #[test]
    fn version_1_stays_readable() {
        let old = form(1, &[[1, 0], [3, 2], [4, 0], [5, 0], [6, 0]]);
        let unborn = PoolFacts { birth: Birth::default(), ..facts() };
        assert_eq!(PoolFacts::decode(&old), Ok(unborn));
    }
}
