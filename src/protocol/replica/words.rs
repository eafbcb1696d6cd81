//! How are the parts of a replica request and its answer spelled?

use std::fmt;
use std::str::FromStr;

use crate::ids::PoolName;

/// What every replica request's path begins with.
pub const PREFIX: &str = "/_ringway/replica/";

/// The cluster that asks, 32 hexadecimal digits.
pub const CLUSTER: &str = "ringway-cluster";
/// The pool's epoch that the node acts by, a [`PoolEpoch`](super::PoolEpoch).
pub const EPOCH: &str = "ringway-epoch";
/// When the pool that is meant came to be, a [`Birth`](crate::ids::Birth). Whoever says none means one
/// of before births were told.
pub const BIRTH: &str = "ringway-birth";
/// The store that is meant, or that answers, 32 hexadecimal digits.
pub const STORE: &str = "ringway-store";
/// The shard that a store becomes.
pub const SHARD: &str = "ringway-shard";
/// A [`StageId`](super::StageId).
pub const STAGE: &str = "ringway-stage";
/// The key's token, 16 hexadecimal digits.
pub const TOKEN: &str = "ringway-token";
/// A version of a write.
pub const VERSION: &str = "ringway-version";
/// Whether a write became, or is, what the store holds: [`YES`]; [`NO`], because newer is held; or
/// [`FORGOTTEN`], because newer deletions of its slot were collected.
pub const APPLIED: &str = "ringway-applied";
/// [`YES`] where what is held is a tombstone.
pub const TOMBSTONE: &str = "ringway-tombstone";
/// When a value was written, in milliseconds since 1970. Its version tells where this does not.
pub const MODIFIED: &str = "ringway-modified";
/// Bytes of a value.
pub const SIZE: &str = "ringway-size";
/// BLAKE3 of a value's bytes, 64 hexadecimal digits. With a value that is put: what they must be.
pub const DIGEST: &str = "ringway-digest";
/// The one version that is to be read.
pub const IF_VERSION: &str = "if-version";
/// Which refusal an answer is.
pub const ERROR: &str = "ringway-error";

/// It is so.
pub const YES: &str = "yes";
/// It is not so.
pub const NO: &str = "no";
/// It is not so, and nothing is in its place.
pub const FORGOTTEN: &str = "forgotten";

/// The longest key in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// The most, and the usual, entries on a page.
pub const PAGE_ENTRIES_MAX: usize = 1000;
/// Tombstones named in one `watermark`: as many changes as one commit of a store carries.
pub const WATERMARK_KEYS_MAX: usize = 256;
/// How far ahead of a store's clock a version may be, in milliseconds.
pub const AHEAD_MAX_MS: u64 = 5_000;
/// How long a store keeps what was staged and not committed, in milliseconds.
pub const STAGE_MAX_MS: u64 = 600_000;

/// What is asked, the word after the pool's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// `PUT` takes in a body, `DELETE` drops it.
    Stage,
    /// Makes a staged body the value.
    Commit,
    /// `GET`, `HEAD`, `PUT`, `DELETE` of what is held.
    Value,
    /// Tells of a value whose bytes nobody has.
    Damaged,
    /// Lists by token.
    Keys,
    /// Lists by key.
    List,
    /// Lists tombstones.
    Tombstones,
    /// Tells the digests of slots.
    Digests,
    /// Tells the watermarks of slots.
    Watermarks,
    /// Raises a slot's watermark and drops tombstones.
    Watermark,
    /// Tells how the store does.
    State,
    /// Binds a store to a shard of a cluster's pool.
    Bind,
}

impl Op {
    /// Every one.
    pub const ALL: [Op; 12] = [
        Op::Stage,
        Op::Commit,
        Op::Value,
        Op::Damaged,
        Op::Keys,
        Op::List,
        Op::Tombstones,
        Op::Digests,
        Op::Watermarks,
        Op::Watermark,
        Op::State,
        Op::Bind,
    ];

    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Op::Stage => "stage",
            Op::Commit => "commit",
            Op::Value => "value",
            Op::Damaged => "damaged",
            Op::Keys => "keys",
            Op::List => "list",
            Op::Tombstones => "tombstones",
            Op::Digests => "digests",
            Op::Watermarks => "watermarks",
            Op::Watermark => "watermark",
            Op::State => "state",
            Op::Bind => "bind",
        }
    }

    /// Whether a key follows.
    #[must_use]
    pub const fn has_key(self) -> bool {
        matches!(self, Op::Stage | Op::Commit | Op::Value | Op::Damaged)
    }
}

/// The path of a replica request, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The pool's name, not yet looked at.
    pub pool: &'a str,
    /// What is asked.
    pub op: Op,
    /// The key as it was written; empty where the operation has none.
    pub key: &'a str,
}

