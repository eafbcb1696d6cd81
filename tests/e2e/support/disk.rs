//! Disks that misbehave: one whose fsync fails when told to, and one that is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::say::say;
use super::shim;

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

/// A C library under a process, whose syncs fail while a file exists. That works because the
/// standard library calls the C library's `fsync` and `fdatasync`.
pub struct FailingSyncs {
    library: PathBuf,
    trigger: PathBuf,
}

impl FailingSyncs {
    /// `None`, said aloud, where there is no C compiler.
    pub fn build(folder: &Path) -> Option<Self> {
        let library = shim::build(folder, SHIM)?;
        Some(Self { library, trigger: folder.join("trigger") })
    }

    /// What puts it under a process that is not yet started.
    pub fn environment(&self) -> Vec<(String, PathBuf)> {
        let variables = [("LD_PRELOAD", &self.library), ("SHIM_TRIGGER", &self.trigger)];
        variables.map(|(name, value)| (name.to_owned(), value.clone())).to_vec()
    }

    /// Makes the sync of every file fail whose path contains `pattern`.
    pub fn fail(&self, pattern: &str) {
        // Whole at once: the process may be looking.
        let aside = self.trigger.with_extension("new");
        std::fs::write(&aside, pattern).expect("a writable folder");
        std::fs::rename(&aside, &self.trigger).expect("a writable folder");
    }

    /// Lets them succeed again.
    pub fn mend(&self) {
        std::fs::remove_file(&self.trigger).expect("the trigger");
    }
}

/// A file system of its own, in memory, that is full after so many bytes. Unmounted when dropped.
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts it on `folder`. `None`, said aloud, where we may not mount; with
    /// `RINGWAY_REQUIRE_MOUNT=1` that is a failure.
    pub fn mount(folder: &Path, bytes_max: u64) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes_max}"), "tmpfs"])
            .arg(folder)
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            let required = std::env::var("RINGWAY_REQUIRE_MOUNT").is_ok_and(|value| value == "1");
            assert!(!required, "cannot mount a tmpfs, which needs root");
            let test = std::thread::current().name().unwrap_or("?").to_owned();
            say(&format!("SKIPPED: {test}: mounts a tmpfs, which needs root"));
            return None;
        }
        Some(Self { folder: folder.to_owned() })
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).expect("room for an empty file");
        for size in [64 * 1024, 1024, 1] {
            let bytes = vec![7; size];
            while std::io::Write::write_all(&mut file, &bytes).is_ok() {}
        }
    }

    /// Gives the room back.
    pub fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("the disk was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still hold a file on it.
        drop(Command::new("umount").arg("-l").arg(&self.folder).status());
    }
}
