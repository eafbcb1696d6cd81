//! What is to be done about a write that a replica may have missed?
//!
//! A hint (`handoff`) names replica, key and version; it has no body. The node that keeps it replays
//! it when the replica is up again: whoever holds the newest record of the key gives a copy, and
//! newest wins as ever. So a replay can come late, twice or for nothing, and does no harm; what gets
//! lost is left to anti-entropy. That is also why a hint is never an acknowledgement.

use crate::protocol::holding::Held;
use crate::protocol::read::Record;
use crate::version::Version;

/// What a replay does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// The replica holds that version or a newer one: the hint is settled.
    Settled,
    /// Bring it this record, which is at least as new; the hint is settled when it has answered.
    Copy {
        /// The newest that is held.
        record: Record,
        /// Who holds it.
        from: usize,
    },
    /// All others have told, and none has it to give: the write has reached nobody, or was collected,
    /// or its bytes are lost. The hint is settled.
    Nowhere,
    /// Who may hold it does not answer now. To be tried again later.
    Wait,
}

/// Compares what the replica holds with what the others do, of which `None` does not answer.
///
/// `others` are all replicas of the key but this one, by their places, in the order in which they
/// are to be asked for a copy.
#[must_use]
pub fn replay(hinted: Version, target: Option<Held>, others: &[(usize, Option<Held>)]) -> Replay {
    let Some(target) = target else { return Replay::Wait };
    if target.covers(hinted) {
        return Replay::Settled;
    }
    let mut newest: Option<(Record, usize)> = None;
    for (from, held) in others {
        let Some(held) = held else { continue };
        let Some(version) = held.whole() else { continue };
        if newest.is_none_or(|(best, _)| best.version < version) {
            let is_tombstone = matches!(held, Held::Tombstone(_));
            newest = Some((Record { version, is_tombstone }, *from));
        }
    }
    match newest {
        Some((record, from)) if record.version >= hinted => Replay::Copy { record, from },
        _ if others.iter().all(|(_, held)| held.is_some()) => Replay::Nowhere,
        _ => Replay::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Stamp;

    fn v(stamp: u64) -> Version {
        Version { stamp: Stamp(stamp), ..Version::NONE }
    }

    #[test]
    fn a_replica_that_caught_up_needs_nothing() {
        let others = [(0, Some(Held::Value(v(5)))), (1, None)];
        for held in [Held::Value(v(5)), Held::Tombstone(v(6)), Held::Absent { watermark: v(5) }] {
            assert_eq!(replay(v(5), Some(held), &others), Replay::Settled);
        }
    }

    #[test]
    fn the_newest_is_copied_from_whoever_has_it() {
        let target = Some(Held::Value(v(4)));
        let record = |stamp, is_tombstone| Record { version: v(stamp), is_tombstone };
        let held = |held| Some(held);
        let others = [(1, held(Held::Value(v(5)))), (0, held(Held::Tombstone(v(7))))];
        let copy = Replay::Copy { record: record(7, true), from: 0 };
        assert_eq!(replay(v(5), target, &others), copy);
        // Of two that have it, the first.
        let others = [(1, held(Held::Value(v(5)))), (0, held(Held::Value(v(5))))];
        let copy = Replay::Copy { record: record(5, false), from: 1 };
        assert_eq!(replay(v(5), target, &others), copy);
    }

    #[test]
    fn what_is_damaged_is_brought_anew_and_not_given() {
        let damaged = Some(Held::Damaged(v(5)));
        let record = Record { version: v(5), is_tombstone: false };
        let others = [(1, damaged), (2, Some(Held::Value(v(5))))];
        assert_eq!(replay(v(5), damaged, &others), Replay::Copy { record, from: 2 });
        assert_eq!(replay(v(5), damaged, &[(1, damaged), (2, None)]), Replay::Wait);
        assert_eq!(replay(v(5), damaged, &[(1, damaged)]), Replay::Nowhere);
    }

    #[test]
    fn what_nobody_can_give_now_waits_and_what_nobody_has_is_forgotten() {
        let older = Some(Held::Value(v(4)));
        assert_eq!(replay(v(5), None, &[(1, Some(Held::Value(v(5))))]), Replay::Wait);
        assert_eq!(replay(v(5), older, &[(1, older), (2, None)]), Replay::Wait);
        assert_eq!(replay(v(5), older, &[(1, older), (2, older)]), Replay::Nowhere);
        assert_eq!(replay(v(5), older, &[(1, Some(Held::NOTHING)), (2, older)]), Replay::Nowhere);
    }
}
