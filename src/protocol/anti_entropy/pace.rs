//! How fast may replicas be compared and filled while clients use them?
//!
//! At most as fast as the operator allows, and slower while the stores suffer. What they suffer is
//! measured by how long they take for small requests of ours, beside the quickest that they have
//! been lately (as TCP Vegas measures a path; Brakmo, O'Malley, Peterson, 1994): that sees the
//! load of all nodes' clients, and of whatever else shares the machine. Doubled and more, the rate
//! is halved, down to a sixty-fourth; else it climbs back by an eighth of the limit.

/// The rate is never below this part of the limit: what heals must go on.
const FLOOR_DIVISOR: u64 = 64;

/// A request that takes no longer than this has not suffered, whatever the quickest took.
const EASY_US: u64 = 2_000;

/// So many times what the quickest took is suffering.
const SLOW_FACTOR: u64 = 3;

/// After so many answers the quickest is measured anew, since a store may have become slower for
/// other reasons: a larger index, another disk.
const MEMORY_ANSWERS: u32 = 4096;

/// Between two changes of the rate, so that one slow moment counts once.
const CHANGE_US: u64 = 100_000;

/// A rate in bytes, as a bucket that fills. `now_us` is any clock that goes forward.
#[derive(Debug, Clone)]
pub struct Pace {
    limit_bytes_per_s: u64,
    rate_bytes_per_s: u64,
    quickest_us: u64,
    answers: u32,
    changed_us: u64,
    /// When everything spent so far is paid for.
    free_us: u64,
}

impl Pace {
    /// Begins at the limit, which is at least a byte a second.
    #[must_use]
    pub fn new(limit_bytes_per_s: u64) -> Self {
        let limit = limit_bytes_per_s.max(1);
        Self {
            limit_bytes_per_s: limit,
            rate_bytes_per_s: limit,
            quickest_us: u64::MAX,
            answers: 0,
            changed_us: 0,
            free_us: 0,
        }
    }

    /// The present rate.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate_bytes_per_s
    }

    /// Takes note of how long a store took for a small request.
    pub fn answered(&mut self, now_us: u64, took_us: u64) {
        self.answers += 1;
        if self.answers >= MEMORY_ANSWERS {
            (self.answers, self.quickest_us) = (0, u64::MAX);
        }
        self.quickest_us = self.quickest_us.min(took_us);
        if now_us < self.changed_us.saturating_add(CHANGE_US) {
            return;
        }
        self.changed_us = now_us;
        let suffers = took_us > EASY_US.max(self.quickest_us.saturating_mul(SLOW_FACTOR));
        let (limit, rate) = (self.limit_bytes_per_s, self.rate_bytes_per_s);
        self.rate_bytes_per_s = match suffers {
            true => (rate / 2).max(limit / FLOOR_DIVISOR).max(1),
            false => (rate + (limit / 8).max(1)).min(limit),
        };
    }

    /// Spends bytes, and says how long to wait before the next are spent.
    pub fn spend(&mut self, now_us: u64, bytes: u64) -> u64 {
        let cost_us = u128::from(bytes) * 1_000_000 / u128::from(self.rate_bytes_per_s);
        let cost_us = u64::try_from(cost_us).unwrap_or(u64::MAX);
        // What was not used a while ago is not saved up.
        self.free_us = self.free_us.max(now_us).saturating_add(cost_us);
        self.free_us - now_us
    }
}
