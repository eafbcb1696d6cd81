//! What does a command do, in a sentence?

use std::fmt;

use super::command::{Change, Command, StoreMark};
use super::pool::Verdict;
use super::state::ClusterState;
use crate::ids::ShardId;

/// Longest sentence that the history keeps. A change of many steps is cut there.
const SUMMARY_BYTES_MAX: usize = 400;

/// The sentence for `command`, given to `state`, without its full stop.
pub(super) fn summary(state: &ClusterState, command: &Command) -> String {
    let sentence = match command {
        Command::CreatePool { pool, shards, .. } => {
            format!("create pool {pool} with {}", count(shards.len()))
        }
        Command::SetPool { pool, .. } => format!("change the settings of pool {pool}"),
        Command::RemovePool { pool } => format!("remove pool {pool}"),
        Command::SetShards { pool, put, remove } => {
            let ids =
                |ids: &mut dyn Iterator<Item = &ShardId>| joined(ids.map(ToString::to_string));
            let put = ids(&mut put.iter().map(|(id, _)| id));
            let remove = ids(&mut remove.iter());
            match (put.is_empty(), remove.is_empty()) {
                (false, true) => format!("in pool {pool} set shards {put}"),
                (true, false) => format!("in pool {pool} remove shards {remove}"),
                _ => format!("in pool {pool} set shards {put} and remove {remove}"),
            }
        }
        Command::Found { cluster, node, address, .. } => {
            format!("found cluster {cluster} with node 1, {node}, at {address}")
        }
        Command::AddNode { name, address, role, .. } => format!("add {role} {name} at {address}"),
        Command::SetNode { node, name, address, role } => {
            let what = [
                name.as_ref().map(|name| format!("name {name}")),
                address.as_ref().map(|address| format!("address {address}")),
                role.map(|role| format!("role {role}")),
            ];
            format!("give node {node} {}", joined(what.into_iter().flatten()))
        }
        Command::RemoveNode { node } => format!("remove node {node}"),
        Command::BeginIncarnation { node, after, address, version, .. } => {
            format!(
                "begin incarnation {} of node {node} at {address}, release {version}",
                after.next()
            )
        }
        Command::SetVerdicts { term: _, verdicts } => {
            joined(verdicts.iter().map(|(pool, shard, verdict)| {
                let what = match verdict {
                    Verdict { foreign: true, .. } => "foreign",
                    Verdict { reads_down: false, writes_down: false, .. } => "up",
                    Verdict { reads_down: true, writes_down: true, .. } => "down",
                    Verdict { reads_down: true, .. } => "down for reads",
                    Verdict { writes_down: true, .. } => "down for writes",
                };
                format!("{pool}/{shard} is {what}")
            }))
        }
        Command::RaiseBarriers { term: _, barriers } => joined(
            barriers.iter().map(|(pool, barrier)| format!("barrier of {pool} at epoch {barrier}")),
        ),
        Command::SetSettings { .. } => "change the cluster's settings".to_owned(),
        Command::RaiseFeatureLevel { level } => format!("raise the feature level to {level}"),
        Command::Stage { changes } => format!("stage: {}", steps(changes)),
        Command::Unstage => "drop what is staged".to_owned(),
        Command::ApplyPlan { plan } => format!("apply plan {plan}: {}", steps(state.staged())),
        Command::ChangeNow { changes } => steps(changes),
        Command::Placed { command, .. } => summary(state, command),
        Command::MarkFilled { pool } => format!("pool {pool} takes its first write"),
        Command::AdoptPool { pool, born, fresh: _ } => {
            format!("pool {pool} is again that of {born}, which its stores keep")
        }
        Command::BindStore { pool, shard, store } => {
            format!("bind {pool}/{shard} to store {store}")
        }
        Command::MarkStore { pool, shard, store: _, mark } => {
            let what = match mark {
                StoreMark::CatchingUp => "is catching up",
                StoreMark::CaughtUp => "has caught up",
                StoreMark::Filled => "is filled",
            };
            format!("{pool}/{shard} {what}")
        }
    };
    cut(sentence)
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&step(self))
    }
}

fn steps(changes: &[Change]) -> String {
    joined(changes.iter().map(step))
}

fn step(change: &Change) -> String {
    match change {
        Change::AddShard { pool, shard, spec } => {
            let (weight, zone) = (spec.weight.get(), &spec.zone);
            format!("add {pool}/{shard} (weight {weight}, zone {zone}, {})", spec.url)
        }
        Change::RemoveShard { pool, shard } => format!("remove {pool}/{shard}"),
        Change::SetWeight { pool, shard, weight } => {
            format!("give {pool}/{shard} weight {}", weight.get())
        }
        Change::SetZone { pool, shard, zone } => format!("put {pool}/{shard} into zone {zone}"),
        Change::SetUrl { pool, shard, url } => format!("{pool}/{shard} is now at {url}"),
        Change::SetState { pool, shard, state } => {
            format!("set {pool}/{shard} to {}", format!("{state:?}").to_lowercase())
        }
        Change::CreatePool { pool, shards, .. } => {
            format!("create pool {pool} with {}", count(shards.len()))
        }
        Change::SetPool { pool, .. } => format!("change the settings of pool {pool}"),
        Change::RemovePool { pool } => format!("remove pool {pool}"),
        Change::ReplaceShard { pool, shard, url, lose } => {
            let at = url.as_ref().map_or_else(String::new, |url| format!(" at {url}"));
            let lost = if *lose { ", though its objects are lost" } else { "" };
            format!("give {pool}/{shard} a fresh store{at}{lost}")
        }
        Change::DropPool { pool } => format!("drop pool {pool} with all that it keeps"),
    }
}

fn count(shards: usize) -> String {
    if shards == 1 { "1 shard".to_owned() } else { format!("{shards} shards") }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let mut sentence = String::new();
    for part in parts {
        // What would be cut off need not be written.
        if sentence.len() > SUMMARY_BYTES_MAX {
            break;
        }
        if !sentence.is_empty() {
            sentence.push_str(", ");
        }
        sentence.push_str(&part);
    }
    sentence
}

fn cut(mut sentence: String) -> String {
    const ELLIPSIS: &str = " …";
    if sentence.len() > SUMMARY_BYTES_MAX {
        let most = SUMMARY_BYTES_MAX - ELLIPSIS.len();
        let end = (0..=most).rev().find(|at| sentence.is_char_boundary(*at)).unwrap_or(0);
        sentence.truncate(end);
        sentence.push_str(ELLIPSIS);
    }
    sentence
}
