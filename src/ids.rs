//! The names and numbers that every room speaks of.
//!
//! Each is a type of its own, so that an epoch can never be passed where a revision is meant, and
//! each is valid from its construction on: a [`ShardId`] that exists needs no further check.

pub mod digits;
mod hex;
mod ketama_name;
mod peer;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use digits::Text;

pub use hex::{ClusterId, HexError, Nonce, PlanId, StoreId};
pub use ketama_name::{KetamaName, KetamaNameError};
pub use peer::{PeerAddress, PeerAddressError};

/// The longest name of a pool, shard, zone, route or node, in bytes.
///
/// Names become metric labels, log fields and parts of messages: 64 bytes is what DNS allows a
/// label, plus one, and is enough to be spoken.
pub const NAME_BYTES_MAX: usize = 64;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a name: use 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit"
)]
pub struct NameError {
    /// What was written instead of a name.
    pub found: String,
}

fn check_name(text: &str) -> Result<(), NameError> {
    let mut bytes = text.bytes();
    let first_is_plain = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest_is_plain = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if first_is_plain && rest_is_plain && text.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    let found: String = text.chars().take(NAME_BYTES_MAX).collect();
    Err(NameError { found })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks `text` and makes it a name.
            ///
            /// # Errors
            /// [`NameError`] when `text` is empty, longer than [`NAME_BYTES_MAX`] or has another
            /// character than letters, digits, `.`, `_` and `-`.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check_name(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name! {
    /// A shard's stable identity within its pool. Never derived from an address: a shard that
    /// moves to another host keeps its id, and with it its part of the ring.
    ShardId
}
name! {
    /// The name of a pool of shards.
    PoolName
}
name! {
    /// A failure domain: replicas of one key stand in distinct zones while zones last.
    Zone
}
name! {
    /// The name of a route; it labels metrics and log lines.
    RouteName
}
name! {
    /// A node's label, for people. Its identity is the numeric id that the leader gives.
    NodeName
}

impl Default for Zone {
    fn default() -> Self {
        Self("default".into())
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $type(pub u64);

        impl $type {
            /// The number after this one. Nobody counts to the last one; whoever claims to have
            /// stays there.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// Counts the changes of one pool's replica sets and quorum rules. Moves only by a committed
    /// command and only upwards.
    Epoch
}
number! {
    /// Counts every change of the agreed state, verdicts and settings included.
    Revision
}
number! {
    /// A node's identity, given by the leader when it joins and never given twice. 0 is nobody.
    NodeId
}
number! {
    /// Counts the starts of one node, each agreed. 0 is a node that never began.
    Incarnation
}
number! {
    /// Counts the rebirths of a cluster that lost its quorum for good. An epoch of a higher
    /// generation is later than any of a lower one.
    Generation
}
/// When a pool came to be: the generation and the first epoch of all that it has. Two pools that had
/// one name, the one after the other, differ in it, and that of the later one is greater.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Birth {
    /// The cluster's generation then.
    pub generation: Generation,
    /// The pool's first epoch. Zero of both: before births were told.
    pub epoch: Epoch,
}

/// A text that names no birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pool's birth is written as GENERATION.EPOCH")]
pub struct NoBirth;

impl Birth {
    /// Whether it is one of before births were told.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Birth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.epoch)
    }
}

impl FromStr for Birth {
    type Err = NoBirth;

    fn from_str(text: &str) -> Result<Self, NoBirth> {
        let number = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            let spare = digits.len() > 1 && digits.starts_with('0');
            digits.parse().ok().filter(|_| plain && !spare).ok_or(NoBirth)
        };
        let (generation, epoch) = text.split_once('.').ok_or(NoBirth)?;
        Ok(Self { generation: Generation(number(generation)?), epoch: Epoch(number(epoch)?) })
    }
}

number! {
    /// Raft's term: at most one leader each.
    Term
}
number! {
    /// Which commands everybody understands: what a release speaks, and what a cluster agreed on.
    FeatureLevel
}

/// Names one proposal for ever: retried, duplicated or reordered, it is applied once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandId {
    /// Who proposes.
    pub node: NodeId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Counts its proposals, from 1 at each start.
    pub sequence: u64,
}

/// A place on the circle of 2^64 points: of a key or of a virtual node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

impl Token {
    /// As it is written.
    #[must_use]
    pub fn text(self) -> Text<16> {
        Text::default().hex(&self.0.to_be_bytes())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

/// A shard's share of the ring relative to its pool's other shards: 0..=256.
///
/// Zero owns nothing: the way to take a shard's keys away before it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Weight(u16);

/// A weight outside 0..=256.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("weight {0} is out of range: use a whole number from 0 (owns nothing) to 256")]
pub struct WeightError(pub u64);

impl Weight {
    /// The largest weight.
    pub const MAX: u16 = 256;
    /// The weight of a shard that says none.
    pub const ONE: Weight = Weight(1);

    /// The weight as a number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for Weight {
    type Error = WeightError;
    fn try_from(value: u64) -> Result<Self, WeightError> {
        match u16::try_from(value) {
            Ok(small) if small <= Self::MAX => Ok(Self(small)),
            _ => Err(WeightError(value)),
        }
    }
}

impl From<Weight> for u64 {
    fn from(weight: Weight) -> u64 {
        u64::from(weight.0)
    }
}

/// 256 bits of BLAKE3 over a canonical encoding: equal digests mean equal values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 64 hexadecimal digits")]
pub struct BadDigest;

impl Digest {
    /// As it is written.
    #[must_use]
    pub fn text(&self) -> Text<64> {
        Text::default().hex(&self.0)
    }
}

impl FromStr for Digest {
    type Err = BadDigest;
    fn from_str(text: &str) -> Result<Self, BadDigest> {
        digits::read_hex(text).map(Self).ok_or(BadDigest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Where a shard is reached: `http://HOST[:PORT][/BASE]`, or the same with `https`, taken apart and
/// checked. As text it is written without the usual port of its scheme.
///
/// `base_path` is empty or begins with `/` and does not end with one; it is put before every
/// forwarded path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseUrl {
    host: String,
    port: u16,
    base_path: String,
    tls: bool,
}

/// Why a base URL was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// The text begins with neither `http://` nor `https://`.
    #[error("`{0}` is not a shard's URL: write `http://HOST[:PORT][/BASE]`, or `https://`")]
    NotHttp(String),
    /// Host or port cannot be read.
    #[error(
        "`{0}`: the host or port cannot be read: write `http://HOST[:PORT][/BASE]`, or `https://`"
    )]
    BadAuthority(String),
    /// Query, fragment, user name or a character that no path may have.
    #[error(
        "`{0}`: a shard's URL has no user name, query, fragment or dot segment, and its base path only plain characters"
    )]
    BadPath(String),
}

