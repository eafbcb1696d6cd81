//! A node that changes and ends under load: no request and no connection is lost, a bad file
//! changes nothing, and what must survive a restart does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::backend::Backend;
use crate::support::http::{Answer, Client, get, put};
use crate::support::process::run;
use crate::support::ringway::{Serve, Store, ringway, ringway_says};
use crate::support::wait::{until, until_true};

/// One mutable pool of these shards, given as (number, weight).
fn pool(stores: &[Store], members: &[(usize, u16)]) -> String {
    let mut text = String::from(
        "pools:\n  - name: p\n    health: { active: { path: /_ringway/health, interval: 200ms, \
         timeout: 5s } }\n    shards:\n",
    );
    for &(number, weight) in members {
        let address = stores[number - 1].address;
        text.push_str(&format!(
            "      - {{ id: s{number}, url: \"http://{address}\", weight: {weight} }}\n"
        ));
    }
    text + "routes:\n  - { name: all, pool: p }\n"
}

fn epoch_of(answer: &Answer) -> u64 {
    answer.field("Ringway-Epoch").expect("an epoch").parse().expect("a number")
}

/// A client that reads and writes on one connection until told to stop; panics at whatever fails.
/// Returns the epochs that it was told, in order.
fn client(number: usize, data: SocketAddr, stop: &AtomicBool, requests: &AtomicUsize) -> Vec<u64> {
    let mut connection = Client::connect(data);
    let mut epochs = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let path = format!("/load/{number}-{}", n / 2);
        let (method, body) = if n % 2 == 0 { ("PUT", path.as_bytes()) } else { ("GET", &b""[..]) };
        let answer = connection.ask(method, &path, "", body).expect("the connection lives on");
        // Between a write and its read the ring may move the key to a shard that has it not.
        let fine = answer.status < 300 || (method == "GET" && answer.status == 404);
        assert!(fine && !answer.closes(), "{method} {path}: {answer:?}");
        epochs.push(epoch_of(&answer));
        requests.fetch_add(1, Ordering::SeqCst);
    }
    epochs
}

#[test]
fn shards_come_go_and_change_weight_under_load_without_a_lost_request() {
    let stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let two = pool(&stores, &[(1, 1), (2, 1)]);
    let three = pool(&stores, &[(1, 1), (2, 1), (3, 1)]);
    let heavier = pool(&stores, &[(1, 1), (2, 1), (3, 3)]);
    let serve = Serve::start(&two);
    let (stop, requests) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let (stop, requests, data) = (&stop, &requests, serve.data);
        let clients: Vec<_> = (0..4)
            .map(|number| scope.spawn(move || client(number, data, stop, requests)))
            .collect();
        let more = || {
            let so_far = requests.load(Ordering::SeqCst);
            until_true("the load goes on", || {
                clients.iter().any(thread::ScopedJoinHandle::is_finished)
                    || requests.load(Ordering::SeqCst) >= so_far + 200
            });
        };
        let changed_to = |epoch: u64| {
            until_true("the epoch has moved", || serve.pool_status("p")["epoch"] == epoch);
            let mut connection = Client::connect(serve.data);
            let answer = connection.ask("GET", "/probe", "", b"").expect("an answer");
            assert_eq!(epoch_of(&answer), epoch);
        };
        changed_to(1);
        more();
        serve.hang_up(&three);
        changed_to(2);
        more();
        let share = |shard: &str| {
            serve.metric(&format!("ringway_ring_share_ratio{{pool=\"p\",shard=\"{shard}\"}}"))
        };
        let before = share("s3");
        assert!(before > 0.2, "{before}");
        serve.hang_up(&heavier);
        changed_to(3);
        assert!(share("s3") > before + 0.1, "a heavier shard owns more");
        more();
        let answered = serve.metrics().sum("ringway_upstream_rq_total{pool=\"p\",shard=\"s3\"");
        assert!(answered > 0.0, "the new shard is used");
        serve.hang_up(&two);
        changed_to(4);
        more();
        let metrics = serve.metrics();
        assert!(!metrics.0.contains("shard=\"s3\""), "a removed shard's series go");
        assert!(metrics.0.contains("ringway_ring_epoch{pool=\"p\"} 4"));
        stop.store(true, Ordering::SeqCst);
        for client in clients {
            let epochs = client.join().expect("nothing failed");
            assert!(epochs.is_sorted(), "no request goes back to an earlier ring");
            assert_eq!((epochs.first(), epochs.last()), (Some(&1), Some(&4)));
        }
    });
    assert_eq!(serve.metric("ringway_config_reload_success"), 1.0);
}

