//! Replicated pools over real stores: what clients get while stores die, hang and come back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::http_client::Client as Streaming;
use crate::store_child::setting;
use crate::support::http::{Answer, Client, ask, get, put};
use crate::support::ringway::{Serve, Store, shards};
use crate::support::wait::{until, until_true, until_within};

/// How long stores that are back may take to be found, and to be brought what they missed.
const HEALED: Duration = Duration::from_secs(60);

struct Kept {
    stores: Vec<Store>,
    serve: Serve,
}

impl Kept {
    fn start() -> Self {
        let stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
        let addresses: Vec<SocketAddr> = stores.iter().map(|store| store.address).collect();
        let shards = shards(&addresses);
        let serve = Serve::start(&format!(
            "pools:\n  - name: objects\n    kind: replicated\n    replicas: 3\n    health: {{ \
             active: {{ interval: 200ms, timeout: 1s }} }}\n{shards}routes:\n  - {{ name: all, pool: \
             objects }}\n"
        ));
        let kept = Self { stores, serve };
        kept.serve.until_all_stores_keep("/first");
        kept
    }

    /// Asks once, with further fields.
    fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut client = Client::connect(self.serve.data);
        let lines: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        client.ask(method, path, &lines, body).expect("an answer")
    }

    fn at(&self, level: &str, method: &str, path: &str, body: &[u8]) -> Answer {
        self.ask(method, path, &[("Ringway-Consistency", level)], body)
    }

    /// Waits until no node knows of anything that a store lacks.
    fn until_healed(&self) {
        until_within("nothing is missed any more", HEALED, || {
            let metrics = self.serve.metrics();
            (metrics.sum("ringway_hints_pending{") == 0.0).then_some(())
        });
    }
}

#[test]
fn a_level_is_kept_or_refused_and_told() {
    let kept = Kept::start();
    let data = kept.serve.data;
    for level in ["one", "quorum", "all"] {
        let path = format!("/levels/{level}%20a");
        let put = kept.at(level, "PUT", &path, level.as_bytes());
        assert_eq!((put.status, put.field("Ringway-Shard")), (204, None), "{put:?}");
        let version = put.field("Ringway-Version").expect("a version").to_owned();
        for level in ["all", "quorum", "one"] {
            let got = kept.at(level, "GET", &path, b"");
            assert_eq!(got.status, 200, "{got:?}");
            assert_eq!(got.field("Ringway-Version"), Some(version.as_str()));
            assert_eq!(got.field("ETag"), Some(format!("\"{version}\"").as_str()));
            let told = got.field("Ringway-Consistency").expect("the level");
            assert!(told.starts_with(&format!("{level};acks=")), "{told}");
            let unchanged =
                kept.ask("GET", &path, &[("If-None-Match", &format!("\"{version}\""))], b"");
            assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{unchanged:?}");
        }
    }
    let page = get(data, "/_ringway/list?pool=objects&prefix=levels/&delimiter=%20");
    let page: serde_json::Value = serde_json::from_slice(&page.body).expect("a page");
    let prefixes = serde_json::json!(["levels/all%20", "levels/one%20", "levels/quorum%20"]);
    assert_eq!(page["prefixes"], prefixes, "{page}");
    assert_eq!(kept.at("quorum", "DELETE", "/levels/one%20a", b"").status, 204);
    let gone = kept.at("quorum", "GET", "/levels/one%20a", b"");
    assert_eq!((gone.status, gone.problem()), (404, "not-found".to_owned()));
    let page = get(data, "/_ringway/list?pool=objects&prefix=levels/&limit=1");
    let page: serde_json::Value = serde_json::from_slice(&page.body).expect("a page");
    assert_eq!(page["keys"][0]["key"], "levels/all%20a", "{page}");
    assert_eq!(page["next"], "levels/all%20a", "{page}");

    for (method, path, fields, status, kind) in [
        ("GET", "/a", &[("Ringway-Consistency", "serial")][..], 400, "bad-level"),
        ("GET", "/a", &[("Ringway-Consistency", "two")], 400, "bad-level"),
        ("GET", "/a", &[("Ringway-Store", "x")], 400, "reserved-field"),
        ("POST", "/a", &[], 405, "method-not-allowed"),
        ("PUT", "/a", &[("If-None-Match", "*")], 501, "condition-unsupported"),
        ("DELETE", "/a", &[("If-Match", "\"x\"")], 501, "condition-unsupported"),
        ("PUT", "/a", &[("Content-Range", "bytes 0-0/2")], 400, "content-range"),
        ("GET", "/a?x=1", &[], 400, "unknown-query"),
        ("GET", "/", &[], 400, "bad-key"),
        ("GET", &format!("/{}", "a".repeat(1025)), &[], 414, "key-too-long"),
        ("PUT", "/a", &[("X-Meta-A", &*"a".repeat(8 * 1024))], 431, "head-too-large"),
    ] {
        let refused = kept.ask(method, path, fields, b"");
        assert_eq!((refused.status, refused.problem().as_str()), (status, kind), "{method} {path}");
    }
    assert_eq!(get(data, "/a").status, 404, "nothing of it was written");
    let options = ask(data, "OPTIONS", "/a", b"");
    assert_eq!(options.field("Allow"), Some("GET, HEAD, PUT, DELETE, OPTIONS"));
}

