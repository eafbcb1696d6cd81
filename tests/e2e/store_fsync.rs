//! A disk whose fsync fails: fault row 14. Nothing is acknowledged from then on, reads go on.
//!
//! The failure is made under the store by a preloaded library, which works because the standard
//! library calls the C library's `fsync` and `fdatasync`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::store_child::{StoreProcess, command};
use crate::support::say::require;

/// Fails with EIO for every file whose path contains the content of the file named by
/// `SHIM_TRIGGER`, as long as that exists.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    const char *trigger = getenv("SHIM_TRIGGER");
    FILE *file = trigger ? fopen(trigger, "r") : NULL;
    if (!file)
        return 0;
    char pattern[256] = "", link[64], path[4096] = "";
    size_t length = fread(pattern, 1, sizeof pattern - 1, file);
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0)
        return 0;
    return length > 0 && strstr(path, pattern) != NULL;
}

static int run(const char *name, int fd) {
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fsync(int fd) { return run("fsync", fd); }
int fdatasync(int fd) { return run("fdatasync", fd); }
"#;

/// A store over a disk whose syncs fail while a file exists.
struct Shimmed {
    library: PathBuf,
    trigger: PathBuf,
}

impl Shimmed {
    /// `None` where there is no C compiler.
    fn build(folder: &Path) -> Option<Self> {
        let compiler = require("cc")?;
        let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
        std::fs::write(&source, SHIM).expect("a writable folder");
        let built = Command::new(compiler)
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status()
            .is_ok_and(|status| status.success());
        assert!(built, "the failing fsync does not compile");
        Some(Self { library, trigger: folder.join("trigger") })
    }

    fn start(&self, data: &Path) -> StoreProcess {
        let mut command = command(data);
        command.env("LD_PRELOAD", &self.library).env("SHIM_TRIGGER", &self.trigger);
        StoreProcess::start_with(command)
    }

    /// Makes the sync of every file fail whose path contains `pattern`.
    fn fail(&self, pattern: &str) {
        // Whole at once: the store may be looking.
        let aside = self.trigger.with_extension("new");
        std::fs::write(&aside, pattern).expect("a writable folder");
        std::fs::rename(&aside, &self.trigger).expect("a writable folder");
    }

    fn mend(&self) {
        std::fs::remove_file(&self.trigger).expect("the trigger");
    }
}

fn large(first: u8) -> Vec<u8> {
    vec![first; 300_000]
}

fn expect_fenced(store: &StoreProcess) {
    for (method, target, body) in
        [("PUT", "/new", vec![1]), ("PUT", "/new", large(1)), ("DELETE", "/small", vec![])]
    {
        let reply = store.ask(method, target, &body);
        assert_eq!((reply.status, reply.problem().as_str()), (503, "fenced"));
        assert_eq!(reply.field("ringway-outcome"), Some("not-applied"));
    }
    assert_eq!(store.ask("GET", "/_ringway/health", b"").status, 200);
    assert_eq!(store.ask("GET", "/_ringway/health/write", b"").status, 503);
    assert_eq!(store.ask("GET", "/small", b"").body, b"kept");
    assert!(store.ask("GET", "/large", b"").body == large(7));
    assert_eq!(store.ask("GET", "/new", b"").status, 404);
}

/// A put of `body` while syncs of `pattern` fail. That it is not
/// acknowledged shows that this sync stands before the acknowledgement.
fn fail_one_sync(pattern: &str, body: &[u8], expected: (u16, &str)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let Some(disk) = Shimmed::build(folder.path()) else { return };
    let store = disk.start(&data);
    assert_eq!(store.ask("PUT", "/small", b"kept").status, 201);
    assert_eq!(store.ask("PUT", "/large", &large(7)).status, 201);

    disk.fail(pattern);
    let reply = store.ask("PUT", "/under-test", body);
    assert_eq!((reply.status, reply.problem().as_str()), expected, "{pattern}");
    let outcome = if expected.1 == "unknown" { "unknown" } else { "not-applied" };
    assert_eq!(reply.field("ringway-outcome"), Some(outcome));
    // The next fsync would succeed, as Linux has it: that must not tempt the store.
    disk.mend();
    assert_eq!(store.ask("GET", "/under-test", b"").status, 404, "it was not acknowledged");
    expect_fenced(&store);

    drop(store);
    let store = StoreProcess::start(&data);
    assert_eq!(store.ask("GET", "/small", b"").body, b"kept");
    assert!(store.ask("GET", "/large", b"").body == large(7));
    let found = store.ask("GET", "/under-test", b"");
    let may_be = outcome == "unknown" && found.body == body;
    assert!(found.status == 404 || may_be, "{found:?}");
    assert_eq!(store.ask("PUT", "/new", b"x").status, 201, "a start mends it");
}

#[test]
fn a_failed_sync_of_the_index_is_not_acknowledged() {
    fail_one_sync("/data/index.redb", b"small", (500, "unknown"));
    fail_one_sync("/data/index.redb", &large(8), (500, "unknown"));
}

#[test]
fn a_failed_sync_of_a_large_body_is_not_acknowledged() {
    fail_one_sync("/data/incoming/", &large(8), (503, "fenced"));
}

#[test]
fn a_failed_sync_of_the_folder_of_large_bodies_is_not_acknowledged() {
    fail_one_sync("/data/bodies", &large(8), (500, "unknown"));
}
