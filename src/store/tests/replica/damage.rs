//! Bytes that rot or are gone: noticed, told, and brought anew.

use redb::{Database, ReadableTable, TableDefinition};

use super::*;
use crate::protocol::replica::slot_of;
use crate::store::replica::damage::FOUND;

/// Longer than what is kept in the index, and than two of the pieces that a reader is sent.
const LARGE: usize = 700_000;

/// The files of bodies.
fn bodies(folder: &TempDir) -> Vec<PathBuf> {
    files(folder.path(), "bodies")
}

/// Turns one bit around.
fn rot(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).expect("a body");
    bytes[at] ^= 1;
    std::fs::write(file, bytes).expect("a writable folder");
}

fn found(server: &Server) -> [u64; FOUND.len()] {
    server.store().metrics().replica.damage_found.each_ref().map(prometheus::IntCounter::get)
}

/// Checks what a node is told of a damaged value wherever it may ask, and that the same version
/// mends it, in the right bytes.
async fn is_told_and_mended(server: &Server, node: &mut Node, key: &str, body: &[u8]) {
    for reply in [node.get(key).await, node.head(key).await] {
        assert_eq!((reply.status, reply.field("ringway-error")), (500, Some("damaged")));
        assert_eq!(reply.version(), version(5), "what was written is not forgotten");
    }
    let other = format!("If-Version: {}", version(2));
    assert_eq!(node.keyed("GET", "value", key, &[&other], b"").await.status, 412);
    // Whoever compares can tell it from the value and from nothing.
    let of_keys: Vec<_> =
        node.everything().await.keys.into_iter().map(|entry| (entry.damaged, entry.key)).collect();
    assert!(of_keys.contains(&(true, key.to_owned())), "{of_keys:?}");
    assert!(of_keys.contains(&(false, "sound".to_owned())), "{of_keys:?}");
    let sound = Sum::of(b"sound", version(1), false);
    let mut sum = Sum::of_damaged(key.as_bytes(), version(5));
    sum += sound;
    assert_eq!(node.sums("?fold=65536").await, [sum]);
    let listed = node.page("list").await.keys;
    assert!(listed.iter().any(|entry| entry.key == key && entry.size == body.len() as u64));
    assert_eq!(node.stage(key, "1-1-0-7", b"x").await.version(), version(5));
    let state = node.ask("GET", "objects/state", &[], b"").await.json();
    assert_eq!((&state["pool"]["damaged"], &state["pool"]["values"]), (&1.into(), &2.into()));
    assert_eq!(server.store().metrics().replica.damaged.get(), 1);
    // Something older is no cure, nor are other bytes.
    node.put(key, version(4), b"older").await.judged(false);
    let told = format!("Ringway-Digest: {}", blake3::hash(body).to_hex());
    let of = format!("Ringway-Version: {}", version(5));
    let wrong = node.keyed("PUT", "value", key, &[&of, &told], b"not these").await;
    wrong.refusal(422, "other-bytes");
    assert_eq!(wrong.field("ringway-outcome"), Some("not-applied"));
    assert_eq!(node.head(key).await.status, 500);
    node.keyed("PUT", "value", key, &[&of, &told], body).await.judged(true);
    assert!(node.get(key).await.body == body);
    let mut both = Sum::of(key.as_bytes(), version(5), false);
    both += sound;
    assert_eq!(node.sums("?fold=65536").await, [both]);
    assert_eq!(server.store().metrics().replica.damaged.get(), 0);
    let state = node.ask("GET", "objects/state", &[], b"").await.json();
    assert_eq!((&state["pool"]["damaged"], &state["pool"]["values"]), (&0.into(), &2.into()));
}

async fn with_two_values(body: &[u8]) -> (Server, Node, TempDir) {
    let (server, mut node, folder) = shard().await;
    node.put("sound", version(1), b"sound").await.judged(true);
    node.put("k", version(5), body).await.judged(true);
    (server, node, folder)
}

