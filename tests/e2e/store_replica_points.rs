//! kill -9 at each point of a stage and a commit.
//!
//! A library under the store ends it before the n-th system call that leaves a trace: a write to a
//! file, a sync, a rename, an unlink, and the sending of an answer. With n from 1 up, until all has
//! gone through, every state that the disk can be left in is started from once. (That a page which
//! was not synced is lost with the power, only the store's own disk in memory shows.)

use std::path::{Path, PathBuf};

use crate::http_client::Reply;
use crate::store_child::{StoreProcess, command, files};
use crate::store_replica::Node;
use crate::support::say::say;
use crate::support::shim;

/// While the file `SHIM_POINT` is there, the call with the number in it is the last thing that does
/// not happen.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_long so_far;

static void point(void) {
    const char *name = getenv("SHIM_POINT");
    FILE *file = name ? fopen(name, "r") : NULL;
    long last = 0;
    if (!file)
        return;
    if (fscanf(file, "%ld", &last) != 1)
        last = 0;
    fclose(file);
    if (atomic_fetch_add(&so_far, 1) + 1 == last)
        kill(getpid(), SIGKILL);
}

static int is_file_or_socket(int fd) {
    struct stat about;
    return fstat(fd, &about) == 0 && (S_ISREG(about.st_mode) || S_ISSOCK(about.st_mode));
}

#define NEXT(name, type) ((type)dlsym(RTLD_NEXT, name))

ssize_t write(int fd, const void *from, size_t length) {
    if (is_file_or_socket(fd))
        point();
    return NEXT("write", ssize_t (*)(int, const void *, size_t))(fd, from, length);
}
ssize_t writev(int fd, const struct iovec *from, int count) {
    if (is_file_or_socket(fd))
        point();
    return NEXT("writev", ssize_t (*)(int, const struct iovec *, int))(fd, from, count);
}
ssize_t pwrite64(int fd, const void *from, size_t length, off64_t at) {
    point();
    return NEXT("pwrite64", ssize_t (*)(int, const void *, size_t, off64_t))(fd, from, length, at);
}
ssize_t pwrite(int fd, const void *from, size_t length, off_t at) {
    point();
    return NEXT("pwrite", ssize_t (*)(int, const void *, size_t, off_t))(fd, from, length, at);
}
ssize_t send(int fd, const void *from, size_t length, int flags) {
    point();
    return NEXT("send", ssize_t (*)(int, const void *, size_t, int))(fd, from, length, flags);
}
int fsync(int fd) {
    point();
    return NEXT("fsync", int (*)(int))(fd);
}
int fdatasync(int fd) {
    point();
    return NEXT("fdatasync", int (*)(int))(fd);
}
int rename(const char *from, const char *to) {
    point();
    return NEXT("rename", int (*)(const char *, const char *))(from, to);
}
int unlink(const char *name) {
    point();
    return NEXT("unlink", int (*)(const char *))(name);
}
int ftruncate64(int fd, off64_t length) {
    point();
    return NEXT("ftruncate64", int (*)(int, off64_t))(fd, length);
}
"#;

const KEY: &str = "Ringway-Token: 00ff000000000001\r\n";
const STAGE: &str = "Ringway-Stage: 1-1-0-1\r\n";
const FIRST: &str = "0180000000000000-1-1-0";
const SECOND: &str = "0180000000000001-1-1-0";

/// More calls than a stage and a commit make: the end of a test that goes on for ever.
const POINTS_MAX: usize = 200;

fn version(version: &str) -> String {
    format!("Ringway-Version: {version}\r\n")
}

/// What came of a stage and a commit at a store that may end at any moment.
struct Came {
    staged: bool,
    committed: Option<Reply>,
}

fn stage_and_commit(node: &mut Node, body: &[u8]) -> Came {
    let staged = node.ask("PUT", "stage/k", &format!("{KEY}{STAGE}"), body);
    if !staged.is_ok_and(|reply| reply.status == 200) {
        return Came { staged: false, committed: None };
    }
    let fields = format!("{KEY}{STAGE}{}", version(SECOND));
    Came { staged: true, committed: node.ask("POST", "commit/k", &fields, b"").ok() }
}

/// The store after its next start: the value that was there, or the new one, whole; nothing else
/// on its disk; and it takes the same commit's copy.
fn judge(data: &Path, old: &[u8], new: &[u8], came: &Came, point: usize) {
    let store = StoreProcess::start(data);
    let mut node = Node::bound(&store);
    let found = node.ask("GET", "value/k", KEY, b"").expect("an answer");
    assert_eq!(found.status, 200, "{point}: {found:?}");
    let told = found.field("ringway-version").expect("every answer has it");
    let is_new = told == SECOND;
    assert!(is_new || told == FIRST, "{point}: {told}");
    assert!(found.body == if is_new { new } else { old }, "{point}: another's bytes");
    if let Some(reply) = &came.committed {
        assert_eq!(reply.field("ringway-applied"), Some("yes"), "{point}: {reply:?}");
        assert!(is_new, "{point}: acknowledged, and lost");
    }
    assert!(came.staged || !is_new, "{point}: committed by nobody");
    assert_eq!(files(data, "incoming").len(), 0, "{point}: a stage was left over");
    let value = if is_new { new } else { old };
    let large = usize::from(value.len() > 64 * 1024);
    assert_eq!(files(data, "bodies").len(), large, "{point}: a file was left over, or is missing");
    // As a hint would bring it.
    let put = node.ask("PUT", "value/k", &format!("{KEY}{}", version(SECOND)), new);
    assert_eq!(put.expect("an answer").status, 200);
    let found = node.ask("GET", "value/k", KEY, b"").expect("an answer");
    assert!(found.body == new && found.field("ringway-version") == Some(SECOND), "{point}");
}

fn kill_everywhere(library: &Path, old: &[u8], new: &[u8]) -> usize {
    for at in 1..POINTS_MAX {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (data, point) = (folder.path().join("data"), folder.path().join("point"));
        let mut command = command(&data);
        let environment: [(&str, PathBuf); 2] =
            [("LD_PRELOAD", library.to_owned()), ("SHIM_POINT", point.clone())];
        command.envs(environment).env("RINGWAY_LOG", "error");
        let store = StoreProcess::start_with(command);
        let mut node = Node::bound(&store);
        let kept = node.ask("PUT", "value/k", &format!("{KEY}{}", version(FIRST)), old);
        assert_eq!(kept.expect("an answer").status, 200);
        let aside = point.with_extension("new");
        std::fs::write(&aside, at.to_string()).expect("a writable folder");
        std::fs::rename(&aside, &point).expect("a writable folder");
        let came = stage_and_commit(&mut node, new);
        let is_through = came.committed.is_some();
        drop((node, store));
        judge(&data, old, new, &came, at);
        if is_through {
            return at;
        }
    }
    panic!("a stage and a commit take more than {POINTS_MAX} calls");
}

#[test]
fn killed_at_each_point_of_stage_and_commit_a_store_has_the_old_value_or_the_new() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(library) = shim::build(folder.path(), SHIM) else { return };
    let (small, large) = (vec![1; 500], vec![2; 300_000]);
    let mut points = Vec::new();
    for (old, new) in [(&small, &large), (&large, &small), (&small, &vec![3; 700])] {
        points.push(kill_everywhere(&library, old, new));
    }
    say(&format!("  killed before each of {points:?} calls of a stage and a commit"));
    assert!(points.iter().all(|points| *points > 4), "the calls are counted: {points:?}");
}
