//! Clients that write down what they did and what they were told, for a judge to read afterwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::http::{Answer, Client, HttpError};

/// Keys that all clients share.
pub const KEYS: usize = 200;

/// Clients, and so the most that are at one key at once. More would make the judge's work explode
/// and find nothing else.
pub const CLIENTS: usize = 12;

/// How long a client waits. What has not been answered by then may still be done.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// Of a hundred operations, so many read a shared key, write one, and delete one; the rest writes a
/// key that is never written again.
const READS: u8 = 45;
const WRITES: u8 = 35;
const DELETES: u8 = 8;

/// What one operation on a shared key was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The key was given this value, which no other write gives.
    Write(u64),
    /// It was deleted.
    Delete,
    /// It was read: its value, or none.
    Read(Option<u64>),
}

/// One operation on a shared key, between two moments of one clock of all clients.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Which key.
    pub key: usize,
    /// What was asked, and for a read what was answered.
    pub what: What,
    /// Before the first byte was sent.
    pub begun: u64,
    /// After the last byte came; `None`: it may have happened, may happen yet, or never.
    pub ended: Option<u64>,
}

/// What one client did.
#[derive(Debug, Default)]
pub struct Diary {
    /// On shared keys.
    pub operations: Vec<Operation>,
    /// Keys written once, with the word that came: whether it was acknowledged.
    pub unique: Vec<(String, bool)>,
    /// Answers that said that nothing was done.
    pub refused: usize,
    /// Operations of which nobody can tell.
    pub unknown: usize,
    /// Answers that should never come, the first few.
    pub wrong: Vec<String>,
}

/// Clients at work.
pub struct Clients {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clock: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Diary>>,
}

impl Clients {
    /// Sends [`CLIENTS`] of them to these nodes. `seed` decides what they ask for.
    pub fn start(nodes: &[SocketAddr], seed: u64) -> Self {
        let (stop, done, clock) = (Arc::default(), Arc::default(), Arc::default());
        let threads = (0..CLIENTS)
            .map(|number| {
                let mut one = One {
                    number: u64::try_from(number).expect("few"),
                    nodes: nodes.to_vec(),
                    connection: None,
                    rng: fastrand::Rng::with_seed(seed ^ (number as u64 + 1)),
                    clock: Arc::clone(&clock),
                    written: 0,
                    diary: Diary::default(),
                };
                let (stop, done): (Arc<AtomicBool>, Arc<AtomicUsize>) =
                    (Arc::clone(&stop), Arc::clone(&done));
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if one.step() {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    one.diary
                })
            })
            .collect();
        Self { stop, done, clock, threads }
    }

    /// Operations so far, without those that were refused.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Stops them; what they wrote down, and the clock, to go on with.
    pub fn stop(self) -> (Vec<Diary>, Arc<AtomicU64>) {
        self.stop.store(true, Ordering::Relaxed);
        let diaries = self.threads.into_iter().map(|one| one.join().expect("a client that ends"));
        (diaries.collect(), self.clock)
    }
}

/// What an answer, or the want of one, says of a write.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Done,
    NotApplied,
    Unknown,
    Wrong(String),
}

/// What can be concluded about a write. Only the word `not-applied` says that nothing happened.
fn told(answer: &Result<Answer, HttpError>) -> Told {
    match answer {
        Err(_) => Told::Unknown,
        Ok(answer) => match (answer.status, answer.field("Ringway-Outcome")) {
            (200 | 201 | 204, _) => Told::Done,
            (503, Some("not-applied")) => Told::NotApplied,
            (500..=599, Some("unknown")) => Told::Unknown,
            // What the proxy says before it has looked at the request.
            (503, None) => Told::NotApplied,
            _ => Told::Wrong(format!("{} {}", answer.status, answer.text())),
        },
    }
}

struct One {
    number: u64,
    nodes: Vec<SocketAddr>,
    connection: Option<Client>,
    rng: fastrand::Rng,
    clock: Arc<AtomicU64>,
    written: u64,
    diary: Diary,
}

