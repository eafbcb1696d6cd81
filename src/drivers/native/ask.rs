//! What is asked of a store, and how is it written?

use std::io::Write;

use super::calls::{Lost, Origin};
use crate::drivers::http::{Address, write_framing};
use crate::ids::{Birth, ClusterId, PoolName, ShardId, StoreId, Token};
use crate::net::http1::framing::Framing;
use crate::net::http1::head::write_field;
use crate::protocol::replica::{Op, PoolEpoch, StageId, Target, words};
use crate::version::Version;

/// As whom a store is spoken to: what every request says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing<'a> {
    pub(super) pool: &'a PoolName,
    pub(super) cluster: ClusterId,
    pub(super) birth: Birth,
    pub(super) epoch: PoolEpoch,
    pub(super) store: Option<StoreId>,
}

/// One request. Keys are canonical paths after their first `/`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask<'a> {
    Stage { key: &'a [u8], stage: StageId, token: Token, kept: &'a [u8] },
    Abort { key: &'a [u8], stage: StageId, token: Token },
    Commit { key: &'a [u8], stage: StageId, version: Version, token: Token },
    Put { key: &'a [u8], version: Version, token: Token, kept: &'a [u8], origin: Origin<'a> },
    Damaged { key: &'a [u8], version: Version, token: Token, lost: &'a Lost<'a> },
    Delete { key: &'a [u8], version: Version, token: Token },
    Head { key: &'a [u8], token: Token },
    Get { key: &'a [u8], token: Token, range: Option<(u64, u64)>, version: Option<Version> },
    Keys { from: Token, to: Token, cursor: Option<&'a str>, limit: usize },
    List { prefix: &'a str, after: Option<&'a str>, limit: usize },
    Digests { from: u32, count: u32, fold: u32 },
    Watermarks { from: u32, count: u32 },
    Watermark { slot: u16, version: Option<Version> },
    Tombstones { before_ms: u64, cursor: Option<&'a str>, limit: usize },
    State,
    Bind { shard: &'a ShardId },
}

impl Ask<'_> {
    /// The method, what is done, and the key that it is done to.
    fn parts(&self) -> (&'static str, Op, &[u8]) {
        match self {
            Self::Stage { key, .. } => ("PUT", Op::Stage, key),
            Self::Abort { key, .. } => ("DELETE", Op::Stage, key),
            Self::Commit { key, .. } => ("POST", Op::Commit, key),
            Self::Put { key, .. } => ("PUT", Op::Value, key),
            Self::Damaged { key, .. } => ("POST", Op::Damaged, key),
            Self::Delete { key, .. } => ("DELETE", Op::Value, key),
            Self::Head { key, .. } => ("HEAD", Op::Value, key),
            Self::Get { key, .. } => ("GET", Op::Value, key),
            Self::Keys { .. } => ("GET", Op::Keys, b""),
            Self::List { .. } => ("GET", Op::List, b""),
            Self::Digests { .. } => ("GET", Op::Digests, b""),
            Self::Watermarks { .. } => ("GET", Op::Watermarks, b""),
            Self::Watermark { .. } => ("POST", Op::Watermark, b""),
            Self::Tombstones { .. } => ("GET", Op::Tombstones, b""),
            Self::State => ("GET", Op::State, b""),
            Self::Bind { .. } => ("POST", Op::Bind, b""),
        }
    }

    /// Whether the answer has no body, whatever its fields say.
    pub(super) fn is_head(&self) -> bool {
        matches!(self, Self::Head { .. })
    }

    /// Writes the request's head.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        address: &Address,
        standing: &Standing<'_>,
        framing: Framing,
    ) {
        let (method, op, key) = self.parts();
        out.extend_from_slice(method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(address.base_path().as_bytes());
        Target::write(out, standing.pool, op, key);
        self.write_query(out);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        write_field(out, b"Host", address.authority().as_bytes());
        let Standing { cluster, birth, epoch, store, .. } = standing;
        let born = PoolEpoch { generation: birth.generation, epoch: birth.epoch };
        write_field(out, words::CLUSTER.as_bytes(), cluster.text().as_bytes());
        write_field(out, words::BIRTH.as_bytes(), born.text().as_bytes());
        write_field(out, words::EPOCH.as_bytes(), epoch.text().as_bytes());
        if let Some(store) = store {
            write_field(out, words::STORE.as_bytes(), store.text().as_bytes());
        }
        self.write_fields(out);
        write_framing(out, framing, matches!(method, "PUT" | "POST"));
        out.extend_from_slice(b"\r\n");
    }

    fn write_query(&self, out: &mut Vec<u8>) {
        let all = "a vector takes all";
        match self {
            Self::Keys { from, to, cursor, limit } => {
                let (from, to) = (from.0, to.0);
                write!(out, "?from={from:016x}&to={to:016x}&limit={limit}").expect(all);
                write_parameter(out, "cursor", *cursor);
            }
            Self::List { prefix, after, limit } => {
                write!(out, "?limit={limit}").expect(all);
                write_parameter(out, "prefix", Some(prefix));
                write_parameter(out, "after", *after);
            }
            Self::Digests { from, count, fold } => {
                write!(out, "?from={from}&count={count}&fold={fold}").expect(all);
            }
            Self::Watermarks { from, count } => {
                write!(out, "?from={from}&count={count}").expect(all);
            }
            Self::Watermark { slot, .. } => write!(out, "?slot={slot}").expect(all),
            Self::Tombstones { before_ms, cursor, limit } => {
                write!(out, "?before={before_ms}&limit={limit}").expect(all);
                write_parameter(out, "cursor", *cursor);
            }
            _ => {}
        }
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        let all = "a vector takes all";
        let write_token = |out: &mut Vec<u8>, token: &Token| {
            write_field(out, words::TOKEN.as_bytes(), token.text().as_bytes());
        };
        let write_stage = |out: &mut Vec<u8>, stage: &StageId| {
            write_field(out, words::STAGE.as_bytes(), stage.text().as_bytes());
        };
        let write_version = |out: &mut Vec<u8>, version: &Version| {
            write_field(out, words::VERSION.as_bytes(), version.text().as_bytes());
        };
        match self {
            Self::Stage { stage, token, kept, .. } => {
                write_stage(out, stage);
                write_token(out, token);
                out.extend_from_slice(kept);
            }
            Self::Abort { stage, token, .. } => {
                write_stage(out, stage);
                write_token(out, token);
            }
            Self::Commit { stage, version, token, .. } => {
                write_stage(out, stage);
                write_version(out, version);
                write_token(out, token);
            }
            Self::Put { version, token, kept, origin, .. } => {
                write_version(out, version);
                write_token(out, token);
                if let Some(modified_ms) = origin.modified_ms {
                    write!(out, "{}: {modified_ms}\r\n", words::MODIFIED).expect(all);
                }
                if let Some(digest) = origin.digest {
                    write_field(out, words::DIGEST.as_bytes(), digest.as_bytes());
                }
                out.extend_from_slice(kept);
            }
            Self::Damaged { version, token, lost: Lost { size, digest, modified_ms }, .. } => {
                write_version(out, version);
                write_token(out, token);
                write!(out, "{}: {size}\r\n", words::SIZE).expect(all);
                write_field(out, words::DIGEST.as_bytes(), digest.as_bytes());
                write!(out, "{}: {modified_ms}\r\n", words::MODIFIED).expect(all);
            }
            Self::Delete { version, token, .. } => {
                write_version(out, version);
                write_token(out, token);
            }
            Self::Head { token, .. } => write_token(out, token),
            Self::Get { token, range, version, .. } => {
                write_token(out, token);
                if let Some((first, last)) = range {
                    write!(out, "Range: bytes={first}-{last}\r\n").expect(all);
                }
                if let Some(version) = version {
                    write!(out, "{}: {version}\r\n", words::IF_VERSION).expect(all);
                }
            }
            Self::Watermark { version: Some(version), .. } => write_version(out, version),
            Self::Bind { shard } => {
                write_field(out, words::SHARD.as_bytes(), shard.as_str().as_bytes());
            }
            _ => {}
        }
    }
}

/// Adds a parameter to a query that has one already. What is not plain is escaped, `%` included:
/// the other side undoes one layer.
fn write_parameter(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    let Some(value) = value else { return };
    write!(out, "&{name}=").expect("a vector takes all");
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(byte);
            }
            _ => write!(out, "%{byte:02X}").expect("a vector takes all"),
        }
    }
}
