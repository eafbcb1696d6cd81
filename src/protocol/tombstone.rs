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
//! 3. **Each of the N was told an epoch whose barrier has passed**, so that it refuses what began
//!    under an older one, however late that comes.
//! 4. **It was old enough when that epoch began** (`tombstone_min_age`). What began under it was
//!    stamped above the tombstone then, by clocks that are off by less than that age. To count the
//!    age at the collection instead would let a write that is late under the same epoch come to some
//!    replicas before their watermark is raised, and be refused by the others.
//!    Where no epoch begins, because nothing of the pool changes, now has to do. Then the age must be
//!    well above how long a stage is kept (`words::STAGE_MAX_MS`), so that a late commit finds none.
//!    What is left is a body that its writer held and sends after being stopped for longer than that,
//!    to a replica that the last collection did not reach. Nothing acknowledged is lost then, but a
//!    write that was told unknown may be found by some reads and not by others, until the next.
//! 5. **All N hold that very tombstone**, or have dropped it already: a watermark at or above it is
//!    as good. (Else the one that a collection did not reach would keep it for ever.)
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
    /// Whether it is a value whose bytes are lost or spoilt: not what one has that has it whole.
    pub is_damaged: bool,
}

/// What one replica has of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot<'s, 'k> {
    /// Its records, in any order.
    pub records: &'s [Listed<'k>],
    /// Its watermark.
    pub watermark: Version,
}

/// What is known beside the records of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What the wall clock showed when the epoch that the replicas were told began (rule 4).
    pub begun_unix_ms: u64,
    /// `tombstone_min_age`, in milliseconds.
    pub age_ms_min: u64,
    /// How many replicas the slot has.
    pub replicas: usize,
    /// Those that were told that epoch, whose barrier has passed.
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
    /// Rule 3.
    #[error("not every replica was told a ring that all nodes have: {0} were not")]
    Untold(Set),
}

