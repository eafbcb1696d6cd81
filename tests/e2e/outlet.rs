//! A node whose messages nobody takes: its reader has gone, or their disk is full.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::dev::STARTING;
use crate::support::http::get;
use crate::support::net::lasting_address;
use crate::support::process::{Process, run};
use crate::support::ringway::{Store, ringway_says, shards};
use crate::support::wait::until;

/// Runs the binary under test by a shell, which sends its output elsewhere.
fn shell(line: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line, env!("CARGO_BIN_EXE_ringway")]).arg(folder);
    command.env_remove("RINGWAY_LOG");
    command
}

fn file(folder: &Path, stores: &[SocketAddr]) -> String {
    format!(
        "node: {{ name: test, data_dir: {}, workers: 1 }}\nlisten: {{ data: \"127.0.0.1:0\", \
         telemetry: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }}\npools:\n  - name: p\n    health: \
         {{ active: {{ path: /_ringway/health, interval: 50ms }} }}\n{}routes:\n  - {{ name: all, \
         pool: p }}\n",
        folder.join("node").display(),
        shards(stores)
    )
}

#[test]
fn a_node_whose_messages_cannot_be_written_goes_on() {
    let stores = [Store::start(), Store::start()];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let write = |stores: &[SocketAddr]| {
        std::fs::write(path.join("ringway.yaml"), file(path, stores)).expect("written");
    };
    write(&[stores[0].address]);
    let line = "exec \"$0\" serve -c \"$1/ringway.yaml\" 2>/dev/full";
    let mut process = Process::start("serve", &mut shell(line, path));
    let data: SocketAddr = process.stdout_line("serve announces data", |line| {
        line.trim().strip_prefix("data")?.trim().strip_prefix("http://")?.parse().ok()
    });

    // A reload has something to say, and so has a shard that goes down.
    let gone = lasting_address();
    write(&[stores[0].address, stores[1].address, gone]);
    let node = path.join("node").display().to_string();
    let said = ringway_says(&["reload", "--data-dir", &node]);
    assert!(said.success, "{}", said.stderr);
    let status = || ringway_says(&["status", "--data-dir", &node]).stdout;
    until("the third shard is seen to be down", || status().contains("down").then_some(()));
    let up_again = Process::start("a shard", &mut store_at(gone, path));
    until("and up again", || (!status().contains("down")).then_some(()));
    drop(up_again);
    assert_eq!(get(data, "/nothing").status, 404);
    process.signal(Signal::TERM);
    assert!(process.ended().success(), "{}", process.stderr());
}

fn store_at(address: SocketAddr, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["store", "--telemetry", "127.0.0.1:0", "--listen", &address.to_string()]);
    command.arg("--data").arg(folder.join("store"));
    command
}

#[test]
fn dev_ends_in_order_though_nobody_reads_what_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = "exec \"$0\" dev --port 0 --data \"$1\" >/dev/full";
    let alone = STARTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut process = Process::start("dev", &mut shell(line, folder.path()));
    let node = folder.path().join("node").display().to_string();
    until("dev is ready", || ringway_says(&["status", "--data-dir", &node]).success.then_some(()));
    drop(alone);
    process.signal(Signal::TERM);
    assert!(process.ended().success(), "{}", process.stderr());
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = [lasting_address()];
    std::fs::write(folder.path().join("ringway.yaml"), file(folder.path(), &stores))
        .expect("written");
    // The pipe holds 64 KiB: more than that meets a closed one for certain.
    let many = "locate -c \"$1/ringway.yaml\" $(seq -f /%g 2000)";
    let said = run("locate", &mut shell(&format!("\"$0\" {many} | head -n 1"), folder.path()));
    assert_eq!((said.stdout.trim(), said.stderr.as_str()), ("/1", ""));
    let said = run("locate", &mut shell(&format!("\"$0\" {many} >/dev/full"), folder.path()));
    assert!(
        !said.success && said.stderr.starts_with("ringway: standard output: "),
        "{}",
        said.stderr
    );
}
