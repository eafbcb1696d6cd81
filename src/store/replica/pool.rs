//! Which pool of which cluster is this store a shard of, and how far has its fence been raised?
//!
//! The persistent form opens with its version. Version 1, numbers little-endian:
//!
//! | bytes | content |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 16 | cluster id |
//! | 8, 8 | generation and epoch, the highest that were told |
//! | 8, 8, 8 | values, bytes of those, tombstones |
//! | rest | the shard's id |

use crate::ids::{ClusterId, Epoch, Generation, ShardId};
use crate::protocol::replica::PoolEpoch;
use crate::store::record::RecordError;

const FORM: u8 = 1;

/// What is kept of a pool beside its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFacts {
    /// Whose pool it is.
    pub cluster: ClusterId,
    /// Which shard of it the store is.
    pub shard: ShardId,
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
    /// Of a pool that nothing was written to.
    #[must_use]
    pub fn new(cluster: ClusterId, shard: ShardId) -> Self {
        let epoch = PoolEpoch::default();
        Self { cluster, shard, epoch, values: 0, bytes: 0, tombstones: 0 }
    }

    /// The persistent form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.shard.as_str().len());
        out.push(FORM);
        out.extend_from_slice(&self.cluster.0);
        let PoolEpoch { generation, epoch } = self.epoch;
        for number in [generation.0, epoch.0, self.values, self.bytes, self.tombstones] {
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
        if form != FORM {
            return Err(RecordError::Version(form));
        }
        Self::decode_1(rest).ok_or(RecordError::Malformed)
    }

    fn decode_1(bytes: &[u8]) -> Option<Self> {
        let (cluster, mut bytes) = bytes.split_first_chunk()?;
        let mut number = || {
            let (number, rest) = bytes.split_first_chunk()?;
            bytes = rest;
            Some(u64::from_le_bytes(*number))
        };
        let epoch = PoolEpoch { generation: Generation(number()?), epoch: Epoch(number()?) };
        let (values, held, tombstones) = (number()?, number()?, number()?);
        let shard = ShardId::new(std::str::from_utf8(bytes).ok()?).ok()?;
        let cluster = ClusterId(*cluster);
        Some(Self { cluster, shard, epoch, values, bytes: held, tombstones })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_pinned() {
        let facts = PoolFacts {
            cluster: ClusterId([7; 16]),
            shard: ShardId::new("s1").expect("a name"),
            epoch: PoolEpoch { generation: Generation(1), epoch: Epoch(0x0203) },
            values: 4,
            bytes: 5,
            tombstones: 6,
        };
        let bytes = facts.encode();
        let mut expected = vec![1];
        expected.extend([7; 16]);
        for number in [[1, 0], [3, 2], [4, 0], [5, 0], [6, 0]] {
            expected.extend(number);
            expected.extend([0; 6]);
        }
        expected.extend(b"s1");
        assert_eq!(bytes, expected);
        assert_eq!(PoolFacts::decode(&bytes), Ok(facts));
        for cut in 0..bytes.len() - 1 {
            assert_eq!(PoolFacts::decode(&bytes[..cut]), Err(RecordError::Malformed), "{cut}");
        }
        expected[0] = 2;
        assert_eq!(PoolFacts::decode(&expected), Err(RecordError::Version(2)));
    }
}
