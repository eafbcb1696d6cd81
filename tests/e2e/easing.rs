//! Shards that work, and others are asked all the same: because they bear too much, are back since a
//! short time, are silent, or do not have yet what they own.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use crate::support::backend::Backend;
use crate::support::http::{Client, get, put};
use crate::support::ringway::{Serve, Store, locate, shards};
use crate::support::wait::until_true;

/// A shard that answers when it is told to, one request for each word.
struct Patient {
    backend: Backend,
    go: SyncSender<()>,
}

impl Patient {
    fn start() -> Self {
        let (go, told): (_, Receiver<()>) = sync_channel(100);
        let told = Arc::new(Mutex::new(told));
        let backend = Backend::start(move |connection| {
            while connection.request().is_some() {
                told.lock().expect("no panic").recv().expect("the test goes on");
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        Self { backend, go }
    }

    fn asked(&self) -> usize {
        self.backend.requests().len()
    }
}

/// All clients want one key, and no shard has answered yet: the owner gets its bound and no more,
/// what is above it goes along the ring. Each request is sent when the one before has arrived, so
/// which one goes where is certain.
#[test]
fn a_hot_key_is_served_by_as_many_shards_as_it_needs() {
    let patient: Vec<Patient> = (0..4).map(|_| Patient::start()).collect();
    let addresses: Vec<_> = patient.iter().map(|shard| shard.backend.address).collect();
    let serve = Serve::start(&format!(
        "pools:\n  - name: p\n    hash_balance_factor: 150\n    health: {{ active: off }}\n{}\
         routes:\n  - {{ name: all, pool: p }}\n",
        shards(&addresses)
    ));
    let located = locate(&serve.file(), &["/hot".to_owned()]).remove(0);
    let order: Vec<usize> = [located.owner]
        .iter()
        .chain(&located.next)
        .map(|shard| shard[1..].parse::<usize>().expect("a number") - 1)
        .collect();
    assert_eq!(order.len(), 4);

    let mut expected = [0; 4];
    let mut clients = Vec::new();
    for number in 1..=20_usize {
        // 150 % of a quarter of all that is in flight, this one counted, rounded up.
        let bound = (150 * number).div_ceil(4 * 100);
        let taker = order.iter().find(|&&at| expected[at] < bound).expect("somebody is below");
        expected[*taker] += 1;
        let mut client = Client::connect(serve.data);
        client.send("GET /hot HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        clients.push(client);
        until_true("the request arrives", || {
            patient.iter().map(Patient::asked).sum::<usize>() == number
        });
        let loads: Vec<usize> = patient.iter().map(Patient::asked).collect();
        assert_eq!(loads, expected, "after {number}");
    }
    assert_eq!(expected.iter().max(), Some(&8), "{expected:?}");
    let spilled = 20 - expected[order[0]];
    assert_eq!(serve.count("ringway_lb_balance_spilled_total{pool=\"p\"}"), spilled);
    // A write that may be nowhere else goes to the owner, whatever that bears.
    let mut writer = Client::connect(serve.data);
    writer.send("PUT /hot HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").expect("sent");
    until_true("the write arrives", || patient[order[0]].asked() == expected[order[0]] + 1);

    for shard in &patient {
        (0..shard.asked()).for_each(|_| shard.go.send(()).expect("the shard goes on"));
    }
    for client in clients.iter_mut().chain([&mut writer]) {
        assert_eq!(client.hear(false).expect("an answer").status, 200);
    }
    // Once nothing is in flight any more, the owner answers alone.
    until_true("nothing is in flight", || {
        (1..=4).all(|shard| serve.shard_status("p", &format!("s{shard}"))["in_flight"] == 0)
    });
    patient[order[0]].go.send(()).expect("the shard goes on");
    assert_eq!(get(serve.data, "/hot").shard(), format!("s{}", order[0] + 1));
}

/// The clock is not this test's: it sees that the first read goes by, that what the shard has got
/// again stays with it, and that in the end it has everything.
#[test]
fn a_shard_that_is_back_gets_its_keys_again_bit_by_bit() {
    let mut stores: Vec<Store> = (0..3).map(|_| Store::start()).collect();
    let addresses: Vec<_> = stores.iter().map(|store| store.address).collect();
    let serve = Serve::start(&format!(
        "pools:\n  - name: p\n    health:\n      slow_start: 2s\n      passive: off\n      active: {{ path: \
         /_ringway/health, interval: 200ms, timeout: 10s }}\n{}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&addresses)
    ));
    let paths: Vec<String> = (0..60).map(|number| format!("/k{number}")).collect();
    let owners = locate(&serve.file(), &paths);
    let of_s1 = |(path, located): (&String, _)| {
        let located: &crate::support::ringway::Located = located;
        (located.owner == "s1").then(|| path.clone())
    };
    let keys: Vec<String> = paths.iter().zip(&owners).filter_map(of_s1).collect();
    assert!(keys.len() >= 5, "{keys:?}");

    stores[0].process.kill_9();
    serve.until_shard_is("p", "s1", false);
    stores[0].start_again();
    serve.until_shard_is("p", "s1", true);
    assert_eq!(serve.shard_status("p", "s1")["slow_start_percent"], 0);
    // Writes that may be nowhere else do not wait.
    assert_eq!(put(serve.data, &keys[0], b"x").shard(), "s1");
    assert_ne!(get(serve.data, &keys[0]).shard(), "s1", "the time begins with the first read");
    let mut back: BTreeSet<&String> = BTreeSet::new();
    until_true("the shard has all of its keys again", || {
        for key in &keys {
            match get(serve.data, key).shard() == "s1" {
                true => drop(back.insert(key)),
                false => assert!(!back.contains(key), "what is back stays back"),
            }
        }
        back.len() == keys.len()
    });
    assert!(serve.count("ringway_lb_slow_start_spilled_total{pool=\"p\"}") >= 1);
    until_true("the time is over", || {
        get(serve.data, &keys[0]);
        serve.shard_status("p", "s1")["slow_start_percent"].is_null()
    });
    for other in ["s2", "s3"] {
        assert!(serve.shard_status("p", other)["slow_start_percent"].is_null());
    }
}

/// The shard that owns the key takes the request and never answers. The next one does, and the
/// first sees its connection reset.
#[test]
fn a_second_shard_answers_for_one_that_is_silent() {
    let (cut, was_cut) = sync_channel(100);
    let silent = Backend::start(move |connection| {
        while connection.request().is_some() {
            connection.until_closed();
            cut.send(()).expect("the test waits");
        }
    });
    let next = Backend::answering("next");
    let serve = Serve::start(&format!(
        "pools:\n  - name: p\n    health: {{ active: off }}\n    immutable: true\n    \
         retry: {{ hedge_after: 20ms }}\n    \
         timeouts: {{ response_head: 1h }}\n{}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&[silent.address, next.address])
    ));
    let paths: Vec<String> = (0..40).map(|number| format!("/k{number}")).collect();
    let owners = locate(&serve.file(), &paths);
    let mut owned = paths.iter().zip(&owners).filter(|(_, located)| located.owner == "s1");
    let (path, _) = owned.next().expect("a shard owns some of 40 keys");
    let (mut client, mut asked, mut cuts) = (Client::connect(serve.data), 0, 0);
    // On a machine that is busy enough a request may be cut before it is sent, so it is asked again.
    until_true("the silent shard is cut off", || {
        let answer = client.ask("GET", path, "", b"").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str(), answer.shard()), (200, "next", "s2"));
        asked += 1;
        cuts += was_cut.try_iter().count();
        cuts >= 3
    });
    assert_eq!(next.requests().len(), asked);
    assert!(silent.requests().len() <= asked);
    let hedges =
        |what: &str| serve.count(&format!("ringway_upstream_rq_hedge{what}_total{{pool=\"p\"}}"));
    assert_eq!((hedges(""), hedges("_won")), (asked, asked));
}

/// A second shard joins and owns half of the keys, which it does not have; then it goes, the first
/// takes its writes, and it comes back.
#[test]
fn what_a_shard_does_not_have_yet_is_found_where_it_was() {
    let mut stores: Vec<Store> = (0..2).map(|_| Store::start()).collect();
    let file = |count: usize| {
        let addresses: Vec<_> = stores[..count].iter().map(|store| store.address).collect();
        format!(
            "pools:\n  - name: p\n    immutable: true\n    warm_up: 1h\n    health: {{ passive: off, \
             panic_percent: 100, active: {{ path: /_ringway/health, interval: 200ms, timeout: 10s \
             }} }}\n{}routes:\n  - {{ name: all, pool: p }}\n",
            shards(&addresses)
        )
    };
    let serve = Serve::start(&file(1));
    let paths: Vec<String> = (0..30).map(|number| format!("/k{number}")).collect();
    for path in &paths {
        assert_eq!(put(serve.data, path, path.as_bytes()).status, 201);
    }
    let counts = || {
        let count =
            |what: &str| serve.count(&format!("ringway_lb_warm_up{what}_total{{pool=\"p\"}}"));
        (count(""), count("_found"))
    };
    assert_eq!(get(serve.data, "/nowhere").status, 404);
    assert_eq!(counts(), (0, 0), "nothing has changed");

    serve.hang_up(&file(2));
    until_true("the second shard is there", || {
        serve.pool_status("p")["shards"].as_array().is_some_and(|shards| shards.len() == 2)
    });
    serve.until_shard_is("p", "s2", true);
    let owners = locate(&serve.file(), &paths);
    let moved: Vec<&String> = paths
        .iter()
        .zip(&owners)
        .filter(|(_, now)| now.owner == "s2")
        .map(|(path, _)| path)
        .collect();
    assert!((5..25).contains(&moved.len()), "{moved:?}");
    for path in &paths {
        let answer = get(serve.data, path);
        assert_eq!((answer.status, answer.text(), answer.shard()), (200, path.clone(), "s1"));
    }
    assert_eq!(counts(), (moved.len(), moved.len()));
    let mut client = Client::connect(serve.data);
    let head = client.ask("HEAD", moved[0], "", b"").expect("an answer");
    assert_eq!((head.status, head.shard()), (200, "s1"));
    // What nobody has, the owner says; what is written, the owner has.
    let nowhere: Vec<String> = (0..30).map(|number| format!("/no{number}")).collect();
    for (path, located) in nowhere.iter().zip(locate(&serve.file(), &nowhere)) {
        let answer = get(serve.data, path);
        assert_eq!((answer.status, answer.shard()), (404, located.owner.as_str()));
    }
    assert_eq!(put(serve.data, moved[1], b"anew").shard(), "s2");
    assert_eq!(get(serve.data, moved[1]).shard(), "s2");

    stores[1].process.kill_9();
    serve.until_shard_is("p", "s2", false);
    let of_s2 =
        nowhere.iter().zip(locate(&serve.file(), &nowhere)).find(|(_, now)| now.owner == "s2");
    let (path, _) = of_s2.expect("a key of the second shard");
    assert_eq!(put(serve.data, path, b"meanwhile").shard(), "s1");
    stores[1].start_again();
    serve.until_shard_is("p", "s2", true);
    let answer = get(serve.data, path);
    assert_eq!((answer.status, answer.text().as_str(), answer.shard()), (200, "meanwhile", "s1"));
}
