//! What does a committed entry do?
//!
//! It is applied to the [`ClusterState`], in the order of the log, on every node alike; then the
//! new state is published whole, and only then is who proposed the command told. So an answer to
//! an operator never comes before the node that gives it serves the change.
//!
//! The state is in memory. A restart takes the snapshot and applies what the log holds behind it,
//! up to where it was known to be committed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use super::snapshot::Snapshot;
use super::types::{Entry, LogId, Membership, Meta, Outcome, Proposal, TypeConfig};
use super::writer::{Write, Writer};
use crate::cluster::{ClusterState, Command, Envelope, Refusal};
use crate::ids::{Revision, Term};

/// How long a snapshot that could not be written waits.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(1);

/// Of so many attempts one is told.
const SNAPSHOT_REPORT: u32 = 60;

type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, Bytes>;

/// What a node knows to be agreed.
#[derive(Debug, Clone, Default)]
pub struct Agreed {
    /// The state.
    pub state: Arc<ClusterState>,
    /// The last entry that is in it.
    pub applied: Option<LogId>,
    /// Raft's members as of that entry.
    pub membership: Membership,
}

/// Where it is published.
#[derive(Debug, Clone)]
pub struct Published {
    /// All of it, after each batch of entries.
    pub agreed: watch::Sender<Agreed>,
    /// The state, when it has changed.
    pub state: watch::Sender<Arc<ClusterState>>,
}

impl Published {
    fn publish(&self, agreed: &Agreed) {
        // The state first: who sees that an entry is applied finds it there.
        self.state.send_if_modified(|state| {
            let changed = !Arc::ptr_eq(state, &agreed.state);
            *state = Arc::clone(&agreed.state);
            changed
        });
        self.agreed.send_replace(agreed.clone());
    }
}

/// The newest snapshot, as it is on the disk.
#[derive(Debug, Clone)]
pub struct Newest {
    /// What it covers.
    pub meta: Meta,
    /// When it was taken; shown.
    pub taken_ms: u64,
    /// All of it.
    pub bytes: Bytes,
}

/// The state machine that Raft drives.
pub struct Machine {
    agreed: Agreed,
    published: Published,
    newest: Arc<Mutex<Option<Newest>>>,
    writer: Writer,
    wall_ms: fn() -> u64,
    /// Up to here entries were applied before the start, and are not told again.
    told_before: Option<u64>,
}

impl Machine {
    /// A machine at the newest snapshot, if there is one.
    #[must_use]
    pub fn new(
        snapshot: Option<(Snapshot, Bytes)>,
        told_before: Option<u64>,
        published: Published,
        writer: Writer,
        wall_ms: fn() -> u64,
    ) -> Self {
        let mut agreed = Agreed::default();
        let newest = snapshot.map(|(snapshot, bytes)| {
            let Snapshot { meta, taken_ms, state } = snapshot;
            agreed = Agreed {
                state: Arc::new(state),
                applied: meta.last_log_id,
                membership: meta.last_membership.clone(),
            };
            Newest { meta, taken_ms, bytes }
        });
        published.publish(&agreed);
        let newest = Arc::new(Mutex::new(newest));
        Self { agreed, published, newest, writer, wall_ms, told_before }
    }

    /// Where the newest snapshot can be looked at.
    #[must_use]
    pub fn newest(&self) -> Arc<Mutex<Option<Newest>>> {
        Arc::clone(&self.newest)
    }

    fn apply_entry(&mut self, entry: Entry) -> Outcome {
        let index = entry.log_id.index;
        let told = self.told_before.is_none_or(|before| before < index);
        let envelope = match &entry.payload {
            EntryPayload::Normal(proposal) if told && is_audited(&proposal.0) => {
                Some(proposal.0.clone())
            }
            _ => None,
        };
        let outcome = self.agreed.apply(entry);
        if let Some(envelope) = envelope {
            audit(index, &envelope, &outcome);
        }
        outcome
    }
}

impl Agreed {
    /// Applies the next entry of the log.
    pub fn apply(&mut self, entry: Entry) -> Outcome {
        self.applied = Some(entry.log_id);
        let Proposal(envelope) = match entry.payload {
            EntryPayload::Normal(proposal) => proposal,
            EntryPayload::Blank => return Outcome::None,
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id), membership);
                return Outcome::None;
            }
        };
        if !envelope.command.is_good_in(Term(**entry.log_id.committed_leader_id())) {
            return Outcome::Refused(Refusal::OtherTerm);
        }
        let state = Arc::make_mut(&mut self.state);
        match state.apply(Revision(entry.log_id.index), &envelope) {
            Ok(applied) => Outcome::Applied(applied),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }
}

fn bears_tables(entry: &Entry) -> bool {
    match &entry.payload {
        EntryPayload::Normal(Proposal(envelope)) => {
            matches!(envelope.command, Command::Placed { .. })
        }
        EntryPayload::Blank | EntryPayload::Membership(_) => false,
    }
}

