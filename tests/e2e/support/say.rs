//! What a person who runs the tests is told, also of tests that pass.

use std::io::Write;
use std::path::PathBuf;

/// Prints a line past the test harness, which keeps the output of passing tests to itself.
pub fn say(line: &str) {
    // Nobody may be listening.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// A program of the system that a test needs. `None`, said aloud, when it is not installed: the
/// test is then to return. With `RINGWAY_REQUIRE_ALL=1` a missing program is a failure instead.
///
/// # Panics
/// When the program is missing and all are required.
pub fn require(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    if found.is_none() {
        let all = std::env::var("RINGWAY_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!all, "`{program}` is not installed, and RINGWAY_REQUIRE_ALL=1 asks for it");
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        say(&format!("SKIPPED: {test}: `{program}` is not installed"));
    }
    found
}