impl BaseUrl {
    /// Takes a shard's URL apart.
    ///
    /// # Errors
    /// [`BaseUrlError`], which shows the text and what to write instead.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let own = || text.to_owned();
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(BaseUrlError::NotHttp(own())),
        };
        if rest.contains(['@', '?', '#']) {
            return Err(BaseUrlError::BadPath(own()));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let base_path = path.trim_end_matches('/');
        let plain =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'.' | b'_' | b'~');
        // Whoever resolves dot segments on the way would reach another place than `check` shows.
        let has_dots = base_path.split('/').any(|segment| matches!(segment, "." | ".."));
        if has_dots || !base_path.bytes().all(plain) {
            return Err(BaseUrlError::BadPath(own()));
        }
        let (host, port) =
            split_authority(authority).ok_or_else(|| BaseUrlError::BadAuthority(own()))?;
        let port = port.unwrap_or(usual_port(tls));
        Ok(Self { host: host.to_owned(), port, base_path: base_path.to_owned(), tls })
    }

    /// Host name or address; an IPv6 address stands without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port; if none was written, 80, or 443 with `https`.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the shard is spoken to by TLS: `https`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// What is put before each forwarded path; empty for none.
    #[must_use]
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// `HOST` or `HOST:PORT` as a `Host` field has it.
    #[must_use]
    pub fn authority(&self) -> String {
        let bracketed = self.host.contains(':');
        let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
        match self.port {
            port if port == usual_port(self.tls) => format!("{open}{}{close}", self.host),
            port => format!("{open}{}{close}:{port}", self.host),
        }
    }
}

fn usual_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// Host and, if one is written, port.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        match after {
            "" => (host, None),
            after => (host, Some(after.strip_prefix(':')?)),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    let Some(port) = port else { return Some((host, None)) };
    match port.parse() {
        _ if !port.bytes().all(|b| b.is_ascii_digit()) => None,
        Ok(0) | Err(_) => None,
        Ok(port) => Some((host, Some(port))),
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = BaseUrlError;
    fn try_from(text: String) -> Result<Self, BaseUrlError> {
        Self::parse(&text)
    }
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> String {
        url.to_string()
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base_path)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_would_break_labels_and_paths() {
        for good in ["a", "s1", "eu-west.1_b", &"x".repeat(64)] {
            assert_eq!(ShardId::new(good).map(|id| id.as_str().to_owned()), Ok(good.to_owned()));
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(ShardId::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn weights_are_0_to_256() {
        assert_eq!(Weight::try_from(0).map(Weight::get), Ok(0));
        assert_eq!(Weight::try_from(256).map(Weight::get), Ok(256));
        assert_eq!(Weight::try_from(257), Err(WeightError(257)));
        assert_eq!(Weight::try_from(u64::MAX), Err(WeightError(u64::MAX)));
    }

    #[test]
    fn base_urls_are_taken_apart() {
        let url = BaseUrl::parse("http://shard.example:8080/bucket/").expect("a good URL");
        assert_eq!((url.host(), url.port(), url.base_path()), ("shard.example", 8080, "/bucket"));
        assert_eq!(url.authority(), "shard.example:8080");
        assert_eq!(url.to_string(), "http://shard.example:8080/bucket");
        let url = BaseUrl::parse("http://[::1]").expect("a good URL");
        assert_eq!((url.host(), url.port(), url.authority().as_str()), ("::1", 80, "[::1]"));
        let url = BaseUrl::parse("https://[::1]/b").expect("a good URL");
        assert_eq!((url.host(), url.port(), url.is_tls()), ("::1", 443, true));
        // What is agreed keeps these texts: the usual port of one scheme is not that of the other.
        for text in [
            "http://a",
            "http://a:443",
            "https://a",
            "https://a:80",
            "https://a:8443/bucket",
            "https://[::1]:444",
        ] {
            let url = BaseUrl::parse(text).expect("a good URL");
            assert_eq!(url.to_string(), text);
            assert_eq!(url.is_tls(), text.starts_with("https"));
        }
        assert_eq!(
            BaseUrl::parse("https://a:443/").map(|url| url.to_string()).as_deref(),
            Ok("https://a")
        );
        for bad in [
            "",
            "http://",
            "ftp://a",
            "https://",
            "HTTPS://a",
            "https:/a",
            "https://a:0",
            "http://a:0",
            "http://a:99999",
            "http://a:x",
            "http://u@a",
            "http://a/?q",
            "http://a/#f",
            "http://[::1",
            "http://[zz]",
            "http://a b",
            "http://a/%2e",
            "http://a/../b",
            "http://a/b/.",
            "a:80",
            "http://a:+1",
        ] {
            assert!(BaseUrl::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
