//! PUT, DELETE and what they leave.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_any_size_comes_back_whole_until_it_is_deleted() {
    let (server, folder) = fresh().await;
    let id = server.store().id().to_string();
    for length in [0, 1, 1000, 65_535, 65_536, 65_537, 262_144, 262_145, 3_000_000] {
        for chunked in [false, true] {
            let target = format!("/value/{length}/{chunked}");
            let body = bytes(length as u64, length);
            let mut replies = vec![server.get(&target).await];
            replies[0].refusal(404, "not-found");

            let put = if chunked {
                put_chunked(&server, &target, &body).await
            } else {
                server.put(&target, &body).await
            };
            assert_eq!((put.status, put.field("etag")), (201, Some(etag(&body).as_str())));
            assert_eq!(put.field("last-modified"), Some("Tue, 14 Nov 2023 22:13:20 GMT"));

            let get = server.get(&target).await;
            assert_eq!(get.status, 200);
            assert!(get.body == body, "{length} bytes came back otherwise");
            assert_eq!(get.field("etag"), put.field("etag"));
            assert_eq!(get.field("last-modified"), put.field("last-modified"));
            assert_eq!(get.field("accept-ranges"), Some("bytes"));
            assert_eq!(get.field("content-type"), Some("application/octet-stream"));

            let head = server.ask("HEAD", &target, &[], b"").await;
            assert_eq!((head.status, head.number("content-length")), (200, length));
            assert_eq!(head.field("etag"), put.field("etag"));

            let again = server.put(&target, &body).await;
            assert_eq!((again.status, again.field("etag")), (204, put.field("etag")));

            let delete = server.ask("DELETE", &target, &[], b"").await;
            assert_eq!(delete.status, 204);
            let missing = server.ask("DELETE", &target, &[], b"").await;
            missing.refusal(404, "not-found");
            replies.extend([put, get, head, again, delete, missing, server.get(&target).await]);
            replies.last().expect("one").refusal(404, "not-found");
            for reply in &replies {
                assert_eq!(reply.field("ringway-store"), Some(id.as_str()));
                assert!(reply.field("date").is_some());
            }
        }
    }
    assert_eq!(server.store().totals().objects, 0);
    assert_eq!(server.store().totals().bytes, 0);
    until("all files are gone", || files(folder.path(), "bodies").is_empty()).await;
    assert_eq!(server.stop().await, 0);
}

async fn put_chunked(server: &Server, target: &str, body: &[u8]) -> Reply {
    let mut connection = server.connect().await;
    let head = head("PUT", target, &["Transfer-Encoding: chunked"], None);
    connection.send(head.as_bytes()).await;
    for chunk in body.chunks(50_000) {
        connection.send(format!("{:x}\r\n", chunk.len()).as_bytes()).await;
        connection.send(chunk).await;
        connection.send(b"\r\n").await;
    }
    connection.send(b"0\r\n\r\n").await;
    connection.reply("PUT").await
}

