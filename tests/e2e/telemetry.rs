//! What a node says about itself, to Prometheus, to a log reader, and to its operator: is it well
//! formed, and is it true?

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::http::{Answer, Client, get, put};
use crate::support::net::lasting_address;
use crate::support::process::{Process, run_fed};
use crate::support::ringway::{Located, Serve, Store, locate, ringway_says, shards};
use crate::support::say::require;
use crate::support::wait::until_true;

fn over(stores: &[Store]) -> String {
    let addresses: Vec<SocketAddr> = stores.iter().map(|store| store.address).collect();
    format!(
        "pools:\n  - name: p\n    health: {{ active: {{ path: /_ringway/health, interval: 200ms, \
         timeout: 5s }} }}\n{}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&addresses)
    )
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let Some(promtool) = require("promtool") else { return };
    let stores: Vec<Store> = (0..2).map(|_| Store::start()).collect();
    let serve = Serve::start(&over(&stores));
    for n in 0..20 {
        assert_eq!(put(serve.data, &format!("/{n}"), b"x").status, 201);
        assert_eq!(get(serve.data, &format!("/{n}")).status, 200);
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (name, address) in [("serve", serve.telemetry), ("store", stores[0].telemetry)] {
        let answer = get(address, "/metrics");
        assert_eq!(answer.field("Content-Type"), Some("text/plain; version=0.0.4"), "{name}");
        let file = folder.path().join(name);
        std::fs::write(&file, &answer.body).expect("written");
        let file = File::open(&file).expect("opened");
        let said = run_fed("promtool", Command::new(&promtool).args(["check", "metrics"]), file);
        let told = format!("{}{}", said.stdout, said.stderr);
        assert!(said.success && told.is_empty(), "{name}: {told}");
        assert!(!answer.text().contains("/17"), "no key in a label");
    }
}

#[test]
fn a_prometheus_scrapes_serve_and_store() {
    let Some(program) = require("prometheus") else { return };
    let stores = [Store::start()];
    let serve = Serve::start(&over(&stores));
    for n in 0..7 {
        assert_eq!(put(serve.data, &format!("/{n}"), b"x").status, 201);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prometheus.yml");
    let targets = format!(
        "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\nscrape_configs:\n  - job_name: \
         ringway\n    static_configs:\n      - {{ targets: [\"{}\"], labels: {{ part: serve }} }}\n      \
         - {{ targets: [\"{}\"], labels: {{ part: store }} }}\n",
        serve.telemetry, stores[0].telemetry
    );
    std::fs::write(&file, targets).expect("written");
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg("--web.listen-address=127.0.0.1:0");
    let prometheus = Process::start("prometheus", &mut command);
    let address: SocketAddr = prometheus.stderr_line("prometheus listens", 0, |line| {
        let (_, address) = line.split_once("msg=\"Listening on\" address=")?;
        address.split_whitespace().next()?.parse().ok()
    });
    let ask = |query: &str| -> BTreeMap<String, String> {
        let answer = get(address, &format!("/api/v1/query?query={query}"));
        let document: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let results = document["data"]["result"].as_array().cloned().unwrap_or_default();
        let pair = |result: &serde_json::Value| {
            let part = result["metric"]["part"].as_str()?.to_owned();
            Some((part, result["value"][1].as_str()?.to_owned()))
        };
        results.iter().filter_map(pair).collect()
    };
    let both = |value: &str| {
        ["serve", "store"].map(|part| (part.to_owned(), value.to_owned())).into_iter().collect()
    };
    until_true("both are up", || ask("up") == both("1"));
    until_true("the requests are seen", || {
        ask("ringway_downstream_rq_total%7Bcode_class%3D%222xx%22%7D").get("serve")
            == Some(&"7".to_owned())
    });
    assert_eq!(ask("ringway_ring_epoch").get("serve"), Some(&"1".to_owned()));
    assert!(ask("process_resident_memory_bytes").len() == 2, "both say what they use");
}

/// Several pools, each with a trouble of its own, and a log.
fn troubled(backend: &Backend, dead: SocketAddr, log: &std::path::Path) -> String {
    let pool = |name: &str, address: SocketAddr, more: &str| {
        format!(
            "  - name: {name}\n    health: {{ active: off, passive: off }}\n    timeouts: {{ \
             response_head: 2s }}\n    shards:\n      - {{ id: {name}-1, url: \
             \"http://{address}\"{more} }}\n"
        )
    };
    let route = |name: &str| {
        format!("  - {{ name: {name}, match: {{ path_prefix: /{name} }}, pool: {name} }}\n")
    };
    format!(
        "access_log: {{ format: json, path: {} }}\nclient: {{ limits: {{ body: 1MiB }} }}\npools:\n{}{}{}\
         routes:\n{}{}{}",
        log.display(),
        pool("works", backend.address, ""),
        pool("dead", dead, ""),
        pool("asleep", backend.address, ", state: maint"),
        route("works"),
        route("dead"),
        route("asleep"),
    )
}

#[test]
fn the_access_log_has_one_true_line_for_each_request() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let path = request.asked().split(' ').next_back().unwrap_or("").to_owned();
            match path.as_str() {
                "/works/silent" => return connection.until_closed(),
                "/works/breaks" => return connection.close(),
                "/works/garbage" => {
                    connection.say("SMTP/1.0 220 hello\r\n\r\n");
                    return connection.close();
                }
                "/works/cut" => {
                    connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                    return connection.close();
                }
                _ => connection.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
            };
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let mut serve = Serve::start(&troubled(&backend, lasting_address(), &log));

    // What is asked, and what its line must say: status, flags, shard.
    type Asked = (&'static str, &'static str, &'static [u8], u16, &'static str, &'static str);
    let asked: &[Asked] = &[
        ("GET", "/works/a?x=\"1\"", b"", 200, "-", "works-1"),
        ("PUT", "/works/b", b"12345678", 200, "-", "works-1"),
        ("GET", "/elsewhere", b"", 404, "NR", ""),
        ("TRACE", "/works/a", b"", 405, "NR", ""),
        ("GET", "/dead/a", b"", 503, "UF", "dead-1"),
        ("PUT", "/dead/a", b"x", 503, "UF", "dead-1"),
        ("GET", "/asleep/a", b"", 503, "UH", ""),
        ("PUT", "/asleep/a", b"x", 503, "UH", ""),
        ("GET", "/works/silent", b"", 504, "UT", "works-1"),
        ("GET", "/works/breaks", b"", 502, "UC", "works-1"),
        ("GET", "/works/garbage", b"", 502, "UPE", "works-1"),
        ("GET", "/works/../b", b"", 400, "DPE", ""),
    ];
    let mut wanted: BTreeMap<String, (String, u16, String, String)> = BTreeMap::new();
    let mut want = |answer: &Answer, target: &str, flags: &str, shard: &str| {
        let id = answer.field("Ringway-Request-Id").expect("an id").to_owned();
        let line = (target.to_owned(), answer.status, flags.to_owned(), shard.to_owned());
        assert!(wanted.insert(id, line).is_none(), "ids differ");
    };
    for &(method, target, body, status, flags, shard) in asked {
        let answer = Client::connect(serve.data).ask(method, target, "", body);
        let answer = answer.unwrap_or_else(|error| panic!("{method} {target}: {error:?}"));
        assert_eq!(answer.status, status, "{method} {target}");
        want(&answer, target, flags, shard);
    }
    let mut client = Client::connect(serve.data);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").expect("sent");
    want(&client.hear(false).expect("an answer"), "-", "DPE", "");
    // Without an answer, so without an id that the client could tell: an answer cut in its middle,
    // and a client that goes away in the middle of its body.
    assert!(Client::connect(serve.data).ask("GET", "/works/cut", "", b"").is_err());
    let mut client = Client::connect(serve.data);
    let head =
        format!("PUT /works/gone HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\n", serve.data);
    client.send(head + "half").expect("sent");
    drop(client);

    let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    until_true("all lines are written", || lines() >= wanted.len() + 2);
    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    let text = std::fs::read_to_string(&log).expect("the log");
    let mut without_answer = BTreeSet::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        let text = |name: &str| line[name].as_str().expect("a text").to_owned();
        let time = text("time");
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        assert_eq!(text("client"), "127.0.0.1");
        let status = u16::try_from(line["status"].as_u64().expect("a number")).expect("a status");
        match wanted.remove(&text("request_id")) {
            Some(wanted) => {
                assert_eq!((text("target"), status, text("flags"), text("shard")), wanted);
            }
            None => {
                assert!(without_answer.insert((text("target"), text("flags"))), "twice: {line}");
            }
        }
        if text("target") == "/works/b" {
            assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&8.into(), &5.into()));
            assert_eq!((&line["attempts"], &line["upstream_status"]), (&1.into(), &200.into()));
            assert_eq!(
                (text("method"), text("route"), text("pool")),
                ("PUT".into(), "works".into(), "works".into())
            );
            assert!(line["duration_ms"].as_f64().expect("a number") < 60_000.0);
        }
    }
    assert!(wanted.is_empty(), "without a line: {wanted:?}");
    let others = [("/works/cut", "UC"), ("/works/gone", "DC")];
    let others = others.map(|(target, flags)| (target.to_owned(), flags.to_owned()));
    assert_eq!(without_answer, BTreeSet::from(others));
}

