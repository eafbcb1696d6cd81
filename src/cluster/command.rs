//! What can be asked of the agreed state?

use serde::{Deserialize, Serialize};

use super::node::Role;
use super::placed::TableChange;
use super::pool::{AdminState, PoolSpec, ShardSpec, Verdict, level_of_url};
use super::settings::Settings;
use crate::ids::{
    BaseUrl, Birth, ClusterId, Epoch, FeatureLevel, Incarnation, NodeId, NodeName, Nonce,
    PeerAddress, PlanId, PoolName, ShardId, StoreId, Term, Weight, Zone,
};

/// The highest level that this release speaks.
pub const FEATURE_LEVEL: FeatureLevel = KEPT_LEVEL;

/// The level of everything that the first release with clusters has; what a cluster begins with,
/// whichever release founds it.
pub(super) const FIRST_LEVEL: FeatureLevel = FeatureLevel(1);

/// The level of `placement: ketama` and of shards' names for it.
pub(super) const KETAMA_LEVEL: FeatureLevel = FeatureLevel(2);

/// The level of shards that are reached by `https://`: whoever does not know it takes their URL for
/// a wrong one.
pub(super) const HTTPS_LEVEL: FeatureLevel = FeatureLevel(2);

/// The level of pools that keep data, and of all that concerns their stores.
pub(super) const KEPT_LEVEL: FeatureLevel = FeatureLevel(3);

/// One change of the agreed state: all of it is done, or nothing.
///
/// New kinds are appended, each at a [feature level](Self::feature_level) of its own, and none is
/// ever taken away: the log of an earlier release must be readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Makes a pool with all its shards, which must not exist.
    CreatePool {
        /// Its name.
        pool: PoolName,
        /// What concerns it as a whole.
        spec: PoolSpec,
        /// Its shards.
        shards: Vec<(ShardId, ShardSpec)>,
    },
    /// Changes what concerns a pool as a whole.
    SetPool {
        /// Its name.
        pool: PoolName,
        /// What shall hold.
        spec: PoolSpec,
    },
    /// Removes a pool.
    RemovePool {
        /// Its name.
        pool: PoolName,
    },
    /// Changes a pool's shards: one step, one epoch, however many they are.
    SetShards {
        /// The pool's name.
        pool: PoolName,
        /// Shards that are added, or whose description shall be this.
        put: Vec<(ShardId, ShardSpec)>,
        /// Shards that leave.
        remove: Vec<ShardId>,
    },
    /// Begins a cluster: its first command. The node that gives it becomes node 1, at its
    /// incarnation 1.
    Found {
        /// Drawn for this cluster.
        cluster: ClusterId,
        /// The first node's label.
        node: NodeName,
        /// Where its peers reach it.
        address: PeerAddress,
        /// What shall hold.
        settings: Settings,
    },
    /// Adds a node. The answer bears its id; given again before the node has begun, with the same
    /// nonce, name and address, the same id.
    AddNode {
        /// Its label.
        name: NodeName,
        /// Where its peers reach it.
        address: PeerAddress,
        /// What it is for.
        role: Role,
        /// What it drew for joining.
        nonce: Nonce,
    },
    /// Changes what is said here of a node.
    SetNode {
        /// Which.
        node: NodeId,
        /// Its label.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<NodeName>,
        /// Where its peers reach it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<PeerAddress>,
        /// What it is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
    },
    /// Removes a node for good: it may come back only as a new one.
    RemoveNode {
        /// Which.
        node: NodeId,
    },
    /// A node has started. The answer bears its incarnation; commands of earlier ones are refused
    /// from here on.
    BeginIncarnation {
        /// Which.
        node: NodeId,
        /// The incarnation that it takes to be the last one. If another has begun meanwhile this
        /// one is refused, so that a command of an earlier start that is late in the log cannot
        /// depose the one that runs. Ask again with what the refusal says.
        after: Incarnation,
        /// Where its peers reach it.
        address: PeerAddress,
        /// The release it runs.
        version: String,
        /// The highest level that its release speaks.
        feature_level: FeatureLevel,
    },
    /// Changes what is held against shards.
    SetVerdicts {
        /// The term in which the leader counted the views: see [`Command::is_good_in`].
        term: Term,
        /// What shall hold, of the shards that are named.
        verdicts: Vec<(PoolName, ShardId, Verdict)>,
    },
    /// Raises the epochs below which no node may hold a lease.
    RaiseBarriers {
        /// The term in which the leader found that every holder of a lease is past them. What it
        /// found says nothing about the leases of a later term: see [`Command::is_good_in`].
        term: Term,
        /// What shall hold at least, of the pools that are named.
        barriers: Vec<(PoolName, Epoch)>,
    },
    /// Changes the settings.
    SetSettings {
        /// What shall hold.
        settings: Settings,
    },
    /// Allows the commands of a higher level.
    RaiseFeatureLevel {
        /// Which. Every node must speak it.
        level: FeatureLevel,
    },
    /// Adds to what is staged, and changes nothing else.
    Stage {
        /// What shall be done, after what is staged already.
        changes: Vec<Change>,
    },
    /// Drops what is staged.
    Unstage,
    /// Does what is staged, if that is still what was shown under this id.
    ApplyPlan {
        /// What was shown.
        plan: PlanId,
    },
    /// Does some changes at once, and leaves what is staged.
    ChangeNow {
        /// What shall be done.
        changes: Vec<Change>,
    },
    /// Another command, with the tables of the balanced pools that it changes, as the leader has
    /// planned them.
    Placed {
        /// The command, which is none of this kind.
        command: Box<Command>,
        /// The tables.
        tables: Vec<TableChange>,
    },
    /// Writes of a pool that keeps data are admitted from here on, so that there is something to
    /// lose. Given again, it changes nothing.
    MarkFilled {
        /// Which.
        pool: PoolName,
    },
    /// Binds a shard of a pool that keeps data to the store that has its data. Given again, it
    /// changes nothing.
    BindStore {
        /// The pool.
        pool: PoolName,
        /// Its shard, which is bound to none.
        shard: ShardId,
        /// What its store calls itself.
        store: StoreId,
    },
    /// Says what a shard's store has of what it should.
    MarkStore {
        /// The pool.
        pool: PoolName,
        /// Its shard.
        shard: ShardId,
        /// The store that it is bound to: what was found out about another one does not count.
        store: StoreId,
        /// What shall hold.
        mark: StoreMark,
    },
    /// A node without a cluster has lost its state, and takes over what the stores of a pool keep:
    /// the pool is that one again.
    AdoptPool {
        /// Which, before its first write.
        pool: PoolName,
        /// When the one came to be whose data is there.
        born: Birth,
        /// The shards whose stores know nothing of it: they stand for lost ones, and are to be filled.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        fresh: Vec<ShardId>,
    },
}

