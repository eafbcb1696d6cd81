//! A steady stream of clients: does anybody notice?
//!
//! Clients send at their times whether or not the answers keep up, as far as one connection allows:
//! a client that is late catches up, so that a stall is followed by a burst and not by silence.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::http::{Answer, Client, HttpError};

/// Connections to each node. With four, one slow request holds up a quarter of the load.
const CLIENTS_PER_NODE: usize = 4;

/// Paths that the clients ask for, so that every shard gets its share.
const PATHS: usize = 1000;

/// How many times in a row a client may move on to another node before a request has failed: with
/// three nodes of which one is gone, one is enough.
const MOVES_MAX: usize = 2;

/// How a client waits: longer is a failure.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// A load that runs until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Report>>,
}

/// What the clients of a load met.
#[derive(Debug, Default)]
pub struct Report {
    /// Requests that were answered as they should.
    pub answered: usize,
    /// Requests that were not, and what came instead.
    pub failed: Vec<Failure>,
    /// Requests asked again on another connection, since theirs had ended without a byte of an
    /// answer: HTTP leaves it to the client to do that for what is idempotent.
    pub asked_again: usize,
    /// Connections that their node ended in good order.
    pub closed: usize,
    /// How long each answer took, from when the request was sent.
    pub latencies: Vec<Duration>,
    /// The longest time that one client was without an answer.
    pub longest_gap: Duration,
}

/// A request that was not answered as it should.
#[derive(Debug)]
pub struct Failure {
    /// Who was asked.
    pub node: SocketAddr,
    /// What came instead, and when.
    pub what: String,
}

/// Who the clients of a load go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loyalty {
    /// Each stays with its node.
    Stays,
    /// Each has a node of its own, and goes on to the next when that is gone.
    MovesOn,
}

impl Load {
    /// `per_second` requests in all to these nodes, each client with one of them: that the node is
    /// not there is a failure.
    pub fn staying(nodes: &[SocketAddr], per_second: usize) -> Self {
        Self::start(nodes, per_second, Loyalty::Stays)
    }

    /// The same for clients that know all nodes, as behind a balancer.
    pub fn moving_on(nodes: &[SocketAddr], per_second: usize) -> Self {
        Self::start(nodes, per_second, Loyalty::MovesOn)
    }

    fn start(nodes: &[SocketAddr], per_second: usize, loyalty: Loyalty) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let count = nodes.len() * CLIENTS_PER_NODE;
        let every = Duration::from_secs(1) * u32::try_from(count).expect("few")
            / u32::try_from(per_second).expect("few");
        let clients = (0..count)
            .map(|number| {
                let first = number % nodes.len();
                let nodes: Vec<SocketAddr> = match loyalty {
                    Loyalty::Stays => vec![nodes[first]],
                    Loyalty::MovesOn => [&nodes[first..], &nodes[..first]].concat(),
                };
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                std::thread::spawn(move || {
                    One { number, nodes, at: 0, connection: None, report: Report::default() }
                        .run(every, &stop, &answered)
                })
            })
            .collect();
        Self { stop, answered, clients }
    }

    /// Answers so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Stops it; what was met.
    pub fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Report::default();
        for client in self.clients {
            all.add(client.join().expect("a client that ends"));
        }
        all.latencies.sort_unstable();
        all
    }
}

impl Report {
    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed.extend(other.failed);
        self.asked_again += other.asked_again;
        self.closed += other.closed;
        self.latencies.extend(other.latencies);
        self.longest_gap = self.longest_gap.max(other.longest_gap);
    }

    fn percentile(&self, percent: usize) -> Duration {
        let at = self.latencies.len() * percent / 100;
        self.latencies.get(at).or(self.latencies.last()).copied().unwrap_or_default()
    }

    /// The figures on one line.
    pub fn line(&self) -> String {
        format!(
            "{} answered, {} failed, {} asked again, {} closed in good order; p50 {:.1} ms, p99 \
             {:.1} ms, longest gap {} ms",
            self.answered,
            self.failed.len(),
            self.asked_again,
            self.closed,
            self.percentile(50).as_secs_f64() * 1000.0,
            self.percentile(99).as_secs_f64() * 1000.0,
            self.longest_gap.as_millis(),
        )
    }

    /// Checks that there was a load and that nothing of it failed.
    #[track_caller]
    pub fn expect_no_failure(&self) {
        self.expect_none_of(self.failed.iter().collect());
    }

    /// The same, but for the clients of one node.
    #[track_caller]
    pub fn expect_no_failure_but_at(&self, node: SocketAddr) {
        self.expect_none_of(self.failed.iter().filter(|failure| failure.node != node).collect());
    }

    #[track_caller]
    fn expect_none_of(&self, mut failures: Vec<&Failure>) {
        assert!(self.answered > 100, "there was a load: {}", self.line());
        let count = failures.len();
        failures.truncate(5);
        let first: Vec<&str> = failures.iter().map(|failure| failure.what.as_str()).collect();
        assert!(count == 0, "{}: {count} count, the first are {first:#?}", self.line());
    }
}

