//! What stands in the file of hints?
//!
//! A magic line, then notes, each framed by its length and a CRC-32:
//!
//! ```text
//! "RINGWAYHINTS1\n\0\0"
//! u32 length of the payload | u32 CRC-32 of the payload | payload
//! payload: u8 what | u8 length, pool | u8 length, shard | what belongs to it
//! ```
//!
//! All numbers are big-endian. A note that is cut off or does not fit its checksum ends the file:
//! where the next one begins cannot be known, so what stands behind it is cut, and said to be.

use std::sync::Arc;

use crate::ids::{PoolName, ShardId, Token};
use crate::protocol::handoff::{Hint, HintBook};
use crate::version::{VERSION_BYTES, Version};

/// How a file begins. Another release's begins otherwise.
pub const MAGIC: &[u8; 16] = b"RINGWAYHINTS1\n\0\0";

/// The largest payload: two names, a token, a version, a key of 64 KiB at most.
const PAYLOAD_BYTES_MAX: usize = 80 * 1024;

const FRAME_BYTES: usize = 8;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A write was missed.
    Missed(Hint),
    /// The shard has this version of the key, or a newer one.
    Settled(Hint),
    /// The shard has missed more than there is room for.
    Overflowed(PoolName, ShardId),
    /// The shard has been compared in full.
    Compared(PoolName, ShardId),
    /// The shard is no more.
    Forgotten(PoolName, ShardId),
}

impl Note {
    fn place(&self) -> (u8, &PoolName, &ShardId) {
        match self {
            Self::Missed(hint) => (1, &hint.pool, &hint.shard),
            Self::Settled(hint) => (2, &hint.pool, &hint.shard),
            Self::Overflowed(pool, shard) => (3, pool, shard),
            Self::Compared(pool, shard) => (4, pool, shard),
            Self::Forgotten(pool, shard) => (5, pool, shard),
        }
    }

    /// Appends the framed note.
    pub fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0; FRAME_BYTES]);
        let (what, pool, shard) = self.place();
        out.push(what);
        for name in [pool.as_str(), shard.as_str()] {
            out.push(u8::try_from(name.len()).expect("a name has at most 64 bytes"));
            out.extend_from_slice(name.as_bytes());
        }
        if let Self::Missed(hint) | Self::Settled(hint) = self {
            out.extend_from_slice(&hint.token.0.to_be_bytes());
            out.extend_from_slice(&hint.version.to_bytes());
            out.extend_from_slice(&hint.key);
        }
        let payload = &out[begin + FRAME_BYTES..];
        let length = u32::try_from(payload.len()).expect("a note is short");
        let sum = crc32fast::hash(payload);
        out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
        out[begin + 4..begin + 8].copy_from_slice(&sum.to_be_bytes());
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let (what, rest) = payload.split_first()?;
        let (pool, rest) = name(rest)?;
        let (shard, rest) = name(rest)?;
        let (pool, shard) = (PoolName::new(pool).ok()?, ShardId::new(shard).ok()?);
        let hint = |pool, shard| {
            let (token, rest) = rest.split_first_chunk()?;
            let (version, key) = rest.split_first_chunk::<VERSION_BYTES>()?;
            Some(Hint {
                pool,
                shard,
                key: Arc::from(key),
                token: Token(u64::from_be_bytes(*token)),
                version: Version::from_bytes(version),
            })
        };
        match what {
            1 => hint(pool, shard).map(Self::Missed),
            2 => hint(pool, shard).map(Self::Settled),
            3 if rest.is_empty() => Some(Self::Overflowed(pool, shard)),
            4 if rest.is_empty() => Some(Self::Compared(pool, shard)),
            5 if rest.is_empty() => Some(Self::Forgotten(pool, shard)),
            _ => None,
        }
    }

    /// Does to the book what the note says.
    pub fn apply(self, book: &mut HintBook) {
        match self {
            Self::Missed(hint) => drop(book.add(hint)),
            Self::Settled(Hint { pool, shard, key, version, .. }) => {
                book.settle(&pool, &shard, &key, version);
            }
            Self::Overflowed(pool, shard) => book.overflow(&pool, &shard),
            Self::Compared(pool, shard) => book.compared(&pool, &shard),
            Self::Forgotten(pool, shard) => book.forget(&pool, &shard),
        }
    }
}

fn name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

/// A file that is read to its end or to its first damage.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins behind the magic; `None` if there is none.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.starts_with(MAGIC).then_some(Self { bytes, at: MAGIC.len() })
    }

    /// How many bytes are good, from the beginning.
    #[must_use]
    pub fn good_bytes(&self) -> usize {
        self.at
    }
}

impl Iterator for Reader<'_> {
    type Item = Note;

    fn next(&mut self) -> Option<Note> {
        let (length, rest) = self.bytes[self.at..].split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let payload = rest.get(..length).filter(|_| length <= PAYLOAD_BYTES_MAX)?;
        if crc32fast::hash(payload) != u32::from_be_bytes(*sum) {
            return None;
        }
        let note = Note::parse(payload)?;
        self.at += FRAME_BYTES + length;
        Some(note)
    }
}

/// A whole file that says what the book holds.
#[must_use]
pub fn whole(book: &HintBook) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (pool, shard, pending) in book.pending() {
        if pending.overflowed {
            Note::Overflowed(pool.clone(), shard.clone()).write(&mut out);
        }
    }
    for hint in book.all() {
        Note::Missed(hint).write(&mut out);
    }
    out
}
