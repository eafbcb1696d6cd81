//! What time is it, by one machine's clocks?

/// What CLOCK_BOOTTIME shows at the beginning of a run at least: long enough that a moment can lie
/// before it.
const BOOT_MS_LEAST: u64 = 1_000_000;

/// What the wall clock shows at the beginning of a run.
const WALL_MS: i64 = 1_795_000_000_000;

/// The clocks of one machine, each computed from the true time.
#[derive(Debug, Clone)]
pub struct Clock {
    booted_ms: u64,
    /// Parts per million that the boottime clock is too fast; negative if it is too slow.
    rate_ppm: i64,
    /// How long the machine has slept.
    slept_us: u64,
    /// How far the wall clock is off.
    pub wall_off_by_ms: i64,
}

impl Clock {
    /// A machine whose boottime clock is wrong by up to `most_ppm`, and often by just that.
    pub fn new(rng: &mut fastrand::Rng, most_ppm: i64) -> Self {
        let rate_ppm = match rng.u8(0..3) {
            0 => -most_ppm,
            1 => most_ppm,
            _ => rng.i64(-most_ppm..=most_ppm),
        };
        Self {
            booted_ms: BOOT_MS_LEAST + rng.u64(0..1_000_000),
            rate_ppm,
            slept_us: 0,
            wall_off_by_ms: rng.i64(-100..=100),
        }
    }

    fn scaled_us(&self, us: u64) -> u64 {
        let rate = u64::try_from(1_000_000 + self.rate_ppm).expect("clocks go forward");
        us.saturating_mul(rate) / 1_000_000
    }

    /// CLOCK_BOOTTIME: grows by itself, also while the machine sleeps.
    pub fn boot_ms(&self, now_us: u64) -> u64 {
        self.booted_ms + self.scaled_us(now_us) / 1000
    }

    /// CLOCK_MONOTONIC: stands while the machine sleeps.
    pub fn monotonic_ms(&self, now_us: u64) -> u64 {
        self.booted_ms + self.scaled_us(now_us.saturating_sub(self.slept_us)) / 1000
    }

    /// CLOCK_REALTIME: whatever an administrator makes of it.
    pub fn wall_ms(&self, now_us: u64) -> u64 {
        let since_ms = i64::try_from(now_us / 1000).expect("runs are short");
        u64::try_from(WALL_MS + since_ms + self.wall_off_by_ms).expect("long after 1970")
    }

    /// The machine has slept until now.
    pub fn slept(&mut self, for_us: u64) {
        self.slept_us += for_us;
    }
}
