//! What is seen of a replicated pool from outside: in the access log, in spans, in metrics, and by a
//! client that cannot be served.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::support::http::{Client, get, put};
use crate::support::process::run_fed;
use crate::support::ringway::{Serve, Store, shards};
use crate::support::say::require;
use crate::support::wait::{PATIENCE, until, until_true, until_within};
use crate::tracing::{collector, told};

/// Three stores, a node before them that logs to a file and sends its spans to `collector`.
fn observed(collector: SocketAddr) -> (Vec<Store>, Serve) {
    let stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let addresses: Vec<SocketAddr> = stores.iter().map(|store| store.address).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log").display().to_string();
    let serve = Serve::start_in(
        folder,
        &format!(
            "access_log: {{ format: json, path: {log} }}\ntracing: {{ otlp: \
             \"http://{collector}/v1/traces\", sample_percent: 0 }}\npools:\n  - name: objects\n    \
             kind: replicated\n    replicas: 3\n    health: {{ active: {{ path: \
             /_ringway/health/write, interval: 1s, timeout: 1s }} }}\n{}routes:\n  - {{ name: all, \
             pool: objects }}\n",
            shards(&addresses)
        ),
    );
    serve.until_all_stores_keep("/first");
    (stores, serve)
}

/// The line of the access log that is about this request.
#[track_caller]
fn line_of(serve: &Serve, id: &str) -> Value {
    let file = serve.folder().join("access.log");
    until("the line is written", || {
        let text = std::fs::read_to_string(&file).expect("the log");
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["request_id"] == id)
    })
}

#[test]
fn level_acknowledgements_and_version_are_in_the_log_and_each_exchange_is_a_span() {
    let collector = collector();
    let (mut stores, serve) = observed(collector.address);
    let ask = |method: &str, level: &str, trace: u8, body: &[u8]| {
        let fields = format!(
            "Ringway-Consistency: {level}\r\ntraceparent: 00-{trace:032x}-00000000000000aa-01\r\n"
        );
        let answer = Client::connect(serve.data).ask(method, "/seen", &fields, body);
        let answer = answer.expect("an answer");
        let id = answer.field("Ringway-Request-Id").expect("an id").to_owned();
        (line_of(&serve, &id), answer)
    };
    let (line, answer) = ask("PUT", "all", 1, b"hello");
    assert_eq!(
        (answer.status, line["level"].as_str(), line["achieved"].as_str()),
        (204, Some("all"), Some("all"))
    );
    assert_eq!((line["acks"].as_u64(), line["replicas"].as_u64()), (Some(3), Some(3)), "{line}");
    assert_eq!(line["version"].as_str(), answer.field("Ringway-Version"));
    let (line, answer) = ask("GET", "quorum", 2, b"");
    assert_eq!(
        (answer.status, line["level"].as_str(), line["achieved"].as_str()),
        (200, Some("quorum"), Some("quorum"))
    );
    assert!(line["acks"].as_u64().is_some_and(|acks| acks >= 2), "{line}");
    assert_eq!(line["version"].as_str(), answer.field("Ringway-Version"));

    // The spans: one for the request, and below it one for each exchange.
    let spans_of = |trace: u8| {
        let trace = format!("{trace:032x}");
        let mut spans = told(&collector);
        spans.retain(|span| span.trace == trace);
        spans
    };
    // Three stages and three commits, all acknowledged before the answer.
    until_true("the spans were sent", || spans_of(1).len() >= 7 && spans_of(2).len() >= 3);
    let spans = spans_of(1);
    let server = spans.iter().find(|span| span.kind == 2).expect("the request's own");
    assert_eq!(
        (server.says("ringway.level"), server.says("ringway.level_achieved")),
        ("all", "all")
    );
    assert_eq!((server.says("ringway.acks"), server.says("ringway.replicas")), ("3", "3"));
    for (round, outcome) in [("stage", "staged"), ("commit", "applied")] {
        let mut asked: Vec<_> = spans
            .iter()
            .filter(|span| span.kind == 3 && span.says("ringway.round") == round)
            .map(|span| {
                assert_eq!((span.says("ringway.outcome"), span.failed), (outcome, false));
                assert_eq!(span.parent.as_ref(), Some(&server.id));
                assert_eq!(span.says("ringway.level"), "all");
                span.says("ringway.shard").to_owned()
            })
            .collect();
        asked.sort();
        assert_eq!(asked, ["s1", "s2", "s3"], "{round}");
    }
    let spans = spans_of(2);
    assert!(spans.iter().any(|span| span.says("ringway.round") == "fetch"), "the body");
    assert!(spans.iter().any(|span| span.says("ringway.round") == "look"), "the versions");

    // Two stores are killed: whoever is refused is told whom to look at.
    for store in &mut stores[..2] {
        store.process.kill_9();
    }
    let (line, answer) = until_within("it is refused by what is known", 3 * PATIENCE, || {
        let (line, answer) = ask("PUT", "quorum", 3, b"lost");
        let known = answer.text().matches("probes in a row failed").count() == 2;
        (answer.status == 503 && known).then_some((line, answer))
    });
    assert_eq!(answer.problem(), "no-quorum");
    let detail: Value = serde_json::from_slice(&answer.body).expect("a problem");
    let detail = detail["detail"].as_str().expect("a sentence").to_owned();
    assert!(
        detail.contains("Away: s1 (down for ") && detail.contains(", s2 (down for "),
        "{detail}"
    );
    assert!(!detail.contains("s3"), "{detail}");
    assert_eq!((line["level"].as_str(), line["achieved"].as_str()), (Some("quorum"), Some("none")));
    assert_eq!((line["acks"].as_u64(), line["version"].as_str()), (Some(0), Some("")), "{line}");
    let list = get(serve.data, "/_ringway/list?pool=objects");
    assert!(list.status == 503 && list.text().contains("Away: s1 (down for "), "{}", list.text());
    stores[2].process.kill_9();
    let (_, answer) = until("no replica can be read", || {
        let (line, answer) = ask("GET", "one", 4, b"");
        (answer.status == 503).then_some((line, answer))
    });
    assert_eq!(answer.problem(), "no-replica");
    assert!(answer.text().contains("s3 ("), "{}", answer.text());
}

