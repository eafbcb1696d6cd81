//! Do replicas heal by themselves, as processes that are killed?

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::store_child::StoreProcess;
use crate::support::http::{Client, get};
use crate::support::net::lasting_address;
use crate::support::ringway::{Serve, ringway, ringway_says};
use crate::support::wait::until;

/// A store that keeps its folder and its port.
struct Shard {
    folder: TempDir,
    address: SocketAddr,
    process: Option<StoreProcess>,
}

impl Shard {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut shard = Self { folder, address: lasting_address(), process: None };
        shard.start();
        shard
    }

    fn start(&mut self) {
        let mut store: Command = ringway();
        let address = self.address.to_string();
        store.args(["store", "--listen", &address, "--data"]).arg(self.folder.path());
        self.process = Some(StoreProcess::start_with(store));
    }

    fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }
}

fn file(shards: &[Shard]) -> String {
    let mut text =
        "pools:\n  - name: objects\n    kind: replicated\n    replicas: 3\n    health: { active: \
                    { path: /_ringway/health, interval: 200ms } }\n    shards:\n"
            .to_owned();
    for (number, shard) in (1..).zip(shards) {
        text.push_str(&format!("      - {{ id: s{number}, url: \"http://{}\" }}\n", shard.address));
    }
    text + "routes:\n  - { name: all, pool: objects }\n"
}

fn copies(serve: &Serve, shard: &str) -> serde_json::Value {
    serve.shard_status("objects", shard)["copies"].clone()
}

/// `ringway repair objects --dry-run`: whether nothing differs, and all could be asked.
fn nothing_differs(serve: &Serve) -> bool {
    let folder = serve.data_dir().display().to_string();
    ringway_says(&["repair", "objects", "--dry-run", "--data-dir", &folder]).success
}

/// Acknowledged, at the level of the pool.
fn write(client: &mut Client, method: &str, path: &str, body: &[u8]) {
    let answer = client.ask(method, path, "", body).expect("an answer");
    assert!(matches!(answer.status, 200..300), "{method} {path}: {answer:?}");
}

#[test]
fn a_store_that_was_killed_is_brought_what_it_missed_with_nobody_asking() {
    let mut shards: Vec<Shard> = (0..3).map(|_| Shard::new()).collect();
    let serve = Serve::start(&file(&shards));
    until("all shards have their stores", || {
        ["s1", "s2", "s3"].iter().all(|id| copies(&serve, id)["standing"] == "whole").then_some(())
    });
    let mut client = Client::connect(serve.data);
    for number in 0..100 {
        write(&mut client, "PUT", &format!("/k/{number}"), b"first");
    }
    // A commit that is on its way to the store when it dies is missed as well.
    until("all have everything", || nothing_differs(&serve).then_some(()));

    shards[1].kill();
    for number in 0..60 {
        let path = format!("/k/{number}");
        match number % 3 {
            0 => write(&mut client, "DELETE", &path, b""),
            _ => write(&mut client, "PUT", &path, b"second"),
        }
    }
    // A node that is killed meanwhile forgets nothing: what was missed is on its disk.
    until("what it misses is noted, for all to know", || {
        let s2 = copies(&serve, "s2");
        (s2["hints"] == 60 && s2["standing"] == "catching up").then_some(())
    });
    let folder = serve.into_folder();
    let serve = Serve::start_as_written(folder);
    assert_eq!(copies(&serve, "s2")["hints"], 60);

    shards[1].start();
    let back = Instant::now();
    until("its hints are replayed", || (copies(&serve, "s2")["hints"] == 0).then_some(()));
    let took = back.elapsed();
    eprintln!("60 keys that were missed were brought {took:?} after the store's start");
    until("it is known to have caught up", || {
        (copies(&serve, "s2")["standing"] == "whole").then_some(())
    });
    assert!(nothing_differs(&serve), "all replicas hold the same");
    for number in 0..100 {
        let answer = get(serve.data, &format!("/k/{number}"));
        let meant = match (number, number % 3) {
            (0..60, 0) => (404, ""),
            (0..60, _) => (200, "second"),
            _ => (200, "first"),
        };
        let body = if answer.status == 200 { answer.text() } else { String::new() };
        assert_eq!((answer.status, body.as_str()), meant, "/k/{number}");
    }
    let metrics = get(serve.telemetry, "/metrics").text();
    let repaired = "ringway_repairs_total{pool=\"objects\",shard=\"s2\",kind=\"hint\"} ";
    let repaired = metrics.lines().find_map(|line| line.strip_prefix(repaired));
    assert_eq!(repaired, Some("60"), "{metrics}");
}

#[test]
fn another_store_at_a_shards_address_is_seen_and_not_used() {
    let mut shards: Vec<Shard> = (0..3).map(|_| Shard::new()).collect();
    let serve = Serve::start(&file(&shards));
    until("all shards have their stores", || {
        ["s1", "s2", "s3"].iter().all(|id| copies(&serve, id)["standing"] == "whole").then_some(())
    });
    let mut client = Client::connect(serve.data);
    for number in 0..20 {
        write(&mut client, "PUT", &format!("/k/{number}"), b"value");
    }
    // Its disk is not mounted, and an empty folder is in its place.
    shards[2].kill();
    let own = std::mem::replace(&mut shards[2].folder, tempfile::tempdir().expect("a folder"));
    shards[2].start();
    until("it is seen to be another", || {
        (copies(&serve, "s3")["standing"] == "foreign").then_some(())
    });
    for number in 0..20 {
        let answer = get(serve.data, &format!("/k/{number}"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "value"), "/k/{number}");
    }
    let folder = serve.data_dir().display().to_string();
    let looked = ringway_says(&["repair", "objects", "--dry-run", "--data-dir", &folder]);
    let is_told = looked.stdout.contains("not compared everywhere: s3");
    assert!(!looked.success && is_told, "{}{}", looked.stdout, looked.stderr);
    // When its own is back, all is well.
    shards[2].kill();
    shards[2].folder = own;
    shards[2].start();
    until("it is its own again", || (copies(&serve, "s3")["standing"] == "whole").then_some(()));
    until("nothing differs", || nothing_differs(&serve).then_some(()));
}
