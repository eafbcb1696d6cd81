//! Why a key lies where it lies, for people.

use std::fmt;

use crate::ids::{ShardId, Token, Zone};
use crate::ring::table::{Ring, ShardIx};

/// The way from a key to its shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Where the key lies on the circle.
    pub token: Token,
    /// The virtual node that the token belongs to: the first at or after it.
    pub vnode: VnodeFound,
    /// The distinct shards met from the virtual node on, until the replica set was full.
    pub walk: Vec<Step>,
    /// The shards that come after the replica set.
    pub next: Vec<ShardId>,
}

/// A virtual node, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VnodeFound {
    /// Where it lies.
    pub token: Token,
    /// The shard that owns it.
    pub owner: ShardId,
    /// Its place in the owner's stream of tokens, from 0: a higher weight only adds higher ones.
    pub number: usize,
    /// How many virtual nodes the owner has.
    pub of: usize,
}

/// One shard met on the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which shard.
    pub shard: ShardId,
    /// Its zone.
    pub zone: Zone,
    /// The virtual node by which it was met.
    pub vnode: Token,
    /// What became of it.
    pub verdict: Verdict,
}

/// Whether a shard came into the replica set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// In the set, at this place; 0 is the primary.
    Replica(usize),
    /// Left out: these replicas stand in its zone already, and other zones had fewer.
    ZoneHeld(Vec<ShardId>),
}

impl Ring {
    /// Why `key` lies where it lies, and the `next` shards after its replica set.
    #[must_use]
    pub fn explain(&self, key: &[u8], next: usize) -> Explanation {
        let token = self.token(key);
        let position = self.position(token);
        let set = self.set(position);
        Explanation {
            token,
            vnode: self.vnode_found(position % self.vnodes()),
            walk: self.walk(position, set),
            next: (self.order(token).skip(set.len()).take(next))
                .map(|shard| self.member(shard).id.clone())
                .collect(),
        }
    }

    fn vnode_found(&self, position: usize) -> VnodeFound {
        let token = self.token_at(position);
        let owner = self.member(self.owner_at(position));
        let tokens = self.hashing().tokens_of(self.spec(), owner);
        let number = tokens.iter().position(|other| *other == token).unwrap_or(0);
        VnodeFound { token: Token(token), owner: owner.id.clone(), number, of: tokens.len() }
    }

    fn walk(&self, position: usize, set: &[ShardIx]) -> Vec<Step> {
        let mut met: Vec<ShardIx> = Vec::new();
        let mut steps = Vec::new();
        let mut missing = set.len();
        for ahead in 0..self.vnodes() {
            let at = (position + ahead) % self.vnodes();
            let shard = self.owner_at(at);
            if met.contains(&shard) {
                continue;
            }
            met.push(shard);
            let member = self.member(shard);
            let verdict = match set.iter().position(|replica| *replica == shard) {
                Some(place) => {
                    missing -= 1;
                    Verdict::Replica(place)
                }
                None => Verdict::ZoneHeld(
                    (set.iter().map(|&replica| self.member(replica)))
                        .filter(|replica| replica.zone == member.zone)
                        .map(|replica| replica.id.clone())
                        .collect(),
                ),
            };
            steps.push(Step {
                shard: member.id.clone(),
                zone: member.zone.clone(),
                vnode: Token(self.token_at(at)),
                verdict,
            });
            if missing == 0 {
                break;
            }
        }
        steps
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VnodeFound { token, owner, number, of } = &self.vnode;
        writeln!(f, "token   {}", self.token)?;
        writeln!(f, "vnode   {token}, number {number} of the {of} of {owner}")?;
        for Step { shard, zone, vnode, verdict } in &self.walk {
            write!(f, "at      {vnode} {shard}, zone {zone}: ")?;
            match verdict {
                Verdict::Replica(0) => writeln!(f, "primary")?,
                Verdict::Replica(place) => writeln!(f, "replica {}", place + 1)?,
                Verdict::ZoneHeld(by) => writeln!(f, "skipped, its zone has {}", list(by))?,
            }
        }
        match self.next.as_slice() {
            [] => Ok(()),
            next => writeln!(f, "next    {}", list(next)),
        }
    }
}

fn list(ids: &[ShardId]) -> String {
    ids.iter().map(ShardId::as_str).collect::<Vec<_>>().join(", ")
}
