//! Ranges, exact versions, pages and digests.

use std::collections::BTreeMap;

use super::*;
use crate::protocol::replica::{SLOTS, slot_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_part_or_one_version_can_be_asked_for() {
    let (server, mut node, _folder) = shard().await;
    for (key, length) in [("small", 1000), ("large", 150_000)] {
        let body = bytes(1, length);
        node.put(key, version(1), &body).await.judged(true);
        let part = node.keyed("GET", "value", key, &["Range: bytes=10-19"], b"").await;
        assert_eq!((part.status, part.body.as_slice()), (206, &body[10..20]));
        let range = format!("bytes 10-19/{length}");
        assert_eq!(part.field("content-range"), Some(&*range));
        assert_eq!(part.number("ringway-size"), length);
        let beyond = format!("Range: bytes={length}-");
        let beyond = node.keyed("GET", "value", key, &[&beyond], b"").await;
        assert_eq!(beyond.version(), version(1));
        beyond.refusal(416, "range");
        let own = format!("If-Version: {}", version(1));
        let fields = [own.as_str(), "Range: bytes=-5"];
        let exact = node.keyed("GET", "value", key, &fields, b"").await;
        assert_eq!((exact.status, exact.body.as_slice()), (206, &body[length - 5..]));
        let other = format!("If-Version: {}", version(2));
        let other = node.keyed("GET", "value", key, &[&other], b"").await;
        assert_eq!((other.status, other.version()), (412, version(1)));
        assert_eq!(other.body, b"");
        let head = node.head(key).await;
        assert_eq!((head.status, head.number("content-length")), (200, length));
        assert_eq!(head.version(), version(1));
    }
    let never = node.head("never").await;
    assert_eq!((never.status, never.version()), (404, Version::NONE));
    assert_eq!(never.field("ringway-tombstone"), None);
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_listed_by_token_and_by_key_and_summed_by_slot() {
    let (server, mut node, _folder) = shard().await;
    let mut expected = BTreeMap::new();
    for number in 0..60_i64 {
        let key = format!("{}/k%20{}", number % 4, number);
        let deleted = number % 5 == 0;
        if deleted {
            node.delete(&key, version(number)).await.judged(true);
        } else {
            node.put(&key, version(number), &[0; 3]).await.judged(true);
        }
        expected.insert(key, (version(number), deleted));
    }
    // By token.
    let all = node.everything().await;
    assert_eq!(all.keys.len(), 60);
    assert!(all.keys.is_sorted_by_key(|entry| (entry.token, entry.key.clone())));
    for entry in &all.keys {
        assert_eq!(entry.token, token(&entry.key));
        assert_eq!(expected[&entry.key], (entry.version, entry.tombstone));
        assert_eq!(entry.size, if entry.tombstone { 0 } else { 3 });
        assert_eq!(entry.digest.is_empty(), entry.tombstone);
    }
    let (first, last) = (all.keys[10].token, all.keys[20].token);
    let range = node.page(&format!("keys?from={first}&to={last}")).await;
    assert_eq!((range.keys.as_slice(), range.next), (&all.keys[10..=20], None));
    // By key.
    let mut listed = Vec::new();
    let mut rest = "list?limit=7".to_owned();
    loop {
        let page = node.page(&rest).await;
        listed.extend(page.keys);
        let Some(next) = page.next else { break };
        rest = format!("list?limit=7&after={}", next.replace('%', "%25"));
    }
    let keys: Vec<&str> = listed.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, expected.keys().map(String::as_str).collect::<Vec<_>>());
    let page = node.page("list?prefix=2%2Fk%2520&after=2/k%252022").await;
    assert_eq!(page.keys.first().map(|entry| entry.key.as_str()), Some("2/k%2026"));
    assert!(page.keys.iter().all(|entry| entry.key.starts_with("2/")));
    // Tombstones, by age.
    let all_dead = node.page("tombstones").await.keys;
    assert_eq!(all_dead.len(), 12);
    let old = node.page(&format!("tombstones?before={}", noon() + 20)).await.keys;
    assert_eq!(old.len(), 5, "0, 5, 10, 15 and 20");
    let page = node.page("tombstones?limit=5").await;
    let cursor = page.next.expect("there are more");
    let more = node.page(&format!("tombstones?cursor={cursor}")).await;
    assert_eq!([page.keys, more.keys].concat(), all_dead);
    // Sums.
    let mut slots = BTreeMap::<u16, Sum>::new();
    for (key, (version, deleted)) in &expected {
        *slots.entry(slot_of(token(key))).or_default() +=
            Sum::of(key.as_bytes(), *version, *deleted);
    }
    let sums = node.sums("").await;
    assert_eq!(sums.len(), SLOTS as usize);
    for (slot, sum) in (0..=u16::MAX).zip(&sums) {
        assert_eq!(*sum, slots.get(&slot).copied().unwrap_or_default(), "slot {slot}");
    }
    for query in ["?fold=65536", "?from=7&count=1000&fold=300", "?from=65535"] {
        let folded = node.sums(query).await;
        let (from, fold) = match query {
            "?fold=65536" => (0, 65536),
            "?from=65535" => (65535, 1),
            _ => (7, 300),
        };
        let until = if fold == 300 { 1007 } else { sums.len() };
        let expected: Vec<Sum> = sums[from..until]
            .chunks(fold)
            .map(|part| {
                let mut all = Sum::default();
                part.iter().for_each(|sum| all += *sum);
                all
            })
            .collect();
        assert_eq!(folded, expected, "{query}");
    }
    drop(node);
    server.stop().await;
}
