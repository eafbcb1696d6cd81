//! Which nodes' wall clocks can be trusted?
//!
//! Versions of `one` writes are stamped by wall clocks, so they are held to the median of all
//! reports: with a majority of sound clocks it is a sound one's reading.
//!
//! A report is compared by what it says *minus the leader's own boottime when it came*, so that
//! reports of different moments can be compared. A renewal that was long on its way looks like a
//! clock that is behind; it costs one renewal of the ten that a lease leaves time for.

/// How much a wall clock is ahead of the receiver's boottime clock. Any two numbers can be
/// subtracted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Offset(i128);

impl Offset {
    pub(super) fn new(wall_ms: u64, now_ms: u64) -> Self {
        Self(i128::from(wall_ms) - i128::from(now_ms))
    }

    /// How much this clock is ahead of another, in milliseconds.
    pub(super) fn ahead_of(self, other: Self) -> i64 {
        let ahead = self.0 - other.0;
        i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX })
    }
}

/// The median; of an even number the lower one of the two in the middle. So of two clocks that
/// disagree the one ahead counts as wrong: stamps from the future win over all that comes later,
/// stamps from the past only lose.
pub(super) fn median(mut offsets: Vec<Offset>) -> Option<Offset> {
    offsets.sort_unstable();
    let last = offsets.len().checked_sub(1)?;
    offsets.get(last / 2).copied()
}
