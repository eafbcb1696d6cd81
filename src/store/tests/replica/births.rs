//! A pool is dropped, and its name given to another: nothing of the one is ever the other's.

use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition, TableHandle};

use super::*;

impl Node {
    /// A node that means the pool of this name that was born then.
    async fn born(server: &Server, epoch: &str, birth: &str) -> Self {
        let mut node = Self::new(server, epoch).await;
        node.fields.push(format!("Ringway-Birth: {birth}"));
        node
    }
}

/// Names of the tables of a closed store, and how many bodies are in its index and in files.
fn left(folder: &Path) -> (Vec<String>, u64, u64) {
    let db = Database::open(folder.join("index.redb")).expect("a closed index");
    let tx = db.begin_read().expect("a transaction");
    let tables = tx.list_tables().expect("a list");
    let mut names: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
    names.retain(|name| name.contains(':'));
    let bodies = tx.open_table(TableDefinition::<u64, &[u8]>::new("bodies")).expect("the table");
    let files = tx.open_table(TableDefinition::<u64, ()>::new("files")).expect("the table");
    (names, bodies.len().expect("a length"), files.len().expect("a length"))
}

fn body_files(folder: &Path) -> usize {
    let mut folders = vec![folder.join("bodies")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            match entry.file_type().expect("a type").is_dir() {
                true => folders.push(entry.path()),
                false => files += 1,
            }
        }
    }
    files
}

/// The story: `drop-pool` was said to take all that the pool keeps, and what was dropped came back with
/// the next pool of its name; or, if that hashed its keys otherwise, they could never be written.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dropped_pool_kept_never_comes_back() {
    let (server, folder) = fresh().await;
    let mut first = Node::born(&server, "1.3", "1.1").await;
    assert_eq!(first.bind("objects", "s1").await.status, 200);
    first.put("k", version(1), b"of the first").await.judged(true);
    first.put("large", version(1), &bytes(1, 100_000)).await.judged(true);
    first.delete("gone", version(1)).await.judged(true);
    first.stage("late", "1-1-0-1", b"staged").await;
    first.lost("lost", version(1), b"x").await.judged(true);
    assert_eq!(server.store().metrics().replica.damaged.get(), 1);

    // The later one may have other shards, and other tokens.
    let mut second = Node::born(&server, "1.4", "1.4").await;
    second.get("k").await.refusal(421, "not-bound");
    assert_eq!(second.bind("objects", "s7").await.status, 200);
    assert_eq!(second.bind("objects", "s7").await.status, 200);
    assert_eq!(
        server.store().metrics().replica.damaged.get(),
        0,
        "what is damaged is gone with it"
    );
    assert_eq!(second.get("k").await.status, 404);
    assert_eq!(second.everything().await.keys.len(), 0);
    assert_eq!(second.sums("?fold=65536").await, [Sum::default()]);
    let state = second.ask("GET", "objects/state", &[], b"").await.json();
    assert_eq!((&state["pool"]["birth"], &state["pool"]["shard"]), (&"1.4".into(), &"s7".into()));
    assert_eq!((&state["pool"]["epoch"], &state["pool"]["stages"]), (&"1.4".into(), &0.into()));

    // Whoever still means the first one, by whatever epoch, does nothing.
    let mut ahead = Node::born(&server, "2.9", "1.1").await;
    for reply in [
        first.get("k").await,
        first.put("k", version(9), b"late").await,
        first.delete("k", version(9)).await,
        first.stage("k", "1-1-0-2", b"late").await,
        first.commit("late", "1-1-0-1", version(9)).await,
        first.ask("GET", "objects/list", &[], b"").await,
        first.ask("GET", "objects/digests", &[], b"").await,
        first.collect(7, &[("gone", version(1))]).await,
        first.bind("objects", "s1").await,
        ahead.put("k", version(9), b"late").await,
        ahead.bind("objects", "s1").await,
    ] {
        reply.refusal(421, "other-birth");
    }
    assert_eq!(second.everything().await.keys.len(), 0);
    // An older version than the first one's, under another token: the key has no past here.
    let token = format!("Ringway-Token: {:016x}", token("k").0 ^ (1 << 63));
    let at = format!("Ringway-Version: {}", version(-5));
    second.ask("PUT", "objects/value/k", &[&token, &at], b"new").await.judged(true);
    assert_eq!(second.ask("GET", "objects/value/k", &[&token], b"").await.body, b"new");

    let began = Instant::now();
    while body_files(folder.path()) > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "its files go");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop((first, second, ahead));
    server.stop().await;
    let server = Server::start(options(folder.path())).await;
    let mut first = Node::born(&server, "1.3", "1.1").await;
    first.get("k").await.refusal(421, "other-birth");
    drop(first);
    server.stop().await;
}

/// Many keys go in many steps, other pools' writes between them, and a restart goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_is_taken_away_by_and_by() {
    let (server, folder) = fresh().await;
    server.put("/cached", b"x").await;
    let mut first = Node::born(&server, "1.1", "1.1").await;
    let mut other = Node::new(&server, "1.1").await;
    assert_eq!(first.bind("objects", "s1").await.status, 200);
    assert_eq!(other.bind("others", "s1").await.status, 200);
    for number in 0..900 {
        let key = format!("k/{number}");
        match number % 30 {
            0 => first.put(&key, version(number), &bytes(1, 80_000)).await.judged(true),
            1 => first.delete(&key, version(number)).await.judged(true),
            _ => first.put(&key, version(number), b"small").await.judged(true),
        };
    }
    assert_eq!(body_files(folder.path()), 30);
    // Dropped and made anew twice, without a moment between.
    for birth in ["1.2", "1.3"] {
        let mut node = Node::born(&server, birth, birth).await;
        assert_eq!(node.bind("objects", "s1").await.status, 200);
        node.put("mine", version(1), birth.as_bytes()).await.judged(true);
    }
    drop((first, other));
    server.stop().await;
    let (tables, ..) = left(folder.path());
    assert!(tables.iter().any(|name| name == "kept:objects:1.1"), "not all at once: {tables:?}");

    let server = Server::start(options(folder.path())).await;
    let began = Instant::now();
    while body_files(folder.path()) > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "its files go");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut third = Node::born(&server, "1.3", "1.3").await;
    assert_eq!(third.get("mine").await.body, b"1.3");
    assert_eq!(third.everything().await.keys.len(), 1);
    assert_eq!(server.get("/cached").await.body, b"x");
    drop(third);
    server.stop().await;
    // The last steps are those of small tables: each start takes some, if nobody waits for them.
    for _ in 0..100 {
        if left(folder.path()).0.iter().all(|name| !name.contains(":1.1") && !name.contains(":1.2"))
        {
            break;
        }
        let server = Server::start(options(folder.path())).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.stop().await;
    }
    let (tables, bodies, files) = left(folder.path());
    let mine = |name: &String| name.ends_with(":objects:1.3") || name.ends_with(":others");
    assert!(tables.iter().all(mine) && tables.len() == 12, "{tables:?}");
    assert_eq!((bodies, files), (2, 0), "the cached one and that of the third pool");
}