impl One {
    /// One operation; whether anything came of it, or may have.
    fn step(&mut self) -> bool {
        let refused = self.diary.refused;
        self.operation();
        let is_refused = self.diary.refused > refused;
        if is_refused {
            // As behind a balancer, somebody else is asked next.
            self.connection = None;
        }
        !is_refused
    }

    fn operation(&mut self) {
        let key = self.rng.usize(0..KEYS);
        let path = shared(key);
        let begun = self.tick();
        match self.rng.u8(0..100) {
            dice if dice < READS => {
                let answer = self.ask("GET", &path, b"");
                if let Some(value) = self.read(&path, &answer) {
                    let ended = Some(self.tick());
                    let what = What::Read(value);
                    self.diary.operations.push(Operation { key, what, begun, ended });
                }
            }
            dice if dice < READS + WRITES => {
                let value = self.fresh();
                let answer = self.ask("PUT", &path, value.to_string().as_bytes());
                self.note(key, What::Write(value), begun, &answer);
            }
            dice if dice < READS + WRITES + DELETES => {
                let answer = self.ask("DELETE", &path, b"");
                self.note(key, What::Delete, begun, &answer);
            }
            _ => {
                let path = format!("/unique/{}", self.fresh());
                let answer = self.ask("PUT", &path, path.as_bytes());
                match told(&answer) {
                    Told::Done => self.diary.unique.push((path, true)),
                    Told::Unknown => self.diary.unique.push((path, false)),
                    Told::NotApplied => self.diary.refused += 1,
                    Told::Wrong(what) => self.wrong(&format!("PUT {path}: {what}")),
                }
            }
        }
    }

    /// A value that nobody else writes.
    fn fresh(&mut self) -> u64 {
        self.written += 1;
        (self.number << 40) | self.written
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn note(&mut self, key: usize, what: What, begun: u64, answer: &Result<Answer, HttpError>) {
        let ended = match told(answer) {
            Told::Done => Some(self.tick()),
            Told::Unknown => {
                self.diary.unknown += 1;
                None
            }
            Told::NotApplied => {
                self.diary.refused += 1;
                return;
            }
            Told::Wrong(said) => return self.wrong(&format!("{what:?} of {key}: {said}")),
        };
        self.diary.operations.push(Operation { key, what, begun, ended });
    }

    fn read(&mut self, path: &str, answer: &Result<Answer, HttpError>) -> Option<Option<u64>> {
        match answer {
            Ok(answer) if answer.status == 200 => match answer.text().parse() {
                Ok(value) => Some(Some(value)),
                Err(_) => {
                    self.wrong(&format!("GET {path}: `{}`", answer.text()));
                    None
                }
            },
            Ok(answer) if answer.status == 404 && is_of_the_pool(answer) => Some(None),
            Ok(answer) if matches!(answer.status, 502..=504) => {
                self.diary.refused += 1;
                None
            }
            Ok(answer) => {
                self.wrong(&format!("GET {path}: {} {}", answer.status, answer.text()));
                None
            }
            Err(_) => None,
        }
    }

    fn wrong(&mut self, what: &str) {
        if self.diary.wrong.len() < 5 {
            self.diary.wrong.push(what.to_owned());
        }
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer, HttpError> {
        let connected = self.connection.take().filter(|_| self.rng.u8(0..10) > 0);
        let mut client = match connected {
            Some(client) => client,
            None => {
                let node = self.nodes[self.rng.usize(0..self.nodes.len())];
                Client::try_connect_within(node, SILENCE_MAX).map_err(HttpError::Io)?
            }
        };
        let answer = client.ask(method, path, "Ringway-Consistency: quorum\r\n", body)?;
        if !answer.closes() {
            self.connection = Some(client);
        }
        Ok(answer)
    }
}

/// A 404 that is about the key and not about the way to it.
fn is_of_the_pool(answer: &Answer) -> bool {
    answer.field("Ringway-Error").is_none_or(|error| error == "not-found")
}

/// The path of a shared key.
pub fn shared(key: usize) -> String {
    format!("/shared/{key}")
}
