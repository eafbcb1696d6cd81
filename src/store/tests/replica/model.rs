//! Random operations, held against the dullest store that could be.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::protocol::replica::slot_of;

/// What a pool should hold.
#[derive(Default)]
struct Model {
    kept: BTreeMap<String, (Version, Option<Vec<u8>>)>,
    /// Keys whose value is damaged.
    damaged: BTreeSet<String>,
    marks: BTreeMap<u16, Version>,
}

impl Model {
    fn newest(&self, key: &str) -> Version {
        let watermark = self.marks.get(&slot_of(token(key))).copied().unwrap_or(Version::NONE);
        self.kept.get(key).map_or(watermark, |(version, _)| *version)
    }

    /// What a write has come to.
    fn write(&mut self, key: &str, version: Version, value: Option<Vec<u8>>) -> &'static str {
        if version > self.newest(key) {
            self.kept.insert(key.to_owned(), (version, value));
            self.damaged.remove(key);
        }
        self.effect(key, version)
    }

    /// The same of a value that is whole, which replaces a damaged one of its version.
    fn put(&mut self, key: &str, version: Version, value: Vec<u8>) -> &'static str {
        if self.kept.get(key).is_some_and(|(held, _)| *held == version) {
            self.damaged.remove(key);
        }
        self.write(key, version, Some(value))
    }

    /// What the word of a loss has come to.
    fn lose(&mut self, key: &str, version: Version, value: Vec<u8>) -> &'static str {
        let is_news = version > self.newest(key);
        let effect = self.write(key, version, Some(value));
        if is_news {
            self.damaged.insert(key.to_owned());
        }
        effect
    }

    fn effect(&self, key: &str, version: Version) -> &'static str {
        match self.kept.get(key) {
            Some((held, _)) if *held == version => "yes",
            Some(_) => "no",
            None => "forgotten",
        }
    }

    fn collect(&mut self, slot: u16, tombstones: &[(&str, Version)]) -> u64 {
        let mut dropped = 0;
        for (key, version) in tombstones {
            let mark = self.marks.entry(slot).or_insert(Version::NONE);
            *mark = (*mark).max(*version);
            let ours = slot_of(token(key)) == slot;
            if ours && self.kept.get(*key) == Some(&(*version, None)) {
                self.kept.remove(*key);
                dropped += 1;
            }
        }
        dropped
    }

    fn sum(&self) -> Sum {
        self.sum_of(|_| true)
    }

    fn sum_of(&self, wanted: impl Fn(&str) -> bool) -> Sum {
        let mut sum = Sum::default();
        for (key, (version, value)) in self.kept.iter().filter(|(key, _)| wanted(key)) {
            sum += match self.damaged.contains(key) {
                true => Sum::of_damaged(key.as_bytes(), *version),
                false => Sum::of(key.as_bytes(), *version, value.is_none()),
            };
        }
        sum
    }
}

