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
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(what, PATIENCE, look)
}

/// The same, for what has to come sooner or may come later.
#[track_caller]
pub fn until_within<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain: {what}");
        #[allow(clippy::disallowed_methods, reason = "the pause between two looks")]
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The same, for a condition that is only true or false.
#[track_caller]
pub fn until_true(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(()));
}

/// Looks again and again for a while, for what must hold all the time: `look` panics where it does
/// not.
pub fn all_the_while(long: Duration, mut look: impl FnMut()) {
    let begun = Instant::now();
    while begun.elapsed() < long {
        look();
        #[allow(clippy::disallowed_methods, reason = "the pause between two looks")]
        std::thread::sleep(LOOK_EVERY);
    }
}