#[test]
fn a_bad_file_changes_nothing_and_says_where_it_is_wrong() {
    let stores: Vec<Store> = (0..2).map(|_| Store::start()).collect();
    let good = pool(&stores, &[(1, 1), (2, 1)]);
    let serve = Serve::start(&good);
    let before = serve.status();
    assert_eq!(serve.metric("ringway_config_reload_success"), 1.0);
    let refused_with = |text: &str, wanted: &[&str]| {
        let from = serve.process.stderr_lines();
        serve.hang_up(text);
        let what = format!("the reload says {wanted:?}");
        for &wanted in wanted {
            serve.process.stderr_line(&what, from, |line| line.contains(wanted).then_some(()));
        }
        until_true("the refusal is counted", || {
            serve.metric("ringway_config_reload_success") == 0.0
        });
        let mut now = serve.status();
        let error = now["reload_error"].take();
        let error = error.as_str().expect("the reason is shown");
        assert!(wanted.iter().all(|&wanted| error.contains(wanted)), "{error}");
        for field in ["pools", "revision", "routes_digest"] {
            let without_load = |status: &serde_json::Value| status[field].to_string();
            assert_eq!(without_load(&now), without_load(&before), "{field}");
        }
        assert_eq!(get(serve.data, "/x").status, 404);
        // The operator's command is told the same, and says so by its exit status.
        let data_dir = serve.data_dir().display().to_string();
        let said = ringway_says(&["reload", "--data-dir", &data_dir]);
        assert!(!said.success && said.stderr.contains(wanted[0]), "{}", said.stderr);
        // Back to where it was.
        serve.hang_up(&good);
        until_true("a good file is taken", || serve.metric("ringway_config_reload_success") == 1.0);
        assert!(serve.status()["reload_error"].is_null());
    };
    let file = serve.file().display().to_string();
    // `node` and `listen` are the file's first two lines; `weigth` stands in its seventh.
    let line = |needle: &str, text: &str| {
        let at = text.lines().position(|line| line.contains(needle)).expect("it is there") + 3;
        let column =
            text.lines().nth(at - 3).and_then(|line| line.find(needle)).expect("there") + 1;
        format!("{file}:{at}:{column}")
    };
    let misspelt = good.replacen("weight", "weigth", 1);
    refused_with(&misspelt, &[&line("weigth", &misspelt), "weight"]);
    let no_pool = good.replace("pool: p }", "pool: nowhere }");
    refused_with(&no_pool, &[&line("nowhere", &no_pool), "nowhere"]);
    let no_list = good.replace("    shards:\n", "    shards: [\n");
    refused_with(&no_list, &[&format!("{file}:")]);
}

#[test]
fn what_is_bound_at_the_start_cannot_be_reloaded() {
    let stores = [Store::start()];
    let good = pool(&stores, &[(1, 1)]);
    let serve = Serve::start(&good);
    let from = serve.process.stderr_lines();
    let text = std::fs::read_to_string(serve.file()).expect("the file");
    let moved = text.replace("data: \"127.0.0.1:0\"", "data: \"127.0.0.1:1\"");
    std::fs::write(serve.file(), moved).expect("written");
    serve.process.signal(Signal::HUP);
    serve.process.stderr_line("the reason is said", from, |line| {
        line.contains("`listen` cannot change while the node runs: restart it").then_some(())
    });
    until_true("it is counted", || serve.metric("ringway_config_reload_success") == 0.0);
    let data_dir = serve.data_dir().display().to_string();
    let said = ringway_says(&["reload", "--data-dir", &data_dir]);
    assert!(!said.success && said.stderr.contains("`listen`"), "{}", said.stderr);
    assert_eq!(get(serve.data, "/x").status, 404, "it goes on as before");
    serve.hang_up(&good);
    until_true("changed back", || serve.metric("ringway_config_reload_success") == 1.0);
}

#[test]
fn the_epoch_survives_a_restart_and_a_kill() {
    let stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let two = pool(&stores, &[(1, 1), (2, 1)]);
    let three = pool(&stores, &[(1, 1), (2, 1), (3, 1)]);
    let mut serve = Serve::start(&two);
    assert_eq!(serve.pool_status("p")["epoch"], 1);
    let digest = serve.pool_status("p")["digest"].clone();
    serve.hang_up(&three);
    until_true("the epoch has moved", || serve.pool_status("p")["epoch"] == 2);

    // kill -9, and the same file: the same epoch, not a first one.
    let mut serve = {
        serve.process.kill_9();
        Serve::start_as_written(serve.into_folder())
    };
    assert_eq!(serve.pool_status("p")["epoch"], 2);
    // Told to end, and another file: the change counts on.
    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    let serve = Serve::start_in(serve.into_folder(), &two);
    assert_eq!(serve.pool_status("p")["epoch"], 3);
    assert_eq!(serve.pool_status("p")["digest"], digest, "the ring is the first one again");
    // What moves no key moves no epoch: a shard's address is not what its keys hang on.
    let revision = serve.status()["revision"].as_u64().expect("a number");
    let address = stores[1].address.to_string();
    serve.hang_up(&two.replace(&address, &stores[2].address.to_string()));
    until_true("the revision has moved", || serve.status()["revision"].as_u64() > Some(revision));
    assert_eq!(serve.pool_status("p")["epoch"], 3);
}

