//! How does a pool keep data, and what has no place in one that does, or does not?

use std::time::Duration;

use crate::cluster::{KeptSpec, Kind, Placement, TOMBSTONE_MIN_AGE_MS_DEFAULT};
use crate::key::HashTag;
use crate::level::Level;
use crate::limits::KeptSettings;
use crate::ring::REPLICAS_MAX;
use crate::route::KeyRule;

use super::routes;
use super::schema;
use super::section::Section;
use super::spot::Spot;

/// Copies of each object unless a pool says otherwise: one may be lost, and a majority of the
/// others still agrees.
const REPLICAS_DEFAULT: u8 = 3;

/// The most hints of one pool: a day's writes of a busy one.
const HINTS_MAX: u64 = 100_000_000;

/// The least `tombstone_min_age`: longer than a store keeps what is staged and not committed, so that
/// no late commit meets a key whose deletion is forgotten.
const TOMBSTONE_MIN_AGE_LEAST: Duration = Duration::from_mins(15);

const MIB: u64 = 1024 * 1024;

/// What a pool says about the data that it keeps.
pub(super) struct Kept<'a> {
    /// What is agreed; `None` for a pool that keeps none.
    pub(super) spec: Option<KeptSpec>,
    /// This node's own part.
    pub(super) settings: KeptSettings,
    /// Which bytes of a request are its key, and where that is said.
    pub(super) rule: Option<Rule<'a>>,
}

/// The rule that all routes into a pool have.
pub(super) struct Rule<'a> {
    pub(super) key: KeyRule,
    pub(super) hash_tag: Option<HashTag>,
    pub(super) spot: Spot<'a>,
}

/// What only pools that keep data have and all nodes agree on.
pub(super) const AGREED: [&str; 5] =
    ["replicas", "consistency", "tombstone_min_age", "key", "hash_tag"];

/// What only pools that keep data have, and is each node's own.
const OWN: [&str; 2] = ["repair", "hints_max"];

/// What only caches have, and why.
const CACHE_ONLY: [(&str, &str, &str); 4] = [
    ("immutable", "false", "what a pool keeps may be written anew, on all of its replicas"),
    ("warm_up", "off", "what a pool keeps is on all of its replicas, and not with a former owner"),
    (
        "hash_balance_factor",
        "none",
        "a read at `one` goes to the least loaded replica anyway, and a write to all of them",
    ),
    ("host", "shard", "native stores have no virtual hosts"),
];

/// Reads it. `kind` is `None` if only the cluster knows it.
pub(super) fn kept<'a>(pool: &Section<'a>, kind: Option<Kind>) -> Kept<'a> {
    let mut settings = KeptSettings::default();
    let mut replicas = REPLICAS_DEFAULT;
    pool.set("replicas", &mut replicas, |spot| spot.number(1..=u64::from(REPLICAS_MAX)));
    let mut consistency = Level::default();
    let levels = Level::EVERY.map(|level| (level.as_str(), level));
    pool.set("consistency", &mut consistency, |spot| spot.one_of(&levels, &["serial"]));
    let mut min_age = Duration::from_millis(TOMBSTONE_MIN_AGE_MS_DEFAULT);
    pool.set("tombstone_min_age", &mut min_age, |spot| spot.duration_from(TOMBSTONE_MIN_AGE_LEAST));
    if let Some(section) = pool.sub("repair", &schema::REPAIR) {
        section.set("interval", &mut settings.repair_interval, |spot| {
            spot.or_word("off", |spot| spot.duration_from(Duration::from_secs(1)))
        });
        section.set("rate", &mut settings.repair_bytes_per_second_max, |spot| {
            spot.size(64 * 1024..=100 * 1024 * MIB)
        });
    }
    pool.set("hints_max", &mut settings.hints_max, |spot| spot.number(0..=HINTS_MAX));
    let rule = rule(pool);
    if kind == Some(Kind::Cache) {
        for spot in AGREED.into_iter().chain(OWN).filter_map(|key| pool.get(key)) {
            spot.refuse::<()>(
                "a cache keeps one copy of each object, and none for sure",
                "remove it, or write `kind: replicated`",
            );
        }
    }
    let spec = (kind == Some(Kind::Replicated)).then(|| {
        refuse_what_is_for_caches(pool);
        judge_replicas(pool, replicas);
        let key = rule.as_ref().map_or_else(
            || KeyRule::Path.canonical(None),
            |rule| rule.key.canonical(rule.hash_tag),
        );
        let tombstone_min_age_ms = u64::try_from(min_age.as_millis()).unwrap_or(u64::MAX);
        KeptSpec { replicas, consistency, tombstone_min_age_ms, key }
    });
    let rule = spec.as_ref().and(rule.or_else(|| {
        let spot = pool.get("name")?;
        Some(Rule { key: KeyRule::Path, hash_tag: None, spot })
    }));
    Kept { spec, settings, rule }
}

fn rule<'a>(pool: &Section<'a>) -> Option<Rule<'a>> {
    let (key_spot, tag_spot) = (pool.get("key"), pool.get("hash_tag"));
    let spot = key_spot.clone().or(tag_spot)?;
    let key = match &key_spot {
        None => Some(KeyRule::Path),
        Some(spot) => routes::key(spot),
    };
    let mut hash_tag = None;
    pool.set("hash_tag", &mut hash_tag, routes::hash_tag);
    if let Some(key) = key.as_ref().filter(|key| !key.is_of_path()) {
        return spot.refuse(
            format!("the key is {key}, but an object that is kept is known by its path"),
            "write `path: whole`, `path_after`, `path_segment` or `path_regex`",
        );
    }
    Some(Rule { key: key?, hash_tag, spot })
}

fn refuse_what_is_for_caches(pool: &Section<'_>) {
    let written =
        |key: &'static str, usual: &str| pool.get(key).filter(|spot| !spot.is_word(usual));
    let refuse = |spot: &Spot<'_>, why: &str| {
        let message = format!("this is for caches: {why}");
        spot.refuse::<()>(message, "remove it, or write `kind: cache`");
    };
    for (key, usual, why) in CACHE_ONLY {
        if let Some(spot) = written(key, usual) {
            refuse(&spot, why);
        }
    }
    if let Some(spot) = pool.get("retry").and_then(|retry| retry.entry("hedge_after"))
        && !spot.is_word("none")
    {
        refuse(&spot, "a read that must be quick asks for `one`");
    }
}

/// Four replicas bear the loss of no more than three do, and cost one more.
fn judge_replicas(pool: &Section<'_>, replicas: u8) {
    let Some(spot) = pool.get("replicas") else { return };
    if replicas == 1 {
        let message = "with one replica the loss of a shard loses its objects";
        spot.warn(message, "write 3, so that one shard may be lost");
    } else if replicas.is_multiple_of(2) {
        let (bears, fewer) = (replicas / 2 - 1, replicas - 1);
        let message = format!(
            "{replicas} replicas serve `quorum` while {bears} of them are down, as {fewer} do"
        );
        spot.warn(message, format!("write {fewer} or {}", replicas + 1));
    }
}

/// Whether the placement is one for the kind; what a pool has that says nothing of it.
pub(super) fn placement_of(kind: Option<Kind>) -> Placement {
    match kind {
        Some(Kind::Replicated) => Placement::Balanced,
        Some(Kind::Cache) | None => Placement::Ring,
    }
}
