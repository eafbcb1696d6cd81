//! Does a trace go on through the node, and does a collector learn of it what happened?

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::backend::{Backend, Received};
use crate::support::http::{Client, get};
use crate::support::net::lasting_address;
use crate::support::ringway::{Serve, locate, ringway_says, shards};
use crate::support::wait::{until, until_true};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// The file of a node whose spans go to `collector`.
fn traced(collector: &Backend, percent: u8, rest: &str) -> String {
    let otlp = format!("http://{}/v1/traces", collector.address);
    format!("tracing: {{ otlp: \"{otlp}\", sample_percent: {percent} }}\n{rest}")
}

fn over(backends: &[&Backend]) -> String {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    format!(
        "pools:\n  - name: p\n    health: {{ active: off, passive: off }}\n{}routes: [{{ name: all, \
         pool: p }}]\n",
        shards(&addresses)
    )
}

/// A collector that takes everything, and answers as the protocol has it.
pub fn collector() -> Backend {
    collector_that_says("200 OK", "{\"partialSuccess\":{}}")
}

fn collector_that_says(status: &'static str, body: &'static str) -> Backend {
    Backend::start(move |connection| {
        while connection.request().is_some() {
            let length = body.len();
            connection.say(format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: \
                 {length}\r\n\r\n{body}"
            ));
        }
    })
}

/// One span, as a collector got it.
#[derive(Debug, Clone)]
pub struct Told {
    pub trace: String,
    pub id: String,
    pub parent: Option<String>,
    pub kind: u64,
    times: (u64, u64),
    pub failed: bool,
    about: BTreeMap<String, String>,
}

impl Told {
    fn read(span: &Value) -> Self {
        let text = |name: &str| span[name].as_str().map(str::to_owned);
        let nanos = |name: &str| text(name).expect("a text").parse().expect("a 64-bit number");
        let attribute = |one: &Value| {
            let (_, value) = one["value"].as_object()?.iter().next()?;
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some((one["key"].as_str()?.to_owned(), value))
        };
        let about = span["attributes"].as_array().expect("attributes").iter();
        Self {
            trace: text("traceId").expect("a trace"),
            id: text("spanId").expect("an id"),
            parent: text("parentSpanId"),
            kind: span["kind"].as_u64().expect("a kind"),
            times: (nanos("startTimeUnixNano"), nanos("endTimeUnixNano")),
            failed: span["status"]["code"] == 2,
            about: about.map(|one| attribute(one).expect("a key and a value")).collect(),
        }
    }

    #[track_caller]
    pub fn says(&self, name: &str) -> &str {
        self.about.get(name).map_or("", String::as_str)
    }
}

/// All spans that came so far.
pub fn told(collector: &Backend) -> Vec<Told> {
    let spans = collector.requests().into_iter().flat_map(|request| {
        assert_eq!(request.asked(), "POST /v1/traces");
        assert_eq!(request.field("Content-Type"), Some("application/json"));
        let whole: Value = serde_json::from_slice(&request.body).expect("JSON");
        let resource = &whole["resourceSpans"][0];
        let who = resource["resource"]["attributes"][0].clone();
        let ringway = serde_json::json!({ "stringValue": "ringway" });
        assert_eq!((&who["key"], &who["value"]), (&"service.name".into(), &ringway));
        resource["scopeSpans"][0]["spans"].as_array().expect("spans").clone()
    });
    spans.map(|span| Told::read(&span)).collect()
}

/// The trace, the parent and the flags of a request that a shard got.
fn context(request: &Received) -> (String, String, String) {
    let field = request.field("traceparent").unwrap_or_else(|| panic!("no trace: {request:?}"));
    let parts: Vec<_> = field.split('-').map(str::to_owned).collect();
    let [version, trace, parent, flags] = <[String; 4]>::try_from(parts).expect("four parts");
    assert_eq!((version.as_str(), trace.len(), parent.len()), ("00", 32, 16), "{field}");
    (trace, parent, flags)
}

