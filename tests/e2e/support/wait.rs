//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// No condition of these tests takes so long on a machine that works, however busy it is.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition that nobody announces is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks at a condition until it holds, and returns what it found.
///
/// # Panics
/// When it does not hold within [`PATIENCE`]; `what` says what was waited for.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "a look at what nobody announces, not a wait for it")]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        #[allow(clippy::disallowed_methods, reason = "the pause between two looks")]
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The same, for a condition that is only true or false.
#[track_caller]
pub fn until_true(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(()));
}
