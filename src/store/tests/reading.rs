//! Ranges, listings, and reads beside writes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_cut_from_small_and_large_values_alike() {
    let (server, _folder) = fresh().await;
    for (target, length) in [("/small", 1000), ("/large", 1_000_000)] {
        let body = bytes(7, length);
        server.put(target, &body).await;
        let get = async |fields: &[&str]| server.ask("GET", target, fields, b"").await;
        for (range, first, last) in [
            ("0-0", 0, 0),
            ("1-500", 1, 500),
            ("999-", 999, length - 1),
            ("-1", length - 1, length - 1),
            ("0-99999999999", 0, length - 1),
        ] {
            let reply = get(&[&format!("Range: bytes={range}")]).await;
            assert_eq!(reply.status, 206, "{range}");
            assert!(reply.body == body[first..=last], "{range}");
            let field = format!("bytes {first}-{last}/{length}");
            assert_eq!(reply.field("content-range"), Some(field.as_str()));
            assert_eq!(reply.field("etag"), Some(etag(&body).as_str()));
        }
        let outside = get(&[&format!("Range: bytes={length}-")]).await;
        outside.refusal(416, "range");
        assert_eq!(outside.field("content-range"), Some(format!("bytes */{length}").as_str()));

        let own = format!("If-Range: {}", etag(&body));
        assert_eq!(get(&[&own, "Range: bytes=0-9"]).await.status, 206);
        for fields in [
            &["Range: bytes=0-1,4-5"][..],
            &["Range: bytes=0-1", "Range: bytes=4-5"],
            &["Range: lines=0-1"],
            &["Range: bytes=0-9", "If-Range: \"other\""],
            &["Range: bytes=0-9", "If-Range: Tue, 14 Nov 2023 22:13:20 GMT"],
        ] {
            let reply = get(fields).await;
            assert_eq!((reply.status, reply.field("content-range")), (200, None), "{fields:?}");
            assert!(reply.body == body, "{fields:?}");
        }
        let head = server.ask("HEAD", target, &["Range: bytes=0-9"], b"").await;
        assert_eq!((head.status, head.number("content-length")), (200, length));
    }
    server.put("/empty", b"").await;
    assert_eq!(server.ask("GET", "/empty", &["Range: bytes=-5"], b"").await.status, 200);
    assert_eq!(server.ask("GET", "/empty", &["Range: bytes=0-"], b"").await.status, 416);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_has_every_key_once_in_order_page_by_page() {
    let (server, _folder) = fresh().await;
    let empty = server.get("/_ringway/list").await;
    assert_eq!(empty.field("content-type"), Some("application/json"));
    assert_eq!(empty.json(), serde_json::json!({ "keys": [] }));

    let mut keys: Vec<String> = (0..25).map(|n| format!("a/{n}%20x")).collect();
    keys.extend(["a", "a.", "a0", "b/c"].map(str::to_owned));
    for key in &keys {
        server.put(&format!("/{key}"), key.as_bytes()).await;
    }
    keys.sort();
    for limit in [1, 7, 28, 29, 1000] {
        let (mut listed, mut cursor) = (vec![], String::new());
        loop {
            let page = server.get(&format!("/_ringway/list?limit={limit}{cursor}")).await.json();
            let entries = page["keys"].as_array().expect("a list");
            assert!(entries.len() <= limit);
            listed.extend(entries.iter().map(|e| e["key"].as_str().expect("a key").to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(listed, keys, "limit {limit}");
    }
    let page = server.get("/_ringway/list?prefix=a/1%2520").await.json();
    assert_eq!(page["keys"][0]["key"], "a/1%20x");
    assert_eq!(page["keys"][0]["size"], 7);
    assert_eq!(page["keys"][0]["etag"], etag(b"a/1%20x"));
    assert_eq!(page["keys"][0]["modified_ms"], 1_700_000_000_000_u64);
    assert_eq!(page["keys"].as_array().expect("a list").len(), 1);
    assert!(page["next"].is_null());

    for query in ["limit=0", "limit=1001", "cursor=zz", "delimiter=/", "prefix=%"] {
        server.get(&format!("/_ringway/list?{query}")).await.refusal(400, "list");
    }
    server.get("/_ringway/other").await.refusal(404, "no-such-page");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_what_is_held() {
    let (server, _folder) = fresh().await;
    server.put("/a", b"12345").await;
    for page in ["health", "health/read", "health/write"] {
        let reply = server.get(&format!("/_ringway/{page}")).await;
        assert_eq!(reply.status, 200);
        let expected = serde_json::json!({
            "store": server.store().id().to_string(),
            "read": { "ok": true },
            "write": { "ok": true },
            "objects": 1,
            "bytes": 5,
        });
        assert_eq!(reply.json(), expected, "{page}");
    }
    server.get("/_ringway/health?x").await.refusal(400, "query");
    server.stop().await;
}

/// The reader has the head of the old value and some of its bytes; then the value is replaced
/// and deleted. What follows must be the rest of the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_keeps_the_value_that_it_began_to_read() {
    let (server, folder) = fresh().await;
    // More than all buffers on the way can hold.
    let old = bytes(1, 24 * 1024 * 1024);
    server.put("/k", &old).await;
    let mut reader = server.connect().await;
    reader.send(head("GET", "/k", &[], None).as_bytes()).await;
    assert_eq!(reader.reply_head().await.status, 200);
    server.put("/k", &bytes(2, 100_000)).await;
    server.ask("DELETE", "/k", &[], b"").await;
    until("its file has no name", || files(folder.path(), "bodies").is_empty()).await;
    while reader.read.len() < old.len() {
        assert!(reader.fill().await, "the value was cut short");
    }
    assert!(reader.read == old, "bytes of another value were mixed in");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_beside_overwrites_see_one_value_or_the_other() {
    let (server, _folder) = fresh().await;
    // Alternating between the index and a file, so that each read meets a vanishing one.
    let values = [bytes(1, 1000), bytes(2, 70_000), bytes(3, 65_536), bytes(4, 300_000)];
    let values = Arc::new(values);
    server.put("/k", &values[0]).await;
    let server = Arc::new(server);
    let writing = tokio::spawn({
        let (server, values) = (Arc::clone(&server), Arc::clone(&values));
        async move {
            for round in 0..200 {
                assert_eq!(server.put("/k", &values[round % 4]).await.status, 204);
            }
        }
    });
    let mut connection = server.connect().await;
    let mut reads = 0;
    while !writing.is_finished() || reads == 0 {
        let reply = connection.ask("GET", "/k", &[], b"").await;
        assert_eq!(reply.status, 200);
        let tag = reply.field("etag").map(str::to_owned);
        assert_eq!(tag, Some(etag(&reply.body)), "head and body are of one value");
        assert!(values.contains(&reply.body));
        reads += 1;
    }
    writing.await.expect("the writer's checks hold");
    drop(connection);
    Arc::into_inner(server).expect("the writer is done").stop().await;
}
