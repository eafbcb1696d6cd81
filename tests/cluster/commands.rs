//! Does every command of the operator's do what it says, against a cluster of real nodes?

use serde_json::Value;

use crate::group::{AGREEMENT_MAX, Cluster, POOL, Setup};
use crate::support::process::Said;
use crate::support::wait::until_within;
use crate::turns::together;

/// What a command printed as JSON.
#[track_caller]
fn json(said: &Said) -> Value {
    assert!(said.success, "{}", said.stderr);
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.stdout))
}

/// The sentence that a refused command ends with.
#[track_caller]
fn refused(said: &Said) -> &str {
    assert!(!said.success && said.stdout.is_empty(), "{}", said.stdout);
    said.stderr.trim().strip_prefix("ringway: ").expect("a sentence of ours")
}

#[test]
fn a_change_goes_from_one_operator_to_another_and_is_applied_as_it_was_shown() {
    let _turn = together();
    let cluster = Cluster::start(&Setup { voters: 1, observers: 1, ..Setup::default() });
    let (one, other) = (&cluster.members[0], &cluster.members[1]);
    let epoch = |at: &str| json(&one.ringway(&["ring", "show", "--json"]))["pools"][0][at].clone();
    let before = epoch("epoch").as_u64().expect("an epoch");

    let staged = one.ringway(&["ring", "add", "s9", "http://127.0.0.1:9", "--zone", "west"]);
    assert!(staged.success && staged.stdout.contains("1 change staged"), "{}", staged.stderr);
    let place = format!("{POOL}/s1");
    json(&other.ringway(&["ring", "weight", &place, "7", "--json"]));
    let shown = other.ringway(&["ring", "plan"]);
    assert!(shown.stdout.contains(&format!("give {POOL}/s1 weight 7")), "{}", shown.stdout);
    let plan = json(&other.ringway(&["ring", "plan", "--json"]));
    assert_eq!(plan["changes"].as_array().map(Vec::len), Some(2), "{plan:#}");
    assert_eq!(epoch("epoch").as_u64(), Some(before), "nothing has moved");
    let id = plan["id"].as_str().expect("an id").to_owned();

    json(&one.ringway(&["ring", "zone", "s2", "west", "--json"]));
    let stale = refused(&other.ringway(&["ring", "apply", &id])).to_owned();
    assert!(stale.contains("the plan has changed since it was shown"), "{stale}");
    let id = json(&one.ringway(&["ring", "plan", "--json"]))["id"].clone();
    let id = id.as_str().expect("an id");
    let applied = json(&other.ringway(&["ring", "apply", id, "--json"]));
    assert_eq!(applied["pools"][0]["after"].as_u64(), Some(before + 1), "one step, one epoch");
    assert!(refused(&one.ringway(&["ring", "plan"])).contains("nothing is staged"));

    // Where keys were under the epoch before, and that some are elsewhere now.
    let owner = |key: &str, at: &[&str]| {
        let arguments = [&["locate", "--pool", POOL, "--json", key], at].concat();
        json(&other.ringway(&arguments))["replicas"][0].clone()
    };
    let at = before.to_string();
    let keys: Vec<String> = (0..20).map(|number| format!("/k{number}")).collect();
    let moved = keys.iter().filter(|key| owner(key, &[]) != owner(key, &["--at", &at])).count();
    assert!(moved > 0, "a new shard owns nothing of {} keys", keys.len());
    let routed = json(&other.ringway(&["locate", "--json", "/k0"]));
    assert!(routed["route"].is_string(), "{routed:#}");

    // The file still says what the cluster began with.
    let file = one.folder().join("ringway.yaml").display().to_string();
    let back = json(&one.ringway(&["ring", "stage", "-c", &file, "--now", "--json"]));
    assert!(back["plan"]["changes"].as_array().is_some_and(|made| made.len() >= 3), "{back:#}");
    let same = one.ringway(&["ring", "stage", "-c", &file]);
    assert!(same.stdout.contains("nothing to stage"), "{}{}", same.stdout, same.stderr);

    json(&one.ringway(&["ring", "remove", "s3", "--json"]));
    json(&one.ringway(&["ring", "unstage", "--json"]));
    let service = |verb: &str| json(&other.ringway(&["ring", verb, "s1", "s2", "--json"]));
    assert_eq!(service("maint")["pools"][0]["before"], service("ready")["pools"][0]["after"]);
    let history = json(&other.ringway(&["ring", "history", "--last", "5", "--json"]));
    let records = history["records"].as_array().expect("records");
    assert_eq!(records.len(), 5, "{history:#}");
    let last = &records[4];
    assert_eq!(last["what"], format!("set {POOL}/s1 to ready, set {POOL}/s2 to ready"));
    let actor = last["actor"].as_str().expect("an actor");
    assert!(actor.starts_with(&format!("admin@{}", other.name)), "{actor}");
    assert!(refused(&one.ringway(&["ring", "weight", "s99", "1"])).contains("no shard `s99`"));
}

#[test]
fn nodes_are_looked_after() {
    let _turn = together();
    let cluster = Cluster::start(&Setup { voters: 3, ..Setup::default() });
    let one = &cluster.members[0];
    let twice = one.ringway(&["cluster", "init"]);
    assert!(refused(&twice).contains("a cluster is founded once"), "{}", twice.stderr);

    let leader = || {
        let cluster = json(&one.ringway(&["cluster", "status", "--json"]));
        cluster["leader"].as_str().map(str::to_owned)
    };
    let present = leader().expect("somebody leads");
    let next = cluster.members.iter().find(|member| member.name != present).expect("others");
    let handed = one.ringway(&["cluster", "transfer-leader", &next.name]);
    assert!(handed.success, "{}", handed.stderr);
    until_within("the other leads", AGREEMENT_MAX, || {
        (leader().as_deref() == Some(&*next.name)).then_some(())
    });
    let words = one.ringway(&["cluster", "status"]);
    assert!(words.stdout.contains(&format!("{} leads", next.name)), "{}", words.stdout);

    json(&one.ringway(&["cluster", "snapshot", "--json"]));
    let backup = one.folder().join("backup").display().to_string();
    let wrote = json(&one.ringway(&["cluster", "backup", "--out", &backup, "--json"]));
    let length = std::fs::metadata(&backup).expect("it is there").len();
    assert_eq!(wrote["bytes"].as_u64(), Some(length));
    let over = one.ringway(&["cluster", "backup", "--out", &backup]);
    assert!(refused(&over).contains("exists"), "{}", over.stderr);

    let gone =
        cluster.members.iter().find(|member| member.name != next.name && member.name != one.name);
    let gone = gone.expect("the third");
    json(&one.ringway(&["cluster", "remove-node", &gone.name, "--json"]));
    let left = json(&one.ringway(&["cluster", "status", "--json"]));
    assert_eq!(left["nodes"].as_array().map(Vec::len), Some(2), "{left:#}");
    let nobody = one.ringway(&["cluster", "remove-node", &gone.name]);
    assert!(refused(&nobody).contains("there is no node"), "{}", nobody.stderr);
    // Two are left: what that means stands in the status.
    until_within("the status says how many may fail", AGREEMENT_MAX, || {
        let said = one.ringway(&["status"]).stdout;
        said.contains("vote, an even number: agreement outlives the loss of 0").then_some(())
    });
}
