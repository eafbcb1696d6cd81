//! Shards die, hang and come back under load: what clients notice is what DESIGN, section 6,
//! allows, and what they are told of their writes is true.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::http::{Answer, Client, HttpError, ask, get, put};
use crate::support::ringway::{Serve, Store, shards};
use crate::support::say::say;
use crate::support::wait::until_true;

/// A mutable pool and one of immutable objects (`/fixed/…`) over the same shards.
fn two_pools(stores: &[Store], common: &str) -> String {
    let addresses: Vec<SocketAddr> = stores.iter().map(|store| store.address).collect();
    let shards = shards(&addresses);
    format!(
        "pools:\n  - name: mutable\n{common}{shards}  - name: fixed\n    immutable: true\n\
         {common}{shards}routes:\n  - {{ name: fixed, match: {{ path_prefix: /fixed }}, pool: \
         fixed }}\n  - {{ name: mutable, pool: mutable }}\n"
    )
}

/// The first of a row of paths that a shard owns while all are up.
fn path_on(serve: &Serve, prefix: &str, shard: &str) -> String {
    let mut paths = (0..200).map(|n| format!("{prefix}-{n}"));
    let found = paths.find(|path| get(serve.data, path).shard() == shard);
    found.expect("200 keys reach every shard")
}

/// One request of the load, and what became of it.
struct Done {
    kind: Kind,
    path: String,
    result: Result<Answer, HttpError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ReadMutable,
    ReadFixed,
    WriteMutable,
    WriteFixed,
    /// Of a body too large to be held, which therefore cannot be repeated.
    WriteFixedLarge,
}

impl Kind {
    fn is_read(self) -> bool {
        matches!(self, Self::ReadMutable | Self::ReadFixed)
    }
}

const LARGE_BYTES: usize = 100_000;

fn content(path: &str, kind: Kind) -> Vec<u8> {
    let length = if kind == Kind::WriteFixedLarge { LARGE_BYTES } else { 200 };
    path.bytes().cycle().take(length).collect()
}

/// One client: writes new keys and reads its own back, on a connection that it keeps.
fn client(
    number: usize,
    serve: SocketAddr,
    stop: &AtomicBool,
    requests: &AtomicUsize,
) -> Vec<Done> {
    let mut connection = Client::connect(serve);
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut done: Vec<Done> = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let kind = [
            Kind::WriteMutable,
            Kind::ReadMutable,
            Kind::WriteFixed,
            Kind::ReadFixed,
            Kind::ReadMutable,
            Kind::ReadFixed,
        ][n % 6];
        let kind = if n % 30 == 2 { Kind::WriteFixedLarge } else { kind };
        let pool = match kind {
            Kind::ReadMutable | Kind::WriteMutable => "mutable",
            _ => "fixed",
        };
        // A read is of one of the latest three hundred of this client's keys.
        let key = if kind.is_read() { n.saturating_sub(random.usize(..300)) } else { n };
        let path = format!("/{pool}/{number}-{}", key / 6);
        let (method, body) = match kind.is_read() {
            true => ("GET", Vec::new()),
            false => ("PUT", content(&path, kind)),
        };
        let result = connection.ask(method, &path, "", &body);
        if result.as_ref().map_or(true, Answer::closes) {
            connection = Client::connect(serve);
        }
        done.push(Done { kind, path, result });
        requests.fetch_add(1, Ordering::SeqCst);
    }
    done
}