/// Whether an operator gave it.
fn is_audited(envelope: &Envelope) -> bool {
    envelope.actor.as_str().starts_with("admin@")
}

/// Who changed what, and when: one line on every node for each command of an operator.
fn audit(index: u64, envelope: &Envelope, outcome: &Outcome) {
    let Envelope { actor, at_ms, command, .. } = envelope;
    let command = serde_json::to_string(command.given()).expect("commands are JSON");
    tracing::info!(target: "audit", index, %actor, at_ms, %command, %outcome, "a command");
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((self.agreed.applied, self.agreed.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        let mut result = Ok(());
        while let Some(next) = poll_fn(|context| Pin::new(&mut entries).poll_next(context)).await {
            match next {
                Ok((entry, responder)) => {
                    let index = entry.log_id.index;
                    // A copy costs a copy of the state, so it is taken where it may be needed.
                    let before = bears_tables(&entry).then(|| self.agreed.clone());
                    let outcome = self.apply_entry(entry);
                    if let Outcome::Refused(refusal @ Refusal::TableMismatch { .. }) = &outcome {
                        // Not what the leader has: this node must not go on by it, nor take the entry
                        // for applied. The others do.
                        tracing::error!(index, %refusal, "this node stops");
                        result = Err(io::Error::other(refusal.to_string()));
                        if let Some(before) = before {
                            self.agreed = before;
                        }
                        break;
                    }
                    answers.extend(responder.map(|responder| (responder, outcome)));
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.published.publish(&self.agreed);
        for (responder, outcome) in answers {
            responder.send(outcome);
        }
        result
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            agreed: self.agreed.clone(),
            newest: Arc::clone(&self.newest),
            writer: self.writer.clone(),
            wall_ms: self.wall_ms,
        }
    }

    async fn install_snapshot(&mut self, _: &Meta, bytes: Bytes) -> Result<(), io::Error> {
        let read = bytes.clone();
        let snapshot = self
            .writer
            .compute(move || Snapshot::decode(&read))
            .await
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let agreed = Agreed {
            state: Arc::new(snapshot.state),
            applied: snapshot.meta.last_log_id,
            membership: snapshot.meta.last_membership.clone(),
        };
        // Durable before it counts: the log behind it is purged as soon as this returns.
        let newest = Newest { meta: snapshot.meta, taken_ms: snapshot.taken_ms, bytes };
        keep(&self.writer, &self.newest, newest).await?;
        self.agreed = agreed;
        self.published.publish(&self.agreed);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        let newest = lock(&self.newest).clone();
        Ok(newest.map(|newest| RaftSnapshot { meta: newest.meta, snapshot: newest.bytes }))
    }
}

/// Makes one snapshot of what was agreed when it was made.
pub struct Builder {
    agreed: Agreed,
    newest: Arc<Mutex<Option<Newest>>>,
    writer: Writer,
    wall_ms: fn() -> u64,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let (agreed, taken_ms) = (self.agreed.clone(), (self.wall_ms)());
        // A large state takes long to write out; no heartbeat shall wait for that.
        let (meta, bytes) = self
            .writer
            .compute(move || {
                let snapshot = take(&agreed, taken_ms);
                let bytes = snapshot.encode();
                (snapshot.meta, bytes)
            })
            .await;
        let newest = Newest { meta: meta.clone(), taken_ms, bytes: bytes.clone() };
        keep(&self.writer, &self.newest, newest).await?;
        Ok(RaftSnapshot { meta, snapshot: bytes })
    }
}

/// A snapshot of what is agreed.
#[must_use]
pub fn take(agreed: &Agreed, taken_ms: u64) -> Snapshot {
    let meta = Meta { last_log_id: agreed.applied, last_membership: agreed.membership.clone() };
    Snapshot { meta, taken_ms, state: ClusterState::clone(&agreed.state) }
}

/// Makes a snapshot durable, and the newest unless a newer one overtook it.
///
/// One that cannot be written is tried again until the log cannot be written either, or is closed:
/// to Raft a snapshot that fails is a failed disk, while all that it stands for is still in the
/// log, or with the leader that has sent it.
async fn keep(
    writer: &Writer,
    slot: &Mutex<Option<Newest>>,
    newest: Newest,
) -> Result<(), io::Error> {
    if let Some(last) = newest.meta.last_log_id {
        let mut tried = 0_u32;
        loop {
            let write = Write::Snapshot(last.index, newest.bytes.clone());
            let Err(error) = writer.write_durably(write).await else { break };
            if writer.is_over() {
                return Err(error);
            }
            if tried.is_multiple_of(SNAPSHOT_REPORT) {
                tracing::error!(
                    index = last.index, %error,
                    "a snapshot cannot be written; it is tried again, and the log grows meanwhile"
                );
            }
            tried = tried.wrapping_add(1);
            tokio::time::sleep(SNAPSHOT_PAUSE).await;
        }
    }
    let mut slot = lock(slot);
    if slot.as_ref().is_none_or(|kept| kept.meta.last_log_id < newest.meta.last_log_id) {
        *slot = Some(newest);
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
