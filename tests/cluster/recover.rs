//! Two of three nodes are lost for good: what does the survivor know, and do the dead come back?

use std::time::Duration;

use crate::group::{AGREEMENT_MAX, Cluster, POOL, Setup};
use crate::said::Outcome;
use crate::support::ringway::ringway_says;
use crate::support::wait::{all_the_while, until_within};
use crate::turns::together;

#[test]
fn a_survivor_begins_anew_and_the_dead_are_not_let_in() {
    let _turn = together();
    let mut cluster = Cluster::start(&Setup::default());
    assert_eq!(cluster.weigh(2, "s1", 7), Outcome::Done);
    let before = cluster.until_agreed();
    for lost in [0, 1] {
        cluster.members[lost].kill_9();
    }
    let data_dir = cluster.members[2].data_dir().display().to_string();
    let recover = ["cluster", "recover", "--from-survivor", "--data-dir", &data_dir, "--yes"];
    let said = ringway_says(&recover);
    assert!(!said.success, "a node that runs is not recovered from: {}", said.stdout);
    cluster.members[2].terminate();
    let said = ringway_says(&recover[..5]);
    assert!(!said.success, "nobody agreed: {}", said.stdout);
    let said = ringway_says(&recover);
    assert!(said.success, "{}", said.stderr);
    for part in ["is lost", "Given up: node 1 (n1", "(n2"] {
        let all = format!("{}{}", said.stdout, said.stderr);
        assert!(all.contains(part), "it says what may be lost: {all}");
    }

    // It is asked for no votes by anybody, and knows what was agreed.
    cluster.start_member(2);
    let after = cluster.until_agreed();
    assert_eq!(after.shard(POOL, "s1").expect("it is there")["weight"], 7);
    assert_eq!(after.roles().len(), 1, "{}", after.summary());
    assert_eq!(after.cluster_id(), before.cluster_id());
    assert!(after.generation() > before.generation());
    assert_eq!(cluster.weigh(2, "s2", 8), Outcome::Done);

    // The dead rise with what they remember: a majority of three, of a generation that is over.
    cluster.start_member(0);
    cluster.start_member(1);
    let agreed = cluster.view(2).expect("it answers");
    all_the_while(Duration::from_secs(3), || {
        let view = cluster.view(2).expect("it answers");
        assert_eq!(view.serves(), agreed.serves());
        assert_eq!(view.roles().len(), 1, "{}", view.summary());
    });
    assert_eq!(cluster.weigh(2, "s3", 9), Outcome::Done);

    // A folder without memory makes a new node of them.
    cluster.members[0].kill_9();
    cluster.members[1].kill_9();
    for lost in [0, 1] {
        std::fs::remove_dir_all(cluster.members[lost].data_dir()).expect("removed");
        let survivor = cluster.members[2].peer;
        cluster.members[lost].join_instead(survivor);
        cluster.start_member(lost);
    }
    until_within("three nodes again", AGREEMENT_MAX, || {
        (cluster.until_agreed().roles().len() == 3).then_some(())
    });
    assert_eq!(cluster.weigh(0, "s1", 10), Outcome::Done);
}
