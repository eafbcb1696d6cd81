//! Is there one order of all operations on a key that explains every answer?
//!
//! Linearizability (Herlihy and Wing, 1990): each operation takes effect at one moment between its
//! beginning and its end. Wing and Gong (*Testing and Verifying Concurrent Objects*, 1993) search
//! for such an order; as Lowe (*Testing for Linearizability*, 2017, section 4) does "just in time",
//! we go through the history once, from event to event, and carry along every state that the key
//! may be in together with those of the operations under way that have taken effect in it. An
//! operation that ends must have taken effect; states in which it has not are extended by those
//! that are under way until it has, or dropped. When none is left, the history has no order.
//!
//! Keys are independent of each other, so each is judged alone (Herlihy and Wing: linearizability is
//! local). What would make the search explode are writes whose end nobody knows: they stay under way
//! for ever. Since each value is written once, three things hold:
//!
//! 1. A write of unknown end whose value was never read may be left out: take any order, and no
//!    read in it misses that write.
//! 2. One whose value was read took effect before the first such read ended; so that is its end.
//! 3. Deletions of unknown end are all alike: of those that have begun it counts only how many have
//!    taken effect, and of two states that differ in nothing else the one with fewer is as good.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Event, Kind};

/// Something that happens in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// An operation, by its place, begins.
    Begins(usize),
    /// A deletion begins whose end nobody knows.
    MayDelete,
    /// The operation ends.
    Ends(usize),
}

/// One way in which things may stand: the key's value, and the operations under way that have taken
/// effect, a bit for the seat of each. A read takes effect as soon as its value is there, since
/// waiting gains it nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    value: Option<u64>,
    done: u64,
}

/// The ways, each with the least number of deletions of unknown end that it takes.
type Ways = BTreeMap<Way, usize>;

/// The operations under way, each in a seat: its number in the masks.
#[derive(Debug, Default)]
struct Seats(Vec<Option<(usize, Kind)>>);

impl Seats {
    fn take(&mut self, place: usize, kind: Kind) -> usize {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        assert!(free < 64, "at most 64 operations on one key are under way at once");
        self.0.resize(self.0.len().max(free + 1), None);
        self.0[free] = Some((place, kind));
        free
    }

    fn of(&self, place: usize) -> usize {
        let is_it = |seat: &Option<(usize, Kind)>| seat.is_some_and(|(found, _)| found == place);
        self.0.iter().position(is_it).expect("what ends has begun")
    }

    fn iter(&self) -> impl Iterator<Item = (usize, Kind)> + '_ {
        self.0.iter().enumerate().filter_map(|(seat, taken)| Some((seat, taken.as_ref()?.1)))
    }

    /// The way with all reads done that its value explains.
    fn with_reads(&self, way: Way) -> Way {
        let explained = self.iter().filter(|(_, kind)| *kind == Kind::Read(way.value));
        Way { done: explained.fold(way.done, |done, (seat, _)| done | (1 << seat)), ..way }
    }
}

/// Judges the history of one key that has no value at first.
///
/// # Errors
/// The operation that no order explains, with what was going on beside it.
///
/// # Panics
/// If two writes give the same value, or an operation ends before it begins: then the history was
/// taken down wrongly.
pub fn linearizable(events: &[Event]) -> Result<(), String> {
    let (events, may_delete) = with_ends(events);
    let mut steps: Vec<(u64, Step)> = may_delete.iter().map(|&at| (at, Step::MayDelete)).collect();
    for (place, (kind, begun, ended)) in events.iter().enumerate() {
        assert!(begun <= ended, "{kind:?} ends before it begins");
        steps.push((*begun, Step::Begins(place)));
        steps.push((*ended, Step::Ends(place)));
    }
    // At one moment beginnings come first: operations that touch are concurrent.
    let rank = |step: &Step| matches!(step, Step::Ends(_));
    steps.sort_by_key(|(at, step)| (*at, rank(step), *step));

    let mut seats = Seats::default();
    let mut deletions = 0;
    let mut ways = Ways::from([(Way { value: None, done: 0 }, 0)]);
    for (at, step) in steps {
        match step {
            Step::Begins(place) => {
                let kind = events[place].0;
                let seat = seats.take(place, kind);
                if let Kind::Read(value) = kind {
                    let done = |way: Way| match way.value == value {
                        true => Way { done: way.done | (1 << seat), ..way },
                        false => way,
                    };
                    ways = ways.into_iter().map(|(way, deleted)| (done(way), deleted)).collect();
                }
            }
            Step::MayDelete => deletions += 1,
            Step::Ends(place) => {
                let seat = seats.of(place);
                let left = after_end(&ways, seat, &seats, deletions);
                if left.is_empty() {
                    return Err(tell(at, events[place], &seats, &ways));
                }
                ways = left;
                seats.0[seat] = None;
            }
        }
    }
    Ok(())
}

