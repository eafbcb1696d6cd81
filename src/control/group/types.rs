//! Which types does Raft work with here?
//!
//! openraft is generic over everything; this file fixes all of it once, so that the rest of the
//! room names short aliases and one place changes when the library does.
//!
//! - One leader for a term (`leader_id_std`): terms are shown to people and fence leases, so a
//!   term must name one leader.
//! - All chance is drawn from the seed that came in ([`Runtime`]): a simulated run can be
//!   repeated.

use std::fmt;

use openraft::impls::leader_id_std;
use openraft::rt::deterministic_rng::DeterministicRng;
use openraft::{SnapshotMeta, StoredMembership};
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::cluster::{Applied, Envelope, Refusal};

/// Tokio, with election timeouts drawn from a seed.
pub type Runtime = DeterministicRng<openraft::impls::TokioRuntime>;

openraft::declare_raft_types!(
    /// The types of the group.
    pub TypeConfig:
        D = Proposal,
        R = Outcome,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

/// A member as openraft knows it: where it was when it joined. Where it is now, the agreed state
/// says.
pub type Peer = openraft::BasicNode;
/// Term and index of an entry.
pub type LogId =
    openraft::LogId<<leader_id_std::LeaderId<u64, u64> as openraft::vote::RaftLeaderId>::Committed>;
/// A vote that was given, or an election that was won.
pub type Vote = openraft::Vote<leader_id_std::LeaderId<u64, u64>>;
/// One entry of the log.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// Who votes and who learns.
pub type Membership =
    StoredMembership<openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>, u64, Peer>;
/// What a snapshot covers.
pub type Meta =
    SnapshotMeta<openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>, u64, Peer>;
/// The node of the group.
pub type Raft = openraft::Raft<TypeConfig, Machine>;

/// A command on its way through the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Proposal(pub Envelope);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a command of {}", self.0.actor)
    }
}

/// What applying an entry came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The entry was no command, but one of Raft's own.
    None,
    /// The command was applied.
    Applied(Applied),
    /// The command was refused; every node refused it.
    Refused(Refusal),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::Applied(_) => f.write_str("applied"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in the logs of earlier releases stays readable, and is written as it was.
    #[test]
    fn entries_are_written_as_ever() {
        for pinned in [
            r#"{"log_id":{"leader_id":3,"index":7},"payload":"Blank"}"#,
            r#"{"log_id":{"leader_id":3,"index":8},"payload":{"Membership":{"configs":[[1,2]],"nodes":{"1":{"addr":"n1.example:1"},"2":{"addr":"n2.example:1"}}}}}"#,
            r#"{"log_id":{"leader_id":3,"index":9},"payload":{"Normal":{"id":{"node":1,"incarnation":2,"sequence":3},"actor":"admin@n1","at_ms":5,"command":{"remove_pool":{"pool":"p"}}}}}"#,
        ] {
            let entry: Entry = serde_json::from_str(pinned).expect("readable");
            assert_eq!(serde_json::to_string(&entry).expect("JSON"), pinned);
        }
        let pinned = r#"{"leader_id":{"term":4,"voted_for":2},"committed":true}"#;
        let vote: Vote = serde_json::from_str(pinned).expect("readable");
        assert_eq!(serde_json::to_string(&vote).expect("JSON"), pinned);
        let pinned = r#"{"last_log_id":{"leader_id":3,"index":9},"last_membership":{"log_id":null,"membership":{"configs":[],"nodes":{}}},"snapshot_id":""}"#;
        let meta: Meta = serde_json::from_str(pinned).expect("readable");
        assert_eq!(serde_json::to_string(&meta).expect("JSON"), pinned);
    }
}
