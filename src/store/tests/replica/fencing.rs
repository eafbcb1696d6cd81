//! Whose store is it, and by whose epoch?

use super::*;

const OTHER: &str = "ffffffffffffffffffffffffffffffff";

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_belongs_to_the_first_cluster_and_the_store_to_one_shard_of_it() {
    let (server, folder) = fresh().await;
    let id = server.store().id().to_string();
    let mut node = Node::new(&server, "0.1").await;
    node.get("k").await.refusal(421, "not-bound");
    node.put("k", version(0), b"x").await.refusal(421, "not-bound");
    assert_eq!(
        node.ask("GET", "objects/state", &[], b"").await.json()["pool"],
        serde_json::Value::Null
    );
    for _ in 0..2 {
        assert_eq!(node.bind("objects", "s1").await.status, 200);
    }
    let shard = node.bind("objects", "s2").await;
    assert_eq!(shard.field("ringway-error"), Some("other-shard"));
    shard.refusal(421, "other-shard");
    node.put("k", version(0), b"x").await.judged(true);
    drop(node);
    server.stop().await;
    let server = Server::start(options(folder.path())).await;
    let mut other = Node::of(&server, OTHER, "0.1", &id).await;
    for reply in [
        other.bind("objects", "s1").await,
        other.get("k").await,
        other.put("k", version(1), b"y").await,
        other.stage("k", "1-1-0-1", b"y").await,
        other.ask("GET", "objects/digests", &[], b"").await,
    ] {
        assert_eq!(reply.field("ringway-store"), Some(&*id));
        reply.refusal(421, "other-cluster");
    }
    let state = other.ask("GET", "objects/state", &[], b"").await.json();
    assert_eq!(state["pool"]["cluster"], CLUSTER);
    assert_eq!((&state["pool"]["shard"], &state["store"]), (&"s1".into(), &id.as_str().into()));
    // Another pool of the same store may be another cluster's.
    assert_eq!(other.bind("others", "s9").await.status, 200);
    let mut node = Node::new(&server, "0.1").await;
    assert_eq!(node.get("k").await.body, b"x");
    drop((node, other));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_store_does_nothing() {
    let (server, mut own, _folder) = shard().await;
    let mut node = Node::of(&server, CLUSTER, "0.9", OTHER).await;
    for reply in [
        node.put("k", version(1), b"x").await,
        node.get("k").await,
        node.stage("k", "1-1-0-1", b"x").await,
        node.bind("objects", "s1").await,
        node.ask("GET", "objects/state", &[], b"").await,
    ] {
        reply.refusal(421, "foreign");
        assert_eq!(reply.field("ringway-store"), Some(&*server.store().id().to_string()));
    }
    let state = own.ask("GET", "objects/state", &[], b"").await.json();
    assert_eq!(state["pool"]["epoch"], "0.0", "nor does it raise the fence");
    drop((node, own));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_epoch_fences_off_earlier_ones_for_ever() {
    let (server, mut first, folder) = shard().await;
    let mut second = Node::new(&server, "0.2").await;
    first.put("k", version(1), b"one").await.judged(true);
    first.stage("k", "1-1-0-1", b"late").await;
    // A read is enough.
    assert_eq!(second.get("k").await.body, b"one");
    for reply in [
        first.get("k").await,
        first.commit("k", "1-1-0-1", version(9)).await,
        first.put("k", version(9), b"late").await,
        first.delete("k", version(9)).await,
        first.ask("GET", "objects/keys", &[], b"").await,
    ] {
        assert_eq!(reply.field("ringway-epoch"), Some("0.2"));
        reply.refusal(409, "stale-epoch");
    }
    assert_eq!(first.head("k").await.field("ringway-error"), Some("stale-epoch"));
    // The stage is there still, for whoever repeats the commit by the new epoch.
    second.commit("k", "1-1-0-1", version(2)).await.judged(true);
    drop((first, second));
    server.stop().await;
    let server = Server::start(options(folder.path())).await;
    let mut first = Node::new(&server, "0.1").await;
    first.get("k").await.refusal(409, "stale-epoch");
    // A cluster that was born again begins below, and is later all the same.
    let mut reborn = Node::new(&server, "1.0").await;
    assert_eq!(reborn.get("k").await.body, b"late");
    let mut second = Node::new(&server, "0.2").await;
    let reply = second.get("k").await;
    assert_eq!(reply.field("ringway-epoch"), Some("1.0"));
    // Each pool has its own fence.
    assert_eq!(second.bind("others", "s1").await.status, 200);
    let token = format!("Ringway-Token: {}", token("k"));
    assert_eq!(second.ask("GET", "others/value/k", &[&token], b"").await.status, 404);
    drop((first, second, reborn));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fence_is_kept_durably_even_where_writes_are_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut lazy = options(folder.path());
    lazy.fsync = Fsync::Interval(Duration::from_secs(3600));
    let server = Server::start(lazy).await;
    let mut node = Node::new(&server, "0.1").await;
    node.bind("objects", "s1").await;
    node.get("k").await;
    let mut later = Node::new(&server, "0.7").await;
    later.get("k").await;
    later.put("k", version(1), b"not durable").await.judged(true);
    // What a crash would leave.
    let copy = tempfile::tempdir().expect("a temporary folder");
    for name in ["index.redb", "identity"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).expect("a copy");
    }
    let crashed = Server::start(options(copy.path())).await;
    let mut node = Node::new(&crashed, "0.1").await;
    let reply = node.get("k").await;
    assert_eq!(reply.field("ringway-epoch"), Some("0.7"));
    reply.refusal(409, "stale-epoch");
    assert_eq!(Node::new(&crashed, "0.7").await.get("k").await.status, 404);
    drop((node, later));
    crashed.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_from_the_future_is_refused() {
    let (server, mut node, _folder) = shard().await;
    node.stage("k", "1-1-0-1", b"x").await;
    for reply in [
        node.put("k", version(5001), b"x").await,
        node.delete("k", version(5001)).await,
        node.commit("k", "1-1-0-1", version(5001)).await,
        node.collect(0, &[("k", version(5001))]).await,
    ] {
        let detail = reply.refusal(409, "clock-ahead");
        assert!(detail.contains("5001 ms ahead"), "{detail}");
        assert_eq!(reply.field("ringway-outcome"), Some("not-applied"));
    }
    assert_eq!(node.commit("k", "1-1-0-1", version(5000)).await.judged(true), version(5000));
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_node_is_told_so() {
    let (server, mut node, _folder) = shard().await;
    server.get("/_ringway/replica/objects/value/k").await.refusal(400, "field");
    server.get("/_ringway/replica/objects").await.refusal(404, "no-such-page");
    server.get("/_ringway/replica/objects/state").await.refusal(400, "field");
    for (method, rest, fields, status, kind) in [
        ("POST", "objects/value/k", &[][..], 405, "method"),
        ("GET", "objects/commit/k", &[], 405, "method"),
        ("GET", "objects/value/", &["Ringway-Token: 0000000000000000"], 400, "no-key"),
        ("GET", "objects/value/k", &[], 400, "field"),
        ("GET", "objects/value/k", &["Ringway-Token: 12"], 400, "field"),
        ("GET", "objects/keys?limit=1001", &[], 400, "query"),
        ("GET", "objects/keys?from=1", &[], 400, "query"),
        ("GET", "objects/keys?x=1", &[], 400, "query"),
        ("GET", "objects/list?prefix=a&prefix=b", &[], 400, "query"),
        ("GET", "objects/digests?from=65536", &[], 400, "query"),
        ("GET", "objects/digests?from=1&count=65536", &[], 400, "query"),
        ("GET", "objects/digests?fold=0", &[], 400, "query"),
        ("POST", "objects/watermark", &[], 400, "query"),
        ("POST", "bad%20name/bind", &["Ringway-Shard: s1"], 400, "pool"),
        ("POST", "objects/bind", &[], 400, "field"),
    ] {
        let reply = node.ask(method, rest, fields, b"").await;
        assert_eq!(reply.field("ringway-error"), Some(kind), "{method} {rest}: {reply:?}");
        reply.refusal(status, kind);
    }
    let long = "k".repeat(1025);
    node.get(&long).await.refusal(414, "key-too-long");
    assert_eq!(node.get(&long[1..]).await.status, 404);
    let lines = node.ask("POST", "objects/watermark?slot=1", &[], b"no-version\n").await;
    lines.refusal(400, "lines");
    // A key lies in one place.
    node.put("k", version(1), b"x").await.judged(true);
    let version = format!("Ringway-Version: {}", version(2));
    let fields = ["Ringway-Token: 0000000000000001", &version];
    node.ask("PUT", "objects/value/k", &fields, b"x").await.refusal(409, "other-token");
    assert_eq!(node.everything().await.keys.len(), 1);
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_not_served_where_anybody_connects() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Arc::new(Store::open(options(folder.path())).expect("a fresh folder"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let (stop, stopped) = oneshot::channel::<()>();
    let door = Door { listener, tls: None, serves_nodes: false };
    let serving = tokio::spawn(serve_at(door, Arc::clone(&store), async {
        let _ = stopped.await;
    }));
    let server = Server { store: Some(store), address, stop: Some(stop), serving };
    let mut node = Node::new(&server, "0.1").await;
    let detail = node.bind("objects", "s1").await.refusal(403, "insecure");
    assert!(detail.contains("--client-ca"), "{detail}");
    assert_eq!(server.put("/k", b"x").await.status, 201, "cache pools are");
    drop(node);
    server.stop().await;
}
