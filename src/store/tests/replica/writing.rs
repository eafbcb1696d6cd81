//! Stages, commits, and which write wins.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_body_is_the_value_once_it_is_committed() {
    let (server, mut node, folder) = shard().await;
    for (key, length) in [("small", 1000), ("a/b%2Fc//d", 0), ("large", 200_000)] {
        let body = bytes(1, length);
        let (first, second) = (format!("3-17-2-{length}"), format!("3-17-3-{length}"));
        let staged = node.stage(key, &first, &body).await;
        assert_eq!((staged.status, staged.version()), (200, Version::NONE));
        assert_eq!(node.get(key).await.status, 404, "nothing is held yet");
        assert_eq!(node.commit(key, &first, version(0)).await.judged(true), version(0));
        let read = node.get(key).await;
        assert_eq!((read.status, read.version()), (200, version(0)));
        assert!(read.body == body);
        assert_eq!(read.field("ringway-size"), Some(&*length.to_string()));
        let digest = blake3::hash(&body).to_hex().to_string();
        assert_eq!(read.field("ringway-digest"), Some(&*digest));
        assert_eq!(read.field("ringway-modified"), Some("1700000000000"));
        assert_eq!(read.field("ringway-store"), Some(&*server.store().id().to_string()));
        assert_eq!(node.stage(key, &second, b"next").await.version(), version(0));
    }
    assert_eq!(server.store().metrics().replica.stages.get(), 3);
    // A restart keeps what was committed and forgets what was staged.
    drop(node);
    server.stop().await;
    let server = Server::start(options(folder.path())).await;
    let mut node = Node::new(&server, "0.1").await;
    assert_eq!(server.store().metrics().replica.stages.get(), 0);
    assert!(node.get("large").await.body == bytes(1, 200_000));
    node.commit("small", "3-17-3-1000", version(1)).await.refusal(404, "not-staged");
    assert_eq!(node.get("small").await.body, bytes(1, 1000));
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_repeated_gets_the_same_answer() {
    let (server, mut node, _folder) = shard().await;
    node.stage("k", "1-1-0-1", b"one").await;
    assert_eq!(node.commit("k", "1-1-0-1", version(5)).await.judged(true), version(5));
    assert_eq!(node.commit("k", "1-1-0-1", version(5)).await.judged(true), version(5));
    // One that comes when newer is held is superseded, staged or not.
    assert_eq!(node.commit("k", "1-1-0-9", version(4)).await.judged(false), version(5));
    node.stage("k", "1-1-0-2", b"older").await;
    assert_eq!(node.commit("k", "1-1-0-2", version(3)).await.judged(false), version(5));
    assert_eq!(node.commit("k", "1-1-0-2", version(9)).await.refusal(404, "not-staged"), {
        "No such body waits here for its commit; nothing was done. Copy the value from a replica \
         that has it."
    });
    assert_eq!(node.get("k").await.body, b"one");
    // A stage is of one key.
    node.stage("k", "1-1-0-3", b"mine").await;
    node.commit("other", "1-1-0-3", version(9)).await.refusal(404, "not-staged");
    assert_eq!(node.commit("k", "1-1-0-3", version(9)).await.judged(true), version(9));
    // The last body that was staged under an id counts.
    node.stage("k", "1-1-0-4", b"half").await;
    node.stage("k", "1-1-0-4", b"whole").await;
    node.commit("k", "1-1-0-4", version(10)).await.judged(true);
    assert_eq!(node.get("k").await.body, b"whole");
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_stage_leaves_nothing() {
    let (server, mut node, folder) = shard().await;
    node.stage("k", "1-1-0-1", &bytes(1, 100_000)).await;
    assert_eq!(files(folder.path(), "incoming").len(), 1);
    for _ in 0..2 {
        let gone = node.keyed("DELETE", "stage", "k", &["Ringway-Stage: 1-1-0-1"], b"").await;
        assert_eq!(gone.status, 204);
    }
    until("its file is gone", || files(folder.path(), "incoming").is_empty()).await;
    node.commit("k", "1-1-0-1", version(0)).await.refusal(404, "not-staged");
    // Nor does one that was superseded.
    node.put("k", version(9), b"newer").await.judged(true);
    node.stage("k", "1-1-0-2", &bytes(1, 100_000)).await;
    node.commit("k", "1-1-0-2", version(8)).await.judged(false);
    node.put("k", version(8), &bytes(2, 100_000)).await.judged(false);
    until("its file is gone", || files(folder.path(), "incoming").is_empty()).await;
    assert_eq!(files(folder.path(), "bodies").len(), 0);
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_write_wins_whatever_the_order() {
    let (server, mut node, folder) = shard().await;
    assert_eq!(node.put("k", version(5), &bytes(5, 70_000)).await.judged(true), version(5));
    assert_eq!(node.put("k", version(4), b"four").await.judged(false), version(5));
    assert_eq!(node.put("k", version(5), b"other").await.judged(true), version(5));
    assert!(node.get("k").await.body == bytes(5, 70_000), "a version is one write");
    assert_eq!(node.delete("k", version(4)).await.judged(false), version(5));
    assert_eq!(node.delete("k", version(6)).await.judged(true), version(6));
    assert_eq!(node.delete("k", version(6)).await.judged(true), version(6));
    until("the file is gone", || files(folder.path(), "bodies").is_empty()).await;
    let gone = node.get("k").await;
    assert_eq!((gone.status, gone.version(), gone.body.len()), (404, version(6), 0));
    assert_eq!(gone.field("ringway-tombstone"), Some("yes"));
    assert_eq!(node.put("k", version(5), b"late").await.judged(false), version(6));
    assert_eq!(node.stage("k", "1-1-0-1", b"seven").await.version(), version(6));
    assert_eq!(node.commit("k", "1-1-0-1", version(7)).await.judged(true), version(7));
    assert_eq!(node.get("k").await.body, b"seven");
    // A delete of what was never there is a tombstone as well: a put may come late.
    assert_eq!(node.delete("never", version(3)).await.judged(true), version(3));
    assert_eq!(node.put("never", version(2), b"late").await.judged(false), version(3));
    let facts = node.ask("GET", "objects/state", &[], b"").await.json();
    let pool = &facts["pool"];
    assert_eq!((&pool["values"], &pool["bytes"]), (&1.into(), &5.into()));
    assert_eq!((&pool["tombstones"], &pool["stages"]), (&1.into(), &0.into()));
    // None of that is in the namespace of cache pools, or in another pool.
    server.get("/k").await.refusal(404, "not-found");
    assert_eq!(server.get("/_ringway/list").await.json()["keys"].as_array().map(Vec::len), Some(0));
    assert_eq!(node.bind("others", "s1").await.status, 200);
    let token = format!("Ringway-Token: {}", token("k"));
    assert_eq!(node.ask("GET", "others/value/k", &[&token], b"").await.status, 404);
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_fields_and_the_time_of_a_copy_come_back() {
    let (server, mut node, _folder) = shard().await;
    let kept = ["Content-Type: text/plain", "X-Meta-A: b", "Cookie: no"];
    let mut fields = vec!["Ringway-Stage: 1-1-0-1"];
    fields.extend(kept);
    node.keyed("PUT", "stage", "k", &fields, b"x").await;
    node.commit("k", "1-1-0-1", version(1)).await.judged(true);
    let version = format!("Ringway-Version: {}", version(2));
    let mut fields = vec![version.as_str(), "Ringway-Modified: 1234567"];
    fields.extend(kept);
    node.keyed("PUT", "value", "copy", &fields, b"x").await.judged(true);
    for (key, modified) in [("k", "1700000000001"), ("copy", "1234567")] {
        for reply in [node.get(key).await, node.head(key).await] {
            assert_eq!(reply.field("content-type"), Some("text/plain"));
            assert_eq!(reply.field("x-meta-a"), Some("b"));
            assert_eq!(reply.field("cookie"), None);
            assert_eq!(reply.field("ringway-modified"), Some(modified));
            assert_eq!((reply.field("etag"), reply.field("last-modified")), (None, None));
        }
    }
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_many_connections_share_transactions() {
    let (server, mut node, _folder) = shard().await;
    let mut nodes = Vec::new();
    for _ in 0..8 {
        nodes.push(Node::new(&server, "0.1").await);
    }
    let tasks = (0_u64..).zip(nodes).map(|(number, mut node)| {
        tokio::spawn(async move {
            for round in 0..10_i64 {
                let (key, stage) = (format!("k{}", round % 3), format!("{number}-1-0-{round}"));
                let newest = node.stage(&key, &stage, &number.to_le_bytes()).await.version();
                let mut own = newest;
                own.stamp = newest.stamp.next().max(version(round).stamp);
                own.proposer.node = NodeId(number);
                let commit = node.commit(&key, &stage, own).await;
                assert_eq!(commit.status, 200, "{commit:?}");
                assert!(commit.version() >= own);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no task panics");
    }
    assert_eq!(node.everything().await.keys.len(), 3);
    assert_eq!(server.store().stages().len(), 0);
    drop(node);
    server.stop().await;
}
