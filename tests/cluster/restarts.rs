//! Can all nodes be restarted, and an observer be lost, without anybody noticing? Fault row 28.

use crate::group::{Cluster, POOL, Setup};
use crate::load::Load;
use crate::said::Outcome;
use crate::support::say::say;
use crate::support::wait::until_true;
use crate::turns::{alone, together};

#[test]
fn all_nodes_are_restarted_in_turn_and_no_request_fails() {
    let _alone = alone();
    let mut cluster = Cluster::start(&Setup::default());
    let load = Load::moving_on(&cluster.data(&[0, 1, 2]), 1000);
    for at in 0..3 {
        let so_far = load.answered();
        until_true("the load goes on", || load.answered() >= so_far + 300);
        let other = cluster.others(at)[0];
        cluster.members[at].terminate();
        let weight = 10 + u16::try_from(at).expect("few");
        let took = cluster.weigh_at_last(other, "s1", weight);
        say(&format!("  n{} down: the ring moves after {} ms", at + 1, took.as_millis()));
        cluster.start_member(at);
        cluster.until_agreed();
    }
    let load = load.stop();
    say(&format!("  rolling restart: {}", load.line()));
    load.expect_no_failure();
    assert_eq!(cluster.until_agreed().shard(POOL, "s1").expect("it is there")["weight"], 12);
}

#[test]
fn an_observer_is_lost_and_comes_back_to_what_was_agreed_without_it() {
    let _turn = together();
    let mut cluster = Cluster::start(&Setup { observers: 1, ..Setup::calm() });
    let view = cluster.until_agreed();
    assert_eq!(view.roles()["n4"], "observer");
    assert_eq!(cluster.weigh(3, "s1", 4), Outcome::Done, "any node takes a change");
    let load = Load::staying(&cluster.data(&[3]), 100);
    until_true("it serves", || load.answered() > 150);
    load.stop().expect_no_failure();

    cluster.members[3].kill_9();
    for n in 0..20 {
        assert_eq!(cluster.weigh(n % 3, "s2", 10 + u16::try_from(n).expect("few")), Outcome::Done);
    }
    cluster.start_member(3);
    let after = cluster.until_agreed();
    assert_eq!(after.term(), view.term(), "an observer that comes and goes costs no election");
    assert_eq!(after.shard(POOL, "s2").expect("it is there")["weight"], 29);
}
