//! With what does a node take part?

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::seam::Call;
use super::storage::Storage;
use crate::ids::{NodeName, PeerAddress};

/// How patient the group is.
///
/// An election must stay far above what an fsync may take (100 to 300 ms were seen on a busy
/// disk), or a leader is deposed for a slow disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader tells that it lives. Above the round trip between any two voters, or
    /// their answers come too late to count.
    pub heartbeat_ms: u64,
    /// How long members hear nothing before they vote: each draws its time between these.
    pub election_ms: (u64, u64),
}

impl Default for Timing {
    fn default() -> Self {
        Self { heartbeat_ms: 150, election_ms: (500, 1000) }
    }
}

impl Timing {
    /// The longest time that openraft draws, and its leader's lease.
    pub(super) fn drawn_most_ms(self) -> u64 {
        (self.election_ms.1 / 2).max(self.drawn_least_ms() + 1)
    }

    /// The shortest time that it draws. A vote must come within it, fsync included, so it is not
    /// less than three fifths of the longest, which is 300 ms where nothing else is said; and not
    /// under a heartbeat and a half, so that one that is late is no reason to vote.
    pub(super) fn drawn_least_ms(self) -> u64 {
        let (least, half) = (self.election_ms.0, self.election_ms.1 / 2);
        least.saturating_sub(half).max(half * 3 / 5).max(self.heartbeat_ms * 3 / 2)
    }

    pub(super) fn heartbeat(self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub(super) fn election_least(self) -> Duration {
        Duration::from_millis(self.election_ms.0)
    }

    /// Whoever has heard of no leader for that long knows of none.
    pub(super) fn election_most(self) -> Duration {
        Duration::from_millis(self.election_ms.1)
    }

    /// Refuses what would make members vote because of one heartbeat that is late.
    pub(super) fn check(self) -> Result<(), String> {
        let (heartbeat_ms, (least, most)) = (self.heartbeat_ms, self.election_ms);
        if heartbeat_ms == 0 || least >= most || least < 3 * heartbeat_ms {
            return Err(format!(
                "with a heartbeat every {heartbeat_ms} ms the smaller election timeout must be {} \
                 ms at least, and less than the larger one; they are {least} and {most} ms",
                3 * heartbeat_ms
            ));
        }
        Ok(())
    }
}

/// With what a node takes part.
#[derive(Clone)]
pub struct GroupOptions {
    /// The node's folder, which no other process may use.
    pub data_dir: PathBuf,
    /// Its label.
    pub name: NodeName,
    /// Where its peers reach it.
    pub address: PeerAddress,
    /// How patient it is.
    pub timing: Timing,
    /// How it reaches its peers.
    pub peers: Arc<dyn Call>,
    /// All chance comes from it: election timeouts, pauses, what is drawn for ids.
    pub seed: u64,
    /// The wall clock, in milliseconds since 1970: shown with commands and snapshots.
    pub wall_ms: fn() -> u64,
    /// What the log is written on.
    pub storage: Storage,
}
