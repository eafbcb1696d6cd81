//! How do Raft's messages travel?
//!
//! One [`Network`] speaks to one member; where that is, the agreed state says, and before it is
//! known there, the membership. Three lanes: entries, heartbeats, snapshots; a large append delays
//! no heartbeat.
//!
//! Whatever keeps an answer from coming is `Unreachable`, which makes Raft wait a little longer
//! each time. Its other class, retried at once, would hammer a dead node. Above all no failure is
//! ever an answer: a pre-vote that could not be asked was not granted.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::machine::Agreed;
use super::seam::Call;
use super::types::{Peer, TypeConfig, Vote};
use super::wire::{self, Addressed, Append, Appended, AskVote, Installed, Voted};
use crate::ids::{NodeId, PeerAddress};

type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, Bytes>;

/// How long any snapshot may take, and how much longer for each MiB of it: a slow line. No longer,
/// because until then the member gets neither entries nor another snapshot: one whose answer was
/// lost, or that went away without a word, would wait that long after it was back.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(5);
const SNAPSHOT_TIMEOUT_PER_MIB: Duration = Duration::from_secs(1);

/// Makes [`Network`]s.
pub struct Networks {
    /// Entries and votes.
    entries: Arc<dyn Call>,
    heartbeats: Arc<dyn Call>,
    snapshots: Arc<dyn Call>,
    from: NodeId,
    agreed: watch::Receiver<Agreed>,
    removed: watch::Sender<bool>,
    append_timeout: Duration,
}

impl Networks {
    /// `removed` is set when another member says that `from` is none any more. `append_timeout` is
    /// the least time that a member gets to make entries durable.
    #[must_use]
    pub fn new(
        peers: &dyn Call,
        from: NodeId,
        agreed: watch::Receiver<Agreed>,
        removed: watch::Sender<bool>,
        append_timeout: Duration,
    ) -> Self {
        let (entries, heartbeats, snapshots) = (peers.lane(), peers.lane(), peers.lane());
        Self { entries, heartbeats, snapshots, from, agreed, removed, append_timeout }
    }

    fn network(&self, lane: &Arc<dyn Call>, target: u64, node: &Peer) -> Network {
        Network {
            peers: Arc::clone(lane),
            from: self.from,
            to: NodeId(target),
            joined_at: node.addr.clone(),
            agreed: self.agreed.clone(),
            removed: self.removed.clone(),
            append_timeout: self.append_timeout,
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
    removed: watch::Sender<bool>,
    append_timeout: Duration,
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
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map_err(unreachable),
            410 => {
                self.removed.send_replace(true);
                Err(unreachable("this node was removed from the cluster"))
            }
            status => {
                let said = answer.refusal().unwrap_or_default();
                Err(unreachable(format!("{to} answered {status}: {said}")))
            }
        }
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
        let least = if rpc.entries.is_empty() { Duration::ZERO } else { self.append_timeout };
        self.exchange(wire::APPEND, rpc, option.hard_ttl().max(least)).await
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
        self.exchange(wire::PRE_VOTE, rpc, option.soft_ttl()).await
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