#[tokio::test(flavor = "multi_thread")]
async fn content_fields_are_kept_with_the_value_and_replaced_with_it() {
    let (server, _folder) = fresh().await;
    let fields = [
        "Content-Type: text/html; charset=utf-8",
        "Content-Encoding: gzip",
        "Content-Language: rm",
        "Content-Disposition: attachment",
        "Cache-Control: max-age=60",
        "Expires: 0",
        "X-Meta-Owner: me",
        "X-Other: dropped",
        "Via: 1.1 somebody",
    ];
    server.ask("PUT", "/k", &fields, b"x").await;
    for method in ["GET", "HEAD"] {
        let reply = server.ask(method, "/k", &[], b"").await;
        for field in &fields[..7] {
            let (name, value) = field.split_once(": ").expect("a field");
            assert_eq!(reply.field(&name.to_ascii_lowercase()), Some(value), "{method}");
        }
        assert_eq!((reply.field("x-other"), reply.field("via")), (None, None));
    }
    server.put("/k", b"x").await;
    let reply = server.get("/k").await;
    assert_eq!(reply.field("content-type"), Some("application/octet-stream"));
    assert_eq!((reply.field("x-meta-owner"), reply.field("expires")), (None, None));

    let long = format!("X-Meta-Long: {}", "v".repeat(9000));
    let detail = server.ask("PUT", "/k", &[&long], b"y").await.refusal(431, "fields");
    assert!(detail.contains("9011 bytes") && detail.contains("8192"), "{detail}");
    assert_eq!(server.get("/k").await.body, b"x");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_the_paths_bytes_and_nothing_is_made_of_them() {
    let (server, _folder) = fresh().await;
    let long = "k".repeat(1024);
    let keys = [
        "a/b",
        "a%2Fb",
        "a%2fb",
        "/a/b",
        "a//b",
        "a/./b",
        "a/../b",
        "a/b/",
        "%00",
        "a+b",
        "a%20b",
        "~!$&'()*,;=:@",
        "_ringway",
        "_ringwayx/list",
        &long,
    ];
    for (number, key) in keys.iter().enumerate() {
        let put = server.put(&format!("/{key}"), number.to_string().as_bytes()).await;
        assert_eq!(put.status, 201, "{key} is another key's spelling");
    }
    for (number, key) in keys.iter().enumerate() {
        let get = server.get(&format!("/{key}")).await;
        assert_eq!(get.body, number.to_string().as_bytes(), "{key}");
    }
    assert_eq!(server.get("/a/b?").await.body, b"0", "an empty query is none");
    assert_eq!(server.get("http://elsewhere/a/b").await.body, b"0", "absolute form");

    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let ask = async |target: &str| server.ask(method, target, &[], b"").await;
        for (target, status) in
            [("/", 400), ("/a/b?x", 400), ("/?x", 400), (&*format!("/{long}k"), 414)]
        {
            assert_eq!(ask(target).await.status, status, "{method} {target}");
        }
    }
    server.get("/").await.refusal(400, "no-key");
    server.get("/a?b").await.refusal(400, "query");
    server.get(&format!("/{long}k")).await.refusal(414, "key-too-long");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_value_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut options = options(folder.path());
    options.value_bytes_max = 100_000;
    let server = Server::start(options).await;

    let part = server.ask("PUT", "/k", &["Content-Range: bytes 0-0/9"], b"x").await;
    part.refusal(400, "content-range");

    assert_eq!(server.put("/k", &bytes(1, 100_000)).await.status, 201);
    let over = bytes(2, 100_001);
    let told = server.put("/k", &over).await;
    assert!(told.refusal(413, "too-large").contains("100000"));
    assert_eq!(told.field("ringway-outcome"), Some("not-applied"));
    put_chunked(&server, "/k", &over).await.refusal(413, "too-large");
    assert!(server.get("/k").await.body == bytes(1, 100_000), "the old value stays");

    until("nothing of the refused is left", || {
        files(folder.path(), "incoming").is_empty() && files(folder.path(), "bodies").len() == 1
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_beyond_the_stores_are_405_with_what_is_allowed() {
    let (server, _folder) = fresh().await;
    for method in ["POST", "PATCH", "TRACE", "PROPFIND", "MKCOL", "COPY"] {
        for (target, allow) in [
            ("/k", "GET, HEAD, PUT, DELETE, OPTIONS"),
            ("/", "GET, HEAD, PUT, DELETE, OPTIONS"),
            ("/_ringway/list", "GET, HEAD, OPTIONS"),
        ] {
            let reply = server.ask(method, target, &[], b"").await;
            reply.refusal(405, "method");
            assert_eq!(reply.field("allow"), Some(allow), "{method} {target}");
        }
    }
    server.ask("PUT", "/_ringway/health", &[], b"").await.refusal(405, "method");
    for target in ["/k", "*", "/_ringway/list"] {
        let reply = server.ask("OPTIONS", target, &[], b"").await;
        assert_eq!(reply.status, 204);
        assert!(reply.field("allow").is_some_and(|allow| allow.starts_with("GET, HEAD")));
    }
    server.stop().await;
}

/// A client died in the middle of an upload, and another reader was served the first half of it:
/// that must be impossible, at any length and in either framing.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_early_leaves_nothing() {
    let (server, folder) = fresh().await;
    server.put("/kept", b"old").await;
    for (announced, sent) in [(10, 9), (10, 0), (65_536, 65_535), (600_000, 300_000)] {
        for target in ["/kept", "/new"] {
            let mut connection = server.connect().await;
            connection.send(head("PUT", target, &[], Some(announced)).as_bytes()).await;
            connection.send(&bytes(1, sent)).await;
            drop(connection);
            let mut connection = server.connect().await;
            let chunked = head("PUT", target, &["Transfer-Encoding: chunked"], None);
            connection.send(chunked.as_bytes()).await;
            connection.send(format!("{announced:x}\r\n").as_bytes()).await;
            connection.send(&bytes(1, sent)).await;
            connection.stream.shutdown().await.expect("an open connection");
            while connection.fill().await {}
        }
    }
    until("nothing of them is left", || files(folder.path(), "incoming").is_empty()).await;
    assert_eq!(server.get("/kept").await.body, b"old");
    server.get("/new").await.refusal(404, "not-found");
    assert_eq!(server.store().totals().objects, 1);
    assert_eq!(files(folder.path(), "bodies").len(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crowded_out_of_wide_buffers_a_large_value_still_passes_whole() {
    let (server, _folder) = fresh().await;
    let mut slow = vec![];
    for number in 0..70 {
        let mut connection = server.connect().await;
        connection
            .send(head("PUT", &format!("/slow/{number}"), &[], Some(80_000)).as_bytes())
            .await;
        connection.send(&bytes(number, 79_999)).await;
        slow.push(connection);
    }
    let begun = 70 * 79_999;
    until("all have begun", || server.store().metrics().received_bytes.get() == begun).await;
    let body = bytes(100, 1_000_001);
    assert_eq!(server.put("/k", &body).await.status, 201);
    assert!(server.get("/k").await.body == body);
    for (number, connection) in (0..).zip(&mut slow) {
        connection.send(&bytes(number, 80_000)[79_999..]).await;
        assert_eq!(connection.reply("PUT").await.status, 201);
        let get = connection.ask("GET", &format!("/slow/{number}"), &[], b"").await;
        assert!(get.body == bytes(number, 80_000));
    }
    drop(slow);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writes_share_a_commit_and_each_is_there_when_it_is_answered() {
    let (server, _folder) = fresh().await;
    let server = Arc::new(server);
    let clients: Vec<_> = (0..32)
        .map(|client| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let mut connection = server.connect().await;
                for round in 0..20 {
                    let (target, body) = (format!("/{client}/{round}"), bytes(round, 500));
                    let put = connection.ask("PUT", &target, &[], &body).await;
                    assert_eq!(put.status, 201);
                    let get = connection.ask("GET", &target, &[], b"").await;
                    assert_eq!(get.body, body, "read your own write");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client's checks hold");
    }
    let metrics = server.store().metrics();
    let commits = metrics.commits[0].get();
    assert!(commits < 640, "640 writes took {commits} commits");
    assert_eq!(metrics.commit_writes.get_sample_sum().to_string(), "640");
    assert_eq!((metrics.objects.get(), metrics.object_bytes.get()), (640, 320_000));
    assert_eq!(metrics.received_bytes.get(), 320_000);
    assert_eq!(metrics.sent_bytes.get(), 320_000);
    Arc::into_inner(server).expect("all clients are done").stop().await;
}
