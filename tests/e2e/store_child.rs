//! `ringway store` as a process, and what a test may need that not every machine has.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use crate::http_client::{Client, Reply};
use crate::support::wait::until;

/// A running store; killed when dropped.
pub struct StoreProcess {
    child: Child,
    pub address: SocketAddr,
    // Kept open: a store must not die of a closed pipe.
    _out: BufReader<ChildStdout>,
}

/// The command line of a store that listens on any free port.
pub fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["store", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command
}

impl StoreProcess {
    pub fn start(data: &Path) -> Self {
        Self::start_with(command(data))
    }

    /// Starts and waits for the line that says where the store listens.
    pub fn start_with(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary was built");
        let mut out = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("stdout can be read");
        let address = line
            .trim_end()
            .strip_prefix("ringway store listening on http")
            .map(|rest| rest.trim_start_matches('s'))
            .and_then(|rest| rest.strip_prefix("://"))
            .and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("the store did not start: {line:?}"));
        Self { child, address, _out: out }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address).expect("the store listens")
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, target: &str, body: &[u8]) -> Reply {
        self.client().ask(method, target, body).expect("an answer")
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::HUP).expect("the store runs");
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("the store runs");
        self.child.wait().expect("a child");
    }

    /// SIGTERM, and the way in which the store ends.
    pub fn terminate(mut self) -> ExitStatus {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("the store runs");
        until("the store ends", || self.child.try_wait().expect("a child"))
    }
}

impl Drop for StoreProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}"))
    })
}

/// The files in one of the store's folders.
pub fn files(data: &Path, name: &str) -> Vec<PathBuf> {
    std::fs::read_dir(data.join(name))
        .expect("a folder of the store")
        .map(|entry| entry.expect("an entry").path())
        .collect()
}
