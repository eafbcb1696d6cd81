//! How does a cluster go on when a majority of its voters is lost for good?
//!
//! By the word of an operator: what one survivor has becomes the truth, and the rest of the
//! cluster is given up. The survivor's node is stopped; [`recover`] reads its files, shows what
//! could be lost ([`Survey`]), asks, and makes new files of a cluster with this node alone, one
//! *generation* later. Nodes of another generation are refused, whatever they still believe; the
//! others join anew, with empty folders, under new ids.
//!
//! Every entry of the survivor's log is kept, those that it does not know to be committed too: an
//! entry that was acknowledged may be among them, and one that was not was asked for all the same.
//! Indexes and terms go on upwards.
//!
//! The new files are made whole beside the old ones. Then two renames and the identity put them in
//! force, and the old ones stay in `before-recovery-…`. Interrupted anywhere, it is run again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::EntryPayload;

use super::error::OpenError;
use super::identity::{Identity, Member};
use super::log_file::{Change, Loaded, LogFile, Owner};
use super::machine::Agreed;
use super::part::check_together;
use super::snapshot::Snapshot;
use super::status::Place;
use super::storage::{self, Storage};
use super::types::{LogId, Membership, Meta, Peer, Vote};
use crate::cluster::{Actor, ClusterState, Envelope, Refusal, Role};
use crate::disk::atomic;
use crate::disk::lock::FolderLock;
use crate::ids::{ClusterId, Generation, NodeId, NodeName, PeerAddress, Revision};

/// Entries that are shown one by one. More of them were never committed only if the node was cut
/// off for long.
const SHOWN_MAX: usize = 20;

/// Another node, which may know more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its id.
    pub node: NodeId,
    /// Its label.
    pub name: NodeName,
    /// Where it was reached.
    pub address: PeerAddress,
    /// Whether it voted.
    pub voter: bool,
}