#[test]
fn a_shard_killed_under_load_fails_only_what_could_not_be_repeated() {
    const CLIENTS: usize = 6;
    let mut stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let serve = Serve::start(&two_pools(
        &stores,
        "    health: { active: { path: /_ringway/health, interval: 200ms, timeout: 5s } }\n",
    ));
    let (stop, requests) = (AtomicBool::new(false), AtomicUsize::new(0));
    let done: Vec<Done> = thread::scope(|scope| {
        let (stop, requests) = (&stop, &requests);
        let data = serve.data;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client(number, data, stop, requests)))
            .collect();
        let more = |count: usize| {
            let so_far = requests.load(Ordering::SeqCst);
            until_true("the load goes on", || requests.load(Ordering::SeqCst) >= so_far + count);
        };
        more(1200);
        stores[0].process.kill_9();
        more(1200);
        stop.store(true, Ordering::SeqCst);
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });

    let mut counts: BTreeMap<(Kind, String), usize> = BTreeMap::new();
    for Done { kind, path, result } in &done {
        let what = match result {
            Ok(answer) if answer.status < 300 => "2xx".to_owned(),
            Ok(answer) if answer.status == 404 && kind.is_read() => "404 miss".to_owned(),
            Ok(answer) => {
                let outcome = answer.field("Ringway-Outcome").unwrap_or("-").to_owned();
                format!("{} {} {outcome}", answer.status, answer.problem())
            }
            // Its head had gone on when the shard died: what has begun cannot be repeated, and is
            // cut so that the client sees it.
            Err(HttpError::Cut(_)) => "cut".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        let allowed = match kind {
            Kind::ReadMutable | Kind::ReadFixed => {
                matches!(what.as_str(), "2xx" | "404 miss" | "cut")
            }
            Kind::WriteFixed => what == "2xx",
            Kind::WriteFixedLarge => matches!(what.as_str(), "2xx" | "502 shard-broke unknown"),
            Kind::WriteMutable => matches!(
                what.as_str(),
                "2xx"
                    | "502 shard-broke unknown"
                    | "503 owner-down not-applied"
                    | "503 shard-unreachable not-applied"
            ),
        };
        assert!(allowed, "{kind:?} {path}: {what}");
        if let (true, Ok(answer)) = (kind.is_read() && what == "2xx", result) {
            let whole = [Kind::WriteFixed, Kind::WriteFixedLarge].map(|kind| content(path, kind));
            assert!(whole.contains(&answer.body), "{path}: half an object");
        }
        *counts.entry((*kind, what)).or_default() += 1;
    }
    say(&format!("failover: a shard killed among {} requests:", done.len()));
    for ((kind, what), count) in &counts {
        say(&format!("failover:   {kind:?}: {count} x {what}"));
    }

    // The shard comes back: what it said it had, it has; what was not applied, is not there.
    stores[0].start_again();
    serve.until_shard_is("mutable", "s1", true);
    serve.until_shard_is("fixed", "s1", true);
    let mut direct: Vec<Client> = stores.iter().map(|s| Client::connect(s.address)).collect();
    let mut at_shard = |shard: &str, path: &str| {
        let number: usize = shard[1..].parse().expect("a number");
        direct[number - 1].ask("GET", path, "", b"").expect("an answer")
    };
    let (mut kept, mut not_applied) = (0, 0);
    for Done { kind, path, result } in done.iter().filter(|done| !done.kind.is_read()) {
        let answer = result.as_ref().expect("checked above");
        if answer.status < 300 {
            let found = at_shard(answer.shard(), path);
            assert_eq!(found.status, 200, "{path} was acknowledged and is lost");
            assert_eq!(found.body, content(path, *kind), "{path}");
            kept += 1;
        } else if answer.field("Ringway-Outcome") == Some("not-applied") {
            for shard in ["s1", "s2", "s3"] {
                assert_eq!(at_shard(shard, path).status, 404, "{path} was said not to be applied");
            }
            not_applied += 1;
        }
    }
    say(&format!("failover: {kept} acknowledged writes are there, {not_applied} refused are not"));
    assert!(not_applied > 0, "the load met the dead shard");
    // Each client had at most one answer under way when the shard died.
    let cut = counts.iter().filter(|((_, what), _)| what == "cut").map(|(_, n)| n).sum::<usize>();
    assert!(cut <= CLIENTS, "{counts:?}");
}

