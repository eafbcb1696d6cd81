//! Does a large body pass through pipes as it does when it is copied?
//!
//! Each case is a client and a shard, well or badly behaved, on real sockets. It is run with no
//! pipe to be had, with one, which bodies that pass at the same time must share, and with enough;
//! and what client and shard saw, and what was counted, must be the same in all three.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use socket2::SockRef;
use tokio::sync::watch;

use super::door::Door;
use super::metrics::{ClientMetrics, export as export_clients};
use super::serve::{Phase, WorkerParts, run_worker};
use super::site::{ForwardedFields, ForwardedRule, Published, Site, SiteParts};
use crate::cluster::{
    AdminState, ClusterState, Command, Kind, Mode, Placement, PoolSpec, ShardSpec, Topology,
};
use crate::dispatch::metrics::export as export_shards;
use crate::dispatch::view::{PoolSettings, View};
use crate::ids::{BaseUrl, NodeName, PoolName, RouteName, ShardId, Weight, Zone};
use crate::limits::{ClientLimits, ClientTimeouts};
use crate::net::splice::{PIPES_MAX, SPLICED_BYTES_MIN};
use crate::protocol::health::HealthSettings;
use crate::route::{KeyRule, Methods, RouteMatch, RouteSpec, RouteTable};

/// How long a peer's silence is borne, where a case waits for that; and how long a peer of these
/// tests waits before it gives up.
const SILENCE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// The body of `length` bytes.
fn content(length: usize) -> &'static [u8] {
    static LONGEST: OnceLock<Vec<u8>> = OnceLock::new();
    let longest = LONGEST.get_or_init(|| {
        let mut bytes = vec![0; 32 << 20];
        fastrand::Rng::with_seed(7).fill(&mut bytes);
        bytes
    });
    &longest[..length]
}

/// A Ringway before one shard.
struct World {
    address: SocketAddr,
    published: Published,
    clients: Arc<ClientMetrics>,
    phase: watch::Sender<Phase>,
    worker: JoinHandle<std::io::Result<()>>,
    seen: Arc<Seen>,
}

/// What the shard has of its connections.
#[derive(Default)]
struct Seen {
    /// Uploads: how many bytes, and whether they were the right ones.
    uploads: Mutex<Vec<String>>,
    /// Connections that it reads no more from, and does not close.
    kept: Mutex<Vec<Peer>>,
}

impl World {
    fn start(pipes_max: usize) -> Self {
        let seen = Arc::new(Seen::default());
        let site = site(start_shard(&seen));
        let published: Published = Arc::new(ArcSwap::from_pointee(site));
        let clients = Arc::new(ClientMetrics::new(1));
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let parts = WorkerParts {
            number: 0,
            epoch: Instant::now(),
            listeners: vec![(listener, Arc::new(Door::default()))],
            published: Arc::clone(&published),
            metrics: Arc::clone(&clients),
            log: None,
            tracer: None,
            phase: phase_seen,
            pipes_max,
            kept: None,
            hints: None,
            seed: 1,
        };
        let worker = std::thread::spawn(move || run_worker(parts));
        Self { address, published, clients, phase, worker, seen }
    }

    fn client(&self) -> Peer {
        let stream = TcpStream::connect(self.address).expect("a listener");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Peer { stream, rest: Vec::new() }
    }

    /// One whose socket takes little before it must be read.
    fn narrow_client(&self) -> Peer {
        let client = self.client();
        SockRef::from(&client.stream).set_recv_buffer_size(64 * 1024).expect("a socket");
        client
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let site = self.published.load();
        let families = export_clients(&site, &self.clients);
        let mut counts = BTreeMap::new();
        for family in families.iter().chain(&export_shards(&site.view)) {
            let sum: f64 =
                family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum();
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small whole numbers"
            )]
            counts.insert(family.name().to_owned(), sum as u64);
        }
        counts
    }

    /// Waits until the metric has this value.
    fn until(&self, name: &str, value: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.counts()[name] != value {
            assert!(Instant::now() < deadline, "{name} is {}, not {value}", self.counts()[name]);
            pause();
        }
    }

    fn end(self) {
        self.phase.send_replace(Phase::Ended);
        self.worker.join().expect("no panic").expect("it ends");
    }
}

