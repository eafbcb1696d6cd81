//! Which shard of each slot comes first?
//!
//! Each shard shall be the primary of its share of slots. To change a primary moves no data, but it
//! moves what is in caches, so few are changed: a shard with too many hands one over to another of
//! the same slot, which hands one over in another slot, until one has it that has too few. The
//! shortest such way is taken. It exists unless the sets themselves do not allow the shares.

use std::collections::VecDeque;

use super::quota;
use crate::ring::spec::Member;

/// Shards that one search looks at. Most ways have one or two steps.
const SEARCHED_MAX: usize = 4096;

/// Reorders rows so that each shard is first in its share of them.
pub(super) fn balance(rows: &mut [u16], replicas: usize, members: &[Member], held: &[u32]) {
    if replicas == 1 {
        return;
    }
    let mut now = vec![0_u32; members.len()];
    for row in rows.chunks_exact(replicas) {
        now[usize::from(row[0])] += 1;
    }
    let shares = quota::primaries(members, held, &now);
    let mut balance =
        Balance { rows, replicas, now, shares, slots: vec![Vec::new(); members.len()] };
    balance.directly();
    balance.by_ways();
}

struct Balance<'a> {
    rows: &'a mut [u16],
    replicas: usize,
    now: Vec<u32>,
    shares: Vec<u32>,
    /// Slots that a shard is the primary of, or was.
    slots: Vec<Vec<u16>>,
}

impl Balance<'_> {
    fn has_too_many(&self, shard: u16) -> bool {
        self.now[usize::from(shard)] > self.shares[usize::from(shard)]
    }

    fn has_too_few(&self, shard: u16) -> bool {
        self.now[usize::from(shard)] < self.shares[usize::from(shard)]
    }

    /// Makes `to` the first of a slot.
    fn give(&mut self, slot: u16, to: u16) {
        let row = &mut self.rows[usize::from(slot) * self.replicas..][..self.replicas];
        let Some(place) = row.iter().position(|shard| *shard == to) else { return };
        let from = row[0];
        row.swap(0, place);
        self.now[usize::from(from)] -= 1;
        self.now[usize::from(to)] += 1;
        self.slots[usize::from(to)].push(slot);
    }

    /// Each slot once: from one with too many to one with too few.
    fn directly(&mut self) {
        for slot in 0..=u16::MAX {
            let row = &self.rows[usize::from(slot) * self.replicas..][..self.replicas];
            let first = row[0];
            let to = match self.has_too_many(first) {
                true => row[1..].iter().copied().find(|shard| self.has_too_few(*shard)),
                false => None,
            };
            match to {
                Some(to) => self.give(slot, to),
                None => self.slots[usize::from(first)].push(slot),
            }
        }
    }

    /// The others by ways of several steps.
    fn by_ways(&mut self) {
        let shards = 0..u16::try_from(self.now.len()).unwrap_or(u16::MAX);
        // How each shard was reached in this search: which search, from whom, in which slot.
        let mut reached: Vec<(u32, u16, u16)> = vec![(0, 0, 0); self.now.len()];
        let mut search = 0;
        for from in shards {
            while self.has_too_many(from) {
                search += 1;
                let Some(mut end) = self.search(from, search, &mut reached) else { break };
                while end != from {
                    let (_, before, slot) = reached[usize::from(end)];
                    self.give(slot, end);
                    end = before;
                }
            }
        }
    }

    fn search(&self, from: u16, search: u32, reached: &mut [(u32, u16, u16)]) -> Option<u16> {
        reached[usize::from(from)].0 = search;
        let mut queue = VecDeque::from([from]);
        for _ in 0..SEARCHED_MAX {
            let at = queue.pop_front()?;
            for &slot in &self.slots[usize::from(at)] {
                let row = &self.rows[usize::from(slot) * self.replicas..][..self.replicas];
                if row[0] != at {
                    continue;
                }
                for &next in &row[1..] {
                    if reached[usize::from(next)].0 == search {
                        continue;
                    }
                    reached[usize::from(next)] = (search, at, slot);
                    if self.has_too_few(next) {
                        return Some(next);
                    }
                    queue.push_back(next);
                }
            }
        }
        None
    }
}
