//! kill -9 of a store in the middle of writes, again and again.
//!
//! Each of four writers has its own keys and never writes the same bytes twice. A body tells from
//! its first 16 bytes what all of it must be, so that a reader beside them can judge anything
//! that it is served. After each kill the store is started on the same folder, and then for every
//! key, what it has is what was acknowledged last, or one of the attempts since then whose outcome
//! nobody learned; never anything older, never a part, and on the disk nothing else is left.
//!
//! 10 rounds; `RINGWAY_KILL_ROUNDS=200` for more.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::http_client::Client;
use crate::store_child::{StoreProcess, command, files, setting};

const WRITERS: u64 = 4;
const KEYS: u64 = 8;
const INLINE_MAX: usize = 64 * 1024;

/// What a key may have: a body of this seed and length, or nothing.
type Value = Option<(u64, usize)>;

/// One key, as far as its writer knows.
#[derive(Debug, Clone, Default)]
struct Known {
    acknowledged: Value,
    /// Attempts since then whose outcome is unknown.
    attempts: Vec<Value>,
    /// Everything that it ever was or was to be.
    history: Vec<Value>,
}

/// 16 bytes that name seed and length, then bytes that follow from them.
fn body(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out[..8].copy_from_slice(&seed.to_le_bytes());
    out[8..16].copy_from_slice(&(length as u64).to_le_bytes());
    out
}

/// What a served body says it is; panics unless every byte of it agrees.
fn judge(served: &[u8]) -> Value {
    let number = |at: usize| {
        let bytes = served.get(at..at + 8).expect("no body is shorter than its opening");
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    };
    let (seed, length) = (number(0), usize::try_from(number(8)).expect("a length"));
    assert_eq!(served.len(), length, "half an object was served");
    assert!(served == body(seed, length), "a torn object was served");
    Some((seed, length))
}

fn key(writer: u64, number: u64) -> String {
    format!("/w{writer}/k{number}")
}

/// One writer of one round: writes until the store is gone.
fn write(
    client: &mut Client,
    writer: u64,
    known: &mut BTreeMap<String, Known>,
    random: &mut fastrand::Rng,
    acknowledged: &AtomicU64,
) {
    loop {
        let key = key(writer, random.u64(..KEYS));
        let value = match random.u32(..10) {
            0..2 => None,
            2..7 => Some((random.u64(..), random.usize(16..3000))),
            7 => Some((random.u64(..), random.usize(INLINE_MAX - 2..INLINE_MAX + 3))),
            _ => Some((random.u64(..), random.usize(INLINE_MAX..400_000))),
        };
        let reply = match value {
            None => client.ask("DELETE", &key, b""),
            Some((seed, length)) => client.ask("PUT", &key, &body(seed, length)),
        };
        let known = known.entry(key).or_default();
        known.history.push(value);
        match reply {
            Ok(reply) => {
                assert!(matches!(reply.status, 201 | 204 | 404), "{reply:?}");
                (known.acknowledged, known.attempts) = (value, vec![]);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                known.attempts.push(value);
                return;
            }
        }
    }
}

/// Reads whatever there is and judges it, until the store is gone.
fn read(mut client: Client, mut random: fastrand::Rng, killed: &AtomicBool) {
    while !killed.load(Ordering::Relaxed) {
        let key = key(random.u64(..WRITERS), random.u64(..KEYS));
        // A broken answer is an error of the client, and no half object.
        let Ok(reply) = client.ask("GET", &key, b"") else { return };
        match reply.status {
            200 => {
                judge(&reply.body);
                let tag = format!("\"{}\"", blake3::hash(&reply.body).to_hex());
                assert_eq!(reply.field("etag"), Some(tag.as_str()));
            }
            status => assert_eq!(status, 404),
        }
    }
}