fn site(shard: SocketAddr) -> Site {
    let spec = PoolSpec {
        kind: Kind::Cache,
        placement: Placement::Ring,
        hash_seed: "seed".to_owned(),
        vnodes: 16,
        immutable: false,
        mode: Mode::Any,
        kept: None,
    };
    let shard = ShardSpec {
        url: BaseUrl::parse(&format!("http://{shard}")).expect("a URL"),
        zone: Zone::default(),
        weight: Weight::ONE,
        ketama_name: None,
        state: AdminState::Ready,
    };
    let pool = PoolName::new("p").expect("a name");
    let shards = vec![(ShardId::new("s1").expect("a name"), shard)];
    let mut state = ClusterState::default();
    let create = Command::CreatePool { pool: pool.clone(), spec, shards };
    state.apply_command(&create).expect("a pool");
    let topology = Arc::new(Topology::build(&state, None).expect("a ring"));
    let health = HealthSettings { active: None, passive: None, ..HealthSettings::default() };
    let mut settings = PoolSettings { health, ..PoolSettings::default() };
    settings.timeouts.idle = SILENCE;
    let settings = Arc::new(settings);
    let view = Arc::new(View::build(topology, None, 1, |_| Arc::clone(&settings)));
    let route = RouteSpec {
        name: RouteName::new("all").expect("a name"),
        matcher: RouteMatch::default(),
        pool,
        key: KeyRule::Path,
        hash_tag: None,
        allowed_methods: Methods::default(),
        rate_limit: None,
    };
    let parts = SiteParts {
        routes: Arc::new(RouteTable::compile(vec![route]).expect("a table")),
        limits: ClientLimits { body_bytes_max: Some(20 << 20), ..ClientLimits::default() },
        timeouts: ClientTimeouts { body_idle: SILENCE, ..ClientTimeouts::default() },
        rates: None,
        forwarded: ForwardedRule::default(),
        forwarded_fields: ForwardedFields::default(),
        node: NodeName::new("n1").expect("a name"),
        trace_percent: 0,
        log: None,
    };
    Site::build(view, parts, None, 1)
}

/// A shard that does what the path says; each connection has a thread.
fn start_shard(seen: &Arc<Seen>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::clone(seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
                stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
                serve_shard(Peer { stream, rest: Vec::new() }, &seen);
            });
        }
    });
    address
}

/// `/DOES/LENGTH/PART`: what is done, with a body of `LENGTH`, of which `PART` bytes pass.
fn serve_shard(mut peer: Peer, seen: &Seen) {
    while let Some(head) = peer.head() {
        let path = head.split(' ').nth(1).expect("a target").to_owned();
        let mut words = path.split('/').skip(1);
        let does = words.next().expect("a word");
        let mut number = || words.next().map_or(0, |word| word.parse().expect("a number"));
        let (length, part): (usize, usize) = (number(), number());
        let body = content(length);
        let ok = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let record = |got: &[u8]| {
            let right = *got == body[..got.len().min(length)];
            seen.uploads.lock().expect("no panic").push(format!("{} {right}", got.len()));
        };
        match does {
            "whole" => peer.send_in_pieces(ok.as_bytes(), body),
            "chunked" => {
                peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in body.chunks(100_000) {
                    peer.send(format!("{:x}\r\n", piece.len()).as_bytes());
                    peer.send(piece);
                    peer.send(b"\r\n");
                }
                peer.send(b"0\r\n\r\n");
            }
            "until-close" => {
                peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                peer.send(body);
                return;
            }
            "short" => {
                peer.send_in_pieces(ok.as_bytes(), &body[..part]);
                return;
            }
            "reset" => {
                peer.send_in_pieces(ok.as_bytes(), &body[..part]);
                let linger = SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO));
                linger.expect("a socket");
                return;
            }
            "silent" => {
                peer.send_in_pieces(ok.as_bytes(), &body[..part]);
                assert_eq!(peer.more(1), b"", "Ringway gives up");
                return;
            }
            "more" => {
                let surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
                peer.send(&[ok.as_bytes(), body, surplus].concat());
            }
            "take" | "ask" => {
                if does == "ask" {
                    peer.send(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                let got = peer.more(length);
                record(&got);
                if got.len() < length {
                    return;
                }
                peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
            }
            "refuse" => {
                // It says no after a part, and reads no further.
                record(&peer.more(part));
                peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
                return seen.kept.lock().expect("no panic").push(peer);
            }
            "drop" => {
                record(&peer.more(part));
                return;
            }
            other => panic!("no such behaviour: {other}"),
        }
    }
}

