//! What did a command do, or why not?

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bounds::Bound;
use crate::ids::{
    Birth, ClusterId, Epoch, FeatureLevel, Incarnation, NodeId, NodeName, PeerAddress, PlanId,
    PoolName, Revision, ShardId, StoreId,
};
use crate::ring::RingError;
use crate::ring::slots::PlanError;

/// What became of a pool's epoch. What a later release says besides is passed over: see
/// [`Applied`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolEpochs {
    /// The pool.
    pub pool: PoolName,
    /// Its epoch before; `None` if it did not exist.
    pub before: Option<Epoch>,
    /// Its epoch after; `None` if it was removed.
    pub after: Option<Epoch>,
}

/// What a command did. It is an answer that nodes give each other: what a later release says
/// besides is passed over, or a change that was made would be taken for one whose outcome nobody
/// knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Applied {
    /// Where the state stood afterwards.
    pub revision: Revision,
    /// The pools that it touched, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolEpochs>,
    /// The node that it added, or that began anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The incarnation that began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// Whether it had been applied before, and this is the first answer once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
}

/// Why a command was refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It was good in another term of Raft only.
    #[error("this was good in the term in which it was found, and the leader has changed since")]
    OtherTerm,
    /// The pool is there already.
    #[error("pool `{0}` exists already")]
    PoolExists(PoolName),
    /// The pool is not there.
    #[error("pool `{0}` does not exist")]
    NoPool(PoolName),
    /// The shard is there already.
    #[error("pool `{pool}` has a shard `{shard}` already")]
    ShardExists {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
    },
    /// The shard is not there.
    #[error("pool `{pool}` has no shard `{shard}`")]
    NoShard {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
    },
    /// A shard is named twice by one command.
    #[error("pool `{pool}`: shard `{shard}` is named twice by one change")]
    NamedTwice {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
    },
    /// The kind is fixed.
    #[error("pool `{0}`: the kind of a pool is fixed for its life: make a pool with another name")]
    KindIsFixed(PoolName),
    /// The seed is fixed.
    #[error(
        "pool `{0}`: `hash_seed` is fixed for the life of a pool, since another one moves every key: \
         make a pool with another name"
    )]
    SeedIsFixed(PoolName),
    /// No ring could be made any more.
    #[error("pool `{pool}`: {error}")]
    Ring {
        /// The pool.
        pool: PoolName,
        /// Why there would be none.
        error: RingError,
    },
    /// More than is ever kept.
    #[error("{0}")]
    TooMuch(Bound),
    /// The version of a release is shown to people.
    #[error("a version is named by printable ASCII characters")]
    Version,
    /// A setting is out of range.
    #[error("setting `{name}` is {value}: use {least} to {most}")]
    Setting {
        /// Which.
        name: String,
        /// What was asked for.
        value: u64,
        /// The least that is taken.
        least: u64,
        /// The most that is taken.
        most: u64,
    },
    /// There is a cluster.
    #[error("this is cluster {0} already: a cluster is founded once")]
    Founded(ClusterId),
    /// There is no cluster.
    #[error("there is no cluster yet: found one first")]
    NotFounded,
    /// The node was never added.
    #[error("there is no node {0}")]
    NoNode(NodeId),
    /// The node has left for good.
    #[error(
        "node {0} was removed from the cluster: it may join again as a new node, with an empty data folder"
    )]
    NodeRemoved(NodeId),
    /// Another node has the label.
    #[error(
        "node {by} is named `{name}` already: give each node a name of its own, or remove node {by} if it is gone for good"
    )]
    NodeNameTaken {
        /// The label.
        name: NodeName,
        /// Whose it is.
        by: NodeId,
    },
    /// Another node is there.
    #[error(
        "node {by} is reached at {address} already: give each node an address of its own, or remove node {by} if it is gone for good"
    )]
    AddressTaken {
        /// Where.
        address: PeerAddress,
        /// Who is there.
        by: NodeId,
    },
    /// Nobody would be left to decide.
    #[error("node {0} is the last voter: make another node a voter first")]
    LastVoter(NodeId),
    /// Another start of the node has begun.
    #[error("node {node} is at incarnation {now} by now")]
    IncarnationMoved {
        /// Which node.
        node: NodeId,
        /// Its incarnation.
        now: Incarnation,
    },
    /// The proposer has begun anew, was removed, or has forgotten what this was. Whether an earlier
    /// copy of the command was applied is not known any more.
    #[error(
        "the command is of a time that has passed: its proposer has started anew, left, or gone on without it"
    )]
    Superseded,
    /// Not every node would understand it.
    #[error(
        "this needs feature level {needs}, and the cluster is at {agreed}: it is raised by itself once every node runs a release that speaks it; `ringway cluster status` shows the releases"
    )]
    Level {
        /// What the command needs.
        needs: FeatureLevel,
        /// What is agreed.
        agreed: FeatureLevel,
    },
    /// Feature levels are never lowered.
    #[error("feature level {level} is below {agreed}, which is agreed and stays")]
    LevelLowered {
        /// What was asked for.
        level: FeatureLevel,
        /// What is agreed.
        agreed: FeatureLevel,
    },
    /// A node does not speak the level.
    #[error(
        "node {node} speaks feature levels up to {speaks}, not {level}: run a later release on it, or remove it"
    )]
    LevelTooHigh {
        /// Which node.
        node: NodeId,
        /// What it speaks.
        speaks: FeatureLevel,
        /// What was asked for.
        level: FeatureLevel,
    },
    /// A barrier stands at an epoch that has begun.
    #[error("pool `{pool}` is at epoch {epoch}: its barrier cannot be at {barrier}")]
    BarrierAhead {
        /// The pool.
        pool: PoolName,
        /// What was asked for.
        barrier: Epoch,
        /// The epoch in force.
        epoch: Epoch,
    },
    /// Another node has joined with the same folder, or with a copy of it.
    #[error(
        "node {by}, `{name}`, has joined with this `data_dir` or a copy of it: empty this node's `data_dir`, so that it joins as a node of its own; if it is node {by} that lost its data, remove node {by} first"
    )]
    NonceTaken {
        /// Who has joined.
        by: NodeId,
        /// Its label.
        name: NodeName,
    },
    /// The kind, the placement and what is said of kept data do not belong together.
    #[error(
        "pool `{0}`: a cache pool is placed by `ring` or `ketama` and has no replicas; a replicated pool is `balanced`, has replicas, and its objects may change"
    )]
    KindAndPlacement(PoolName),
    /// The pool keeps no data.
    #[error("pool `{0}` is a cache: its shards are not bound to stores")]
    NotKept(PoolName),
    /// Data would have to move.
    #[error(
        "pool `{0}` keeps data, and moving data is not in this release: its shards, zones, weights, virtual nodes and replicas, and which bytes are the key, stay as they are; addresses, `maint` and `ringway ring replace` are possible, or make another pool"
    )]
    KeepsData(PoolName),
    /// Data would be lost.
    #[error(
        "pool `{0}` keeps data, which would be lost with it: if that is meant, use `ringway ring drop-pool {0}`"
    )]
    WouldLose(PoolName),
    /// The shard has its store.
    #[error(
        "pool `{pool}`: shard `{shard}` is bound to store {store}: if that is lost for good, use `ringway ring replace {pool}/{shard}`"
    )]
    StoreBound {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
        /// Its store.
        store: StoreId,
    },
    /// The store is another shard's.
    #[error(
        "pool `{pool}`: store {store} is that of shard `{by}` already: give each shard its own"
    )]
    StoreTaken {
        /// The pool.
        pool: PoolName,
        /// The store.
        store: StoreId,
        /// Whose it is.
        by: ShardId,
    },
    /// The store was replaced.
    #[error(
        "pool `{pool}`: store {store} was replaced in shard `{shard}` and does not come back: empty its folder, so that it is a fresh one"
    )]
    StoreReplaced {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
        /// The store.
        store: StoreId,
    },
    /// What was found out is about another store than the shard's.
    #[error("pool `{pool}`: shard `{shard}` is not bound to the store that this is about")]
    OtherStore {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
    },
    /// A fresh store has caught up only when it was filled.
    #[error("pool `{pool}`: the store of shard `{shard}` is fresh, and not filled yet")]
    StillFresh {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
    },
    /// What the shard holds may be nowhere else.
    #[error(
        "pool `{pool}`: shard `{shard}` cannot be replaced: with it, too few replicas of some keys would be left that have what was acknowledged, and it could be lost; wait until those that were replaced before are filled (`ringway status`)"
    )]
    TooManyFresh {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
    },
    /// Too few of the stores that a node without a state would take over have anything to tell.
    #[error(
        "pool `{pool}`: its stores kept it before, born at {born}, and {empty} of them know nothing of it: of some keys too few replicas would be left that have what was acknowledged, and it could be lost; start those shards with the folders that their stores had, or, if nothing of the pool is needed, empty the folders of all its stores"
    )]
    TooFewKnow {
        /// The pool.
        pool: PoolName,
        /// When the one that its stores kept came to be.
        born: Birth,
        /// How many stores know nothing of it.
        empty: usize,
    },
    /// What the shard holds is nowhere else.
    #[error(
        "pool `{pool}`: it keeps one copy of each object, and those of shard `{shard}` are lost with its store: if that is so, say `ringway ring replace {pool}/{shard} --lose-objects`"
    )]
    OnlyCopy {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
    },
    /// Some node may still act by an earlier epoch of the pool.
    #[error(
        "pool `{pool}`: not every node acts by epoch {epoch} yet: try again in a moment (`ringway cluster status` shows who is behind)"
    )]
    NotSettled {
        /// The pool.
        pool: PoolName,
        /// Its epoch.
        epoch: Epoch,
    },
    /// There is no need to take over what stores keep.
    #[error("pool `{pool}` is not what stores keep since {born}, or has data of its own")]
    NotAdopted {
        /// The pool.
        pool: PoolName,
        /// When that one came to be.
        born: Birth,
    },
    /// No table could be planned.
    #[error("pool `{pool}`: {error}")]
    Plan {
        /// The pool.
        pool: PoolName,
        /// Why not.
        error: PlanError,
    },
    /// The command bears no table for a pool whose sets it changes.
    #[error("pool `{0}`: the command came without the table that it needs: give it again")]
    NotPlanned(PoolName),
    /// The table was planned on another one.
    #[error("pool `{0}` was changed while this was being planned: give it again")]
    TableOvertaken(PoolName),
    /// What came is no table.
    #[error("pool `{pool}`: {why}")]
    TableDamaged {
        /// The pool.
        pool: PoolName,
        /// What is wrong.
        why: String,
    },
    /// A command in a command in a command.
    #[error("a command bears tables once")]
    PlacedTwice,
    /// This node computes another table than the leader did: it must not go on.
    #[error(
        "pool `{pool}`: at epoch {epoch} this node computes another table than the leader: it stops, for it would send keys elsewhere; run the release of the others on it, or replace its machine"
    )]
    TableMismatch {
        /// The pool.
        pool: PoolName,
        /// The epoch.
        epoch: Epoch,
    },
    /// There is no plan.
    #[error("nothing is staged")]
    NothingStaged,
    /// What is staged cannot be done any more.
    #[error("what is staged cannot be done any more: {0}: drop it with `ringway ring unstage`")]
    Staged(Box<Refusal>),
    /// The plan is another than was shown.
    #[error("the plan has changed since it was shown: it is {now} now; look at it again")]
    PlanChanged {
        /// What would be done now.
        now: PlanId,
    },
}

impl fmt::Display for PoolEpochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.before, self.after) {
            (None, None) => write!(f, "{}", self.pool),
            (None, Some(after)) => write!(f, "{}: new, epoch {after}", self.pool),
            (Some(before), None) => write!(f, "{}: epoch {before}, removed", self.pool),
            (Some(before), Some(after)) if before == after => {
                write!(f, "{}: epoch {after} stays", self.pool)
            }
            (Some(before), Some(after)) => write!(f, "{}: epoch {before} to {after}", self.pool),
        }
    }
}