/// One client.
struct One {
    number: usize,
    /// Where it may go.
    nodes: Vec<SocketAddr>,
    /// Which of them it is at.
    at: usize,
    connection: Option<Client>,
    report: Report,
}

impl One {
    fn run(mut self, every: Duration, stop: &AtomicBool, answered: &AtomicUsize) -> Report {
        let begun = Instant::now();
        let mut last_answer = begun;
        // Clients are spread over the interval, not all at its beginning.
        let offset = every * u32::try_from(self.number % CLIENTS_PER_NODE).expect("few")
            / u32::try_from(CLIENTS_PER_NODE).expect("few");
        for n in 0u32.. {
            let due = begun + offset + every * n;
            if let Some(early) = due.checked_duration_since(Instant::now()) {
                #[allow(clippy::disallowed_methods, reason = "the pace of the load")]
                std::thread::sleep(early);
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let sent = Instant::now();
            let path = format!("/load/{}", (self.number * 131 + n as usize) % PATHS);
            let method = if n % 10 == 9 { "PUT" } else { "GET" };
            match self.one(method, &path) {
                Ok(()) => {
                    self.report.answered += 1;
                    answered.fetch_add(1, Ordering::Relaxed);
                    self.report.latencies.push(sent.elapsed());
                    self.report.longest_gap = self.report.longest_gap.max(last_answer.elapsed());
                    last_answer = Instant::now();
                }
                Err(why) => {
                    let when = begun.elapsed().as_millis();
                    let what = format!("{method} {path} after {when} ms: {why}");
                    self.report.failed.push(Failure { node: self.nodes[self.at], what });
                    self.connection = None;
                }
            }
        }
        self.report
    }

    /// One request, asked again where a client may.
    fn one(&mut self, method: &str, path: &str) -> Result<(), String> {
        let mut moves = 0;
        loop {
            let is_kept = self.connection.is_some();
            match self.try_one(method, path) {
                Ok(answer) if answer.status == 200 => {
                    if answer.closes() {
                        self.report.closed += 1;
                        self.connection = None;
                    }
                    return Ok(());
                }
                Ok(answer) => return Err(format!("{} {}", answer.status, answer.text())),
                // A kept connection may end between two requests.
                Err(HttpError::Closed) if is_kept => {
                    self.connection = None;
                    self.report.asked_again += 1;
                }
                Err(error) => {
                    self.connection = None;
                    let gone = matches!(error, HttpError::Closed)
                        || matches!(&error, HttpError::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused);
                    if !gone || self.nodes.len() == 1 || moves == MOVES_MAX {
                        return Err(error.to_string());
                    }
                    moves += 1;
                    self.report.asked_again += 1;
                    self.at = (self.at + 1) % self.nodes.len();
                }
            }
        }
    }

    fn try_one(&mut self, method: &str, path: &str) -> Result<Answer, HttpError> {
        let mut connection = match self.connection.take() {
            Some(kept) => kept,
            None => Client::try_connect_within(self.nodes[self.at], SILENCE_MAX)?,
        };
        let body: &[u8] = if method == "PUT" { b"content" } else { b"" };
        let answer = connection.ask(method, path, "", body)?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

/// A load that could not fail would prove nothing.
#[test]
fn a_load_notices_a_dead_node_and_one_that_knows_two_goes_on() {
    use crate::support::backend::Backend;
    use crate::support::ringway::{Serve, shards};
    use crate::support::wait::until_true;

    let backend = Backend::tireless("b");
    let file = format!(
        "pools:\n  - name: p\n    health: {{ active: {{ path: / }} }}\n{}routes:\n  - {{ name: all, pool: p }}\n",
        shards(&[backend.address])
    );
    let (mut dies, lives) = (Serve::start(&file), Serve::start(&file));
    let stays = Load::staying(&[dies.data, lives.data], 200);
    let moves_on = Load::moving_on(&[dies.data, lives.data], 200);
    let more = || {
        let so_far = (stays.answered(), moves_on.answered());
        until_true("both go on", || {
            stays.answered() > so_far.0 + 50 && moves_on.answered() > so_far.1 + 50
        });
    };
    more();
    dies.process.kill_9();
    more();
    let (stays, moves_on) = (stays.stop(), moves_on.stop());
    assert!(!stays.failed.is_empty(), "{}", stays.line());
    stays.expect_no_failure_but_at(dies.data);
    moves_on.expect_no_failure();
    assert!(moves_on.asked_again > 0, "{}", moves_on.line());
}
