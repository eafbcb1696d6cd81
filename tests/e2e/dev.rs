//! `ringway dev`, as the README's tour goes through it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::process::Signal;

use crate::support::http::{Client, get, put};
use crate::support::process::{Process, run};
use crate::support::ringway::{locate, ringway, ringway_says};
use crate::support::wait::until;

/// A running `ringway dev`.
struct Dev {
    process: Process,
    data: SocketAddr,
    /// Where its data lies, as it says itself.
    folder: PathBuf,
}

/// `dev` looks whether its usual ports for telemetry and admin are free, and then takes them: not
/// two at once, please.
pub static STARTING: Mutex<()> = Mutex::new(());

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let _alone = STARTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Another program of this machine may take one of these ports in that very moment.
        for _ in 0..5 {
            let mut command = ringway();
            let process =
                Process::start("dev", command.args(["dev", "--port", "0"]).args(arguments));
            let announced = process.try_stdout_line(|line| {
                line.trim().strip_prefix("data")?.trim().strip_prefix("http://")?.parse().ok()
            });
            let Some(data) = announced else {
                assert!(process.stderr().contains("cannot listen"), "{}", process.stderr());
                continue;
            };
            let folder = process.stdout_line("dev says how its shards are stopped", |line| {
                let (_, rest) = line.split_once("dev stop s2 --data ")?;
                Some(PathBuf::from(rest.split_whitespace().next()?))
            });
            return Self { process, data, folder };
        }
        panic!("the usual ports are taken whenever they look free");
    }

    fn in_folder(folder: &Path) -> Self {
        Self::start(&["--data", &folder.display().to_string()])
    }

    fn node(&self) -> String {
        self.folder.join("node").display().to_string()
    }

    /// `ringway dev stop` or `start`; what it says, if it succeeds.
    fn switch(&self, verb: &str, shard: &str) -> Result<String, String> {
        let folder = self.folder.display().to_string();
        let said = ringway_says(&["dev", verb, shard, "--data", &folder]);
        if said.success { Ok(said.stdout) } else { Err(said.stderr) }
    }

    /// What `ringway status --json` says of a shard's reads and writes.
    fn health(&self, pool: &str, shard: &str) -> (String, String) {
        let said = ringway_says(&["status", "--json", "--data-dir", &self.node()]);
        assert!(said.success, "{}", said.stderr);
        let status: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
        let named = |list: &serde_json::Value, key: &str, name: &str| {
            let mut items = list.as_array().expect("a list").iter();
            items.find(|item| item[key] == name).expect("it is there").clone()
        };
        let shard = named(&named(&status["pools"], "name", pool)["shards"], "id", shard);
        let text = |class: &str| shard[class].as_str().expect("a text").to_owned();
        (text("reads"), text("writes"))
    }

    fn repair_finds_nothing(&self) {
        let said = ringway_says(&["repair", "objects", "--dry-run", "--data-dir", &self.node()]);
        assert!(said.success, "{}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains("65536 slots compared, 0 differed"), "{}", said.stdout);
    }

    fn until_up(&self, shard: &str) {
        for pool in ["objects", "blobs"] {
            until("the shard is up again", || {
                (self.health(pool, shard) == ("up".to_owned(), "up".to_owned())).then_some(())
            });
        }
    }
}

/// An object that was acknowledged, and by whom.
struct Stored {
    path: String,
    shard: String,
}

impl Stored {
    fn put(dev: &Dev, path: String) -> Self {
        let answer = put(dev.data, &path, path.as_bytes());
        assert_eq!(answer.status, 201, "{answer:?}");
        let shard = answer.shard().to_owned();
        Self { path, shard }
    }

    fn check(&self, dev: &Dev) {
        let answer = get(dev.data, &self.path);
        assert_eq!((answer.status, answer.shard()), (200, self.shard.as_str()), "{}", self.path);
        assert_eq!(answer.body, self.path.as_bytes(), "{}", self.path);
    }
}

/// An object of which there are copies.
struct Kept {
    path: String,
    body: String,
}

impl Kept {
    fn new(dev: &Dev, number: usize) -> Self {
        let mut kept = Self { path: format!("/objects/{number}"), body: String::new() };
        kept.change(dev);
        kept
    }

    fn change(&mut self, dev: &Dev) {
        self.body.push_str(&self.path);
        let answer = put(dev.data, &self.path, self.body.as_bytes());
        let level = answer.field("Ringway-Consistency").expect("it is told");
        assert!(matches!(answer.status, 200..300) && level.starts_with("quorum;"), "{answer:?}");
    }

    fn check(&self, dev: &Dev) {
        let answer = get(dev.data, &self.path);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, self.body.as_str()),
            "{answer:?}"
        );
    }

    /// Whether each of three replicas says that it has one and the same version.
    fn is_on_all(&self, dev: &Dev) -> bool {
        let said = ringway_says(&["locate", "--json", "--data-dir", &dev.node(), &self.path]);
        let located: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
        let holders = located["holders"].as_array().expect("a list");
        assert_eq!(holders.len(), 3, "{located:#}");
        holders
            .iter()
            .all(|holder| holder["holds"] == "value" && holder["version"] == holders[0]["version"])
    }
}

