//! One class of one shard as its clients' requests see it: serving, ejected, or back on trial.
//!
//! ```text
//!             a rule is met                    its time is over
//!   serving ----------------->  ejected  ------------------------->  on trial
//!      ^                           ^                                  |     |
//!      |                           |      the next failure of the kind|     |
//!      |                           +----------------------------------+     |
//!      +--------------------------------------------------------------------+
//!                        the next success, or long enough without failure
//! ```
//!
//! The n-th ejection lasts n times `base_ejection_time`, up to `max_ejection_time`; each
//! `base_ejection_time` in service takes one off n. (Envoy's outlier detection has the same
//! growth; its n falls once per sweep.)
//!
//! On trial, one failure is enough, because it only confirms what many have shown. Known
//! weakness: the first request may be for the one key that always fails, and the shard then sits
//! out a longer ejection than it deserves. Where that matters, `max_ejection_time` bounds it.

use super::evidence::{Evidence, millis};
use super::report::{Reason, Standing};
use super::settings::PassiveSettings;

/// See the module's doc. `Default` serves and has no history.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    pub(super) evidence: Evidence,
    ejection: Option<Ejection>,
    trial: Option<Trial>,
    /// Ejections not yet forgiven: what the next one's length grows by.
    ejections: u32,
    /// From when on time in service forgives ejections.
    calm_since_ms: u64,
    /// When the lane last came back; evidence from before is stale.
    returned_ms: u64,
    /// A rule is met, but too many shards are ejected already; said once until that changes.
    spared: bool,
}

#[derive(Debug, Clone, Copy)]
struct Ejection {
    since_ms: u64,
    until_ms: u64,
    reason: Reason,
    trial_after: Trial,
}

/// What a lane on trial must not meet again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// It was ejected because no connection could be made: any answer ends the trial, and only a
    /// connection that fails again confirms.
    Connect,
    /// It was ejected for its answers: only a good one ends the trial, and any failure confirms.
    Answers,
}

impl Lane {
    /// Whether requests of this class may go here, as far as requests can tell.
    pub(super) fn standing(&self) -> Standing {
        self.ejection.map_or(Standing::Up, |e| Standing::Ejected { until_ms: e.until_ms })
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.ejection.is_some()
    }

    /// Whether the lane is ejected because no connection could be made.
    pub(super) fn is_ejected_for_connect(&self) -> bool {
        self.ejection.is_some_and(|e| e.trial_after == Trial::Connect)
    }

    /// Why and since when the lane is ejected.
    pub(super) fn ejected_for(&self) -> Option<(Reason, u64)> {
        self.ejection.map(|e| (e.reason, e.since_ms))
    }

    /// When the lane last came back; 0 if it never went.
    pub(super) fn returned_ms(&self) -> u64 {
        self.returned_ms
    }

    /// Whether the failure of a try begun at `begun_ms` still says something. (An answer always
    /// does: it shows the shard as it is when it comes.)
    pub(super) fn takes_blame(&self, begun_ms: u64) -> bool {
        self.ejection.is_none() && begun_ms >= self.returned_ms
    }

    /// Whether a good answer would change anything here.
    pub(super) fn wants_success(&self) -> bool {
        self.ejection.is_none() && (self.trial.is_some() || self.evidence.wants_success())
    }

    /// The trial that the lane is on, unless it has served it by time.
    pub(super) fn trial(&mut self, now_ms: u64, rules: &PassiveSettings) -> Option<Trial> {
        self.settle(now_ms, rules);
        if self.ejections == 0 {
            self.trial = None;
        }
        self.trial
    }

    /// A good answer came.
    pub(super) fn succeeded(&mut self) {
        self.evidence.succeeded();
        self.trial = None;
        self.spared = false;
    }

    /// An answer came, whatever it says: the shard can be reached.
    pub(super) fn reached(&mut self) {
        self.trial = self.trial.filter(|trial| *trial != Trial::Connect);
    }

    /// Takes the lane out of service. Returns for how long, in milliseconds, and how many
    /// ejections are now unforgiven.
    pub(super) fn eject(
        &mut self,
        now_ms: u64,
        reason: Reason,
        trial_after: Trial,
        rules: &PassiveSettings,
    ) -> (u64, u32) {
        debug_assert!(self.ejection.is_none(), "an ejected lane takes no evidence");
        self.settle(now_ms, rules);
        self.ejections = self.ejections.saturating_add(1);
        let grown = millis(rules.base_ejection_time).saturating_mul(u64::from(self.ejections));
        // Of no length at all, it would be due at the very moment at which it was looked at.
        let for_ms = grown.min(millis(rules.max_ejection_time)).max(1);
        let until_ms = now_ms.saturating_add(for_ms);
        self.ejection = Some(Ejection { since_ms: now_ms, until_ms, reason, trial_after });
        self.trial = None;
        self.spared = false;
        self.evidence.forget();
        (for_ms, self.ejections)
    }

    /// Notes that an ejection was due and not allowed. False if that was noted before.
    pub(super) fn spare(&mut self) -> bool {
        !std::mem::replace(&mut self.spared, true)
    }

    /// Whether the ejection's time is over.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.ejection.is_some_and(|e| e.until_ms <= now_ms)
    }

    /// Ends the ejection, if there is one: the lane is on trial.
    pub(super) fn release(&mut self, now_ms: u64) -> bool {
        let Some(ejection) = self.ejection.take() else { return false };
        self.trial = Some(ejection.trial_after);
        self.calm_since_ms = now_ms;
        self.returned_ms = now_ms;
        true
    }

    /// The probes put the shard down. Their verdict is the stronger one and has its own way back,
    /// so an ejection ends here (its trial remains), and what was pending is void.
    pub(super) fn suspend(&mut self, now_ms: u64, rules: Option<&PassiveSettings>) {
        if let Some(rules) = rules {
            self.settle(now_ms, rules);
        }
        self.release(now_ms);
        self.evidence.forget();
        self.spared = false;
    }

    /// The probes brought the shard up again.
    pub(super) fn resume(&mut self, now_ms: u64) {
        self.calm_since_ms = now_ms;
        self.returned_ms = now_ms;
    }

    /// Forgives one ejection per `base_ejection_time` in service.
    fn settle(&mut self, now_ms: u64, rules: &PassiveSettings) {
        if self.ejection.is_some() {
            return;
        }
        let base_ms = millis(rules.base_ejection_time).max(1);
        let forgiven = now_ms.saturating_sub(self.calm_since_ms) / base_ms;
        self.ejections = self.ejections.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        self.calm_since_ms = self.calm_since_ms.saturating_add(forgiven * base_ms);
    }

    pub(super) fn next_deadline(&self, rules: &PassiveSettings) -> Option<u64> {
        match self.ejection {
            Some(ejection) => Some(ejection.until_ms),
            None => self.evidence.next_deadline(rules),
        }
    }
}
