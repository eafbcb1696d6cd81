//! What travels with a renewal and its answer, between the pure rules' own messages.

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::cluster::lease::{Denial, Grant, Renewal};

/// Where renewals go.
pub const RENEW: &str = "/peer/v1/renew";

/// Where the leader is asked what it knows of the nodes.
pub const OVERVIEW: &str = "/peer/v1/overview";

/// A renewal, with what else the node has to say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// For the lease.
    pub renewal: Renewal,
    /// For the verdicts and for operators. `epochs` and `rings` stand in the renewal and are left
    /// empty here.
    pub facts: Facts,
}

/// What the leader says to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A lease.
    Granted(Grant),
    /// None, and why.
    Denied(Denial),
}
