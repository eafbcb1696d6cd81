//! The processes under test: `ringway serve`, `ringway store`, and the commands that end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use super::http::{Client, get};
use super::net::lasting_address;
use super::process::{Process, Said, run};
use super::wait::until;

/// The binary under test, as a command: the one that was built with the tests, unless
/// `RINGWAY_BINARY` names another, as scripts do that measure.
pub fn ringway() -> Command {
    let other = std::env::var_os("RINGWAY_BINARY");
    let mut command = Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_ringway").into()));
    // The operator's environment is none of the tests' business.
    command.env_remove("RINGWAY_LOG");
    command
}

/// Runs a command of Ringway's that ends by itself.
#[track_caller]
pub fn ringway_says(arguments: &[&str]) -> Said {
    run(&format!("ringway {}", arguments.join(" ")), ringway().args(arguments))
}

/// What `ringway locate`, or `/v1/locate`, says of one key.
#[derive(Debug, PartialEq, Eq)]
pub struct Located {
    /// The shard that owns it.
    pub owner: String,
    /// Those that come next, in order.
    pub next: Vec<String>,
}

impl Located {
    /// Reads an explanation.
    pub fn read(explanation: &str) -> Self {
        let mut lines = explanation.lines().map(str::trim);
        let owner = lines.find_map(|line| {
            let (place, verdict) = line.strip_prefix("at")?.split_once(": ")?;
            (verdict == "primary").then_some(())?;
            Some(place.split_whitespace().nth(1)?.trim_end_matches(',').to_owned())
        });
        let next = lines.find_map(|line| line.strip_prefix("next")).unwrap_or("");
        Self {
            owner: owner.unwrap_or_else(|| panic!("no primary in {explanation}")),
            next: next.split(',').map(|shard| shard.trim().to_owned()).collect(),
        }
    }
}

/// Asks `ringway locate` for paths; what it says of each, in order.
#[track_caller]
pub fn locate(file: &Path, paths: &[String]) -> Vec<Located> {
    let file = file.display().to_string();
    let paths = paths.iter().map(String::as_str);
    let arguments: Vec<&str> = ["locate", "-c", &file].into_iter().chain(paths).collect();
    let said = ringway_says(&arguments);
    assert!(said.success, "{}", said.stderr);
    // A key's lines are those between its own, which alone begins in the first column.
    let text = format!("\n{}", said.stdout);
    text.split("\n/").skip(1).map(Located::read).collect()
}

/// A running `ringway serve` in a folder of its own.
pub struct Serve {
    /// The process.
    pub process: Process,
    folder: TempDir,
    /// Where clients go.
    pub data: SocketAddr,
    /// Where metrics are.
    pub telemetry: SocketAddr,
    /// Where the operator asks.
    pub admin: SocketAddr,
}

impl Serve {
    /// Starts it. `rest` is the file without `node` and `listen`.
    #[track_caller]
    pub fn start(rest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start_in(folder, rest)
    }

    /// The same, in a folder that is there already.
    #[track_caller]
    pub fn start_in(folder: TempDir, rest: &str) -> Self {
        std::fs::write(folder.path().join("ringway.yaml"), file(folder.path(), rest))
            .expect("the file can be written");
        Self::start_as_written(folder)
    }

    /// The same as [`Self::start`], with another number of workers than two.
    #[track_caller]
    pub fn start_with_workers(workers: usize, rest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let two = file(folder.path(), rest);
        let text = two.replacen("workers: 2", &format!("workers: {workers}"), 1);
        std::fs::write(folder.path().join("ringway.yaml"), text).expect("the file can be written");
        Self::start_as_written(folder)
    }

    /// The same, with the file as it stands in the folder.
    #[track_caller]
    pub fn start_as_written(folder: TempDir) -> Self {
        Self::start_prepared("serve", folder, &mut ringway())
    }

