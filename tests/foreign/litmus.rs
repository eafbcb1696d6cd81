//! litmus, the WebDAV test suite of the neon project: its 104 tests say the same of a server through
//! Ringway as they say of it directly.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::support::process::run;
use crate::support::say::{require, say};
use crate::tools::{Server, before, installed, same};

/// Runs the suite; what it said, without what differs between two runs.
fn litmus(program: &Path, address: SocketAddr) -> String {
    // It writes its logs where it stands.
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(program);
    command.current_dir(folder.path()).arg("-k").arg(format!("http://{address}/"));
    let said = run("litmus", &mut command);
    let text = format!("{}\n{}", said.stdout, said.stderr).replace('\r', "\n");
    let host = address.to_string();
    let lines = text.lines().map(|line| line.trim_end().replace(&host, "HOST"));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn litmus_sees_no_difference() {
    let (Some(program), Some(rclone)) = (require("litmus"), installed("rclone")) else { return };
    let servers = [(); 2].map(|()| Server::start(&rclone, "webdav", &[]));
    let direct = litmus(&program, servers[0].address);
    let serve = before(servers[1].address, "shard");
    let through = litmus(&program, serve.data);
    same(&direct, &through);
    let suites: Vec<&str> =
        through.lines().filter(|line| line.starts_with("<- summary for")).collect();
    say(&format!("litmus, directly and through Ringway alike:\n{}", suites.join("\n")));
    assert_eq!(suites.len(), 5, "{through}");
    let passed = through.lines().filter(|line| line.ends_with(" pass")).count();
    assert!(passed > 80, "{passed} tests pass: {through}");
}
