//! The order in which shards are tried for a token.

use crate::ring::table::{Ring, ShardIx};

/// Yields each shard that owns anything once: the replica set, then the others in ring order.
///
/// The replica set costs nothing; going beyond it walks the ring and allocates one bit per member.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    ring: &'a Ring,
    set: &'a [ShardIx],
    /// The virtual node that the walk looks at next.
    position: usize,
    given: usize,
    /// One bit per member that was given; empty until the walk begins.
    seen: Vec<u64>,
}

impl<'a> Order<'a> {
    pub(super) fn new(ring: &'a Ring, position: usize) -> Self {
        Self { ring, set: ring.set(position), position, given: 0, seen: Vec::new() }
    }

    /// Marks a shard as given; false if it was already.
    fn mark(&mut self, shard: ShardIx) -> bool {
        let word = &mut self.seen[usize::from(shard.0) / 64];
        let bit = 1 << (shard.0 % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

impl Iterator for Order<'_> {
    type Item = ShardIx;

    fn next(&mut self) -> Option<ShardIx> {
        if let Some(&shard) = self.set.get(self.given) {
            self.given += 1;
            return Some(shard);
        }
        if self.given == self.ring.owners() {
            return None;
        }
        if self.seen.is_empty() {
            self.seen = vec![0; self.ring.members().len().div_ceil(64)];
            for &shard in self.set {
                self.mark(shard);
            }
        }
        // Each owner has at least one virtual node, so one round of the circle finds them all.
        loop {
            let shard = self.ring.owner_at(self.position);
            self.position = (self.position + 1) % self.ring.vnodes();
            if self.mark(shard) {
                self.given += 1;
                return Some(shard);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.ring.owners() - self.given;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Order<'_> {}
