//! A judge that is wrong proves nothing: it is judged by two others.

use std::collections::BTreeMap;

use todc_utils::linearizability::history::Action;
use todc_utils::linearizability::{WGLChecker, history::History};
use todc_utils::specifications::Specification;

use super::{Event, Kind, linearizable};

fn write(value: u64, begun: u64, ended: u64) -> Event {
    Event { kind: Kind::Write(Some(value)), begun, ended: Some(ended) }
}

fn delete(begun: u64, ended: u64) -> Event {
    Event { kind: Kind::Write(None), begun, ended: Some(ended) }
}

fn read(value: Option<u64>, begun: u64, ended: u64) -> Event {
    Event { kind: Kind::Read(value), begun, ended: Some(ended) }
}

fn unknown(event: Event) -> Event {
    Event { ended: None, ..event }
}

#[test]
fn known_histories_are_judged_as_they_should_be() {
    let good: &[&[Event]] = &[
        &[],
        &[read(None, 0, 1)],
        &[write(1, 0, 1), read(Some(1), 2, 3), delete(4, 5), read(None, 6, 7)],
        // Both may be seen while they overlap, in one order.
        &[write(1, 0, 9), write(2, 0, 9), read(Some(2), 1, 2), read(Some(1), 3, 4)],
        // An unknown write may take effect late, or never.
        &[unknown(write(1, 0, 0)), read(None, 1, 2), read(Some(1), 8, 9)],
        &[write(1, 0, 1), unknown(write(2, 2, 2)), read(Some(1), 8, 9)],
        &[write(1, 0, 1), unknown(delete(2, 2)), read(Some(1), 3, 4), read(None, 5, 6)],
        // Operations that touch are concurrent.
        &[write(1, 0, 5), read(None, 5, 6)],
    ];
    for events in good {
        assert_eq!(linearizable(events), Ok(()), "{events:?}");
    }
    let bad: &[&[Event]] = &[
        // Never written.
        &[read(Some(1), 0, 1)],
        // Lost.
        &[write(1, 0, 1), read(None, 2, 3)],
        // A read that goes back.
        &[write(1, 0, 1), write(2, 2, 9), read(Some(2), 3, 4), read(Some(1), 5, 6)],
        // One write that takes effect twice, as by stamping it anew: 2, 1, 2.
        &[
            write(2, 0, 20),
            read(Some(2), 1, 2),
            write(1, 3, 4),
            read(Some(1), 5, 6),
            read(Some(2), 7, 8),
        ],
        // Deleted, and back again.
        &[write(1, 0, 1), delete(2, 3), read(None, 4, 5), read(Some(1), 6, 7)],
        // An unknown write that is read before it began.
        &[read(Some(1), 0, 1), unknown(write(1, 2, 2))],
        // One deletion does not explain two losses.
        &[
            write(1, 0, 1),
            unknown(delete(2, 2)),
            read(None, 3, 4),
            write(2, 5, 6),
            read(None, 7, 8),
        ],
    ];
    for events in bad {
        assert!(linearizable(events).is_err(), "{events:?}");
    }
}

/// Small histories: some that a real register gave, some with an answer changed, some made up.
fn random_history(rng: &mut fastrand::Rng) -> Vec<Event> {
    let count = rng.usize(1..=7);
    let mut values = vec![None];
    let mut events: Vec<Event> = (0..count)
        .map(|number| {
            let begun = rng.u64(0..24);
            let ended = Some(begun + rng.u64(0..12));
            let kind = match rng.u8(0..10) {
                0..=4 => Kind::Read(None),
                5..=8 => Kind::Write(Some(number as u64 + 1)),
                _ => Kind::Write(None),
            };
            Event { kind, begun, ended }
        })
        .collect();
    // What a register answers when each takes effect at a moment of its own.
    let mut moments: Vec<(u64, usize)> = events
        .iter()
        .enumerate()
        .map(|(at, event)| (rng.u64(event.begun..=event.ended.unwrap_or(event.begun)), at))
        .collect();
    moments.sort_unstable();
    let mut value = None;
    for (_, at) in moments {
        match &mut events[at].kind {
            Kind::Write(written) => {
                value = *written;
                values.push(value);
            }
            Kind::Read(found) => *found = value,
        }
    }
    for event in &mut events {
        match &mut event.kind {
            Kind::Read(found) if rng.bool() => {
                *found = values[rng.usize(0..values.len())];
            }
            Kind::Write(_) if rng.u8(0..5) == 0 => event.ended = None,
            _ => {}
        }
    }
    events
}

