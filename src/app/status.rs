//! `ringway status`: how does a running node do?

use super::client::Client;
use super::error::AppError;
use super::say::say;
use super::table::{duration, table};
use crate::admin::copies::PoolCopies;
use crate::admin::status::{PoolStatus, ShardStatus, Status};

/// Prints a node's status; as JSON if asked.
///
/// # Errors
/// When no node answers.
pub fn run(client: &Client, json: bool) -> Result<(), AppError> {
    let answer = client.get("/v1/status")?;
    match json {
        true => say(&format!("{answer:#}")),
        false => say(&words(&client.read(answer)?)),
    }
}

/// `ringway reload`: has a running node read its file again.
///
/// # Errors
/// When no node answers, or it refuses; then nothing has changed.
pub fn reload(client: &Client, json: bool) -> Result<(), AppError> {
    let done = client.act("POST", "/v1/reload")?;
    match json {
        true => say(&format!("{done:#}")),
        false => say(done["done"].as_str().unwrap_or("done")),
    }
}

fn words(status: &Status) -> String {
    let mut text = format!(
        "node {} ({}), ringway {}, up {} s, {}\nrevision {}, routes {}\n",
        status.node,
        status.mode,
        status.version,
        status.uptime_seconds,
        if status.ready { "ready" } else { "draining" },
        status.revision,
        status.routes_digest,
    );
    text.extend(status.warnings.iter().map(|warning| format!("warning: {warning}\n")));
    text.extend(status.config_drift.iter().map(|drift| format!("drift: {drift}\n")));
    if let Some(cluster) = &status.cluster {
        text.push('\n');
        text.push_str(&super::cluster::words(cluster));
    }
    let agreed = status.cluster.is_some();
    text.extend(status.pools.iter().map(|pool| pool_words(pool, agreed)));
    text
}

/// One pool. What the nodes have agreed on is shown where there are several to agree.
fn pool_words(pool: &PoolStatus, agreed: bool) -> String {
    let mut text = format!(
        "\npool {} ({}), epoch {}{}, ring {}{}\n",
        pool.name,
        pool.kind,
        pool.epoch,
        if agreed { format!(", settled {}", pool.barrier) } else { String::new() },
        pool.digest,
        if pool.panic { ", PANIC: health is not believed" } else { "" },
    );
    let row = |shard: &ShardStatus| {
        [
            shard.id.clone(),
            shard.zone.clone(),
            shard.weight.to_string(),
            shard.share.clone(),
            shard.state.clone(),
            shard.verdict.clone(),
            standing(&shard.reads).to_owned(),
            standing(&shard.writes).to_owned(),
            shard.in_flight.to_string(),
            shard.url.clone(),
        ]
    };
    let rows: Vec<_> = pool.shards.iter().map(row).collect();
    let [shard, zone, weight, share, set] = ["shard", "zone", "weight", "share", "set"];
    let [reads, writes, in_flight, url] = ["reads", "writes", "in flight", "url"];
    text.push_str(&match agreed {
        true => {
            table([shard, zone, weight, share, set, "agreed", reads, writes, in_flight, url], &rows)
        }
        false => {
            let rows: Vec<_> = rows
                .into_iter()
                .map(|[a, b, c, d, e, _, f, g, h, i]| [a, b, c, d, e, f, g, h, i])
                .collect();
            table([shard, zone, weight, share, set, reads, writes, in_flight, url], &rows)
        }
    });
    text.extend(pool.shards.iter().map(reasons));
    if let Some(copies) = &pool.copies {
        text.push_str(&copies_words(copies));
        text.extend(pool.shards.iter().map(lacks));
    }
    for shard in &pool.shards {
        if let Some(store) = &shard.store {
            text.push_str(&format!("  {}: store {store}\n", shard.id));
        }
    }
    text
}

/// How the copies of a pool do, in a line.
fn copies_words(copies: &PoolCopies) -> String {
    let PoolCopies { replicas, consistency, .. } = copies;
    let mut text = format!("  {replicas} replicas, {consistency}");
    match (copies.comparing_percent, copies.compared_ms) {
        (Some(percent), _) => text.push_str(&format!("; being compared ({percent} %)")),
        (None, Some(ms)) => text.push_str(&format!("; last compared in {}", duration(ms))),
        (None, None) => {}
    }
    if let Some(seconds) = copies.oldest_unrepaired_seconds {
        let age = duration(1000 * seconds);
        text.push_str(&format!("; a replica lacks a write that is {age} old"));
    }
    text + "\n"
}

/// What a shard lacks of what it should have.
fn lacks(shard: &ShardStatus) -> String {
    let Some(copies) = &shard.copies else { return String::new() };
    let mut parts = match copies.standing.as_str() {
        "unbound" => vec!["has no store yet: none has answered there".to_owned()],
        "foreign" => vec!["is not used: another store than its own answers there".to_owned()],
        "fresh" => vec!["has a fresh store, which is being filled".to_owned()],
        "catching up" => vec!["is catching up".to_owned()],
        _ => Vec::new(),
    };
    if copies.hints > 0 {
        parts.push(format!("has missed writes of {} keys", copies.hints));
    }
    match parts.is_empty() {
        true => String::new(),
        false => format!("  {} {}\n", shard.id, parts.join(", ")),
    }
}

/// The first word of `down: 3 probes in a row failed`.
fn standing(words: &str) -> &str {
    words.split_once(':').map_or(words, |(standing, _)| standing)
}

/// Why a shard is not up, or has not all its keys yet, on lines of their own: in the table they would push its columns apart.
fn reasons(shard: &ShardStatus) -> String {
    let (id, reads, writes) = (&shard.id, &shard.reads, &shard.writes);
    let line = |class: &str, words: &str| match words.contains(':') {
        true => format!("  {id}: {class} are {words}\n"),
        false => String::new(),
    };
    let back = shard.slow_start_percent.filter(|_| reads == "up").map_or(String::new(), |part| {
        format!("  {id}: is back and has {part} % of its keys again (slow_start)\n")
    });
    match reads == writes {
        true => line("reads and writes", reads) + &back,
        false => line("reads", reads) + &line("writes", writes) + &back,
    }
}
