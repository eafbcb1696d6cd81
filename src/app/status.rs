//! `ringway status`: how does a running node do?

use std::net::SocketAddr;
use std::path::Path;

use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::error::AppError;
use super::operators::admin_address;
use super::say::say;
use crate::admin::status::{PoolStatus, ShardStatus, Status};
use crate::admin::token::Token;

/// Prints a node's status; as JSON if asked.
///
/// # Errors
/// When no node answers.
pub fn run(admin: Option<SocketAddr>, data_dir: &Path, json: bool) -> Result<(), AppError> {
    let address = admin.map_or_else(|| admin_address(data_dir), Ok)?;
    let document = ask(address, "GET", "/v1/status", None)?;
    if json {
        return say(&format!("{document:#}"));
    }
    let status: Status = serde_json::from_value(document).map_err(|error| {
        AppError::Refused(format!("the node at {address} speaks another release: {error}"))
    })?;
    say(&words(&status))
}

/// `ringway reload`: has a running node read its file again.
///
/// # Errors
/// When no node answers, or it refuses; then nothing has changed.
pub fn reload(admin: Option<SocketAddr>, data_dir: &Path) -> Result<(), AppError> {
    let address = admin.map_or_else(|| admin_address(data_dir), Ok)?;
    let done = ask(address, "POST", "/v1/reload", Some(data_dir))?;
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
        text.push_str(&table(pool));
    }
    text
}

fn table(pool: &PoolStatus) -> String {
    let mut text = format!(
        "\npool {} ({}), epoch {}, ring {}{}\n",
        pool.name,
        pool.kind,
        pool.epoch,
        pool.digest,
        if pool.panic { ", PANIC: health is not believed" } else { "" },
    );
    let head = ["shard", "zone", "weight", "share", "set", "reads", "writes", "in flight", "url"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(pool.shards.iter().map(|shard| {
        vec![
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
    }));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(&format!("  {}\n", line.trim_end()));
    }
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

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Asks a node's admin listener. With `token_of`, the token of that folder goes along.
///
/// # Errors
/// When it cannot be reached, or answers with a problem.
pub(super) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    token_of: Option<&Path>,
) -> Result<serde_json::Value, AppError> {
    let mut request =
        http::Request::builder().method(method).uri(path).header("Host", address.to_string());
    if let Some(folder) = token_of {
        let token = Token::read(folder).map_err(AppError::system(folder.display().to_string()))?;
        request = request.header("Authorization", format!("Bearer {}", token.as_str()));
    }
    let request = request
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| AppError::Refused(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AppError::system("cannot start a runtime"))?;
    let unreachable = |error: &dyn std::fmt::Display| {
        AppError::Refused(format!("no node answers at {address}: {error}: is it running?"))
    };
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let good = answer.status().is_success();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| AppError::Refused(format!("{address}: {error}")))?;
        connection.abort();
        let document: serde_json::Value =
            serde_json::from_slice(&body.to_bytes()).map_err(|error| {
                AppError::Refused(format!("{address} does not answer JSON: {error}"))
            })?;
        match good {
            true => Ok(document),
            false => Err(AppError::Refused(
                document["detail"].as_str().unwrap_or("refused without a reason").to_owned(),
            )),
        }
    })
}