/// The tree of a read whose first shard broke off: the client's span, this node's below it, and
/// below that one for each shard, which is the one that the shard itself was told.
#[test]
fn a_repeated_request_is_a_tree_of_spans() {
    let breaks = Backend::start(|connection| {
        connection.request();
        connection.close();
    });
    let works = Backend::answering("works");
    let collector = collector();
    // Nothing by chance: what the client says is heeded.
    let mut serve = Serve::start(&traced(&collector, 0, &over(&[&breaks, &works])));
    let paths: Vec<String> = (0..100).map(|n| format!("/k{n}")).collect();
    let located = locate(&serve.file(), &paths);
    let owned = located.iter().position(|located| located.owner == "s1");
    let path = &paths[owned.expect("a hundred keys reach both shards")];
    let fields = format!(
        "traceparent: 00-{TRACE}-{CALLER}-01\r\nTraceState: a=1,b=2\r\ntracestate: c=3\r\n"
    );
    let target = format!("{path}?secret=1");
    let answer = Client::connect(serve.data).ask("GET", &target, &fields, b"");
    assert_eq!(answer.expect("an answer").text(), "works");

    let requests = [breaks.take_requests(), works.take_requests()].concat();
    assert_eq!(requests.len(), 2, "each shard was asked once");
    let (first, second) = (context(&requests[0]), context(&requests[1]));
    for ((trace, parent, flags), request) in [(&first, &requests[0]), (&second, &requests[1])] {
        assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "01"));
        assert_ne!(parent, CALLER);
        assert!(request.head.contains("\r\nTraceState: a=1,b=2\r\ntracestate: c=3\r\n"));
    }
    assert_ne!(first.1, second.1, "each try is a span of its own");

    until_true("the spans were sent", || told(&collector).len() >= 3);
    let exported = || serve.count("ringway_trace_spans_exported_total");
    until_true("they are counted", || exported() == 3);
    let spans = told(&collector);
    let [server, a, b] = <[Told; 3]>::try_from(spans).expect("one for the node, two for shards");
    assert!([&server, &a, &b].iter().all(|span| span.trace == TRACE));
    assert_eq!((server.kind, server.parent.as_deref()), (2, Some(CALLER)));
    for (span, id) in [(&a, &first.1), (&b, &second.1)] {
        assert_eq!((span.kind, span.parent.as_ref()), (3, Some(&server.id)));
        assert_eq!(&span.id, id, "what the shard was told is what the collector was");
        assert_eq!(span.says("http.request.method"), "GET");
        assert_eq!(span.says("ringway.pool"), "p");
    }
    assert_eq!((server.failed, a.failed, b.failed), (false, true, false));
    assert_eq!((a.says("error.type"), a.says("ringway.shard")), ("reset", "s1"));
    assert_eq!(
        (a.says("http.response.status_code"), a.says("http.request.resend_count")),
        ("", "")
    );
    assert_eq!((b.says("error.type"), b.says("ringway.shard")), ("", "s2"));
    assert_eq!(b.says("http.response.status_code"), "200");
    assert_eq!(b.says("http.request.resend_count"), "1");
    assert_eq!(b.says("url.full"), format!("http://{}{path}", works.address));
    assert_eq!(b.says("server.port"), works.address.port().to_string());
    for (name, value) in [
        ("http.response.status_code", "200"),
        ("url.path", path),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("server.address", "127.0.0.1"),
        ("ringway.route", "all"),
        ("ringway.attempts", "2"),
    ] {
        assert_eq!(server.says(name), value, "{name}");
    }
    let order = [server.times.0, a.times.0, a.times.1, b.times.0, b.times.1, server.times.1];
    assert!(order.is_sorted(), "tries lie one after the other, in the request: {order:?}");
    assert!(collector.requests().iter().all(|one| !one.body.windows(6).any(|w| w == b"secret")));
    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    assert!(collector.take_garbage().is_empty());
}