/// The operations with their beginnings and ends, those of unknown end bounded or left out, and the
/// beginnings of the deletions of unknown end.
fn with_ends(events: &[Event]) -> (Vec<(Kind, u64, u64)>, Vec<u64>) {
    let mut first_read_ends: BTreeMap<u64, u64> = BTreeMap::new();
    let mut written = BTreeSet::new();
    for event in events {
        match (event.kind, event.ended) {
            (Kind::Read(Some(value)), Some(ended)) => {
                let first = first_read_ends.entry(value).or_insert(ended);
                *first = ended.min(*first);
            }
            (Kind::Write(Some(value)), _) => {
                assert!(written.insert(value), "two writes give {value}");
            }
            _ => {}
        }
    }
    let mut bounded = Vec::new();
    let mut may_delete = Vec::new();
    for event in events {
        match (event.kind, event.ended) {
            (kind, Some(ended)) => bounded.push((kind, event.begun, ended)),
            (Kind::Write(Some(value)), None) => {
                if let Some(&ended) = first_read_ends.get(&value) {
                    // A read that ended before the write began is explained by nothing.
                    bounded.push((event.kind, event.begun, ended.max(event.begun)));
                }
            }
            (Kind::Write(None), None) => may_delete.push(event.begun),
            (Kind::Read(_), None) => {}
        }
    }
    (bounded, may_delete)
}

/// The ways that are left when the operation in a seat ends.
fn after_end(ways: &Ways, ending: usize, seats: &Seats, deletions: usize) -> Ways {
    let mut left = Ways::new();
    let mut seen = Ways::new();
    let mut open: Vec<(Way, usize)> = ways.iter().map(|(&way, &deleted)| (way, deleted)).collect();
    while let Some((way, deleted)) = open.pop() {
        if seen.get(&way).is_some_and(|&fewer| fewer <= deleted) {
            continue;
        }
        seen.insert(way, deleted);
        if way.done & (1 << ending) != 0 {
            let over = Way { done: way.done & !(1 << ending), ..way };
            let least = left.entry(over).or_insert(deleted);
            *least = deleted.min(*least);
            // What else may have taken effect by now may also do so later.
            continue;
        }
        for (seat, kind) in seats.iter() {
            if let Kind::Write(value) = kind
                && way.done & (1 << seat) == 0
            {
                let written = Way { value, done: way.done | (1 << seat) };
                open.push((seats.with_reads(written), deleted));
            }
        }
        if deleted < deletions && way.value.is_some() {
            open.push((seats.with_reads(Way { value: None, ..way }), deleted + 1));
        }
    }
    left
}

fn tell(at: u64, (kind, begun, _): (Kind, u64, u64), seats: &Seats, ways: &Ways) -> String {
    let beside: Vec<Kind> = seats.iter().map(|(_, kind)| kind).collect();
    let values: BTreeSet<Option<u64>> = ways.keys().map(|way| way.value).collect();
    format!(
        "{kind:?}, from {begun} to {at}: the key may have been {values:?}, and under way were {beside:?}"
    )
}
