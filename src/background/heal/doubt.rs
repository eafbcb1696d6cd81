//! When is a pool compared though it is not yet its time?
//!
//! Hints bring what a replica is known to have missed. They do not tell of a write that was under way
//! when its proxy was killed, nor of one that another node gave up; the scheduled pass would find
//! these, an hour later. So a node compares a pool soon after the moments at which such things have
//! happened: its own start, the end of a time with hints, a pass that not all shards answered, a
//! store that tells of more damaged values than before.
//!
//! It is cheap where nothing is amiss: 256 sums of each store.

use super::passes::{Pass, PassEnd};

const SECOND_US: u64 = 1_000_000;

/// After the start of a node: stores that were started with it are up by then.
const AFTER_START_US: u64 = 5 * SECOND_US;

/// So much later on each further node of those that were started together.
const APART_US: u64 = 2 * SECOND_US;

/// After the last hint was replayed: what is under way with the same shard ends first.
const AFTER_HINTS_US: u64 = 3 * SECOND_US;

/// Between two passes of one pool that nobody asked for, at least.
const BETWEEN_US: u64 = 10 * SECOND_US;

/// The same, after passes that did not get through, one after the other: each waits twice as long.
const BETWEEN_MAX_US: u64 = 320 * SECOND_US;

/// Whether something may be missing from a pool's replicas that no hint tells of.
#[derive(Debug)]
pub(super) struct Doubt {
    due_us: Option<u64>,
    has_hints: bool,
    /// Values that stores have lost the bytes of.
    damaged: u64,
    /// The last pass that was looked at.
    seen: u64,
    between_us: u64,
}

impl Doubt {
    /// At the start of the node that is in this place among the cluster's.
    pub(super) fn at_start(now_us: u64, place: usize) -> Self {
        let later_us = APART_US.saturating_mul(place as u64).min(BETWEEN_MAX_US);
        Self {
            due_us: Some(now_us + AFTER_START_US + later_us),
            has_hints: false,
            damaged: 0,
            seen: 0,
            between_us: BETWEEN_US,
        }
    }

    /// Takes note of how many hints are pending, of how many values are damaged, and of the last
    /// pass. To be called every second.
    pub(super) fn look(&mut self, now_us: u64, hints: usize, damaged: u64, last: Option<&Pass>) {
        if damaged > self.damaged {
            self.arise(now_us);
        }
        self.damaged = damaged;
        if self.has_hints && hints == 0 {
            self.arise(now_us + AFTER_HINTS_US);
        }
        self.has_hints = hints > 0;
        let ended = last.filter(|pass| pass.end != PassEnd::Running && !pass.dry_run);
        let Some(pass) = ended.filter(|pass| pass.id > self.seen) else { return };
        self.seen = pass.id;
        if pass.is_whole() {
            self.between_us = BETWEEN_US;
        } else {
            self.arise(now_us + self.between_us);
            self.between_us = (2 * self.between_us).min(BETWEEN_MAX_US);
        }
    }

    /// Whether the pool is to be compared now.
    pub(super) fn is_due(&self, now_us: u64) -> bool {
        self.due_us.is_some_and(|due_us| due_us <= now_us)
    }

    /// A pass has been asked for, which will find whatever there is by now.
    pub(super) fn settle(&mut self) {
        self.due_us = None;
    }

    /// A pass could not be asked for: one is under way that may be past what is missing.
    pub(super) fn put_off(&mut self, now_us: u64) {
        self.due_us = Some(now_us + BETWEEN_US);
    }

    fn arise(&mut self, at_us: u64) {
        self.due_us = Some(self.due_us.map_or(at_us, |due_us| due_us.min(at_us)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::passes::PassKind;
    use super::*;
    use crate::ids::PoolName;

    fn pass(id: u64, end: PassEnd, away: &[&str]) -> Pass {
        let pool = PoolName::new("p").expect("a name");
        let away = away.iter().map(ToString::to_string).collect();
        Pass { end, away, ..Pass::asked_for(id, &pool, PassKind::Doubt, false, 0) }
    }

    #[test]
    fn a_start_and_the_end_of_hints_raise_a_doubt_once() {
        let mut doubt = Doubt::at_start(0, 1);
        assert!(!doubt.is_due(AFTER_START_US));
        assert!(doubt.is_due(AFTER_START_US + APART_US));
        doubt.settle();
        let mut now_us = 20 * SECOND_US;
        doubt.look(now_us, 3, 0, None);
        doubt.look(now_us, 1, 0, None);
        assert!(!doubt.is_due(u64::MAX), "hints bring these");
        doubt.look(now_us, 0, 0, None);
        now_us += AFTER_HINTS_US;
        assert!(doubt.is_due(now_us) && !doubt.is_due(now_us - 1));
        doubt.put_off(now_us);
        assert!(!doubt.is_due(now_us) && doubt.is_due(now_us + BETWEEN_US));
        doubt.settle();
        doubt.look(now_us, 0, 0, None);
        assert!(!doubt.is_due(u64::MAX));
    }

    #[test]
    fn damage_raises_a_doubt_when_there_is_more_of_it() {
        let mut doubt = Doubt::at_start(0, 0);
        doubt.settle();
        doubt.look(SECOND_US, 0, 2, None);
        assert!(doubt.is_due(SECOND_US));
        doubt.settle();
        doubt.look(2 * SECOND_US, 0, 2, None);
        doubt.look(3 * SECOND_US, 0, 1, None);
        assert!(!doubt.is_due(u64::MAX), "it is being seen to");
        doubt.look(4 * SECOND_US, 0, 2, None);
        assert!(doubt.is_due(4 * SECOND_US));
    }

    #[test]
    fn a_pass_that_did_not_get_through_is_tried_again_ever_more_rarely() {
        let mut doubt = Doubt::at_start(0, 0);
        doubt.settle();
        doubt.look(0, 0, 0, Some(&pass(1, PassEnd::Running, &["a"])));
        assert!(!doubt.is_due(u64::MAX), "it goes on");
        let (mut now_us, mut waits) = (0, Vec::new());
        for id in 1..=8 {
            let away = pass(id, PassEnd::Done, &["a"]);
            doubt.look(now_us, 0, 0, Some(&away));
            doubt.look(now_us, 0, 0, Some(&away));
            let wait = (1..).find(|wait| doubt.is_due(now_us + wait * SECOND_US));
            waits.push(wait.expect("it is due one day"));
            now_us += waits[waits.len() - 1] * SECOND_US;
            doubt.settle();
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 320, 320]);
        doubt.look(now_us, 0, 0, Some(&pass(9, PassEnd::Done, &[])));
        assert!(!doubt.is_due(u64::MAX), "all is well");
        doubt.look(now_us, 0, 0, Some(&pass(10, PassEnd::Failed("why".to_owned()), &[])));
        assert!(doubt.is_due(now_us + BETWEEN_US));
    }
}
