//! kill -9 while nodes stage and commit, again and again.
//!
//! What was acknowledged is found, or something newer that was tried; whole, under its own version;
//! and the sums of slots are those of what is listed. On the disk nothing else is left.
//!
//! 8 rounds; `RINGWAY_KILL_ROUNDS=200` for more.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringway::ids::{Incarnation, NodeId, Token};
use ringway::protocol::replica::{Page, SLOTS, SUM_BYTES, Sum, slot_of};
use ringway::version::{Proposer, Stamp, Version};

use crate::store_child::{StoreProcess, files, setting};
use crate::store_replica::Node;

const WRITERS: usize = 4;
const KEYS: u64 = 6;
const INLINE_MAX: usize = 64 * 1024;

/// A write, as everything about it follows from its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Write(u64);

impl Write {
    fn version(self, writer: u64) -> Version {
        let proposer = Proposer { node: NodeId(writer), incarnation: Incarnation(1), worker: 0 };
        Version { stamp: Stamp(Stamp::of_ms(1_700_000_000_000).0 + self.0), proposer }
    }

    /// Its body; `None` for a deletion.
    fn body(self) -> Option<Vec<u8>> {
        let length = match self.0 % 10 {
            0 => return None,
            1 => INLINE_MAX + usize::try_from(self.0 % 3).expect("a small number"),
            2 | 3 => 200_000,
            other => usize::try_from(other * 100).expect("a small number"),
        };
        let mut out = vec![0; length];
        blake3::Hasher::new().update(&self.0.to_le_bytes()).finalize_xof().fill(&mut out);
        Some(out)
    }
}

/// One key, as far as its writer knows: what was acknowledged last, and what was tried since.
#[derive(Debug, Clone, Default)]
struct Known {
    acknowledged: Option<Write>,
    attempts: Vec<Write>,
}

fn key(writer: u64, number: u64) -> String {
    format!("w{writer}/k{number}")
}

fn token(key: &str) -> Token {
    let hash = blake3::hash(key.as_bytes());
    Token(u64::from_be_bytes(*hash.as_bytes().first_chunk().expect("32 bytes have 8")))
}

fn token_field(key: &str) -> String {
    format!("Ringway-Token: {}\r\n", token(key))
}

