//! Probes against servers made for each test, on ports that the system gives.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::Encoder as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use super::Probers;
use super::ask::{Names, Question, ask};
use super::watch::{first_wait, varied};
use crate::ids::{BaseUrl, PoolName, ShardId};
use crate::net::tls::ShardTls;
use crate::protocol::health::{
    ActiveSettings, Class, HealthSettings, Observation, Outcome, ProbeFailure, ProbeMethod,
    ProbePath, Seat, SharedHealth, Standing, StatusRange,
};

/// What a test's server does with a connection on which it has read a request.
#[derive(Debug, Clone, Copy)]
enum Deed {
    /// Sends these bytes and closes.
    Say(&'static str),
    /// Sends these bytes and then nothing, for ever.
    Stall(&'static str),
    /// Sends these bytes once and then these again and again, for as long as they are taken.
    Flood(&'static str, &'static str),
}

const OK: Deed = Deed::Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
const UNAVAILABLE: Deed =
    Deed::Say("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
const CLOSE: Deed = Deed::Say("");
const HANG: Deed = Deed::Stall("");

struct Server {
    address: SocketAddr,
    deed: Arc<Mutex<Deed>>,
    seen: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    /// Connections on which the server noticed that the prober had left.
    left: AtomicU64,
    /// Bytes that a flood got rid of.
    flooded: AtomicU64,
}

impl Server {
    async fn start(deed: Deed) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let deed = Arc::new(Mutex::new(deed));
        let seen = Arc::new(Seen::default());
        let task = tokio::spawn({
            let (deed, seen) = (Arc::clone(&deed), Arc::clone(&seen));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&deed), Arc::clone(&seen)));
                }
            }
        });
        Self { address, deed, seen, task }
    }

    fn now(&self, deed: Deed) {
        *self.deed.lock().expect("no panic") = deed;
    }

    fn url(&self) -> BaseUrl {
        BaseUrl::parse(&format!("http://{}", self.address)).expect("a URL")
    }
}

async fn serve(mut stream: TcpStream, deed: Arc<Mutex<Deed>>, seen: Arc<Seen>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    seen.requests.lock().expect("no panic").push(String::from_utf8_lossy(&request).into_owned());
    let deed = *deed.lock().expect("no panic");
    let (Deed::Say(first) | Deed::Stall(first) | Deed::Flood(first, _)) = deed;
    if stream.write_all(first.as_bytes()).await.is_err() {
        return;
    }
    match deed {
        Deed::Say(_) => {}
        Deed::Stall(_) => {
            let _ = stream.read_u8().await;
            seen.left.fetch_add(1, Relaxed);
        }
        Deed::Flood(_, again) => {
            while stream.write_all(again.as_bytes()).await.is_ok() {
                seen.flooded.fetch_add(again.len() as u64, Relaxed);
            }
            seen.left.fetch_add(1, Relaxed);
        }
    }
}

/// Waits until `condition` holds. The bound is for a test that would otherwise never end; no
/// test depends on how long anything takes.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn quick() -> ActiveSettings {
    ActiveSettings {
        interval: Duration::from_millis(10),
        timeout: Duration::from_secs(20),
        ..ActiveSettings::default()
    }
}

fn settings(active: ActiveSettings) -> HealthSettings {
    HealthSettings { active: Some(active), ..HealthSettings::default() }
}

fn seat(id: &str, url: BaseUrl) -> Seat {
    Seat { id: ShardId::new(id).expect("a name"), url, maint: false }
}

fn pool(name: &str) -> PoolName {
    PoolName::new(name).expect("a name")
}

/// For shards that are reached in the clear.
fn clear() -> Arc<ShardTls> {
    Arc::default()
}

fn probers() -> Probers {
    Probers::new(Handle::current(), Instant::now(), 7)
}

fn exported(probers: &Probers) -> String {
    let mut text = Vec::new();
    prometheus::TextEncoder::new().encode(&probers.export(), &mut text).expect("a vector");
    String::from_utf8(text).expect("text")
}

fn series(probers: &Probers, name: &str) -> f64 {
    let text = exported(probers);
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok())
        .unwrap_or_else(|| panic!("{name} is missing in\n{text}"))
}

async fn asked(url: &BaseUrl, active: &ActiveSettings) -> Result<(), ProbeFailure> {
    let question = Question::new(url, active, &clear());
    ask(&question, &mut Names::default()).await.map_err(|error| error.failure)
}

