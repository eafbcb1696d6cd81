//! Another's store comes to stand at a shard's address, as where two disks were exchanged: nodes find out,
//! agree on it and go on without it, and take the shard's own when it is back.

use std::path::Path;

use super::world::World;
use crate::group::{AGREEMENT_MAX, POOL};
use crate::support::http::{get, put};
use crate::support::ringway::{Serve, Store, shards};
use crate::support::say::say;
use crate::support::wait::{all_the_while, until_true, until_within};
use crate::turns::alone;

/// What is too large for a record has a file of its own, which can be seen from outside.
fn body(path: &str) -> Vec<u8> {
    path.bytes().cycle().take(100_000).collect()
}

/// A store that keeps an object of another node's pool, of the same name.
fn anothers() -> tempfile::TempDir {
    let store = Store::start();
    let serve = Serve::start(&format!(
        "pools:\n  - name: {POOL}\n    kind: replicated\n    replicas: 1\n{}routes:\n  - {{ name: all, \
         pool: {POOL} }}\n",
        shards(&[store.address])
    ));
    until_true("it is written", || put(serve.data, "/theirs", &body("/theirs")).status == 204);
    assert!(get(serve.data, "/theirs").body == body("/theirs"));
    drop(serve);
    store.into_folder()
}

/// How many bodies lie in a store's folder.
fn bodies(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("bodies")).expect("a folder of a store").count()
}

#[track_caller]
fn until_verdict(world: &World, wanted: &str) {
    for at in world.cluster.running() {
        until_within(&format!("n{} has s2 {wanted}", at + 1), AGREEMENT_MAX, || {
            let view = world.cluster.view(at)?;
            (view.shard(POOL, "s2")?["verdict"] == wanted).then_some(())
        });
    }
}

/// What a node tells of an object; nothing where it says that it cannot just now.
fn at(world: &World, node: usize, level: &str, method: &str, path: &str) -> Option<(u16, Vec<u8>)> {
    let fields = format!("Ringway-Consistency: {level}\r\n");
    let sent = if method == "PUT" { body(path) } else { Vec::new() };
    let answer = world.ask(node, method, path, &fields, &sent)?;
    (answer.status < 500).then_some((answer.status, answer.body))
}

#[test]
fn that_anothers_store_answers_is_agreed_and_nothing_is_kept_there_or_read() {
    let _turn = alone();
    let theirs = anothers();
    let mut world = World::start(None);
    for node in 0..3 {
        until_within("all three take it", AGREEMENT_MAX, || {
            at(&world, node, "all", "PUT", &format!("/before/{node}")).filter(|told| told.0 == 204)
        });
    }
    let epochs = world.cluster.until_agreed().serves();
    let stands_in = |world: &mut World, folder| {
        world.stores[1].get_mut().expect("no test panicked with it").stand_in(folder)
    };
    let own = stands_in(&mut world, theirs);
    until_verdict(&world, "foreign");

    for node in 0..3 {
        for path in [format!("/before/{node}"), format!("/meanwhile/{node}")] {
            let done = |method: &str, status: u16| {
                until_within(&format!("{method} {path}"), AGREEMENT_MAX, || {
                    let told = at(&world, node, "quorum", method, &path)?;
                    assert_eq!(told.0, status, "{method} {path}");
                    Some(told.1)
                })
            };
            done("PUT", 204);
            assert!(done("GET", 200) == body(&path), "{path}");
        }
    }
    all_the_while(std::time::Duration::from_secs(2), || {
        for node in 0..3 {
            for level in ["one", "quorum"] {
                let told = at(&world, node, level, "GET", "/theirs");
                assert!(
                    told.is_none_or(|(status, _)| status == 404),
                    "another's object at {level}"
                );
                let told = at(&world, node, level, "GET", "/before/0");
                assert!(told.is_none_or(|told| told == (200, body("/before/0"))), "at {level}");
            }
        }
    });
    let theirs = stands_in(&mut world, own);
    assert_eq!(bodies(theirs.path()), 1, "nothing was put there, and nothing taken away");

    // Its own is back, and gets what it has missed.
    until_verdict(&world, "up");
    let healed = world.until_replicas_are_the_same();
    say(&format!("  another's store stood in: the same again {} ms after", healed.as_millis()));
    for node in 0..3 {
        let path = format!("/meanwhile/{node}");
        let told = until_within("all three tell of it", AGREEMENT_MAX, || {
            at(&world, node, "all", "GET", &path)
        });
        assert!(told == (200, body(&path)), "{path}: {}", told.0);
    }
    assert_eq!(world.cluster.until_agreed().serves(), epochs, "that moves no epoch");
}
