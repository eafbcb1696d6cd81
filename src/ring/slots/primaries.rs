//! Which shard of each slot comes first?
//!
//! Each shard shall be the primary of its share of slots. To change a primary moves no data, but it
//! moves what is in caches, so few are changed: a shard with too many hands one over to another of
//! the same slot, which hands one over in another slot, until one has it that has too few. The
//! shortest such way is taken, as often as it bears. There is one unless the sets themselves do not
//! allow the shares.

use std::collections::VecDeque;

use super::quota;
use crate::ring::spec::Member;

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
    if now == shares {
        return;
    }
    let mut balance =
        Balance { rows, replicas, now, shares, slots: vec![Vec::new(); members.len()] };
    balance.directly();
    while let Some(way) = balance.find() {
        if !balance.go(way) {
            return;
        }
    }
}

struct Balance<'a> {
    rows: &'a mut [u16],
    replicas: usize,
    now: Vec<u32>,
    shares: Vec<u32>,
    /// Slots that a shard is the primary of, or was.
    slots: Vec<Vec<u16>>,
}

/// One hand-over of a way, and from where in its list on a shard has more such slots.
#[derive(Clone, Copy)]
struct Step {
    from: u16,
    to: u16,
    at: usize,
}

impl Balance<'_> {
    fn row(&self, slot: u16) -> &[u16] {
        &self.rows[usize::from(slot) * self.replicas..][..self.replicas]
    }

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
            let row = self.row(slot);
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

    /// The shortest way from anybody with too many to anybody with too few, from its end.
    fn find(&self) -> Option<Vec<Step>> {
        let shards = 0..u16::try_from(self.now.len()).unwrap_or(u16::MAX);
        let mut waiting: VecDeque<u16> = shards.filter(|shard| self.has_too_many(*shard)).collect();
        let mut is_reached = vec![false; self.now.len()];
        waiting.iter().for_each(|source| is_reached[usize::from(*source)] = true);
        let mut last: Vec<Option<Step>> = vec![None; self.now.len()];
        while let Some(from) = waiting.pop_front() {
            for (at, slot) in self.slots[usize::from(from)].iter().enumerate() {
                let row = self.row(*slot);
                if row[0] != from {
                    continue;
                }
                for &to in &row[1..] {
                    if std::mem::replace(&mut is_reached[usize::from(to)], true) {
                        continue;
                    }
                    last[usize::from(to)] = Some(Step { from, to, at });
                    if self.has_too_few(to) {
                        let next = |step: &Step| last[usize::from(step.from)];
                        return Some(std::iter::successors(last[usize::from(to)], next).collect());
                    }
                    waiting.push_back(to);
                }
            }
        }
        None
    }

    /// Goes a way as often as it bears; tells whether it bore once.
    fn go(&mut self, mut way: Vec<Step>) -> bool {
        let (Some(end), Some(source)) = (way.first(), way.last()) else { return false };
        let (end, source) = (end.to, source.from);
        let mut bore = false;
        while self.has_too_few(end) && self.has_too_many(source) {
            let mut slots = Vec::with_capacity(way.len());
            for step in &mut way {
                let Some(slot) = self.next_slot(step) else { return bore };
                slots.push(slot);
            }
            // No slot is there twice: each has another first.
            slots.into_iter().zip(&way).for_each(|(slot, step)| self.give(slot, step.to));
            bore = true;
        }
        bore
    }

    fn next_slot(&self, step: &mut Step) -> Option<u16> {
        while let Some(&slot) = self.slots[usize::from(step.from)].get(step.at) {
            let row = self.row(slot);
            if row[0] == step.from && row.contains(&step.to) {
                return Some(slot);
            }
            step.at += 1;
        }
        None
    }
}
