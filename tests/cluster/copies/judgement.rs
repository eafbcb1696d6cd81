//! Is what clients were told linearizable, key by key, and is every acknowledged write there?

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clients::{Diary, KEYS, Operation, What, shared};
use super::world::{HEALED_MAX, World};
use crate::history::{Event, Kind, linearizable};
use crate::support::wait::until_within;

/// Judges what clients wrote down, with what each node says now, when all is well again. How many
/// operations were refused, and of how many nobody can tell.
///
/// # Panics
/// When something was told that cannot be, or an acknowledged write is gone.
#[track_caller]
pub fn judge(world: &World, diaries: Vec<Diary>, clock: &AtomicU64, seed: u64) -> (usize, usize) {
    let mut by_key: BTreeMap<usize, Vec<Operation>> = BTreeMap::new();
    let mut sums = Diary::default();
    for diary in diaries {
        for operation in diary.operations {
            by_key.entry(operation.key).or_default().push(operation);
        }
        sums.unique.extend(diary.unique);
        sums.refused += diary.refused;
        sums.unknown += diary.unknown;
        sums.wrong.extend(diary.wrong);
    }
    assert!(sums.wrong.is_empty(), "seed {seed}: {:#?}", sums.wrong);
    for at in 0..3 {
        for key in 0..KEYS {
            let begun = clock.fetch_add(1, Ordering::SeqCst);
            let value = last_value(world, at, &shared(key));
            let ended = Some(clock.fetch_add(1, Ordering::SeqCst));
            let what = What::Read(value.map(|text| text.parse().expect("a number")));
            by_key.entry(key).or_default().push(Operation { key, what, begun, ended });
        }
    }
    for (key, operations) in &by_key {
        let events: Vec<Event> = operations.iter().map(event).collect();
        if let Err(why) = linearizable(&events) {
            panic!("seed {seed}: the history of {} is not linearizable: {why}", shared(*key));
        }
    }
    let mut lost = Vec::new();
    for (path, acknowledged) in &sums.unique {
        let found = last_value(world, 0, path);
        match found {
            Some(text) => assert_eq!(text, *path, "seed {seed}: another's value"),
            None if *acknowledged => lost.push(path),
            None => {}
        }
    }
    assert!(lost.is_empty(), "seed {seed}: {} acknowledged writes are lost: {lost:?}", lost.len());
    (sums.refused, sums.unknown)
}

#[track_caller]
fn last_value(world: &World, at: usize, path: &str) -> Option<String> {
    // A node may be without a lease for a moment where a leader is chosen anew; it says so, and what it
    // says of the key later counts.
    until_within(&format!("a quorum tells of {path}"), HEALED_MAX, || {
        let answer = world.ask(at, "GET", path, "Ringway-Consistency: quorum\r\n", b"")?;
        match answer.status {
            200 => Some(Some(answer.text())),
            404 => Some(None),
            503 => None,
            _ => panic!("{path}: {answer:?}"),
        }
    })
}

fn event(operation: &Operation) -> Event {
    let kind = match operation.what {
        What::Write(value) => Kind::Write(Some(value)),
        What::Delete => Kind::Write(None),
        What::Read(value) => Kind::Read(value),
    };
    Event { kind, begun: operation.begun, ended: operation.ended }
}
