//! Does the OpenAPI document describe what is answered? Line by line of the table of routes, and
//! answer by answer.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::schema::Schemas;
use super::world::{Mesh, World, pool_name, shard};
use crate::admin::openapi::DOCUMENT;
use crate::admin::routes::ROUTES;
use crate::cluster::Change;
use crate::ids::ShardId;

fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("the document is JSON")
}

/// `GET /v1/status` and the like, with what the document says of it.
fn operations(document: &Value) -> Vec<(String, Value)> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            operations.push((format!("{} {path}", method.to_uppercase()), operation.clone()));
        }
    }
    operations
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = document();
    let described: BTreeSet<String> = operations(&document).into_iter().map(|(o, _)| o).collect();
    let routed: BTreeSet<String> =
        ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(described, routed);
    for (name, operation) in operations(&document) {
        let is_it = |route: &&crate::admin::routes::Route| {
            name == format!("{} {}", route.method, route.path)
        };
        let route = ROUTES.iter().find(is_it).expect("compared above");
        let parameters = |place: &str| -> BTreeSet<&str> {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let there = parameters.filter(|parameter| parameter["in"] == place);
            there.map(|parameter| parameter["name"].as_str().expect("a name")).collect()
        };
        assert_eq!(parameters("query"), route.parameters.iter().copied().collect(), "{name}");
        assert_eq!(parameters("path").len(), route.path.matches('{').count(), "{name}");
        assert_eq!(operation["security"].is_array(), route.token, "{name}");
        assert_eq!(operation["responses"]["401"].is_object(), route.token, "{name}");
    }
}

/// What was asked so far, and how it was answered.
struct Asked {
    document: Value,
    seen: BTreeSet<String>,
}

impl Asked {
    /// Asks; the answer must be of the form that the document gives for its status.
    async fn ask(&mut self, world: &World, operation: &str, path: &str, body: Value) -> Value {
        let (method, pattern) = operation.split_once(' ').expect("METHOD PATH");
        let described = &self.document["paths"][pattern][method.to_lowercase()];
        if !body.is_null() {
            let asked = &described["requestBody"]["content"]["application/json"]["schema"];
            self.check(asked, &body, &format!("the body of {operation}"));
        }
        let (status, answer) = world.ask(method, path, body).await;
        let mut response = &described["responses"][status.to_string()];
        if let Some(named) = response["$ref"].as_str() {
            response = self.document.pointer(&named[1..]).expect("it is there");
        }
        let content = response["content"].as_object();
        let content = content.unwrap_or_else(|| panic!("{operation}: {status} {answer}"));
        let (kind, form) = content.iter().next().expect("one content type");
        if kind.ends_with("json") && pattern != "/v1/openapi.json" {
            self.check(&form["schema"], &answer, &format!("{operation} {status}"));
        }
        self.seen.insert(format!("{operation} {status}"));
        answer
    }

    fn check(&self, schema: &Value, value: &Value, at: &str) {
        let schemas = Schemas(self.document["components"]["schemas"].as_object().expect("schemas"));
        let wrong = schemas.wrong(schema, value, at);
        assert!(wrong.is_empty(), "{wrong:#?}\n{value:#}");
    }
}

