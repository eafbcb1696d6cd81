//! How do the copies of a pool that keeps data do?

use serde::{Deserialize, Serialize};

use super::status::PoolStatus;
use crate::background::heal::{Orders, PassEnd, StoreSeen};
use crate::dispatch::view::Pool;
use crate::version::Stamp;

/// The copies of a pool.
#[derive(Debug, Serialize, Deserialize)]
pub struct PoolCopies {
    /// On how many shards each object is.
    pub replicas: u8,
    /// The level of requests that name none.
    pub consistency: String,
    /// How old the oldest write is that a replica is known to lack, in seconds; absent if none is.
    pub oldest_unrepaired_seconds: Option<u64>,
    /// When the last comparison of the whole pool by this node ended, in milliseconds since 1970;
    /// absent if there was none since it started.
    pub compared_unix_ms: Option<u64>,
    /// How long that took, in milliseconds.
    pub compared_ms: Option<u64>,
    /// What part of the pool the comparison under way has been through, in percent; absent if none
    /// is.
    pub comparing_percent: Option<u32>,
}

/// The copies on one shard.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShardCopies {
    /// The store that it is bound to; absent while it is bound to none.
    pub store: Option<String>,
    /// `whole`, `catching up`, `fresh`, `unbound`, or `foreign` while another store answers there.
    pub standing: String,
    /// Values that its store has lost the bytes of, as it last told this node.
    #[serde(default)]
    pub damaged: u64,
    /// Keys of which it has missed a write, as far as this node knows.
    pub hints: u64,
    /// When the first of those writes was made, in milliseconds since 1970; absent without any.
    pub hints_since_unix_ms: Option<u64>,
}

/// Adds to a pool's status how its copies do.
pub(super) fn of_pool(status: &mut PoolStatus, pool: &Pool, heal: &Orders) {
    let Some(kept) = &pool.agreed.spec.kept else { return };
    let name = &pool.agreed.name;
    let whole = heal.whole_pass(name);
    let running = heal.pass(name).filter(|pass| pass.end == PassEnd::Running);
    let oldest_ms = heal.oldest_unrepaired(name).map(|stamp| heal.age_ms(stamp));
    status.copies = Some(PoolCopies {
        replicas: kept.replicas,
        consistency: kept.consistency.to_string(),
        oldest_unrepaired_seconds: oldest_ms.map(|ms| ms / 1000),
        compared_unix_ms: whole.as_ref().map(|pass| pass.begun_unix_ms + pass.took_ms),
        compared_ms: whole.map(|pass| pass.took_ms),
        comparing_percent: running.map(|pass| pass.percent()),
    });
    for (shown, shard) in status.shards.iter_mut().zip(&pool.agreed.shards) {
        let pending = heal.pending(name, &shard.id);
        let standing = match (shard.store, heal.seen(name, &shard.id)) {
            (None, _) => "unbound",
            (Some(_), StoreSeen::Foreign(_)) => "foreign",
            _ if shard.fresh => "fresh",
            _ if shard.catching_up => "catching up",
            _ => "whole",
        };
        shown.copies = Some(ShardCopies {
            store: shard.store.map(|store| store.to_string()),
            standing: standing.to_owned(),
            damaged: heal.damaged(name, &shard.id),
            hints: u64::try_from(pending.count).unwrap_or(u64::MAX),
            hints_since_unix_ms: pending.oldest.map(Stamp::unix_ms),
        });
    }
}
