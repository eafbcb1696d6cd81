//! A build cache as `config/build-cache.yaml` has it: ccache over three nginx-dav shards. A lost
//! shard costs misses, never a build.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::nginx::Nginx;
use crate::support::process::run;
use crate::support::ringway::Serve;
use crate::support::say::{require, say};

/// C files of the build.
const FILES: usize = 12;

struct Build {
    ccache: PathBuf,
    gcc: PathBuf,
    folder: tempfile::TempDir,
    cache: SocketAddr,
    rounds: usize,
}

impl Build {
    fn new(ccache: PathBuf, gcc: PathBuf, cache: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for n in 0..FILES {
            let text = format!("int f{n}(int x) {{ return x * {n} + 1; }}\n");
            std::fs::write(folder.path().join(format!("f{n}.c")), text).expect("written");
        }
        Self { ccache, gcc, folder, cache, rounds: 0 }
    }

    fn command(&self, state: &Path) -> Command {
        let mut command = Command::new(&self.ccache);
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("CCACHE_CONFIGPATH", "/dev/null")
            .env("CCACHE_DIR", state)
            // The file's time is part of what direct mode looks at; these were just written.
            .env("CCACHE_SLOPPINESS", "include_file_ctime,include_file_mtime")
            .env("CCACHE_REMOTE_ONLY", "1")
            .env(
                "CCACHE_REMOTE_STORAGE",
                format!("http://{}/ccache|layout=subdirs|operation-timeout=10000", self.cache),
            );
        command
    }

    /// Builds everything on a machine that has never built before; what ccache counted.
    fn run(&mut self) -> BTreeMap<String, u64> {
        self.rounds += 1;
        let state = self.folder.path().join(format!("machine-{}", self.rounds));
        for n in 0..FILES {
            let (source, object) = (format!("f{n}.c"), format!("f{n}.o"));
            let mut command = self.command(&state);
            command.arg(&self.gcc).args(["-O1", "-c", &source, "-o", &object]);
            let said = run("ccache", &mut command);
            assert!(said.success, "the build of {source} fails: {}", said.stderr);
            let built = self.folder.path().join(&object);
            assert!(std::fs::metadata(&built).expect("the object file").len() > 0);
            std::fs::remove_file(built).expect("removed");
        }
        let said = run("ccache --print-stats", self.command(&state).arg("--print-stats"));
        said.stdout
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
            .collect()
    }
}

#[test]
fn a_second_build_hits_and_one_without_a_shard_succeeds_with_few_misses() {
    let (Some(ccache), Some(gcc)) = (require("ccache"), require("gcc")) else { return };
    let Some(nginx) = require("nginx") else { return };
    let mut servers: Vec<Nginx> = (0..3).map(|_| Nginx::start(&nginx)).collect();
    // The file as it is shipped, but for the addresses.
    let shipped = include_str!("../../config/build-cache.yaml");
    let (_, mut rest) = shipped.split_once("\npools:").expect("the file has pools");
    let mut text = String::from("pools:");
    for (at, server) in servers.iter().enumerate() {
        let placeholder = format!("10.0.0.1{}:8080", at + 1);
        let (before, after) = rest.split_once(&placeholder).expect("the file has three shards");
        text.push_str(before);
        text.push_str(&server.address.to_string());
        rest = after;
    }
    text.push_str(rest);
    let serve = Serve::start(&text);
    let mut build = Build::new(ccache, gcc, serve.data);

    let first = build.run();
    assert_eq!(first["cache_miss"], FILES as u64, "{first:?}");
    let held: Vec<usize> = servers.iter().map(Nginx::files).collect();
    assert!(held.iter().filter(|&&files| files > 0).count() > 1, "a cache on shards: {held:?}");

    let second = build.run();
    assert_eq!(second["cache_miss"], 0, "{second:?}");
    assert_eq!(second["direct_cache_hit"], FILES as u64, "{second:?}");
    assert_eq!(second["remote_storage_error"], 0, "{second:?}");
    assert_eq!(servers.iter().map(Nginx::files).collect::<Vec<_>>(), held, "nothing was stored");

    let victim = (0..3).max_by_key(|&at| held[at]).expect("three of them");
    servers[victim].process.kill_9();
    let third = build.run();
    let misses = third["cache_miss"];
    say(&format!(
        "ccache: a shard killed that held {} of {} files: the build succeeds, {misses} of {FILES} \
         compilations miss",
        held[victim],
        held.iter().sum::<usize>(),
    ));
    assert_eq!(third["remote_storage_error"], 0, "ccache sees misses, never errors: {third:?}");
    assert_eq!(third["remote_storage_timeout"], 0, "{third:?}");
    assert!(misses <= held[victim] as u64, "only what that shard owned is missed: {third:?}");
    assert!(misses > 0 || third["preprocessed_cache_hit"] > 0, "something was lost: {third:?}");

    // What was missed lies on the next shards now.
    let fourth = build.run();
    assert_eq!((fourth["cache_miss"], fourth["direct_cache_hit"]), (0, FILES as u64));

    // The shard comes back with what it had, and nothing is missed.
    servers[victim].start_again();
    serve.until_shard_is("build-cache", &format!("cache-{}", victim + 1), true);
    assert_eq!(build.run()["cache_miss"], 0);
}
