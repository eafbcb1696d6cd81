//! How long do others wait beside one abusive connection of HTTP/2?
//!
//! One worker, so that nobody can evade, and two clients who behave: one of HTTP/1.1, one of HTTP/2.
//! They are measured alone and beside the abuser in turns, so that what else the machine does falls
//! on both. An abuser whose connection is ended comes back at once with another, and so goes on for
//! as long as it is looked at.
//!
//! Here, where other tests run beside, each request must be answered, and within a time that
//! nobody misses by chance. `.ci/abusive-client` asks more requests of the release build, and judges
//! by the factor. There the proxy, those measured and their shard go before all others in real time:
//! with an abuser on the same two cores, what is measured otherwise is how the system shares them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::canary::{Canary, Goes, backend, number, percentile, timed};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, frame, request,
};
use crate::support::ringway::{Serve, shards};
use crate::support::say::say;
use crate::support::wait::until_true;

/// What an abuser does, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Abuse {
    /// Asks, and gives up at once (CVE-2023-44487).
    RapidReset,
    /// Asks, and makes the server give up (CVE-2025-8671).
    ProvokedReset,
    Ping,
    Settings,
    Priority,
    /// A field section that does not end (CVE-2024-27316).
    Continuation,
    /// Field sections of many small fields, each of which is answered 431.
    ManyFields,
    /// A body in frames of one byte, as fast as they are taken.
    TinyData,
    /// A hundred large answers, each through a window that is opened by one byte, if at all.
    ZeroWindow,
    /// A hundred large answers that are not taken from the socket.
    Stalled,
}

const ABUSES: [Abuse; 10] = [
    Abuse::RapidReset,
    Abuse::ProvokedReset,
    Abuse::Ping,
    Abuse::Settings,
    Abuse::Priority,
    Abuse::Continuation,
    Abuse::ManyFields,
    Abuse::TinyData,
    Abuse::ZeroWindow,
    Abuse::Stalled,
];

impl Abuse {
    /// Whether it is told to calm down, however short it is looked at.
    fn floods(self) -> bool {
        !matches!(self, Self::TinyData | Self::ZeroWindow | Self::Stalled)
    }
}

/// Streams that a client may have open.
const STREAMS: u32 = 100;

/// A client that abuses its connection, until told to stop.
struct Abuser {
    on: AtomicBool,
    over: AtomicBool,
    connections: AtomicUsize,
    frames: AtomicUsize,
}

impl Abuser {
    fn start(abuse: Abuse, address: SocketAddr) -> (Arc<Self>, thread::JoinHandle<()>) {
        let (on, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let abuser = Arc::new(Self {
            on,
            over,
            connections: AtomicUsize::new(0),
            frames: AtomicUsize::new(0),
        });
        let its = Arc::clone(&abuser);
        let thread = thread::spawn(move || {
            // It has a machine of its own, in life: here it gets what those measured leave.
            Goes::Last.have();
            while !its.over.load(Ordering::SeqCst) {
                match its.goes_on() {
                    // More of them, and what is measured is how soon the system has no port left.
                    true => {
                        its.connection(abuse, address);
                        pause(20_000);
                    }
                    false => pause(10_000),
                }
            }
        });
        (abuser, thread)
    }

    fn goes_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// Abuses one connection until the server ends it, or it is told to stop.
    fn connection(&self, abuse: Abuse, address: SocketAddr) {
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let window = if abuse == Abuse::ZeroWindow { 0 } else { 0x7fff_ffff };
        let mut client = Frames::connect_with(address, &[(4, window)]);
        self.connections.fetch_add(1, Ordering::SeqCst);
        let is_whole = match abuse {
            Abuse::Continuation => {
                client.send(frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[])))
            }
            Abuse::TinyData => {
                client.send(frame(HEADERS, END_HEADERS, 1, &request("PUT", "/put", &[])))
            }
            Abuse::ZeroWindow | Abuse::Stalled => {
                client.send(frame(WINDOW_UPDATE, 0, 0, &0x7000_0000u32.to_be_bytes()));
                (0..STREAMS).all(|number| client.ask(2 * number + 1, "/large"))
            }
            _ => true,
        };
        let fields = request("GET", "/reset", &[]);
        let ask = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields);
        // `accept-encoding: gzip, deflate` of the static table, and so a byte for each. More would end
        // the connection at once.
        let many = [&fields[..], &[0x90; 380]].concat();
        let mut number = 0;
        while is_whole && self.goes_on() {
            // Some hundred bytes at a time, as a network would bring them.
            let mut bytes = Vec::new();
            for _ in 0..10 {
                let stream = 2 * number + 1;
                match abuse {
                    Abuse::RapidReset => bytes.extend(
                        [ask(stream), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat(),
                    ),
                    Abuse::ProvokedReset => {
                        let wrong = 0x7fff_ffffu32.to_be_bytes();
                        bytes.extend(
                            [ask(stream), frame(WINDOW_UPDATE, 0, stream, &wrong)].concat(),
                        );
                    }
                    Abuse::Ping => bytes.extend(frame(PING, 0, 0, &[7; 8])),
                    Abuse::Settings => bytes.extend(frame(SETTINGS, 0, 0, b"")),
                    Abuse::Priority => bytes.extend(frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
                    Abuse::Continuation => bytes.extend(frame(CONTINUATION, 0, 1, b"")),
                    Abuse::ManyFields => {
                        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &many));
                    }
                    Abuse::TinyData => bytes.extend(frame(DATA, 0, 1, b"x")),
                    Abuse::ZeroWindow => {
                        let stream = 2 * (number % STREAMS) + 1;
                        bytes.extend(frame(WINDOW_UPDATE, 0, stream, &1u32.to_be_bytes()));
                    }
                    Abuse::Stalled => {}
                }
                number += 1;
            }
            self.frames.fetch_add(10, Ordering::SeqCst);
            if matches!(abuse, Abuse::ZeroWindow | Abuse::Stalled) {
                // Slower than what is a flood.
                pause(10_000);
            }
            if !client.send(bytes) || (abuse != Abuse::Stalled && client.is_ended()) {
                return;
            }
        }
    }
}

