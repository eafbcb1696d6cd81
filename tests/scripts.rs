//! Golden scripts: one folder for each room, one file for each story, its name a sentence.
//!
//! A script is a list of commands with the output that they must give. A comment before each step
//! says why it is there, so that the output can be judged by eye. After a change that is meant,
//! `UPDATE_GOLDENFILES=1 cargo test --test scripts` writes the new output; read the difference.
//!
//! A room joins with a runner in `tests/scripts/<room>.rs` and one function below.

#[path = "scripts/cluster.rs"]
mod cluster;
#[path = "scripts/cluster_kept.rs"]
mod cluster_kept;
#[path = "scripts/cluster_log.rs"]
mod cluster_log;
#[path = "scripts/health.rs"]
mod health;
#[path = "scripts/lease.rs"]
mod lease;
#[path = "scripts/replicas.rs"]
mod replicas;
#[path = "scripts/ring.rs"]
mod ring;
#[path = "scripts/verdict.rs"]
mod verdict;

/// Runs every script of a room, each with a new runner, and says which failed.
#[allow(clippy::print_stderr, reason = "which script failed is asked first")]
fn run_all<R: goldenscript::Runner>(room: &str, mut runner: impl FnMut() -> R) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(room);
    let entries = std::fs::read_dir(&folder).expect("the room has a folder");
    let mut scripts: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {}", folder.display());
    for script in scripts {
        eprintln!("script {}", script.display());
        goldenscript::run(&mut runner(), &script).expect("the script can be read");
    }
}

#[test]
fn ring() {
    run_all("ring", ring::Runner::default);
}

#[test]
fn health() {
    run_all("health", health::Story::default);
}

#[test]
fn cluster() {
    run_all("cluster", cluster::Runner::default);
}

#[test]
fn lease() {
    run_all("lease", lease::Story::default);
}

#[test]
fn verdict() {
    run_all("verdict", verdict::Story::default);
}

#[test]
fn replicas() {
    run_all("replicas", replicas::Story::default);
}
