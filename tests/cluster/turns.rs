//! Who may use the machine now?
//!
//! Tests that measure how long something takes need it for themselves; all others share it.

use std::sync::{Condvar, Mutex, PoisonError};

/// How many tests are at it. One that is alone counts as [`ALONE`].
static BUSY: Mutex<usize> = Mutex::new(0);
static CHANGED: Condvar = Condvar::new();

const ALONE: usize = usize::MAX;

/// The right to run. It ends when this is dropped.
pub struct Turn(());

/// Waits until no test runs, and keeps others from it.
pub fn alone() -> Turn {
    take(|busy| (busy == 0).then_some(ALONE))
}

/// Waits until no test runs that wants to be alone.
pub fn together() -> Turn {
    take(|busy| (busy != ALONE).then(|| busy + 1))
}

fn take(next: impl Fn(usize) -> Option<usize>) -> Turn {
    let mut busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(now) = next(*busy) {
            *busy = now;
            return Turn(());
        }
        busy = CHANGED.wait(busy).unwrap_or_else(PoisonError::into_inner);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        *busy = if *busy == ALONE { 0 } else { *busy - 1 };
        CHANGED.notify_all();
    }
}

/// Whether the long forms are asked for.
pub fn long() -> bool {
    std::env::var("RINGWAY_LONG").is_ok_and(|value| value == "1")
}