    /// The same, under a name of its own and with a command that was prepared, as by an
    /// environment.
    #[track_caller]
    pub fn start_prepared(name: &str, folder: TempDir, command: &mut Command) -> Self {
        let file = folder.path().join("ringway.yaml");
        let process = Process::start(name, command.args(["serve", "-c"]).arg(&file));
        let announced = |what: &str| {
            process.stdout_line(&format!("serve announces {what}"), |line| {
                address_of(line.trim().strip_prefix(what)?)
            })
        };
        let (data, telemetry) = (announced("data"), announced("telemetry"));
        let admin = announced("admin");
        Self { process, folder, data, telemetry, admin }
    }

    /// Where clients go, if there are several listeners: in the order of the file.
    pub fn listeners(&self) -> Vec<SocketAddr> {
        let said = self.process.stdout();
        said.lines().filter_map(|line| address_of(line.trim().strip_prefix("data")?)).collect()
    }

    /// The folder that holds its file and its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its file.
    pub fn file(&self) -> PathBuf {
        self.folder().join("ringway.yaml")
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("node")
    }

    /// Ends it at once and gives its folder back.
    pub fn into_folder(mut self) -> TempDir {
        self.process.kill_9();
        self.folder
    }

    /// Writes the file anew; `rest` as in [`start`](Self::start).
    pub fn write(&self, rest: &str) {
        std::fs::write(self.file(), file(self.folder(), rest)).expect("written");
    }

    /// Writes the file anew and has it read by SIGHUP, without waiting for what comes of it.
    pub fn hang_up(&self, rest: &str) {
        self.write(rest);
        self.process.signal(Signal::HUP);
    }

    /// The same, with the whole of the file.
    pub fn reload_as_written(&self, text: &str) {
        std::fs::write(self.file(), text).expect("written");
        self.process.signal(Signal::HUP);
    }

    /// What `/v1/status` says.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        serde_json::from_slice(&get(self.admin, "/v1/status").body).expect("a status is JSON")
    }

    /// One pool of the status.
    #[track_caller]
    pub fn pool_status(&self, pool: &str) -> serde_json::Value {
        let status = self.status();
        let pools = status["pools"].as_array().expect("pools are a list");
        pools.iter().find(|p| p["name"] == pool).expect("the pool is there").clone()
    }

    /// One shard of the status.
    #[track_caller]
    pub fn shard_status(&self, pool: &str, shard: &str) -> serde_json::Value {
        let pool = self.pool_status(pool);
        let shards = pool["shards"].as_array().expect("shards are a list");
        shards.iter().find(|s| s["id"] == shard).expect("the shard is there").clone()
    }

    /// Waits until a shard looks up, or does not.
    #[track_caller]
    pub fn until_shard_is(&self, pool: &str, shard: &str, up: bool) {
        until(&format!("{shard} of {pool} is {}", if up { "up" } else { "down" }), || {
            let seen = self.shard_status(pool, shard);
            let is_up = seen["reads"] == "up" && seen["writes"] == "up";
            (is_up == up).then_some(())
        });
    }

    /// Waits until every store of a pool that keeps data is in use, and none lacks anything: a pool takes
    /// writes as soon as most of its stores are known, and what the others miss is noted.
    #[track_caller]
    pub fn until_all_stores_keep(&self, path: &str) {
        for level in ["quorum", "all"] {
            until(&format!("the pool takes writes at {level}"), || {
                let fields = format!("Ringway-Consistency: {level}\r\n");
                let answer = Client::connect(self.data).ask("PUT", path, &fields, b"1").ok()?;
                (answer.status == 204).then_some(())
            });
        }
        until("nothing is missed", || {
            (self.metrics().sum("ringway_hints_pending{") == 0.0).then_some(())
        });
    }

    /// Everything counted.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics(get(self.telemetry, "/metrics").text())
    }

    /// The value of a counter that must be there.
    #[track_caller]
    pub fn count(&self, series: &str) -> usize {
        let text = self.metrics().text(series).map(str::to_owned);
        let count = text.and_then(|text| text.parse().ok());
        count.unwrap_or_else(|| panic!("no counter {series}"))
    }

    /// The value of a series that must be there.
    #[track_caller]
    pub fn metric(&self, series: &str) -> f64 {
        self.metrics().value(series).unwrap_or_else(|| panic!("no series {series}"))
    }
}