/// What the store of a shard has of what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreMark {
    /// It lacks writes that somebody has a hint of.
    CatchingUp,
    /// Nobody has a hint for it any more. A fresh store is not marked so, only as filled.
    CaughtUp,
    /// A pass of repair has brought it, from a majority of the others in each of its ranges, all
    /// that they have.
    Filled,
}

impl Command {
    /// The level that a cluster must have agreed on before this may be proposed.
    #[must_use]
    pub fn feature_level(&self) -> FeatureLevel {
        match self {
            Self::CreatePool { spec, shards, .. } => spec.feature_level().max(level_of(shards)),
            Self::SetPool { spec, .. } => spec.feature_level(),
            Self::SetVerdicts { verdicts, .. } if verdicts.iter().any(|(_, _, v)| v.foreign) => {
                KEPT_LEVEL
            }
            Self::SetShards { put, .. } => level_of(put),
            Self::RemovePool { .. }
            | Self::Found { .. }
            | Self::AddNode { .. }
            | Self::SetNode { .. }
            | Self::RemoveNode { .. }
            | Self::BeginIncarnation { .. }
            | Self::SetVerdicts { .. }
            | Self::RaiseBarriers { .. }
            | Self::SetSettings { .. }
            | Self::RaiseFeatureLevel { .. }
            | Self::Unstage
            | Self::ApplyPlan { .. } => FIRST_LEVEL,
            Self::Stage { changes } | Self::ChangeNow { changes } => {
                changes.iter().map(Change::feature_level).fold(FIRST_LEVEL, FeatureLevel::max)
            }
            Self::Placed { command, .. } => command.feature_level().max(KEPT_LEVEL),
            Self::MarkFilled { .. }
            | Self::BindStore { .. }
            | Self::MarkStore { .. }
            | Self::AdoptPool { .. } => KEPT_LEVEL,
        }
    }

    /// Whether this may take effect as an entry of `term`. Whoever drives [`ClusterState::apply`]
    /// from a log asks first, and answers [`Refusal::OtherTerm`](super::Refusal::OtherTerm): a
    /// proposal that waited, or was forwarded, into a later term has lost its ground.
    ///
    /// [`ClusterState::apply`]: super::ClusterState::apply
    #[must_use]
    pub fn is_good_in(&self, term: Term) -> bool {
        match self {
            Self::RaiseBarriers { term: found_in, .. }
            | Self::SetVerdicts { term: found_in, .. } => *found_in == term,
            _ => true,
        }
    }

    /// Whether it may change the sets of a balanced pool: then the leader
    /// [plans](super::ClusterState::planned) before it puts it into the log.
    #[must_use]
    pub fn may_need_tables(&self) -> bool {
        matches!(
            self,
            Self::CreatePool { .. }
                | Self::SetPool { .. }
                | Self::SetShards { .. }
                | Self::ApplyPlan { .. }
                | Self::ChangeNow { .. }
        )
    }

