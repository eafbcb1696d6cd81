//! Opening, closing, and folders that are not as they should be.

use std::collections::BTreeMap;

use super::*;

fn open(folder: &Path) -> Result<Store, OpenError> {
    Store::open(options(folder))
}

fn refusal(folder: &Path) -> String {
    open(folder).map(|_| ()).expect_err("this folder must be refused").to_string()
}

#[test]
fn a_second_opening_is_refused_and_names_the_holder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = open(folder.path()).expect("a fresh folder");
    let message = refusal(folder.path());
    let own = format!("in use by process {}", std::process::id());
    assert!(message.contains(&own), "{message}");
    let id = first.id();
    drop(first);
    assert_eq!(open(folder.path()).expect("the folder is free").id(), id);
}

#[test]
fn two_folders_are_two_stores() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let ids = folders.each_ref().map(|folder| open(folder.path()).expect("a folder").id());
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_folder_with_other_things_in_it_is_no_store() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("letters.txt"), "x").expect("a writable folder");
    let message = refusal(folder.path());
    assert!(message.contains("letters.txt") && message.contains("empty folder"), "{message}");
}

#[test]
fn a_lost_index_is_an_error_and_no_fresh_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(open(folder.path()).expect("a fresh folder"));
    let index = folder.path().join("index.redb");
    std::fs::remove_file(&index).expect("the index");
    let message = refusal(folder.path());
    for part in [index.to_str().expect("UTF-8"), "is missing", "backup", "identity"] {
        assert!(message.contains(part), "{message}");
    }
    std::fs::remove_file(folder.path().join("identity")).expect("the identity");
    std::fs::write(folder.path().join("bodies/0000000000000000"), "x").expect("a body");
    assert!(refusal(folder.path()).contains("is missing"));
    assert!(!index.exists());
}

#[test]
fn a_damaged_index_is_an_error_that_names_file_and_cure() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("emptied", |bytes| bytes.clear()),
        ("overwritten at the head", |bytes| bytes[..64].fill(0xff)),
        ("zeroed", |bytes| bytes.fill(0)),
        ("cut short", |bytes| bytes.truncate(5000)),
        ("both commit slots overwritten", |bytes| bytes[64..320].fill(0x5a)),
    ];
    for (name, damage) in damages {
        let folder = tempfile::tempdir().expect("a temporary folder");
        drop(open(folder.path()).expect("a fresh folder"));
        let index = folder.path().join("index.redb");
        let mut bytes = std::fs::read(&index).expect("the index");
        damage(&mut bytes);
        std::fs::write(&index, &bytes).expect("a writable index");
        let message = refusal(folder.path());
        for part in [index.to_str().expect("UTF-8"), "is damaged", "backup"] {
            assert!(message.contains(part), "{name}: {message}");
        }
    }
}

#[test]
fn files_of_two_stores_do_not_make_one() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    for folder in &folders {
        drop(open(folder.path()).expect("a fresh folder"));
    }
    let [from, to] = folders.each_ref().map(|folder| folder.path().join("index.redb"));
    std::fs::copy(from, to).expect("a copy");
    let message = refusal(folders[1].path());
    assert!(message.contains("files of two stores are mixed"), "{message}");
}

#[test]
fn a_first_start_that_was_cut_short_is_finished() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Killed while the index was made aside.
    std::fs::write(folder.path().join("index.new"), "half").expect("a writable folder");
    let id = open(folder.path()).expect("a fresh start").id();
    // Killed between index and identity.
    std::fs::remove_file(folder.path().join("identity")).expect("the identity");
    assert_eq!(open(folder.path()).expect("the same store").id(), id);
    assert!(folder.path().join("identity").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_no_value_names_are_swept_and_values_without_file_are_told() {
    let (server, folder) = fresh().await;
    server.put("/kept", &bytes(1, 70_000)).await;
    server.put("/lost", &bytes(2, 70_000)).await;
    server.stop().await;
    let mut bodies = files(folder.path(), "bodies");
    bodies.sort();
    std::fs::remove_file(&bodies[1]).expect("the file of the second value");
    std::fs::write(folder.path().join("bodies/00000000000000ff"), "x").expect("a stray file");
    std::fs::write(folder.path().join("incoming/00000000000000fe"), "x").expect("a half upload");

    let server = Server::start(options(folder.path())).await;
    assert_eq!(files(folder.path(), "bodies"), bodies[..1]);
    assert_eq!(files(folder.path(), "incoming").len(), 0);
    assert!(server.get("/kept").await.body == bytes(1, 70_000));
    server.get("/lost").await.refusal(500, "unreadable");
    assert_eq!(server.put("/lost", &bytes(3, 70_000)).await.status, 204);
    assert!(server.get("/lost").await.body == bytes(3, 70_000), "it is cured by a write");
    server.stop().await;
}

/// Random writes through any number of restarts, beside a map that cannot be wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_a_map_that_outlives_its_process() {
    for (seed, fsync) in
        [(1, Fsync::Always), (2, Fsync::Interval(Duration::from_millis(1))), (3, Fsync::Never)]
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for _restart in 0..4 {
            let mut options = options(folder.path());
            options.fsync = fsync;
            let server = Server::start(options).await;
            let mut connection = server.connect().await;
            for _ in 0..60 {
                let key = format!("k{}", random.u32(..12));
                let target = format!("/{key}");
                if random.u32(..4) == 0 {
                    let reply = connection.ask("DELETE", &target, &[], b"").await;
                    let expected = if model.remove(&key).is_some() { 204 } else { 404 };
                    assert_eq!(reply.status, expected);
                } else {
                    let length = if random.bool() { random.usize(..2000) } else { 100_000 };
                    let body = bytes(random.u64(..), length);
                    let reply = connection.ask("PUT", &target, &[], &body).await;
                    let expected = if model.insert(key, body).is_some() { 204 } else { 201 };
                    assert_eq!(reply.status, expected);
                }
            }
            for (key, body) in &model {
                let reply = connection.ask("GET", &format!("/{key}"), &[], b"").await;
                assert!(reply.body == *body, "seed {seed}: {key} is another");
            }
            let page = connection.ask("GET", "/_ringway/list", &[], b"").await.json();
            let listed: Vec<_> = page["keys"].as_array().expect("a list").iter().collect();
            assert_eq!(listed.len(), model.len());
            let totals = server.store().totals();
            let bytes_held: usize = model.values().map(Vec::len).sum();
            assert_eq!((totals.objects, totals.bytes), (model.len() as u64, bytes_held as u64));
            drop(connection);
            server.stop().await;
            let large = model.values().filter(|body| body.len() > 65_536).count();
            assert_eq!(files(folder.path(), "bodies").len(), large, "no file but the values'");
        }
    }
}
