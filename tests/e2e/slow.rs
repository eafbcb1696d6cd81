//! Clients that are slow in every way, many at once: others do not notice, each is ended within its
//! limit, and none costs more than a little memory.
//!
//! Here a few hundred of each kind with short limits; `.ci/slow-clients` runs the same with a
//! thousand of each and asserts how fast the others are served meanwhile, which a loaded machine
//! cannot promise.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::canary::{Canary, backend, number, percentile};
use crate::support::ringway::{Serve, shards};
use crate::support::say::say;
use crate::support::wait::until_within;

/// How a client is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Connects and says nothing.
    Silent,
    /// Asks once, and then says nothing.
    Idle,
    /// Never comes to the end of its head.
    Head,
    /// Sends its body a byte at a time.
    Body,
    /// Does not take its answer.
    Reader,
}

use Kind::{Body, Head, Idle, Reader, Silent};

const KINDS: [Kind; 5] = [Silent, Idle, Head, Body, Reader];

/// What one slow client may cost.
const BYTES_EACH_MAX: u64 = 32 * 1024;

/// What the workers cost however many clients there are: each of the two has eight large buffers,
/// of 256 KiB, for the bodies that come first.
const BYTES_OF_WORKERS: u64 = 2 * 8 * 256 * 1024;

/// Slow clients that do a little of what they do before the canary asks again.
const CLIENTS_PER_CANARY: usize = 50;

/// The limits: short, so that the test is; and a canary that is never told to connect anew.
const LIMITS: &str = "client:
  limits: { least_rate: 1KiB, connections: 9000, requests_per_connection: 1000000 }
  timeouts: { head: 2s, body_idle: 2s, rate_grace: 2s, keep_alive: 2s, linger: 100ms }
";

/// A client that will not be waited for.
struct Slow {
    kind: Kind,
    stream: TcpStream,
    ended: bool,
}

impl Slow {
    fn connect(kind: Kind, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if kind == Reader {
            // What the kernel takes in its place would be no slowness.
            socket.set_recv_buffer_size(4096).expect("an option");
        }
        socket.connect(&address.into()).expect("connected");
        let mut stream = TcpStream::from(socket);
        let said: &[u8] = match kind {
            Silent => b"",
            Idle => b"GET /small HTTP/1.1\r\nHost: h\r\n\r\n",
            Head => b"GET / HTTP/1.1\r\nHost: h\r\nX: ",
            Body => b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n",
            Reader => b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n",
        };
        stream.write_all(said).expect("said");
        stream.set_nonblocking(true).expect("an option");
        Self { kind, stream, ended: false }
    }

    /// Does a little of what it does, and sees whether it was ended.
    fn goes_on(&mut self) {
        if matches!(self.kind, Head | Body) {
            // An error shows in what is read.
            drop(self.stream.write(b"x"));
        }
        if self.kind == Reader {
            // It looks whether the connection was reset, and takes nothing of its answer.
            let mut byte = [0];
            let broken = self.stream.take_error().is_ok_and(|error| error.is_some());
            self.ended |= broken || matches!(self.stream.peek(&mut byte), Ok(0));
            return;
        }
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => break self.ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => break self.ended = true,
            }
        }
    }
}

#[test]
fn slow_clients_of_every_kind_are_nobody_elses_concern() {
    let each = number("RINGWAY_SLOW_CLIENTS", 200);
    let canary_ms_max = number("RINGWAY_CANARY_P99_MS", 0);
    let backend = backend();
    let serve = Serve::start(&format!(
        "{LIMITS}pools:\n  - name: p\n    health: {{ active: off, passive: off }}\n    limits: {{ \
         in_flight_per_shard: 10000 }}\n{}routes: [{{ name: all, pool: p }}]\n",
        shards(&[backend.address])
    ));
    let mut canary = Canary::connect(serve.data);
    let mut took = Vec::new();
    for kind in KINDS {
        canary.ask(&mut took);
        took.clear();
        let before = serve.process.resident_bytes();
        let begun = Instant::now();
        let mut clients = Vec::new();
        while clients.len() < each {
            clients.push(Slow::connect(kind, serve.data));
            if clients.len().is_multiple_of(CLIENTS_PER_CANARY) {
                canary.ask(&mut took);
            }
        }
        let mut most = 0;
        // Several times the longest limit, and time for a machine that has others to serve.
        until_within(&format!("every {kind:?} client is ended"), Duration::from_secs(60), || {
            most = most.max(serve.process.resident_bytes());
            for some in clients.chunks_mut(CLIENTS_PER_CANARY) {
                canary.ask(&mut took);
                some.iter_mut().filter(|client| !client.ended).for_each(Slow::goes_on);
            }
            clients.iter().all(|client| client.ended).then_some(())
        });
        let p99 = percentile(&mut took, 99);
        let grown = most.saturating_sub(before) / each as u64;
        say(&format!(
            "{each} {kind:?} clients: ended within {:.1} s, {grown} bytes each at most, canary p99 \
             {p99:.1} ms of {} requests",
            begun.elapsed().as_secs_f64(),
            took.len()
        ));
        let grown_max = BYTES_EACH_MAX + BYTES_OF_WORKERS / each as u64;
        assert!(grown <= grown_max, "{kind:?}: {grown} bytes each, {grown_max} at most");
        if canary_ms_max > 0 {
            assert!(p99 < canary_ms_max as f64, "{kind:?}: the canary's p99 is {p99:.1} ms");
        }
    }
    let counted = ["cx_idle_timeout", "rq_head_timeout", "rq_too_slow"]
        .map(|name| serve.count(&format!("ringway_downstream_{name}_total")));
    assert_eq!(counted.iter().sum::<usize>(), 5 * each, "all were ended, and for their slowness");
    // Who says nothing at first is idle, as is who says nothing more. What one in a hundred said may
    // have come so late that it is ended for another.
    for (counted, kinds) in counted.into_iter().zip([2, 1, 2]) {
        assert!(counted.abs_diff(kinds * each) <= each / 100, "{counted} of {kinds} kinds");
    }
    assert_eq!(serve.metric("ringway_downstream_cx_active"), 1.0, "the canary's");
}
