//! Have enough replicas answered, and can enough of them still do so?
//!
//! A replica is spoken of by its place in its key's replica set, 0 being the primary, so that a
//! [`Set`] of replicas is a number and a count of replies is a count of bits. How a place becomes a
//! shard is the caller's matter.
//!
//! # Why a fresh replica's word is worth less
//!
//! A shard that was replaced by a fresh one has forgotten what it acknowledged. While it is being
//! filled, its "I have nothing" proves nothing, so that a version round counts only replicas that
//! are not *fresh* ([`Replicas::knows`]). What it says that it *has* done is as good as anybody's,
//! so that its acknowledgements count: a majority of acknowledgements and a majority of replicas
//! that are not fresh have one in common, which is not fresh and has the write.

use std::fmt;

pub use crate::level::REPLICAS_MAX;

use crate::level::Level;

/// The least number of replicas such that any two groups of so many have one in common.
#[must_use]
pub fn majority(replicas: usize) -> usize {
    replicas / 2 + 1
}

/// How many of `replicas` a level needs.
#[must_use]
pub fn needed(level: Level, replicas: usize) -> usize {
    match level {
        Level::One => 1,
        Level::Quorum => majority(replicas),
        Level::All => replicas,
    }
}

/// Some of the replicas of one key, by their place in the replica set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Set(u16);

impl Set {
    /// None of them.
    pub const EMPTY: Set = Set(0);

    /// The first so many, and [`REPLICAS_MAX`] at most.
    #[must_use]
    pub fn first(count: usize) -> Self {
        Self(u16::try_from((1_u32 << count.min(REPLICAS_MAX)) - 1).expect("sixteen bits"))
    }

    /// This one alone. A place past [`REPLICAS_MAX`] is in no set.
    #[must_use]
    pub fn only(replica: usize) -> Self {
        if replica < REPLICAS_MAX { Self(1 << replica) } else { Self::EMPTY }
    }

    /// Whether it is among them.
    #[must_use]
    pub fn contains(self, replica: usize) -> bool {
        !self.and(Self::only(replica)).is_empty()
    }

    /// Takes one in, and says whether it was not in before.
    pub fn insert(&mut self, replica: usize) -> bool {
        let before = *self;
        *self = self.or(Self::only(replica));
        *self != before
    }

    /// Takes one out, and says whether it was in.
    pub fn remove(&mut self, replica: usize) -> bool {
        let before = *self;
        *self = self.without(Self::only(replica));
        *self != before
    }

    /// Those in either.
    #[must_use]
    pub fn or(self, other: Set) -> Set {
        Self(self.0 | other.0)
    }

    /// Those in both.
    #[must_use]
    pub fn and(self, other: Set) -> Set {
        Self(self.0 & other.0)
    }

    /// Those that are not in the other.
    #[must_use]
    pub fn without(self, other: Set) -> Set {
        Self(self.0 & !other.0)
    }

    /// How many.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The one that stands first.
    #[must_use]
    pub fn least(self) -> Option<usize> {
        (!self.is_empty()).then(|| self.0.trailing_zeros() as usize)
    }

    /// Each, in their order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..REPLICAS_MAX).filter(move |replica| self.contains(*replica))
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(replicas: I) -> Self {
        replicas.into_iter().fold(Self::EMPTY, |set, replica| set.or(Self::only(replica)))
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.iter().map(|replica| replica.to_string()).collect();
        write!(f, "{{{}}}", places.join(","))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is known of a key's replicas when an operation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// How many there are, up or not: 1 to [`REPLICAS_MAX`].
    pub count: usize,
    /// Those that may be tried. What is not up is not asked, and gets a hint of each write.
    pub up: Set,
    /// Those that replaced another and are not filled yet: they have less than they acknowledged
    /// under their name. A shard that only missed some writes is not one of them.
    pub fresh: Set,
}

impl Replicas {
    /// `count` replicas, all of them up and filled.
    #[must_use]
    pub fn all_up(count: usize) -> Self {
        Self { count, up: Set::first(count), fresh: Set::EMPTY }
    }

    /// All of them.
    #[must_use]
    pub fn every(&self) -> Set {
        Set::first(self.count)
    }

    /// Whether replicas that have told what they hold must have one among them that has each write
    /// that was acknowledged at `quorum`.
    #[must_use]
    pub fn knows(&self, told: Set) -> bool {
        told.without(self.fresh).len() >= majority(self.count)
    }

    /// Whether, with only these to be had, the level can be reached at all.
    ///
    /// # Errors
    /// [`TooFew`] says how many there are and how many it takes.
    pub fn suffice(&self, level: Level, available: Set) -> Result<(), TooFew> {
        let available = available.and(self.every());
        let needed = needed(level, self.count);
        if available.len() < needed {
            return Err(TooFew { available: available.len(), needed });
        }
        let knowing = available.without(self.fresh).len();
        let needed = majority(self.count);
        if level != Level::One && knowing < needed {
            return Err(TooFew { available: knowing, needed });
        }
        Ok(())
    }
}

/// The level cannot be reached: too few replicas are to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{available} of the replicas can be used, and {needed} are needed")]
pub struct TooFew {
    /// How many are up and, for a version round, filled.
    pub available: usize,
    /// How many the level needs.
    pub needed: usize,
}

/// Why a write or a read did not come to its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Too few replicas could be used.
    TooFew(TooFew),
    /// The node has no lease for the epoch, or the operation's pin ran out.
    NoLease,
    /// The client's body broke off.
    Cancelled,
    /// Too few replicas answered in time.
    TimedOut,
    /// A replica holds a version that is further ahead of this node's clock than any store allows:
    /// whatever went above it would be refused.
    ClockBehind,
    /// The write's version is not above deletions which replicas have collected since: it was late by
    /// more than their least age, or stamped by a clock that is wrong by as much.
    Forgotten,
    /// Those that have the newest version have it damaged, and nobody else has it.
    Damaged,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew(too_few) => fmt::Display::fmt(too_few, f),
            Self::NoLease => f.write_str("this node may not serve the pool's ring at present"),
            Self::Cancelled => f.write_str("the body broke off"),
            Self::TimedOut => f.write_str("too few replicas answered in time"),
            Self::ClockBehind => f.write_str("this node's clock is far behind a stored version"),
            Self::Forgotten => f.write_str("replicas have collected deletions that are newer"),
            Self::Damaged => f.write_str("no replica that answers has the newest value undamaged"),
        }
    }
}