#[test]
fn one_store_that_is_killed_costs_no_request_and_two_leave_reads_at_one() {
    let mut kept = Kept::start();
    let data = kept.serve.data;
    let (ends, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let load: Vec<_> = (0..4)
            .map(|client| {
                let (ends, done) = (&ends, &done);
                scope.spawn(move || {
                    let mut number = 0;
                    while !ends.load(Ordering::Relaxed) {
                        number += 1;
                        let path = format!("/load/{client}/{}", number % 10);
                        let body = format!("{client}-{number}");
                        let written = put(data, &path, body.as_bytes());
                        assert_eq!(written.status, 204, "{written:?}");
                        let read = get(data, &path);
                        assert_eq!((read.status, read.text()), (200, body));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let so_many = |more: usize| {
            let now = done.load(Ordering::Relaxed);
            let is_broken = || load.iter().any(thread::ScopedJoinHandle::is_finished);
            until_true("the load goes on", || {
                done.load(Ordering::Relaxed) > now + more || is_broken()
            });
        };
        so_many(20);
        kept.stores[0].process.kill_9();
        so_many(200);
        ends.store(true, Ordering::Relaxed);
    });
    let refused = kept.at("all", "PUT", "/load/0/0", b"x");
    assert_eq!((refused.status, refused.field("Ringway-Outcome")), (503, Some("not-applied")));
    let before = get(data, "/load/0/1").text();

    kept.stores[1].process.kill_9();
    let refused = until("the second is missed", || {
        let refused = put(data, "/load/0/1", b"lost");
        (refused.status == 503).then_some(refused)
    });
    assert_eq!(refused.problem(), "no-quorum");
    assert_eq!(refused.field("Ringway-Outcome"), Some("not-applied"));
    assert!(refused.field("Retry-After").is_some());
    let begun = Instant::now();
    assert_eq!(get(data, "/load/0/1").status, 503);
    assert!(begun.elapsed() < Duration::from_secs(10), "at once, on a busy machine");
    let read = kept.at("one", "GET", "/load/0/1", b"");
    assert_eq!((read.status, read.text()), (200, before.clone()));

    kept.stores[0].start_again();
    kept.stores[1].start_again();
    until_within("a quorum is back", HEALED, || {
        (get(data, "/load/0/1").status == 200).then_some(())
    });
    assert_eq!(get(data, "/load/0/1").text(), before, "what was refused was not applied");
    kept.until_healed();
    // Each store alone has all by then.
    until_within("all replicas agree", HEALED, || {
        (kept.at("all", "GET", "/load/3/3", b"").status == 200).then_some(())
    });
}

#[test]
fn a_body_goes_on_when_the_store_that_sends_it_is_killed() {
    let mut kept = Kept::start();
    let body: Vec<u8> = (0..48 * 1024 * 1024_u32).map(|at| (at / 7 % 251) as u8).collect();
    assert_eq!(kept.at("all", "PUT", "/large", &body).status, 204);
    for level in ["one", "quorum"] {
        let mut client = Client::connect(kept.serve.data);
        client
            .send(format!("GET /large HTTP/1.1\r\nHost: h\r\nRingway-Consistency: {level}\r\n\r\n"))
            .expect("it is taken");
        let mut answer = client.hear_head().expect("a head");
        assert_eq!(answer.status, 200, "{answer:?}");
        let shard = answer.shard().to_owned();
        // Nothing of the body is read yet: the store is in the middle of it, held up by us.
        let place = ["s1", "s2", "s3"].iter().position(|id| *id == shard).expect("one of them");
        kept.stores[place].process.kill_9();
        client.hear_body(&mut answer).expect("the whole body");
        assert!(answer.body == body, "{} bytes of {}", answer.body.len(), body.len());
        kept.stores[place].start_again();
        kept.serve.until_shard_is("objects", &shard, true);
    }
    assert_eq!(kept.serve.count("ringway_kept_continued_total{pool=\"objects\"}"), 2);
}

/// What a large PUT and GET may take: a window and buffers in both directions, and the allocator's
/// slack.
const ALLOWED_BYTES: u64 = 24 * 1024 * 1024;

#[test]
fn a_large_body_is_kept_thrice_in_constant_memory() {
    let kept = Kept::start();
    let data = kept.serve.data;
    assert_eq!(put(data, "/small", &vec![0; 1_000_000]).status, 204);
    assert_eq!(get(data, "/small").body.len(), 1_000_000);
    let before = kept.serve.process.peak_resident_bytes();
    let length = setting("RINGWAY_LARGE_MIB", 128) * 1024 * 1024;
    let mut client = Streaming::connect(data).expect("it listens");
    client.send_head("PUT", "/large", length).expect("it reads");
    let mut sent = blake3::Hasher::new();
    let mut piece = vec![0; 1024 * 1024];
    for number in 0..length / piece.len() as u64 {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        sent.update(&piece);
        client.send(&piece).expect("it reads");
    }
    assert_eq!(client.reply().expect("an answer").status, 204);
    client.send_head("GET", "/large", 0).expect("it reads");
    let mut received = blake3::Hasher::new();
    let take = |bytes: &[u8]| {
        received.update(bytes);
    };
    assert_eq!(client.reply_to(take).expect("an answer").status, 200);
    assert_eq!(received.finalize(), sent.finalize());
    let grown = kept.serve.process.peak_resident_bytes() - before;
    println!("{length} bytes: the peak grew by {grown} bytes from {before}");
    assert!(grown <= ALLOWED_BYTES, "peak RSS grew by {grown} bytes");
}

#[test]
fn a_store_that_hangs_holds_nobody_up_and_gets_a_hint() {
    let kept = Kept::start();
    let data = kept.serve.data;
    let hints = || kept.serve.count("ringway_kept_hints_total{pool=\"objects\"}");
    let (hung, before) = (&kept.stores[2].process, hints());
    hung.signal(Signal::STOP);
    let large = vec![7; 16 * 1024 * 1024];
    let begun = Instant::now();
    assert_eq!(put(data, "/small", b"hello").status, 204);
    assert_eq!(put(data, "/large", &large).status, 204);
    // A store may be silent for 30 s: whoever waited for this one would take longer.
    assert!(begun.elapsed() < Duration::from_secs(29), "{:?}", begun.elapsed());
    until_true("hints are left", || hints() >= before + 2);
    hung.signal(Signal::CONT);
    kept.until_healed();
    until_within("all three have it", HEALED, || {
        let all = kept.at("all", "GET", "/large", b"");
        (all.status == 200).then(|| assert!(all.body == large))
    });
}
