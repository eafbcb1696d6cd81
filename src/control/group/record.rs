//! How are the rows of the log written, so that damage is noticed?
//!
//! A row is one byte that says the version, eight bytes of BLAKE3, and JSON. The sum covers the
//! row's own key: a row that was moved under another key is as damaged as one that was changed.
//! redb keeps sums of its pages as well, but looks at them only when it repairs.
//!
//! JSON, because these bytes outlive the release that wrote them: what a field means stays
//! readable without the code, and commands only ever gain variants and fields.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that this release writes.
const VERSION: u8 = 1;

/// Bytes before the JSON.
const HEAD_BYTES: usize = 9;

/// Why a row cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not what was written.
    #[error("its checksum is wrong")]
    Sum,
    /// A later release wrote it.
    #[error("it is of version {0}, which a later release wrote")]
    Version(u8),
    /// It is what was written, and says nothing to this release.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// The bytes of a row under `key`.
#[must_use]
pub fn encode(key: &[u8], value: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    serde_json::to_writer(&mut bytes, value).expect("rows are structs of texts and numbers");
    bytes[0] = VERSION;
    let sum = sum(key, VERSION, &bytes[HEAD_BYTES..]);
    bytes[1..HEAD_BYTES].copy_from_slice(&sum);
    bytes
}

/// What a row under `key` says.
///
/// # Errors
/// [`RecordError`].
pub fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, RecordError> {
    let Some((&[version, ref head @ ..], json)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Err(RecordError::Sum);
    };
    if *head != sum(key, version, json) {
        return Err(RecordError::Sum);
    }
    if version != VERSION {
        return Err(RecordError::Version(version));
    }
    Ok(serde_json::from_slice(json)?)
}

fn sum(key: &[u8], version: u8, json: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_be_bytes()).update(key).update(&[version]).update(json);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_and_any_other_key_is_noticed() {
        let bytes = encode(b"vote", &"something");
        assert_eq!(decode::<String>(b"vote", &bytes).expect("whole"), "something");
        assert!(matches!(decode::<String>(b"veto", &bytes), Err(RecordError::Sum)));
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(decode::<String>(b"vote", &damaged).is_err(), "bit {at}");
        }
        for len in 0..bytes.len() {
            assert!(decode::<String>(b"vote", &bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay_readable() {
        let bytes = encode(&7_u64.to_be_bytes(), &(1, "a"));
        let pinned = [&[1][..], &bytes[1..9], br#"[1,"a"]"#].concat();
        assert_eq!(bytes, pinned);
        let (number, text): (u8, String) = decode(&7_u64.to_be_bytes(), &pinned).expect("readable");
        assert_eq!((number, text.as_str()), (1, "a"));
    }
}