/// Compares the store with what is known of each key, and settles what was unknown.
///
/// A store that `forgets` may come back with an older value, but with no other.
fn settle(store: &StoreProcess, data: &Path, known: &mut [BTreeMap<String, Known>], forgets: bool) {
    let mut client = store.client();
    let (mut objects, mut bytes, mut large) = (0, 0, 0);
    for (key, known) in known.iter_mut().flatten() {
        let reply = client.ask("GET", key, b"").expect("an answer");
        let found = match reply.status {
            200 => judge(&reply.body),
            status => {
                assert_eq!(status, 404, "{key}: {reply:?}");
                None
            }
        };
        let may_be = found == known.acknowledged
            || known.attempts.contains(&found)
            || (forgets && (found.is_none() || known.history.contains(&found)));
        assert!(may_be, "{key} has {found:?}, but {known:?}");
        if let Some((_, length)) = found {
            objects += 1;
            bytes += length;
            large += usize::from(length > INLINE_MAX);
        }
        (known.acknowledged, known.attempts) = (found, vec![]);
    }
    assert_eq!(files(data, "incoming").len(), 0, "an upload was left over");
    assert_eq!(files(data, "bodies").len(), large, "a file was left over");
    let health = client.ask("GET", "/_ringway/health", b"").expect("an answer");
    let health: serde_json::Value = serde_json::from_slice(&health.body).expect("JSON");
    assert_eq!((&health["objects"], &health["bytes"]), (&objects.into(), &bytes.into()));
    let page = client.ask("GET", "/_ringway/list", b"").expect("an answer");
    let page: serde_json::Value = serde_json::from_slice(&page.body).expect("JSON");
    assert_eq!(page["keys"].as_array().map(Vec::len), Some(objects));
}

#[allow(
    clippy::disallowed_methods,
    reason = "a kill falls where it may, so a pause is what is tested"
)]
fn kill_again_and_again(fsync: &[&str], forgets: bool, rounds: u64) {
    let data = tempfile::tempdir().expect("a temporary folder");
    let start = || {
        let mut command = command(data.path());
        // It says at each start that the index was not closed; we know.
        command.arg("--fsync").args(fsync).env("RINGWAY_LOG", "error");
        StoreProcess::start_with(command)
    };
    let mut known: Vec<BTreeMap<String, Known>> = (0..WRITERS).map(|_| BTreeMap::new()).collect();
    let mut random = fastrand::Rng::with_seed(rounds);
    let (mut total, mut unknown) = (0, 0);
    for _round in 0..rounds {
        let store = start();
        settle(&store, data.path(), &mut known, forgets);
        let (acknowledged, killed) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for (writer, known) in (0..).zip(&mut known) {
                let (mut client, mut random) = (store.client(), random.fork());
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    write(&mut client, writer, known, &mut random, acknowledged);
                });
            }
            let (client, fork, killed) = (store.client(), random.fork(), &killed);
            scope.spawn(move || read(client, fork, killed));
            // The kill falls anywhere in what the store does after this many writes.
            let enough = random.u64(1..120);
            while acknowledged.load(Ordering::Relaxed) < enough {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(Duration::from_micros(random.u64(..3000)));
            killed.store(true, Ordering::Relaxed);
            store.kill();
        });
        total += acknowledged.into_inner();
        unknown += known.iter().flatten().filter(|(_, k)| !k.attempts.is_empty()).count();
    }
    settle(&start(), data.path(), &mut known, forgets);
    println!("{fsync:?}: {rounds} kills, {total} writes acknowledged, {unknown} cut off");
    assert!(unknown > 0, "no kill met a write under way");
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    kill_again_and_again(&["always"], false, setting("RINGWAY_KILL_ROUNDS", 10));
}

/// Nothing is synced then, but a process that dies takes nothing of the kernel's with it.
#[test]
fn what_was_acknowledged_survives_kill_9_without_fsync() {
    kill_again_and_again(&["never"], false, setting("RINGWAY_KILL_ROUNDS", 10).div_ceil(4));
}

/// What was acknowledged within the last interval may be taken back, but only to what was there
/// before, and that whole: the files of values replaced since must not be gone.
#[test]
fn what_a_kill_takes_back_between_two_syncs_leaves_the_values_before_it() {
    let fsync = ["interval", "--fsync-interval-ms", "20"];
    kill_again_and_again(&fsync, true, setting("RINGWAY_KILL_ROUNDS", 10).div_ceil(2));
}
