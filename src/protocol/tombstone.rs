//! When may the memory of a deletion be dropped?
//!
//! A tombstone that is dropped too early lets what it deleted come back: from a replica that never
//! heard of the deletion, or from a put that comes late. And it must be dropped some day, or every
//! key that ever was would be kept.
//!
//! # The rules (DESIGN, section 7), one slot at a time
//!
//! 1. **All N were listed.** What a replica that is away holds, nobody knows.
//! 2. **No range of it is moving**: from *joint* until *clean* has finished.
//! 3. **It is old enough** (`tombstone_min_age`), so that what was underway when it was written has
//!    long ended.
//! 4. **Each of the N was told an epoch whose barrier has passed since**, so that it refuses puts by
//!    those who begun under an older one.
//! 5. **All N hold that very tombstone**, or it is none any more where something newer is held.
//! 6. **All N agree on everything up to it.** The watermark that is raised holds for the whole
//!    slot: a value at or under it that some replica lacks could not be brought to that replica any
//!    more. So nothing is collected at or above the least version that is not everywhere.
//!
//! Then each of the N raises the slot's watermark to the greatest that is collected, and in the same
//! step drops each record that is still exactly that tombstone (`holding::may_drop`). A replica that
//! is not told of it keeps a tombstone too many, which does no harm: its key is absent or newer on
//! the others.
//!
//! A store that is filled afresh is brought the watermarks *after* the records, by rule 6.

use std::collections::BTreeMap;

use crate::protocol::quorum::Set;
use crate::version::Version;

/// A record as a replica lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'k> {
    /// Its key.
    pub key: &'k str,
    /// Its version.
    pub version: Version,
    /// Whether it is a tombstone.
    pub is_tombstone: bool,
}

/// What is known beside the records of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The wall clock.
    pub now_unix_ms: u64,
    /// `tombstone_min_age`, in milliseconds.
    pub age_ms_min: u64,
    /// How many replicas the slot has.
    pub replicas: usize,
    /// Those that were told an epoch that passed its barrier after the tombstones were written.
    pub told: Set,
    /// Whether data of the slot moves.
    pub is_moving: bool,
}

/// Why nothing of a slot can be collected at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// Rule 2.
    #[error("its data is being moved")]
    Moving,
    /// Rule 1.
    #[error("not every replica was listed: {0} are missing")]
    Unlisted(Set),
    /// Rule 4.
    #[error("not every replica was told a ring that all nodes have: {0} were not")]
    Untold(Set),
}

