//! What does a node do that is cut off, and what do the others do without it?
//! Fault rows 4 and 7 to 11.

use std::time::Duration;

use crate::group::{AGREEMENT_MAX, Cluster, POOL, Setup};
use crate::links::{Sources, Weather};
use crate::load::Load;
use crate::said::Outcome;
use crate::support::say::say;
use crate::support::wait::{all_the_while, until_within};
use crate::turns::together;

/// From the end of a fault until all agree again. The matrix asks for 2 s where nothing else runs.
const HEALED_MAX: Duration = Duration::from_secs(20);

/// The lease of these clusters, and time for whoever asks on a machine that does much else.
const LEASE_OVER_MAX: Duration = Duration::from_secs(20);

/// `None`, said aloud, where wires cannot be made.
fn wired() -> Option<Cluster> {
    let sources = Sources::build()?;
    Some(Cluster::start(&Setup { wired: Some(sources), ..Setup::calm() }))
}

/// Waits until a node has no lease and says so, and is not taken out of the balancer for it.
#[track_caller]
fn until_without_lease(cluster: &Cluster, at: usize) {
    until_within("the lease runs out", LEASE_OVER_MAX, || {
        (cluster.view(at)?.lease_ms() == 0).then_some(())
    });
    assert_eq!(cluster.members[at].telemetry("/healthz/quorum").status, 503);
    assert_eq!(cluster.members[at].telemetry("/readyz").status, 200);
}

#[track_caller]
fn until_healed(cluster: &Cluster) -> Duration {
    let begun = std::time::Instant::now();
    cluster.until_agreed();
    let took = begun.elapsed();
    assert!(took < HEALED_MAX, "agreed again after {took:?}");
    took
}