/// All complete histories that a history with unknown ends may be: each of these never happened, or
/// ended when all was over.
fn completions(events: &[Event]) -> Vec<Vec<Event>> {
    let mut all = vec![Vec::new()];
    for event in events {
        let with = |end: Option<u64>| Event { ended: end, ..*event };
        all = match event.ended {
            Some(_) => all.into_iter().map(|so_far| [so_far, vec![*event]].concat()).collect(),
            None => all
                .into_iter()
                .flat_map(|so_far| [so_far.clone(), [so_far, vec![with(Some(1000))]].concat()])
                .collect(),
        };
    }
    all
}

/// Tries every order.
fn by_every_order(events: &[Event]) -> bool {
    fn go(left: &[Event], value: Option<u64>) -> bool {
        if left.is_empty() {
            return true;
        }
        // Only what began before every other of those left has ended may be next.
        let first_end = left.iter().filter_map(|event| event.ended).min();
        left.iter().enumerate().any(|(at, event)| {
            let may_be_next = first_end.is_none_or(|end| event.begun <= end);
            let next = match event.kind {
                Kind::Write(written) => written,
                Kind::Read(found) if found == value => value,
                Kind::Read(_) => return false,
            };
            let rest = [&left[..at], &left[at + 1..]].concat();
            may_be_next && go(&rest, next)
        })
    }
    completions(events).iter().any(|complete| go(complete, None))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Read(Option<Option<u64>>),
    Write(Option<u64>),
}

struct Register;

impl Specification for Register {
    type State = Option<u64>;
    type Operation = Asked;

    fn init() -> Self::State {
        None
    }

    fn apply(operation: &Asked, state: &Self::State) -> (bool, Self::State) {
        match operation {
            Asked::Read(found) => (*found == Some(*state), *state),
            Asked::Write(value) => (true, *value),
        }
    }
}

/// By the checker of another author.
fn by_todc(events: &[Event]) -> bool {
    completions(events).iter().any(|complete| {
        let mut actions: BTreeMap<(u64, bool, usize), Action<Asked>> = BTreeMap::new();
        for (process, event) in complete.iter().enumerate() {
            let ended = event.ended.expect("complete");
            let (call, response) = match event.kind {
                Kind::Write(value) => (Asked::Write(value), Asked::Write(value)),
                Kind::Read(found) => (Asked::Read(None), Asked::Read(Some(found))),
            };
            actions.insert((event.begun, false, process), Action::Call(call));
            actions.insert((ended, true, process), Action::Response(response));
        }
        let actions: Vec<_> =
            actions.into_iter().map(|((_, _, process), action)| (process, action)).collect();
        actions.is_empty()
            || WGLChecker::<Register>::is_linearizable(History::from_actions(actions))
    })
}

#[test]
fn three_judges_agree_on_small_histories() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut good = 0;
    let rounds = 3000;
    for round in 0..rounds {
        let events = random_history(&mut rng);
        let verdict = linearizable(&events);
        assert_eq!(verdict.is_ok(), by_every_order(&events), "{round}: {verdict:?}: {events:?}");
        assert_eq!(verdict.is_ok(), by_todc(&events), "{round}: {verdict:?}: {events:?}");
        good += u32::from(verdict.is_ok());
    }
    assert!(good > rounds / 4 && good < rounds * 9 / 10, "{good} of {rounds} are linearizable");
}

/// A long history of a busy key is judged in no time.
#[test]
fn a_long_history_is_judged() {
    let mut rng = fastrand::Rng::with_seed(12);
    let (mut events, mut value, mut now) = (Vec::new(), None, 0);
    for number in 1..=2000u64 {
        now += rng.u64(0..4);
        let begun = now - rng.u64(0..8).min(now);
        let ended = now + rng.u64(0..12);
        let kind = match rng.u8(0..10) {
            0..=4 => Kind::Read(value),
            5..=8 => {
                value = Some(number);
                Kind::Write(value)
            }
            _ => {
                value = None;
                Kind::Write(None)
            }
        };
        events.push(Event { kind, begun, ended: Some(ended) });
        // Many of which nobody knows, and which never happened.
        if rng.u8(0..20) == 0 {
            let kind =
                if rng.bool() { Kind::Write(Some(number + 1_000_000)) } else { Kind::Write(None) };
            events.push(Event { kind, begun: now, ended: None });
        }
    }
    assert_eq!(linearizable(&events), Ok(()));
    events.push(read(Some(1), now + 100, now + 101));
    assert!(linearizable(&events).is_err());
}