/// A read that was answered 503 by one shard and not at all by the next had a line that named the
/// second shard and the status of the first.
#[test]
fn the_status_in_the_access_log_is_that_of_the_shard_beside_it() {
    let overloaded = Backend::start(|connection| {
        while connection.request().is_some() {
            connection.say("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let dead = lasting_address();
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let mut serve = Serve::start(&format!(
        "access_log: {{ format: json, path: {} }}\npools:\n  - name: p\n    health: {{ active: \
         off, passive: off }}\n    retry: {{ on_gateway_error: true }}\n{}routes: [{{ name: all, \
         pool: p }}]\n",
        log.display(),
        shards(&[overloaded.address, dead])
    ));
    let mut client = Client::connect(serve.data);
    let statuses = (0..40).map(|n| client.ask("GET", &format!("/{n}"), "", b"").expect("told"));
    let statuses: BTreeSet<u16> = statuses.map(|answer| answer.status).collect();
    assert_eq!(statuses, BTreeSet::from([503]), "by the shard that has an answer, or by the node");
    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    let text = std::fs::read_to_string(&log).expect("the log");
    let line = |line: &str| -> (String, u64, u64) {
        let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        let number = |name: &str| line[name].as_u64().expect("a number");
        (
            line["shard"].as_str().expect("a name").to_owned(),
            number("attempts"),
            number("upstream_status"),
        )
    };
    let lines: BTreeSet<_> = text.lines().map(line).collect();
    let expected = [("s1", 2, 503), ("s2", 2, 0)].map(|(s, n, status)| (s.to_owned(), n, status));
    assert_eq!(lines, BTreeSet::from(expected));
}

#[test]
fn status_and_locate_agree_with_where_requests_go() {
    let mut stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let serve = Serve::start(&over(&stores));
    let paths: Vec<String> = (0..60).map(|n| format!("/where/{n}")).collect();
    let located = locate(&serve.file(), &paths);
    let mut client = Client::connect(serve.data);
    for (path, located) in paths.iter().zip(&located) {
        let answer = client.ask("PUT", path, "", b"x").expect("an answer");
        assert_eq!((answer.status, answer.shard()), (201, located.owner.as_str()), "{path}");
        let asked = get(serve.admin, &format!("/v1/locate?pool=p&key={path}"));
        let document: serde_json::Value = serde_json::from_slice(&asked.body).expect("JSON");
        let explanation = document["explanation"].as_str().expect("a text");
        assert_eq!(&Located::read(explanation), located);
    }

    stores[1].process.kill_9();
    serve.until_shard_is("p", "s2", false);
    for (path, located) in paths.iter().zip(&located) {
        let expected = if located.owner == "s2" { &located.next[0] } else { &located.owner };
        let answer = client.ask("GET", path, "", b"").expect("an answer");
        assert_eq!(answer.shard(), expected, "reads of a dead owner go to the next on the ring");
    }
    let data_dir = serve.data_dir().display().to_string();
    let said = ringway_says(&["status", "--data-dir", &data_dir]);
    assert!(said.success, "{}", said.stderr);
    let row = |shard: &str| {
        let mut lines = said.stdout.lines().map(str::trim);
        lines.find(|line| line.starts_with(shard)).expect("a row for each shard").to_owned()
    };
    assert!(row("s1").contains(" up ") && !row("s1").contains("down"), "{}", said.stdout);
    assert!(row("s2").contains("down"), "{}", said.stdout);
    assert!(said.stdout.contains("s2: reads and writes are down: "), "{}", said.stdout);
    assert!(row("s2").contains(&stores[1].address.to_string()));
    let json = ringway_says(&["status", "--json", "--admin", &serve.admin.to_string()]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["pools"], serve.status()["pools"]);
    let healthy = |shard: &str| {
        serve.metric(&format!(
            "ringway_shard_healthy{{pool=\"p\",shard=\"{shard}\",class=\"read\"}}"
        ))
    };
    assert_eq!((healthy("s1"), healthy("s2")), (1.0, 0.0));
    assert_eq!(serve.metric("ringway_membership_healthy{pool=\"p\"}"), 2.0);

    serve.process.signal(Signal::TERM);
    until_true("it ends", || Client::try_connect(serve.admin).is_err());
    let gone = ringway_says(&["status", "--data-dir", &data_dir]);
    assert!(!gone.success && gone.stderr.contains("is it running?"), "{}", gone.stderr);
}

#[test]
fn changes_need_the_token_and_reading_does_not() {
    let stores = [Store::start()];
    let serve = Serve::start(&over(&stores));
    let token_file = serve.data_dir().join("admin.token");
    let mode = std::fs::metadata(&token_file).expect("the token").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the node's user alone reads it");
    let token = std::fs::read_to_string(&token_file).expect("the token");
    let token = token.trim();

    let post = |path: &str, fields: &str| {
        Client::connect(serve.admin).ask("POST", path, fields, b"").expect("an answer")
    };
    let revision = serve.status()["revision"].clone();
    let wrong = "0".repeat(token.len());
    for fields in [
        String::new(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: Bearer {wrong}\r\n"),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: Bearer {}\r\n", &token[1..]),
        format!("Authorization: {token}\r\n"),
    ] {
        for path in ["/v1/reload", "/v1/dev/shards/s1/stop", "/v1/dev/shards/s1/start"] {
            let answer = post(path, &fields);
            assert_eq!(answer.status, 401, "{path} {fields}");
            assert_eq!(answer.field("WWW-Authenticate"), Some("Bearer"));
        }
    }
    assert_eq!(serve.status()["revision"], revision, "nothing was changed");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(post("/v1/reload", &bearer).status, 200);
    assert_eq!(post("/v1/dev/shards/s1/stop", &bearer).status, 409, "only dev has stores");
    assert_eq!(get(serve.admin, "/v1/nothing").status, 404);
    // Data port and telemetry know nothing of it.
    for address in [serve.data, serve.telemetry] {
        let answer = Client::connect(address).ask("POST", "/v1/reload", &bearer, b"");
        assert!(answer.expect("an answer").status >= 400);
    }
    assert!(!get(serve.telemetry, "/metrics").text().contains(token));
}
