//! What does a store do on disks that are full, and on disks that fail?
//!
//! A failing fsync needs a process of its own:
//! `tests/e2e/store_fsync.rs`.

use std::process::Command;

use super::*;

/// A file system of a few MiB, for as long as it lives.
pub(super) struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, and a loud word, where we may not mount. With `RINGWAY_REQUIRE_MOUNT=1`, which
    /// `.ci/run` sets where it may, that is a failure.
    pub(super) fn mount(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            let required = std::env::var("RINGWAY_REQUIRE_MOUNT").is_ok_and(|value| value == "1");
            assert!(!required, "cannot mount a tmpfs, which needs root");
            eprintln!("SKIPPED: this test mounts a tmpfs, which needs root");
            return None;
        }
        Some(Self(folder))
    }

    pub(super) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    /// Uses up all that is free.
    pub(super) fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.filler()).expect("a writable disk");
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    pub(super) fn make_room(&self) {
        std::fs::remove_file(self.filler()).expect("the disk was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Puts values of `length` bytes until one is refused; answers the accepted keys and the refusal.
async fn put_until_refused(server: &Server, length: usize) -> (Vec<String>, Reply) {
    let mut accepted = vec![];
    loop {
        let key = format!("/{length}/{}", accepted.len());
        let reply = server.put(&key, &bytes(accepted.len() as u64, length)).await;
        if reply.status != 201 {
            return (accepted, reply);
        }
        accepted.push(key);
        assert!(accepted.len() < 10_000, "the disk is not small");
    }
}

async fn check(server: &Server, keys: &[String], length: usize) {
    for (number, key) in keys.iter().enumerate() {
        let reply = server.get(key).await;
        assert_eq!(reply.status, 200, "{key}");
        assert!(reply.body == bytes(number as u64, length), "{key} is not what was acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_puts_serves_reads_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount(12) else { return };
    let options = |folder: &Path| {
        let mut options = options(folder);
        options.reserve_bytes = 4 * 1024 * 1024;
        options
    };
    let server = Server::start(options(&disk.data())).await;
    for key in ["/first", "/second"] {
        assert_eq!(server.put(key, &bytes(9, 200_000)).await.status, 201);
    }
    disk.fill();

    let large = server.put("/large", &bytes(1, 500_000)).await;
    large.refusal(507, "full");
    assert_eq!(large.field("ringway-outcome"), Some("not-applied"));
    until("nothing is left of it", || files(&disk.data(), "incoming").is_empty()).await;

    // Small values go on until the index has drawn on the reserve.
    let (accepted, refused) = put_until_refused(&server, 30_000).await;
    refused.refusal(507, "full");
    assert!(!accepted.is_empty(), "the reserve was there to finish what had begun");
    check(&server, &accepted, 30_000).await;
    assert!(server.get("/first").await.body == bytes(9, 200_000));
    assert_eq!(server.get("/_ringway/list").await.json()["keys"][0]["key"], "30000/0");
    assert_eq!(server.get("/_ringway/health").await.status, 200);
    assert_eq!(server.get("/_ringway/health/read").await.status, 200);
    let health = server.get("/_ringway/health/write").await;
    assert_eq!((health.status, &health.json()["write"]["ok"]), (503, &false.into()));
    assert_eq!(server.store().metrics().full.get(), 1);
    assert_eq!(server.store().metrics().fenced.get(), 0);

    // Restarted while full: the same.
    server.stop().await;
    let server = Server::start(options(&disk.data())).await;
    server.put("/x", b"x").await.refusal(507, "full");
    check(&server, &accepted, 30_000).await;

    // Deletes are taken, or there would be no way out but by other hands.
    assert_eq!(server.ask("DELETE", "/first", &[], b"").await.status, 204);
    server.get("/first").await.refusal(404, "not-found");

    disk.make_room();
    assert_eq!(server.put("/x", b"x").await.status, 201);
    assert_eq!(server.put("/large", &bytes(1, 500_000)).await.status, 201);
    assert_eq!(server.get("/_ringway/health/write").await.status, 200);
    assert_eq!(server.store().metrics().full.get(), 0);
    server.stop().await;
    let server = Server::start(options(&disk.data())).await;
    check(&server, &accepted, 30_000).await;
    assert!(server.get("/large").await.body == bytes(1, 500_000));
    assert_eq!(server.store().totals().objects, accepted.len() as u64 + 3);
    server.stop().await;
}

/// redb latches the first error of its file: reads failed with every write's failure, until the
/// file was shown to it as sound. Without a reserve a full disk is such an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_fences_the_store_and_reads_go_on() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let mut bare = options(&disk.data());
    bare.reserve_bytes = 0;
    let server = Server::start(bare.clone()).await;
    server.put("/large", &bytes(9, 200_000)).await;
    disk.fill();
    let (accepted, refused) = put_until_refused(&server, 30_000).await;
    let detail = refused.refusal(500, "unknown");
    assert!(detail.contains("No space left"), "{detail}");
    assert_eq!(refused.field("ringway-outcome"), Some("unknown"));

    // Started again on the full disk it can at least be read.
    server.stop().await;
    let server = Server::start(bare.clone()).await;
    check(&server, &accepted, 30_000).await;
    let (more, refused) = put_until_refused(&server, 60_000).await;
    refused.refusal(500, "unknown");

    // Room comes back, and changes nothing: who knows what the disk has.
    disk.make_room();
    for reply in [
        server.put("/x", b"x").await,
        server.put("/x", &bytes(1, 100_000)).await,
        server.ask("DELETE", "/large", &[], b"").await,
    ] {
        reply.refusal(503, "fenced");
        assert_eq!(reply.field("ringway-outcome"), Some("not-applied"));
    }
    check(&server, &accepted, 30_000).await;
    assert!(server.get("/large").await.body == bytes(9, 200_000));
    let unacknowledged = format!("/30000/{}", accepted.len());
    server.get(&unacknowledged).await.refusal(404, "not-found");
    let listed = server.get("/_ringway/list").await.json();
    let expected = accepted.len() + more.len() + 1;
    assert_eq!(listed["keys"].as_array().expect("a list").len(), expected);
    assert_eq!(server.get("/_ringway/health").await.status, 200);
    assert_eq!(server.get("/_ringway/health/write").await.status, 503);
    let metrics = server.store().metrics();
    assert_eq!((metrics.fenced.get(), metrics.commits[1].get()), (1, 2), "one of each opening");
    server.stop().await;

    let server = Server::start(bare).await;
    check(&server, &accepted, 30_000).await;
    check(&server, &more, 60_000).await;
    let reply = server.get(&unacknowledged).await;
    assert!(reply.status == 404 || reply.body == bytes(accepted.len() as u64, 30_000));
    assert_eq!(server.put("/x", b"x").await.status, 201);
    assert_eq!(server.store().metrics().fenced.get(), 0);
    server.stop().await;
}