impl<'a> Target<'a> {
    /// Reads what follows [`PREFIX`] in a path; `None` where no such page is.
    #[must_use]
    pub fn parse(rest: &'a str) -> Option<Self> {
        let (pool, rest) = rest.split_once('/')?;
        let (word, key) = match rest.split_once('/') {
            Some((word, key)) => (word, Some(key)),
            None => (rest, None),
        };
        let op = Op::ALL.into_iter().find(|op| op.word() == word)?;
        (op.has_key() == key.is_some()).then_some(Self { pool, op, key: key.unwrap_or_default() })
    }

    /// Appends the path of a request. `key` is empty unless the operation has one.
    pub fn write(out: &mut Vec<u8>, pool: &PoolName, op: Op, key: &[u8]) {
        out.extend_from_slice(PREFIX.as_bytes());
        out.extend_from_slice(pool.as_str().as_bytes());
        out.push(b'/');
        out.extend_from_slice(op.word().as_bytes());
        if op.has_key() {
            out.push(b'/');
            out.extend_from_slice(key);
        }
    }
}

/// Why a store did not do what a node asked, as far as a node does different things about it. In
/// the field [`ERROR`], and the last part of the problem's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 421: another store answers here than the shard is bound to.
    Foreign,
    /// 421: the pool's keys here belong to another cluster.
    OtherCluster,
    /// 421: the store is another shard of this cluster's pool.
    OtherShard,
    /// 421: the store is no shard of the pool, or of one that had its name before. Bind it first.
    NotBound,
    /// 421: the store is a shard of a later pool of this name.
    OtherBirth,
    /// 403: nodes are not known from others on this connection, and the port faces a network.
    Insecure,
    /// 409: the store was told a higher epoch.
    StaleEpoch,
    /// 409: the version is too far ahead of the store's clock.
    ClockAhead,
    /// 404: nothing is staged under this id, and nothing as new is held.
    NotStaged,
    /// 409: the key is held under another token.
    OtherToken,
    /// 507: the disk is full.
    Full,
    /// 503: the store takes no writes until it is started again.
    Fenced,
    /// 503: too much waits, or is staged. Soon again.
    Busy,
    /// 413: the value is longer than the store takes.
    TooLarge,
    /// 422: the bytes are not those that the digest says.
    OtherBytes,
    /// 500: the value that is held is damaged. The version that it has is told.
    Damaged,
    /// 500: it may or may not be found after the store's next start.
    Unknown,
}

impl Refusal {
    const ALL: [Refusal; 17] = [
        Refusal::Foreign,
        Refusal::OtherCluster,
        Refusal::OtherShard,
        Refusal::NotBound,
        Refusal::OtherBirth,
        Refusal::Insecure,
        Refusal::StaleEpoch,
        Refusal::ClockAhead,
        Refusal::NotStaged,
        Refusal::OtherToken,
        Refusal::Full,
        Refusal::Fenced,
        Refusal::Busy,
        Refusal::TooLarge,
        Refusal::OtherBytes,
        Refusal::Damaged,
        Refusal::Unknown,
    ];

    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Refusal::Foreign => "foreign",
            Refusal::OtherCluster => "other-cluster",
            Refusal::OtherShard => "other-shard",
            Refusal::NotBound => "not-bound",
            Refusal::OtherBirth => "other-birth",
            Refusal::Insecure => "insecure",
            Refusal::StaleEpoch => "stale-epoch",
            Refusal::ClockAhead => "clock-ahead",
            Refusal::NotStaged => "not-staged",
            Refusal::OtherToken => "other-token",
            Refusal::Full => "full",
            Refusal::Fenced => "fenced",
            Refusal::Busy => "busy",
            Refusal::TooLarge => "too-large",
            Refusal::OtherBytes => "other-bytes",
            Refusal::Damaged => "damaged",
            Refusal::Unknown => "unknown",
        }
    }

    /// The status that it is answered with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Refusal::Foreign
            | Refusal::OtherCluster
            | Refusal::OtherShard
            | Refusal::NotBound
            | Refusal::OtherBirth => 421,
            Refusal::Insecure => 403,
            Refusal::StaleEpoch | Refusal::ClockAhead | Refusal::OtherToken => 409,
            Refusal::NotStaged => 404,
            Refusal::Full => 507,
            Refusal::Fenced | Refusal::Busy => 503,
            Refusal::TooLarge => 413,
            Refusal::OtherBytes => 422,
            Refusal::Damaged | Refusal::Unknown => 500,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is none of ours: a request that was not understood, or another release's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no refusal that this release knows")]
pub struct OtherWord;

impl FromStr for Refusal {
    type Err = OtherWord;
    fn from_str(text: &str) -> Result<Self, OtherWord> {
        Self::ALL.into_iter().find(|refusal| refusal.word() == text).ok_or(OtherWord)
    }
}