/// The address in a URL that a node announces.
fn address_of(url: &str) -> Option<SocketAddr> {
    url.trim()
        .strip_prefix("http")?
        .trim_start_matches('s')
        .strip_prefix("://")?
        .split('/')
        .next()?
        .parse()
        .ok()
}

fn file(folder: &Path, rest: &str) -> String {
    let data_dir = folder.join("node");
    format!(
        "node: {{ name: test, data_dir: {}, workers: 2 }}\nlisten: {{ data: \"127.0.0.1:0\", \
         telemetry: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }}\n{rest}",
        data_dir.display()
    )
}

/// A scrape.
pub struct Metrics(pub String);

impl Metrics {
    /// The value of one series, written as it is exposed: `name{label="value"}`.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.text(series)?.parse().ok()
    }

    /// The same, as it is exposed.
    pub fn text(&self, series: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
    }

    /// The sum of all series whose line begins so.
    pub fn sum(&self, prefix: &str) -> f64 {
        let values = self.0.lines().filter(|line| line.starts_with(prefix));
        values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}

/// A running `ringway store`.
pub struct Store {
    /// The process.
    pub process: Process,
    environment: Vec<(String, PathBuf)>,
    folder: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its metrics are.
    pub telemetry: SocketAddr,
}

impl Store {
    /// Starts it on a port that it can have again later.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), Vec::new())
    }

    /// The same, in this folder, with this in its environment.
    #[track_caller]
    pub fn start_in(folder: TempDir, environment: Vec<(String, PathBuf)>) -> Self {
        let address = lasting_address();
        let (process, telemetry) = store(folder.path(), address, &environment);
        Self { process, environment, folder, address, telemetry }
    }

    /// Where its data lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data is lost; it does not run.
    pub fn lose_folder(&mut self) {
        self.folder = tempfile::tempdir().expect("a folder");
    }

    /// Has the store in another folder stand in for it, at the same port; its own folder is given back.
    #[track_caller]
    pub fn stand_in(&mut self, folder: TempDir) -> TempDir {
        self.process.kill_9();
        let own = std::mem::replace(&mut self.folder, folder);
        self.start_again();
        own
    }

    /// Ends it at once and gives its folder.
    pub fn into_folder(mut self) -> TempDir {
        self.process.kill_9();
        self.folder
    }

    /// Starts it again after it was killed: same folder, same port.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.process.kill_9();
        (self.process, self.telemetry) = store(self.folder.path(), self.address, &self.environment);
    }
}

fn store(
    folder: &Path,
    address: SocketAddr,
    environment: &[(String, PathBuf)],
) -> (Process, SocketAddr) {
    let mut command = ringway();
    command.envs(environment.iter().cloned());
    command.args(["store", "--telemetry", "127.0.0.1:0", "--listen", &address.to_string()]);
    let process = Process::start("store", command.arg("--data").arg(folder));
    let ready = format!("ringway store listening on http://{address}");
    process.stdout_line("the store is ready", |line| (line == ready).then_some(()));
    let telemetry = process.stdout_line("the store announces its telemetry", |line| {
        let url = line.trim().strip_prefix("telemetry")?.trim().strip_prefix("http://")?;
        url.strip_suffix("/metrics")?.parse().ok()
    });
    (process, telemetry)
}

/// The shards of a pool as YAML, named s1, s2, ...
pub fn shards(addresses: &[SocketAddr]) -> String {
    let mut text = String::from("    shards:\n");
    for (at, address) in addresses.iter().enumerate() {
        text.push_str(&format!("      - {{ id: s{}, url: \"http://{address}\" }}\n", at + 1));
    }
    text
}
