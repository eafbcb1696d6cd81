//! What a ring is made of, and which of that is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{KetamaName, ShardId, Weight, Zone};

/// Most virtual nodes of one ring: 4000 shards of weight 4, or 64 shards of weight 256, at 256
/// virtual nodes a unit. A ring of this size takes about 90 MiB at three replicas.
pub const TOKENS_MAX: u64 = 1 << 22;

/// Most members of one ring: their indices are 16 bits wide.
pub const MEMBERS_MAX: usize = u16::MAX as usize;

/// Most replicas of one key. Five is the most that storage systems use in earnest; the limit
/// only keeps a slip of the pen from multiplying the table's size.
pub const REPLICAS_MAX: u8 = 16;

/// Points per unit of weight where keys are placed as nginx does.
pub const KETAMA_POINTS: u16 = 160;

/// One shard as the ring sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The stable id from which the shard's tokens are drawn.
    pub id: ShardId,
    /// Replicas of one key stand in distinct zones while zones last.
    pub zone: Zone,
    /// Units of weight; 0 owns nothing and is in no replica set.
    pub weight: Weight,
}

/// Everything that decides a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingSpec {
    /// Separates this ring from others over the same shards: the pool's name unless set. Fixed
    /// for the life of a pool, because another seed moves every key.
    pub hash_seed: String,
    /// Virtual nodes per unit of weight; 256 by default.
    pub vnodes: u16,
    /// Shards in each replica set.
    pub replicas: u8,
    /// The shards, in any order.
    pub members: Vec<Member>,
    /// The names by which nginx knows the shards. If they are there, keys are placed as nginx does
    /// (see `ketama`), and `hash_seed` and `vnodes` play no part; `None` places them by the tokens
    /// of the shards' ids.
    pub ketama: Option<BTreeMap<ShardId, KetamaName>>,
}

/// Why no ring can be made of a [`RingSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RingError {
    /// No member has a weight above 0.
    #[error("no shard has a weight above 0: give at least one shard a weight of 1 or more")]
    Empty,
    /// A replica set cannot be filled with distinct shards.
    #[error(
        "{replicas} replicas need {replicas} shards with a weight above 0, and there are {shards}: add shards or ask for fewer replicas"
    )]
    TooFewShards {
        /// Shards asked for in each replica set.
        replicas: u8,
        /// Members with a weight above 0.
        shards: usize,
    },
    /// `replicas` is 0 or above [`REPLICAS_MAX`].
    #[error("{0} replicas are out of range: use 1 to {REPLICAS_MAX}")]
    ReplicasOutOfRange(u8),
    /// `vnodes` is 0.
    #[error(
        "0 virtual nodes per unit of weight leave the ring empty: use 1 or more, 256 as a rule"
    )]
    NoVnodes,
    /// More than [`TOKENS_MAX`] virtual nodes in all.
    #[error(
        "the ring would have {0} virtual nodes, more than {TOKENS_MAX}: lower the weights, keeping their proportion, or `vnodes`"
    )]
    TooManyTokens(u64),
    /// Two members have the same id.
    #[error("shard `{0}` stands twice in one ring: give each shard an id of its own")]
    Duplicate(ShardId),
    /// A member is not known to nginx.
    #[error("shard `{0}` has no name that nginx would know it by: give it a `ketama_name`")]
    Nameless(ShardId),
    /// Two members have the same points.
    #[error(
        "shards `{one}` and `{other}` are both `{name}` to nginx: give one another `ketama_name`, or remove it"
    )]
    SameName {
        /// One of them.
        one: ShardId,
        /// The other.
        other: ShardId,
        /// What both are called.
        name: KetamaName,
    },
    /// More than [`MEMBERS_MAX`] members.
    #[error("{0} shards are more than one ring takes ({MEMBERS_MAX}): use several pools")]
    TooManyMembers(usize),
}

impl RingSpec {
    /// Checks that a ring can be made of this, without making it.
    ///
    /// # Errors
    /// The first [`RingError`] that applies.
    pub fn check(&self) -> Result<(), RingError> {
        if self.members.len() > MEMBERS_MAX {
            return Err(RingError::TooManyMembers(self.members.len()));
        }
        if self.points_per_unit() == 0 {
            return Err(RingError::NoVnodes);
        }
        if !(1..=REPLICAS_MAX).contains(&self.replicas) {
            return Err(RingError::ReplicasOutOfRange(self.replicas));
        }
        let mut ids: Vec<&ShardId> = self.members.iter().map(|member| &member.id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(RingError::Duplicate(twice[0].clone()));
        }
        let shards = self.members.iter().filter(|member| member.weight.get() > 0).count();
        if shards == 0 {
            return Err(RingError::Empty);
        }
        if shards < usize::from(self.replicas) {
            return Err(RingError::TooFewShards { replicas: self.replicas, shards });
        }
        self.check_names()?;
        let tokens = self.tokens();
        if tokens > TOKENS_MAX {
            return Err(RingError::TooManyTokens(tokens));
        }
        Ok(())
    }

    /// The part of this that decides replica sets: specs of which this part is equal place all keys
    /// alike. Members of weight 0 are not in it, nor the zones of a ring of one replica; the members
    /// are sorted by id.
    #[must_use]
    pub fn deciding(&self) -> RingSpec {
        let mut members = self.members.clone();
        members.retain(|member| member.weight.get() > 0);
        members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        if self.replicas == 1 {
            members.iter_mut().for_each(|member| member.zone = Zone::default());
        }
        let Some(names) = &self.ketama else {
            return RingSpec {
                members,
                hash_seed: self.hash_seed.clone(),
                vnodes: self.vnodes,
                replicas: self.replicas,
                ketama: None,
            };
        };
        let owns = |id: &ShardId| members.binary_search_by(|member| member.id.cmp(id)).is_ok();
        let owning = names.iter().filter(|(id, _)| owns(id));
        let ketama = Some(owning.map(|(id, name)| (id.clone(), name.clone())).collect());
        let (hash_seed, vnodes) = (String::new(), KETAMA_POINTS);
        RingSpec { hash_seed, vnodes, replicas: self.replicas, members, ketama }
    }

    /// Points that a shard has on the circle for each unit of its weight.
    pub(super) fn points_per_unit(&self) -> u16 {
        if self.ketama.is_some() { KETAMA_POINTS } else { self.vnodes }
    }

    /// Shards of one name would share all their points, and the first have them all.
    fn check_names(&self) -> Result<(), RingError> {
        let Some(names) = &self.ketama else { return Ok(()) };
        let mut known: BTreeMap<(&str, &str), &ShardId> = BTreeMap::new();
        for member in self.members.iter().filter(|member| member.weight.get() > 0) {
            let id = &member.id;
            let name = names.get(id).ok_or_else(|| RingError::Nameless(id.clone()))?;
            if let Some(one) = known.insert(name.host_and_port(), id) {
                let (one, other, name) = (one.clone(), id.clone(), name.clone());
                return Err(RingError::SameName { one, other, name });
            }
        }
        Ok(())
    }

    /// Virtual nodes in all. Cannot overflow: 2^16 members of 2^8 units of 2^16 each at most
    /// within [`MEMBERS_MAX`].
    pub(super) fn tokens(&self) -> u64 {
        let units: u64 = self.members.iter().map(|member| u64::from(member.weight.get())).sum();
        units * u64::from(self.points_per_unit())
    }
}
