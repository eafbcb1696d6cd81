//! A client who behaves, and how long it waits while others do not.

use std::net::SocketAddr;
use std::process::Command;
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
        let mut goes_first = false;
        while let Some(head) = connection.head() {
            if head.starts_with("GET /canary") && !std::mem::replace(&mut goes_first, true) {
                Goes::First.have();
            }
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

/// Who goes before whom where a script measures in real time (`RINGWAY_REAL_TIME`).
#[derive(Debug, Clone, Copy)]
pub enum Goes<'a> {
    /// This thread goes before all others.
    First,
    /// So do all threads of this process.
    AllFirst(&'a str),
    /// This thread gets what others leave, as if it were on another machine.
    Last,
}

impl Goes<'_> {
    /// Has it so.
    pub fn have(self) {
        if let Self::Last = self {
            rustix::process::setpriority_process(None, 10).expect("anybody may be nicer");
        }
        let Ok(priority) = std::env::var("RINGWAY_REAL_TIME") else { return };
        let thread = std::fs::read_link("/proc/thread-self").expect("Linux has threads");
        let thread = thread.file_name().expect("it is named").to_string_lossy();
        let arguments = match self {
            Self::First => ["--fifo", "--pid", &priority, &thread].to_vec(),
            Self::AllFirst(pid) => ["--fifo", "--all-tasks", "--pid", &priority, pid].to_vec(),
            Self::Last => ["--other", "--pid", "0", &thread].to_vec(),
        };
        let chrt = Command::new("chrt").args(arguments).status();
        assert!(chrt.is_ok_and(|status| status.success()), "who asks for it has tried it");
    }
}

/// How much of it a script asks for, or what is usual.
pub fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
