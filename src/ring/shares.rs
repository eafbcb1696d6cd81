//! How much of the circle each shard has, and how much a change moves. Exact: lengths of token
//! ranges, in integers, not samples.

use std::cmp::Ordering;
use std::fmt;

use crate::ids::Token;
use crate::ring::table::{Ring, ShardIx};

/// Points of the circle.
pub(super) const CIRCLE: u128 = 1 << 64;

/// A fraction of whole numbers, for people and gauges. It prints as a percentage.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    part: u128,
    whole: u128,
}

impl Ratio {
    /// Nothing.
    pub const ZERO: Ratio = Ratio { part: 0, whole: 1 };
    /// All of it.
    pub const ONE: Ratio = Ratio { part: 1, whole: 1 };

    /// `whole` is not 0, and both are below 2^100, so that no product here overflows.
    pub(super) fn new(part: u128, whole: u128) -> Self {
        debug_assert!(whole > 0 && part < 1 << 100 && whole < 1 << 100);
        Self { part, whole }
    }

    /// Whether this is nothing at all, not just little.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.part == 0
    }

    /// The ratio in thousandths, rounded to the nearest.
    #[must_use]
    pub fn thousandths(self) -> u128 {
        self.times(1000)
    }

    /// An approximation, for gauges; no decision rests on it.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an approximation is asked for")]
    pub fn as_f64(self) -> f64 {
        self.part as f64 / self.whole as f64
    }

    fn times(self, units: u128) -> u128 {
        (self.part * units * 2 + self.whole) / (self.whole * 2)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = self.times(10_000);
        // What is not nothing must not be printed as nothing.
        if hundredths == 0 && self.part > 0 {
            return f.pad("<0.01 %");
        }
        f.pad(&format!("{}.{:02} %", hundredths / 100, hundredths % 100))
    }
}

/// One shard's part.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Of the circle, as the first of the replica set.
    pub primary: Ratio,
    /// Of all copies, in any place of the replica set. Equal to `primary` with one replica.
    pub held: Ratio,
    /// Of all weight: what `held` would be if the circle were perfectly even.
    pub fair: Ratio,
}

/// Every shard's part of one ring.
#[derive(Debug, Clone)]
pub struct Shares {
    /// In the order of [`ShardIx`].
    pub shards: Vec<Share>,
    /// The most that a shard holds over what its weight says: 1 is perfectly even.
    pub peak_to_mean: Ratio,
}

impl Ring {
    /// How much of the circle each shard has.
    #[must_use]
    pub fn shares(&self) -> Shares {
        let members = self.members();
        let mut primary = vec![0; members.len()];
        let mut held = vec![0; members.len()];
        for (length, set) in lengths(self.segments()) {
            primary[usize::from(set[0].0)] += length;
            for shard in set {
                held[usize::from(shard.0)] += length;
            }
        }
        let units: u128 = members.iter().map(|member| u128::from(member.weight.get())).sum();
        let copies = CIRCLE * u128::from(self.spec().replicas);
        let mut peak: Option<(u128, u128)> = None;
        for (member, &held) in members.iter().zip(&held) {
            let weight = u128::from(member.weight.get());
            // held / weight > peak held / peak weight, without dividing.
            if weight > 0 && peak.is_none_or(|(most, by)| held * by > most * weight) {
                peak = Some((held, weight));
            }
        }
        let peak_to_mean =
            peak.map_or(Ratio::ZERO, |(held, weight)| Ratio::new(held * units, copies * weight));
        let shards = (primary.iter().zip(&held).zip(members))
            .map(|((&primary, &held), member)| Share {
                primary: Ratio::new(primary, CIRCLE),
                held: Ratio::new(held, copies),
                fair: Ratio::new(u128::from(member.weight.get()), units),
            })
            .collect();
        Shares { shards, peak_to_mean }
    }

    /// How much of all copies of `after` stands on shards that do not hold it in this ring: what a
    /// change from this ring to `after` brings to other shards.
    #[must_use]
    pub fn moved(&self, after: &Ring) -> Ratio {
        // Where each of the members of `after` stands in this ring.
        let before: Vec<Option<ShardIx>> =
            after.members().iter().map(|member| self.find(&member.id)).collect();
        let mut moved = 0;
        let merged = Merged { left: self.segments(), right: after.segments(), from: 0 };
        for (length, old, new) in merged {
            let come = new.iter().filter(|shard| {
                before[usize::from(shard.0)].is_none_or(|former| !old.contains(&former))
            });
            moved += length * come.count() as u128;
        }
        Ratio::new(moved, CIRCLE * u128::from(after.spec().replicas))
    }

    /// The circle cut at 0 and at each virtual node: the last token of every piece, in ascending
    /// order, and its replica set. Pieces may be empty.
    fn segments(&self) -> Segments<'_> {
        Segments { ring: self, position: 0 }
    }
}

struct Segments<'a> {
    ring: &'a Ring,
    position: usize,
}

impl<'a> Segments<'a> {
    /// The piece that was reached, if any is left.
    fn peek(&self) -> Option<(Token, &'a [ShardIx])> {
        // The piece above the last virtual node ends with the circle and belongs to the first.
        let last = match self.position.cmp(&self.ring.vnodes()) {
            Ordering::Less => self.ring.token_at(self.position),
            Ordering::Equal => u64::MAX,
            Ordering::Greater => return None,
        };
        Some((Token(last), self.ring.set(self.position)))
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (Token, &'a [ShardIx]);

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.peek()?;
        self.position += 1;
        Some(piece)
    }
}

fn lengths<'a>(segments: Segments<'a>) -> impl Iterator<Item = (u128, &'a [ShardIx])> {
    let mut from = 0;
    segments.map(move |(last, set)| {
        let end = u128::from(last.0) + 1;
        (end - std::mem::replace(&mut from, end), set)
    })
}

/// The pieces of two rings laid over each other.
struct Merged<'a> {
    left: Segments<'a>,
    right: Segments<'a>,
    /// The first point that was not looked at.
    from: u128,
}

impl<'a> Iterator for Merged<'a> {
    type Item = (u128, &'a [ShardIx], &'a [ShardIx]);

    fn next(&mut self) -> Option<Self::Item> {
        // Both end at the top of the circle, so neither runs out before the other.
        let (left, right) = (self.left.peek()?, self.right.peek()?);
        if left.0 <= right.0 {
            self.left.next();
        }
        if right.0 <= left.0 {
            self.right.next();
        }
        let end = u128::from(left.0.min(right.0).0) + 1;
        let length = end - std::mem::replace(&mut self.from, end);
        Some((length, left.1, right.1))
    }
}