#[test]
fn a_follower_that_is_cut_off_serves_on_and_comes_back_without_an_election() {
    let _turn = together();
    let Some(cluster) = wired() else { return };
    let before = cluster.until_agreed();
    let leader = cluster.leader();
    let lost = cluster.others(leader)[0];
    let rest = cluster.others(lost);
    let load = Load::staying(&cluster.data(&[lost]), 200);
    cluster.links().isolate(lost);

    until_without_lease(&cluster, lost);
    assert!(matches!(cluster.weigh(lost, "s1", 1), Outcome::Refused(_) | Outcome::Unknown(_)));
    assert_eq!(cluster.weigh(rest[0], "s2", 2), Outcome::Done);
    assert_eq!(cluster.members[leader].telemetry("/healthz/quorum").status, 200);
    let alone = cluster.view(lost).expect("it answers");
    assert_eq!(alone.serves(), before.serves(), "it serves what it knows");
    assert_eq!(alone.term(), before.term(), "it asks for votes that it cannot get");

    cluster.links().mend();
    let took = until_healed(&cluster);
    let after = cluster.until_agreed();
    assert_eq!((after.term(), after.leader()), (before.term(), before.leader()), "no election");
    assert_eq!(after.shard(POOL, "s2").expect("it is there")["weight"], 2);
    let load = load.stop();
    say(&format!("  cut off: back after {} ms; its clients: {}", took.as_millis(), load.line()));
    load.expect_no_failure();
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_follows() {
    let _turn = together();
    let Some(cluster) = wired() else { return };
    let before = cluster.until_agreed();
    let old = cluster.leader();
    let rest = cluster.others(old);
    let load = Load::staying(&cluster.data(&[0, 1, 2]), 300);
    cluster.links().isolate(old);

    let took = cluster.weigh_at_last(rest[0], "s1", 1);
    let agreed = cluster.until_agreed_among(&rest);
    assert!(agreed.term() > before.term());
    until_without_lease(&cluster, old);
    // It may still take itself for the leader; nothing comes of it.
    assert!(!matches!(cluster.weigh(old, "s2", 2), Outcome::Done));

    cluster.links().mend();
    let healed = until_healed(&cluster);
    let after = cluster.until_agreed();
    let weight = |shard: &str| after.shard(POOL, shard).expect("it is there")["weight"].clone();
    assert_eq!(weight("s1"), 1);
    let load = load.stop();
    say(&format!(
        "  leader cut off: agreed again after {} ms, healed after {} ms; all clients: {}",
        took.as_millis(),
        healed.as_millis(),
        load.line()
    ));
    load.expect_no_failure();
}

#[test]
fn one_way_loss_makes_no_terms_run_away() {
    let _turn = together();
    let Some(cluster) = wired() else { return };
    let before = cluster.until_agreed();
    let leader = cluster.leader();
    let [deaf, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    // It can speak and hears nothing.
    cluster.links().set(&[(leader, deaf), (other, deaf)], Weather::Cut);
    until_without_lease(&cluster, deaf);
    assert_eq!(cluster.weigh(other, "s1", 1), Outcome::Done);
    cluster.links().mend();
    until_healed(&cluster);
    let after = cluster.until_agreed();
    assert_eq!((after.term(), after.leader()), (before.term(), before.leader()), "deaf");

    // A leader that hears and cannot speak is no leader.
    cluster.links().set(&[(leader, deaf), (leader, other)], Weather::Cut);
    cluster.weigh_at_last(other, "s1", 2);
    let rest = cluster.until_agreed_among(&[deaf, other]);
    assert!(rest.term() <= before.term() + 3, "{} after {}", rest.term(), before.term());
    cluster.links().mend();
    until_healed(&cluster);
    let after = cluster.until_agreed();
    assert!(after.term() <= rest.term() + 1, "{} after {}", after.term(), rest.term());
}

#[test]
fn two_that_meet_only_through_a_third_do_not_fight_for_the_lead() {
    let _turn = together();
    let Some(cluster) = wired() else { return };
    let before = cluster.until_agreed();
    let leader = cluster.leader();
    let [bridge, far] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.links().cut(leader, far);
    let mut term = before.term();
    all_the_while(Duration::from_secs(8), || {
        if let Some(view) = cluster.view(bridge) {
            term = term.max(view.term());
        }
    });
    assert!(term <= before.term() + 2, "elections: {} to {term}", before.term());
    cluster.weigh_at_last(bridge, "s1", 1);
    cluster.links().mend();
    let took = until_healed(&cluster);
    say(&format!(
        "  bridge for 8 s: {} elections; healed after {} ms",
        term - before.term(),
        took.as_millis()
    ));
}

#[test]
fn a_slow_network_has_one_leader_and_a_bad_one_has_one_ring() {
    let _turn = together();
    let Some(cluster) = wired() else { return };
    let before = cluster.until_agreed();
    let slow = Weather::Slow { least_ms: 25, most_ms: 50, loss_percent: 0 };
    cluster.links().everywhere(slow);
    all_the_while(Duration::from_secs(5), || {
        for at in cluster.running() {
            let term = cluster.view(at).map_or(before.term(), |view| view.term());
            assert_eq!(term, before.term(), "no election at a delay of 50 ms");
        }
    });
    assert_eq!(cluster.weigh(0, "s1", 1), Outcome::Done);

    let bad = Weather::Slow { least_ms: 100, most_ms: 300, loss_percent: 30 };
    cluster.links().everywhere(bad);
    let mut done = 0;
    for n in 0..3 {
        done += usize::from(
            cluster.weigh(n % 3, "s2", u16::try_from(n).expect("few") + 10) == Outcome::Done,
        );
    }
    let worst = cluster.running().iter().filter_map(|&at| Some(cluster.view(at)?.term())).max();
    cluster.links().mend();
    let took = until_healed(&cluster);
    say(&format!(
        "  200 ± 100 ms with 30 % loss: {done} of 3 changes agreed, term {} to {worst:?}; healed \
         after {} ms",
        before.term(),
        took.as_millis()
    ));
    cluster.weigh_at_last(0, "s3", 5);
    assert!(cluster.until_agreed().term() < before.term() + 60, "terms do not run away");
}

#[test]
fn without_a_majority_nothing_is_agreed_and_everything_is_served() {
    let _turn = together();
    let mut cluster = Cluster::start(&Setup::default());
    let before = cluster.until_agreed();
    let load = Load::staying(&cluster.data(&[2]), 200);
    cluster.members[0].kill_9();
    cluster.members[1].kill_9();
    until_without_lease(&cluster, 2);
    assert!(!matches!(cluster.weigh(2, "s1", 1), Outcome::Done));
    assert_eq!(cluster.view(2).expect("it answers").serves(), before.serves());
    cluster.start_member(0);
    let begun = std::time::Instant::now();
    cluster.weigh_at_last(2, "s2", 2);
    say(&format!("  majority lost: agreed {} ms after one came back", begun.elapsed().as_millis()));
    cluster.start_member(1);
    until_within("all agree", AGREEMENT_MAX, || Some(cluster.until_agreed()));
    let load = load.stop();
    say(&format!("  majority lost: clients of the one that was left: {}", load.line()));
    load.expect_no_failure();
}
