//! The log of hints, through kills, damage and disks that refuse.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::log::take_in;
use super::{HintLog, HintSink};
use crate::ids::{PoolName, ShardId, Token};
use crate::protocol::handoff::Hint;
use crate::version::{Stamp, Version};

fn pool() -> PoolName {
    PoolName::new("p").expect("a name")
}

fn shard(name: &str) -> ShardId {
    ShardId::new(name).expect("a name")
}

fn hint(of: &str, key: &str, stamp: u64) -> Hint {
    let version = Version { stamp: Stamp(stamp), ..Version::NONE };
    let key = Arc::from(key.as_bytes());
    Hint { pool: pool(), shard: shard(of), key, token: Token(stamp ^ 77), version }
}

fn names(sink: &HintSink, of: &str) -> Vec<(String, u64)> {
    let batch = sink.batch(&pool(), &shard(of), 0, usize::MAX);
    let name = |hint: &Hint| String::from_utf8_lossy(&hint.key).into_owned();
    batch.iter().map(|(_, hint)| (name(hint), hint.version.stamp.0)).collect()
}

fn file(folder: &Path) -> std::path::PathBuf {
    folder.join("hints.log")
}

/// What a killed process leaves: its file as it stood, without the orderly end of its log.
fn killed(folder: &Path, log: HintLog) {
    log.flush();
    let bytes = fs::read(file(folder)).expect("a log");
    drop(log);
    fs::write(file(folder), bytes).expect("written");
}

#[test]
fn hints_survive_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = HintLog::open(folder.path(), 100).expect("opened");
    for (key, stamp) in [("one", 1), ("two", 2), ("three", 3), ("two", 9)] {
        log.sink().leave(hint("a", key, stamp));
    }
    log.sink().settle(hint("a", "one", 1));
    killed(folder.path(), log);

    let log = HintLog::open(folder.path(), 100).expect("opened again");
    let meant = vec![("two".to_owned(), 9), ("three".to_owned(), 3)];
    assert_eq!(names(&log.sink(), "a"), meant);
    let held = log.sink().batch(&pool(), &shard("a"), 0, 1);
    assert_eq!(held[0].1.token, Token(2 ^ 77), "the token of the first hint of the key");
}

#[test]
fn a_damaged_tail_is_cut_wherever_it_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = HintLog::open(folder.path(), 100).expect("opened");
    let mut lengths = Vec::new();
    for number in 0..3 {
        log.sink().leave(hint("a", &format!("key-{number}"), number));
        log.flush();
        lengths.push(fs::metadata(file(folder.path())).expect("a log").len());
    }
    let whole = fs::read(file(folder.path())).expect("a log");
    drop(log);
    for cut in 16..whole.len() {
        fs::write(file(folder.path()), &whole[..cut]).expect("written");
        let left = lengths.iter().filter(|length| **length <= cut as u64).count();
        let log = HintLog::open(folder.path(), 100).expect("opened");
        assert_eq!(names(&log.sink(), "a").len(), left, "cut at {cut}");
        // What comes after the cut is read again.
        log.sink().leave(hint("a", "later", 50));
        killed(folder.path(), log);
        let log = HintLog::open(folder.path(), 100).expect("opened again");
        assert_eq!(names(&log.sink(), "a").len(), left + 1, "cut at {cut}, then written");
    }
    for flipped in 16..whole.len() {
        let mut bytes = whole.clone();
        bytes[flipped] ^= 0x10;
        fs::write(file(folder.path()), &bytes).expect("written");
        let intact = lengths.iter().filter(|length| **length <= flipped as u64).count();
        let log = HintLog::open(folder.path(), 100).expect("opened");
        let found = names(&log.sink(), "a");
        assert_eq!(found.len(), intact, "a bit of byte {flipped} flipped");
    }
}

#[test]
fn a_file_of_another_kind_is_moved_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(file(folder.path()), "RINGWAYHINTS9\n and what a later release writes").expect("ok");
    let log = HintLog::open(folder.path(), 100).expect("opened");
    assert!(log.sink().pending().is_empty());
    assert!(folder.path().join("hints.log.unknown").exists());
    // A file that a crash left before its first line was whole is no other's.
    drop(log);
    fs::write(file(folder.path()), "RINGWAYH").expect("written");
    let log = HintLog::open(folder.path(), 100).expect("opened");
    log.sink().leave(hint("a", "k", 1));
    log.flush();
    assert_eq!(names(&log.sink(), "a").len(), 1);
}

#[test]
fn a_full_log_counts_what_it_loses_and_remembers_whom_it_failed() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = HintLog::open(folder.path(), 2).expect("opened");
    for key in ["one", "two", "three"] {
        log.sink().leave(hint("a", key, 1));
    }
    log.flush();
    let counts = log.sink().counts();
    assert_eq!((counts.taken, counts.lost), (2, 1));
    assert!(log.sink().pending_of(&pool(), &shard("a")).overflowed);
    killed(folder.path(), log);
    let log = HintLog::open(folder.path(), 2).expect("opened again");
    assert!(log.sink().pending_of(&pool(), &shard("a")).overflowed);
    log.sink().compared(&pool(), &shard("a"));
    log.sink().forget(&pool(), &shard("a"));
    killed(folder.path(), log);
    let log = HintLog::open(folder.path(), 2).expect("opened again");
    assert!(log.sink().pending().is_empty());
}