/// One side of a connection, which reads what it must and no more than it may.
struct Peer {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Peer {
    fn send(&mut self, bytes: &[u8]) {
        // A peer that is gone shows itself when it is read from.
        let _: std::io::Result<()> = self.stream.write_all(bytes);
    }

    /// Sends in pieces of all sizes, the first with the head.
    fn send_in_pieces(&mut self, head: &[u8], mut body: &[u8]) {
        let mut random = fastrand::Rng::with_seed(body.len() as u64);
        let mut bytes = head.to_vec();
        while !body.is_empty() || !bytes.is_empty() {
            let here = random.usize(..=300_000).min(body.len());
            bytes.extend_from_slice(&body[..here]);
            body = &body[here..];
            self.send(&bytes);
            bytes.clear();
        }
    }

    /// Reads until a head is complete. `None`: the connection has ended.
    fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.windows(4).position(|end| end == b"\r\n\r\n") {
                let rest = self.rest.split_off(end + 4);
                let head = std::mem::replace(&mut self.rest, rest);
                return Some(String::from_utf8(head).expect("text"));
            }
            let mut room = [0; 16 * 1024];
            match self.stream.read(&mut room) {
                Ok(n @ 1..) => self.rest.extend_from_slice(&room[..n]),
                _ => return None,
            }
        }
    }

    /// Reads `length` bytes, or fewer if the connection ends before.
    fn more(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.rest);
        if bytes.len() > length {
            self.rest = bytes.split_off(length);
        }
        let mut room = vec![0; 64 * 1024];
        while bytes.len() < length {
            let want = room.len().min(length - bytes.len());
            match self.stream.read(&mut room[..want]) {
                Ok(n @ 1..) => bytes.extend_from_slice(&room[..n]),
                Ok(0) => break,
                Err(error) => {
                    let waited = std::io::ErrorKind::WouldBlock;
                    assert_ne!(error.kind(), waited, "no byte within {PATIENCE:?}");
                    break;
                }
            }
        }
        bytes
    }

    /// Asks with a body that does not follow.
    fn ask(&mut self, method: &str, path: &str, fields: &str, length: usize) {
        let length = match method {
            "GET" => String::new(),
            _ => format!("Content-Length: {length}\r\n"),
        };
        self.send(
            format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}{length}\r\n").as_bytes(),
        );
    }

    /// What was answered, in a word: the status, how much of the body came, whether it was the
    /// right one, and whether the connection goes on.
    fn hear(&mut self) -> String {
        let Some(head) = self.head() else { return "nothing".to_owned() };
        let status = &head[9..12];
        let field = |name: &str| {
            head.split("\r\n").find_map(|line| {
                let (n, value) = line.split_once(": ")?;
                n.eq_ignore_ascii_case(name).then_some(value)
            })
        };
        let chunked = field("transfer-encoding").is_some();
        let (body, whole) = match field("content-length") {
            Some(length) => {
                let length = length.parse().expect("a length");
                let body = self.more(length);
                let whole = body.len() == length;
                (body, whole)
            }
            None if chunked => self.chunks(),
            None => (Vec::new(), true),
        };
        let right = body == content(body.len()) || status != "200";
        let close = if field("connection") == Some("close") { ", close" } else { "" };
        let whole = if whole { "whole" } else { "cut" };
        match whole {
            "cut" => format!("{status} cut, right: {right}{close}"),
            _ => format!("{status} {} bytes whole, right: {right}{close}", body.len()),
        }
    }

    fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                match self.more(1).as_slice() {
                    [byte] => line.push(*byte),
                    _ => return (body, false),
                }
            }
            let digits = String::from_utf8(line).expect("digits");
            let size = usize::from_str_radix(digits.trim(), 16).expect("a size");
            let data = self.more(size + 2);
            if data.len() < size + 2 {
                return (body, false);
            }
            body.extend_from_slice(&data[..size]);
            if size == 0 {
                return (body, true);
            }
        }
    }

    fn get(&mut self, path: &str) -> String {
        self.ask("GET", path, "", 0);
        self.hear()
    }

    /// Puts a body while nothing is read.
    fn put(&mut self, path: &str, length: usize) -> String {
        self.ask("PUT", path, "", length);
        self.send_in_pieces(b"", content(length));
        self.hear()
    }
}