#[test]
fn the_tour() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("made-by-dev");
    let mut dev = Dev::in_folder(&folder);
    assert_eq!(dev.folder, folder);
    let file = folder.join("ringway.yaml");

    let said = ringway_says(&["check", "-c", &file.display().to_string()]);
    assert!(
        said.success && said.stdout.contains("pool `blobs`, a cache of 3 shards"),
        "{}",
        said.stdout
    );

    let stored: Vec<Stored> = (0..60).map(|n| Stored::put(&dev, format!("/blobs/{n}"))).collect();
    let mut kept: Vec<Kept> = (0..30).map(|n| Kept::new(&dev, n)).collect();
    let paths: Vec<String> = stored.iter().map(|stored| stored.path.clone()).collect();
    let located = locate(&file, &paths);
    for (stored, located) in stored.iter().zip(&located) {
        stored.check(&dev);
        assert_eq!(stored.shard, located.owner, "{}", stored.path);
    }

    // A shard goes away …
    assert!(dev.switch("stop", "s2").expect("it is stopped").contains("`s2` is stopped"));
    assert!(dev.switch("stop", "s2").expect_err("twice").contains("stopped already"));
    assert!(dev.switch("stop", "s9").expect_err("unknown").contains("there are s1, s2, s3"));
    // … reads of its keys fail over to the next shard, which has them not; all others are served.
    for (stored, located) in stored.iter().zip(&located) {
        let answer = get(dev.data, &stored.path);
        match stored.shard.as_str() {
            "s2" => assert_eq!((answer.status, answer.shard()), (404, located.next[0].as_str())),
            _ => stored.check(&dev),
        }
    }
    let of_s2 = |prefix: &str| {
        let mut on_it = stored.iter().filter(|s| s.shard == "s2" && s.path.starts_with(prefix));
        on_it.next().expect("a key of s2").path.clone()
    };
    // … copies are on all of them: reads and writes go on, and two of three acknowledge.
    for kept in &mut kept {
        kept.check(&dev);
        kept.change(&dev);
    }
    until("the shard is known to be down", || {
        (dev.health("objects", "s2").1 != "up").then_some(())
    });
    kept.iter().for_each(|kept| kept.check(&dev));
    // … and a write of a cached object spills, since it never changes.
    let spilled = put(dev.data, &of_s2("/blobs/"), of_s2("/blobs/").as_bytes());
    assert_eq!(spilled.status, 201);
    assert_ne!(spilled.shard(), "s2");
    assert_ne!(dev.health("objects", "s2").1, "up");
    let words = ringway_says(&["status", "--data-dir", &dev.node()]);
    assert!(
        words.success
            && words.stdout.contains("pool objects (replicated), epoch 1")
            && words.stdout.contains("has missed writes of 30 keys"),
        "{}",
        words.stdout
    );

    // It comes back with everything that it had.
    assert!(dev.switch("start", "s2").expect("it is started").contains("`s2` is running"));
    assert!(dev.switch("start", "s2").expect_err("twice").contains("running already"));
    dev.until_up("s2");
    for stored in &stored {
        stored.check(&dev);
    }
    // It is brought what it missed, with nobody asking for it.
    until("all replicas hold the newest", || {
        kept.iter().all(|kept| kept.is_on_all(&dev)).then_some(())
    });
    dev.repair_finds_nothing();

    // A second one on the same folder is refused, and says who holds it.
    let mut second = ringway();
    second.args(["dev", "--port", "0", "--data"]).arg(&folder);
    let refused = run("dev", &mut second);
    let holder = dev.process.id().to_string();
    assert!(!refused.success && refused.stderr.contains(&holder), "{}", refused.stderr);

    // kill -9 of all of it at once: what was acknowledged is there, and the epoch is the same.
    let last = Stored::put(&dev, "/blobs/last".to_owned());
    kept.push(Kept::new(&dev, 30));
    dev.process.kill_9();
    let mut dev = Dev::in_folder(&folder);
    for stored in stored.iter().chain([&last]) {
        stored.check(&dev);
    }
    kept.iter().for_each(|kept| kept.check(&dev));
    assert_eq!(get(dev.data, "/blobs/x").field("Ringway-Epoch"), Some("1"));

    // Ctrl-C, with a client that stays connected.
    let mut client = Client::connect(dev.data);
    assert_eq!(client.ask("GET", &last.path, "", b"").expect("an answer").status, 200);
    dev.process.signal(Signal::INT);
    assert_eq!(dev.process.ended().code(), Some(0));
    assert!(client.is_closed_by_peer());
    let gone = ringway_says(&["dev", "stop", "s1", "--data", &folder.display().to_string()]);
    assert!(!gone.success && gone.stderr.contains("is it running?"), "{}", gone.stderr);
}

#[test]
fn a_temporary_one_leaves_nothing_behind() {
    let mut dev = Dev::start(&["--temp", "--shards", "5"]);
    let mut shards: Vec<String> =
        (0..100).map(|n| Stored::put(&dev, format!("/blobs/{n}")).shard).collect();
    shards.sort();
    shards.dedup();
    assert_eq!(shards, ["s1", "s2", "s3", "s4", "s5"]);
    assert!(dev.folder.join("s5").is_dir());
    dev.process.signal(Signal::INT);
    assert_eq!(dev.process.ended().code(), Some(0));
    assert!(!dev.folder.exists(), "{} is removed", dev.folder.display());
}