#[test]
fn the_file_does_not_grow_with_what_is_settled() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = HintLog::open(folder.path(), 100_000).expect("opened");
    let key = "k".repeat(900);
    log.sink().leave(hint("b", "kept", 1));
    for number in 0..5000 {
        log.sink().leave(hint("a", &format!("{key}{number}"), number));
        log.sink().settle(hint("a", &format!("{key}{number}"), number));
        if number % 500 == 0 {
            log.flush();
        }
    }
    log.flush();
    let length = fs::metadata(file(folder.path())).expect("a log").len();
    assert!(length < 3 * 1024 * 1024, "{length} bytes for one hint");
    killed(folder.path(), log);
    let log = HintLog::open(folder.path(), 100).expect("opened again");
    assert_eq!(names(&log.sink(), "b"), [("kept".to_owned(), 1)]);
    assert_eq!(names(&log.sink(), "a"), []);
}

#[test]
fn a_disk_that_fails_loses_no_hint_while_the_node_lives() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = HintLog::open(folder.path(), 100).expect("opened");
    log.sink().leave(hint("a", "one", 1));
    log.flush();
    // The next file cannot be put in its place: a folder stands where it is written aside. An
    // empty book asks for one.
    fs::create_dir(folder.path().join("hints.log.new")).expect("created");
    log.sink().settle(hint("a", "one", 1));
    log.flush();
    assert!(log.sink().counts().failed_writes > 0);
    log.sink().leave(hint("a", "two", 2));
    log.flush();
    assert_eq!(names(&log.sink(), "a"), [("two".to_owned(), 2)]);
    // When it can be written again, all is.
    fs::remove_dir(folder.path().join("hints.log.new")).expect("removed");
    log.sink().leave(hint("a", "three", 3));
    killed(folder.path(), log);
    let log = HintLog::open(folder.path(), 100).expect("opened again");
    assert_eq!(names(&log.sink(), "a"), [("two".to_owned(), 2), ("three".to_owned(), 3)]);
}

/// The thread ended without a word, and hints with it: none was written any more, and no shard was
/// said to have missed anything.
#[test]
fn a_defect_of_the_thread_costs_a_batch_and_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut batches = 0;
    let take = move |notes: &mut Vec<_>, shared: &_, writer: &mut _| {
        batches += 1;
        assert!(batches != 2, "the second batch meets a defect");
        take_in(notes, shared, writer)
    };
    let log = HintLog::open_with(folder.path(), 100, take).expect("opened");
    log.sink().leave(hint("a", "one", 1));
    log.flush();
    let overflowed = |of| log.sink().pending_of(&pool(), &shard(of)).overflowed;
    log.sink().leave(hint("b", "two", 2));
    // Noted by itself, within a second or two.
    until(|| overflowed("b"));
    assert_eq!((log.sink().counts().restarts, overflowed("a")), (1, false));
    log.sink().leave(hint("a", "three", 3));
    log.flush();
    killed(folder.path(), log);
    let log = HintLog::open(folder.path(), 100).expect("opened again");
    assert_eq!(names(&log.sink(), "a"), [("one".to_owned(), 1), ("three".to_owned(), 3)]);
    assert!(log.sink().pending_of(&pool(), &shard("b")).overflowed, "it survives a kill");
}

/// The order to end was in the batch that met the defect. It does not come twice, and whoever dropped the
/// log waited for its thread for ever.
#[test]
fn a_defect_in_the_last_batch_holds_up_nobodys_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let take = |_: &mut Vec<_>, _: &_, _: &mut _| -> std::io::Result<()> {
        panic!("every batch meets a defect")
    };
    let log = HintLog::open_with(folder.path(), 100, take).expect("opened");
    let sink = log.sink();
    sink.leave(hint("a", "one", 1));
    let (ended, waits) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        log.flush();
        drop(log);
        ended.send(()).expect("the test waits");
    });
    waits.recv_timeout(std::time::Duration::from_secs(60)).expect("it ends");
    assert!(sink.counts().restarts >= 2, "each that is waited for is tried again");
}

/// It was the last hint of all, and nothing that came later had the thread look for it.
#[test]
fn the_last_hint_that_finds_the_queue_full_is_noted_as_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let (go, waits) = std::sync::mpsc::sync_channel::<()>(1);
    let take = move |notes: &mut Vec<_>, shared: &_, writer: &mut _| {
        let taken = take_in(notes, shared, writer);
        // Held up for as long as the test wants.
        let _ = waits.recv();
        taken
    };
    let log = HintLog::open_with(folder.path(), 100, take).expect("opened");
    let sink = log.sink();
    for number in 0.. {
        sink.leave(hint("a", &format!("k{number}"), number));
        if sink.counts().lost > 0 {
            break;
        }
    }
    sink.leave(hint("b", "last", 1));
    assert!(!sink.pending_of(&pool(), &shard("b")).overflowed);
    drop(go);
    until(|| sink.pending_of(&pool(), &shard("b")).overflowed);
}

fn until(mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "in vain");
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
}
