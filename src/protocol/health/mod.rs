//! Which of a pool's shards does this node believe to work?
//!
//! Health decides which shard answers, never who owns a key. This is one node's own view beside
//! what the cluster has agreed; it acts at once and locally, by the order in which shards are
//! tried.
//!
//! # Three sources, two healths
//!
//! **Probes** ask on a schedule and put a shard *down* (`fall` failures in a row) and *up* (`rise`
//! passes). A probe says nothing of a key, so it speaks for reads and writes alike.
//!
//! **Requests** *eject* a shard for a time. Reads and writes are judged apart, each by its own
//! evidence: a full volume fails every write and still reads well.
//!
//! | rule | ejects | settings |
//! |---|---|---|
//! | connections in a row that could not be made | reads and writes | `connect_errors` |
//! | failed answers in a row, over enough keys | its class | `consecutive_5xx`, `keys_min` |
//! | part of the requests in a window, over enough keys | its class | `error_rate_*`, `window` |
//! | the first failure after an ejection | as the ejection | |
//!
//! **Verdicts** are what a majority of the nodes sees, put together by the leader. A shard that is
//! *agreed down* for reads or for writes is passed over by every node, whatever it sees itself.
//!
//! | source | says | whose | how it ends |
//! |---|---|---|---|
//! | probes | down | this node's | `rise` passed probes |
//! | requests | ejected | this node's | time, or probes |
//! | verdict | agreed down | the cluster's | the next verdict |
//!
//! A shard is used if none of the three speaks against it. What this node *reports* for the next
//! verdict is of the first two alone ([`PoolHealth::own_view`]): else a verdict would confirm
//! itself and never end. Of a shard whose probes have come to no result yet it says nothing. While
//! the group is not heard, its verdicts may be old and do not count; a node without a cluster is a
//! group of one, whose own probes are the verdict. That matters where verdicts alone may move
//! requests ([`SharedHealth::verdict`], `dispatch::choose`).
//!
//! What counts as a failed answer is decided in [`Outcome`]. Ejections grow, and are forgiven:
//! see `lane`.
//!
//! # Where probes and requests meet
//!
//! - **Down beats ejected.** When probes put an ejected shard down, its ejection ends: the probes
//!   have their own way back. So the limit on ejections never counts a shard that is down.
//! - **A passed probe does not end an ejection for answers.** The probe asks for one cheap thing;
//!   that it is answered says little about what was not. Where balancers let it end ejections,
//!   shards came back only to fail again (envoyproxy/envoy#28303, #32442).
//! - **`rise` passed probes do end an ejection for connections.** The probe makes a new
//!   connection, which is the very thing that had failed. A shard that was restarted serves again
//!   after two probes instead of half a minute. If it fails again, one connection is enough to
//!   eject it, for longer.
//!
//! # The limits of belief
//!
//! - At most `max_ejection_percent` of the shards in service are ejected at once, counted *after*
//!   the ejection and rounded down (envoyproxy/envoy#26877), but one may always be. The limit
//!   binds ejections only: what probes find down is down.
//! - **Panic**: when more than `panic_percent` looks down for a class, by any source, all
//!   shards are to be tried for it. This changes the order of trying, never a count of replies.
//!
//! # How it is driven
//!
//! [`PoolHealth`] is the machine: events and the time go in, [`Change`]s come out, and
//! [`PoolHealth::next_deadline`] says when to tick. It has no clock and asks nobody.
//! [`SharedHealth`] is the machine as threads share it: the request path reads one byte, and takes
//! the lock only with bad news, or with good news that bad news is waiting for.

mod agreed;
mod evidence;
mod lane;
mod observation;
mod pool;
mod report;
mod settings;
mod shard;
mod shared;
#[cfg(test)]
mod tests;

pub use observation::{Class, Failure, Observation, Outcome, PerClass, ProbeFailure};
pub use pool::PoolHealth;
pub use report::{Census, Change, ClassView, Reason, Return, Scope, ShardView, Standing};
pub use settings::{
    ActiveSettings, HealthSettings, PassiveSettings, ProbeMethod, ProbeMethodError, ProbePath,
    ProbePathError, StatusRange, StatusRangeError,
};
pub use shared::{Seat, SharedHealth};
