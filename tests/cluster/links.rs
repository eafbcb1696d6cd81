//! The wires between nodes, which can be cut, and slowed, each way by itself.
//!
//! Each node advertises the address of a relay instead of its own. So that a relay knows which node
//! a connection comes from, each node has a loopback address of its own to connect from, which a
//! library under its process sees to; a wire is then a pair of nodes with a direction. A cut wire is
//! silent, as a dead switch is: nothing is refused and nothing reset, and what is on it arrives
//! when it is mended, as TCP sends again. Loss is what TCP makes of it, a wait that doubles. What
//! this cannot show is a lost SYN: connections are made also over a cut wire, and then nothing
//! comes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::support::shim;

/// The least that TCP waits before it sends again.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// How often the same bytes are lost at most.
const LOSSES_MAX: u32 = 4;

/// Binds a socket that connects over loopback to the address in `SHIM_SOURCE` first. A failure
/// leaves it where it is: the relay then refuses the connection, and the test tells.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

int connect(int fd, const struct sockaddr *to, socklen_t length) {
    const char *source = getenv("SHIM_SOURCE");
    const struct sockaddr_in *in = (const struct sockaddr_in *)to;
    if (source && to->sa_family == AF_INET && ntohl(in->sin_addr.s_addr) == INADDR_LOOPBACK) {
        struct sockaddr_in from = { .sin_family = AF_INET };
        int late = 1;
        inet_pton(AF_INET, source, &from.sin_addr);
        /* The port is chosen when the destination is known, so that ports do not run out. */
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
        bind(fd, (struct sockaddr *)&from, sizeof from);
    }
    int (*next)(int, const struct sockaddr *, socklen_t) =
        (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    return next(fd, to, length);
}
"#;

/// Gives each node an address of its own to connect from.
pub struct Sources {
    library: PathBuf,
    _folder: TempDir,
}

impl Sources {
    /// `None`, said aloud, where there is no C compiler.
    pub fn build() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let library = shim::build(folder.path(), SHIM)?;
        Some(Self { library, _folder: folder })
    }

    /// What a node's process is to have in its environment.
    pub fn environment(&self, node: usize) -> Vec<(String, PathBuf)> {
        let address = PathBuf::from(source(node).to_string());
        vec![("LD_PRELOAD".to_owned(), self.library.clone()), ("SHIM_SOURCE".to_owned(), address)]
    }
}

/// Where a node connects from.
fn source(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(node + 1).expect("few nodes"))
}

/// What a wire does with what is sent over it.
#[derive(Debug, Clone, Copy)]
pub enum Weather {
    /// Nothing arrives.
    Cut,
    /// Everything takes so long, between the two; so many of a hundred segments are lost.
    Slow { least_ms: u64, most_ms: u64, loss_percent: u8 },
}

/// From whom to whom, by the nodes' numbers.
type Wire = (usize, usize);

/// All wires of a cluster.
pub struct Links {
    /// Where each end is reached.
    pub addresses: Vec<SocketAddr>,
    nodes: usize,
    weather: watch::Sender<BTreeMap<Wire, Weather>>,
    // Ends all relays when dropped.
    _runtime: Runtime,
}

impl Links {
    /// Relays in front of those who listen at `ends`, for this many nodes.
    pub fn new(ends: &[SocketAddr], nodes: usize) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
        let (weather, _) = watch::channel(BTreeMap::new());
        let mut addresses = Vec::new();
        for (to, &end) in ends.iter().enumerate() {
            let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
            let listener = listener.expect("a free port");
            addresses.push(listener.local_addr().expect("an address"));
            runtime.spawn(relay(listener, end, to, nodes, weather.subscribe()));
        }
        Self { addresses, nodes, weather, _runtime: runtime }
    }

    /// Changes these wires.
    pub fn set(&self, wires: &[Wire], weather: Weather) {
        self.weather.send_modify(|all| all.extend(wires.iter().map(|&wire| (wire, weather))));
    }

    /// Silence between these two, both ways.
    pub fn cut(&self, one: usize, other: usize) {
        self.set(&[(one, other), (other, one)], Weather::Cut);
    }

    /// Silence between one and all others.
    pub fn isolate(&self, node: usize) {
        for other in (0..self.nodes).filter(|&other| other != node) {
            self.cut(node, other);
        }
    }

    /// The same for every wire.
    pub fn everywhere(&self, weather: Weather) {
        let nodes = 0..self.nodes;
        let wires: Vec<Wire> =
            nodes.clone().flat_map(|one| nodes.clone().map(move |other| (one, other))).collect();
        self.set(&wires, weather);
    }

    /// Everything is well again.
    pub fn mend(&self) {
        self.weather.send_modify(BTreeMap::clear);
    }
}