async fn compare(node: &mut Node, model: &Model, keys: &[String], seed: u64) {
    for key in keys {
        let reply = node.get(key).await;
        assert_eq!(reply.version(), model.newest(key), "seed {seed}: {key}");
        let is_damaged = model.damaged.contains(key);
        match model.kept.get(key).map(|(_, value)| value) {
            Some(_) if is_damaged => assert_eq!(reply.field("ringway-error"), Some("damaged")),
            Some(Some(value)) => assert!(reply.body == *value, "seed {seed}: {key} is another"),
            Some(None) => assert_eq!(reply.field("ringway-tombstone"), Some("yes")),
            None => assert_eq!(reply.field("ringway-tombstone"), None),
        }
        let is_there = model.kept.get(key).is_some_and(|(_, value)| value.is_some());
        assert_eq!(reply.status == 200, is_there && !is_damaged, "seed {seed}: {key}");
    }
    let all = node.everything().await;
    let found: BTreeMap<_, _> =
        all.keys.iter().map(|e| (e.key.clone(), (e.version, e.tombstone))).collect();
    let expected: BTreeMap<_, _> =
        model.kept.iter().map(|(key, (v, value))| (key.clone(), (*v, value.is_none()))).collect();
    let damaged = all.keys.iter().filter(|entry| entry.damaged).map(|entry| entry.key.clone());
    assert_eq!(damaged.collect::<BTreeSet<String>>(), model.damaged, "seed {seed}");
    for entry in &all.keys {
        let value = model.kept[&entry.key].1.as_ref();
        assert_eq!(entry.size, value.map_or(0, |value| value.len() as u64));
        let digest = value.map_or_else(String::new, |value| blake3::hash(value).to_string());
        assert_eq!(entry.digest, digest);
    }
    assert_eq!(found, expected, "seed {seed}");
    assert_eq!(found.len(), all.keys.len());
    let listed = node.page("list").await;
    assert!(listed.keys.iter().map(|entry| &entry.key).eq(expected.keys()), "seed {seed}");
    let dead = node.page("tombstones").await.keys.len();
    assert_eq!(dead, expected.values().filter(|(_, dead)| *dead).count());
    assert_eq!(node.sums("?fold=65536").await, [model.sum()], "seed {seed}");
    let sums = node.sums("").await;
    for (slot, sum) in (0..=u16::MAX).zip(sums) {
        let own = model.sum_of(|key| slot_of(token(key)) == slot);
        assert_eq!(sum, own, "seed {seed}, slot {slot}");
    }
    let state = node.ask("GET", "objects/state", &[], b"").await.json();
    let values: Vec<_> = model.kept.values().filter_map(|(_, value)| value.as_ref()).collect();
    let bytes: usize = values.iter().map(|value| value.len()).sum();
    let pool = &state["pool"];
    assert_eq!((&pool["values"], &pool["bytes"]), (&values.len().into(), &bytes.into()));
    assert_eq!(
        (&pool["tombstones"], &pool["damaged"]),
        (&dead.into(), &model.damaged.len().into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_the_model() {
    let mut lost_files = 0;
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut model = Model::default();
        let keys: Vec<String> = (0..12).map(|number| format!("k/{number}")).collect();
        let mut sequence = 0;
        for round in 0..3 {
            let server = Server::start(options(folder.path())).await;
            let mut node = Node::new(&server, "0.1").await;
            assert_eq!(node.bind("objects", "s1").await.status, 200);
            compare(&mut node, &model, &keys, seed).await;
            for _ in 0..60 {
                let key = keys[random.usize(..keys.len())].as_str();
                let mut at = version(random.i64(round * 10..round * 10 + 40));
                at.proposer.worker = random.u16(..2);
                // A version is one write, and what it writes follows from it.
                let of = at.stamp.unix_ms() * 2 + u64::from(at.proposer.worker);
                let body = bytes(of, if of.is_multiple_of(7) { 70_000 } else { 300 });
                let is_tombstone = matches!(model.kept.get(key), Some((held, None)) if *held == at);
                match random.u32(..13) {
                    _ if is_tombstone => {
                        node.delete(key, at).await.judged(true);
                    }
                    0..3 => {
                        let effect = model.put(key, at, body.clone());
                        let reply = node.put(key, at, &body).await;
                        assert_eq!(reply.field("ringway-applied"), Some(effect), "seed {seed}");
                        assert_eq!(reply.version(), model.newest(key), "seed {seed}");
                    }
                    3..6 => {
                        sequence += 1;
                        let stage = format!("1-1-0-{sequence}");
                        let newest = node.stage(key, &stage, &body).await.version();
                        assert_eq!(newest, model.newest(key), "seed {seed}");
                        let effect = model.put(key, at, body);
                        for _ in 0..random.u32(1..3) {
                            let reply = node.commit(key, &stage, at).await;
                            assert_eq!(reply.field("ringway-applied"), Some(effect), "seed {seed}");
                            assert_eq!(reply.version(), model.newest(key), "seed {seed}");
                        }
                    }
                    6..8 if !matches!(model.kept.get(key), Some((held, Some(_))) if *held == at) => {
                        let effect = model.write(key, at, None);
                        let reply = node.delete(key, at).await;
                        assert_eq!(reply.field("ringway-applied"), Some(effect), "seed {seed}");
                        assert_eq!(reply.version(), model.newest(key), "seed {seed}");
                    }
                    10..13 => {
                        let reply = node.lost(key, at, &body).await;
                        let effect = model.lose(key, at, body);
                        assert_eq!(reply.field("ringway-applied"), Some(effect), "seed {seed}");
                        assert_eq!(reply.version(), model.newest(key), "seed {seed}");
                    }
                    _ => {
                        let slot = slot_of(token(key));
                        let held = model.kept.get(key).map_or(at, |(held, _)| *held);
                        let lines = [(key, held), (keys[0].as_str(), at)];
                        let lines = &lines[..random.usize(1..=2)];
                        let reply = node.collect(slot, lines).await;
                        assert_eq!(reply.json()["dropped"], model.collect(slot, lines), "{seed}");
                    }
                }
            }
            compare(&mut node, &model, &keys, seed).await;
            drop(node);
            server.stop().await;
            let whole = model.kept.iter().filter(|(key, _)| !model.damaged.contains(*key));
            let large: Vec<(&String, &Vec<u8>)> = whole
                .filter_map(|(key, (_, value))| Some((key, value.as_ref()?)))
                .filter(|(_, value)| value.len() > 65_536)
                .collect();
            let files_there = files(folder.path(), "bodies");
            assert_eq!(files_there.len(), large.len(), "no file but the values'");
            assert_eq!(files(folder.path(), "incoming").len(), 0);
            // A disk loses a file while the store is away, and it is noticed at the start.
            if let Some(file) = random.choice(files_there) {
                let body = std::fs::read(&file).expect("a body");
                let of: Vec<&String> = large
                    .iter()
                    .filter(|(_, value)| **value == body)
                    .map(|(key, _)| *key)
                    .collect();
                if let [key] = of[..] {
                    let key = key.clone();
                    std::fs::remove_file(file).expect("a writable folder");
                    model.damaged.insert(key);
                    lost_files += 1;
                }
            }
        }
    }
    assert!(lost_files > 0);
}
