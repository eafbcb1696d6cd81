//! What these tests run: programs of `.ci/foreign`, rclone as a server, Ringway before it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::http::Client;
use crate::support::net::lasting_address;
use crate::support::process::{Process, Said, run};
use crate::support::ringway::{Serve, shards};
use crate::support::say::say;
use crate::support::wait::until;

/// A program that `.ci/foreign` installs. `None`, said aloud, without it.
///
/// # Panics
/// When it is missing and all are required.
pub fn installed(program: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/foreign/bin");
    let found = Some(folder.join(program)).filter(|file| file.is_file());
    if found.is_none() {
        let all = std::env::var("RINGWAY_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!all, "`{program}` is not in target/foreign: run .ci/foreign");
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        say(&format!("SKIPPED: {test}: `{program}` is not in target/foreign: run .ci/foreign"));
    }
    found
}

/// A Python script of this folder, run with `arguments`.
pub fn script(python: &Path, name: &str, arguments: &[&str]) -> Said {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(name);
    let mut command = Command::new(python);
    // Nothing of the user's own: no proxy, no credentials, no configuration.
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("NO_PROXY", "*");
    run(name, command.arg(file).args(arguments))
}

/// `rclone serve`, over a folder of its own.
pub struct Server {
    /// Ends with it.
    _process: Process,
    folder: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts one: `kind` is `webdav` or `s3`.
    #[track_caller]
    pub fn start(rclone: &Path, kind: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = lasting_address();
        let mut command = plain_rclone(rclone);
        command.args(["serve", kind, "--addr", &address.to_string()]).args(options);
        let mut process = Process::start("rclone serve", command.arg(folder.path()));
        until("rclone answers", || {
            assert!(process.is_running(), "rclone ended: {}", process.stderr());
            Client::try_connect(address).ok()?.ask("GET", "/", "", b"").ok()
        });
        Self { _process: process, folder, address }
    }

    /// The folder that it serves.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }
}

/// rclone without a configuration of the user's.
pub fn plain_rclone(rclone: &Path) -> Command {
    let mut command = Command::new(rclone);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent");
    command.args(["--config", "/dev/null"]);
    command
}

/// Ringway with one cache pool over one shard.
pub fn before(shard: SocketAddr, host: &str) -> Serve {
    Serve::start(&format!(
        "pools:\n  - name: p\n    host: {host}\n    health: {{ active: off }}\n{}routes: [{{ name: \
         all, pool: p }}]\n",
        shards(&[shard])
    ))
}

/// Compares what was said directly with what was said through Ringway, line by line.
#[track_caller]
pub fn same(direct: &str, through: &str) {
    let (direct, through): (Vec<&str>, Vec<&str>) =
        (direct.lines().collect(), through.lines().collect());
    let different: BTreeSet<(&str, &str)> = direct
        .iter()
        .zip(&through)
        .filter(|(one, other)| one != other)
        .map(|(one, other)| (*one, *other))
        .collect();
    assert!(different.is_empty(), "directly, and through Ringway: {different:#?}");
    assert_eq!(direct.len(), through.len(), "one of them said more");
}
