//! What is repeated, and where? The table of `run`, cell by cell, over shards that follow a script.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::outcome::{Failure, Note};
use super::run::run;
use super::seam::{About, Answer, Body, BodyError, ClientGone, Part, Request};
use super::view::{Pool, PoolSettings, View};
use super::worker::Worker;
use crate::cluster::{
    AdminState, ClusterState, Command, Kind, Mode, Placement, PoolSpec, ShardSpec, Topology,
};
use crate::drivers::http::Outbound;
use crate::ids::{BaseUrl, PoolName, ShardId, Token, Weight, Zone};
use crate::net::http1::framing::Framing;
use crate::net::http1::response::ResponseHead;
use crate::net::timers::TICK_MS;
use crate::protocol::health::{Class, HealthSettings};

/// What a shard does with a request that has come.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// Says this, and keeps the connection.
    Says(&'static str),
    /// Closes the connection.
    Breaks,
    /// Says this, and closes the connection.
    SaysAndBreaks(&'static str),
    /// Says this, and nothing more.
    SaysAndWaits(&'static str),
    /// Nothing.
    Waits,
    /// Says this when another shard has spoken, which [`Self::SaysAndTells`] does.
    SaysAfter(&'static str, &'static Notify),
    /// Says this, and tells that it has.
    SaysAndTells(&'static str, &'static Notify),
    /// Nothing, and tells when the connection has been reset.
    WaitsForReset(&'static Notify),
}

mod second;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
/// The head of an answer of two bytes.
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no";
const MISSING: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
const CONDITION_FAILED: &str = "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n";
const BEYOND_ITS_END: &str =
    "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */2\r\nContent-Length: 0\r\n\r\n";
const GARBAGE: &str = "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n";

/// A shard that carries out its script, one step a request; at its end it closes its listener.
struct Shard {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Shard {
    async fn start(script: &'static [Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        // Without a step nobody listens from the start.
        if !script.is_empty() {
            tokio::spawn(async move { follow(listener, script, &counted).await });
        }
        Self { url, asked }
    }
}

async fn follow(listener: TcpListener, script: &[Does], asked: &AtomicUsize) {
    let (mut open, mut listener): (Vec<TcpStream>, _) = (Vec::new(), Some(listener));
    for (step, does) in script.iter().enumerate() {
        let mut stream = match open.pop() {
            Some(stream) => stream,
            None => {
                listener
                    .as_ref()
                    .expect("open until the last step")
                    .accept()
                    .await
                    .expect("a connection")
                    .0
            }
        };
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.expect("a request") > 0, "a request");
        }
        asked.fetch_add(1, Ordering::Relaxed);
        if step + 1 == script.len() {
            listener = None;
        }
        match does {
            Does::Says(answer) => {
                stream.write_all(answer.as_bytes()).await.expect("taken");
                open.push(stream);
            }
            Does::Breaks => drop(stream),
            Does::SaysAndBreaks(part) => stream.write_all(part.as_bytes()).await.expect("taken"),
            Does::SaysAndWaits(part) => {
                stream.write_all(part.as_bytes()).await.expect("taken");
                std::future::pending::<()>().await;
            }
            Does::Waits => std::future::pending().await,
            Does::SaysAfter(answer, told) => {
                told.notified().await;
                stream.write_all(answer.as_bytes()).await.expect("taken");
                open.push(stream);
            }
            Does::SaysAndTells(answer, told) => {
                stream.write_all(answer.as_bytes()).await.expect("taken");
                told.notify_one();
                open.push(stream);
            }
            Does::WaitsForReset(told) => {
                let error = stream.read(&mut [0]).await.expect_err("cut, not closed");
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                told.notify_one();
            }
        }
    }
    // Open connections stay open.
    std::future::pending::<()>().await;
}

struct NoBody;

impl Body for NoBody {
    async fn next(&mut self) -> Result<Part<'_>, BodyError> {
        Ok(Part::End(b""))
    }
    async fn ask(&mut self) -> Result<(), BodyError> {
        Ok(())
    }
    fn has_more_here(&self) -> bool {
        false
    }
    fn is_complete(&self) -> bool {
        true
    }
}

#[derive(Default)]
struct Told {
    interims: Vec<u16>,
    status: u16,
    ended: bool,
}

impl Answer for Told {
    async fn interim(&mut self, head: &ResponseHead, _: &[u8]) -> Result<(), ClientGone> {
        assert_eq!((self.status, self.ended), (0, false), "before the answer");
        self.interims.push(head.status());
        Ok(())
    }
    fn head(&mut self, head: &ResponseHead, _: &[u8], _: Framing, _: &About<'_>, _: bool) {
        self.status = head.status();
    }
    async fn flush(&mut self) -> Result<(), ClientGone> {
        Ok(())
    }
    async fn data(&mut self, _: &[u8]) -> Result<(), ClientGone> {
        Ok(())
    }
    async fn end(&mut self, _: &[u8]) -> Result<(), ClientGone> {
        self.ended = true;
        Ok(())
    }
}

fn view(owner: &Shard, next: &Shard, of: (bool, Mode), settings: &PoolSettings) -> (View, Token) {
    let topology = topology(&[("next", next), ("owner", owner)], of);
    let ring = &topology.pools()[0].ring;
    let owned = |token: &Token| {
        ring.members()[usize::from(ring.replicas(*token)[0].0)].id.as_str() == "owner"
    };
    let token = (0..u64::MAX).map(|n| ring.token(&n.to_le_bytes())).find(owned).expect("a key");
    (View::build(topology, None, 1, |_| Arc::new(settings.clone())), token)
}

fn topology(shards: &[(&str, &Shard)], (immutable, mode): (bool, Mode)) -> Arc<Topology> {
    let spec = |(name, shard): &(&str, &Shard)| {
        let spec = ShardSpec {
            url: BaseUrl::parse(&shard.url).expect("a URL"),
            zone: Zone::default(),
            weight: Weight::ONE,
            state: AdminState::Ready,
            ketama_name: None,
        };
        (ShardId::new(name).expect("a name"), spec)
    };
    let command = Command::CreatePool {
        pool: PoolName::new("p").expect("a name"),
        spec: PoolSpec {
            kind: Kind::Cache,
            placement: Placement::Ring,
            hash_seed: "seed".to_owned(),
            vnodes: 16,
            immutable,
            mode,
            kept: None,
        },
        shards: shards.iter().map(spec).collect(),
    };
    let mut state = ClusterState::default();
    state.apply_command(&command).expect("a pool");
    Arc::new(Topology::build(&state, None).expect("a topology"))
}

/// How long a silence is borne where a test waits for its end: long enough for whoever is not silent, on a
/// machine that does much else.
const SILENCE: Duration = Duration::from_secs(1);

fn settings() -> PoolSettings {
    let health = HealthSettings { active: None, passive: None, ..HealthSettings::default() };
    let mut settings = PoolSettings { health, ..PoolSettings::default() };
    // Nobody is given up who answers, however busy the machine is.
    settings.timeouts.response_head = Duration::from_secs(60);
    settings
}

/// Puts one request, the clock running.
async fn put(
    worker: &Worker,
    pool: &Pool,
    token: Token,
    method: &str,
) -> (Result<Told, Failure>, Note) {
    put_with(worker, pool, token, method, None).await
}

/// The same, with a destination.
async fn put_with(
    worker: &Worker,
    pool: &Pool,
    token: Token,
    method: &str,
    destination: Option<Token>,
) -> (Result<Told, Failure>, Note) {
    let timer = worker.timers.register();
    let class = if matches!(method, "GET" | "HEAD") { Class::Read } else { Class::Write };
    let request = Request {
        outbound: Outbound {
            method: method.as_bytes(),
            path: b"/key",
            query: None,
            client_host: b"client.example",
            fields: b"",
            destination: None,
            condition: None,
            framing: Framing::None,
            expect_continue: false,
            wants_trailers: false,
            traceparent: None,
        },
        token,
        class,
        repeatable: method != "POST",
        head_asked: false,
        interim_wanted: true,
        held_body_bytes_max: 1024,
        destination,
        trace: None,
    };
    let (mut body, mut told, mut note) = (NoBody, Told::default(), Note::default());
    let ticking = async {
        loop {
            tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
            worker.timers.refresh();
            worker.timers.advance();
        }
    };
    worker.timers.refresh();
    let result = tokio::select! {
        biased;
        result = run(worker, &timer, pool, &request, &mut body, &mut told, &mut note) => result,
        () = ticking => Ok(()),
    };
    (result.map(|()| told), note)
}

/// The outcome in a word: who answered, or what failed.
fn word(result: &Result<Told, Failure>, note: &Note) -> String {
    match result {
        Ok(told) => {
            assert!(told.ended, "an answer that was told has ended");
            format!("{} by the {}", told.status, if note.spilled { "next" } else { "owner" })
        }
        Err(failure) => {
            let debug = format!("{failure:?}");
            debug.split(['(', ' ']).next().unwrap_or_default().to_owned()
        }
    }
}

#[tokio::test]
async fn what_is_repeated_depends_on_what_is_known_to_have_happened() {
    use Does::{Breaks, Says, Waits};
    // What the owner does; then GET, PUT and POST where keys are immutable, PUT where they are not;
    // then GET and PUT where keys are immutable, and verdicts alone move writes.
    let table: [(&str, &'static [Does], [&str; 6]); 5] = [
        (
            "is not there",
            &[],
            [
                "200 by the next",
                "200 by the next",
                "200 by the next",
                "Connect",
                "200 by the next",
                "Connect",
            ],
        ),
        (
            "breaks off",
            &[Breaks],
            ["200 by the next", "200 by the next", "Reset", "Reset", "200 by the next", "Reset"],
        ),
        (
            "does not answer",
            &[Waits],
            [
                "200 by the next",
                "HeadTimeout",
                "HeadTimeout",
                "HeadTimeout",
                "200 by the next",
                "HeadTimeout",
            ],
        ),
        (
            "answers nonsense",
            &[Says(GARBAGE)],
            [
                "200 by the next",
                "BadAnswer",
                "BadAnswer",
                "BadAnswer",
                "200 by the next",
                "BadAnswer",
            ],
        ),
        ("is busy", &[Says(UNAVAILABLE)], ["503 by the owner"; 6]),
    ];
    let columns = [
        ("GET", true, Mode::Any),
        ("PUT", true, Mode::Any),
        ("POST", true, Mode::Any),
        ("PUT", false, Mode::Any),
        ("GET", true, Mode::Primary),
        ("PUT", true, Mode::Primary),
    ];
    for (name, script, expected) in table {
        for ((method, immutable, mode), expected) in columns.into_iter().zip(expected) {
            let (owner, next) = (Shard::start(script).await, Shard::start(&[Says(OK)]).await);
            let mut settings = settings();
            if script.iter().any(|does| matches!(does, Waits)) {
                settings.timeouts.response_head = SILENCE;
            }
            let (view, token) = view(&owner, &next, (immutable, mode), &settings);
            let worker = Worker::new(0, Instant::now());
            let (result, note) = put(&worker, &view.pools[0], token, method).await;
            let case = format!("{method}, immutable: {immutable}, {mode:?}, the owner {name}");
            assert_eq!(word(&result, &note), expected, "{case}");
            let asked = next.asked.load(Ordering::Relaxed);
            assert_eq!(asked, usize::from(expected.ends_with("next")), "{case}");
        }
    }
}

/// A connection that is closed under a request says nothing of the shard, so the request goes to
/// the same shard again; and that costs none of its tries. It did once: with two attempts, a shard
/// that was killed while its connections idled was answered 503 instead of by the next.
#[tokio::test]
async fn a_closed_connection_is_repeated_on_the_same_shard_and_counts_for_nothing() {
    use Does::{Breaks, Says};
    for (script, attempts_max, method, expected) in [
        (&[Says(OK), Breaks, Says(OK)][..], 1, "GET", "200 by the owner"),
        (&[Says(OK), Breaks, Says(OK)], 1, "PUT", "200 by the owner"),
        (&[Says(OK), Breaks, Says(OK)], 3, "POST", "Reset"),
        (&[Says(OK), Breaks], 2, "GET", "200 by the next"),
        (&[Says(OK), Breaks], 1, "GET", "Connect"),
        // It may have been applied before the connection was closed.
        (&[Says(OK), Breaks], 1, "PUT", "Reset"),
    ] {
        let (owner, next) = (Shard::start(script).await, Shard::start(&[Says(OK)]).await);
        let mut settings = settings();
        settings.retry.attempts_max = attempts_max;
        let (view, token) = view(&owner, &next, (true, Mode::Any), &settings);
        let worker = Worker::new(0, Instant::now());
        let (first, note) = put(&worker, &view.pools[0], token, "GET").await;
        assert_eq!(word(&first, &note), "200 by the owner");
        let (second, note) = put(&worker, &view.pools[0], token, method).await;
        assert_eq!(word(&second, &note), expected, "{method}, {attempts_max} attempts, {script:?}");
    }
}

/// The head of a read's answer once went on at once, and when the shard died before the first byte
/// of the body, the client's answer was cut although another shard could have given it whole.
#[tokio::test]
async fn a_read_whose_shard_dies_between_head_and_body_is_repeated() {
    use Does::{Says, SaysAndBreaks, SaysAndWaits};
    for (script, method, expected) in [
        (&[SaysAndBreaks(HEAD)][..], "GET", "200 by the next"),
        // Not because the connection was old: the shard had begun to answer on it.
        (&[Says(OK), SaysAndBreaks(HEAD), Says(OK)], "GET", "200 by the next"),
        (&[SaysAndWaits(HEAD)], "GET", "200 by the next"),
        // A write's answer tells what became of it, and goes on as far as it came.
        (&[SaysAndBreaks(HEAD)], "PUT", "AnswerBroke"),
        // A byte of the body has gone on: what has begun is not repeated.
        (&[SaysAndBreaks(HALF)], "GET", "AnswerBroke"),
    ] {
        let script: &'static [Does] = Vec::leak(script.to_vec());
        let (owner, next) = (Shard::start(script).await, Shard::start(&[Says(OK)]).await);
        let mut settings = settings();
        settings.timeouts.idle = match script.last() {
            Some(SaysAndWaits(_)) => SILENCE,
            _ => Duration::from_secs(60),
        };
        let (view, token) = view(&owner, &next, (true, Mode::Any), &settings);
        let worker = Worker::new(0, Instant::now());
        for _ in 1..script.len().min(2) {
            let (first, note) = put(&worker, &view.pools[0], token, "GET").await;
            assert_eq!(word(&first, &note), "200 by the owner");
        }
        let (result, note) = put(&worker, &view.pools[0], token, method).await;
        assert_eq!(word(&result, &note), expected, "{method}, {script:?}");
    }
}

/// With `on_gateway_error` the shard's 503 was once kept from the client although nobody was left
/// to do better, and called an answer that cannot be understood.
#[tokio::test]
async fn a_gateway_error_is_passed_on_when_nobody_is_left() {
    use Does::Says;
    for (next, budget, expected) in
        [(OK, 3, "200 by the next"), (UNAVAILABLE, 3, "503 by the next"), (OK, 0, "GatewayError")]
    {
        let script: &'static [Does] = Vec::leak(vec![Says(next)]);
        let (owner, next) = (Shard::start(&[Says(UNAVAILABLE)]).await, Shard::start(script).await);
        let mut settings = settings();
        settings.retry.on_gateway_error = true;
        (settings.retry.budget_min, settings.retry.budget_percent) = (budget, 0);
        let (view, token) = view(&owner, &next, (false, Mode::Any), &settings);
        let worker = Worker::new(0, Instant::now());
        let (result, note) = put(&worker, &view.pools[0], token, "GET").await;
        assert_eq!(word(&result, &note), expected);
    }
}

/// COPY and MOVE are checked against the owners of both keys. Where those are one and the same, the
/// shards that stand in for it need not be: what was copied there would be looked for elsewhere.
#[tokio::test]
async fn a_copy_goes_to_the_owner_or_nowhere() {
    use crate::protocol::health::PerClass;
    for method in ["COPY", "MOVE", "PUT"] {
        for known_down in [false, true] {
            let (owner, next) = (Shard::start(&[]).await, Shard::start(&[Does::Says(OK)]).await);
            let (view, token) = view(&owner, &next, (true, Mode::Any), &settings());
            let pool = &view.pools[0];
            if known_down {
                let down = PerClass { read: true, write: true };
                pool.health.set_agreed(&[PerClass::default(), down]);
            }
            let worker = Worker::new(0, Instant::now());
            let destination = (method != "PUT").then_some(token);
            let (result, note) = put_with(&worker, pool, token, method, destination).await;
            let expected = match (method, known_down) {
                // What needs no second key may stand with another.
                ("PUT", _) => "200 by the next",
                (_, true) => "OwnerDown",
                (_, false) => "Connect",
            };
            assert_eq!(word(&result, &note), expected, "{method}, known: {known_down}");
            let asked = next.asked.load(Ordering::Relaxed);
            assert_eq!(asked, usize::from(method == "PUT"), "{method}, known: {known_down}");
        }
    }
}
