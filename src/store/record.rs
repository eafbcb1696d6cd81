//! What does the index say about one value, and in which bytes?
//!
//! The persistent form opens with its version. Version 1, all numbers little-endian:
//!
//! | bytes | content |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 1 | place of the body: 0 in the index, 1 in a file |
//! | 8 | body id |
//! | 8 | size of the body in bytes |
//! | 32 | BLAKE3 of the body |
//! | 8 | time of the write, milliseconds since 1970 |
//! | rest | kept fields ([`Meta`]) |
//!
//! A later release adds a version with more in it and goes on reading this one; it never changes
//! what a version means. A pinned vector keeps that promise.

use crate::ids::Digest;
use crate::store::meta::Meta;

const VERSION: u8 = 1;
const PLACE_INDEX: u8 = 0;
const PLACE_FILE: u8 = 1;

/// Names one body in one store. Counts upwards; the number of a body that is gone may come back
/// after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId(pub u64);

/// Where a body's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the index's table of bodies.
    Index,
    /// In a file of its own.
    File,
}

/// A value, all but its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which body it is.
    pub body: BodyId,
    /// Where that body is.
    pub place: Place,
    /// Its length in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes: the entity tag.
    pub digest: Digest,
    /// When it was written, in milliseconds since 1970, by the clock of this store.
    pub modified_ms: u64,
    /// Fields kept with it.
    pub meta: Meta,
}

/// Bytes that are no record of a version that this release knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a later release.
    #[error("the record has version {0}, this release reads up to {VERSION}")]
    Version(u8),
    /// Cut short or damaged.
    #[error("the record does not decode")]
    Malformed,
}

impl Record {
    /// The persistent form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96 + self.meta.len_bytes());
        out.push(VERSION);
        out.push(match self.place {
            Place::Index => PLACE_INDEX,
            Place::File => PLACE_FILE,
        });
        out.extend_from_slice(&self.body.0.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.digest.0);
        out.extend_from_slice(&self.modified_ms.to_le_bytes());
        self.meta.encode(&mut out);
        out
    }

    /// Reads the persistent form.
    ///
    /// # Errors
    /// [`RecordError`] for anything that [`Record::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (&version, rest) = bytes.split_first().ok_or(RecordError::Malformed)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        Self::decode_v1(rest).ok_or(RecordError::Malformed)
    }

    fn decode_v1(bytes: &[u8]) -> Option<Self> {
        let (&place, bytes) = bytes.split_first()?;
        let place = match place {
            PLACE_INDEX => Place::Index,
            PLACE_FILE => Place::File,
            _ => return None,
        };
        let (body, bytes) = bytes.split_first_chunk()?;
        let (size, bytes) = bytes.split_first_chunk()?;
        let (digest, bytes) = bytes.split_first_chunk()?;
        let (modified_ms, bytes) = bytes.split_first_chunk()?;
        Some(Self {
            body: BodyId(u64::from_le_bytes(*body)),
            place,
            size: u64::from_le_bytes(*size),
            digest: Digest(*digest),
            modified_ms: u64::from_le_bytes(*modified_ms),
            meta: Meta::decode(bytes).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn record() -> Record {
        let mut fields = HeaderMap::new();
        fields.insert("x-meta-a", HeaderValue::from_static("b"));
        Record {
            body: BodyId(0x0102_0304_0506_0708),
            place: Place::File,
            size: 5_000_000_000,
            digest: Digest(*blake3::hash(b"hello").as_bytes()),
            modified_ms: 1_700_000_000_123,
            meta: Meta::pick(&fields).expect("short fields"),
        }
    }

    #[test]
    fn version_1_is_pinned() {
        let hex: String = record().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "0101",
                "0807060504030201",
                "00f2052a01000000",
                "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f",
                "7b68e5cf8b010000",
                "08782d6d6574612d61010062",
            )
        );
    }

    #[test]
    fn what_was_written_is_read() {
        let record = record();
        assert_eq!(Record::decode(&record.encode()), Ok(record.clone()));
        let inline = Record { place: Place::Index, meta: Meta::default(), ..record };
        assert_eq!(Record::decode(&inline.encode()), Ok(inline));
    }

    #[test]
    fn other_bytes_are_errors() {
        let bytes = record().encode();
        for cut in 0..58 {
            assert_eq!(Record::decode(&bytes[..cut]), Err(RecordError::Malformed), "cut at {cut}");
        }
        let mut later = bytes.clone();
        later[0] = 2;
        assert_eq!(Record::decode(&later), Err(RecordError::Version(2)));
        let mut odd_place = bytes;
        odd_place[1] = 2;
        assert_eq!(Record::decode(&odd_place), Err(RecordError::Malformed));
    }
}
