//! Which of two writes does a replica keep, and how are two replicas compared?
//!
//! A replica holds under a key a value, a tombstone or nothing. Nothing is not older than
//! everything: a deletion may have been there and been collected. So each slot of the circle has a
//! *watermark*, the greatest version of a tombstone that was dropped from it, and an absent key
//! counts as deleted at that version. Without it a late put would bring back what was deleted.
//!
//! A [`Sum`] tells two replicas apart in 24 bytes a slot. It is a sum modulo 2^128 of one hash an
//! entry, so that it is kept by one addition and one subtraction a write, that sums of neighbouring
//! slots add up, and that the order of writing leaves no trace. It is no proof against somebody who
//! chooses versions to deceive it (Bellare and Micciancio, *A New Paradigm for Collision-Free
//! Hashing*, 1997: addition needs wider sums for that); nodes and stores trust each other.

use std::ops::{AddAssign, SubAssign};

use crate::ids::Token;
use crate::version::Version;

/// Parts of the circle that have a digest and a watermark each.
pub const SLOTS: u32 = 1 << 16;

/// Bytes of one [`Sum`] as it is stored and sent.
pub const SUM_BYTES: usize = 24;

/// The slot of a token.
#[must_use]
pub fn slot_of(token: Token) -> u16 {
    u16::try_from(token.0 >> 48).expect("16 of 64 bits are left")
}

/// What a replica holds under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A value of this version.
    Value(Version),
    /// The key was deleted under this version.
    Tombstone(Version),
    /// No record.
    Absent {
        /// That of the key's slot, or [`Version::NONE`].
        watermark: Version,
    },
}

impl Held {
    /// The newest version that is known of the key: what the next write must be above.
    #[must_use]
    pub fn newest(self) -> Version {
        match self {
            Self::Value(version) | Self::Tombstone(version) => version,
            Self::Absent { watermark } => watermark,
        }
    }
}

/// What becomes of a write that comes to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is newer than what is held and takes its place.
    Apply,
    /// It is what is held. Nothing changes.
    Repeat,
    /// Newer is held, or was and is deleted. Nothing changes.
    Superseded,
}

/// Judges the write `incoming`.
///
/// The watermark speaks of absent keys only: a key that is there has its own history.
#[must_use]
pub fn decide(held: Held, incoming: Version) -> Decision {
    match held {
        Held::Value(version) | Held::Tombstone(version) if version == incoming => Decision::Repeat,
        held if incoming > held.newest() => Decision::Apply,
        _ => Decision::Superseded,
    }
}

/// The digest of any number of entries, and how many they are.
///
/// As bytes: the sum, big-endian, 16 bytes; the count, big-endian, 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Sum modulo 2^128 of the first 128 bits, big-endian, of BLAKE3 over key, `ff`, version and
    /// one byte: 1 for a tombstone, else 0. No key has a byte `ff`.
    pub digest: u128,
    /// Entries, tombstones included.
    pub count: u64,
}

impl Sum {
    /// Of one entry.
    #[must_use]
    pub fn of(key: &[u8], version: Version, tombstone: bool) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(key).update(&[0xff]).update(&version.to_bytes());
        hasher.update(&[u8::from(tombstone)]);
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