/// The tombstones of a slot that may be dropped, in the order of their keys. `listed` has what each
/// replica of the slot holds, in any order, by its place; `None` if it could not be listed.
///
/// # Errors
/// [`Withheld`] if nothing of the slot can be collected, whatever is in it.
pub fn collectable<'k>(
    facts: &Facts,
    listed: &[Option<&[Listed<'k>]>],
) -> Result<Vec<(&'k str, Version)>, Withheld> {
    if facts.is_moving {
        return Err(Withheld::Moving);
    }
    let every = Set::first(facts.replicas);
    let is_listed = |at: &usize| listed.get(*at).is_some_and(Option::is_some);
    let missing: Set = every.iter().filter(|at| !is_listed(at)).collect();
    if !missing.is_empty() {
        return Err(Withheld::Unlisted(missing));
    }
    let untold = every.without(facts.told);
    if !untold.is_empty() {
        return Err(Withheld::Untold(untold));
    }
    let mut keys: BTreeMap<&'k str, Vec<Listed<'k>>> = BTreeMap::new();
    for record in listed.iter().take(facts.replicas).flatten().copied().flatten() {
        keys.entry(record.key).or_default().push(*record);
    }
    let is_same = |records: &[Listed<'_>]| {
        records.len() == facts.replicas && records.iter().all(|other| *other == records[0])
    };
    // What has yet to travel is the greatest version of a key; what is older gives way to it.
    let least_apart = keys
        .values()
        .filter(|records| !is_same(records))
        .filter_map(|records| records.iter().map(|record| record.version).max())
        .min();
    let is_old = |version: Version| {
        version.stamp.unix_ms().saturating_add(facts.age_ms_min) <= facts.now_unix_ms
    };
    Ok(keys
        .iter()
        .filter(|(_, records)| is_same(records))
        .map(|(key, records)| (*key, records[0]))
        .filter(|(_, record)| record.is_tombstone && is_old(record.version))
        .filter(|(_, record)| least_apart.is_none_or(|apart| record.version < apart))
        .map(|(key, record)| (key, record.version))
        .collect())
}

/// The watermark of a slot of which these are collected.
#[must_use]
pub fn raised(watermark: Version, collected: &[(&str, Version)]) -> Version {
    collected.iter().fold(watermark, |highest, (_, version)| highest.max(*version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Stamp;

    const HOUR_MS: u64 = 3_600_000;

    /// A version of so many hours after the beginning.
    fn at(hours: u64) -> Version {
        Version { stamp: Stamp::of_ms(hours * HOUR_MS), ..Version::NONE }
    }

    fn gone(key: &str, hours: u64) -> Listed<'_> {
        Listed { key, version: at(hours), is_tombstone: true }
    }

    fn value(key: &str, hours: u64) -> Listed<'_> {
        Listed { key, version: at(hours), is_tombstone: false }
    }

    fn facts() -> Facts {
        Facts {
            now_unix_ms: 10 * HOUR_MS,
            age_ms_min: HOUR_MS,
            replicas: 3,
            told: Set::first(3),
            is_moving: false,
        }
    }

    fn collect<'k>(facts: &Facts, listed: [&[Listed<'k>]; 3]) -> Vec<(&'k str, Version)> {
        collectable(facts, &listed.map(Some)).expect("nothing withholds the slot")
    }

    #[test]
    fn what_all_hold_for_long_enough_is_collected() {
        let all = [gone("a", 9), gone("b", 10), value("c", 1)];
        assert_eq!(collect(&facts(), [&all, &all, &all]), [("a", at(9))]);
        let young = Facts { now_unix_ms: 10 * HOUR_MS - 1, ..facts() };
        assert_eq!(collect(&young, [&all, &all, &all]), []);
        assert_eq!(raised(at(3), &[("a", at(9)), ("b", at(4))]), at(9));
        assert_eq!(raised(at(3), &[]), at(3));
    }

    #[test]
    fn what_one_lacks_or_has_otherwise_stays() {
        let held = [gone("a", 5)];
        assert_eq!(collect(&facts(), [&held, &held, &[]]), []);
        assert_eq!(collect(&facts(), [&held, &held, &[value("a", 4)]]), []);
        assert_eq!(collect(&facts(), [&held, &held, &[value("a", 6)]]), []);
    }

    /// The watermark would cover the value that one replica lacks, and refuse its repair for ever.
    #[test]
    fn what_is_apart_below_a_tombstone_keeps_it() {
        let most = [gone("a", 5), gone("c", 3), value("b", 4)];
        let one = [gone("a", 5), gone("c", 3)];
        assert_eq!(collect(&facts(), [&most, &most, &one]), [("c", at(3))]);
        // What gives way to a version above the watermark is no hindrance.
        let one = [gone("a", 5), gone("c", 3), value("b", 2)];
        assert_eq!(collect(&facts(), [&most, &most, &one]), [("c", at(3))]);
        let one = [gone("a", 5), gone("c", 3), value("b", 8)];
        assert_eq!(collect(&facts(), [&most, &most, &one]), [("a", at(5)), ("c", at(3))]);
    }

    #[test]
    fn a_slot_that_is_not_seen_whole_is_left_alone() {
        let held = [gone("a", 5)];
        let held = Some(held.as_slice());
        let refused = |facts: Facts, listed: &[Option<&[Listed<'_>]>]| {
            collectable(&facts, listed).expect_err("not seen whole")
        };
        let third = Set::only(2);
        assert_eq!(refused(facts(), &[held, held, None]), Withheld::Unlisted(third));
        assert_eq!(refused(facts(), &[held, held]), Withheld::Unlisted(third));
        let untold = Facts { told: Set::first(2), ..facts() };
        assert_eq!(refused(untold, &[held, held, held]), Withheld::Untold(third));
        let moving = Facts { is_moving: true, ..facts() };
        assert_eq!(refused(moving, &[held, held, held]), Withheld::Moving);
    }
}