const LARGE: usize = 3 << 20;
const WELL: &str = "200 2 bytes whole, right: true";

/// Whether the connection goes on: a further request is answered on it.
fn goes_on(client: &mut Peer) -> &'static str {
    match client.get("/whole/2") == WELL {
        true => "goes on",
        false => "has ended",
    }
}

/// One case: what is done, and what must come of it.
type Case = (&'static str, fn(&World) -> String, &'static str);

const CASES: [Case; 19] = [
    ("answers of all sizes on one connection", sizes_down, "goes on"),
    ("uploads of all sizes on one connection", sizes_up, "goes on"),
    (
        "a chunked answer",
        |w| w.client().get("/chunked/3145728"),
        "200 3145728 bytes whole, right: true",
    ),
    (
        "an answer that ends with its connection",
        |w| w.client().get("/until-close/3145728"),
        "200 3145728 bytes whole, right: true",
    ),
    (
        "an answer that ends early",
        |w| w.client().get("/short/3145728/1000000"),
        "200 cut, right: true",
    ),
    (
        "an answer whose connection breaks",
        |w| w.client().get("/reset/3145728/1000000"),
        "200 cut, right: true",
    ),
    ("an answer that stops", |w| w.client().get("/silent/3145728/1000000"), "200 cut, right: true"),
    ("an answer with bytes behind it", surplus, "200 3145728 bytes whole, right: true; goes on"),
    (
        "a client that ends its side after its request",
        half_closed,
        "200 3145728 bytes whole, right: true",
    ),
    ("a client that reads slowly", slow_reader, "200 16777216 bytes whole, right: true"),
    ("a client that does not read", deaf, "too slow"),
    ("a client that goes away in an answer", gone, "gone"),
    ("a client that goes away in its upload", gone_up, "1000000 true"),
    ("a client that falls silent in its upload", silent_up, "408"),
    (
        "a shard that refuses an upload in its middle",
        refused,
        "403 2 bytes whole, right: true, close",
    ),
    ("a shard that closes in the middle of an upload", dropped, "502"),
    (
        "a client that waits to be asked",
        asked,
        "HTTP/1.1 100 Continue\r\n\r\n201 0 bytes whole, right: true; goes on",
    ),
    ("many at once", many, "all right"),
    ("the node goes down", drained, "200 16777216 bytes whole, right: true"),
];

fn sizes_down(world: &World) -> String {
    let mut client = world.client();
    for length in sizes() {
        let expected = format!("200 {length} bytes whole, right: true");
        assert_eq!(client.get(&format!("/whole/{length}")), expected);
    }
    goes_on(&mut client).to_owned()
}

