//! What operators are told, and what they may do.

use serde_json::{Value, json};

use super::world::{Mesh, World, pool_name, shard};
use crate::cluster::Change;
use crate::control::steward::Overview;
use crate::ids::{ShardId, Weight};

fn id(text: &str) -> ShardId {
    ShardId::new(text).expect("a name")
}

fn add(name: &str) -> Change {
    Change::AddShard { pool: pool_name(), shard: id(name), spec: shard(name, "north") }
}

fn weight(name: &str, units: u64) -> Change {
    let weight = Weight::try_from(units).expect("a weight");
    Change::SetWeight { pool: pool_name(), shard: id(name), weight }
}

fn detail(answer: &Value) -> &str {
    answer["detail"].as_str().unwrap_or_else(|| panic!("no problem: {answer:#}"))
}

#[tokio::test]
async fn a_node_that_stands_alone_tells_everything_and_names_the_cure_for_changes() {
    let world = World::standalone();
    for path in ["/v1/status", "/v1/ring", "/v1/ring/history", "/v1/locate?pool=p&key=a"] {
        let (status, answer) = world.ask("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer:#}");
    }
    let (_, status) = world.ask("GET", "/v1/status", Value::Null).await;
    assert_eq!((&status["mode"], &status["cluster"]), (&json!("standalone"), &Value::Null));
    assert_eq!(status["warnings"], json!([]));

    let cure = "this node is standalone: change its file and `ringway reload`, or give it a \
                `cluster:` section";
    let (status, refused) = world.change(&[weight("s1", 2)], true).await;
    assert_eq!((status, detail(&refused)), (409, cure));
    for (method, path) in [
        ("DELETE", "/v1/ring/changes"),
        ("GET", "/v1/cluster"),
        ("POST", "/v1/cluster/init"),
        ("GET", "/v1/cluster/backup"),
    ] {
        let (status, refused) = world.ask(method, path, Value::Null).await;
        assert_eq!((status, detail(&refused)), (409, cure), "{path}");
    }
    world.end().await;
}

#[tokio::test]
async fn whoever_has_no_token_changes_nothing_and_is_told_where_it_lies() {
    let world = World::founded().await;
    let before = world.api.state().revision();
    let body = json!({ "changes": [weight("s1", 2)], "now": true });
    for token in [None, Some(""), Some("0123456789abcdef0123456789abcdee")] {
        let path = "/v1/ring/changes";
        let (status, answer) = world.ask_as("POST", path, body.clone(), token).await;
        assert_eq!(status, 401);
        assert!(String::from_utf8_lossy(&answer).contains("admin.token"), "{answer:?}");
        let (status, _) = world.ask_as("GET", "/v1/cluster/backup", Value::Null, token).await;
        assert_eq!(status, 401);
        let (status, _) = world.ask_as("GET", "/v1/status", Value::Null, token).await;
        assert_eq!(status, 200);
    }
    assert_eq!(world.api.state().revision(), before);
    world.end().await;
}

