//! How do Raft's messages travel?
//!
//! One [`Network`] speaks to one member; where that is, the agreed state says, and before it is
//! known there, the membership. Three lanes: entries, heartbeats, snapshots; a large append delays
//! no heartbeat.
//!
//! An answer to a heartbeat counts for as long as an interval between two of them, and not longer:
//! `cluster.heartbeat` must exceed the round trip, and what is beyond it keeps a leader from knowing
//! that it has a majority.
//!
//! Whatever keeps an answer from coming is `Unreachable`, which makes Raft wait a little longer
//! each time. Its other class, retried at once, would hammer a dead node. Above all no failure is
//! ever an answer: a pre-vote that could not be asked was not granted.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::machine::Agreed;
use super::options::Timing;
use super::seam::{Call, Unanswered};
use super::types::{Peer, TypeConfig, Vote};
use super::wire::{self, Addressed, Append, Appended, AskVote, Installed, Voted};
use crate::ids::{NodeId, PeerAddress};
use crate::net::peer::PeerAnswer;

type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, Bytes>;

/// How long any snapshot may take, and how much longer for each MiB of it: a slow line. No longer,
/// because until then the member gets neither entries nor another snapshot: one whose answer was
/// lost, or that went away without a word, would wait that long after it was back.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(5);
const SNAPSHOT_TIMEOUT_PER_MIB: Duration = Duration::from_secs(1);

/// How often it is said that answers to heartbeats come too late.
const LATE_SAID_EVERY: Duration = Duration::from_secs(60);

/// Makes [`Network`]s.
pub struct Networks {
    /// Entries and votes.
    entries: Arc<dyn Call>,
    heartbeats: Arc<dyn Call>,
    snapshots: Arc<dyn Call>,
    from: NodeId,
    agreed: watch::Receiver<Agreed>,
    doubt: Arc<Notify>,
    timing: Timing,
    /// When it was last said that answers to heartbeats come too late.
    late_said: Arc<Mutex<Option<Instant>>>,
}

impl Networks {
    /// `doubt` is notified when another member says that `from` is none any more.
    #[must_use]
    pub fn new(
        peers: &dyn Call,
        from: NodeId,
        agreed: watch::Receiver<Agreed>,
        doubt: Arc<Notify>,
        timing: Timing,
    ) -> Self {
        let (entries, heartbeats, snapshots) = (peers.lane(), peers.lane(), peers.lane());
        let late_said = Arc::default();
        Self { entries, heartbeats, snapshots, from, agreed, doubt, timing, late_said }
    }