/// It once answered 500 for ever, and said to whoever compared that it had the value; a copy that it
/// was brought was "a repeat", and dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_whose_file_is_gone_is_brought_anew() {
    let body = bytes(1, LARGE);
    let (server, mut node, folder) = with_two_values(&body).await;
    std::fs::remove_file(&bodies(&folder)[0]).expect("a body");
    is_told_and_mended(&server, &mut node, "k", &body).await;
    assert_eq!(found(&server), [0, 1, 0]);
    // Cut short, likewise, also where a part is asked for.
    std::fs::write(&bodies(&folder)[0], &body[..LARGE / 2]).expect("a writable folder");
    assert_eq!(node.keyed("GET", "value", "k", &["Range: bytes=0-9"], b"").await.status, 500);
    is_told_and_mended(&server, &mut node, "k", &body).await;
    assert_eq!(found(&server), [0, 2, 0]);
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_at_the_start_is_noted_before_anybody_asks() {
    let body = bytes(1, LARGE);
    let (server, node, folder) = with_two_values(&body).await;
    drop(node);
    server.stop().await;
    std::fs::remove_file(&bodies(&folder)[0]).expect("a body");
    for starts in 0..2 {
        let server = Server::start(options(folder.path())).await;
        let mut node = Node::new(&server, "0.1").await;
        assert_eq!(node.head("k").await.status, 500);
        assert_eq!(found(&server), [1 - starts, 0, 0], "once is enough");
        if starts == 1 {
            is_told_and_mended(&server, &mut node, "k", &body).await;
        }
        drop(node);
        server.stop().await;
    }
    assert_eq!(bodies(&folder).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_rot_in_a_file_end_its_body_before_it_is_whole() {
    let body = bytes(1, LARGE);
    let (server, mut node, folder) = with_two_values(&body).await;
    for at in [0, LARGE - 1] {
        rot(&bodies(&folder)[0], at);
        // A part is compared with nothing, and a head reads nothing.
        let part = node.keyed("GET", "value", "k", &["Range: bytes=9-19"], b"").await;
        assert_eq!((part.status, &part.body[..]), (206, &body[9..20]));
        assert_eq!(node.head("k").await.status, 200);
        let mut reader = Node::new(&server, "0.1").await;
        let fields: Vec<String> = reader.fields.clone();
        let mut fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let token = format!("Ringway-Token: {}", token("k"));
        fields.push(&token);
        let path = "/_ringway/replica/objects/value/k";
        reader.connection.send(head("GET", path, &fields, Some(0)).as_bytes()).await;
        assert_eq!(reader.connection.reply_head().await.status, 200);
        while reader.connection.fill().await {}
        assert!(reader.connection.read.len() < LARGE, "its last piece was not sent");
        // By then it is known.
        is_told_and_mended(&server, &mut node, "k", &body).await;
    }
    assert_eq!(found(&server), [0, 2, 0]);
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_rot_in_the_index_are_not_sent() {
    const BODIES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("bodies");
    let body = bytes(1, 3000);
    for cut in [0, 1] {
        let (server, node, folder) = with_two_values(&body).await;
        drop(node);
        server.stop().await;
        let db = Database::open(folder.path().join("index.redb")).expect("a closed index");
        let tx = db.begin_write().expect("a transaction");
        {
            let mut table = tx.open_table(BODIES).expect("the table");
            let rows = table.iter().expect("rows").map(|row| row.expect("a row"));
            let (id, mut bytes) = rows
                .map(|(id, row)| (id.value(), row.value().to_vec()))
                .find(|(_, row)| *row == body)
                .expect("the body");
            bytes[17] ^= 1;
            table.insert(id, &bytes[cut..]).expect("a change");
        }
        tx.commit().expect("a commit");
        drop(db);
        let server = Server::start(options(folder.path())).await;
        let mut node = Node::new(&server, "0.1").await;
        is_told_and_mended(&server, &mut node, "k", &body).await;
        assert_eq!(found(&server), [0, 1, 0]);
        drop(node);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_value_can_be_overwritten_and_deleted() {
    let body = bytes(1, LARGE);
    for deletes in [false, true] {
        let (server, mut node, folder) = with_two_values(&body).await;
        rot(&bodies(&folder)[0], 5);
        assert_eq!(node.ask("GET", "objects/state", &[], b"").await.json()["pool"]["damaged"], 0);
        std::fs::remove_file(&bodies(&folder)[0]).expect("a body");
        assert_eq!(node.get("k").await.status, 500);
        let mut sum = Sum::of(b"sound", version(1), false);
        if deletes {
            node.delete("k", version(6)).await.judged(true);
        } else {
            node.stage("k", "1-1-0-1", b"newer").await;
            node.commit("k", "1-1-0-1", version(6)).await.judged(true);
            assert_eq!(node.get("k").await.body, b"newer");
        }
        sum += Sum::of(b"k", version(6), deletes);
        assert_eq!(node.sums("?fold=65536").await, [sum]);
        assert_eq!(server.store().metrics().replica.damaged.get(), 0);
        drop(node);
        server.stop().await;
    }
}

/// A store that took a lost one's place never heard of a value that the others had damaged: it answered
/// as if that had never been written.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_told_of_a_value_that_nobody_has() {
    let (server, mut node, folder) = shard().await;
    let body = bytes(1, LARGE);
    node.put("sound", version(1), b"sound").await.judged(true);
    node.lost("k", version(5), &body).await.judged(true);
    node.lost("k", version(5), &body).await.judged(true);
    let entry = node.everything().await.keys.into_iter().find(|entry| entry.key == "k");
    let entry = entry.expect("it is listed");
    let described = (entry.size, entry.digest, entry.damaged, entry.tombstone);
    assert_eq!(described, (LARGE as u64, blake3::hash(&body).to_string(), true, false));
    assert_eq!(entry.modified_ms, version(5).stamp.unix_ms());
    is_told_and_mended(&server, &mut node, "k", &body).await;
    node.lost("k", version(6), b"six").await.judged(true);
    drop(node);
    server.stop().await;
    // Bodies get ids above those that are there: what replaces it takes no other's body away.
    let server = Server::start(options(folder.path())).await;
    let mut node = Node::new(&server, "0.1").await;
    assert_eq!(node.get("k").await.status, 500);
    node.put("other", version(1), b"other").await.judged(true);
    node.put("k", version(6), b"six").await.judged(true);
    assert_eq!(node.get("other").await.body, b"other");
    assert_eq!(node.get("k").await.body, b"six");
    drop(node);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_of_a_loss_replaces_what_is_older_and_no_bytes_of_its_own() {
    let (server, mut node, folder) = shard().await;
    let body = bytes(1, LARGE);
    // It has that very value, or a newer one, or has forgotten a newer deletion.
    node.put("k", version(5), &body).await.judged(true);
    node.lost("k", version(5), &body).await.judged(true);
    assert!(node.get("k").await.body == body);
    node.lost("k", version(4), b"older").await.judged(false);
    assert!(node.get("k").await.body == body);
    node.delete("gone", version(5)).await.judged(true);
    node.collect(slot_of(token("gone")), &[("gone", version(5))]).await;
    node.lost("gone", version(4), b"x").await.forgotten();
    assert_eq!(node.head("gone").await.status, 404);
    // An older value goes with its file, an older deletion with its grave.
    node.lost("k", version(6), b"six").await.judged(true);
    assert_eq!(node.get("k").await.status, 500);
    until("its file is unlinked", || bodies(&folder).is_empty()).await;
    node.delete("k", version(7)).await.judged(true);
    assert_eq!(node.page("tombstones").await.keys.len(), 1);
    node.lost("k", version(8), b"eight").await.judged(true);
    assert_eq!(node.page("tombstones").await.keys.len(), 0);
    assert_eq!(node.get("k").await.version(), version(8));
    let state = node.ask("GET", "objects/state", &[], b"").await.json();
    let pool = &state["pool"];
    assert_eq!(
        (&pool["values"], &pool["bytes"], &pool["damaged"]),
        (&1.into(), &5.into(), &1.into())
    );
    assert_eq!(node.sums("?fold=65536").await, [Sum::of_damaged(b"k", version(8))]);
    // It must be described, or it would stand in lists as another.
    let of = format!("Ringway-Version: {}", version(9));
    let untold = node.keyed("POST", "damaged", "k", &[&of, "Ringway-Size: 3"], b"").await;
    assert_eq!(untold.status, 400, "{untold:?}");
    assert_eq!(node.keyed("PUT", "damaged", "k", &[&of], b"").await.status, 405);
    drop(node);
    server.stop().await;
}

/// What nobody reads rots unnoticed, until no replica has it.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_reads_is_read_now_and_then() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut options = options(folder.path());
    options.scrub = Some(Duration::from_millis(100));
    let server = Server::start(options).await;
    let mut node = Node::new(&server, "0.1").await;
    assert_eq!(node.bind("objects", "s1").await.status, 200);
    let body = bytes(1, LARGE);
    node.put("sound", version(1), b"sound").await.judged(true);
    node.put("k", version(5), &body).await.judged(true);
    for number in 0..300 {
        node.put(&format!("other/{number}"), version(2), &bytes(number, 100)).await.judged(true);
    }
    rot(&bodies(&folder)[0], LARGE / 2);
    until("it is found", || found(&server) == [0, 0, 1]).await;
    assert_eq!(node.head("k").await.status, 500);
    node.put("k", version(5), &body).await.judged(true);
    assert!(node.get("k").await.body == body);
    std::fs::remove_file(&bodies(&folder)[0]).expect("a body");
    until("it is found", || found(&server) == [0, 0, 2]).await;
    drop(node);
    server.stop().await;
}

/// A row that nobody can read ended the round there: what lay behind it was never looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_does_not_decode_keeps_no_other_from_being_read() {
    const KEPT: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("kept:objects");
    let (server, mut node, folder) = shard().await;
    node.put("k", version(5), &bytes(1, LARGE)).await.judged(true);
    drop(node);
    server.stop().await;
    let db = Database::open(folder.path().join("index.redb")).expect("a closed index");
    let tx = db.begin_write().expect("a transaction");
    // Right before it, so that wherever a round begins it comes upon this first.
    let place = (token("k").0 - 1).to_be_bytes();
    let row = [&place[..], b"odd"].concat();
    tx.open_table(KEPT).expect("the table").insert(&row[..], &[9_u8][..]).expect("a change");
    tx.commit().expect("a commit");
    drop(db);
    rot(&bodies(&folder)[0], 5);
    let mut options = options(folder.path());
    options.scrub = Some(Duration::from_millis(100));
    let server = Server::start(options).await;
    until("it is found", || found(&server) == [0, 0, 1]).await;
    server.stop().await;
}
