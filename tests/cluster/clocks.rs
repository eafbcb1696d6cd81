//! What becomes of a node whose wall clock is wrong? Fault row 12.

use std::path::{Path, PathBuf};

use crate::group::{AGREEMENT_MAX, Cluster, Setup};
use crate::load::Load;
use crate::said::Outcome;
use crate::support::say::say;
use crate::support::shim;
use crate::support::wait::until_within;
use crate::turns::together;

/// Adds the number of seconds in the file `SHIM_CLOCK`, if there is one, to the wall clock, and to
/// no other.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int (*next)(clockid_t, struct timespec *) =
        (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = next(clock, time);
    const char *name = getenv("SHIM_CLOCK");
    FILE *file = result == 0 && clock == CLOCK_REALTIME && name ? fopen(name, "r") : NULL;
    long seconds = 0;
    if (file) {
        if (fscanf(file, "%ld", &seconds) == 1)
            time->tv_sec += seconds;
        fclose(file);
    }
    return result;
}
"#;

/// Sets a node's clock, whole at once.
fn set(clock: &Path, seconds: i64) {
    let aside = clock.with_extension("new");
    std::fs::write(&aside, seconds.to_string()).expect("a writable folder");
    std::fs::rename(&aside, clock).expect("a writable folder");
}

#[test]
fn a_clock_that_jumps_costs_its_node_the_lease_and_nobody_else_anything() {
    let _turn = together();
    let folder = tempfile::tempdir().expect("a folder");
    let Some(library) = shim::build(folder.path(), SHIM) else { return };
    let clock = |at: usize| -> PathBuf { folder.path().join(format!("clock-{at}")) };
    let cluster = Cluster::start_with(&Setup::default(), |at, member, _| {
        member.environment =
            vec![("LD_PRELOAD".to_owned(), library.clone()), ("SHIM_CLOCK".to_owned(), clock(at))];
    });
    let load = Load::staying(&cluster.data(&[0, 1, 2]), 200);
    for (at, hours) in [(0, 1), (1, -1), (2, 1)] {
        let others = cluster.others(at);
        let before = cluster.until_agreed();
        set(&clock(at), hours * 3600);
        until_within("it has no lease", AGREEMENT_MAX, || {
            (cluster.view(at)?.lease_ms() == 0).then_some(())
        });
        assert_eq!(cluster.members[at].telemetry("/healthz/quorum").status, 503);
        assert_eq!(cluster.members[at].telemetry("/readyz").status, 200);
        // The others have leases and agree, whoever leads; a leader whose clock is wrong hands
        // over.
        let weight = 10 + u16::try_from(at).expect("few");
        cluster.weigh_at_last(others[0], "s1", weight);
        let after = cluster.until_agreed_among(&others);
        assert_ne!(after.leader().as_ref(), Some(&cluster.members[at].name), "it leads on");
        say(&format!(
            "  clock of n{} wrong by {hours} h: leader {:?} before, {:?} after",
            at + 1,
            before.leader(),
            after.leader()
        ));
        set(&clock(at), 0);
        cluster.until_agreed();
        assert_eq!(cluster.weigh(at, "s2", weight), Outcome::Done);
    }
    let load = load.stop();
    say(&format!("  clocks: {}", load.line()));
    load.expect_no_failure();
}
