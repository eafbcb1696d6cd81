//! Which of two writes of one key is the newer, and who may say so?
//!
//! A [`Version`] is a moment of a hybrid logical clock and the proposer that chose it (Kulkarni et
//! al., *Logical Physical Clocks*, 2014, section 3): milliseconds as far as the clocks are right, a
//! counter where they are not fine enough, and the proposer where two chose the same moment. So all
//! versions are ordered, on every machine in the same way, and no two writes ever share one.
//!
//! A wall clock alone would not do: two nodes write in one millisecond, and a clock that was set
//! back makes a later write the older one. A [`HybridClock`] never goes back, and is above whatever
//! it was shown.
//!
//! Invariants:
//! 1. A write has one version for ever; a repeat bears the same.
//! 2. A proposer is one thread of one start of one node, so that it needs no agreement to choose.
//!
//! Not known here: how far ahead of its own clock a store lets a version be, and what is done with
//! two versions; that is for `protocol`.

use std::fmt;
use std::str::FromStr;

use crate::ids::digits::{Text, read_hex, read_number};
use crate::ids::{Incarnation, NodeId};

/// Bits of the counter within a millisecond.
const COUNTER_BITS: u32 = 16;

/// The largest number of milliseconds that a [`Stamp`] can have: in the year 10889.
pub const STAMP_MS_MAX: u64 = (1 << (64 - COUNTER_BITS)) - 1;

/// A moment of a hybrid logical clock: milliseconds since 1970 in the upper 48 bits, a counter in
/// the lower 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The first moment of a millisecond; of the last one that there is for later ones.
    #[must_use]
    pub fn of_ms(unix_ms: u64) -> Self {
        Self(unix_ms.min(STAMP_MS_MAX) << COUNTER_BITS)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The moment after this one. A counter that is full goes over into the next millisecond.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Who chooses versions and ballots: one thread of one start of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Proposer {
    /// The node.
    pub node: NodeId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Which of its threads.
    pub worker: u16,
}

/// The version of a write: later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// When, by the hybrid clock of its proposer.
    pub stamp: Stamp,
    /// Who chose it.
    pub proposer: Proposer,
}

/// Bytes of the persistent form.
pub const VERSION_BYTES: usize = 26;

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is no version: it is 16 hexadecimal digits, and three numbers, with `-` between"
)]
pub struct VersionError {
    /// What was written, cut to what is worth showing.
    pub found: String,
}

impl Version {
    /// Older than every write: what a key has that was never written.
    pub const NONE: Version = Version {
        stamp: Stamp(0),
        proposer: Proposer { node: NodeId(0), incarnation: Incarnation(0), worker: 0 },
    };

    /// Whether it is that of a key that was never written.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The persistent form, whose order as bytes is that of versions.
    #[must_use]
    pub fn to_bytes(self) -> [u8; VERSION_BYTES] {
        let mut out = [0; VERSION_BYTES];
        out[..8].copy_from_slice(&self.stamp.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.proposer.node.0.to_be_bytes());
        out[16..24].copy_from_slice(&self.proposer.incarnation.0.to_be_bytes());
        out[24..].copy_from_slice(&self.proposer.worker.to_be_bytes());
        out
    }

    /// Reads the persistent form. Any bytes of this length are one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; VERSION_BYTES]) -> Self {
        let number = |at: usize| {
            let part = bytes[at..at + 8].try_into().expect("eight bytes within twenty-six");
            u64::from_be_bytes(part)
        };
        Self {
            stamp: Stamp(number(0)),
            proposer: Proposer {
                node: NodeId(number(8)),
                incarnation: Incarnation(number(16)),
                worker: u16::from_be_bytes([bytes[24], bytes[25]]),
            },
        }
    }
}

/// As long as a version is in digits, at most.
pub const VERSION_TEXT_BYTES: usize = 16 + 1 + 20 + 1 + 20 + 1 + 5;