/// A read that was put to a second shard, since the first was silent: both tries are told, the
/// one that was cut off as well.
#[test]
fn both_shards_of_a_hedged_read_are_told() {
    let silent = Backend::start(|connection| {
        connection.request();
        connection.until_closed();
    });
    let works = Backend::answering("works");
    let collector = collector();
    let rest = over(&[&silent, &works]);
    let rest = rest.replace(
        "    shards:",
        "    immutable: true\n    retry: { hedge_after: 50ms }\n    shards:",
    );
    let mut serve = Serve::start(&traced(&collector, 100, &rest));
    let paths: Vec<String> = (0..100).map(|n| format!("/k{n}")).collect();
    let located = locate(&serve.file(), &paths);
    let owned = located.iter().position(|located| located.owner == "s1");
    let answer = get(serve.data, &paths[owned.expect("a hundred keys reach both shards")]);
    assert_eq!(answer.text(), "works");
    let asked = [silent.take_requests(), works.take_requests()].concat();
    let told_to: Vec<_> = asked.iter().map(context).collect();
    assert_eq!(told_to.len(), 2);
    until_true("the spans were sent", || told(&collector).len() >= 3);
    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    let [server, a, b] = <[Told; 3]>::try_from(told(&collector)).expect("three spans");
    for (span, (trace, id, _)) in [(&a, &told_to[0]), (&b, &told_to[1])] {
        assert_eq!((&span.trace, &span.id, span.parent.as_ref()), (trace, id, Some(&server.id)));
    }
    let status = "http.response.status_code";
    assert_eq!((a.says("ringway.shard"), a.says(status)), ("s1", ""));
    assert_eq!((a.says("error.type"), a.failed), ("cancelled", true));
    assert_eq!((b.says("ringway.shard"), b.says(status), b.failed), ("s2", "200", false));
    assert!(b.times.0 >= a.times.0 && b.times.0 <= a.times.1, "they were asked at the same time");
    assert!(a.times.1 <= server.times.1);
}

/// What a shard gets as `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Gets {
    /// What the client sent, and its `tracestate`.
    Same,
    /// The client's trace, below a span of the node's.
    Below,
    /// Another trace, which is recorded, and no `tracestate`.
    New,
    /// Another trace, which is not recorded, and no `tracestate`.
    NewUnrecorded,
}

/// Asks in each of the ways in which a trace can come, and says what the shard got each time.
fn ways(serve: &Serve, shard: &Backend) -> Vec<(&'static str, Gets)> {
    let ids = format!("{TRACE}-{CALLER}");
    let one = |value: String| format!("traceparent: {value}\r\n");
    let all = [
        ("none", String::new()),
        ("recorded", one(format!("00-{ids}-01"))),
        ("not recorded", one(format!("00-{ids}-00"))),
        ("of a version to come", one(format!("cc-{ids}-01-more"))),
        ("in capitals", one(format!("00-{}-01", ids.to_uppercase()))),
        ("of zeros", one(format!("00-{}-{CALLER}-01", "0".repeat(32)))),
        ("cut short", one(format!("00-{TRACE}"))),
        ("twice", one(format!("00-{ids}-01")).repeat(2)),
        ("empty", one(String::new())),
    ];
    let mut client = Client::connect(serve.data);
    let ways = all.into_iter().map(|(way, fields)| {
        let sent = format!("{fields}tracestate: a=1\r\n");
        let answer = client.ask("GET", "/k", &sent, b"").expect("an answer");
        assert_eq!(answer.status, 200, "{way}");
        let got = shard.take_requests().pop().expect("the shard was asked");
        let lower = got.head.to_lowercase();
        let gets = match lower.contains("\r\ntracestate: a=1") {
            // `ask` puts its fields in one piece, so what is untouched is in one piece.
            true if got.head.contains(sent.trim_end()) => {
                let mut lines = lower.split("\r\n");
                let count = lines.by_ref().filter(|line| line.starts_with("traceparent")).count();
                assert_eq!(count, fields.matches("traceparent").count(), "{way}");
                Gets::Same
            }
            true => {
                let (trace, parent, flags) = context(&got);
                assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "01"), "{way}");
                assert_ne!(parent, CALLER, "{way}");
                Gets::Below
            }
            false => {
                let (trace, _, flags) = context(&got);
                assert_ne!(trace, TRACE, "{way}");
                if flags == "01" { Gets::New } else { Gets::NewUnrecorded }
            }
        };
        (way, gets)
    });
    ways.collect()
}

