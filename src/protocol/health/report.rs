//! What the health of a pool is and how it changes, for the request path, the log and the status.

use std::fmt;

use super::observation::{Class, Failure, PerClass, ProbeFailure};

/// Whether a shard is used for one class of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Up,
    /// Probes say no; they also say when again.
    Down,
    /// Requests said no; tried again at `until_ms`.
    Ejected {
        /// When the ejection ends, on the clock of `now_ms`.
        until_ms: u64,
    },
}

/// One class of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassView {
    /// Whether it is used.
    pub standing: Standing,
    /// Why it is not; `None` while it is up.
    pub why: Option<Reason>,
    /// Since when it stands so; 0 if it has since the start.
    pub since_ms: u64,
}

/// One shard: what this node observed, what is agreed, and what the operator set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardView {
    /// What this node observed, for reads.
    pub read: ClassView,
    /// What this node observed, for writes.
    pub write: ClassView,
    /// Since when the cluster has agreed that it is down; `None` while it has not.
    pub agreed_down_since_ms: PerClass<Option<u64>>,
    /// In maintenance: used for nothing, counted for nothing, yet still probed.
    pub maint: bool,
}

/// A pool in numbers. Shards in maintenance count in `total` and `excluded` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// All shards.
    pub total: u32,
    /// Up for reads and for writes.
    pub healthy: u32,
    /// In maintenance.
    pub excluded: u32,
    /// Ejected for reads, writes or both.
    pub ejected: u32,
    /// Down, ejected or agreed down, for each class.
    pub looks_down: PerClass<u32>,
}

/// Why a shard is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// So many probes in a row failed.
    Probes {
        /// How many.
        failures: u32,
        /// The last of them.
        last: ProbeFailure,
    },
    /// So many connections in a row could not be made.
    ConnectErrors {
        /// How many.
        failures: u32,
    },
    /// So many answers in a row failed.
    Answers {
        /// How many.
        failures: u32,
        /// The last of them.
        last: Failure,
    },
    /// Too large a part of the requests in the window failed.
    Rate {
        /// Of these requests …
        requests: u64,
        /// … so many failed.
        failed: u64,
        /// The last of them.
        last: Failure,
    },
    /// Tried again after an ejection, it failed again.
    Relapse {
        /// How.
        last: Failure,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probes { failures, last } => {
                write!(f, "{failures} probes in a row failed (last: {last})")
            }
            Self::ConnectErrors { failures } => {
                write!(f, "{failures} connections in a row could not be made")
            }
            Self::Answers { failures, last } => {
                write!(f, "{failures} requests in a row failed (last: {last})")
            }
            Self::Rate { requests, failed, last } => {
                write!(f, "{failed} of {requests} requests failed (last: {last})")
            }
            Self::Relapse { last } => write!(f, "tried again, it failed again ({last})"),
        }
    }
}

/// Which of a shard's healths a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One of them.
    One(Class),
    /// Reads and writes.
    Both,
}

impl Scope {
    /// The scope of `read` and `write` taken together; `None` if neither.
    pub(super) fn of(changed: PerClass<bool>) -> Option<Self> {
        match (changed.read, changed.write) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::One(Class::Read)),
            (false, true) => Some(Self::One(Class::Write)),
            (false, false) => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(Class::Read) => "reads",
            Self::One(Class::Write) => "writes",
            Self::Both => "reads and writes",
        })
    }
}