/// Who has acknowledged, who cannot any more, and is it enough?
///
/// An acknowledgement is a fact and is never taken back; a failure that is followed by a late
/// acknowledgement was none. So it does not matter in which order or how often replies come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    every: Set,
    needed: usize,
    acks: Set,
    failed: Set,
}

impl Tally {
    /// `needed` of the first `replicas` must acknowledge.
    #[must_use]
    pub fn new(replicas: usize, needed: usize) -> Self {
        Self { every: Set::first(replicas), needed, acks: Set::EMPTY, failed: Set::EMPTY }
    }

    /// A replica has acknowledged.
    pub fn ack(&mut self, replica: usize) {
        self.acks = self.acks.or(Set::only(replica).and(self.every));
    }

    /// A replica will not acknowledge, as far as is known.
    pub fn fail(&mut self, replica: usize) {
        self.failed = self.failed.or(Set::only(replica).and(self.every));
    }

    /// It may acknowledge after all: it is tried in another way.
    pub fn hope(&mut self, replica: usize) {
        self.failed.remove(replica);
    }

    /// Those that have acknowledged.
    #[must_use]
    pub fn acks(&self) -> Set {
        self.acks
    }

    /// Those that have failed, and not acknowledged.
    #[must_use]
    pub fn failed(&self) -> Set {
        self.failed.without(self.acks)
    }

    /// Those that have done neither.
    #[must_use]
    pub fn pending(&self) -> Set {
        self.every.without(self.acks).without(self.failed)
    }

    /// Whether enough have acknowledged. Once true, it stays true.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.acks.len() >= self.needed
    }

    /// Whether too few are left, as far as is known.
    #[must_use]
    pub fn is_impossible(&self) -> bool {
        self.acks.len() + self.pending().len() < self.needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_two_majorities_meet() {
        for replicas in 1..=REPLICAS_MAX {
            assert!(2 * majority(replicas) > replicas);
            assert!(majority(replicas) <= replicas);
            assert_eq!(needed(Level::All, replicas), replicas);
        }
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn sets_are_sets() {
        let mut set: Set = [2, 0, 2, 15].into_iter().collect();
        assert_eq!(set.to_string(), "{0,2,15}");
        assert!(!set.insert(0) && set.insert(1) && set.remove(15) && !set.remove(15));
        assert_eq!((set, set.len(), set.least()), (Set::first(3), 3, Some(0)));
        assert_eq!(set.without(Set::only(0)).least(), Some(1));
        assert_eq!(Set::EMPTY.least(), None);
        assert!(!set.insert(16) && !set.contains(16) && !set.contains(usize::MAX));
        assert_eq!(Set::first(99).len(), REPLICAS_MAX);
    }

    /// However replies are ordered, repeated and contradicted, the tally is that of the facts.
    #[test]
    fn a_tally_is_what_a_list_of_replies_says() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let replicas = rng.usize(1..=7);
            let needed = rng.usize(1..=replicas);
            let mut tally = Tally::new(replicas, needed);
            let (mut acked, mut failed) = (Vec::new(), Vec::new());
            for _ in 0..rng.usize(0..12) {
                let replica = rng.usize(0..replicas + 1);
                if rng.bool() {
                    tally.ack(replica);
                    acked.push(replica);
                } else {
                    tally.fail(replica);
                    failed.push(replica);
                }
                let acks = (0..replicas).filter(|at| acked.contains(at)).count();
                let lost = |at: &usize| failed.contains(at) && !acked.contains(at);
                let left = (0..replicas).filter(|at| !lost(at)).count();
                assert_eq!(tally.is_reached(), acks >= needed);
                assert_eq!(tally.is_impossible(), left < needed);
                assert_eq!(tally.failed().len(), (0..replicas).filter(lost).count());
                assert!(!(tally.is_reached() && tally.is_impossible()));
            }
        }
    }

    #[test]
    fn a_fresh_replica_acknowledges_but_knows_nothing() {
        let replicas = Replicas { fresh: Set::only(0), ..Replicas::all_up(3) };
        assert!(!replicas.knows([0, 1].into_iter().collect()));
        assert!(replicas.knows([1, 2].into_iter().collect()));
        assert_eq!(replicas.suffice(Level::Quorum, Set::first(3)), Ok(()));
        let too_few = TooFew { available: 1, needed: 2 };
        assert_eq!(replicas.suffice(Level::Quorum, Set::first(2)), Err(too_few));
        assert_eq!(replicas.suffice(Level::One, Set::only(0)), Ok(()));
        let too_few = TooFew { available: 2, needed: 3 };
        assert_eq!(replicas.suffice(Level::All, Set::first(2)), Err(too_few));
    }
}
