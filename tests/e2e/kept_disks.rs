//! What does a replicated pool do whose stores' disks are full, or fail to sync? Fault rows 13
//! and 14.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::disk::{FailingSyncs, SmallDisk};
use crate::support::http::{Answer, Client, get, put};
use crate::support::ringway::{Serve, Store, ringway_says, shards};
use crate::support::say::say;
use crate::support::wait::{PATIENCE, until, until_true, until_within};

/// Room for an empty store, and for what it keeps free.
const DISK_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// After space has returned, on a machine that has other things to do. The matrix asks for 5 s.
const WELL_AGAIN_MAX: Duration = Duration::from_secs(30);

fn before(stores: &[Store]) -> Serve {
    before_in(tempfile::tempdir().expect("a folder"), stores)
}

fn before_in(folder: TempDir, stores: &[Store]) -> Serve {
    let addresses: Vec<SocketAddr> = stores.iter().map(|store| store.address).collect();
    let rest = format!(
        "pools:\n  - name: objects\n    kind: replicated\n    replicas: 3\n    health: {{ active: \
         {{ path: /_ringway/health/write, interval: 200ms, timeout: 1s }} }}\n{}routes:\n  - {{ \
         name: all, pool: objects }}\n",
        shards(&addresses)
    );
    let serve = Serve::start_in(folder, &rest);
    serve.until_all_stores_keep("/first");
    serve
}

fn at(serve: &Serve, level: &str, method: &str, path: &str, body: &[u8]) -> Answer {
    let fields = format!("Ringway-Consistency: {level}\r\n");
    Client::connect(serve.data).ask(method, path, &fields, body).expect("an answer")
}

/// `ringway repair objects --dry-run`: whether nothing differs, and all could be asked.
fn nothing_differs(serve: &Serve) -> bool {
    let folder = serve.data_dir().display().to_string();
    ringway_says(&["repair", "objects", "--dry-run", "--data-dir", &folder]).success
}

#[test]
fn full_disks_refuse_writes_and_nothing_else_and_all_is_well_when_there_is_room() {
    let (mut stores, mut disks) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(disk) = SmallDisk::mount(folder.path(), DISK_BYTES_MAX) else { return };
        disks.push(disk);
        stores.push(Store::start_in(folder, Vec::new()));
    }
    let serve = before(&stores);
    assert_eq!(at(&serve, "all", "PUT", "/a", b"before").status, 204);

    // One full disk: two of three take the write, and the third is owed it.
    disks[2].fill();
    let large = vec![7; 1024 * 1024];
    assert_eq!(put(serve.data, "/b", &large).status, 204);
    until_true("what it misses is noted", || {
        assert_eq!(put(serve.data, "/c", &large).status, 204);
        serve.metrics().sum("ringway_hints_pending{pool=\"objects\",shard=\"s3\"}") > 0.0
    });
    let refused = at(&serve, "all", "PUT", "/a", &large);
    assert_eq!(refused.field("Ringway-Outcome"), Some("not-applied"), "{refused:?}");
    assert!(matches!(refused.status, 503 | 507), "{refused:?}");

    // Two: no write at `quorum`, and each read.
    disks[1].fill();
    let refused = until("the second refuses", || {
        let refused = put(serve.data, "/a", &large);
        (refused.status != 204).then_some(refused)
    });
    assert_eq!(refused.field("Ringway-Outcome"), Some("not-applied"), "{refused:?}");
    assert!(matches!(refused.status, 503 | 507), "{refused:?}");
    for level in ["one", "quorum", "all"] {
        let read = at(&serve, level, "GET", "/a", b"");
        assert_eq!((read.status, read.text().as_str()), (200, "before"), "{level}");
    }
    assert!(get(serve.data, "/b").body == large, "what was acknowledged is there");

    // Nobody does anything but make room.
    disks[1].make_room();
    disks[2].make_room();
    let begun = Instant::now();
    until_within("writes go on", WELL_AGAIN_MAX, || {
        (put(serve.data, "/a", b"after").status == 204).then_some(())
    });
    let writes = begun.elapsed();
    until_within("what was missed is brought", 3 * PATIENCE, || {
        let missed = serve.metrics().sum("ringway_hints_pending{pool=\"objects\"");
        (missed == 0.0 && at(&serve, "all", "PUT", "/d", b"d").status == 204).then_some(())
    });
    until_within("nothing differs", 3 * PATIENCE, || nothing_differs(&serve).then_some(()));
    say(&format!(
        "  full disks: writes {} ms after there was room, all the same after {} ms",
        writes.as_millis(),
        begun.elapsed().as_millis()
    ));
    assert_eq!(at(&serve, "all", "GET", "/a", b"").text(), "after");
}