/// Something that an operator wants to know of, in the words of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Probes put a shard down.
    Down {
        /// Its place in the pool.
        shard: usize,
        /// What they met.
        why: Reason,
    },
    /// Probes brought it up again.
    Up {
        /// Its place in the pool.
        shard: usize,
        /// Passed probes in a row.
        passed: u32,
    },
    /// Requests ejected a shard.
    Ejected {
        /// Its place in the pool.
        shard: usize,
        /// What it is not used for.
        scope: Scope,
        /// What they met.
        why: Reason,
        /// For how long; of two healths, the longer.
        for_ms: u64,
        /// Its ejections that are not yet forgiven, this one included.
        times: u32,
    },
    /// A shard would be ejected, but `max_ejection_percent` of the pool is already.
    Spared {
        /// Its place in the pool.
        shard: usize,
        /// What it would not be used for.
        scope: Scope,
        /// What requests met.
        why: Reason,
    },
    /// An ejection ended: the shard is tried again.
    Returned {
        /// Its place in the pool.
        shard: usize,
        /// What it is used for again.
        scope: Scope,
        /// Why now.
        why: Return,
    },
    /// The cluster has agreed that a shard is down.
    AgreedDown {
        /// Its place in the pool.
        shard: usize,
        /// What it is not used for.
        scope: Scope,
    },
    /// The cluster has agreed that it is up again.
    AgreedUp {
        /// Its place in the pool.
        shard: usize,
        /// What it is used for again, unless this node itself sees otherwise.
        scope: Scope,
    },
    /// More than `panic_percent` of the pool looks down: health is not believed.
    Panicked {
        /// For which requests.
        class: Class,
    },
    /// Health is believed again.
    Calmed {
        /// For which requests.
        class: Class,
    },
}

/// Why an ejection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// Its time was over.
    Time,
    /// It was for connections that could not be made, and so many probes in a row made theirs.
    Probes {
        /// How many.
        passed: u32,
    },
    /// The pool has become smaller, and with it the number of shards that may be ejected.
    Limit,
}

impl Change {
    /// Whether this is bad news: a warning rather than information.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        match self {
            Self::Down { .. } | Self::Ejected { .. } | Self::AgreedDown { .. } => true,
            Self::Spared { .. } | Self::Panicked { .. } => true,
            Self::Up { .. } | Self::Returned { .. } => false,
            Self::AgreedUp { .. } | Self::Calmed { .. } => false,
        }
    }

    /// The shard's place in the pool; `None` if the change is the whole pool's.
    #[must_use]
    pub fn shard(&self) -> Option<usize> {
        match *self {
            Self::Down { shard, .. }
            | Self::Up { shard, .. }
            | Self::Ejected { shard, .. }
            | Self::Spared { shard, .. }
            | Self::AgreedDown { shard, .. }
            | Self::AgreedUp { shard, .. }
            | Self::Returned { shard, .. } => Some(shard),
            Self::Panicked { .. } | Self::Calmed { .. } => None,
        }
    }
}

/// The change as a sentence that does not name the shard, which a log has as a field.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down { why, .. } => write!(f, "down: {why}"),
            Self::Up { passed, .. } => write!(f, "up: {passed} probes in a row passed"),
            Self::Ejected { scope, why, for_ms, times, .. } => {
                #[allow(clippy::cast_precision_loss, reason = "far below 2^53 ms, and to be read")]
                let seconds = *for_ms as f64 / 1000.0;
                write!(f, "{scope} ejected for {seconds} s (ejection {times}): {why}")
            }
            Self::Spared { scope, why, .. } => {
                write!(f, "{scope} not ejected, max_ejection_percent is reached: {why}")
            }
            Self::Returned { scope, why, .. } => match why {
                Return::Time => write!(f, "{scope} tried again: the ejection is over"),
                Return::Probes { passed } => {
                    write!(f, "{scope} tried again: {passed} probes in a row passed")
                }
                Return::Limit => {
                    write!(f, "{scope} tried again: fewer shards may be ejected now")
                }
            },
            Self::AgreedDown { scope, .. } => {
                write!(f, "agreed down for {scope}: most nodes see it so")
            }
            Self::AgreedUp { scope, .. } => write!(f, "no longer agreed down for {scope}"),
            Self::Panicked { class } => write!(
                f,
                "panic for {}: too much of the pool looks down, all shards are tried",
                Scope::One(*class)
            ),
            Self::Calmed { class } => {
                write!(f, "panic for {} is over: health decides again", Scope::One(*class))
            }
        }
    }
}
