//! Is Ringway transparent? Suites and clients that others wrote speak to a server directly and
//! through a cache pool with one shard, and must see the same.
//!
//! The programs come from Debian (`litmus`, `wget`) and from PyPI, into a folder that
//! `.ci/foreign` makes (`rclone` as client and as DAV and S3 server, boto3, requests, aiohttp). A
//! test whose program is not there says so aloud and passes; with `RINGWAY_REQUIRE_ALL=1` it fails.
//! The house rules are those of the end-to-end tests.

#![allow(
    clippy::cast_precision_loss,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "figures are shown, and what is said is read when a test fails"
)]

#[path = "../e2e/support/mod.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest of it")]
mod support;

mod clients;
mod litmus;
mod rclone;
mod s3;
mod tools;