#[tokio::test]
async fn what_an_answer_is_worth() {
    let server = Server::start(OK).await;
    let brief = ActiveSettings { timeout: Duration::from_secs(1), ..quick() };
    let broken = Err(ProbeFailure::Broken);
    for (deed, result) in [
        (OK, Ok(())),
        (Deed::Say("HTTP/1.1 204 No Content\r\n\r\n"), Ok(())),
        (Deed::Say("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /x\r\n\r\n"), Ok(())),
        (Deed::Say("HTTP/1.0 200 OK\r\n\r\nuntil the end"), Ok(())),
        (Deed::Say("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), Ok(())),
        (UNAVAILABLE, Err(ProbeFailure::Status(503))),
        (Deed::Stall("HTTP/1.1 404 Not Found\r\n"), Err(ProbeFailure::AnswerTimeout)),
        (HANG, Err(ProbeFailure::AnswerTimeout)),
        (
            Deed::Stall("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            Err(ProbeFailure::AnswerTimeout),
        ),
        (CLOSE, broken),
        (Deed::Say("HTTP/1.1 200 OK\r\n"), broken),
        (Deed::Say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), broken),
        (Deed::Say("SSH-2.0-OpenSSH_9.6\r\n"), broken),
        (Deed::Say("\0\u{1}\u{2}garbage\r\n\r\n"), broken),
        (Deed::Say("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), broken),
    ] {
        server.now(deed);
        // A probe that is to time out needs a short timeout, and any other must not be hurried.
        let patience = if result == Err(ProbeFailure::AnswerTimeout) { &brief } else { &quick() };
        assert_eq!(asked(&server.url(), patience).await, result, "{deed:?}");
    }
}

#[tokio::test]
async fn a_huge_head_or_an_endless_one_is_not_read_to_its_end() {
    let flood = Deed::Flood("HTTP/1.1 200 OK\r\n", "X-Filler: 0123456789012345678901234567890\r\n");
    let server = Server::start(flood).await;
    assert_eq!(asked(&server.url(), &quick()).await, Err(ProbeFailure::Broken));
    let left = || server.seen.left.load(Relaxed) == 1;
    until("the server notices that the prober has left", left).await;
    // What the prober did not read lies in the kernel's buffers, a few MiB at most.
    let flooded = server.seen.flooded.load(Relaxed);
    assert!(flooded < 64 << 20, "{flooded} bytes of head were taken");
}

#[tokio::test]
async fn of_an_endless_body_the_beginning_is_enough() {
    let flood = Deed::Flood("HTTP/1.1 200 OK\r\n\r\n", "a long body, and then some more of it\n");
    let server = Server::start(flood).await;
    assert_eq!(asked(&server.url(), &quick()).await, Ok(()));
    until("the server notices", || server.seen.left.load(Relaxed) == 1).await;
}

#[tokio::test]
async fn the_request_says_what_was_set() {
    let server =
        Server::start(Deed::Say("HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\n")).await;
    let active = ActiveSettings {
        method: ProbeMethod::Head,
        path: ProbePath::new("/healthz?deep=1").expect("a path"),
        expect: vec![StatusRange::new(200, 200).expect("a range"), "403".parse().expect("one")],
        ..quick()
    };
    let url = BaseUrl::parse(&format!("{}/bucket", server.url())).expect("a URL");
    // A HEAD answer has a length and no body: waiting for one would time out.
    assert_eq!(asked(&url, &active).await, Ok(()));
    let requests = server.seen.requests.lock().expect("no panic");
    let mut lines = requests[0].split("\r\n");
    assert_eq!(lines.next(), Some("HEAD /bucket/healthz?deep=1 HTTP/1.1"));
    let fields: BTreeSet<_> =
        lines.filter(|line| !line.is_empty()).map(str::to_lowercase).collect();
    let host = format!("host: {}", server.address);
    for field in [host.as_str(), "connection: close"] {
        assert!(fields.contains(field), "no `{field}` in {fields:?}");
    }
    assert!(fields.iter().any(|field| field.starts_with("user-agent: ringway/")));
}

#[tokio::test]
async fn names_are_looked_up_and_those_that_are_not_there_are_said_so() {
    let server = Server::start(OK).await;
    let url = |host: &str| {
        BaseUrl::parse(&format!("http://{host}:{}", server.address.port())).expect("a URL")
    };
    assert_eq!(asked(&url("localhost"), &quick()).await, Ok(()));
    // `.invalid` never has an address (RFC 6761); whether the resolver says so or says nothing
    // depends on the machine, and comes to the same.
    let brief = ActiveSettings { timeout: Duration::from_millis(500), ..quick() };
    assert_eq!(asked(&url("shard.invalid"), &brief).await, Err(ProbeFailure::Lookup));
}

#[tokio::test]
async fn a_shard_goes_down_with_its_server_and_comes_back_with_it() {
    let server = Server::start(OK).await;
    let health = Arc::new(SharedHealth::new(settings(quick()), vec![seat("s1", server.url())]));
    let mut probers = probers();
    probers.follow([(&pool("p"), &health, &clear())]);

    let standing = || health.views()[0].read.standing;
    let enough = || server.seen.requests.lock().expect("no panic").len() >= 3;
    until("three probes", enough).await;
    assert_eq!(standing(), Standing::Up);
    for sickness in [CLOSE, UNAVAILABLE, Deed::Say("garbage\r\n\r\n")] {
        server.now(sickness);
        until("down", || standing() == Standing::Down).await;
        assert!(!health.usable(0, Class::Read) && !health.usable(0, Class::Write));
        server.now(OK);
        until("up", || standing() == Standing::Up).await;
    }

    // The listener is gone: refused, which only a new connection finds out.
    server.task.abort();
    until("down", || standing() == Standing::Down).await;
    let why = health.views()[0].read.why.expect("a reason");
    assert_eq!(why.to_string(), "3 probes in a row failed (last: no connection)");

    let count = |name: &str| {
        series(&probers, &format!("ringway_health_check_{name}_total{{pool=\"p\",shard=\"s1\"}}"))
    };
    assert!(count("attempt") >= 3.0 + 3.0 * 5.0 + 3.0);
    assert!(count("success") >= 3.0 + 3.0 * 2.0);
    assert!(count("failure") >= 4.0 * 3.0);
    // Three of the sicknesses gave no answer to judge; 503 did.
    assert!(count("network_failure") >= 3.0 * 3.0);
    assert!(count("failure") >= count("network_failure") + 3.0);
    for (name, value) in [
        ("ringway_membership_size{pool=\"p\"}", 1.0),
        ("ringway_membership_healthy{pool=\"p\"}", 0.0),
        ("ringway_membership_excluded{pool=\"p\"}", 0.0),
        ("ringway_shard_healthy{pool=\"p\",shard=\"s1\",class=\"write\"}", 0.0),
    ] {
        assert_eq!(series(&probers, name), value, "{name}");
    }
}

#[tokio::test]
async fn one_slow_shard_does_not_delay_another() {
    let (slow, sound) = (Server::start(HANG).await, Server::start(OK).await);
    let seats = vec![seat("slow", slow.url()), seat("sound", sound.url())];
    let health = Arc::new(SharedHealth::new(settings(quick()), seats));
    let mut probers = probers();
    probers.follow([(&pool("p"), &health, &clear())]);
    // The slow one's probe takes 20 s; the test would not wait for two of them.
    let probed = |server: &Server| server.seen.requests.lock().expect("no panic").len();
    until("many probes of the sound one", || probed(&sound) >= 20).await;
    assert!(probed(&slow) <= 1, "never two probes of one shard at once");
}

#[tokio::test]
async fn stopping_cuts_a_probe_off() {
    let server = Server::start(HANG).await;
    let health = Arc::new(SharedHealth::new(settings(quick()), vec![seat("s1", server.url())]));
    let mut probers = probers();
    probers.follow([(&pool("p"), &health, &clear())]);
    until("a probe", || !server.seen.requests.lock().expect("no panic").is_empty()).await;
    drop(probers);
    // Long before its 20 s are over the connection is closed and nobody holds the health.
    until("the probe's end", || server.seen.left.load(Relaxed) == 1).await;
    until("nobody holds it", || Arc::strong_count(&health) == 1).await;
}

#[tokio::test]
async fn a_reload_keeps_what_stays_and_drops_what_goes() {
    let server = Server::start(OK).await;
    let seats = vec![seat("s1", server.url()), seat("s2", server.url())];
    let before = Arc::new(SharedHealth::new(settings(quick()), seats));
    let mut probers = probers();
    probers.follow([(&pool("p"), &before, &clear())]);
    let attempts = |probers: &Probers, shard: &str| {
        let name = "ringway_health_check_attempt_total";
        series(probers, &format!("{name}{{pool=\"p\",shard=\"{shard}\"}}"))
    };
    until("probes of both", || attempts(&probers, "s1") >= 3.0 && attempts(&probers, "s2") >= 3.0)
        .await;

    // The same health: nothing begins anew.
    probers.follow([(&pool("p"), &before, &clear())]);

    // s1 goes, s3 comes: s2 has its count, s3 none, and s1 no series.
    let s2 = attempts(&probers, "s2");
    let seats = vec![seat("s2", server.url()), seat("s3", server.url())];
    let after = SharedHealth::renewed(&before, settings(quick()), seats);
    probers.follow([(&pool("p"), &after, &clear()), (&pool("q"), &before, &clear())]);
    assert!(attempts(&probers, "s2") >= s2);
    assert!(!exported(&probers).contains("pool=\"p\",shard=\"s1\""));
    until("probes of the new one", || attempts(&probers, "s3") >= 1.0).await;

    // No pool, no series.
    probers.follow([]);
    assert_eq!(exported(&probers), "");
    until("nobody holds it", || Arc::strong_count(&after) == 1).await;
}

/// Ejections end although no request comes: the watch lets time pass. Each change is in the log.
#[tokio::test]
async fn ejections_end_by_themselves_and_every_change_is_logged_and_counted() {
    // For all threads, and each to itself: a subscriber of this thread alone would miss lines that
    // another test writes first, since whether a line is wanted is asked once, of that thread.
    thread_local! {
        static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    struct Log;
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let subscriber = tracing_subscriber::fmt()
        .with_writer(|| Log)
        .with_ansi(false)
        .with_env_filter("ringway::background::probe=info")
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("no other test has one");

    let server = Server::start(OK).await;
    let mut settings = HealthSettings { active: None, ..HealthSettings::default() };
    let passive = settings.passive.as_mut().expect("requests are evidence by default");
    passive.base_ejection_time = Duration::from_millis(50);
    let seats = (0..4).map(|ix| seat(&format!("s{ix}"), server.url())).collect();
    let health = Arc::new(SharedHealth::new(settings, seats));
    let mut probers = probers();
    probers.follow([(&pool("p"), &health, &clear())]);
    for shard in [1, 2, 3] {
        for key in 0..3 {
            let outcome = Outcome::ConnectFailed;
            let key = crate::ids::Token(key);
            let seen = Observation { class: Class::Read, key, begun_ms: 0, outcome };
            health.observe(0, shard, &seen);
        }
    }
    assert!(!health.usable(1, Class::Write), "connections are nobody's class");
    until("the return", || health.usable(1, Class::Read) && health.usable(2, Class::Write)).await;

    let shown = || LOG.with_borrow(|log| String::from_utf8(log.clone()).expect("text"));
    until("the log", || shown().matches("tried again").count() == 2).await;
    let lines = shown();
    for line in [
        "WARN ringway::background::probe::watch: reads and writes ejected for 0.05 s (ejection 1): 3 connections in a row could not be made pool=p shard=s1",
        "WARN ringway::background::probe::watch: reads and writes not ejected, max_ejection_percent is reached: 3 connections in a row could not be made pool=p shard=s3",
        "INFO ringway::background::probe::watch: reads and writes tried again: the ejection is over pool=p shard=s2",
    ] {
        assert!(lines.lines().any(|found| found.contains(line)), "`{line}` is missing in\n{lines}");
    }
    for (name, shard) in [("enforced", "s1"), ("enforced", "s2"), ("overflow", "s3")] {
        let name = format!("ringway_ejections_{name}_total{{pool=\"p\",shard=\"{shard}\"}}");
        assert_eq!(series(&probers, &name), 1.0, "{name}");
    }
    assert_eq!(series(&probers, "ringway_ejections_active{pool=\"p\"}"), 0.0);
}

#[test]
fn the_jitter_stays_within_its_bounds_and_is_a_seeds_own() {
    let interval = Duration::from_secs(2);
    let drawn = |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let first = first_wait(interval, &mut rng);
        assert!(first < interval);
        let waits: Vec<_> = (0..1000).map(|_| varied(interval, &mut rng)).collect();
        assert!(waits.iter().all(|wait| (1800..=2200).contains(&wait.as_millis())));
        let (least, most) = (waits.iter().min().expect("some"), waits.iter().max().expect("some"));
        assert!(*most > *least + Duration::from_millis(350), "hardly varied");
        (first, waits)
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
}
