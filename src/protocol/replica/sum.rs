//! How are two replicas compared without reading their keys?
//!
//! A [`Sum`] tells two replicas apart in 24 bytes a slot. It is a sum modulo 2^128 of one hash an
//! entry, so that it is kept by one addition and one subtraction a write, that sums of neighbouring
//! slots add up, and that the order of writing leaves no trace. It is no proof against somebody who
//! chooses versions to deceive it (Bellare and Micciancio, *A New Paradigm for Collision-Free
//! Hashing*, 1997: addition needs wider sums for that); nodes and stores trust each other.

use std::ops::{AddAssign, SubAssign};

use crate::ids::Token;
use crate::version::Version;

/// Parts of the circle that have a sum and a watermark each.
pub const SLOTS: u32 = 1 << 16;

/// Bytes of one [`Sum`] as it is stored and sent.
pub const SUM_BYTES: usize = 24;

/// The slot of a token.
#[must_use]
pub fn slot_of(token: Token) -> u16 {
    u16::try_from(token.0 >> 48).expect("16 of 64 bits are left")
}

/// The digest of any number of entries, and how many they are.
///
/// As bytes: the sum, big-endian, 16 bytes; the count, big-endian, 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Sum modulo 2^128 of the first 128 bits, big-endian, of BLAKE3 over key, `ff`, version and
    /// one byte: 1 for a tombstone, 2 for a value whose bytes are lost or spoilt, else 0. No key has a
    /// byte `ff`.
    pub digest: u128,
    /// Entries, tombstones included.
    pub count: u64,
}

impl Sum {
    /// Of one entry that is whole.
    #[must_use]
    pub fn of(key: &[u8], version: Version, tombstone: bool) -> Self {
        Self::of_kind(key, version, u8::from(tombstone))
    }

    /// Of a value whose bytes are lost or spoilt: neither that of the value, nor that of none.
    #[must_use]
    pub fn of_damaged(key: &[u8], version: Version) -> Self {
        Self::of_kind(key, version, 2)
    }

    fn of_kind(key: &[u8], version: Version, kind: u8) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(key).update(&[0xff]).update(&version.to_bytes());
        hasher.update(&[kind]);
        let hash = hasher.finalize();
        let first = hash.as_bytes().first_chunk().expect("32 bytes have 16");
        Self { digest: u128::from_be_bytes(*first), count: 1 }
    }

    /// The stored and sent form.
    #[must_use]
    pub fn to_bytes(self) -> [u8; SUM_BYTES] {
        let mut out = [0; SUM_BYTES];
        out[..16].copy_from_slice(&self.digest.to_be_bytes());
        out[16..].copy_from_slice(&self.count.to_be_bytes());
        out
    }

    /// Reads the stored and sent form. Any bytes of this length are one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SUM_BYTES]) -> Self {
        let (digest, count) = bytes.split_first_chunk().expect("24 bytes have 16");
        let count = count.try_into().expect("8 bytes are left of 24");
        Self { digest: u128::from_be_bytes(*digest), count: u64::from_be_bytes(count) }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.digest = self.digest.wrapping_add(other.digest);
        self.count = self.count.wrapping_add(other.count);
    }
}

impl SubAssign for Sum {
    fn sub_assign(&mut self, other: Self) {
        self.digest = self.digest.wrapping_sub(other.digest);
        self.count = self.count.wrapping_sub(other.count);
    }
}
