//! A client who behaves, and how long it waits while others do not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::http::Client;

/// A client of HTTP/1.1 on one connection.
pub struct Canary(Client);

impl Canary {
    pub fn connect(address: SocketAddr) -> Self {
        Self(Client::connect(address))
    }

    /// Asks once, and notes how long that took.
    #[track_caller]
    pub fn ask(&mut self, took: &mut Vec<Duration>) {
        let answer = timed(took, || self.0.ask("GET", "/canary", "", b""));
        assert_eq!(answer.expect("the canary is served").text(), "hi");
    }
}

/// Does what is to be done, and notes how long that took.
pub fn timed<T>(took: &mut Vec<Duration>, ask: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let answer = ask();
    took.push(begun.elapsed());
    answer
}

/// The time in milliseconds that this many of a hundred do not exceed.
pub fn percentile(took: &mut [Duration], percent: usize) -> f64 {
    took.sort_unstable();
    took[(took.len() * percent / 100).min(took.len() - 1)].as_secs_f64() * 1000.0
}

/// A shard for canaries and for those who misbehave: it never stops answering `/large`, and never
/// begins to answer a PUT.
pub fn backend() -> Backend {
    Backend::start(|connection| {
        while let Some(head) = connection.head() {
            if head.starts_with("PUT") {
                return connection.until_closed();
            }
            if head.starts_with("GET /large") {
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
                while connection.say([b'x'; 64 * 1024]) {}
                return;
            }
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        }
    })
}

/// How much of it a script asks for, or what is usual.
pub fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
