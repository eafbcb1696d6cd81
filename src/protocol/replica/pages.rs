//! In which JSON does a store tell what it holds?

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::id::PoolEpoch;
use crate::ids::{Birth, ClusterId, ShardId, StoreId, Token};
use crate::version::Version;

/// A page of what is held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// In the order that was asked for.
    pub keys: Vec<Entry>,
    /// What to ask for the next page with; absent on the last. A page may be short, even empty, and
    /// have one nonetheless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What is held under one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// As it is written in a path, escapes and all.
    pub key: String,
    /// Its place on the circle.
    #[serde(with = "token")]
    pub token: Token,
    /// The newest write.
    #[serde(with = "text")]
    pub version: Version,
    /// Whether that write was a deletion.
    pub tombstone: bool,
    /// Bytes of the value; 0 of a tombstone.
    pub size: u64,
    /// BLAKE3 of the value's bytes in hexadecimal; empty for a tombstone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Whether the bytes of the value are lost or spoilt. Said only where it is so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
}

/// The watermarks of slots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermarks {
    /// Those slots that have one, in ascending order.
    pub watermarks: Vec<Watermark>,
}

/// The watermark of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Which slot.
    pub slot: u16,
    /// What an absent key of it counts as.
    #[serde(with = "text")]
    pub version: Version,
}

/// What a collection of tombstones did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Tombstones that are gone.
    pub dropped: u64,
}

/// How a store does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Who answers.
    pub store: StoreId,
    /// Its clock, in milliseconds since 1970.
    pub now_ms: u64,
    /// Why it takes no writes until it is started again, if so.
    pub fenced: Option<String>,
    /// Whether its disk is too full for writes.
    pub full: bool,
    /// What it holds of the pool that was asked for; absent while it is no shard of it.
    pub pool: Option<Bound>,
}

/// What a store holds of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The cluster whose pool it is.
    pub cluster: ClusterId,
    /// Which shard of it the store is.
    pub shard: ShardId,
    /// When the pool came to be.
    #[serde(default, with = "text")]
    pub birth: Birth,
    /// The highest epoch that it was told.
    #[serde(with = "text")]
    pub epoch: PoolEpoch,
    /// Values held.
    pub values: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Tombstones held.
    pub tombstones: u64,
    /// Values whose bytes are lost or spoilt.
    #[serde(default)]
    pub damaged: u64,
    /// Bodies staged and not committed, of all pools.
    pub stages: u64,
}

/// As its text.
mod text {
    use super::{Deserialize, Deserializer, Display, FromStr, Serializer, de};

    pub fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// As 16 hexadecimal digits.
mod token {
    use super::{Deserialize, Deserializer, Serializer, Token, de};

    pub fn serialize<S: Serializer>(token: &Token, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(token)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Token, D::Error> {
        let text = String::deserialize(from)?;
        super::super::id::parse_token(&text).map_err(de::Error::custom)
    }
}