/// Writes that a store misses.
const MISSED: usize = 100;

/// What a store misses while the proxy's own disk is full is remembered in memory, and on the disk
/// as soon as there is room: a restart of the proxy then forgets nothing.
#[test]
fn a_full_disk_at_the_proxy_costs_no_write_and_no_hint() {
    let mut stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("node");
    std::fs::create_dir(&data_dir).expect("a folder");
    let Some(disk) = SmallDisk::mount(&data_dir, DISK_BYTES_MAX) else { return };
    let serve = before_in(folder, &stores);
    stores[2].process.kill_9();
    disk.fill();
    // More than fits into what the file has of its last page.
    let path = |number: usize| format!("/k/{number:0>200}");
    for number in 0..MISSED {
        let path = path(number);
        assert_eq!(put(serve.data, &path, path.as_bytes()).status, 204);
    }
    let pending = || serve.metrics().sum("ringway_hints_pending{pool=\"objects\",shard=\"s3\"}");
    // And the first write of all, if the store had not taken it in when it was killed.
    until_true("all that is missed is noted", || pending() >= MISSED as f64);
    assert!(serve.count("ringway_hints_write_failures_total") > 0, "the disk is full");

    disk.make_room();
    let file = data_dir.join("hints.log");
    let is_named = |number: usize| {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let key = &path(number)[1..];
        memchr::memmem::find(&bytes, key.as_bytes()).is_some()
    };
    until("what is missed is on the disk, with nobody asking", || {
        (0..MISSED).all(is_named).then_some(())
    });
    let serve = Serve::start_as_written(serve.into_folder());
    stores[2].start_again();
    until_within("nothing differs", 3 * PATIENCE, || nothing_differs(&serve).then_some(()));
    let last = path(MISSED - 1);
    let read = at(&serve, "all", "GET", &last, b"");
    assert_eq!((read.status, read.text()), (200, last));
}

#[test]
fn a_store_that_cannot_sync_acknowledges_nothing_and_costs_no_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(syncs) = FailingSyncs::build(folder.path()) else { return };
    let mut stores: Vec<Store> = (0..2).map(|_| Store::start()).collect();
    let failing = tempfile::tempdir().expect("a folder");
    let pattern = failing.path().display().to_string();
    stores.push(Store::start_in(failing, syncs.environment()));
    let serve = before(&stores);
    assert_eq!(at(&serve, "all", "PUT", "/a", b"before").status, 204);

    syncs.fail(&pattern);
    for number in 0..50 {
        let (path, body) = (format!("/k/{number}"), format!("value {number}"));
        let written = put(serve.data, &path, body.as_bytes());
        assert_eq!(written.status, 204, "{written:?}");
        let read = get(serve.data, &path);
        assert_eq!((read.status, read.text()), (200, body));
    }
    // The next sync would succeed, as Linux has it: that must not tempt the store.
    syncs.mend();
    let refused = until("it is known that one is fenced", || {
        let refused = at(&serve, "all", "PUT", "/a", b"lost");
        (refused.status == 503).then_some(refused)
    });
    assert_eq!(refused.field("Ringway-Outcome"), Some("not-applied"), "{refused:?}");
    assert!(refused.text().contains("Away: s3 ("), "{}", refused.text());
    // Once it is started again it is brought what it did not acknowledge.
    stores[2].start_again();
    until_within("nothing differs", 3 * PATIENCE, || nothing_differs(&serve).then_some(()));
    for number in 0..50 {
        let read = at(&serve, "all", "GET", &format!("/k/{number}"), b"");
        assert_eq!((read.status, read.text()), (200, format!("value {number}")));
    }
}
