//! What does the kernel say of this process?
//!
//! The `process_*` series that every Prometheus client has, read from `/proc/self`. Written here
//! since the `prometheus` crate's collector brings a second copy of several crates for 40 lines.

use std::fs;

use prometheus::proto::MetricFamily;

use crate::metrics::{Group, Kind, Sample};

/// Reads and writes out everything. What cannot be read is left out.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "the exposition format has doubles only")]
pub fn export() -> Vec<MetricFamily> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the command's name, in parentheses, and may hold anything.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok());
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) as f64 / ticks);
    let resident = field(24).map(|pages| pages as f64 * rustix::param::page_size() as f64);
    let started =
        field(22).zip(boot_time()).map(|(start, boot)| boot as f64 + start as f64 / ticks);
    let descriptors = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let gauges = [
        ("process_resident_memory_bytes", "Resident memory size in bytes.", resident),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            field(23).map(|bytes| bytes as f64),
        ),
        ("process_open_fds", "Number of open file descriptors.", descriptors),
        (
            "process_max_fds",
            "Maximum number of open file descriptors.",
            limit.map(|most| most as f64),
        ),
        ("process_threads", "Number of OS threads in the process.", field(20).map(|n| n as f64)),
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            started,
        ),
    ];
    let mut families: Vec<MetricFamily> = gauges
        .into_iter()
        .filter_map(|(name, help, value)| {
            let mut group = Group::new(name, help, Kind::Gauge, &[]);
            group.push(&[], Sample::Gauge(value?));
            group.finish()
        })
        .collect();
    let name = "process_cpu_seconds_total";
    let help = "Total user and system CPU time spent in seconds.";
    let mut total = Group::new(name, help, Kind::Counter, &[]);
    if let Some(seconds) = cpu {
        total.push(&[], Sample::Seconds(seconds));
    }
    families.extend(total.finish());
    families
}

/// When the machine started, in seconds since 1970.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}
