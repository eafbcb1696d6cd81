//! Conditions over HTTP, and the races that they must decide.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn conditions_on_reads_spare_the_body() {
    let (server, _folder) = fresh().await;
    for body in [bytes(1, 100), bytes(2, 100_000)] {
        server.ask("PUT", "/k", &["Cache-Control: no-cache"], &body).await;
        let own = etag(&body);
        let same = format!("If-None-Match: {own}");
        for method in ["GET", "HEAD"] {
            let ask = async |fields: &[&str]| server.ask(method, "/k", fields, b"").await;
            let unchanged = ask(&[&same]).await;
            assert_eq!(unchanged.status, 304);
            assert_eq!(unchanged.field("etag"), Some(own.as_str()));
            assert_eq!(unchanged.field("cache-control"), Some("no-cache"));
            assert_eq!(ask(&["If-None-Match: \"other\""]).await.status, 200);
            assert_eq!(
                ask(&["If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"]).await.status,
                304
            );
            assert_eq!(
                ask(&["If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT"]).await.status,
                200
            );
            assert_eq!(ask(&["If-Match: \"other\""]).await.status, 412);
            assert_eq!(ask(&["If-None-Match: unquoted"]).await.status, 400);
        }
        let absent = server.ask("GET", "/absent", &[&same], b"").await;
        absent.refusal(404, "not-found");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_on_writes_change_nothing_when_they_fail() {
    let (server, _folder) = fresh().await;
    let old = bytes(1, 100_000);
    let own = format!("If-Match: {}", etag(&old));
    let put = async |fields: &[&str]| server.ask("PUT", "/k", fields, &bytes(2, 100_000)).await;
    let delete = async |fields: &[&str]| server.ask("DELETE", "/k", fields, b"").await;

    put(&[&own]).await.refusal(412, "condition");
    delete(&["If-Match: *"]).await.refusal(412, "condition");
    server.get("/k").await.refusal(404, "not-found");

    assert_eq!(server.ask("PUT", "/k", &["If-None-Match: *"], &old).await.status, 201);
    for condition in [
        "If-None-Match: *",
        &own.replace("If-Match", "If-None-Match"),
        "If-Match: \"other\"",
        &own.replace("If-Match: ", "If-Match: W/"),
        "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT",
    ] {
        put(&[condition]).await.refusal(412, "condition");
        delete(&[condition]).await.refusal(412, "condition");
    }
    put(&["If-None-Match: *, \"a\""]).await.refusal(400, "condition-syntax");
    assert!(server.get("/k").await.body == old, "the value stayed");

    assert_eq!(put(&[&own]).await.status, 204);
    delete(&[&own]).await.refusal(412, "condition");
    assert_eq!(delete(&["If-Unmodified-Since: Tue, 14 Nov 2023 22:13:20 GMT"]).await.status, 204);
    server.stop().await;
}

/// Servers that answer perfect 412s one at a time and let two winners through in a race are
/// common (`Apache`, `wsgidav`, `s3s-fs`); a register or a lock on top of one is broken.
#[tokio::test(flavor = "multi_thread")]
async fn of_racing_creators_exactly_one_wins() {
    let (server, folder) = fresh().await;
    let server = Arc::new(server);
    for round in 0..20 {
        let length = if round % 2 == 0 { 200 } else { 70_000 };
        let target = format!("/race/{round}");
        // All heads and bodies but the last byte are there before any can finish.
        let mut racers = vec![];
        for racer in 0..12 {
            let mut connection = server.connect().await;
            let body = bytes(racer, length);
            let head = head("PUT", &target, &["If-None-Match: *"], Some(length));
            connection.send(head.as_bytes()).await;
            connection.send(&body[..length - 1]).await;
            racers.push((connection, body));
        }
        let finishes: Vec<_> = racers
            .into_iter()
            .map(|(mut connection, body)| {
                tokio::spawn(async move {
                    connection.send(&body[length - 1..]).await;
                    (connection.reply("PUT").await.status, body)
                })
            })
            .collect();
        let mut winners = vec![];
        for finish in finishes {
            match finish.await.expect("a racer") {
                (201, body) => winners.push(body),
                (status, _) => assert_eq!(status, 412),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert!(server.get(&target).await.body == winners[0], "the winner's value is kept");
    }
    until("only winners have files", || {
        files(folder.path(), "incoming").is_empty() && files(folder.path(), "bodies").len() == 10
    })
    .await;
    Arc::into_inner(server).expect("all racers are done").stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compare_and_set_loses_no_increment() {
    let (server, _folder) = fresh().await;
    server.put("/counter", b"0").await;
    let server = Arc::new(server);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let mut connection = server.connect().await;
                let mut done = 0;
                while done < 10 {
                    let old = connection.ask("GET", "/counter", &[], b"").await;
                    let text = String::from_utf8(old.body.clone()).expect("digits");
                    let next = text.parse::<u64>().expect("a number") + 1;
                    let condition = format!("If-Match: {}", old.field("etag").expect("a tag"));
                    let fields = [condition.as_str()];
                    let body = next.to_string();
                    match connection.ask("PUT", "/counter", &fields, body.as_bytes()).await.status {
                        204 => done += 1,
                        status => assert_eq!(status, 412),
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client");
    }
    assert_eq!(server.get("/counter").await.body, b"80");
    Arc::into_inner(server).expect("all clients are done").stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_is_not_asked_for_and_does_not_cost_the_connection() {
    let (server, _folder) = fresh().await;
    server.put("/k", b"old").await;
    let mut connection = server.connect().await;
    let fields = ["If-None-Match: *", "Expect: 100-continue"];
    connection.send(head("PUT", "/k", &fields, Some(500_000)).as_bytes()).await;
    connection.reply("PUT").await.refusal(412, "condition");
    assert!(!connection.read.starts_with(b"HTTP/1.1 100"));

    // Without Expect the body comes anyway, and is read and dropped.
    let mut connection = server.connect().await;
    connection.ask("PUT", "/k", &fields[..1], &bytes(1, 500_000)).await.refusal(412, "condition");
    assert_eq!(connection.ask("GET", "/k", &[], b"").await.body, b"old");
    server.stop().await;
}
