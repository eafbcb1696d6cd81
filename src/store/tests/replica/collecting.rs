//! Tombstones go, and what was deleted stays deleted.

use super::*;
use crate::protocol::replica::{Dropped, Watermarks, slot_of};

fn dropped(reply: &Reply) -> u64 {
    assert_eq!(reply.status, 200, "{reply:?}");
    serde_json::from_slice::<Dropped>(&reply.body).expect("an answer").dropped
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collected_tombstone_leaves_its_watermark() {
    let (server, mut node, folder) = shard().await;
    let slot = slot_of(token("gone"));
    node.put("gone", version(1), b"x").await.judged(true);
    node.delete("gone", version(4)).await.judged(true);
    // Not this tombstone, not a tombstone, not this slot's, not there.
    assert_eq!(
        dropped(&node.collect(slot, &[("gone", version(3)), ("never", version(2))]).await),
        0
    );
    assert_eq!(node.head("gone").await.field("ringway-tombstone"), Some("yes"));
    assert_eq!(dropped(&node.collect(slot.wrapping_add(1), &[("gone", version(4))]).await), 0);
    assert_eq!(dropped(&node.collect(slot, &[("gone", version(4))]).await), 1);
    let head = node.head("gone").await;
    assert_eq!((head.status, head.version()), (404, version(4)));
    assert_eq!(head.field("ringway-tombstone"), None);
    assert_eq!(node.everything().await.keys.len(), 0);
    assert_eq!(node.page("tombstones").await.keys.len(), 0);
    assert_eq!(node.page("list").await.keys.len(), 0);
    assert_eq!(node.sums("?fold=65536").await, [Sum::default()]);
    // Late ones are refused, and nothing is there that overwrote them; also after a restart; fresh ones go above.
    node.stage("gone", "1-1-0-1", b"late").await;
    assert_eq!(node.commit("gone", "1-1-0-1", version(4)).await.forgotten(), version(4));
    drop(node);
    server.stop().await;
    let server = Server::start(options(folder.path())).await;
    let mut node = Node::new(&server, "0.1").await;
    assert_eq!(node.put("gone", version(3), b"late").await.forgotten(), version(4));
    assert_eq!(node.delete("gone", version(3)).await.forgotten(), version(4));
    assert_eq!(node.stage("gone", "1-1-0-1", b"new").await.version(), version(4));
    node.commit("gone", "1-1-0-1", version(5)).await.judged(true);
    assert_eq!(node.get("gone").await.body, b"new");
    assert_eq!(dropped(&node.collect(slot, &[("gone", version(5))]).await), 0, "it is a value");
    let state = node.ask("GET", "objects/state", &[], b"").await.json();
    let pool = &state["pool"];
    assert_eq!((&pool["values"], &pool["tombstones"]), (&1.into(), &0.into()));
    let metrics = &server.store().metrics().replica;
    assert_eq!(metrics.tombstones.get(), 0);
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_never_goes_down_and_can_be_copied() {
    let (server, mut node, _folder) = shard().await;
    let watermarks = async |node: &mut Node, query: &str| {
        let reply = node.ask("GET", &format!("objects/watermarks{query}"), &[], b"").await;
        let all: Watermarks = serde_json::from_slice(&reply.body).expect("watermarks");
        all.watermarks.iter().map(|one| (one.slot, one.version)).collect::<Vec<_>>()
    };
    assert_eq!(watermarks(&mut node, "").await, []);
    for (slot, at, expected) in [(7, 5, 5), (7, 3, 5), (9, 1, 1), (65535, 2, 2)] {
        let field = format!("Ringway-Version: {}", version(at));
        let rest = format!("objects/watermark?slot={slot}");
        assert_eq!(dropped(&node.ask("POST", &rest, &[&field], b"").await), 0);
        assert!(watermarks(&mut node, "").await.contains(&(slot, version(expected))));
    }
    let all = [(7, version(5)), (9, version(1)), (65535, version(2))];
    assert_eq!(watermarks(&mut node, "").await, all);
    assert_eq!(watermarks(&mut node, "?from=8&count=2").await, all[1..2]);
    // It is that of absent keys. What is there has its own history.
    let fields = ["Ringway-Token: 0007000000000000", "Ringway-Version: x"];
    let own = format!("Ringway-Version: {}", version(5));
    let fields = [fields[0], own.as_str()];
    node.ask("PUT", "objects/value/a", &fields, b"x").await.forgotten();
    let own = format!("Ringway-Version: {}", version(6));
    node.ask("PUT", "objects/value/a", &[fields[0], &own], b"x").await.judged(true);
    let field = format!("Ringway-Version: {}", version(100));
    node.ask("POST", "objects/watermark?slot=7", &[&field], b"").await;
    let own = format!("Ringway-Version: {}", version(7));
    node.ask("PUT", "objects/value/a", &[fields[0], &own], b"y").await.judged(true);
    drop(node);
    server.stop().await;
}
