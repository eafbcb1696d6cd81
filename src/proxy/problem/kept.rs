//! The problems of pools that keep data.

use super::{Outcome, Problem};
use crate::dispatch::outcome::KeptFailure;
use crate::protocol::quorum::Reason;
use crate::protocol::replica::Refusal;

/// Methods of pools that keep data.
pub const KEPT_ALLOWED: &str = "GET, HEAD, PUT, DELETE, OPTIONS";

impl Problem {
    /// A request that a pool that keeps data did not answer with what was asked. `None`: there is
    /// nobody to tell.
    pub(super) fn of_kept(failure: &KeptFailure) -> Option<Self> {
        use Outcome::{NotApplied, Unknown};
        Some(match failure {
            KeptFailure::NotApplied(reason, refusal) => Self::not_applied(reason, *refusal),
            KeptFailure::Unknown(reason) => {
                let detail = format!(
                    "it is not known whether the write was applied ({reason}): read the key, or \
                     repeat the write"
                );
                Self::new(504, "unknown-outcome", "UT", detail).outcome(Unknown)
            }
            KeptFailure::Body(error) => Self::of_body(error)?.outcome(NotApplied),
            KeptFailure::NotReady => {
                let detail = "the pool does not take writes yet: its shards' stores are not all \
                              known, or the group has not agreed on its first write; see `ringway \
                              status`";
                Self::new(503, "pool-not-ready", "UH", detail).outcome(NotApplied).retry_after(1)
            }
            KeptFailure::NoReplica => {
                let detail = "no replica of the key could be read: try again later";
                Self::new(503, "no-replica", "UH", detail).outcome(NotApplied).retry_after(1)
            }
            KeptFailure::NotFound(consistency) => {
                let problem = Self::new(404, "not-found", "-", "there is no such key");
                problem.with("Ringway-Consistency", consistency.clone())
            }
            KeptFailure::ConditionFailed => {
                let detail = "the value is not what the request's conditions ask for: read it anew";
                Self::new(412, "condition-failed", "-", detail)
            }
            KeptFailure::OutsideRange(size) => {
                let detail = format!("the value has {size} bytes: ask for some of those");
                let problem = Self::new(416, "range", "-", detail);
                problem.with("Content-Range", format!("bytes */{size}"))
            }
        })
    }

    fn not_applied(reason: &Reason, refusal: Option<Refusal>) -> Self {
        let (status, kind, flag, detail) = match (reason, refusal) {
            (Reason::TooFew(_), Some(Refusal::Full)) => {
                let detail = "the disks of too many replicas are full: delete something, or make \
                              room on them";
                (507, "shard-full", "UH", detail.to_owned())
            }
            (Reason::TooFew(_), Some(Refusal::TooLarge)) => (
                413,
                "body-too-large",
                "DPE",
                "the value is larger than the stores take".to_owned(),
            ),
            (Reason::TooFew(too_few), _) => {
                let detail = format!("{too_few} for this level: try again later");
                (503, "no-quorum", "UH", detail)
            }
            (Reason::NoLease, _) => {
                let detail = "this node may not serve this pool now, since it has not heard from \
                              the group: try another node, or again later";
                (503, "no-lease", "NC", detail.to_owned())
            }
            (Reason::TimedOut | Reason::Cancelled, _) => {
                let detail = "too few replicas answered in time: try again later";
                (503, "no-quorum", "UH", detail.to_owned())
            }
            (Reason::Forgotten, _) => {
                let detail = format!(
                    "{reason} than this write: set the clocks of the nodes, and write again"
                );
                (503, "clock-behind", "NC", detail)
            }
            (Reason::Damaged, _) => {
                let detail = format!(
                    "{reason}: bring back the stores that are away; if there are none, the value is \
                     lost, and is to be written again or deleted"
                );
                (503, "damaged", "UH", detail)
            }
            (Reason::ClockBehind, _) => {
                let detail = format!("{reason}: set the clocks of the nodes");
                (503, "clock-behind", "NC", detail)
            }
        };
        let problem = Self::new(status, kind, flag, detail).outcome(Outcome::NotApplied);
        if status == 503 { problem.retry_after(1) } else { problem }
    }

    /// A level that no pool of this kind gives.
    #[must_use]
    pub fn kept_level(level: &str) -> Self {
        let detail = match level.eq_ignore_ascii_case("serial") {
            true => {
                "`Ringway-Consistency: serial`: a replicated pool cannot agree on one order of \
                     changes; register pools are for that. Use `one`, `quorum` or `all`"
                    .to_owned()
            }
            false => {
                format!("`Ringway-Consistency: {level}`: use `one`, `quorum` or `all`")
            }
        };
        Self::new(400, "bad-level", "DPE", detail).outcome(Outcome::NotApplied)
    }

    /// A condition of a write, which needs agreement.
    #[must_use]
    pub fn condition_unsupported(field: &str) -> Self {
        let detail = format!(
            "`{field}`: a replicated pool cannot compare and then write as one step; register pools \
             are for that. Leave the field out"
        );
        Self::new(501, "condition-unsupported", "DPE", detail).outcome(Outcome::NotApplied)
    }

    /// What a request to a pool that keeps data may not have.
    #[must_use]
    pub fn kept_request(kind: &'static str, detail: &str) -> Self {
        Self::new(400, kind, "DPE", detail).outcome(Outcome::NotApplied)
    }

    /// A key that is too long to be stored.
    #[must_use]
    pub fn key_too_long(bytes: usize, bytes_max: usize) -> Self {
        let detail = format!("a key has at most {bytes_max} bytes, this one {bytes}");
        Self::new(414, "key-too-long", "DPE", detail).outcome(Outcome::NotApplied)
    }

    /// More fields than are kept with a value.
    #[must_use]
    pub fn kept_fields_too_large(bytes: usize, bytes_max: usize) -> Self {
        let detail = format!(
            "the fields that are kept with the value have {bytes} bytes, names and values together: \
             keep them within {bytes_max}, and each name within 255"
        );
        Self::new(431, "head-too-large", "DPE", detail).outcome(Outcome::NotApplied)
    }

    /// A list of keys that cannot be given.
    #[must_use]
    pub fn list(status: u16, kind: &'static str, detail: String) -> Self {
        Self::new(status, kind, "DPE", detail)
    }
}
