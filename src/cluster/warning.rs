//! What should an operator look at twice before a change is made?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::draft::Checked;
use super::pool::{AdminState, PoolState};
use super::report::{PoolReport, Report};
use super::state::ClusterState;
use crate::ids::{BaseUrl, PoolName, ShardId, Zone};
use crate::ring::Ratio;

/// A change that moves more than this many thousandths of a pool's keys is worth a warning: what
/// stands behind a cache must bear that many misses at once.
const MOVED_THOUSANDTHS_MAX: u128 = 200;

/// Zones of which the heaviest owns more than this many thousandths of what it would own were all
/// alike are worth a warning.
const ZONE_THOUSANDTHS_MAX: u128 = 1500;

/// Something about a change, for people. A sentence without its full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The pool goes.
    PoolGoes(PoolName),
    /// A large part of the keys gets other owners.
    MovesMuch {
        /// The pool.
        pool: PoolName,
        /// How much, as it is printed.
        part: String,
    },
    /// A shard owns nothing.
    OwnsNothing {
        /// The pool.
        pool: PoolName,
        /// The shard.
        shard: ShardId,
    },
    /// No shard is in service.
    NoneInService(PoolName),
    /// Two shards are one backend.
    SameUrl {
        /// The pool.
        pool: PoolName,
        /// One of them.
        one: ShardId,
        /// The other.
        other: ShardId,
        /// Where both are.
        url: BaseUrl,
    },
    /// A zone has no shard left.
    ZoneGoes {
        /// The pool.
        pool: PoolName,
        /// The zone.
        zone: Zone,
    },
    /// All that owns anything is in one zone, where there were several.
    OneZone {
        /// The pool.
        pool: PoolName,
        /// The zone.
        zone: Zone,
    },
    /// One zone owns much more than the others.
    Unbalanced {
        /// The pool.
        pool: PoolName,
        /// The heaviest zone.
        zone: Zone,
        /// What it owns, as it is printed.
        share: String,
        /// How many zones there are.
        zones: usize,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoolGoes(pool) => {
                write!(f, "pool `{pool}` goes: requests that are routed to it will be refused")
            }
            Self::MovesMuch { pool, part } => write!(
                f,
                "pool `{pool}`: {part} of the keys get another owner, and will be missed there once"
            ),
            Self::OwnsNothing { pool, shard } => {
                write!(f, "pool `{pool}`: shard `{shard}` has weight 0 and owns nothing")
            }
            Self::NoneInService(pool) => {
                write!(f, "pool `{pool}`: every shard that owns anything is in maintenance")
            }
            Self::SameUrl { pool, one, other, url } => write!(
                f,
                "pool `{pool}`: shards `{one}` and `{other}` are both at {url}: one backend would \
                 bear the load of two"
            ),
            Self::ZoneGoes { pool, zone } => {
                write!(f, "pool `{pool}`: zone `{zone}` loses its last shard")
            }
            Self::OneZone { pool, zone } => write!(
                f,
                "pool `{pool}`: all keys are in zone `{zone}`: if it goes, all of the pool goes"
            ),
            Self::Unbalanced { pool, zone, share, zones } => write!(
                f,
                "pool `{pool}`: zone `{zone}` owns {share}, much more than its part of {zones} zones"
            ),
        }
    }
}

/// What is to be said of a checked change. What was so before, and stays, is not said again.
pub(super) fn warnings(state: &ClusterState, checked: &Checked, report: &Report) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for ((name, after), pool) in checked.iter().zip(report) {
        let before = state.pools().get(name);
        match after {
            None => warnings.push(Warning::PoolGoes(name.clone())),
            Some(after) => of_pool(name, before, after, pool, &mut warnings),
        }
    }
    warnings
}

fn of_pool(
    name: &PoolName,
    before: Option<&Arc<PoolState>>,
    after: &PoolState,
    report: &PoolReport,
    warnings: &mut Vec<Warning>,
) {
    let pool = || name.clone();
    // A balanced pool that has data is left where it is, and one that has none misses nothing.
    let moves_much = report.moved.thousandths() > MOVED_THOUSANDTHS_MAX;
    if before.is_some() && moves_much && !report.balanced {
        warnings.push(Warning::MovesMuch { pool: pool(), part: report.moved.to_string() });
    }
    for (id, shard) in &after.shards {
        let was = before.and_then(|before| before.shards.get(id)).map(|shard| shard.weight.get());
        if shard.weight.get() == 0 && was != Some(0) {
            warnings.push(Warning::OwnsNothing { pool: pool(), shard: id.clone() });
        }
    }
    if in_service(after) == 0 && before.is_none_or(|before| in_service(before) > 0) {
        warnings.push(Warning::NoneInService(pool()));
    }
    let known = before.map(|before| shared_urls(before)).unwrap_or_default();
    for (one, other, url) in shared_urls(after) {
        if !known.contains(&(one, other, url)) {
            let (one, other, url) = (one.clone(), other.clone(), url.clone());
            warnings.push(Warning::SameUrl { pool: pool(), one, other, url });
        }
    }
    of_zones(name, before, after, report, warnings);
}

fn of_zones(
    name: &PoolName,
    before: Option<&Arc<PoolState>>,
    after: &PoolState,
    report: &PoolReport,
    warnings: &mut Vec<Warning>,
) {
    let pool = || name.clone();
    let (were, are) = (before.map(|before| zones(before)).unwrap_or_default(), zones(after));
    for zone in were.difference(&are) {
        warnings.push(Warning::ZoneGoes { pool: pool(), zone: (*zone).clone() });
    }
    // Whoever names no zones wants to hear nothing of them.
    if let [only] = &report.zones[..]
        && were.len() > 1
        && after.shards.len() > 1
    {
        warnings.push(Warning::OneZone { pool: pool(), zone: only.zone.clone() });
    }
    let heaviest = report.zones.iter().max_by_key(|loss| loss.share.thousandths());
    if let Some(heaviest) = heaviest
        && report.zones.len() > 1
        && too_heavy(heaviest.share, report.zones.len())
    {
        warnings.push(Warning::Unbalanced {
            pool: pool(),
            zone: heaviest.zone.clone(),
            share: heaviest.share.to_string(),
            zones: report.zones.len(),
        });
    }
}

fn too_heavy(share: Ratio, zones: usize) -> bool {
    share.thousandths().saturating_mul(zones as u128) > ZONE_THOUSANDTHS_MAX
}

fn in_service(pool: &PoolState) -> usize {
    let serves = |shard: &&super::pool::ShardSpec| {
        shard.weight.get() > 0 && shard.state == AdminState::Ready
    };
    pool.shards.values().filter(serves).count()
}

fn zones(pool: &PoolState) -> BTreeSet<&Zone> {
    pool.shards.values().map(|shard| &shard.zone).collect()
}

/// Neighbours among the shards that share a URL.
fn shared_urls(pool: &PoolState) -> BTreeSet<(&ShardId, &ShardId, &BaseUrl)> {
    let mut last: BTreeMap<&BaseUrl, &ShardId> = BTreeMap::new();
    let mut shared = BTreeSet::new();
    for (id, shard) in &pool.shards {
        if let Some(one) = last.insert(&shard.url, id) {
            shared.insert((one, id, &shard.url));
        }
    }
    shared
}