#[tokio::test]
async fn every_answer_is_of_the_form_that_is_described() {
    let mut asked = Asked { document: document(), seen: BTreeSet::new() };
    let mesh = Mesh::default();
    let n1 = World::unborn(1, &mesh).await;
    let n2 = World::unborn(2, &mesh).await;
    asked.ask(&n1, "GET /v1/status", "/v1/status", Value::Null).await;
    asked.ask(&n1, "GET /v1/cluster", "/v1/cluster", Value::Null).await;
    asked.ask(&n1, "GET /v1/cluster/backup", "/v1/cluster/backup", Value::Null).await;
    asked.ask(&n1, "POST /v1/cluster/init", "/v1/cluster/init", Value::Null).await;
    asked.ask(&n1, "POST /v1/cluster/init", "/v1/cluster/init", Value::Null).await;
    let join = json!({ "peers": ["127.0.0.1:9701"], "role": "observer" });
    asked.ask(&n2, "POST /v1/cluster/join", "/v1/cluster/join", join).await;

    let [changes, plan] = ["/v1/ring/changes", "/v1/ring/plan"];
    asked.ask(&n1, "GET /v1/ring/plan", plan, Value::Null).await;
    let add = Change::AddShard {
        pool: pool_name(),
        shard: ShardId::new("s3").expect("a name"),
        spec: shard("s3", "north"),
    };
    let add = json!({ "changes": [add] });
    asked.ask(&n2, "POST /v1/ring/changes", changes, add.clone()).await;
    let shown = asked.ask(&n2, "GET /v1/ring/plan", plan, Value::Null).await;
    asked.ask(&n1, "GET /v1/ring", "/v1/ring?pool=p", Value::Null).await;
    asked.ask(&n1, "GET /v1/ring", "/v1/ring?pool=q", Value::Null).await;
    let apply = json!({ "plan": shown["id"] });
    asked.ask(&n2, "POST /v1/ring/apply", "/v1/ring/apply", apply.clone()).await;
    asked.ask(&n2, "POST /v1/ring/apply", "/v1/ring/apply", apply).await;
    asked.ask(&n1, "POST /v1/ring/changes", changes, add).await;
    let weight = json!({ "set_weight": { "pool": "p", "shard": "s1", "weight": 2 } });
    let now = json!({ "changes": [weight], "now": true });
    asked.ask(&n1, "POST /v1/ring/changes", changes, now).await;
    asked.ask(&n1, "DELETE /v1/ring/changes", changes, Value::Null).await;
    asked.ask(&n1, "GET /v1/ring/history", "/v1/ring/history?last=3", Value::Null).await;
    asked.ask(&n1, "GET /v1/ring/history", "/v1/ring/history?last=x", Value::Null).await;

    for query in ["pool=p&key=a", "target=/a%20b&epoch=1", "target=/a&epoch=99", "key=a"] {
        let path = format!("/v1/locate?{query}");
        asked.ask(&n1, "GET /v1/locate", &path, Value::Null).await;
    }
    *n1.overview.lock().expect("no panic") =
        Some(crate::control::steward::Overview { nodes: vec![n1.report()] });
    let status = asked.ask(&n1, "GET /v1/status", "/v1/status", Value::Null).await;
    assert_eq!(status["cluster"]["nodes"].as_array().map(Vec::len), Some(2), "{status:#}");
    asked.ask(&n1, "GET /v1/cluster", "/v1/cluster", Value::Null).await;
    asked.ask(&n1, "GET /v1/cluster/backup", "/v1/cluster/backup", Value::Null).await;
    asked.ask(&n1, "POST /v1/cluster/snapshot", "/v1/cluster/snapshot", Value::Null).await;
    let transfer = json!({ "to": "n1" });
    asked.ask(&n1, "POST /v1/cluster/transfer", "/v1/cluster/transfer", transfer).await;
    let transfer = json!({ "to": "n9" });
    asked.ask(&n1, "POST /v1/cluster/transfer", "/v1/cluster/transfer", transfer).await;
    let remove = "POST /v1/cluster/nodes/{id}/remove";
    asked.ask(&n1, remove, "/v1/cluster/nodes/n2/remove", Value::Null).await;
    asked.ask(&n1, remove, "/v1/cluster/nodes/n2/remove", Value::Null).await;
    asked.ask(&n1, remove, "/v1/cluster/nodes/n1/remove", Value::Null).await;

    let keeps = World::keeping();
    asked.ask(&keeps, "GET /v1/status", "/v1/status", Value::Null).await;
    let holders =
        asked.ask(&keeps, "GET /v1/locate", "/v1/locate?pool=k&key=/a", Value::Null).await;
    assert_eq!(holders["holders"][1]["holds"], "unknown", "{holders:#}");
    asked.ask(&keeps, "GET /v1/repair/{pool}", "/v1/repair/k", Value::Null).await;
    let dry_run = json!({ "dry_run": true });
    asked.ask(&keeps, "POST /v1/repair/{pool}", "/v1/repair/k", dry_run.clone()).await;
    asked.ask(&keeps, "GET /v1/repair/{pool}", "/v1/repair/p", Value::Null).await;
    asked.ask(&keeps, "POST /v1/repair/{pool}", "/v1/repair/q", dry_run).await;

    asked.ask(&n1, "POST /v1/reload", "/v1/reload", Value::Null).await;
    for verb in ["stop", "start"] {
        let operation = format!("POST /v1/dev/shards/{{id}}/{verb}");
        let path = format!("/v1/dev/shards/s1/{verb}");
        asked.ask(&n1, &operation, &path, Value::Null).await;
    }
    asked.ask(&n1, "GET /v1/openapi.json", "/v1/openapi.json", Value::Null).await;
    let good: BTreeSet<String> = operations(&asked.document)
        .into_iter()
        .map(|(name, _)| format!("{name} 200"))
        .filter(|name| !asked.seen.contains(name))
        .collect();
    assert_eq!(good, BTreeSet::new(), "not asked for, or never done");
    n2.end().await;
    n1.end().await;
}