/// One writer of one round: writes until the store is gone.
fn write(
    node: &mut Node,
    writer: u64,
    known: &mut BTreeMap<String, Known>,
    random: &mut fastrand::Rng,
    next: &mut u64,
    acknowledged: &AtomicU64,
) {
    loop {
        *next += 1;
        let (key, write) = (key(writer, random.u64(..KEYS)), Write(*next));
        let version = format!("Ringway-Version: {}\r\n", write.version(writer));
        let fields = token_field(&key) + &version;
        let stage = format!("{fields}Ringway-Stage: {writer}-1-0-{next}\r\n");
        let known = known.entry(key.clone()).or_default();
        let reply = match write.body() {
            None => {
                known.attempts.push(write);
                node.ask("DELETE", &format!("value/{key}"), &fields, b"")
            }
            Some(body) if random.u32(..4) == 0 => {
                known.attempts.push(write);
                node.ask("PUT", &format!("value/{key}"), &fields, &body)
            }
            Some(body) => {
                let Ok(staged) = node.ask("PUT", &format!("stage/{key}"), &stage, &body) else {
                    return;
                };
                assert_eq!(staged.status, 200, "{staged:?}");
                if random.u32(..8) == 0 {
                    // Never committed, and so never seen.
                    continue;
                }
                known.attempts.push(write);
                node.ask("POST", &format!("commit/{key}"), &stage, b"")
            }
        };
        let Ok(reply) = reply else { return };
        assert_eq!(reply.field("ringway-applied"), Some("yes"), "{reply:?}");
        *known = Known { acknowledged: Some(write), attempts: vec![] };
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Compares the store with what is known of each key, and settles what was unknown.
fn settle(store: &StoreProcess, data: &Path, known: &mut [BTreeMap<String, Known>]) {
    let mut node = Node::bound(store);
    let (mut large, mut entries) = (0, BTreeMap::new());
    for (writer, known) in (0_u64..).zip(known) {
        for (key, known) in known {
            let reply = node.ask("GET", &format!("value/{key}"), &token_field(key), b"");
            let reply = reply.expect("an answer");
            let version = reply.field("ringway-version").expect("every answer has it");
            let candidates = known.attempts.iter().copied().chain(known.acknowledged);
            let found = candidates.into_iter().find(|w| w.version(writer).to_string() == version);
            if let Some(found) = found {
                let body = found.body();
                assert_eq!(reply.status == 200, body.is_some(), "{key}: {reply:?}");
                assert!(reply.body == body.clone().unwrap_or_default(), "{key} is torn");
                entries.insert(key.clone(), (found.version(writer), body.is_none()));
                large += usize::from(body.is_some_and(|body| body.len() > INLINE_MAX));
            } else {
                let nothing = version == Version::NONE.to_string();
                assert!(nothing && known.acknowledged.is_none(), "{key} has {version}: {known:?}");
            }
            *known = Known { acknowledged: found, attempts: vec![] };
        }
    }
    assert_eq!(files(data, "incoming").len(), 0, "a stage was left over");
    assert_eq!(files(data, "bodies").len(), large, "a file was left over");
    let page = node.ask("GET", "keys", "", b"").expect("an answer");
    let page: Page = serde_json::from_slice(&page.body).expect("a page");
    let mut sums = vec![Sum::default(); SLOTS as usize];
    for entry in &page.keys {
        assert_eq!(entries.get(&entry.key), Some(&(entry.version, entry.tombstone)));
        sums[usize::from(slot_of(entry.token))] +=
            Sum::of(entry.key.as_bytes(), entry.version, entry.tombstone);
    }
    assert_eq!(page.keys.len(), entries.len());
    let told = node.ask("GET", "digests", "", b"").expect("an answer");
    let told = told.body.chunks(SUM_BYTES).map(|sum| Sum::from_bytes(sum.try_into().expect("24")));
    assert!(told.eq(sums), "the sums are not those of what is listed");
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "a kill falls where it may, so a pause is what is tested"
)]
fn what_was_committed_survives_kill_9_and_the_sums_agree() {
    let rounds = setting("RINGWAY_KILL_ROUNDS", 8);
    let data = tempfile::tempdir().expect("a temporary folder");
    let start = || {
        let mut command = crate::store_child::command(data.path());
        // It says at each start that the index was not closed; we know.
        command.env("RINGWAY_LOG", "error");
        StoreProcess::start_with(command)
    };
    let mut known: Vec<BTreeMap<String, Known>> = (0..WRITERS).map(|_| BTreeMap::new()).collect();
    let mut numbers = [0; WRITERS];
    let mut random = fastrand::Rng::with_seed(rounds);
    let (mut total, mut unknown) = (0, 0);
    for _round in 0..rounds {
        let store = start();
        settle(&store, data.path(), &mut known);
        let first = Node::bound(&store);
        let acknowledged = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for ((writer, known), number) in (0..).zip(&mut known).zip(&mut numbers) {
                let (mut node, mut random) = (first.again(&store), random.fork());
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    write(&mut node, writer, known, &mut random, number, acknowledged);
                });
            }
            // The kill falls anywhere in what the store does after this many writes.
            let enough = random.u64(1..120);
            while acknowledged.load(Ordering::Relaxed) < enough {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(Duration::from_micros(random.u64(..3000)));
            store.kill();
        });
        total += acknowledged.into_inner();
        unknown += known.iter().flatten().filter(|(_, k)| !k.attempts.is_empty()).count();
    }
    settle(&start(), data.path(), &mut known);
    println!("{rounds} kills, {total} writes acknowledged, {unknown} cut off");
    assert!(unknown > 0, "no kill met a write under way");
}
