//! rclone as a WebDAV client: what is copied through Ringway is what lies on the server, and what
//! lies on the server is what is read through Ringway, for names and sizes of every kind.

use std::net::SocketAddr;
use std::path::Path;

use crate::support::process::run;
use crate::tools::{Server, before, installed, plain_rclone, same};

/// Names that a URL has to escape, or that two readers escape differently.
const NAMES: [&str; 14] = [
    "plain.txt",
    "with space and %20.txt",
    "a+b=c&d;e,f!g$h.txt",
    "(parens) [brackets] {braces}.txt",
    "tilde~hash#question?.txt",
    "quote'double\".txt",
    "umlaut-\u{e4}\u{f6}\u{fc}-\u{4e2d}\u{6587}-\u{1f600}.txt",
    "..double.dots..",
    ".hidden",
    "back\\slash.txt",
    "pipe|caret^tick`.txt",
    "percent%41%2F%00.txt",
    "deep/er/and/deeper/file.bin",
    "colon:at@.txt",
];

fn fill(folder: &Path) {
    for (at, name) in NAMES.iter().enumerate() {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let mut random = fastrand::Rng::with_seed(at as u64);
        // Empty, small, and larger than every buffer.
        let bytes = [0, 1, 1000, 20_000, 70_000, 3_000_000][at % 6];
        let content: Vec<u8> = (0..bytes).map(|_| random.u8(..)).collect();
        std::fs::write(path, content).expect("written");
    }
}

/// Runs rclone; `url` is where its remote `:webdav:` is.
#[track_caller]
fn rclone(program: &Path, url: SocketAddr, arguments: &[&str]) -> String {
    let mut command = plain_rclone(program);
    command.args(["--webdav-url", &format!("http://{url}/"), "--retries", "1"]);
    command.args(["--low-level-retries", "1", "--transfers", "8"]).args(arguments);
    let said = run("rclone", &mut command);
    assert!(said.success, "rclone {arguments:?}: {}", said.stderr);
    said.stdout
}

#[test]
fn rclone_finds_what_it_copied() {
    let Some(program) = installed("rclone") else { return };
    let server = Server::start(&program, "webdav", &[]);
    let serve = before(server.address, "shard");
    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path());
    let local = folder.path().to_str().expect("a path");

    rclone(&program, serve.data, &["copy", local, ":webdav:in"]);
    for address in [serve.data, server.address] {
        rclone(&program, address, &["check", "--download", local, ":webdav:in"]);
    }
    // Straight on the disk of the server: nothing was lost or changed on the way.
    for name in NAMES {
        let (sent, held) = (folder.path().join(name), server.root().join("in").join(name));
        let held = std::fs::read(held).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(held == std::fs::read(sent).expect("it was written"), "{name}");
    }
    let list = ["lsf", "-R", "--format", "psm", ":webdav:"];
    same(&rclone(&program, server.address, &list), &rclone(&program, serve.data, &list));

    // Moves and removals, by whom the shard is told of in its own name.
    rclone(&program, serve.data, &["moveto", ":webdav:in/plain.txt", ":webdav:in/moved (1).txt"]);
    rclone(&program, serve.data, &["copyto", ":webdav:in/.hidden", ":webdav:in/copied+.txt"]);
    rclone(&program, serve.data, &["deletefile", ":webdav:in/..double.dots.."]);
    let has = |name: &str| server.root().join("in").join(name).is_file();
    assert!(has("moved (1).txt") && has("copied+.txt"));
    assert!(!has("plain.txt") && !has("..double.dots.."));
    rclone(&program, serve.data, &["purge", ":webdav:in"]);
    assert!(!server.root().join("in").exists());
}