async fn relay(
    listener: TcpListener,
    node: SocketAddr,
    to: usize,
    nodes: usize,
    weather: watch::Receiver<BTreeMap<Wire, Weather>>,
) {
    let mut number = 0;
    while let Ok((incoming, peer)) = listener.accept().await {
        // Whoever is no node is not connected.
        let Some(from) = (0..nodes).find(|&node| peer.ip() == source(node)) else { continue };
        number += 1;
        let seed = (number << 8) ^ to as u64;
        tokio::spawn(connect(incoming, node, (from, to), weather.clone(), seed));
    }
}

async fn connect(
    incoming: TcpStream,
    node: SocketAddr,
    (from, to): Wire,
    weather: watch::Receiver<BTreeMap<Wire, Weather>>,
    seed: u64,
) {
    // Nobody listens there: the other side sees its connection end.
    let Ok(outgoing) = TcpStream::connect(node).await else { return };
    for stream in [&incoming, &outgoing] {
        stream.set_nodelay(true).expect("an option");
    }
    let (from_read, from_write) = incoming.into_split();
    let (to_read, to_write) = outgoing.into_split();
    tokio::join!(
        carry(from_read, to_write, (from, to), weather.clone(), seed),
        carry(to_read, from_write, (to, from), weather, !seed),
    );
}

/// Carries bytes one way, as the weather of that way permits.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    wire: Wire,
    mut weather: watch::Receiver<BTreeMap<Wire, Weather>>,
    seed: u64,
) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut bytes).await;
        let now = loop {
            let now = weather.borrow_and_update().get(&wire).copied();
            match now {
                // An end is as silent as everything else on a cut wire.
                Some(Weather::Cut) if weather.changed().await.is_err() => return,
                Some(Weather::Cut) => {}
                _ => break now,
            }
        };
        if let Some(Weather::Slow { least_ms, most_ms, loss_percent }) = now {
            let mut delay = Duration::from_millis(random.u64(least_ms..=most_ms));
            let losses = (0..LOSSES_MAX).take_while(|_| random.u8(0..100) < loss_percent).count();
            for loss in 0..losses {
                delay += RETRANSMISSION * (1 << loss);
            }
            tokio::time::sleep(delay).await;
        }
        match read {
            Ok(n) if n > 0 && to.write_all(&bytes[..n]).await.is_ok() => {}
            _ => return,
        }
    }
}

/// Where this cannot be shown, everything built on it would be an empty test.
#[test]
fn a_wire_is_cut_one_way_and_mended() {
    use crate::support::backend::Backend;
    use crate::support::http::Client;

    let backend = Backend::answering("b");
    let links = Links::new(&[backend.address, backend.address], 2);
    let mut client = Client::try_connect_from(source(0), links.addresses[1]).expect("a relay");
    assert_eq!(client.ask("GET", "/a", "", b"").expect("fair weather").text(), "b");

    links.set(&[(1, 0)], Weather::Cut);
    client.send("GET /b HTTP/1.1\r\nHost: h\r\n\r\n").expect("a live connection");
    crate::support::wait::until_true("the request arrives", || {
        backend.requests().iter().any(|request| request.asked() == "GET /b")
    });
    links.mend();
    assert_eq!(client.hear(false).expect("the answer was held").text(), "b");

    links.cut(0, 1);
    client.send("GET /c HTTP/1.1\r\nHost: h\r\n\r\n").expect("a live connection");
    crate::support::wait::all_the_while(Duration::from_millis(200), || {
        assert!(backend.requests().iter().all(|request| request.asked() != "GET /c"));
    });
    links.mend();
    assert_eq!(client.hear(false).expect("the request was held").text(), "b");
}