/// W3C Trace Context, section 4: what is malformed begins anew, what says that it is recorded is,
/// and the rest is decided by chance, or left alone.
#[test]
fn who_is_recorded_is_said_by_the_client_or_by_chance() {
    let shard = Backend::answering("shard");
    let collector = collector();
    let rest = over(&[&shard]);
    let mut serve = Serve::start(&traced(&collector, 0, &rest));
    let bad = ["in capitals", "of zeros", "cut short", "twice", "empty"];
    let seldom = ways(&serve, &shard);
    for (way, gets) in &seldom {
        let wanted = match *way {
            "recorded" | "of a version to come" => Gets::Below,
            way if bad.contains(&way) => Gets::NewUnrecorded,
            _ => Gets::Same,
        };
        assert_eq!(*gets, wanted, "{way}, none by chance");
    }

    // How many is read anew with the file; where they go is not.
    let data_dir = serve.data_dir().display().to_string();
    serve.write(&traced(&collector, 100, &rest));
    let said = ringway_says(&["reload", "--data-dir", &data_dir]);
    assert!(said.success, "{}", said.stderr);
    let always = ways(&serve, &shard);
    for (way, gets) in &always {
        let wanted = match *way {
            "recorded" | "of a version to come" => Gets::Below,
            "not recorded" => Gets::Same,
            _ => Gets::New,
        };
        assert_eq!(*gets, wanted, "{way}, all by chance");
    }
    assert_eq!(get(serve.data, "/_ringway/health").status, 200);
    serve.write(&rest);
    let said = ringway_says(&["reload", "--data-dir", &data_dir]);
    assert!(!said.success && said.stderr.contains("`tracing.otlp`"), "{}", said.stderr);

    // What was handed in last is sent before the process ends; what was not recorded never is.
    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    let spans = told(&collector);
    let recorded =
        seldom.iter().chain(&always).filter(|(_, gets)| matches!(gets, Gets::Below | Gets::New));
    assert_eq!(spans.len(), 2 * recorded.count(), "one for the node, one for the shard");
    let begun = spans.iter().filter(|span| span.kind == 2 && span.parent.is_none()).count();
    assert_eq!(begun, always.iter().filter(|(_, gets)| *gets == Gets::New).count());
}

#[test]
fn without_tracing_both_fields_are_like_any_other() {
    let shard = Backend::answering("shard");
    let serve = Serve::start(&over(&[&shard]));
    for (way, gets) in ways(&serve, &shard) {
        assert_eq!(gets, Gets::Same, "{way}");
    }
    assert!(!get(serve.telemetry, "/metrics").text().contains("ringway_trace_"));
}