fn pause(micros: u64) {
    #[allow(clippy::disallowed_methods, reason = "a client's pace, for which nobody waits")]
    thread::sleep(Duration::from_micros(micros));
}

/// Two clients who behave.
struct Canaries {
    http1: Canary,
    http2: Frames,
    stream: u32,
    address: SocketAddr,
}

impl Canaries {
    fn connect(address: SocketAddr) -> Self {
        let (http1, http2) = (Canary::connect(address), Frames::connect(address));
        Self { http1, http2, stream: 1, address }
    }

    /// Asks `count` times with each protocol, and notes how long that took.
    fn ask(&mut self, count: usize, took: &mut Vec<Duration>) {
        for _ in 0..count {
            self.http1.ask(took);
            let answer = timed(took, || {
                self.http2.ask(self.stream, "/canary");
                self.http2.answer(self.stream)
            });
            assert_eq!(answer, (Some(200), b"hi".to_vec()));
            self.stream += 2;
            // It leaves the machine time for the abuser.
            pause(300);
            // Before the connection is worn out.
            if self.stream > 10_000 {
                *self = Self::connect(self.address);
            }
        }
    }
}

/// The time that 50, and 99, of a hundred requests of a turn do not exceed, in one turn of four: what
/// else the machine does falls on some turns and not on others, and the abuser is there in all.
fn quartile(turns: &mut [Vec<Duration>]) -> (f64, f64) {
    let of = |turns: &mut [Vec<Duration>], percent| {
        let mut each: Vec<f64> = turns.iter_mut().map(|took| percentile(took, percent)).collect();
        each.sort_by(f64::total_cmp);
        each[each.len() / 4]
    };
    (of(turns, 50), of(turns, 99))
}

const FLOODS: &str = "ringway_downstream_h2_flood_total";

/// Requests of one turn: alone, or beside an abuser.
const TURN: usize = 200;

#[test]
fn one_abusive_connection_is_nobody_elses_concern() {
    let each = number("RINGWAY_ABUSE_REQUESTS", 400);
    let factor_max = number("RINGWAY_ABUSE_FACTOR_MAX", 0);
    let backend = backend();
    let rest = format!(
        "pools:\n  - name: p\n    health: {{ active: off, passive: off }}\n{}routes: [{{ name: all, \
         pool: p }}]\n",
        shards(&[backend.address])
    );
    let mut missed = Vec::new();
    let only = std::env::var("RINGWAY_ABUSE").unwrap_or_default();
    for abuse in ABUSES.into_iter().filter(|abuse| format!("{abuse:?}").contains(&only)) {
        // A process for each, so that none inherits what another left.
        let serve = Serve::start_with_workers(1, &rest);
        Goes::AllFirst(&serve.process.id().to_string()).have();
        Goes::First.have();
        let mut canary = Canaries::connect(serve.data);
        let (abuser, thread) = Abuser::start(abuse, serve.data);
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        canary.ask(TURN, &mut Vec::new());
        for _ in 0..each.div_ceil(TURN) {
            alone.push(Vec::new());
            canary.ask(TURN, alone.last_mut().expect("just pushed"));
            let before = abuser.connections.load(Ordering::SeqCst);
            abuser.on.store(true, Ordering::SeqCst);
            until_true("the abuser is there", || {
                abuser.connections.load(Ordering::SeqCst) > before
            });
            beside.push(Vec::new());
            canary.ask(TURN, beside.last_mut().expect("just pushed"));
            // However little of the machine it was given meanwhile.
            until_true("a flood is seen to be one", || !abuse.floods() || serve.count(FLOODS) > 0);
            abuser.on.store(false, Ordering::SeqCst);
            until_true("it is gone", || serve.metric("ringway_downstream_cx_active") <= 2.0);
        }
        abuser.over.store(true, Ordering::SeqCst);
        thread.join().expect("an abuser has no reason to panic");
        let ((p50, p99), (p50_beside, p99_beside)) = (quartile(&mut alone), quartile(&mut beside));
        let factor = p99_beside / p99;
        let floods = serve.count(FLOODS);
        say(&format!(
            "{abuse:?}: p50 {p50:.2} ms alone, {p50_beside:.2} beside it; p99 {p99:.2} ms alone, \
             {p99_beside:.2} beside it: {factor:.2} times; {} connections and {} frames of the abuser, \
             {floods} floods, {} requests of all taken up",
            abuser.connections.load(Ordering::SeqCst),
            abuser.frames.load(Ordering::SeqCst),
            serve.metrics().sum("ringway_downstream_rq_total"),
        ));
        // One that breaks the protocol would be ended for that, and show nothing.
        assert_eq!(floods > 0, abuse.floods(), "{abuse:?}: {floods} floods");
        let longest = beside.iter().flatten().max().expect("some were asked");
        assert!(*longest < Duration::from_secs(10), "{abuse:?}: one waited {longest:?}");
        if factor_max > 0 && factor > factor_max as f64 {
            missed.push(format!("{abuse:?}: {factor:.2}"));
        }
    }
    assert!(missed.is_empty(), "others wait more than {factor_max} times as long: {missed:?}");
}
