//! Which replicas could not do their part, since when, and why?
//!
//! Whoever is told that a level cannot be reached wants to know which shard to look at. What is told
//! is what this node knows at that moment, without asking anybody: what is agreed, what it observed
//! itself, and what came of this very request.

use super::super::outcome::{Failure, KeptFailure};
use super::super::view::Pool;
use super::job::Job;
use super::words::sentence_for;
use crate::cluster::AdminState;
use crate::ids::Token;
use crate::protocol::health::{Class, Standing};
use crate::protocol::quorum::Reason;
use crate::protocol::replica::Refusal;

/// Shards that are named; of more only the number is told.
const NAMED_MAX: usize = 4;

/// Shards of a whole pool that are looked at more closely: each takes a lock.
const LOOKED_AT_MAX: usize = 16;

/// The replicas of a key that are away, before any was asked.
pub(super) fn of_key(pool: &Pool, token: Token, class: Class, now_ms: u64) -> Option<String> {
    let members = pool.agreed.replicas(token);
    let shards = members.iter().map(|shard| usize::from(shard.0));
    told(pool, shards.filter_map(|shard| Some((shard, why(pool, shard, class, now_ms)?))))
}

/// The shards of a pool that are away. Of a large pool of which much is away only some are looked
/// at.
pub(super) fn of_pool(pool: &Pool, class: Class, now_ms: u64) -> Option<String> {
    let shards = 0..pool.shards.len();
    let away = shards.filter_map(|shard| Some((shard, why(pool, shard, class, now_ms)?)));
    told(pool, away.take(LOOKED_AT_MAX))
}

/// The replicas that did not do what an operation asked of them; `None` if it did not fail for
/// their sake.
pub(super) fn of_job(job: &Job, failure: &Failure, class: Class) -> Option<String> {
    let Failure::Kept(failure) = failure else { return None };
    let is_for_replicas = match failure {
        // That is the client's business.
        KeptFailure::NotApplied(_, Some(Refusal::TooLarge)) => false,
        KeptFailure::NotApplied(reason, _) | KeptFailure::Unknown(reason) => {
            matches!(reason, Reason::TooFew(_) | Reason::TimedOut)
        }
        KeptFailure::NoReplica => true,
        _ => false,
    };
    if !is_for_replicas {
        return None;
    }
    let pool = job.pool();
    let now_ms = job.means.timers.now_ms();
    let places = 0..pool.agreed.replicas(job.token).len();
    let away = places.filter_map(|place| {
        let shard = job.shard(&pool, place);
        let known = why(&pool, shard, class, now_ms);
        let said = || match job.came_of(place) {
            Some(Ok(())) => None,
            Some(Err(word)) => Some(sentence_for(word)),
            None => Some("it has not answered".to_owned()),
        };
        Some((shard, known.or_else(said)?))
    });
    told(&pool, away)
}

/// In the order of their names.
fn told(pool: &Pool, away: impl Iterator<Item = (usize, String)>) -> Option<String> {
    let mut away: Vec<(usize, String)> = away.collect();
    away.sort_unstable();
    let named = away.iter().take(NAMED_MAX);
    let named: Vec<String> =
        named.map(|(shard, why)| format!("{} ({why})", pool.shards[*shard].id)).collect();
    let more = match away.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!away.is_empty()).then(|| named.join(", ") + &more)
}

/// Why a shard is not asked, or does not count; `None` if nothing is known against it.
fn why(pool: &Pool, shard: usize, class: Class, now_ms: u64) -> Option<String> {
    let agreed = &pool.agreed.shards[shard];
    if agreed.state == AdminState::Maint {
        return Some("in maintenance".to_owned());
    }
    if agreed.store.is_none() {
        return Some("its store is not known yet".to_owned());
    }
    if agreed.verdict.foreign {
        return Some("another store answers there".to_owned());
    }
    if !pool.health.seen_up(shard, class) {
        let view = pool.health.view(shard);
        let own = match class {
            Class::Read => view.read,
            Class::Write => view.write,
        };
        let standing = match own.standing {
            Standing::Ejected { .. } => "ejected",
            Standing::Up | Standing::Down => "down",
        };
        return Some(match own.why {
            Some(why) => format!("{standing} {}: {why}", since(own.since_ms, now_ms)),
            None => standing.to_owned(),
        });
    }
    agreed.fresh.then(|| "it replaced another and is being filled".to_owned())
}

fn since(since_ms: u64, now_ms: u64) -> String {
    match since_ms {
        0 => "since this node's start".to_owned(),
        _ => format!("for {} s", now_ms.saturating_sub(since_ms) / 1000),
    }
}