#[test]
fn told_to_end_a_node_answers_what_it_began_and_takes_nothing_new() {
    let (tell, told) = mpsc::sync_channel(1);
    let (arrive, arrived) = mpsc::sync_channel(1);
    let told = std::sync::Mutex::new(told);
    let backend = Backend::start(move |connection| {
        while let Some(request) = connection.request() {
            if request.asked() == "GET /slow" {
                arrive.send(()).expect("the test waits");
                told.lock().expect("one request").recv().expect("the test tells");
            }
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        }
    });
    let mut serve = Serve::start(&format!(
        "drain_timeout: 15s\npools:\n  - name: p\n    health: {{ active: off }}\n    shards:\n      - \
         {{ id: s1, url: \"http://{}\" }}\nroutes:\n  - {{ name: all, pool: p }}\n",
        backend.address
    ));
    let mut idle = Client::connect(serve.data);
    assert!(!idle.ask("GET", "/a", "", b"").expect("an answer").closes());
    let mut busy = Client::connect(serve.data);
    busy.send(format!("GET /slow HTTP/1.1\r\nHost: {}\r\n\r\n", serve.data)).expect("sent");
    arrived.recv().expect("the request reached the shard");
    assert_eq!(get(serve.telemetry, "/readyz").status, 200);

    let begun = Instant::now();
    serve.process.signal(Signal::TERM);
    until_true("it is not ready any more", || get(serve.telemetry, "/readyz").status == 503);
    until_true("nobody listens any more", || Client::try_connect(serve.data).is_err());
    assert!(idle.is_closed_by_peer(), "an idle connection is closed");
    assert_eq!(get(serve.telemetry, "/livez").status, 200, "it lives and says so");
    assert_eq!(serve.status()["ready"], false);
    assert!(serve.process.is_running(), "it waits for the request in flight");

    tell.send(()).expect("the backend waits");
    let answer = busy.hear(false).expect("the request is answered");
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    assert!(answer.closes(), "the client is told that the connection ends");
    assert!(busy.is_closed_by_peer());
    assert_eq!(serve.process.ended().code(), Some(0));
    assert!(begun.elapsed().as_secs() < 15, "it does not wait longer than it must");
}

#[test]
fn what_does_not_end_in_time_is_cut() {
    let backend = Backend::start(|connection| {
        drop(connection.request());
        connection.until_closed();
    });
    let mut serve = Serve::start(&format!(
        "drain_timeout: 300ms\npools:\n  - name: p\n    health: {{ active: off }}\n    shards:\n      \
         - {{ id: s1, url: \"http://{}\" }}\nroutes:\n  - {{ name: all, pool: p }}\n",
        backend.address
    ));
    let mut busy = Client::connect(serve.data);
    busy.send(format!("GET /never HTTP/1.1\r\nHost: {}\r\n\r\n", serve.data)).expect("sent");
    until_true("the request reached the shard", || backend.requests().len() == 1);
    serve.process.signal(Signal::TERM);
    assert_eq!(serve.process.ended().code(), Some(0));
    assert!(busy.hear(false).is_err(), "no answer was made up");
}

#[test]
fn a_second_process_is_refused_clearly() {
    let stores = [Store::start()];
    let text = pool(&stores, &[(1, 1)]);
    let serve = Serve::start(&text);
    let refused = |file: &std::path::Path, wanted: &[&str]| {
        let said = run("serve", ringway().args(["serve", "-c"]).arg(file));
        assert!(!said.success);
        for wanted in wanted {
            assert!(said.stderr.contains(wanted), "`{wanted}` is missing in: {}", said.stderr);
        }
    };
    // The same folder.
    let holder = serve.process.id().to_string();
    let data_dir = serve.data_dir().display().to_string();
    refused(&serve.file(), &[&data_dir, &holder]);
    // The same port.
    let folder = tempfile::tempdir().expect("a folder");
    let data = serve.data.to_string();
    let written = std::fs::read_to_string(serve.file()).expect("the file");
    let other = written
        .replace(&data_dir, &folder.path().join("node").display().to_string())
        .replace("data: \"127.0.0.1:0\"", &format!("data: \"{data}\""));
    let file = folder.path().join("ringway.yaml");
    std::fs::write(&file, other).expect("written");
    refused(&file, &[&data, "another process listens there"]);
    // The first was not disturbed, and a store's folder is held as well.
    assert_eq!(put(serve.data, "/x", b"y").status, 201);
    let said = run(
        "store",
        ringway().args(["store", "--listen", "127.0.0.1:0", "--data"]).arg(stores[0].folder()),
    );
    assert!(
        !said.success && said.stderr.contains(&stores[0].process.id().to_string()),
        "{}",
        said.stderr
    );
    until("the first is still ready", || {
        (get(serve.telemetry, "/readyz").status == 200).then_some(())
    });
}

/// Supervisors send two. Nobody was asking anything, and each node said that requests were cut.
#[test]
fn a_node_that_is_told_twice_to_end_cuts_nothing_that_is_not_there() {
    let store = Store::start();
    let mut serve = Serve::start(&format!("drain_delay: 1h\n{}", pool(&[store], &[(1, 1)])));
    serve.process.signal(Signal::TERM);
    serve.process.stderr_line("it drains", 0, |line| line.contains("draining").then_some(()));
    serve.process.signal(Signal::TERM);
    assert!(serve.process.ended().success());
    let said = serve.process.stderr();
    assert!(said.contains("told a second time") && !said.contains(" cut"), "{said}");
}