fn sizes_up(world: &World) -> String {
    let mut client = world.client();
    for length in sizes() {
        let put = client.put(&format!("/take/{length}"), length);
        assert_eq!(put, "201 0 bytes whole, right: true", "{length}");
        let uploaded = world.seen.uploads.lock().expect("no panic").pop();
        assert_eq!(uploaded, Some(format!("{length} true")));
    }
    goes_on(&mut client).to_owned()
}

/// About the bounds of buffers and pipes, and some more.
fn sizes() -> impl Iterator<Item = usize> {
    let spliced = usize::try_from(SPLICED_BYTES_MIN).expect("a small number");
    let mut random = fastrand::Rng::with_seed(11);
    let near = [8 << 10, 32 << 10, spliced, 256 << 10, 1 << 20, 2 << 20];
    let some: Vec<usize> = (0..12).map(|_| random.usize(..LARGE)).collect();
    near.into_iter().flat_map(|size| [size - 1, size, size + 1]).chain([0, 1, LARGE]).chain(some)
}

/// What stands behind an answer is not the client's: neither now nor as the next answer.
fn surplus(world: &World) -> String {
    let mut client = world.client();
    let first = client.get("/more/3145728");
    format!("{first}; {}", goes_on(&mut client))
}

fn half_closed(world: &World) -> String {
    let mut client = world.client();
    client.ask("GET", "/whole/3145728", "", 0);
    client.stream.shutdown(Shutdown::Write).expect("open");
    client.hear()
}

fn slow_reader(world: &World) -> String {
    let mut client = world.narrow_client();
    client.ask("GET", "/whole/16777216", "", 0);
    let head = client.head().expect("a head");
    let mut bytes = Vec::new();
    for _ in 0..20 {
        bytes.extend(client.more(100_000));
        pause();
    }
    bytes.extend(client.more((16 << 20) - bytes.len()));
    client.rest = [head.into_bytes(), bytes].concat();
    client.hear()
}

fn deaf(world: &World) -> String {
    let before = world.counts()["ringway_downstream_rq_too_slow_total"];
    let mut client = world.narrow_client();
    client.ask("GET", "/whole/33554432", "", 0);
    // Whoever comes meanwhile is served.
    assert_eq!(world.client().get("/whole/3145728"), "200 3145728 bytes whole, right: true");
    world.until("ringway_downstream_rq_too_slow_total", before + 1);
    assert_eq!(client.hear(), "200 cut, right: true");
    "too slow".to_owned()
}

fn gone(world: &World) -> String {
    let before = world.counts()["ringway_downstream_rq_rx_reset_total"];
    let mut client = world.narrow_client();
    client.ask("GET", "/whole/16777216", "", 0);
    client.head().expect("a head");
    drop(client);
    world.until("ringway_downstream_rq_rx_reset_total", before + 1);
    "gone".to_owned()
}

fn gone_up(world: &World) -> String {
    let mut client = world.client();
    client.ask("PUT", "/take/3145728", "", LARGE);
    client.send(&content(LARGE)[..1_000_000]);
    drop(client);
    last_upload(world)
}

/// A moment between two looks, or between two reads of a slow client: this thread is no worker.
#[allow(clippy::disallowed_methods, reason = "a thread of the test's own, and not a worker")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// What the shard saw of the upload, once it has seen its end.
fn last_upload(world: &World) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(upload) = world.seen.uploads.lock().expect("no panic").pop() {
            return upload;
        }
        assert!(Instant::now() < deadline, "the shard waits for the rest");
        pause();
    }
}

fn silent_up(world: &World) -> String {
    let mut client = world.client();
    client.ask("PUT", "/take/3145728", "", LARGE);
    client.send(&content(LARGE)[..1_000_000]);
    let status = client.head().expect("an answer")[9..12].to_owned();
    assert_eq!(last_upload(world), "1000000 true");
    status
}