#[test]
fn a_write_whose_connection_broke_is_unknown_also_if_the_shard_is_gone_then() {
    // A kept-alive connection breaks when the shard has read the whole request: it may have
    // applied it. That nobody listens any more when the request is repeated does not make it
    // "not applied".
    let backend = || {
        Backend::start(|connection| {
            while let Some(request) = connection.request() {
                if request.body == b"deadly" {
                    connection.end_listening();
                    return connection.close();
                }
                connection.say("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
            }
        })
    };
    for immutable in [false, true] {
        let backend = backend();
        let serve = Serve::start(&format!(
            "pools:\n  - name: p\n    immutable: {immutable}\n    health: {{ active: off }}\n{}\
             routes:\n  - {{ name: all, pool: p }}\n",
            shards(&[backend.address])
        ));
        let mut client = Client::connect(serve.data);
        assert_eq!(client.ask("PUT", "/a", "", b"harmless").expect("an answer").status, 201);
        let answer = client.ask("PUT", "/b", "", b"deadly").expect("an answer");
        assert_eq!(answer.field("Ringway-Outcome"), Some("unknown"), "{answer:?}");
        assert_eq!((answer.status, answer.problem().as_str()), (502, "shard-broke"));
        // The next one is not even sent, which is certain.
        let answer = client.ask("PUT", "/b", "", b"again").expect("an answer");
        assert_eq!(answer.field("Ringway-Outcome"), Some("not-applied"));
        assert_eq!((answer.status, answer.problem().as_str()), (503, "shard-unreachable"));
    }
}

#[test]
fn a_hanging_shard_costs_a_timeout_and_is_then_left_alone_until_it_answers() {
    let stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    // Requests that come at once have waited long enough before a probe has. Both limits are long ones for
    // a machine that does much else.
    let serve = Serve::start(&two_pools(
        &stores,
        "    health: { active: { path: /_ringway/health, interval: 500ms, timeout: 6s, fall: 1 } }\n    \
         timeouts: { response_head: 2s }\n",
    ));
    let (read, write) = (path_on(&serve, "/r", "s1"), path_on(&serve, "/w", "s1"));
    assert_eq!(put(serve.data, &read, b"x").status, 201);
    let timeouts =
        || serve.metric("ringway_upstream_rq_timeout_total{pool=\"mutable\",shard=\"s1\"}");
    assert_eq!(timeouts(), 0.0);

    stores[0].process.signal(Signal::STOP);
    let begun = Instant::now();
    let data = serve.data;
    let (read_answer, write_answer) = thread::scope(|scope| {
        let reader = scope.spawn(|| get(data, &read));
        let writer = scope.spawn(|| put(data, &write, b"x"));
        (reader.join().expect("an answer"), writer.join().expect("an answer"))
    });
    assert!(begun.elapsed() >= Duration::from_secs(2), "the shard was given its time");
    assert_eq!(read_answer.status, 404, "the next shard was asked and has it not");
    assert_ne!(read_answer.shard(), "s1");
    assert_eq!((write_answer.status, write_answer.problem().as_str()), (504, "shard-timeout"));
    assert_eq!(write_answer.field("Ringway-Outcome"), Some("unknown"));
    assert_eq!(timeouts(), 2.0);

    serve.until_shard_is("mutable", "s1", false);
    for _ in 0..5 {
        assert_eq!(get(serve.data, &read).status, 404);
        let refused = put(serve.data, &write, b"y");
        assert_eq!((refused.status, refused.problem().as_str()), (503, "owner-down"));
        assert_eq!(refused.field("Ringway-Outcome"), Some("not-applied"));
        assert_eq!(refused.field("Retry-After"), Some("1"));
    }
    assert_eq!(timeouts(), 2.0, "nobody waits for a shard that is known to hang");

    stores[0].process.signal(Signal::CONT);
    serve.until_shard_is("mutable", "s1", true);
    let back = get(serve.data, &read);
    assert_eq!((back.status, back.shard()), (200, "s1"));
    assert!(put(serve.data, &write, b"z").status < 300);
    assert_eq!(get(serve.data, &write).body, b"z");
}

#[test]
fn when_all_look_down_all_are_tried() {
    let mut stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let serve = Serve::start(&two_pools(
        &stores,
        "    health: { active: { path: /_ringway/health, interval: 200ms, timeout: 5s } }\n",
    ));
    let path = path_on(&serve, "/k", "s2");
    assert_eq!(put(serve.data, &path, b"x").status, 201);
    for store in &mut stores {
        store.process.kill_9();
    }
    for shard in ["s1", "s2", "s3"] {
        serve.until_shard_is("mutable", shard, false);
        serve.until_shard_is("fixed", shard, false);
    }
    assert_eq!(serve.pool_status("mutable")["panic"], true);
    let tries = || serve.metrics().sum("ringway_upstream_cx_connect_fail_total{pool=\"mutable\"");
    let before = tries();
    let read = get(serve.data, &path);
    assert_eq!((read.status, read.problem().as_str()), (503, "shard-unreachable"));
    assert_eq!(read.field("Ringway-Outcome"), None, "a read changes nothing");
    assert_eq!(read.field("Retry-After"), Some("1"));
    assert_eq!(tries() - before, 3.0, "all three were tried");
    for path in [path.as_str(), "/fixed/x"] {
        let write = ask(serve.data, "PUT", path, b"y");
        assert_eq!((write.status, write.problem().as_str()), (503, "shard-unreachable"));
        assert_eq!(write.field("Ringway-Outcome"), Some("not-applied"));
    }
    assert!(serve.metric("ringway_lb_healthy_panic_total{pool=\"mutable\"}") >= 2.0);

    // One is back, and is found at once by trying, whatever the probes believe.
    stores[1].start_again();
    let back = get(serve.data, &path);
    assert_eq!((back.status, back.shard(), back.text().as_str()), (200, "s2", "x"));
}
