//! What if nobody who should have more fits where somebody has too much?
//!
//! Then a place goes from hand to hand: a giver's place goes to a second shard, one of the second's to a
//! third, until one comes to a taker. Each hand-over has a price: 1 where the data must be brought to
//! the one who gets the place, less 1 if whoever gives it had been promised it by this very plan and
//! has not got it yet. So it costs nothing that a copy which moves anyway goes elsewhere, and that a
//! shard gets back what it was to give gains one.
//!
//! That is a flow of least cost from those with too much to those with too little, on a network that
//! has a node for each shard and is never written down: an edge from one to another is a place of the
//! one that the other [fits](Copies::fits). As long as always a cheapest way is taken, what was
//! reached so far is the cheapest of all plans that move so many (Busacker and Gowen 1960; Ford and
//! Fulkerson 1962), and so is the whole at the end. Prices of cheapest ways never fall. So the price
//! that the last one had is a bound: a way that has it is taken as soon as it is found, and the
//! network is searched whole only where the price goes up.

use std::collections::VecDeque;

use super::copies::Copies;
use super::table::NONE;

/// Places that are looked at in one plan. Whatever the members are, a plan must come to an end within
/// a second; what is left then is filled as well as can be.
const PATIENCE: u32 = 50_000_000;

/// Not reached.
const FAR: i32 = i32::MAX / 2;

/// Goes every way that moves nothing: after places were emptied, a shard may be found to be able to keep
/// what another was to give.
pub(super) fn for_nothing(copies: &mut Copies) {
    Ways::of(copies).go_all(0);
}

/// Meets the quotas as far as they can be met, by the cheapest ways.
pub(super) fn cheapest(copies: &mut Copies) {
    let has_holes = copies.rows.contains(&NONE);
    if has_holes || (0..copies.shards()).any(|shard| copies.gives(shard)) {
        Ways::of(copies).go_all(FAR - 1);
    }
}

/// The places of each shard, and those without one as the places of one shard more.
struct Ways<'a> {
    copies: &'a mut Copies,
    /// By list and shard. Places that have changed hands since stay in the list where they were.
    places: [Vec<Vec<u32>>; 3],
    /// By slot: whether it is otherwise than in the past.
    changed: Vec<bool>,
    holes: usize,
    by_zone: Vec<Vec<u16>>,
    patience: u32,
    /// By shard.
    labels: Vec<Label>,
    /// By zone: no label of its shards has a higher price.
    dearest: Vec<i32>,
}

/// The lists of places.
#[derive(Clone, Copy)]
enum List {
    /// Copies that are brought by this plan.
    New,
    /// Copies that stay, in slots that change: where a shard that was there may return.
    Beside,
    /// Copies that stay.
    Kept,
}

/// How a shard was reached.
#[derive(Clone, Copy)]
struct Label {
    /// What it costs to bring a copy more to it.
    price: i32,
    /// The hand-over by which it comes; none for those that have too much.
    last: Option<Step>,
    is_waiting: bool,
}

/// One hand-over to whoever has the label, and where to look for others like it.
#[derive(Clone, Copy)]
struct Step {
    from: usize,
    list: List,
    /// Number in the list.
    at: usize,
    price: i32,
}

impl<'a> Ways<'a> {
    fn of(copies: &'a mut Copies) -> Self {
        let count = copies.held.len() + 1;
        let room = |shard: usize| copies.held.get(shard).map_or(0, |held| *held as usize);
        let places = [
            vec![Vec::new(); count],
            vec![Vec::new(); count],
            (0..count).map(|shard| Vec::with_capacity(room(shard))).collect(),
        ];
        let mut by_zone = vec![Vec::new(); copies.quotas.bounds.len()];
        for shard in 0..copies.shards() {
            by_zone[usize::from(copies.quotas.zone[usize::from(shard)])].push(shard);
        }
        let mut ways = Self {
            places,
            changed: vec![false; copies.slots()],
            holes: 0,
            dearest: vec![FAR; by_zone.len()],
            by_zone,
            patience: PATIENCE,
            labels: Vec::with_capacity(count),
            copies,
        };
        for place in 0..ways.copies.rows.len() {
            ways.holes += usize::from(ways.copies.rows[place] == NONE);
            ways.list(place);
        }
        for slot in 0..ways.changed.len() {
            if ways.missing(slot).next().is_some() {
                ways.mark_changed(slot);
            }
        }
        ways
    }

