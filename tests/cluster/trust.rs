//! Who is let in? Fault row 27, and nodes of another cluster.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::group::{Cluster, Member, POOL, Rest, Setup};
use crate::load::Load;
use crate::said::Outcome;
use crate::support::http::Client;
use crate::support::ringway::ringway_says;
use crate::support::say::say;
use crate::support::wait::{all_the_while, until_true};
use crate::turns::together;

/// `ringway certs` for nodes on this host.
#[track_caller]
fn make_certificates(folder: &Path, nodes: &[&str]) {
    let folder = folder.display().to_string();
    let nodes: Vec<String> = nodes.iter().map(|node| format!("{node}=127.0.0.1")).collect();
    let mut arguments = vec!["certs", "--out", &folder];
    for node in &nodes {
        arguments.extend(["--nodes", node]);
    }
    let said = ringway_says(&arguments);
    assert!(said.success, "{}", said.stderr);
}

/// A further node, that would like to be in the cluster.
fn stranger(cluster: &Cluster, certificates: Option<&Path>) -> Member {
    let mut stranger = Member::new("n4");
    let rest = Rest {
        join: cluster.members.iter().map(|member| member.peer).collect(),
        advertise: None,
        role: "voter",
        lease_s: Setup::calm().lease_s,
        election: Setup::calm().election,
        probe: "/",
        shards: cluster.shards.iter().map(|shard| shard.address).collect(),
        weight: 100,
        certificates: certificates.map(Path::to_owned),
        replicas: None,
    };
    stranger.rest = rest.text(&stranger.name);
    stranger
}

/// Starts it, and looks on for a while as it stays outside.
#[track_caller]
fn expect_outside(cluster: &Cluster, stranger: &mut Member) {
    let before = cluster.until_agreed();
    stranger.start();
    // It has asked, was told something, and says so.
    let why = stranger.serve().process.stderr_line("it says that it waits", 0, |line| {
        Some(line.split_once("waits to be taken in")?.1.to_owned())
    });
    all_the_while(Duration::from_secs(2), || {
        assert!(stranger.serve_mut().process.is_running(), "it goes on asking");
        let view = cluster.view(0).expect("it answers");
        assert_eq!(view.roles(), before.roles(), "nobody was let in");
    });
    say(&format!("  outside: {}", why.split_once("error=").map_or(&*why, |(_, error)| error)));
    assert_eq!(stranger.telemetry("/healthz/quorum").status, 503);
    stranger.kill_9();
    let after = cluster.until_agreed();
    assert_eq!(after.term(), before.term(), "and nobody was disturbed");
}

#[test]
fn only_certificates_of_the_cluster_let_in_and_they_are_changed_under_load() {
    let _turn = together();
    let folder = tempfile::tempdir().expect("a folder");
    let (own, foreign) = (folder.path().join("own"), folder.path().join("foreign"));
    make_certificates(&own, &["n1", "n2", "n3"]);
    make_certificates(&foreign, &["n4"]);
    let mut cluster = Cluster::start_with(&Setup::calm(), |_, _, rest| {
        rest.certificates = Some(own.clone());
    });

    expect_outside(&cluster, &mut stranger(&cluster, Some(&foreign)));
    expect_outside(&cluster, &mut stranger(&cluster, None));
    // Nor is anybody answered who shows none.
    let plain = Client::try_connect(cluster.members[0].peer).expect("it listens").ask(
        "POST",
        "/peer/v1/vote",
        "Ringway-Protocol: 1\r\n",
        b"{}",
    );
    assert!(plain.is_err(), "{plain:?}");

    let before = cluster.until_agreed();
    let load = Load::staying(&cluster.data(&[0, 1, 2]), 300);
    until_true("there is a load", || load.answered() > 150);
    for name in ["n1", "n2", "n3"] {
        for end in ["", "-key"] {
            let file = own.join(format!("{name}{end}.pem"));
            std::fs::rename(&file, file.with_extension("old")).expect("renamed");
        }
        make_certificates(&own, &[name]);
    }
    for member in &cluster.members {
        let so_far = load.answered();
        member.serve().process.signal(Signal::HUP);
        until_true("the load goes on", || load.answered() >= so_far + 150);
    }
    let after = cluster.until_agreed();
    assert_eq!((after.term(), after.leader()), (before.term(), before.leader()));
    // New connections are made with what is there now.
    let follower = cluster.others(cluster.leader())[0];
    cluster.members[follower].kill_9();
    cluster.start_member(follower);
    cluster.until_agreed();
    assert_eq!(cluster.weigh(follower, "s1", 5), Outcome::Done);
    let load = load.stop();
    say(&format!("  certificates changed under load: {}", load.line()));
    // The clients of the one that was killed at the end saw that.
    let killed = cluster.members[follower].data;
    load.expect_no_failure_but_at(killed);
    assert_eq!(cluster.until_agreed().shard(POOL, "s1").expect("it is there")["weight"], 5);
}

#[test]
fn two_clusters_do_not_mix() {
    let _turn = together();
    let mut ours = Cluster::start(&Setup::default());
    let mut theirs = Cluster::start(&Setup { voters: 1, ..Setup::default() });
    let id = |cluster: &Cluster| cluster.until_agreed().cluster_id().expect("an id");
    let (our_id, their_id) = (id(&ours), id(&theirs));
    assert_ne!(our_id, their_id);
    let twice = ours.members[0].ringway(&["cluster", "init"]);
    assert!(!twice.success, "a cluster is founded once: {}", twice.stdout);

    // Their node comes to stand where one of ours stood.
    assert_eq!(theirs.weigh(0, "s1", 3), Outcome::Done);
    ours.members[2].kill_9();
    theirs.members[0].terminate();
    theirs.members[0].peer = ours.members[2].peer;
    theirs.start_member(0);
    theirs.until_agreed();
    assert_eq!(ours.weigh(0, "s1", 4), Outcome::Done);
    all_the_while(Duration::from_secs(2), || {
        let view = theirs.view(0).expect("it answers");
        assert_eq!(view.cluster_id().as_ref(), Some(&their_id));
        assert_eq!(view.shard(POOL, "s1").expect("it is there")["weight"], 3);
    });
    let ask = |cluster: &str, protocol: u32| {
        let fields = format!(
            "Ringway-Cluster: {cluster}\r\nRingway-Generation: 1\r\nRingway-Protocol: \
             {protocol}\r\n"
        );
        let client = Client::try_connect(theirs.members[0].peer);
        client.expect("it listens").ask("POST", "/peer/v1/vote", &fields, b"{}").expect("an answer")
    };
    let refused = ask(&our_id, 1);
    assert_eq!(refused.status, 421, "{refused:?}");
    assert!(refused.text().contains("another cluster"), "it says why: {}", refused.text());
    // Whoever knows a cluster's id may speak to its nodes where nothing is encrypted.
    assert!(!refused.text().contains(&their_id), "and not which it is of: {}", refused.text());
    let refused = ask(&their_id, 77);
    assert_eq!(refused.status, 421, "{refused:?}");

    theirs.members[0].kill_9();
    ours.start_member(2);
    assert_eq!(ours.until_agreed().shard(POOL, "s1").expect("it is there")["weight"], 4);
}
