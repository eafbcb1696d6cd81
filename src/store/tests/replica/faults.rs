//! Full disks. A failing fsync needs a process of its own: `tests/e2e/store_fsync.rs`.

use super::super::faults::SmallDisk;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_stages_and_commits_and_changes_nothing() {
    let Some(disk) = SmallDisk::mount(12) else { return };
    let options = |folder: &Path| {
        let mut options = options(folder);
        options.reserve_bytes = 4 * 1024 * 1024;
        options
    };
    let server = Server::start(options(&disk.data())).await;
    let mut node = Node::new(&server, "0.1").await;
    node.bind("objects", "s1").await;
    node.put("kept", version(1), &bytes(1, 200_000)).await.judged(true);
    node.stage("staged", "1-1-0-1", &bytes(2, 30_000)).await;
    disk.fill();
    let large = node.stage("large", "1-1-0-2", &bytes(3, 500_000)).await;
    large.refusal(507, "full");
    assert_eq!(large.field("ringway-outcome"), Some("not-applied"));
    // Small ones go on until the index has drawn on the reserve.
    let mut accepted = 0;
    let refused = loop {
        let key = format!("k{accepted}");
        let reply = node.put(&key, version(1), &bytes(accepted, 30_000)).await;
        if reply.status != 200 {
            break reply;
        }
        accepted += 1;
        assert!(accepted < 10_000, "the disk is not small");
    };
    refused.refusal(507, "full");
    assert!(accepted > 0, "the reserve was there to finish what had begun");
    node.commit("staged", "1-1-0-1", version(2)).await.refusal(507, "full");
    assert_eq!(node.get("staged").await.status, 404);
    node.stage("other", "1-1-0-3", b"x").await.refusal(507, "full");
    let state = node.ask("GET", "objects/state", &[], b"").await.json();
    assert_eq!((&state["full"], &state["fenced"]), (&true.into(), &().into()));
    // Reads go on, and deletes, which make room.
    assert!(node.get("kept").await.body == bytes(1, 200_000));
    node.delete("kept", version(2)).await.judged(true);
    disk.make_room();
    // The same commit is taken once there is room: its stage was kept.
    assert_eq!(node.commit("staged", "1-1-0-1", version(2)).await.judged(true), version(2));
    assert!(node.get("staged").await.body == bytes(2, 30_000));
    for number in 0..accepted {
        let reply = node.get(&format!("k{number}")).await;
        assert!(reply.body == bytes(number, 30_000), "k{number} is not what was acknowledged");
    }
    let mut sum = Sum::default();
    for entry in node.everything().await.keys {
        sum += Sum::of(entry.key.as_bytes(), entry.version, entry.tombstone);
    }
    assert_eq!(node.sums("?fold=65536").await, [sum]);
    drop(node);
    server.stop().await;
}
