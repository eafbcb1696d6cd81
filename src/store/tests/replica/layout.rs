//! What earlier releases left is read, what later ones left is not.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::*;
use crate::protocol::replica::slot_of;

const FACTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("facts");

/// Does to a closed store's index what is said, as redb has it.
fn alter(folder: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let db = Database::open(folder.join("index.redb")).expect("a closed index");
    let tx = db.begin_write().expect("a transaction");
    change(&tx);
    tx.commit().expect("a commit");
}

fn format(folder: &Path) -> u32 {
    let db = Database::open(folder.join("index.redb")).expect("a closed index");
    let tx = db.begin_read().expect("a transaction");
    let facts = tx.open_table(FACTS).expect("the table");
    let format = facts.get("format").expect("a read").expect("the fact");
    u32::from_le_bytes(format.value().try_into().expect("four bytes"))
}

/// Layout 1 is what release 0.1 wrote before it kept pools: the tables `objects`, `bodies`, `files`
/// and `facts`, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_layout_1_is_upgraded_in_place() {
    let (server, folder) = fresh().await;
    let id = server.store().id();
    server.put("/small", b"x").await;
    server.put("/large", &bytes(1, 100_000)).await;
    server.stop().await;
    alter(folder.path(), |tx| {
        let pools = TableDefinition::<&str, &[u8]>::new("pools");
        assert!(tx.delete_table(pools).expect("a change"), "it was there");
        let doomed = TableDefinition::<&str, ()>::new("doomed");
        assert!(tx.delete_table(doomed).expect("a change"), "it was there");
        let names: Vec<String> = tx
            .list_tables()
            .expect("a list")
            .map(|table| redb::TableHandle::name(&table).to_owned())
            .collect();
        assert_eq!(names, ["bodies", "facts", "files", "objects"]);
        let mut facts = tx.open_table(FACTS).expect("the table");
        facts.insert("format", &1_u32.to_le_bytes()[..]).expect("a change");
    });
    assert_eq!(format(folder.path()), 1);
    let server = Server::start(options(folder.path())).await;
    assert_eq!(server.store().id(), id);
    assert_eq!(server.get("/small").await.body, b"x");
    assert!(server.get("/large").await.body == bytes(1, 100_000));
    let mut node = Node::new(&server, "0.1").await;
    assert_eq!(node.bind("objects", "s1").await.status, 200);
    node.put("k", version(1), b"kept").await.judged(true);
    drop(node);
    server.stop().await;
    assert_eq!(format(folder.path()), 4);
    let server = Server::start(options(folder.path())).await;
    let mut node = Node::new(&server, "0.1").await;
    assert_eq!(node.get("k").await.body, b"kept");
    drop(node);
    server.stop().await;
}

/// Layout 2 kept pools and did not know when they were born. They are served on as those of an unknown
/// birth, which any that is known is later than.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_layout_2_is_upgraded_in_place() {
    let (server, mut node, folder) = shard().await;
    node.put("k", version(1), b"kept").await.judged(true);
    drop(node);
    server.stop().await;
    alter(folder.path(), |tx| {
        let doomed = TableDefinition::<&str, ()>::new("doomed");
        assert!(tx.delete_table(doomed).expect("a change"), "it was there");
        let mut pools = tx.open_table(TableDefinition::<&str, &[u8]>::new("pools")).expect("it");
        let row = pools.get("objects").expect("a read").expect("it is bound").value().to_vec();
        // Without the birth's two numbers.
        let old = [&[1], &row[1..17], &row[33..]].concat();
        pools.insert("objects", &old[..]).expect("a change");
        let mut facts = tx.open_table(FACTS).expect("the table");
        facts.insert("format", &2_u32.to_le_bytes()[..]).expect("a change");
    });
    let server = Server::start(options(folder.path())).await;
    let mut node = Node::new(&server, "0.1").await;
    assert_eq!(node.get("k").await.body, b"kept");
    node.put("k", version(2), b"again").await.judged(true);
    drop(node);
    server.stop().await;
    assert_eq!(format(folder.path()), 4);
    let server = Server::start(options(folder.path())).await;
    let mut node = Node::new(&server, "0.1").await;
    assert_eq!(node.get("k").await.body, b"again");
    drop(node);
    server.stop().await;
}

/// Up to layout 3 what is damaged was in no sum: compared with a replica that counts it, the sums would
/// have differed for ever, and as soon as it was replaced been wrong.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_layout_3_is_upgraded_in_place() {
    const DELTAS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("deltas:objects");
    let (server, mut node, folder) = shard().await;
    node.put("sound", version(1), b"sound").await.judged(true);
    node.lost("k", version(5), b"lost").await.judged(true);
    node.lost("l", version(5), b"lost").await.judged(true);
    let before = node.sums("").await;
    drop(node);
    server.stop().await;
    alter(folder.path(), |tx| {
        let mut deltas = tx.open_table(DELTAS).expect("the table");
        let last = deltas
            .last()
            .expect("a read")
            .map(|(first, row)| first.value() + row.value().len() as u64 / (2 + SUM_BYTES as u64));
        let mut row = Vec::new();
        for key in ["k", "l"] {
            let mut delta = Sum::default();
            delta -= Sum::of_damaged(key.as_bytes(), version(5));
            row.extend_from_slice(&slot_of(token(key)).to_le_bytes());
            row.extend_from_slice(&delta.to_bytes());
        }
        deltas.insert(last.unwrap_or(0), &row[..]).expect("a change");
        let mut facts = tx.open_table(FACTS).expect("the table");
        facts.insert("format", &3_u32.to_le_bytes()[..]).expect("a change");
    });
    for _ in 0..2 {
        let server = Server::start(options(folder.path())).await;
        let mut node = Node::new(&server, "0.1").await;
        assert!(node.sums("").await == before, "they are counted, and once");
        drop(node);
        server.stop().await;
        assert_eq!(format(folder.path()), 4);
    }
    let server = Server::start(options(folder.path())).await;
    let mut node = Node::new(&server, "0.1").await;
    node.put("k", version(5), b"lost").await.judged(true);
    node.delete("l", version(6)).await.judged(true);
    let mut sum = Sum::of(b"sound", version(1), false);
    sum += Sum::of(b"k", version(5), false);
    sum += Sum::of(b"l", version(6), true);
    assert_eq!(node.sums("?fold=65536").await, [sum]);
    drop(node);
    server.stop().await;
}

#[test]
fn an_index_of_a_later_layout_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(Store::open(options(folder.path())).expect("a fresh folder"));
    alter(folder.path(), |tx| {
        let mut facts = tx.open_table(FACTS).expect("the table");
        facts.insert("format", &5_u32.to_le_bytes()[..]).expect("a change");
    });
    let error = Store::open(options(folder.path())).map(drop).expect_err("it is a later one's");
    let message = error.to_string();
    assert!(message.contains("layout 5") && message.contains("reads layout 4"), "{message}");
}