    /// What somebody gave: without what the leader has planned for it.
    #[must_use]
    pub fn given(&self) -> &Command {
        match self {
            Self::Placed { command, .. } => command,
            other => other,
        }
    }

    /// Whether nodes give this by themselves, often, and not because somebody decided something.
    #[must_use]
    pub fn is_routine(&self) -> bool {
        matches!(
            self,
            Self::BeginIncarnation { .. }
                | Self::SetVerdicts { .. }
                | Self::RaiseBarriers { .. }
                | Self::MarkFilled { .. }
                | Self::BindStore { .. }
                | Self::MarkStore { .. }
        )
    }
}

/// The level that the most demanding of some shards needs.
fn level_of(shards: &[(ShardId, ShardSpec)]) -> FeatureLevel {
    shards.iter().map(|(_, spec)| spec.feature_level()).fold(FIRST_LEVEL, FeatureLevel::max)
}

/// One step of what an operator wants of the ring. Several together are one change: a pool's epoch
/// moves once, and only what they lead to must have a ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Adds a shard, which must not be there.
    AddShard {
        /// The pool.
        pool: PoolName,
        /// Its id.
        shard: ShardId,
        /// What shall hold.
        spec: ShardSpec,
    },
    /// Removes a shard.
    RemoveShard {
        /// The pool.
        pool: PoolName,
        /// Which.
        shard: ShardId,
    },
    /// Changes a shard's share.
    SetWeight {
        /// The pool.
        pool: PoolName,
        /// Which.
        shard: ShardId,
        /// What shall hold.
        weight: Weight,
    },
    /// Changes a shard's failure domain.
    SetZone {
        /// The pool.
        pool: PoolName,
        /// Which.
        shard: ShardId,
        /// What shall hold.
        zone: Zone,
    },
    /// Says that a shard is elsewhere. What it owns stays as it is.
    SetUrl {
        /// The pool.
        pool: PoolName,
        /// Which.
        shard: ShardId,
        /// What shall hold.
        url: BaseUrl,
    },
    /// Takes a shard out of service, or puts it back. What it owns stays as it is.
    SetState {
        /// The pool.
        pool: PoolName,
        /// Which.
        shard: ShardId,
        /// What shall hold.
        state: AdminState,
    },
    /// Makes a pool, which must not be there.
    CreatePool {
        /// Its name.
        pool: PoolName,
        /// What concerns it as a whole.
        spec: PoolSpec,
        /// Its shards; more may follow as changes of their own.
        shards: Vec<(ShardId, ShardSpec)>,
    },
    /// Changes what concerns a pool as a whole.
    SetPool {
        /// Its name.
        pool: PoolName,
        /// What shall hold.
        spec: PoolSpec,
    },
    /// Removes a pool. One that keeps data is not removed by this.
    RemovePool {
        /// Its name.
        pool: PoolName,
    },
    /// Gives a shard of a pool that keeps data a fresh store, since its own is lost for good: the
    /// first other one that answers is bound, and filled by repair.
    ReplaceShard {
        /// The pool.
        pool: PoolName,
        /// Which.
        shard: ShardId,
        /// Where the fresh store is, if elsewhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<BaseUrl>,
        /// It is known that the objects of the lost one are lost with it: needed where the pool has
        /// one copy of each.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lose: bool,
    },
    /// Removes a pool, with whatever it keeps.
    DropPool {
        /// Its name.
        pool: PoolName,
    },
}

impl Change {
    /// The pool that it changes.
    #[must_use]
    pub fn pool(&self) -> &PoolName {
        match self {
            Self::AddShard { pool, .. }
            | Self::RemoveShard { pool, .. }
            | Self::SetWeight { pool, .. }
            | Self::SetZone { pool, .. }
            | Self::SetUrl { pool, .. }
            | Self::SetState { pool, .. }
            | Self::CreatePool { pool, .. }
            | Self::SetPool { pool, .. }
            | Self::RemovePool { pool }
            | Self::ReplaceShard { pool, .. }
            | Self::DropPool { pool } => pool,
        }
    }

    fn feature_level(&self) -> FeatureLevel {
        match self {
            Self::AddShard { spec, .. } => spec.feature_level(),
            Self::CreatePool { spec, shards, .. } => spec.feature_level().max(level_of(shards)),
            Self::SetPool { spec, .. } => spec.feature_level(),
            Self::RemoveShard { .. }
            | Self::SetWeight { .. }
            | Self::SetZone { .. }
            | Self::SetState { .. }
            | Self::RemovePool { .. } => FIRST_LEVEL,
            Self::SetUrl { url, .. } => level_of_url(url),
            Self::ReplaceShard { .. } | Self::DropPool { .. } => KEPT_LEVEL,
        }
    }
}
