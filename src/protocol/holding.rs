//! What does a replica do with a version that it is brought?
//!
//! The store serves these rules, movers and hints reckon with them, and the simulator runs them:
//! one place for all. **Newest wins**: a record gives way to a greater version and to nothing else,
//! so that in whatever order writes reach the replicas, all end with the same.
//!
//! # Watermarks
//!
//! When a tombstone is dropped (`tombstone`), the replica keeps its version for the whole slot as
//! the *watermark*: an absent key answers it to version queries, so that a fresh stamp goes above
//! it, and what arrives late at or under it is superseded, so that deleted stays deleted.
//!
//! # Damage
//!
//! Bytes rot on disks, and files get lost. A replica that notices it keeps the record and says that
//! it is *damaged*: its version still counts in version rounds, where to forget it would be to let an
//! older write win; but it has nothing to give, and takes the same version once more.
//!
//! Where nobody has the bytes any more, that there was such a write must outlive the disks that knew
//! of it. So a replica can be told of a damaged value ([`decide_damaged`]), and holds it as one then.
//!
//! Invariants:
//! 1. The version that a replica answers for a key never goes down.
//! 2. What decides and what is written are one step: nothing comes between.

use crate::protocol::replica::PoolEpoch;
use crate::protocol::replica::words::AHEAD_MAX_MS;
use crate::version::Version;

/// What a replica has for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A value of this version.
    Value(Version),
    /// The key was deleted under this version.
    Tombstone(Version),
    /// A value of this version, whose bytes are lost or spoilt.
    Damaged(Version),
    /// No record.
    Absent {
        /// The greatest version of the tombstones dropped from the key's slot, or
        /// [`Version::NONE`].
        watermark: Version,
    },
}

impl Held {
    /// Nothing, and nothing was ever dropped.
    pub const NOTHING: Held = Held::Absent { watermark: Version::NONE };

    /// What it answers to a version query: a write's version must be above this.
    #[must_use]
    pub fn newest(self) -> Version {
        match self {
            Self::Value(version) | Self::Tombstone(version) | Self::Damaged(version) => version,
            Self::Absent { watermark } => watermark,
        }
    }

    /// The version of its record, if there is one. A watermark is no record: it says that the key's
    /// *slot* has forgotten deletions up to there, and nothing of this key.
    #[must_use]
    pub fn record(self) -> Option<Version> {
        match self {
            Self::Value(version) | Self::Tombstone(version) | Self::Damaged(version) => {
                Some(version)
            }
            Self::Absent { .. } => None,
        }
    }

    /// The version that others can be brought from here.
    #[must_use]
    pub fn whole(self) -> Option<Version> {
        self.record().filter(|_| !matches!(self, Self::Damaged(_)))
    }

    /// Whether a write or a repair of this version would change nothing here.
    #[must_use]
    pub fn covers(self, version: Version) -> bool {
        decide(self, version) != Decision::Apply
    }
}

/// What becomes of a value or a tombstone that a replica is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It becomes the record, durably, before the answer.
    Apply,
    /// It is the record already, since this is a repeat.
    Repeat,
    /// Something newer is held. What was brought is dropped.
    Superseded,
    /// There is no record, and there are deletions that were collected of its slot which are as new:
    /// one of this key may have been among them. What was brought is dropped.
    Forgotten,
}

impl Decision {
    /// What is answered.
    #[must_use]
    pub fn effect(self) -> Effect {
        match self {
            Self::Apply | Self::Repeat => Effect::Applied,
            Self::Superseded => Effect::Superseded,
            Self::Forgotten => Effect::Forgotten,
        }
    }
}

/// What a write or a repair has come to at a replica: what `Ringway-Applied` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// `yes`: it is the record now.
    Applied,
    /// `no`: the record is newer. It is as good as applied, and then overwritten.
    Superseded,
    /// `forgotten`: it was not taken, and there is no record. A watermark speaks of its slot and not
    /// of this key, so that nobody can say that this write was overwritten: it is no
    /// acknowledgement. (Of a deletion it says at least that the key is not here.)
    Forgotten,
}

/// Newest wins.
#[must_use]
pub fn decide(held: Held, incoming: Version) -> Decision {
    match held {
        Held::Value(record) | Held::Tombstone(record) if record == incoming => Decision::Repeat,
        Held::Damaged(record) if record == incoming => Decision::Apply,
        _ if incoming > held.newest() => Decision::Apply,
        Held::Absent { .. } => Decision::Forgotten,
        Held::Value(_) | Held::Tombstone(_) | Held::Damaged(_) => Decision::Superseded,
    }
}

/// The same of the word that there is a value of this version whose bytes nobody has. It never takes
/// the place of the value itself.
#[must_use]
pub fn decide_damaged(held: Held, told: Version) -> Decision {
    match held {
        Held::Damaged(record) if record == told => Decision::Repeat,
        held => decide(held, told),
    }
}

/// Whether a record may be dropped for a tombstone that was collected: it must be that very one. The
/// watermark of its slot is raised before, in the same step.
#[must_use]
pub fn may_drop(held: Held, collected: Version) -> bool {
    held == Held::Tombstone(collected)
}

/// Whether a version is so far ahead of the store's clock that it is refused: by ten times what the
/// nodes' clocks may be apart. It would win against every write until then.
#[must_use]
pub fn is_ahead(version: Version, now_unix_ms: u64) -> bool {
    version.stamp.unix_ms() > now_unix_ms.saturating_add(AHEAD_MAX_MS)
}

