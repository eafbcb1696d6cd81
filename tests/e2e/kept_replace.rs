//! A disk that is lost for good: a fresh store takes the shard's place, and is filled.

use std::net::SocketAddr;

use crate::support::http::{Client, get, put};
use crate::support::ringway::{Serve, Store, ringway_says, shards};
use crate::support::say::say;
use crate::support::wait::{PATIENCE, until_true, until_within};

const OBJECTS: usize = 200;

/// Of a filled store, and of all others.
const WHOLE: &str = "whole";

fn standing(serve: &Serve, shard: &str) -> String {
    let copies = serve.shard_status("objects", shard)["copies"].clone();
    copies["standing"].as_str().expect("a word").to_owned()
}

fn path(number: usize) -> String {
    format!("/kept/{number}")
}

fn value(number: usize) -> Vec<u8> {
    // Some lie in files of their own.
    let length = if number.is_multiple_of(20) { 200_000 } else { 100 + number };
    let mut out = vec![0; length];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

#[track_caller]
fn all_are_read_at_quorum(serve: &Serve) {
    let mut client = Client::connect(serve.data);
    for number in 0..OBJECTS {
        let fields = "Ringway-Consistency: quorum\r\n";
        let answer = client.ask("GET", &path(number), fields, b"").expect("an answer");
        let meant = if number % 10 == 9 { 404 } else { 200 };
        assert_eq!(answer.status, meant, "{}: {answer:?}", path(number));
        assert!(meant == 404 || answer.body == value(number), "{}", path(number));
    }
}

/// The lost store held a third of everything, and had acknowledged its part of each write. Once
/// the fresh one is filled, any other may die.
#[test]
fn a_dead_shard_is_replaced_by_a_fresh_store_and_then_another_may_die() {
    let mut stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let addresses: Vec<SocketAddr> = stores.iter().map(|store| store.address).collect();
    let serve = Serve::start(&format!(
        "pools:\n  - name: objects\n    kind: replicated\n    replicas: 3\n    health: {{ active: \
         {{ path: /_ringway/health/write, interval: 200ms, timeout: 1s }} }}\n{}routes:\n  - {{ \
         name: all, pool: objects }}\n",
        shards(&addresses)
    ));
    serve.until_all_stores_keep("/first");
    let mut client = Client::connect(serve.data);
    let mut write = |method: &str, number: usize, body: &[u8]| {
        let answer = client.ask(method, &path(number), "", body).expect("an answer");
        assert_eq!(answer.status, 204, "{method} {}: {answer:?}", path(number));
    };
    for number in 0..OBJECTS / 2 {
        write("PUT", number, &value(number));
    }

    // Killed, and its folder gone with it.
    stores[1].process.kill_9();
    stores[1].lose_folder();
    for number in OBJECTS / 2..OBJECTS {
        write("PUT", number, &value(number));
    }
    for number in (9..OBJECTS).step_by(10) {
        write("DELETE", number, b"");
    }

    // A new disk at the old address is another store: it is used once an operator says so.
    stores[1].start_again();
    until_true("it is seen to be another", || standing(&serve, "s2") == "foreign");
    let folder = serve.data_dir().display().to_string();
    let replace = ["ring", "replace", "objects/s2", "--now", "--data-dir", &folder];
    let said = ringway_says(&replace);
    assert!(said.success, "{}{}", said.stdout, said.stderr);
    let begun = std::time::Instant::now();
    until_within("the fresh store is filled", 3 * PATIENCE, || {
        (standing(&serve, "s2") == WHOLE).then_some(())
    });
    say(&format!("  {OBJECTS} objects on a fresh store after {} ms", begun.elapsed().as_millis()));

    // Whoever had all of it dies: what is left is one that had, and the fresh one.
    stores[0].process.kill_9();
    until_true("the pool goes on", || {
        put(serve.data, "/second", b"2").status == 204 && get(serve.data, "/first").status == 200
    });
    all_are_read_at_quorum(&serve);
    // The fresh one alone has them, too.
    stores[2].process.kill_9();
    let mut client = Client::connect(serve.data);
    for number in (0..OBJECTS).filter(|number| number % 10 != 9) {
        let fields = "Ringway-Consistency: one\r\n";
        let answer = client.ask("GET", &path(number), fields, b"").expect("an answer");
        assert_eq!((answer.status, answer.shard()), (200, "s2"), "{}: {answer:?}", path(number));
        assert!(answer.body == value(number), "{}", path(number));
    }
}