/// What the issue of replicated pools names, each by what it is.
const PENDING: &str = "ringway_hints_pending{pool=\"objects\",shard=\"s3\"}";
const OLDEST_HINT: &str = "ringway_hints_oldest_age_seconds{pool=\"objects\",shard=\"s3\"}";
const OLDEST_UNREPAIRED: &str = "ringway_repair_oldest_unrepaired_seconds{pool=\"objects\"}";
const REPAIRED: &str = "ringway_repairs_total{pool=\"objects\",shard=\"s3\",kind=\"hint\"}";
const LAST_PASS: &str = "ringway_repair_last_pass_timestamp_seconds{pool=\"objects\"}";
const SERIES: [&str; 12] = [
    "ringway_kept_asked_total{pool=\"objects\",class=\"write\",level=\"quorum\"}",
    "ringway_kept_achieved_total{pool=\"objects\",class=\"write\",level=\"quorum\"}",
    "ringway_kept_acks_total{pool=\"objects\",shard=\"s1\"}",
    "ringway_kept_unknown_total{pool=\"objects\"}",
    "ringway_kept_hints_total{pool=\"objects\"}",
    "ringway_kept_divergent_reads_total{pool=\"objects\"}",
    "ringway_kept_copied_total{pool=\"objects\"}",
    REPAIRED,
    "ringway_repair_keys_differing_total{pool=\"objects\"}",
    OLDEST_UNREPAIRED,
    LAST_PASS,
    "ringway_repair_last_pass_duration_seconds{pool=\"objects\"}",
];

#[test]
fn all_that_is_to_be_watched_of_copies_is_counted() {
    let collector = collector();
    let (mut stores, serve) = observed(collector.address);
    stores[2].process.kill_9();
    until_true("a hint is left", || {
        assert_eq!(put(serve.data, "/missed", b"1").status, 204);
        serve.metrics().value(PENDING).is_some_and(|pending| pending > 0.0)
    });
    // A second later it is a second old.
    // (The two series about hints are there as long as there are any.)
    until_true("its age is told", || {
        serve.metric(OLDEST_HINT) >= 1.0 && serve.metric(OLDEST_UNREPAIRED) >= 1.0
    });
    if let Some(promtool) = require("promtool") {
        let file = serve.folder().join("metrics");
        std::fs::write(&file, serve.metrics().0).expect("written");
        let file = std::fs::File::open(file).expect("the file");
        let said = run_fed("promtool", Command::new(&promtool).args(["check", "metrics"]), file);
        assert!(
            said.success && said.stderr.is_empty() && said.stdout.is_empty(),
            "{}{}",
            said.stdout,
            said.stderr
        );
    }
    stores[2].start_again();
    until_within("all is brought, and all replicas were compared", 3 * PATIENCE, || {
        let metrics = serve.metrics();
        (metrics.value(PENDING).unwrap_or(0.0) == 0.0
            && metrics.value(OLDEST_UNREPAIRED) == Some(0.0)
            && metrics.value(REPAIRED).is_some_and(|repaired| repaired > 0.0)
            && metrics.value(LAST_PASS).is_some_and(|at| at > 0.0))
        .then_some(())
    });
    let metrics = serve.metrics();
    for series in SERIES {
        assert!(metrics.value(series).is_some(), "no series {series}:\n{}", metrics.0);
    }
    let (asked, achieved) = (serve.metric(SERIES[0]), serve.metric(SERIES[1]));
    assert!(asked >= achieved && achieved >= 1.0, "{asked} {achieved}");
    assert!(serve.metric(SERIES[2]) >= 1.0);
}
