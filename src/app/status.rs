//! `ringway status`: how does a running node do?

use super::client::Client;
use super::error::AppError;
use super::say::say;
use super::table::table;
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
pub fn reload(client: &Client) -> Result<(), AppError> {
    let done = client.act("POST", "/v1/reload")?;
    say(done["done"].as_str().unwrap_or("done"))
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
    if let Some(error) = &status.reload_error {
        text.push_str(&format!("the last reload was refused: {error}\n"));
    }
    for pool in &status.pools {
        text.push_str(&pool_table(pool));
    }
    text
}

fn pool_table(pool: &PoolStatus) -> String {
    let mut text = format!(
        "\npool {} ({}), epoch {}, ring {}{}\n",
        pool.name,
        pool.kind,
        pool.epoch,
        pool.digest,
        if pool.panic { ", PANIC: health is not believed" } else { "" },
    );
    let head = ["shard", "zone", "weight", "share", "set", "reads", "writes", "in flight", "url"];
    let row = |shard: &ShardStatus| {
        [
            shard.id.clone(),
            shard.zone.clone(),
            shard.weight.to_string(),
            shard.share.clone(),
            shard.state.clone(),
            standing(&shard.reads).to_owned(),
            standing(&shard.writes).to_owned(),
            shard.in_flight.to_string(),
            shard.url.clone(),
        ]
    };
    text.push_str(&table(head, &pool.shards.iter().map(row).collect::<Vec<_>>()));
    for shard in &pool.shards {
        text.push_str(&reasons(shard));
    }
    text
}

/// The first word of `down: 3 probes in a row failed`.
fn standing(words: &str) -> &str {
    words.split_once(':').map_or(words, |(standing, _)| standing)
}

/// Why a shard is not up, on lines of their own: in the table they would push its columns apart.
fn reasons(shard: &ShardStatus) -> String {
    let (id, reads, writes) = (&shard.id, &shard.reads, &shard.writes);
    let line = |class: &str, words: &str| match words.contains(':') {
        true => format!("  {id}: {class} are {words}\n"),
        false => String::new(),
    };
    match reads == writes {
        true => line("reads and writes", reads),
        false => line("reads", reads) + &line("writes", writes),
    }
}