    fn network(&self, lane: &Arc<dyn Call>, target: u64, node: &Peer) -> Network {
        Network {
            peers: Arc::clone(lane),
            from: self.from,
            to: NodeId(target),
            joined_at: node.addr.clone(),
            agreed: self.agreed.clone(),
            doubt: Arc::clone(&self.doubt),
            timing: self.timing,
            late_said: Arc::clone(&self.late_said),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Networks {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Network {
        self.network(&self.entries, target, node)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Peer) -> Network {
        self.network(&self.heartbeats, target, node)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Peer) -> Network {
        self.network(&self.snapshots, target, node)
    }
}

/// Speaks to one member.
pub struct Network {
    peers: Arc<dyn Call>,
    from: NodeId,
    to: NodeId,
    /// Where it was when it joined.
    joined_at: String,
    agreed: watch::Receiver<Agreed>,
    doubt: Arc<Notify>,
    timing: Timing,
    late_said: Arc<Mutex<Option<Instant>>>,
}

fn unreachable(why: impl ToString) -> Unreachable<TypeConfig> {
    Unreachable::from_string(why)
}

impl Network {
    fn address(&self) -> Result<PeerAddress, Unreachable<TypeConfig>> {
        let agreed = self.agreed.borrow();
        if let Some(node) = agreed.state.nodes().get(&self.to) {
            return Ok(node.address.clone());
        }
        self.joined_at.parse().map_err(|error| {
            unreachable(format!("node {} has no usable address: {error}", self.to))
        })
    }

    fn addressed<T>(&self, message: T) -> Addressed<T> {
        Addressed { from: self.from, to: self.to, message }
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        path: &'static str,
        body: Bytes,
        within: Duration,
    ) -> Result<A, Unreachable<TypeConfig>> {
        let to = self.address()?;
        let answer = self.peers.call(&to, path, body, within).await.map_err(unreachable)?;
        self.read(&to, &answer)
    }

    fn read<A: DeserializeOwned>(
        &self,
        to: &PeerAddress,
        answer: &PeerAnswer,
    ) -> Result<A, Unreachable<TypeConfig>> {
        if answer.status == 200 {
            return serde_json::from_slice(&answer.body).map_err(unreachable);
        }
        if answer.is_problem(410, wire::REMOVED_PROBLEM) {
            self.doubt.notify_one();
        }
        let said = answer.refusal().unwrap_or_default();
        Err(unreachable(format!("{to} answered {}: {said}", answer.status)))
    }

    /// Sends a heartbeat. openraft gives it up after one interval; what was sent lives on, so that
    /// an answer that comes later at least leaves its connection open for the next one. It does not
    /// count: openraft has no place for it.
    async fn beat(&self, rpc: Append) -> Result<Appended, RPCError<TypeConfig>> {
        let to = self.address().map_err(RPCError::Unreachable)?;
        let body = wire::encode(&self.addressed(rpc));
        let (peers, target, timing) = (Arc::clone(&self.peers), to.clone(), self.timing);
        let late_said = Arc::clone(&self.late_said);
        // Later than that no member waits for it. With an interval of a sixth of it, as by
        // default, seven are under way at most.
        let within = timing.election_most();
        let sent = tokio::spawn(async move {
            let sent_at = Instant::now();
            let answer = peers.call(&target, wire::APPEND, body, within).await?;
            let took = sent_at.elapsed();
            if took > timing.heartbeat() {
                say_late(&late_said, &target, took, timing);
            }
            Ok::<_, Unanswered>(answer)
        });
        let answer = sent.await.map_err(|_| RPCError::Unreachable(unreachable("stopped")))?;
        let answer = answer.map_err(|error| RPCError::Unreachable(unreachable(error)))?;
        self.read(&to, &answer).map_err(RPCError::Unreachable)
    }

    async fn exchange<A: DeserializeOwned>(
        &self,
        path: &'static str,
        message: impl Serialize,
        within: Duration,
    ) -> Result<A, RPCError<TypeConfig>> {
        let body = wire::encode(&self.addressed(message));
        self.ask(path, body, within).await.map_err(RPCError::Unreachable)
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: Append,
        option: RPCOption,
    ) -> Result<Appended, RPCError<TypeConfig>> {
        // Entries wait for an fsync at the other end, heartbeats for nothing.
        if rpc.entries.is_empty() {
            return self.beat(rpc).await;
        }
        let within = option.hard_ttl().max(self.timing.election_least());
        self.exchange(wire::APPEND, rpc, within).await
    }

    async fn vote(
        &mut self,
        rpc: AskVote,
        option: RPCOption,
    ) -> Result<Voted, RPCError<TypeConfig>> {
        // Who votes makes that durable first: it gets all the time that there is.
        self.exchange(wire::VOTE, rpc, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: AskVote,
        option: RPCOption,
    ) -> Result<Voted, RPCError<TypeConfig>> {
        let within = option.soft_ttl().max(self.timing.election_least());
        self.exchange(wire::PRE_VOTE, rpc, within).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<Installed, StreamingError<TypeConfig>> {
        // One line that says who speaks, and behind it the snapshot as it is on the disk.
        let mut body = wire::encode(&self.addressed(vote)).to_vec();
        body.push(b'\n');
        body.extend_from_slice(&snapshot.snapshot);
        let mib = u32::try_from(body.len() >> 20).unwrap_or(u32::MAX);
        let within = SNAPSHOT_TIMEOUT + SNAPSHOT_TIMEOUT_PER_MIB.saturating_mul(mib);
        let sent = self.ask(wire::SNAPSHOT, body.into(), within);
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            answer = sent => answer.map_err(StreamingError::Unreachable),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.exchange(wire::TRANSFER, rpc, option.soft_ttl()).await
    }
}

/// Says, once in a while, that heartbeats over this line do not count.
fn say_late(late_said: &Mutex<Option<Instant>>, to: &PeerAddress, took: Duration, timing: Timing) {
    let mut said = late_said.lock().unwrap_or_else(PoisonError::into_inner);
    if said.is_none_or(|said| said.elapsed() >= LATE_SAID_EVERY) {
        *said = Some(Instant::now());
        tracing::warn!(
            %to, ?took, heartbeat = ?timing.heartbeat(),
            "a heartbeat was answered later than the next one was due, which does not count: is \
             the node stalled? If the line is that long, raise `cluster.heartbeat` above it on all \
             nodes, and `cluster.election` with it"
        );
    }
}