fn refused(world: &World) -> String {
    let mut client = world.client();
    let length = 16 << 20;
    client.ask("PUT", "/refuse/16777216/1000000", "", length);
    client.send(&content(length)[..1_500_000]);
    let heard = client.hear();
    assert_eq!(last_upload(world), "1000000 true");
    heard
}

fn dropped(world: &World) -> String {
    let mut client = world.client();
    client.ask("PUT", "/drop/16777216/1000000", "", 16 << 20);
    let mut sender = client.stream.try_clone().expect("a socket");
    let sending = std::thread::spawn(move || {
        // It breaks when Ringway has had enough.
        let _: std::io::Result<()> = sender.write_all(content(16 << 20));
    });
    let status = client.head().expect("an answer")[9..12].to_owned();
    drop(client);
    sending.join().expect("no panic");
    assert_eq!(last_upload(world), "1000000 true");
    status
}

fn asked(world: &World) -> String {
    let mut client = world.client();
    client.ask("PUT", "/ask/3145728", "Expect: 100-continue\r\n", LARGE);
    let interim = client.head().expect("to be asked");
    client.send_in_pieces(b"", content(LARGE));
    let heard = client.hear();
    assert_eq!(last_upload(world), format!("{LARGE} true"));
    format!("{interim}{heard}; {}", goes_on(&mut client))
}

fn many(world: &World) -> String {
    let wrong = std::thread::scope(|scope| {
        let one = |number: usize| {
            let length = 200_000 + number * 20_011;
            let mut client = world.client();
            let down = client.get(&format!("/whole/{length}"));
            let up = client.put(&format!("/take/{length}"), length);
            let right = down == format!("200 {length} bytes whole, right: true")
                && up == "201 0 bytes whole, right: true";
            (!right).then(|| format!("{length}: {down}; {up}"))
        };
        let all: Vec<_> = (0..64).map(|number| scope.spawn(move || one(number))).collect();
        all.into_iter().filter_map(|one| one.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(wrong, [""; 0]);
    let mut uploads = world.seen.uploads.lock().expect("no panic");
    assert!(uploads.drain(..).all(|upload| upload.ends_with("true")));
    "all right".to_owned()
}

fn drained(world: &World) -> String {
    let mut client = world.narrow_client();
    client.ask("GET", "/whole/16777216", "", 0);
    let head = client.head().expect("a head");
    world.phase.send_replace(Phase::Closing);
    client.rest.splice(0..0, head.into_bytes());
    client.hear()
}

/// What is counted of bodies, and must not depend on how they pass. Of bodies that were cut, how
/// much of them had passed is chance, so they come last and are not in it.
const COUNTED: [&str; 4] = [
    "ringway_downstream_rq_rx_bytes_total",
    "ringway_downstream_rq_tx_bytes_total",
    "ringway_upstream_cx_rx_bytes_total",
    "ringway_upstream_cx_tx_bytes_total",
];

#[test]
fn what_comes_of_a_body_does_not_depend_on_pipes() {
    let sizes: u64 = sizes().map(|size| size as u64).sum();
    // Beside the sizes: what shows that a connection goes on, twice, and the chunked answer.
    let down = sizes + 2 * 2 + LARGE as u64;
    for pipes_max in [0, 1, PIPES_MAX] {
        let world = World::start(pipes_max);
        for (name, case, expected) in CASES {
            assert_eq!(case(&world), expected, "{name}, with {pipes_max} pipes");
            if name == "a chunked answer" {
                // An exchange is counted when it has ended, a moment after its client knows.
                COUNTED.iter().zip([sizes, down, down, sizes]).for_each(|(c, n)| world.until(c, n));
                let copied = world.counts()["ringway_upstream_pipe_overflow_total"];
                assert_eq!(copied > 0, pipes_max == 0, "one after the other, one pipe is enough");
            }
        }
        world.end();
    }
}