/// What a survivor knows, and what it may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its generation so far.
    pub generation: Generation,
    /// The survivor.
    pub node: NodeId,
    /// The end of its log.
    pub last: Option<Place>,
    /// Up to where it knows its log to be committed.
    pub committed: Option<Place>,
    /// The state with all of it applied.
    pub revision: Revision,
    /// What stands behind the committed end, the oldest first: who asked for what, and when.
    pub unsure: Vec<Envelope>,
    /// When the last command in it was proposed, by its proposer's clock.
    pub last_command_ms: Option<u64>,
    /// The wall clock now.
    pub now_ms: u64,
    /// The nodes that are given up.
    pub lost: Vec<Lost>,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The new generation.
    pub generation: Generation,
    /// Where the old files are.
    pub kept: PathBuf,
}

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The files cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is nothing to recover.
    #[error("{}: this node belongs to no cluster, or was removed from it", .0.display())]
    NoMember(PathBuf),
    /// Its log holds no cluster, or none with this node in it.
    #[error("what this node has is no cluster to go on with: {0}")]
    Refused(#[from] Refusal),
    /// The operator said no. Nothing has changed.
    #[error("nothing was changed")]
    Declined,
    /// A file cannot be made or moved.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// Makes the survivor in `data_dir` a cluster of its own, if `confirm` says yes to what it would
/// cost. `actor` and `now_ms` are noted in the history.
///
/// # Errors
/// [`RecoverError`]; unless a file could not be made or moved, nothing has changed.
pub fn recover(
    data_dir: &Path,
    actor: &str,
    now_ms: u64,
    confirm: impl FnOnce(&Survey) -> bool,
) -> Result<Recovered, RecoverError> {
    let _lock = FolderLock::take(data_dir).map_err(OpenError::from)?;
    let identity = Identity::read(data_dir).map_err(OpenError::from)?;
    let member = identity.and_then(|identity| identity.member).filter(|member| !member.removed);
    let (Some(identity), Some(member)) = (identity, member) else {
        return Err(RecoverError::NoMember(data_dir.to_owned()));
    };
    let generation = member.generation.next();
    let kept = storage::before(data_dir, generation);
    let recovered = Recovered { generation, kept: kept.clone() };
    let anew = Member { generation, ..member };
    let identity = Identity { member: Some(anew), ..identity };
    if is_done_but_for_the_identity(data_dir, anew)? {
        identity.write(data_dir).map_err(OpenError::from)?;
        return Ok(recovered);
    }
    put_back(data_dir, &kept)?;
    let survivor = Survivor::read(data_dir, member)?;
    if !confirm(&survivor.survey(now_ms)) {
        return Err(RecoverError::Declined);
    }
    survivor.begin_anew(data_dir, actor, now_ms)?;
    put_in_force(data_dir, &kept)?;
    identity.write(data_dir).map_err(OpenError::from)?;
    Ok(recovered)
}

/// All that the files of a survivor say.
struct Survivor {
    member: Member,
    /// With every entry of the log applied.
    agreed: Agreed,
    vote: Option<Vote>,
    committed: Option<LogId>,
    unsure: Vec<Envelope>,
    last_command_ms: Option<u64>,
}

impl Survivor {
    fn read(data_dir: &Path, member: Member) -> Result<Self, RecoverError> {
        let owner = Owner { cluster: member.cluster, node: member.node };
        let path = storage::log_path(data_dir);
        let (_, loaded) = LogFile::open(&path, &Storage::Files, owner).map_err(OpenError::from)?;
        let path = storage::snapshot_path(data_dir);
        let snapshot =
            Snapshot::read(&path).map_err(OpenError::from)?.map(|(snapshot, _)| snapshot);
        check_together(&path, member, &loaded, snapshot.as_ref())?;
        let Loaded { vote, committed, entries, .. } = loaded;
        let mut agreed = snapshot.map_or_else(Agreed::default, |snapshot| Agreed {
            state: Arc::new(snapshot.state),
            applied: snapshot.meta.last_log_id,
            membership: snapshot.meta.last_membership,
        });
        let committed = committed.max(agreed.applied);
        let mut unsure = Vec::new();
        let mut last_command_ms = agreed.state.history().last().map(|record| record.at_ms);
        for entry in entries.into_values() {
            if Some(entry.log_id) <= agreed.applied {
                continue;
            }
            if let EntryPayload::Normal(proposal) = &entry.payload {
                last_command_ms = Some(proposal.0.at_ms);
                if Some(entry.log_id) > committed {
                    unsure.push(proposal.0.clone());
                }
            }
            agreed.apply(entry);
        }
        Ok(Self { member, agreed, vote, committed, unsure, last_command_ms })
    }

    fn survey(&self, now_ms: u64) -> Survey {
        let state = &self.agreed.state;
        let others = state.nodes().iter().filter(|(id, _)| **id != self.member.node);
        let lost = others.map(|(id, node)| Lost {
            node: *id,
            name: node.name.clone(),
            address: node.address.clone(),
            voter: node.role == Role::Voter,
        });
        Survey {
            cluster: self.member.cluster,
            generation: self.member.generation,
            node: self.member.node,
            last: self.agreed.applied.map(Place::from),
            committed: self.committed.map(Place::from),
            revision: state.revision(),
            unsure: self.unsure.clone(),
            last_command_ms: self.last_command_ms,
            now_ms,
            lost: lost.collect(),
        }
    }

    /// Makes the files of the new cluster, beside the old ones.
    fn begin_anew(self, data_dir: &Path, actor: &str, now_ms: u64) -> Result<(), RecoverError> {
        let Member { cluster, node, .. } = self.member;
        let mut state = ClusterState::clone(&self.agreed.state);
        state.begin_anew(node, Actor::tamed(actor), now_ms)?;
        let address = state.nodes()[&node].address.clone();

        // Above every term that this node has voted in, and every place of its log.
        let voted = self.vote.map_or(0, |vote| vote.leader_id.term);
        let (term, index) = match self.agreed.applied {
            Some(last) => ((**last.committed_leader_id()).max(voted) + 1, last.index + 1),
            None => (voted + 1, 0),
        };
        let vote = Vote::new_committed(term, node.0);
        let begun = LogId::new(openraft::vote::RaftLeaderId::to_committed(&vote.leader_id), index);

        let alone = BTreeMap::from([(node.0, Peer { addr: address.to_string() })]);
        let membership = openraft::Membership::new(vec![[node.0].into()], alone)
            .expect("one voter with its node is a membership");
        let membership = Membership::new(Some(begun), membership);
        let meta = Meta { last_log_id: Some(begun), last_membership: membership };
        let snapshot = Snapshot { meta, taken_ms: now_ms, state };

        let folder = storage::anew(data_dir);
        let path = folder.join(storage::LOG);
        let owner = Owner { cluster, node };
        let log = LogFile::create(&path, &Storage::Files, owner).map_err(OpenError::from)?;
        let changes = [Change::Vote(vote), Change::Purge(begun), Change::Committed(begun)];
        log.write(&changes).map_err(|error| RecoverError::Io { path, error })?;
        let path = folder.join(storage::SNAPSHOT);
        atomic::replace(&path, &snapshot.encode(), 0o600)
            .map_err(|error| RecoverError::Io { path, error })
    }
}

/// Whether an earlier run ended between the last rename and the identity.
fn is_done_but_for_the_identity(data_dir: &Path, anew: Member) -> Result<bool, RecoverError> {
    let path = storage::snapshot_path(data_dir);
    let snapshot = Snapshot::read(&path).map_err(OpenError::from)?;
    let found = snapshot.and_then(|(snapshot, _)| snapshot.state.identity());
    Ok(found.is_some_and(|found| (found.id, found.generation) == (anew.cluster, anew.generation)))
}

/// Undoes the first rename of a run that ended before the second.
fn put_back(data_dir: &Path, kept: &Path) -> Result<(), RecoverError> {
    let (folder, old) = (storage::folder(data_dir), kept.join("raft"));
    if !folder.exists() && old.exists() {
        rename(&old, &folder)?;
    }
    let anew = storage::anew(data_dir);
    match fs::remove_dir_all(&anew) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RecoverError::Io { path: anew, error })
        }
        _ => Ok(()),
    }
}

