//! Does the tour that `ringway dev --nodes 3` prints work, line by line?

use std::process::Command;

use rustix::process::Signal;

use crate::group::AGREEMENT_MAX;
use crate::said::View;
use crate::support::process::{Process, run};
use crate::support::ringway::ringway;
use crate::support::say::require;
use crate::support::wait::until_within;
use crate::turns::together;

/// Another program may take one of the usual ports between the look whether it is free and the
/// start.
const ATTEMPTS: usize = 5;

#[test]
fn every_line_of_the_tour_works() {
    let _turn = together();
    if require("curl").is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("dev").display().to_string();
    let mut dev = (0..ATTEMPTS)
        .find_map(|_| {
            let arguments = ["dev", "--nodes", "3", "--port", "0", "--data", &data];
            let dev = Process::start("dev", ringway().args(arguments));
            dev.try_stdout_line(|line| line.starts_with("Ctrl-C").then_some(())).map(|()| dev)
        })
        .expect("it starts");
    let said = dev.stdout();
    let admins: Vec<_> = said
        .lines()
        .filter_map(|line| {
            let url = line.trim().strip_prefix("admin")?.trim().strip_prefix("http://")?;
            url.split('/').next()?.parse().ok()
        })
        .collect();
    assert_eq!(admins.len(), 3, "three nodes: {said}");
    let weight = |admin| {
        let view = View::of(admin)?;
        view.shard("blobs", "s2")?["weight"].as_u64()
    };

    let (_, tour) = said.split_once("in another terminal:\n").expect("a tour");
    let lines = tour.lines().take_while(|line| line.starts_with("  "));
    let mut count = 0;
    for line in lines {
        let command = line.split_once("  #").map_or(line, |(command, _)| command).trim();
        // A line may come sooner than what the one before it began.
        until_within(&format!("`{command}` works"), AGREEMENT_MAX, || {
            let done = run("a line of the tour", Command::new("sh").args(["-c", command]));
            if !done.success {
                eprintln!("`{command}`: {}{}", done.stdout, done.stderr);
            }
            done.success.then_some(())
        });
        count += 1;
    }
    assert!(count >= 9, "the tour has all its lines: {tour}");
    for admin in admins {
        // The one that was stopped has a new port, or learns what it missed.
        until_within("all know the weight that was agreed", AGREEMENT_MAX, || {
            View::of(admin).is_none_or(|_| weight(admin) == Some(2)).then_some(())
        });
    }
    dev.signal(Signal::INT);
    assert!(dev.ended().success());
}
