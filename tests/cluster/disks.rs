//! What does a node do whose disk is full, lies, forgets, or is gone? Fault rows 13 to 16.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::group::{AGREEMENT_MAX, Cluster, Setup};
use crate::load::Load;
use crate::said::Outcome;
use crate::support::disk::{FailingSyncs, SmallDisk};
use crate::support::say::say;
use crate::support::wait::{until_true, until_within};
use crate::turns::together;

/// Room for the log of an empty cluster, and for what a node keeps free.
const DISK_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// After space has returned (fault row 13), on a machine that has other things to do.
const WELL_AGAIN_MAX: Duration = Duration::from_secs(20);

/// Makes changes through others until a node has found out that its disk is not to be trusted:
/// either it says so, or it has ended.
#[track_caller]
fn until_fenced(cluster: &mut Cluster, at: usize, via: usize) -> String {
    let mut weight = 1;
    until_within("the node fences itself", AGREEMENT_MAX, || {
        weight += 1;
        cluster.weigh_at_last(via, "s1", weight);
        let member = &mut cluster.members[at];
        if !member.serve_mut().process.is_running() {
            return Some("it ended".to_owned());
        }
        cluster.view(at)?.storage_failed()
    })
}

/// A node without a disk that it can trust has no lease and acknowledges nothing.
#[track_caller]
fn expect_fenced(cluster: &mut Cluster, at: usize) {
    if !cluster.members[at].serve_mut().process.is_running() {
        return;
    }
    until_within("it has no lease", AGREEMENT_MAX, || {
        (cluster.view(at)?.lease_ms() == 0).then_some(())
    });
    assert_eq!(cluster.members[at].telemetry("/healthz/quorum").status, 503);
    assert_eq!(cluster.members[at].telemetry("/readyz").status, 200, "cache pools go on");
}

fn full_disk(of_the_leader: bool) {
    let mut disks = Vec::new();
    let cluster = Cluster::start_with(&Setup::default(), |_, member, _| {
        std::fs::create_dir(member.data_dir()).expect("a folder");
        disks.extend(SmallDisk::mount(&member.data_dir(), DISK_BYTES_MAX));
    });
    if disks.len() < cluster.members.len() {
        return;
    }
    let leader = cluster.leader();
    let full = if of_the_leader { leader } else { cluster.others(leader)[0] };
    let rest = cluster.others(full);
    let load = Load::staying(&cluster.data(&rest), 200);
    disks[full].fill();
    let mut weight = 1;
    let why = until_within("the node waits for room", AGREEMENT_MAX, || {
        weight += 1;
        cluster.weigh_at_last(rest[0], "s1", weight);
        cluster.view(full)?.storage_waits()
    });
    assert_eq!(cluster.weigh(rest[1], "s2", 2), Outcome::Done, "two of three go on");
    cluster.until_agreed_among(&rest);

    // Nobody restarts it.
    disks[full].make_room();
    let begun = Instant::now();
    let view = cluster.until_agreed();
    let waited = begun.elapsed();
    assert_eq!(view.storage_failed(), None);
    assert!(waited < WELL_AGAIN_MAX, "well again after {waited:?}");
    until_true("there was a load", || load.answered() > 150);
    let load = load.stop();
    say(&format!(
        "  full disk ({why}), well {} ms after there was room: clients of the others: {}",
        waited.as_millis(),
        load.line()
    ));
    load.expect_no_failure();
}

#[test]
fn a_follower_with_a_full_disk_waits_and_is_well_by_itself() {
    let _turn = together();
    full_disk(false);
}

#[test]
fn a_leader_with_a_full_disk_stops_nobody_and_is_well_by_itself() {
    let _turn = together();
    full_disk(true);
}

#[test]
fn a_failed_fsync_is_never_tried_again_by_the_same_process() {
    let _turn = together();
    let folder = tempfile::tempdir().expect("a folder");
    let Some(syncs) = FailingSyncs::build(folder.path()) else { return };
    let mut cluster = Cluster::start_with(&Setup::default(), |_, member, _| {
        member.environment = syncs.environment();
    });
    for victim_leads in [true, false] {
        let leader = cluster.leader();
        let victim = if victim_leads { leader } else { cluster.others(leader)[0] };
        let rest = cluster.others(victim);
        // Every file of this node, and of no other.
        syncs.fail(&cluster.members[victim].data_dir().display().to_string());
        let why = until_fenced(&mut cluster, victim, rest[0]);
        // The next fsync would succeed, as Linux has it: that must not tempt the node.
        syncs.mend();
        expect_fenced(&mut cluster, victim);
        assert_eq!(cluster.weigh(rest[1], "s2", 2 + u16::from(victim_leads)), Outcome::Done);
        say(&format!("  failed fsync ({why})"));
        cluster.members[victim].kill_9();
        cluster.start_member(victim);
        cluster.until_agreed();
    }
}

#[test]
fn a_node_that_lost_its_disk_joins_as_a_new_one() {
    let _turn = together();
    let mut cluster = Cluster::start(&Setup::default());
    let lost = cluster.others(cluster.leader())[0];
    let before = cluster.view(lost).and_then(|view| view.node_id()).expect("a number");
    cluster.members[lost].kill_9();
    std::fs::remove_dir_all(cluster.members[lost].data_dir()).expect("removed");
    let other = cluster.others(lost)[0];
    let name = cluster.members[lost].name.clone();
    let removed = cluster.members[other].ringway(&["cluster", "remove-node", &name]);
    assert!(removed.success, "{}", removed.stderr);
    cluster.start_member(lost);
    let view = cluster.until_agreed();
    assert_eq!(view.roles().len(), 3, "the old one is gone: {}", view.summary());
    let after = cluster.view(lost).and_then(|view| view.node_id()).expect("a number");
    assert!(after > before, "a number is never given twice: {before}, {after}");
    assert_eq!(cluster.weigh(lost, "s1", 9), Outcome::Done);
}

/// Each byte of a file turned over, a few at a time, would show more; the codecs have such tests.
/// Here it is shown that what they find stops the process, and says what to do.
#[test]
fn a_damaged_log_stops_its_node_and_nobody_else() {
    let _turn = together();
    let mut cluster = Cluster::start(&Setup::default());
    let damaged = cluster.others(cluster.leader())[0];
    for weight in 2..6 {
        assert_eq!(cluster.weigh(0, "s1", weight), Outcome::Done);
    }
    cluster.members[damaged].kill_9();
    let log = cluster.members[damaged].data_dir().join("raft/log");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&log).expect("the log");
    let length = file.metadata().expect("a size").len();
    let mut bytes = vec![0; usize::try_from(length).expect("a short file")];
    file.read_exact_at(&mut bytes, 0).expect("read");
    // One bit of every page that has anything in it, past the header.
    for page in (4096..bytes.len()).step_by(4096) {
        let Some(used) = bytes[page..].iter().take(4096).position(|byte| *byte != 0) else {
            continue;
        };
        let at = page + used;
        file.write_all_at(&[bytes[at] ^ 1], at as u64).expect("written");
    }
    let why = cluster.members[damaged].start_in_vain();
    assert!(why.contains("raft/log") && why.contains("remove-node"), "file and cure: {why}");
    let rest = cluster.running();
    assert_eq!(cluster.weigh(rest[0], "s2", 2), Outcome::Done, "two of three go on");
    say(&format!("  a damaged log: {}", why.lines().last().unwrap_or("")));
}
