//! What does the index say about one key of a pool that keeps data, and in which bytes?
//!
//! The persistent form opens with its version. Version 1, numbers little-endian but where said:
//!
//! | bytes | content |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 1 | what is held: 0 a value in the index, 1 a value in a file, 2 a tombstone; 3 and 4 as 0 and 1, but damaged |
//! | 26 | version of the write ([`Version::to_bytes`], big-endian) |
//! | 8 | when it was written, milliseconds since 1970 |
//!
//! and of a value:
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | body id |
//! | 8 | size of the body in bytes |
//! | 32 | BLAKE3 of the body |
//! | rest | kept fields ([`Meta`]) |
//!
//! The body of a damaged value may be gone. Of one whose bytes have never been here, it is an empty one
//! in the index, so that no other gets its id.
//!
//! A later release adds a version with more in it and goes on reading this one; it never changes
//! what a version means. A pinned vector keeps that promise.

use crate::ids::{Digest, Token};
use crate::protocol::holding::Held;
use crate::protocol::replica::Sum;
use crate::store::meta::Meta;
use crate::store::record::{BodyId, Place, RecordError};
use crate::version::{VERSION_BYTES, Version};

const FORM: u8 = 1;
const VALUE_IN_INDEX: u8 = 0;
const VALUE_IN_FILE: u8 = 1;
const TOMBSTONE: u8 = 2;
const DAMAGED_IN_INDEX: u8 = 3;
const DAMAGED_IN_FILE: u8 = 4;

/// Bytes of a key's token in a row's key.
const TOKEN_BYTES: usize = 8;

/// A key and its place on the circle: the key of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowKey(Vec<u8>);

impl RowKey {
    /// Of a key and its token.
    #[must_use]
    pub fn new(token: Token, key: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(TOKEN_BYTES + key.len());
        bytes.extend_from_slice(&token.0.to_be_bytes());
        bytes.extend_from_slice(key);
        Self(bytes)
    }

    /// As the tables have it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.0[TOKEN_BYTES..]
    }

    /// Its place.
    #[must_use]
    pub fn token(&self) -> Token {
        split(&self.0).0
    }
}

/// Takes a row's key apart.
#[must_use]
pub fn split(row_key: &[u8]) -> (Token, &[u8]) {
    let (token, key) = row_key.split_first_chunk().expect("rows begin with a token");
    (Token(u64::from_be_bytes(*token)), key)
}

/// What is held under a key, all but kept fields and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The newest write.
    pub version: Version,
    /// When it was written, in milliseconds since 1970: by its version unless it was copied from a
    /// place that knew better.
    pub modified_ms: u64,
    /// What it wrote; `None` for a deletion.
    pub value: Option<Value>,
}

/// The value of a [`Kept`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// Which body it is.
    pub body: BodyId,
    /// Where that body is.
    pub place: Place,
    /// Its length in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes, as they were taken in.
    pub digest: Digest,
    /// Whether the bytes were found to be gone or to be others.
    pub is_damaged: bool,
}

impl Kept {
    /// As the rule wants it.
    #[must_use]
    pub fn held(&self) -> Held {
        match self.value {
            Some(Value { is_damaged: true, .. }) => Held::Damaged(self.version),
            Some(_) => Held::Value(self.version),
            None => Held::Tombstone(self.version),
        }
    }

    /// Whether it is a value whose bytes are lost or spoilt.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.value.is_some_and(|value| value.is_damaged)
    }

    /// What it adds to the sum of its slot.
    #[must_use]
    pub fn sum(&self, key: &[u8]) -> Sum {
        match self.is_damaged() {
            true => Sum::of_damaged(key, self.version),
            false => Sum::of(key, self.version, self.value.is_none()),
        }
    }

    /// The persistent form, with the kept fields of a value.
    #[must_use]
    pub fn encode(&self, meta: &Meta) -> Vec<u8> {
        let mut out = Vec::with_capacity(96 + meta.len_bytes());
        out.push(FORM);
        out.push(match self.value.map(|value| (value.place, value.is_damaged)) {
            Some((Place::Index, false)) => VALUE_IN_INDEX,
            Some((Place::File, false)) => VALUE_IN_FILE,
            Some((Place::Index, true)) => DAMAGED_IN_INDEX,
            Some((Place::File, true)) => DAMAGED_IN_FILE,
            None => TOMBSTONE,
        });
        out.extend_from_slice(&self.version.to_bytes());
        out.extend_from_slice(&self.modified_ms.to_le_bytes());
        if let Some(value) = self.value {
            out.extend_from_slice(&value.body.0.to_le_bytes());
            out.extend_from_slice(&value.size.to_le_bytes());
            out.extend_from_slice(&value.digest.0);
            meta.encode(&mut out);
        }
        out
    }

    /// Reads the persistent form, and where the kept fields begin in it.
    ///
    /// # Errors
    /// [`RecordError`] for anything that [`Kept::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), RecordError> {
        let (&form, rest) = bytes.split_first().ok_or(RecordError::Malformed)?;
        if form != FORM {
            return Err(RecordError::Version(form));
        }
        Self::decode_1(rest).ok_or(RecordError::Malformed)
    }

    fn decode_1(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&kind, bytes) = bytes.split_first()?;
        let (version, bytes) = bytes.split_first_chunk::<VERSION_BYTES>()?;
        let (modified_ms, bytes) = bytes.split_first_chunk()?;
        let version = Version::from_bytes(version);
        let modified_ms = u64::from_le_bytes(*modified_ms);
        let place = match kind {
            VALUE_IN_INDEX | DAMAGED_IN_INDEX => Place::Index,
            VALUE_IN_FILE | DAMAGED_IN_FILE => Place::File,
            TOMBSTONE if bytes.is_empty() => {
                return Some((Self { version, modified_ms, value: None }, bytes));
            }
            _ => return None,
        };
        let (body, bytes) = bytes.split_first_chunk()?;
        let (size, bytes) = bytes.split_first_chunk()?;
        let (digest, meta) = bytes.split_first_chunk()?;
        let value = Value {
            body: BodyId(u64::from_le_bytes(*body)),
            place,
            size: u64::from_le_bytes(*size),
            digest: Digest(*digest),
            is_damaged: matches!(kind, DAMAGED_IN_INDEX | DAMAGED_IN_FILE),
        };
        Some((Self { version, modified_ms, value: Some(value) }, meta))
    }
}