/// The tombstones of a slot that may be dropped, in the order of their keys. `listed` has what each
/// replica of the slot has, by its place; `None` if it could not be listed.
///
/// # Errors
/// [`Withheld`] if nothing of the slot can be collected, whatever is in it.
pub fn collectable<'k>(
    facts: &Facts,
    listed: &[Option<Slot<'_, 'k>>],
) -> Result<Vec<(&'k str, Version)>, Withheld> {
    if facts.is_moving {
        return Err(Withheld::Moving);
    }
    let every = Set::first(facts.replicas);
    let slots: Vec<Slot<'_, 'k>> = listed.iter().take(facts.replicas).copied().flatten().collect();
    if slots.len() < facts.replicas {
        let is_listed = |at: &usize| listed.get(*at).is_some_and(Option::is_some);
        return Err(Withheld::Unlisted(every.iter().filter(|at| !is_listed(at)).collect()));
    }
    let untold = every.without(facts.told);
    if !untold.is_empty() {
        return Err(Withheld::Untold(untold));
    }
    let mut keys: BTreeMap<&'k str, Vec<Option<Listed<'k>>>> = BTreeMap::new();
    for (at, slot) in slots.iter().enumerate() {
        for record in slot.records {
            keys.entry(record.key).or_insert_with(|| vec![None; slots.len()])[at] = Some(*record);
        }
    }
    // The newest of each key, and whether it is everywhere. What is older gives way to it.
    let newest: Vec<(Listed<'k>, bool)> = keys
        .values()
        .filter_map(|held| {
            let newest = held.iter().flatten().max_by_key(|record| record.version)?;
            let has = |(held, slot): (&Option<Listed<'_>>, &Slot<'_, '_>)| match held {
                Some(record) => record == newest,
                None => newest.is_tombstone && slot.watermark >= newest.version,
            };
            Some((*newest, held.iter().zip(&slots).all(has)))
        })
        .collect();
    let least_apart =
        newest.iter().filter(|(_, is_all)| !is_all).map(|(newest, _)| newest.version).min();
    let is_old = |version: Version| {
        version.stamp.unix_ms().saturating_add(facts.age_ms_min) <= facts.begun_unix_ms
    };
    Ok(newest
        .iter()
        .filter(|(newest, is_all)| *is_all && newest.is_tombstone && is_old(newest.version))
        .filter(|(newest, _)| least_apart.is_none_or(|apart| newest.version < apart))
        .map(|(newest, _)| (newest.key, newest.version))
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
        Listed { key, version: at(hours), is_tombstone: true, is_damaged: false }
    }

    fn value(key: &str, hours: u64) -> Listed<'_> {
        Listed { key, version: at(hours), is_tombstone: false, is_damaged: false }
    }

    fn facts() -> Facts {
        Facts {
            begun_unix_ms: 10 * HOUR_MS,
            age_ms_min: HOUR_MS,
            replicas: 3,
            told: Set::first(3),
            is_moving: false,
        }
    }

    fn slot<'s, 'k>(records: &'s [Listed<'k>]) -> Option<Slot<'s, 'k>> {
        Some(Slot { records, watermark: Version::NONE })
    }

    fn collect<'k>(facts: &Facts, listed: [&[Listed<'k>]; 3]) -> Vec<(&'k str, Version)> {
        collectable(facts, &listed.map(slot)).expect("nothing withholds the slot")
    }

    /// What is damaged was in no list, so that a deletion could be forgotten over it.
    #[test]
    fn nothing_is_collected_over_a_value_that_one_has_damaged() {
        let damaged = |key, hours| Listed { is_damaged: true, ..value(key, hours) };
        let (whole, hurt) = ([value("k", 3), gone("a", 5)], [damaged("k", 3), gone("a", 5)]);
        assert_eq!(collect(&facts(), [&whole, &hurt, &whole]), vec![]);
        // Nor the deletion of that very key, nor one that it is newer than.
        let gone_there = [gone("k", 4), gone("a", 5)];
        assert_eq!(collect(&facts(), [&gone_there, &hurt, &gone_there]), vec![]);
        let (whole, hurt) = ([value("k", 6), gone("a", 5)], [damaged("k", 6), gone("a", 5)]);
        assert_eq!(collect(&facts(), [&whole, &hurt, &whole]), vec![("a", at(5))]);
        // Where all know it as lost, it is the same everywhere.
        let hurt = [damaged("k", 3), gone("a", 5)];
        assert_eq!(collect(&facts(), [&hurt, &hurt, &hurt]), vec![("a", at(5))]);
    }

    /// A replica that the collection did not reach is reached by the next.
    #[test]
    fn what_some_have_dropped_is_dropped_by_the_others() {
        let held = [gone("a", 5)];
        let dropped = Some(Slot { records: &[], watermark: at(5) });
        let listed = [dropped, slot(&held), dropped];
        assert_eq!(collectable(&facts(), &listed), Ok(vec![("a", at(5))]));
        // A watermark below it has dropped others, not this.
        let other = Some(Slot { records: &[], watermark: at(4) });
        assert_eq!(collectable(&facts(), &[dropped, slot(&held), other]), Ok(vec![]));
        // And of a value no watermark makes up for the lack.
        let held = [value("a", 4), gone("b", 5)];
        let lacking = [gone("b", 5)];
        let lacking = Some(Slot { records: &lacking, watermark: at(5) });
        assert_eq!(collectable(&facts(), &[slot(&held), slot(&held), lacking]), Ok(vec![]));
    }

    #[test]
    fn what_all_hold_for_long_enough_is_collected() {
        let all = [gone("a", 9), gone("b", 10), value("c", 1)];
        assert_eq!(collect(&facts(), [&all, &all, &all]), [("a", at(9))]);
        let young = Facts { begun_unix_ms: 10 * HOUR_MS - 1, ..facts() };
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
        let held = slot(&held);
        let refused = |facts: Facts, listed: &[Option<Slot<'_, '_>>]| {
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
