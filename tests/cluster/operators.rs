//! Do an operator's commands do at one node what they say at another?

use serde_json::Value;

use crate::group::{AGREEMENT_MAX, Cluster, POOL, Setup};
use crate::load::Load;
use crate::support::process::Said;
use crate::support::say::say;
use crate::support::wait::{until_true, until_within};
use crate::turns::together;

#[track_caller]
fn document(said: &Said) -> Value {
    assert!(said.success, "{}{}", said.stdout, said.stderr);
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.stdout))
}

#[test]
fn what_is_staged_here_is_shown_there_and_applied_elsewhere() {
    let _turn = together();
    let cluster = Cluster::start(&Setup::default());
    let [first, second, third] = &cluster.members[..] else { panic!("three nodes") };
    let before = cluster.until_agreed();
    let url = format!("http://{}", cluster.shards[0].address);
    for change in [["ring", "weight", "s1", "50"], ["ring", "add", "s4", &url]] {
        let said = first.ringway(&change);
        assert!(said.success, "{}", said.stderr);
    }
    assert_eq!(cluster.until_agreed().serves(), before.serves(), "nothing moves yet");
    let plan = document(&second.ringway(&["ring", "plan", "--json"]));
    let id = plan["id"].as_str().expect("a plan has an id").to_owned();
    let again = document(&third.ringway(&["ring", "plan", "--json"]));
    assert_eq!(again["id"], plan["id"], "all nodes plan the same");

    // What was shown is applied, or nothing.
    let said = second.ringway(&["ring", "zone", "s2", "b"]);
    assert!(said.success, "{}", said.stderr);
    let stale = third.ringway(&["ring", "apply", &id]);
    assert!(!stale.success, "another plan than was shown: {}", stale.stdout);
    assert_eq!(cluster.until_agreed().serves(), before.serves());
    let plan = document(&first.ringway(&["ring", "plan", "--json"]));
    let id = plan["id"].as_str().expect("a plan has an id").to_owned();
    let said = third.ringway(&["ring", "apply", &id]);
    assert!(said.success, "{}", said.stderr);
    let after = cluster.until_agreed();
    assert_eq!(after.serves()[POOL].0, before.serves()[POOL].0 + 1, "one step, one epoch");
    assert_eq!(after.shard(POOL, "s1").expect("it is there")["weight"], 50);
    assert_eq!(after.shard(POOL, "s2").expect("it is there")["zone"], "b");
    assert!(after.shard(POOL, "s4").is_some());
    assert!(!first.ringway(&["ring", "apply", &id]).success, "a plan is applied once");

    // Each node tells where a key was before, and who did it.
    let at = before.serves()[POOL].0.to_string();
    let was: Vec<String> = cluster
        .members
        .iter()
        .map(|member| {
            let said = member.ringway(&["locate", "/some/key", "--at", &at]);
            assert!(said.success, "{}", said.stderr);
            said.stdout
        })
        .collect();
    assert!(was.iter().all(|text| *text == was[0]), "{was:#?}");
    let history = document(&second.ringway(&["ring", "history", "--json"]));
    let records = history["records"].as_array().expect("a list");
    let actor = records.last().expect("changes were made")["actor"].as_str().expect("a text");
    assert!(actor.starts_with("admin@n3"), "{actor}");

    let said = first.ringway(&["ring", "maint", "s3"]);
    assert!(said.success, "{}", said.stderr);
    until_within("all know that s3 is out of service", AGREEMENT_MAX, || {
        let state = |at| Some(cluster.view(at)?.shard(POOL, "s3")?["state"] == "maint");
        cluster.running().into_iter().all(|at| state(at) == Some(true)).then_some(())
    });
}

#[test]
fn the_lead_is_handed_over_under_load_and_the_log_is_cut() {
    let _turn = together();
    let mut cluster = Cluster::start(&Setup::default());
    let load = Load::staying(&cluster.data(&[0, 1, 2]), 300);
    let before = cluster.until_agreed();
    for _ in 0..3 {
        let leader = cluster.leader();
        let next = cluster.others(leader)[0];
        let name = cluster.members[next].name.clone();
        let said = cluster.members[leader].ringway(&["cluster", "transfer-leader", &name]);
        assert!(said.success, "{}", said.stderr);
        assert_eq!(cluster.until_agreed().leader(), Some(name));
        let so_far = load.answered();
        until_true("the load goes on", || load.answered() >= so_far + 100);
        let took = cluster.weigh_at_last(leader, "s1", 10 + u16::try_from(next).expect("few"));
        say(&format!("  handed over: the ring moves after {} ms", took.as_millis()));
    }
    for member in &cluster.members {
        let said = member.ringway(&["cluster", "snapshot"]);
        assert!(said.success, "{}", said.stderr);
    }
    let load = load.stop();
    say(&format!("  handed over three times: {}", load.line()));
    load.expect_no_failure();
    // A node begins with its snapshot, and an observer that comes to it now gets one.
    let now = cluster.until_agreed();
    assert!(now.term() > before.term());
    let last = cluster.others(cluster.leader())[0];
    cluster.members[last].kill_9();
    cluster.start_member(last);
    assert_eq!(cluster.until_agreed().serves(), now.serves());
}