fn put_in_force(data_dir: &Path, kept: &Path) -> Result<(), RecoverError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| RecoverError::Io { path, error }
    };
    fs::create_dir_all(kept).map_err(io(kept))?;
    fs::copy(data_dir.join("identity"), kept.join("identity")).map_err(io(kept))?;
    let folder = storage::folder(data_dir);
    rename(&folder, &kept.join("raft"))?;
    rename(&storage::anew(data_dir), &folder)?;
    atomic::sync_folder(kept).map_err(io(kept))?;
    atomic::sync_folder(data_dir).map_err(io(data_dir))
}

fn rename(from: &Path, to: &Path) -> Result<(), RecoverError> {
    fs::rename(from, to).map_err(|error| RecoverError::Io { path: from.to_owned(), error })
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |place: Option<Place>| {
            place.map_or("nothing".to_owned(), |p| format!("entry {} of term {}", p.index, p.term))
        };
        writeln!(f, "Cluster {}, generation {}", self.cluster, self.generation)?;
        writeln!(f, "Survivor: node {}, at revision {}", self.node, self.revision)?;
        writeln!(f, "Its log ends with {}", place(self.last))?;
        writeln!(f, "It knows {} to be committed, and all before", place(self.committed))?;
        if let Some(at_ms) = self.last_command_ms {
            let age = self.now_ms.saturating_sub(at_ms) / 1000;
            writeln!(f, "The last change that it knows of was asked for {age} s ago")?;
        }
        if !self.unsure.is_empty() {
            writeln!(f, "Kept, though perhaps never committed: {} commands", self.unsure.len())?;
        }
        for envelope in self.unsure.iter().take(SHOWN_MAX) {
            let command = serde_json::to_string(&envelope.command).expect("commands are JSON");
            writeln!(f, "  {}: {command}", envelope.actor)?;
        }
        if self.unsure.len() > SHOWN_MAX {
            writeln!(f, "  and {} more", self.unsure.len() - SHOWN_MAX)?;
        }
        for lost in &self.lost {
            let Lost { node, name, address, voter } = lost;
            let what = if *voter { "voter" } else { "observer" };
            writeln!(f, "Given up: node {node} ({name}, {address}, {what})")?;
        }
        writeln!(
            f,
            "What the others agreed on without this node is lost: recover the node whose log ends \
             last. A majority of them that is still alive must be stopped first, or there will be \
             two clusters. They join again as new nodes, with empty data folders."
        )
    }
}