#[tokio::test]
async fn what_is_not_understood_is_said_to_be_so() {
    let world = World::founded().await;
    for (method, path, body, status, part) in [
        ("GET", "/v2/status", Value::Null, 404, "GET /v1/status"),
        ("PUT", "/v1/ring/changes", Value::Null, 405, "POST, DELETE"),
        ("GET", "/v1/status?pol=p", Value::Null, 400, "`pol` is not known here"),
        ("GET", "/v1/locate?key=a", Value::Null, 400, "?pool=NAME&key=KEY"),
        ("GET", "/v1/locate?target=a", Value::Null, 400, "must begin with `/`"),
        ("GET", "/v1/locate?pool=q&key=a", Value::Null, 404, "no pool `q`"),
        ("GET", "/v1/locate?pool=p&key=a&epoch=2", Value::Null, 404, "epoch 2 is not known"),
        ("POST", "/v1/ring/changes", json!({ "change": [] }), 400, "unknown field `change`"),
        ("POST", "/v1/ring/changes", json!({ "changes": [] }), 409, "no change is asked for"),
        ("POST", "/v1/ring/apply", json!({ "plan": "x" }), 400, "the body is not understood"),
        ("GET", "/v1/ring/plan", Value::Null, 409, "nothing is staged"),
    ] {
        let (got, answer) = world.ask(method, path, body).await;
        assert_eq!(got, status, "{method} {path}: {answer:#}");
        assert!(detail(&answer).contains(part), "{method} {path}: {answer:#}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_change_is_staged_planned_and_applied_as_it_was_shown() {
    let world = World::founded().await;
    let (status, staged) = world.change(&[add("s3")], false).await;
    assert_eq!((status, &staged["pools"], &staged["plan"]), (200, &json!([]), &Value::Null));
    let (_, shown) = world.ask("GET", "/v1/ring/plan", Value::Null).await;
    assert_eq!(
        (&shown["pools"][0]["epoch_after"], &shown["pools"][0]["zones"][2]["zone"]),
        (&json!(2), &json!("west"))
    );
    let (_, ring) = world.ask("GET", "/v1/ring", Value::Null).await;
    assert_eq!(ring["staged"], json!([add("s3")]), "nothing has moved");
    assert_eq!(ring["pools"][0]["epoch"], 1);

    // Somebody stages more: what would be applied is no longer what was shown.
    world.change(&[weight("s1", 2)], false).await;
    let apply = |plan: &Value| json!({ "plan": plan["id"] });
    let (status, refused) = world.ask("POST", "/v1/ring/apply", apply(&shown)).await;
    assert_eq!(status, 409);
    assert!(detail(&refused).starts_with("the plan has changed since it was shown"), "{refused}");
    let (_, shown) = world.ask("GET", "/v1/ring/plan", Value::Null).await;
    let (status, applied) = world.ask("POST", "/v1/ring/apply", apply(&shown)).await;
    let epochs = json!([{ "pool": "p", "before": 1, "after": 2 }]);
    assert_eq!((status, &applied["pools"]), (200, &epochs), "{applied:#}");
    // The answer comes when this node serves it.
    let (_, status) = world.ask("GET", "/v1/status", Value::Null).await;
    assert_eq!((&status["pools"][0]["epoch"], &status["staged"]), (&json!(2), &json!(0)));
    assert!(status["revision"].as_u64() >= applied["revision"].as_u64());
    world.end().await;
}

#[tokio::test]
async fn what_is_done_at_once_leaves_what_is_staged_and_shows_its_plan() {
    let world = World::founded().await;
    world.change(&[add("s3")], false).await;
    let (status, done) = world.change(&[weight("s1", 2)], true).await;
    assert_eq!((status, &done["plan"]["changes"]), (200, &json!([weight("s1", 2)])), "{done:#}");
    let (_, ring) = world.ask("GET", "/v1/ring", Value::Null).await;
    assert_eq!((&ring["staged"], &ring["pools"][0]["epoch"]), (&json!([add("s3")]), &json!(2)));
    let (status, refused) = world.change(&[weight("s9", 2)], true).await;
    assert_eq!((status, detail(&refused)), (409, "pool `p` has no shard `s9`"));
    let (status, _) = world.ask("DELETE", "/v1/ring/changes", Value::Null).await;
    let (_, ring) = world.ask("GET", "/v1/ring", Value::Null).await;
    assert_eq!((status, &ring["staged"]), (200, &json!([])));
    world.end().await;
}

#[tokio::test]
async fn the_history_names_who_when_what_and_the_epochs() {
    let world = World::founded().await;
    world.change(&[add("s3")], true).await;
    let (_, history) = world.ask("GET", "/v1/ring/history?last=1", Value::Null).await;
    let [record] = history["records"].as_array().expect("records").as_slice() else {
        panic!("the last one alone: {history:#}")
    };
    assert_eq!(record["actor"], "admin@n1 (ada)");
    assert_eq!(record["at"], "2026-11-21T05:32:00.125Z");
    assert_eq!(record["what"], "add p/s3 (weight 1, zone north, http://s3.example:8080)");
    assert_eq!(record["epochs"], json!([{ "pool": "p", "before": 1, "after": 2 }]));
    let (_, history) = world.ask("GET", "/v1/ring/history", Value::Null).await;
    let first = &history["records"][0];
    let what = first["what"].as_str().expect("a sentence");
    assert!(what.starts_with("found cluster"), "{what}");
    assert_eq!(first["actor"], "admin@n1 (ada)");
    world.end().await;
}

#[tokio::test]
async fn a_key_is_found_where_it_was_before_a_change() {
    let world = World::founded().await;
    let before: Vec<Value> = owners(&world, "").await;
    world.change(&[add("s3")], true).await;
    let after = owners(&world, "").await;
    assert_ne!(before, after, "some of fifty keys move to a third shard");
    assert_eq!(owners(&world, "&epoch=1").await, before);
    assert_eq!(owners(&world, "&epoch=2").await, after);
    // By the routes, a path is the key; its spelling makes no difference.
    let (_, routed) = world.ask("GET", "/v1/locate?target=/%2541%3Fq", Value::Null).await;
    let (_, given) = world.ask("GET", "/v1/locate?pool=p&key=/A", Value::Null).await;
    assert_eq!((&routed["route"], &routed["key"]), (&json!("all"), &json!("/A")));
    assert_eq!(routed["replicas"], given["replicas"]);
    assert_eq!((&given["route"], &given["in_force"]), (&Value::Null, &json!(true)));
    world.end().await;
}

async fn owners(world: &World, more: &str) -> Vec<Value> {
    let mut owners = Vec::new();
    for number in 0..50 {
        let path = format!("/v1/locate?pool=p&key=/k{number}{more}");
        let (status, mut located) = world.ask("GET", &path, Value::Null).await;
        assert_eq!(status, 200, "{located:#}");
        owners.push(located["replicas"].take());
    }
    owners
}

#[tokio::test]
async fn any_node_takes_a_change_and_all_have_it() {
    let mesh = Mesh::default();
    let (n1, n2) = (World::founded_in(&mesh).await, World::unborn(2, &mesh).await);
    let (_, status) = n2.ask("GET", "/v1/status", Value::Null).await;
    let warning = status["warnings"][0].as_str().expect("a sentence");
    assert!(warning.contains("`ringway cluster join ADDRESS`"), "{warning}");
    let join = json!({ "peers": ["127.0.0.1:9701"], "role": "observer" });
    let (status, joined) = n2.ask("POST", "/v1/cluster/join", join.clone()).await;
    assert_eq!((status, &joined["done"]), (200, &json!("this node has joined as node 2")));
    let (status, _) = n2.ask("POST", "/v1/cluster/join", join).await;
    assert_eq!(status, 409, "once");

    let (status, changed) = n2.change(&[add("s3")], true).await;
    assert_eq!(status, 200, "{changed:#}");
    assert_eq!(n2.api.state().pools()[&pool_name()].shards.len(), 3);
    assert_eq!(n2.api.state().pools(), n1.api.state().pools());
    let (_, cluster) = n2.ask("GET", "/v1/cluster", Value::Null).await;
    assert_eq!((&cluster["leader"], &cluster["role"]), (&json!("n1"), &json!("learner")));
    assert_eq!(cluster["nodes"][1]["role"], "observer");
    n2.end().await;
    n1.end().await;
}

#[tokio::test]
async fn what_only_the_leader_knows_is_told_beside_what_is_agreed() {
    let world = World::founded().await;
    let tell = |change: &dyn Fn(&mut crate::control::steward::NodeReport)| {
        let mut report = world.report();
        change(&mut report);
        *world.overview.lock().expect("no panic") = Some(Overview { nodes: vec![report] });
    };
    tell(&|_| {});
    let (_, status) = world.ask("GET", "/v1/status", Value::Null).await;
    let node = &status["cluster"]["nodes"][0];
    assert_eq!((&node["routes_differ"], &node["behind"]), (&json!(false), &json!([])));
    assert_eq!(status["warnings"], json!([]), "all is well");

    tell(&|report| {
        report.routes_digest = "00".repeat(32);
        report.epochs[0].1 = crate::ids::Epoch(0);
        report.last_seen_ms_ago = Some(7_300);
    });
    let (_, status) = world.ask("GET", "/v1/status", Value::Null).await;
    let node = &status["cluster"]["nodes"][0];
    assert_eq!((&node["routes_differ"], &node["behind"]), (&json!(true), &json!(["p@0"])));
    // What the leader knows of this node itself is no news to it.
    assert_eq!(status["warnings"], json!(["node n1 has been silent for 7 s"]));

    tell(&|report| report.epochs[0].2 = "00".repeat(32));
    let (_, status) = world.ask("GET", "/v1/status", Value::Null).await;
    assert_eq!(status["cluster"]["nodes"][0]["mismatches"], json!(["p@1"]));

    *world.overview.lock().expect("no panic") = None;
    world.drift.lock().expect("no panic").push("pool `p`: `vnodes` is 16".to_owned());
    let mut lease = world.lease.lock().expect("no panic").clone();
    (lease.remaining_ms, lease.lost_ms_ago) = (0, Some(12_000));
    *world.lease.lock().expect("no panic") = lease;
    let (_, status) = world.ask("GET", "/v1/status", Value::Null).await;
    assert_eq!(status["cluster"]["observed"], json!(false));
    assert_eq!(status["cluster"]["nodes"][0]["last_seen_ms_ago"], Value::Null);
    assert_eq!(status["warnings"].as_array().map(Vec::len), Some(3), "{status:#}");
    world.end().await;
}
