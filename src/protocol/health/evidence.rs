//! Have the requests of one class failed at one shard so that it shows?
//!
//! Two rules over one record. **In a row**: `consecutive_5xx` failed answers with no good one
//! between them. **Rate**: of at least `error_rate_requests_min` requests in the window, at least
//! `error_rate_percent` failed. Both need failures of `keys_min` distinct keys, since one key that
//! a server cannot store fails for ever, and a popular one fails at a high rate.
//!
//! A healthy shard costs its requests nothing here: successes are counted (outside, by the
//! request path) only from the first failure on until a whole window has passed without one. The
//! window therefore begins with a failure, which is why its rate is no verdict on few requests.

use std::collections::VecDeque;

use super::observation::Failure;
use super::settings::PassiveSettings;
use crate::ids::Token;

/// Samples of the totals per window. More would make the window's edge sharper than ten per cent.
const SAMPLES_PER_WINDOW: u64 = 10;

/// The failures of one class at one shard. `Default` is an untroubled shard.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    /// Failures ever; their number is also each failure's name.
    failed: u64,
    /// Failed answers since the last good one.
    streak: u32,
    /// `failed` when the streak began: of the keys, those with a later failure are of the streak.
    streak_after: u64,
    /// The keys that failed last, the latest at the end; distinct, at most `keys_min`.
    keys: VecDeque<FailedKey>,
    /// The latest failure.
    last: Option<(u64, Failure)>,
    /// Totals at points of the window, oldest first. Empty: nothing is counted.
    samples: VecDeque<Sample>,
    /// The total of good answers as last heard of.
    good: u64,
}

#[derive(Debug, Clone, Copy)]
struct FailedKey {
    key: Token,
    /// The number of its latest failure.
    number: u64,
    at_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at_ms: u64,
    good: u64,
    failed: u64,
}

/// Which rule was met, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    Streak { failures: u32 },
    Rate { failed: u64, requests: u64 },
}

impl Evidence {
    /// Takes a failure down. Says so if that makes too many answers in a row.
    ///
    /// A connection that could not be made has its own rule (see [`super::pool`]); it counts here
    /// for the rate alone.
    pub(super) fn failed(
        &mut self,
        now_ms: u64,
        key: Token,
        failure: Failure,
        rules: &PassiveSettings,
    ) -> Option<Finding> {
        if self.samples.is_empty() {
            self.samples.push_back(Sample { at_ms: now_ms, good: self.good, failed: self.failed });
        }
        self.failed += 1;
        self.last = Some((now_ms, failure));
        self.keys.retain(|seen| seen.key != key);
        while self.keys.len() >= usize::from(rules.keys_min.max(1)) {
            self.keys.pop_front();
        }
        self.keys.push_back(FailedKey { key, number: self.failed, at_ms: now_ms });

        if failure == Failure::Connect {
            return None;
        }
        if self.streak == 0 {
            self.streak_after = self.failed - 1;
        }
        self.streak = self.streak.saturating_add(1);
        let keys = self.keys.iter().filter(|seen| seen.number > self.streak_after).count();
        let met = rules.consecutive_5xx > 0
            && self.streak >= rules.consecutive_5xx
            && keys >= usize::from(rules.keys_min);
        met.then_some(Finding::Streak { failures: self.streak })
    }

    /// Takes a good answer down: whatever failed in a row has ended.
    pub(super) fn succeeded(&mut self) {
        self.streak = 0;
    }

    /// Whether a good answer would change anything here.
    pub(super) fn wants_success(&self) -> bool {
        self.streak > 0
    }

    /// Whether good answers must be counted for the rate.
    pub(super) fn counts(&self) -> bool {
        !self.samples.is_empty()
    }

    /// The latest failure, if any is on record.
    pub(super) fn last(&self) -> Option<Failure> {
        self.last.map(|(_, failure)| failure)
    }

    /// When the window should next be looked at. `None`: nothing is in it.
    pub(super) fn next_deadline(&self, rules: &PassiveSettings) -> Option<u64> {
        self.samples.back().map(|sample| sample.at_ms.saturating_add(step_ms(rules)))
    }

    /// Moves the window to `now_ms`, where `good` answers have been counted in all. Says so if
    /// too many of its requests failed.
    pub(super) fn tick(
        &mut self,
        now_ms: u64,
        good: u64,
        rules: &PassiveSettings,
    ) -> Option<Finding> {
        self.good = self.good.max(good);
        let newest = self.samples.back()?;
        let window_ms = millis(rules.window);
        let since = now_ms.saturating_sub(window_ms);
        let quiet = self.last.is_none_or(|(at_ms, _)| at_ms < since);
        if quiet {
            self.samples.clear();
            return None;
        }
        if now_ms >= newest.at_ms.saturating_add(step_ms(rules)) {
            let sample = Sample { at_ms: now_ms, good: self.good, failed: self.failed };
            self.samples.push_back(sample);
        }
        // The newest sample that the window has fully left behind is what its totals count from.
        while self.samples.get(1).is_some_and(|second| second.at_ms <= since) {
            self.samples.pop_front();
        }
        let base = self.samples.front().expect("the window was found to have a sample");
        let failed = self.failed - base.failed;
        let requests = failed + (self.good - base.good);
        let keys = self.keys.iter().filter(|seen| seen.at_ms >= since).count();
        let percent = u64::from(rules.error_rate_percent);
        let met = percent > 0
            && failed > 0
            && requests >= rules.error_rate_requests_min
            && failed.saturating_mul(100) >= requests.saturating_mul(percent)
            && keys >= usize::from(rules.keys_min);
        met.then_some(Finding::Rate { failed, requests })
    }

    /// Forgets every failure; the total of good answers stays known.
    pub(super) fn forget(&mut self) {
        *self = Self { good: self.good, ..Self::default() };
    }
}

fn step_ms(rules: &PassiveSettings) -> u64 {
    (millis(rules.window) / SAMPLES_PER_WINDOW).max(1)
}

/// A duration as the machines count it.
pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
