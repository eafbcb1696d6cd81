//! What if nobody who should have more fits where somebody has too much?
//!
//! Then a place goes from hand to hand: the giver's to a second shard, one of the second's to a third,
//! until one comes to a taker. The shortest such way is found by looking at the shards in the order
//! in which they can be reached, as augmenting paths are found in matchings; and one that was found is
//! gone as often as it bears. Places that are filled anew by the plan are used first: that they are
//! filled otherwise moves nothing more.
//!
//! With many shards there is always somebody near, and exchanges do. With a dozen in few zones, and
//! unequal weights, quotas are met by ways of three and four steps only.

use std::collections::VecDeque;

use super::planner::Planner;
use super::table::NONE;

/// With more shards than this, pairs of them are too many to be remembered.
pub(super) const SHARDS_MAX: usize = 64;

/// The search: for each pair of shards, how far the places of the one were looked through for one
/// that the other can have.
struct Ways {
    count: usize,
    /// By shard, and those without one last.
    places: Vec<Vec<usize>>,
    looked: Vec<usize>,
}

/// Meets the quotas by ways as far as they can be met.
pub(super) fn by_ways(planner: &mut Planner<'_>) {
    let count = planner.held.len();
    loop {
        let mut ways = Ways::of(planner);
        let mut goes_on = false;
        for from in 0..=count {
            while planner.has_patience() && ways.has_to_give(planner, from) {
                let Some(way) = ways.find(planner, from) else { break };
                let mut bears = ways.go(planner, &way);
                goes_on |= bears;
                while bears && ways.has_to_give(planner, from) {
                    bears = ways.go(planner, &way);
                }
            }
        }
        if !goes_on || !planner.has_patience() {
            return;
        }
    }
}

impl Ways {
    fn of(planner: &Planner<'_>) -> Self {
        let count = planner.held.len();
        let mut places = vec![Vec::new(); count + 1];
        for anew in [true, false] {
            for (place, shard) in planner.rows.iter().enumerate() {
                if planner.came[place] == anew {
                    places[if *shard == NONE { count } else { usize::from(*shard) }].push(place);
                }
            }
        }
        Self { count, places, looked: vec![0; (count + 1) * count] }
    }

    fn has_to_give(&self, planner: &Planner<'_>, from: usize) -> bool {
        match from == self.count {
            true => planner.rows.contains(&NONE),
            false => planner.held[from] > planner.quotas.copies[from],
        }
    }

    /// The shards from `from` to a taker.
    fn find(&mut self, planner: &mut Planner<'_>, from: usize) -> Option<Vec<usize>> {
        let mut reached_from = vec![usize::MAX; self.count + 1];
        reached_from[from] = from;
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            for next in 0..self.count {
                if reached_from[next] != usize::MAX || self.place(planner, at, next).is_none() {
                    continue;
                }
                reached_from[next] = at;
                if planner.held[next] >= planner.quotas.copies[next] {
                    queue.push_back(next);
                    continue;
                }
                let mut way = vec![next];
                let mut last = next;
                while last != from {
                    last = reached_from[last];
                    way.push(last);
                }
                way.reverse();
                return Some(way);
            }
        }
        None
    }

    /// A place of `from` that `to` can have.
    fn place(&mut self, planner: &mut Planner<'_>, from: usize, to: usize) -> Option<usize> {
        let shard = u16::try_from(to).unwrap_or(NONE);
        let owner = if from == self.count { NONE } else { u16::try_from(from).unwrap_or(NONE) };
        let looked = &mut self.looked[from * self.count + to];
        while let Some(&place) = self.places[from].get(*looked) {
            if !planner.has_patience() {
                return None;
            }
            if planner.rows[place] == owner && planner.fits(place, shard) {
                return Some(place);
            }
            *looked += 1;
        }
        None
    }

    /// Goes a way once, from its end: whoever has given then has too little until the next has given.
    fn go(&mut self, planner: &mut Planner<'_>, way: &[usize]) -> bool {
        let Some(&end) = way.last() else { return false };
        if planner.held[end] >= planner.quotas.copies[end] {
            return false;
        }
        for pair in way.windows(2).rev() {
            let Some(place) = self.place(planner, pair[0], pair[1]) else { return false };
            planner.put(place, u16::try_from(pair[1]).unwrap_or(NONE));
            self.places[pair[1]].push(place);
        }
        true
    }
}
