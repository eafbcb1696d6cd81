//! By which clock are leases counted?
//!
//! By `CLOCK_BOOTTIME`: nobody can set it, and it goes on while the machine is suspended, which
//! `CLOCK_MONOTONIC` does not. A lease counted by the latter would still be held after a night
//! with the lid closed.

use std::collections::VecDeque;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine was started, suspended ones included.
#[must_use]
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000_000
}

/// Tells, of a moment that another part of the program has noted with `CLOCK_MONOTONIC`, when
/// that was by `CLOCK_BOOTTIME`: then, or earlier. Never later, so that what was suspended in
/// between counts as time that has passed.
#[derive(Debug)]
pub struct Translation {
    origin: Instant,
    /// When looked at, and by how much the one clock was ahead of the other; oldest first.
    seen: VecDeque<(Instant, u64)>,
}

/// Looks that are kept: at ten a second, more than the longest lease.
const SEEN_MAX: usize = 1024;

impl Translation {
    /// Begins with the present difference.
    #[must_use]
    pub fn begin(now: Instant, boottime_ms: u64) -> Self {
        Self { origin: now, seen: VecDeque::from([(now, boottime_ms)]) }
    }

    /// Looks at both clocks. To be called often: a moment can be told from the last look before
    /// it only.
    pub fn look(&mut self, now: Instant, boottime_ms: u64) {
        let ahead = boottime_ms.saturating_sub(self.since_origin(now));
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back((now, ahead));
    }

    /// When `moment` was. `None` if it was before the first look that is remembered.
    #[must_use]
    pub fn of(&self, moment: Instant) -> Option<u64> {
        let (_, ahead) = self.seen.iter().rev().find(|(seen, _)| *seen <= moment)?;
        Some(ahead + self.since_origin(moment))
    }

    fn since_origin(&self, moment: Instant) -> u64 {
        let passed = moment.saturating_duration_since(self.origin);
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn boottime_goes_on() {
        let first = boottime_ms();
        assert!(first > 0 && boottime_ms() >= first);
    }

    /// The lid is closed for an hour between a heartbeat's answer and the next look: the answer is
    /// an hour old, though the monotonic clock has hardly moved.
    #[test]
    fn a_suspended_machine_makes_moments_older_and_never_younger() {
        let origin = Instant::now();
        let at = |ms| origin + Duration::from_millis(ms);
        let mut clocks = Translation::begin(origin, 5_000);
        clocks.look(at(100), 5_100);
        let answered = at(150);
        assert_eq!(clocks.of(answered), Some(5_150));
        clocks.look(at(200), 3_605_200);
        assert_eq!(clocks.of(answered), Some(5_150));
        assert_eq!(clocks.of(at(250)), Some(3_605_250));
        // Suspended between the last look and the moment: told as if it had been before.
        assert_eq!(clocks.of(at(199)), Some(5_199));
    }

    #[test]
    fn a_moment_before_every_look_is_not_told() {
        let origin = Instant::now() + Duration::from_secs(1);
        let clocks = Translation::begin(origin, 0);
        assert_eq!(
            clocks.of(origin.checked_sub(Duration::from_millis(1)).expect("a second later")),
            None
        );
    }
}
