//! Does the agreed cluster hold while its nodes, their disks and the wires between them fail? Real
//! processes on loopback: `ringway serve` as it is shipped, three nodes and more.
//!
//! The house rules are those of the end-to-end tests: no fixed port, no sleep in place of a
//! condition, an end to every wait, and each process killed by its own id. What must hold in every
//! row of the fault matrix: epochs only grow, one epoch has one ring, what was acknowledged is there
//! exactly once, and the data path does not notice.
//!
//! `RINGWAY_LONG=1` lengthens what is short here for the sake of every change; `.ci/cluster-soak`
//! runs that.

#![allow(
    clippy::cast_precision_loss,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "figures are shown, and what is said is read when a test fails"
)]

#[path = "../e2e/support/mod.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest of it")]
mod support;

#[path = "../history/mod.rs"]
mod history;

mod changes;
mod clocks;
mod commands;
mod cut;
mod disks;
mod group;
mod leader_loss;
mod links;
mod load;
mod recover;
mod restarts;
mod said;
mod tour;
mod trust;
mod turns;
mod verdicts;