    /// The number of a place's shard; holes are the last one's.
    fn owner(&self, place: usize) -> usize {
        match self.copies.rows[place] {
            NONE => self.copies.held.len(),
            shard => usize::from(shard),
        }
    }

    fn list(&mut self, place: usize) {
        let list = if self.copies.is_new(place) { List::New } else { List::Kept };
        let owner = self.owner(place);
        self.places[list as usize][owner].push(u32::try_from(place).unwrap_or(u32::MAX));
    }

    fn mark_changed(&mut self, slot: usize) {
        if std::mem::replace(&mut self.changed[slot], true) {
            return;
        }
        for place in self.copies.places(slot) {
            let owner = self.owner(place);
            self.places[List::Beside as usize][owner]
                .push(u32::try_from(place).unwrap_or(u32::MAX));
        }
    }

    /// Shards that had a slot and have it no more, though they are there.
    fn missing(&self, slot: usize) -> impl Iterator<Item = u16> {
        let row = &self.copies.rows[self.copies.places(slot)];
        let had = self.copies.past.row(slot).iter().copied();
        had.filter(move |shard| *shard != NONE && !row.contains(shard))
    }

    fn has_too_much(&self, owner: usize) -> bool {
        match u16::try_from(owner) {
            Ok(shard) if owner < self.copies.held.len() => self.copies.gives(shard),
            _ => self.holes > 0,
        }
    }

    /// Goes the cheapest ways, while they cost no more than `most`.
    fn go_all(&mut self, most: i32) {
        loop {
            self.search();
            let takers = (0..self.copies.shards()).filter(|shard| self.copies.takes(*shard));
            let takers: Vec<usize> = takers.map(usize::from).collect();
            let Some(price) = takers.iter().map(|taker| self.labels[*taker].price).min() else {
                return;
            };
            if price > most || price == FAR {
                return;
            }
            let mut bore = false;
            for taker in takers {
                bore |= self.labels[taker].price == price && self.go(taker);
            }
            if !bore {
                return;
            }
        }
    }

    /// Finds the cheapest way to each shard.
    fn search(&mut self) {
        let mut waiting = VecDeque::new();
        self.labels.clear();
        for owner in 0..=self.copies.held.len() {
            let is_source = self.has_too_much(owner);
            let price = if is_source { 0 } else { FAR };
            self.labels.push(Label { price, last: None, is_waiting: is_source });
            waiting.extend(is_source.then_some(owner));
        }
        self.dearest.fill(FAR);
        while let Some(from) = waiting.pop_front() {
            self.labels[from].is_waiting = false;
            if self.patience == 0 {
                return;
            }
            for list in [List::New, List::Beside, List::Kept] {
                self.look_from(from, list, &mut waiting);
            }
        }
    }

    /// Reaches from a shard who can have its places of one list.
    fn look_from(&mut self, from: usize, list: List, waiting: &mut VecDeque<usize>) {
        let places = std::mem::take(&mut self.places[list as usize][from]);
        let gain = i32::from(matches!(list, List::New));
        // Zones where somebody's label may become better by having the data brought there.
        let there = self.labels[from].price + 1 - gain;
        let mut zones: Vec<u16> = match list {
            List::Beside => Vec::new(),
            List::New | List::Kept => {
                let dearer = (0..).zip(&self.dearest).filter(|(_, dearest)| **dearest > there);
                dearer.map(|(zone, _)| zone).collect()
            }
        };
        for (at, place) in places.iter().enumerate() {
            if zones.is_empty() && matches!(list, List::Kept) {
                break;
            }
            let place = *place as usize;
            self.patience = self.patience.saturating_sub(1);
            if self.owner(place) != from || self.copies.is_new(place) != (gain == 1) {
                continue;
            }
            if !matches!(list, List::Kept) {
                let missing = self.missing(place / self.copies.replicas);
                let fitting: Vec<u16> = missing.filter(|to| self.copies.fits(place, *to)).collect();
                for to in fitting {
                    self.reach(to, Step { from, list, at, price: -gain }, waiting);
                }
            }
            zones.retain(|zone| {
                !self.copies.zone_fits(place, *zone)
                    || !self.reach_zone(
                        *zone,
                        place,
                        Step { from, list, at, price: 1 - gain },
                        waiting,
                    )
            });
        }
        self.places[list as usize][from] = places;
    }