impl Version {
    /// As it is written.
    #[must_use]
    pub fn text(self) -> Text<VERSION_TEXT_BYTES> {
        let Proposer { node, incarnation, worker } = self.proposer;
        let text = Text::default().hex(&self.stamp.0.to_be_bytes()).with("-").number(node.0);
        text.with("-").number(incarnation.0).with("-").number(worker.into())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl FromStr for Version {
    type Err = VersionError;

    /// Reads what [`Display`](fmt::Display) writes, and no other spelling of it: an entity tag is
    /// compared as text by some and as a version by us.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let parse = || {
            let mut parts = text.split('-');
            let stamp = parts.next()?;
            let is_lower = !stamp.bytes().any(|byte| byte.is_ascii_uppercase());
            let mut number = || read_number(parts.next()?);
            let version = Self {
                stamp: Stamp(u64::from_be_bytes(read_hex(stamp).filter(|_| is_lower)?)),
                proposer: Proposer {
                    node: NodeId(number()?),
                    incarnation: Incarnation(number()?),
                    worker: number()?.try_into().ok()?,
                },
            };
            parts.next().is_none().then_some(version)
        };
        parse().ok_or_else(|| VersionError { found: text.chars().take(80).collect() })
    }
}

/// A hybrid logical clock: one proposer's, which it keeps for itself.
///
/// Always true: every stamp that it gave or was shown is below the next one that it gives.
#[derive(Debug, Clone, Default)]
pub struct HybridClock {
    last: Stamp,
}

impl HybridClock {
    /// Takes note of a stamp that others chose.
    pub fn observe(&mut self, stamp: Stamp) {
        self.last = self.last.max(stamp);
    }

    /// A stamp above every one given or seen, and not before the wall clock.
    pub fn next(&mut self, now_unix_ms: u64) -> Stamp {
        self.last = self.last.next().max(Stamp::of_ms(now_unix_ms));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(stamp: u64, node: u64, incarnation: u64, worker: u16) -> Version {
        let proposer =
            Proposer { node: NodeId(node), incarnation: Incarnation(incarnation), worker };
        Version { stamp: Stamp(stamp), proposer }
    }

    #[test]
    fn versions_are_ordered_by_time_and_then_by_who_chose() {
        let ascending = [
            Version::NONE,
            version(1, 0, 0, 1),
            version(1, 0, 1, 0),
            version(1, 1, 0, 0),
            version(1, 256, 0, 0),
            version(2, 0, 0, 0),
            version(u64::MAX, u64::MAX, u64::MAX, u16::MAX),
        ];
        for pair in ascending.windows(2) {
            assert!(pair[0] < pair[1], "{} < {}", pair[0], pair[1]);
            assert!(pair[0].to_bytes() < pair[1].to_bytes(), "{} < {} as bytes", pair[0], pair[1]);
        }
        for version in ascending {
            assert_eq!(Version::from_bytes(&version.to_bytes()), version);
            assert_eq!(version.to_string().parse(), Ok(version));
        }
    }

    #[test]
    fn the_forms_are_pinned() {
        let version = Version { stamp: Stamp::of_ms(1_763_762_400_125), ..version(0, 3, 17, 2) };
        assert_eq!(version.to_string(), "019aa86e6b7d0000-3-17-2");
        let mut bytes = *b"\x01\x9a\xa8\x6e\x6b\x7d\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x11\0\x02";
        assert_eq!(version.to_bytes(), bytes);
        bytes[25] = 3;
        assert!(Version::from_bytes(&bytes) > version);
    }

    #[test]
    fn a_version_has_one_spelling() {
        for other in [
            "",
            "019aa86e6b7d0000",
            "19aa86e6b7d0000-3-17-2",
            "019AA86E6B7D0000-3-17-2",
            "+19aa86e6b7d0000-3-17-2",
            "019aa86e6b7d0000-03-17-2",
            "019aa86e6b7d0000-3-17-2-1",
            "019aa86e6b7d0000-3-17-65536",
            "019aa86e6b7d0000-3-17-+2",
            " 019aa86e6b7d0000-3-17-2",
        ] {
            assert!(other.parse::<Version>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_still_goes_on() {
        let mut clock = HybridClock::default();
        let first = clock.next(1000);
        assert_eq!(first.unix_ms(), 1000);
        let second = clock.next(10);
        assert!(second > first && second.unix_ms() == 1000);
        clock.observe(Stamp::of_ms(5000));
        assert!(clock.next(1001) > Stamp::of_ms(5000));
        // A counter that is full takes the next millisecond.
        clock.observe(Stamp((6000 << COUNTER_BITS) | 0xffff));
        assert_eq!(clock.next(0), Stamp::of_ms(6001));
        assert_eq!(Stamp::of_ms(u64::MAX).unix_ms(), STAMP_MS_MAX);
        clock.observe(Stamp(u64::MAX));
        assert_eq!(clock.next(0), Stamp(u64::MAX), "the end of time is not passed");
    }
}