/// Requests that no shard could be asked for have a span as well, and so have those that broke off.
#[test]
fn what_went_wrong_is_told() {
    let shard = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            if request.asked().contains("/silent") {
                return connection.until_closed();
            }
            if request.asked().contains("/cut") {
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                return connection.close();
            }
            connection.say("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let collector = collector();
    let pool = |name: &str, more: &str, address| {
        let shards = shards(&[address]);
        format!("  - name: {name}\n    health: {{ active: off, passive: off }}\n{more}{shards}")
    };
    let route = |name: &str| {
        format!("  - {{ name: {name}, match: {{ path_prefix: /{name} }}, pool: {name} }}\n")
    };
    let rest = format!(
        "pools:\n{}{}{}routes:\n{}{}{}",
        pool("p", "", shard.address),
        pool("dead", "", lasting_address()),
        pool("slow", "    timeouts: { request: 2s }\n", shard.address),
        route("p"),
        route("dead"),
        route("slow")
    );
    let mut serve = Serve::start(&traced(&collector, 100, &rest));
    for (path, status) in
        [("/p/a", 404), ("/dead/a", 503), ("/else", 404), ("/p/../a", 400), ("/slow/silent", 504)]
    {
        assert_eq!(get(serve.data, path).status, status, "{path}");
    }
    assert!(Client::connect(serve.data).ask("GET", "/p/cut", "", b"").is_err());
    // The span of what broke off is handed in when its task ends, which the client does not see.
    until_true("all were sent", || told(&collector).iter().filter(|s| s.kind == 2).count() == 6);
    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    let spans = told(&collector);
    let of = |path: &str| {
        let server = spans.iter().find(|s| s.kind == 2 && s.says("url.path") == path);
        let server = server.unwrap_or_else(|| panic!("no span of {path}: {spans:#?}")).clone();
        let below = spans.iter().filter(|span| span.parent.as_ref() == Some(&server.id));
        (server.clone(), below.cloned().collect::<Vec<_>>())
    };
    let status = "http.response.status_code";
    let (server, tries) = of("/p/a");
    assert_eq!((server.says(status), server.failed), ("404", false), "the client asked wrongly");
    assert_eq!((tries[0].says("error.type"), tries[0].failed), ("404", true));
    let (server, tries) = of("/dead/a");
    assert_eq!((server.says(status), server.says("error.type")), ("503", "503"));
    assert_eq!((server.says("ringway.flags"), server.failed), ("UF", true));
    assert_eq!((tries.len(), tries[0].says("error.type")), (1, "connect"));
    let (server, tries) = of("/else");
    assert_eq!((server.says(status), server.says("ringway.flags"), tries.len()), ("404", "NR", 0));
    let (server, tries) = of("/p/../a");
    assert_eq!((server.says(status), server.failed, tries.len()), ("400", false, 0));
    let (server, tries) = of("/slow/silent");
    assert_eq!((server.says(status), server.says("ringway.flags")), ("504", "DT"));
    assert_eq!((tries[0].says(status), tries[0].says("error.type")), ("", "cancelled"));
    let (_, tries) = of("/p/cut");
    assert_eq!((tries[0].says(status), tries[0].says("error.type")), ("200", "answer_broke"));
}

/// A collector that is away, is wrong or hangs costs spans, which are counted, and no request.
#[test]
fn no_request_waits_for_a_collector() {
    let shard = Backend::tireless("shard");
    let dropped = |serve: &Serve, reason: &str| {
        serve.count(&format!("ringway_trace_spans_dropped_total{{reason=\"{reason}\"}}"))
    };

    let refuses = collector_that_says("400 Bad Request", "");
    let serve = Serve::start(&traced(&refuses, 100, &over(&[&shard])));
    assert_eq!(get(serve.data, "/k").status, 200);
    until_true("they were refused", || dropped(&serve, "failed") == 2);
    assert_eq!(refuses.requests().len(), 1, "what is wrong is not sent again");
    drop(serve);

    let picks = collector_that_says("200 OK", "{\"partialSuccess\":{\"rejectedSpans\":\"1\"}}");
    let serve = Serve::start(&traced(&picks, 100, &over(&[&shard])));
    assert_eq!(get(serve.data, "/k").status, 200);
    until_true("one was taken", || serve.count("ringway_trace_spans_exported_total") == 1);
    assert_eq!(dropped(&serve, "rejected"), 1);
    drop(serve);

    let hangs = Backend::start(|connection| {
        connection.request();
        connection.until_closed();
    });
    let serve = Serve::start(&traced(&hangs, 100, &over(&[&shard])));
    let mut client = Client::connect(serve.data);
    let full = until("the queue is full", || {
        for _ in 0..500 {
            assert_eq!(client.ask("GET", "/k", "", b"").expect("an answer").status, 200);
        }
        Some(dropped(&serve, "queue_full")).filter(|&dropped| dropped > 0)
    });
    assert_eq!(full % 2, 0, "the spans of a request are dropped together");
}