    /// Reaches the shards of a zone that can have a place; tells whether these were all of them.
    fn reach_zone(
        &mut self,
        zone: u16,
        place: usize,
        step: Step,
        waiting: &mut VecDeque<usize>,
    ) -> bool {
        let shards = std::mem::take(&mut self.by_zone[usize::from(zone)]);
        let mut all = true;
        for to in &shards {
            let there = self.labels[step.from].price + step.price;
            if self.labels[usize::from(*to)].price <= there {
                continue;
            }
            match self.copies.would_be_new(place, *to) && !self.copies.is_beside(place, *to) {
                true => self.reach(*to, step, waiting),
                false => all = false,
            }
        }
        if all {
            let there = self.labels[step.from].price + step.price;
            self.dearest[usize::from(zone)] = there;
        }
        self.by_zone[usize::from(zone)] = shards;
        all
    }

    fn reach(&mut self, to: u16, step: Step, waiting: &mut VecDeque<usize>) {
        let price = self.labels[step.from].price + step.price;
        let to = usize::from(to);
        if self.labels[to].price <= price {
            return;
        }
        let was_waiting = self.labels[to].is_waiting;
        self.labels[to] = Label { price, last: Some(step), is_waiting: true };
        match step.price > 0 {
            _ if was_waiting => {}
            true => waiting.push_back(to),
            false => waiting.push_front(to),
        }
    }

    /// Goes the way to `end` as often as it bears; tells whether it bore once.
    fn go(&mut self, end: usize) -> bool {
        let mut way = vec![end];
        while let Some(step) = way.last().and_then(|at| self.labels[*at].last)
            && way.len() <= self.labels.len()
        {
            way.push(step.from);
        }
        let Some(source) = way.pop() else { return false };
        let takes = |ways: &Self| ways.copies.held[end] < ways.copies.quotas.copies[end];
        let mut bore = false;
        while takes(self) && self.has_too_much(source) {
            // From the end: whoever has given has too little until the next has given.
            let mut gone: Vec<(usize, u16)> = Vec::new();
            for to in &way {
                let Some(place) = self.next_place(*to) else { break };
                gone.push((place, self.copies.rows[place]));
                self.put(place, u16::try_from(*to).unwrap_or(NONE));
            }
            if gone.len() < way.len() {
                gone.into_iter().rev().for_each(|(place, shard)| self.put(place, shard));
                return bore;
            }
            bore = true;
        }
        bore
    }

    /// The next place by which a shard can be reached at the price of its label.
    fn next_place(&mut self, to: usize) -> Option<usize> {
        let mut step = self.labels[to].last?;
        let shard = u16::try_from(to).ok()?;
        let is_new = matches!(step.list, List::New);
        let returns = step.price == -i32::from(is_new);
        let mut found = None;
        while let Some(place) = self.places[step.list as usize][step.from].get(step.at) {
            let place = *place as usize;
            self.patience = self.patience.saturating_sub(1);
            if self.owner(place) == step.from
                && self.copies.is_new(place) == is_new
                && self.copies.would_be_new(place, shard) != returns
                && self.copies.fits(place, shard)
            {
                found = Some(place);
                break;
            }
            step.at += 1;
        }
        self.labels[to].last = Some(step);
        found
    }

    fn put(&mut self, place: usize, shard: u16) {
        self.holes -= usize::from(self.copies.rows[place] == NONE);
        self.holes += usize::from(shard == NONE);
        self.copies.put(place, shard);
        self.list(place);
        self.mark_changed(place / self.copies.replicas);
        let owner = self.owner(place);
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        self.places[List::Beside as usize][owner].push(place);
    }
}