/// What a store does with a request's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is the highest that was seen.
    Current,
    /// It is higher: to be kept durably before the answer.
    Raise,
    /// It is lower: refused, and nothing is done.
    Stale,
}

/// The second wall: nothing is done for a ring that is not in force any more.
#[must_use]
pub fn admit(highest: PoolEpoch, told: PoolEpoch) -> Admission {
    match told.cmp(&highest) {
        std::cmp::Ordering::Less => Admission::Stale,
        std::cmp::Ordering::Equal => Admission::Current,
        std::cmp::Ordering::Greater => Admission::Raise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Generation};
    use crate::version::Stamp;

    fn v(stamp: u64) -> Version {
        Version { stamp: Stamp(stamp), ..Version::NONE }
    }

    #[test]
    fn newest_wins_and_a_repeat_changes_nothing() {
        for held in [Held::Value(v(5)), Held::Tombstone(v(5))] {
            assert_eq!(decide(held, v(4)), Decision::Superseded);
            assert_eq!(decide(held, v(5)), Decision::Repeat);
            assert_eq!(decide(held, v(6)), Decision::Apply);
            assert_eq!((held.newest(), held.record()), (v(5), Some(v(5))));
        }
        assert_eq!(decide(Held::NOTHING, v(1)), Decision::Apply);
    }

    #[test]
    fn what_is_damaged_counts_and_is_replaced_by_the_same() {
        let held = Held::Damaged(v(5));
        assert_eq!(decide(held, v(4)), Decision::Superseded);
        assert_eq!(decide(held, v(5)), Decision::Apply);
        assert_eq!(decide(held, v(6)), Decision::Apply);
        assert_eq!((held.newest(), held.record(), held.whole()), (v(5), Some(v(5)), None));
        assert!(!held.covers(v(5)) && held.covers(v(4)) && !may_drop(held, v(5)));
    }

    #[test]
    fn the_word_of_damage_takes_no_bytes_away_and_replaces_what_is_older() {
        let told = |held| decide_damaged(held, v(5));
        for held in [Held::Damaged(v(5)), Held::Value(v(5)), Held::Tombstone(v(5))] {
            assert_eq!(told(held), Decision::Repeat);
        }
        for held in [Held::Value(v(6)), Held::Tombstone(v(6)), Held::Damaged(v(6))] {
            assert_eq!(told(held), Decision::Superseded);
        }
        for held in [Held::Value(v(4)), Held::Tombstone(v(4)), Held::Damaged(v(4)), Held::NOTHING] {
            assert_eq!(told(held), Decision::Apply);
        }
        assert_eq!(told(Held::Absent { watermark: v(5) }), Decision::Forgotten);
    }

    #[test]
    fn what_comes_late_stays_under_the_watermark() {
        let held = Held::Absent { watermark: v(5) };
        assert_eq!(decide(held, v(4)), Decision::Forgotten);
        assert_eq!(decide(held, v(5)), Decision::Forgotten);
        assert_eq!(decide(held, v(6)), Decision::Apply);
        assert_eq!((held.newest(), held.record()), (v(5), None));
        assert!(held.covers(v(5)) && !held.covers(v(6)));
    }

    #[test]
    fn a_tombstone_is_dropped_only_if_it_is_the_one_that_was_collected() {
        assert!(may_drop(Held::Tombstone(v(5)), v(5)));
        assert!(!may_drop(Held::Tombstone(v(6)), v(5)));
        assert!(!may_drop(Held::Value(v(5)), v(5)));
        assert!(!may_drop(Held::NOTHING, Version::NONE));
    }

    /// In whatever order writes arrive, and however often, the replica ends with the newest, and
    /// what it answers never goes down.
    #[test]
    fn the_order_of_arrival_does_not_matter() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..500 {
            let mut arriving: Vec<u64> = (0..rng.usize(1..8)).map(|_| rng.u64(1..10)).collect();
            let newest = arriving.iter().copied().max().expect("one at least");
            rng.shuffle(&mut arriving);
            let mut held = Held::NOTHING;
            for stamp in arriving {
                let before = held.newest();
                if decide(held, v(stamp)) == Decision::Apply {
                    held =
                        if rng.bool() { Held::Value(v(stamp)) } else { Held::Tombstone(v(stamp)) };
                }
                assert!(held.newest() >= before && held.covers(v(stamp)));
            }
            assert_eq!(held.newest(), v(newest));
        }
    }

    #[test]
    fn versions_from_the_future_and_rings_of_the_past_are_refused() {
        let version = Version { stamp: Stamp::of_ms(6_001), ..Version::NONE };
        assert!(is_ahead(version, 1_000) && !is_ahead(version, 1_001));
        let at = |generation, epoch| PoolEpoch {
            generation: Generation(generation),
            epoch: Epoch(epoch),
        };
        assert_eq!(admit(at(1, 7), at(1, 6)), Admission::Stale);
        assert_eq!(admit(at(1, 7), at(1, 7)), Admission::Current);
        assert_eq!(admit(at(1, 7), at(2, 1)), Admission::Raise);
        assert_eq!(admit(at(2, 1), at(1, 9)), Admission::Stale);
    }
}