/// Reads the kept fields that [`Kept::decode`] found.
///
/// # Errors
/// When they do not decode.
pub fn decode_meta(bytes: &[u8]) -> Result<Meta, RecordError> {
    Meta::decode(bytes).map_err(|_| RecordError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Incarnation, NodeId};
    use crate::version::{Proposer, Stamp};
    use http::{HeaderMap, HeaderValue};

    fn kept() -> (Kept, Meta) {
        let mut fields = HeaderMap::new();
        fields.insert("x-meta-a", HeaderValue::from_static("b"));
        let proposer = Proposer { node: NodeId(3), incarnation: Incarnation(17), worker: 2 };
        let value = Value {
            body: BodyId(0x0102_0304_0506_0708),
            place: Place::File,
            size: 5_000_000_000,
            digest: Digest(*blake3::hash(b"hello").as_bytes()),
            is_damaged: false,
        };
        let kept = Kept {
            version: Version { stamp: Stamp::of_ms(1_763_762_400_125), proposer },
            modified_ms: 1_700_000_000_123,
            value: Some(value),
        };
        (kept, Meta::pick(&fields).expect("short fields"))
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn version_1_is_pinned() {
        let (kept, meta) = kept();
        let version = "019aa86e6b7d0000000000000000000300000000000000110002";
        assert_eq!(
            hex(&kept.encode(&meta)),
            [
                "0101",
                version,
                "7b68e5cf8b010000",
                "0807060504030201",
                "00f2052a01000000",
                "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f",
                "08782d6d6574612d61010062",
            ]
            .concat()
        );
        let hurt = |place| {
            let value = kept.value.map(|value| Value { place, is_damaged: true, ..value });
            let bytes = Kept { value, ..kept }.encode(&meta);
            let (found, rest) = Kept::decode(&bytes).expect("our own");
            assert_eq!((found.value, rest.is_empty()), (value, false));
            hex(&bytes[..2])
        };
        assert_eq!([hurt(Place::Index), hurt(Place::File)], ["0103", "0104"]);
        let gone = Kept { value: None, ..kept };
        assert_eq!(hex(&gone.encode(&meta)), ["0102", version, "7b68e5cf8b010000"].concat());
    }

    #[test]
    fn what_was_written_is_read() {
        let (kept, meta) = kept();
        let bytes = kept.encode(&meta);
        let (found, rest) = Kept::decode(&bytes).expect("our own");
        assert_eq!((found, decode_meta(rest)), (kept, Ok(meta.clone())));
        let gone = Kept { value: None, ..kept };
        let bytes = gone.encode(&meta);
        assert_eq!(Kept::decode(&bytes), Ok((gone, &[][..])));
        let key = RowKey::new(Token(0x0102), b"a/b");
        assert_eq!((key.token(), key.key()), (Token(0x0102), &b"a/b"[..]));
        assert_eq!(hex(key.bytes()), "0000000000000102612f62");
    }

    #[test]
    fn other_bytes_are_errors() {
        let (kept, meta) = kept();
        let bytes = kept.encode(&meta);
        for cut in 0..84 {
            assert_eq!(Kept::decode(&bytes[..cut]), Err(RecordError::Malformed), "cut at {cut}");
        }
        let mut other = bytes.clone();
        other[0] = 2;
        assert_eq!(Kept::decode(&other), Err(RecordError::Version(2)));
        // A tombstone has no more behind it, and there is no sixth kind.
        for kind in [2, 5] {
            other.clone_from(&bytes);
            other[1] = kind;
            assert_eq!(Kept::decode(&other), Err(RecordError::Malformed));
        }
    }
}
