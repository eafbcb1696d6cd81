//! When do all nodes agree that a shard is down, or up again?
//!
//! A node's own suspicion acts at once and locally: it tries another replica first. What all nodes
//! act on is a *verdict*: agreed, and made of the views of many. A single node's word would not do,
//! since one proxy with a bad network card sees every shard down and is the only one that is ill.
//!
//! Rules (DESIGN, section 6):
//! 1. A view is what a node itself has seen, never what it was told; it comes with each renewal of
//!    the node's lease and counts while the node holds one.
//! 2. A shard goes *down*, or *up*, when a majority of the lease holders sees it so. A holder that
//!    says nothing of a shard counts for neither, yet it counts among the holders: two of five are
//!    no majority because the other three are silent. With one holder its view decides.
//! 3. The majority must last for `hold_ms`. Reads and writes are judged apart: a full volume fails
//!    writes only. So is whether a shard's own store answers: where most see another (a disk that is
//!    not mounted, an address given away), no node uses it until most see its own again, or
//!    `ring replace` makes it the shard's.
//! 4. Each time that a shard goes down again it takes twice as long to come up, up to
//!    `hold_off_max_ms`; each `forgive_ms` in service halves that again. So a shard that flaps
//!    settles on *down*, and costs few entries of the log. Going down is never delayed further: it
//!    is what protects the requests.
//!
//! [`VerdictBook`] decides nothing by itself: what [`VerdictBook::decide`] returns is proposed by
//! the leader and holds when it is applied. It lives with one leadership. A new leader begins with
//! no views and no memory of flapping: it needs `hold_ms` longer, and may bring one flapping shard
//! up once more than its predecessor would have.
//!
//! It does not know panic (too much of a pool down): that is decided where shards are tried.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use super::pool::Verdict;
use crate::ids::{NodeId, PoolName, ShardId};

/// The most shards that one decision names, so that one entry of the log stays small (about 100
/// KiB); further ones come with the next.
const DECISIONS_MAX: usize = 1024;

/// What one node has seen of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Whether it does not use the shard for reads, by its own evidence; `None` if it has none.
    #[serde(default)]
    pub reads_down: Option<bool>,
    /// As well for writes.
    #[serde(default)]
    pub writes_down: Option<bool>,
    /// Another store than the shard's own answers in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

/// What one node has seen of all shards that it knows enough of.
pub type Views = BTreeMap<PoolName, BTreeMap<ShardId, Seen>>;

/// The verdicts that are in force.
pub type Agreed = BTreeMap<PoolName, BTreeMap<ShardId, Verdict>>;

/// How slowly verdicts follow views. Agreed by the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerdictSettings {
    /// How long a majority must last before it is proposed: two renewals, so that a blink between
    /// two of them is none. Probes have waited for three failures before.
    pub hold_ms: u64,
    /// The longest that a shard that flaps must look well before it is up.
    pub hold_off_max_ms: u64,
    /// How long a shard must be in service for one time down to be forgiven.
    pub forgive_ms: u64,
}

impl Default for VerdictSettings {
    fn default() -> Self {
        Self { hold_ms: 2_000, hold_off_max_ms: 300_000, forgive_ms: 60_000 }
    }
}

impl VerdictSettings {
    /// How long a majority for *up* must last after so many times down.
    fn hold_off_ms(&self, times_down: u32) -> u64 {
        let doublings = times_down.saturating_sub(1).min(63);
        let grown = self.hold_ms.saturating_mul(1 << doublings);
        grown.min(self.hold_off_max_ms).max(self.hold_ms)
    }
}

/// The leader's collection of views, and what it concludes.
#[derive(Debug, Default)]
pub struct VerdictBook {
    settings: VerdictSettings,
    views: BTreeMap<NodeId, Views>,
    cases: BTreeMap<PoolName, BTreeMap<ShardId, Case>>,
}

/// One shard.
#[derive(Debug, Clone, Copy, Default)]
struct Case {
    reads: Question,
    writes: Question,
    foreign: Question,
}

/// One class of requests of one shard: is it down? Or: is it foreign?
#[derive(Debug, Clone, Copy, Default)]
struct Question {
    /// What was agreed when this was last asked; `None` if it never was.
    was_down: Option<bool>,
    /// Since when a majority has seen it otherwise than is agreed.
    otherwise_since_ms: Option<u64>,
    /// When the change was last handed out to be proposed.
    proposed_ms: Option<u64>,
    /// How often it went down, less what was forgiven.
    times_down: u32,
    /// From when on time in service forgives.
    calm_since_ms: u64,
}

impl VerdictBook {
    /// A leadership begins: no views yet.
    #[must_use]
    pub fn new(settings: VerdictSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Other settings were agreed.
    pub fn set_settings(&mut self, settings: VerdictSettings) {
        self.settings = settings;
    }

    /// A node's views came with its renewal: all that it has to say. They replace what it said
    /// before, so that a shard that it no longer mentions is unknown to it.
    pub fn views(&mut self, node: NodeId, views: Views) {
        self.views.insert(node, views);
    }

    /// What is to be proposed now: one batch, sorted, empty most of the time. Call about once a
    /// second with the present lease holders and with what is agreed of every shard that is to be
    /// judged. A change that was returned is not returned again for `hold_ms`, the time for it to
    /// be agreed; if it was lost, it comes again.
    pub fn decide(
        &mut self,
        now_ms: u64,
        holders: &BTreeSet<NodeId>,
        agreed: &Agreed,
    ) -> Vec<(PoolName, ShardId, Verdict)> {
        self.views.retain(|node, _| holders.contains(node));
        self.forget_all_but(agreed);
        let mut decisions = Vec::new();
        for (pool, shards) in agreed {
            let tallies = self.tallies(pool);
            let cases = self.cases.entry(pool.clone()).or_default();
            for (shard, verdict) in shards {
                let case = cases.entry(shard.clone()).or_default();
                let tally = tallies.get(shard).copied().unwrap_or_default();
                let reads = tally.reads.judge(holders.len(), verdict.reads_down);
                let writes = tally.writes.judge(holders.len(), verdict.writes_down);
                let settings = &self.settings;
                let reads_due = case.reads.ask(now_ms, verdict.reads_down, reads, settings);
                let writes_due = case.writes.ask(now_ms, verdict.writes_down, writes, settings);
                let foreign = tally.foreign.judge(holders.len(), verdict.foreign);
                let foreign_due = case.foreign.ask(now_ms, verdict.foreign, foreign, settings);
                let is_due = reads_due || writes_due || foreign_due;
                if !is_due || decisions.len() == DECISIONS_MAX {
                    continue;
                }
                let mut decided = *verdict;
                if reads_due {
                    case.reads.proposed_ms = Some(now_ms);
                    decided.reads_down = reads;
                }
                if writes_due {
                    case.writes.proposed_ms = Some(now_ms);
                    decided.writes_down = writes;
                }
                if foreign_due {
                    case.foreign.proposed_ms = Some(now_ms);
                    decided.foreign = foreign;
                }
                decisions.push((pool.clone(), shard.clone(), decided));
            }
        }
        decisions
    }

    fn forget_all_but(&mut self, agreed: &Agreed) {
        self.cases.retain(|pool, cases| match agreed.get(pool) {
            Some(shards) => {
                cases.retain(|shard, _| shards.contains_key(shard));
                true
            }
            None => false,
        });
    }

    /// Counts the views of a pool's shards. All views are of lease holders.
    fn tallies(&self, pool: &PoolName) -> BTreeMap<ShardId, Tallies> {
        let mut tallies: BTreeMap<ShardId, Tallies> = BTreeMap::new();
        for (shard, seen) in self.views.values().filter_map(|views| views.get(pool)).flatten() {
            let tally = tallies.entry(shard.clone()).or_default();
            tally.reads.count(seen.reads_down);
            tally.writes.count(seen.writes_down);
            tally.foreign.count(Some(seen.foreign));
        }
        tallies
    }
}

/// The views of one shard, counted.
#[derive(Debug, Clone, Copy, Default)]
struct Tallies {
    reads: Tally,
    writes: Tally,
    foreign: Tally,
}

/// How many see it down, and how many up.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    down: usize,
    up: usize,
}

impl Tally {
    fn count(&mut self, is_down: Option<bool>) {
        match is_down {
            Some(true) => self.down += 1,
            Some(false) => self.up += 1,
            None => {}
        }
    }

    /// What shall hold: what a majority of *all* holders sees, and without one what is agreed.
    fn judge(self, holders: usize, agreed_down: bool) -> bool {
        let majority = holders / 2 + 1;
        if self.down >= majority {
            true
        } else if self.up >= majority {
            false
        } else {
            agreed_down
        }
    }
}

impl Question {
    /// Whether a change to `wanted_down` is due.
    fn ask(
        &mut self,
        now_ms: u64,
        agreed_down: bool,
        wanted_down: bool,
        settings: &VerdictSettings,
    ) -> bool {
        self.note(now_ms, agreed_down, settings);
        if wanted_down == agreed_down {
            self.otherwise_since_ms = None;
            self.proposed_ms = None;
            return false;
        }
        let since_ms = *self.otherwise_since_ms.get_or_insert(now_ms);
        let hold_ms =
            if wanted_down { settings.hold_ms } else { settings.hold_off_ms(self.times_down) };
        let is_under_way = self
            .proposed_ms
            .is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < settings.hold_ms.max(1));
        now_ms.saturating_sub(since_ms) >= hold_ms && !is_under_way
    }

    /// Sees what is agreed: counts each time that it goes down, and forgives while it is up.
    fn note(&mut self, now_ms: u64, agreed_down: bool, settings: &VerdictSettings) {
        let was_down = self.was_down.replace(agreed_down);
        if was_down == Some(agreed_down) {
            if !agreed_down {
                let forgive_ms = settings.forgive_ms.max(1);
                let forgiven = now_ms.saturating_sub(self.calm_since_ms) / forgive_ms;
                let times = u32::try_from(forgiven).unwrap_or(u32::MAX);
                self.times_down = self.times_down.saturating_sub(times);
                self.calm_since_ms = self.calm_since_ms.saturating_add(forgiven * forgive_ms);
            }
            return;
        }
        self.calm_since_ms = now_ms;
        self.otherwise_since_ms = None;
        self.proposed_ms = None;
        let can_grow = settings.hold_off_ms(self.times_down) < settings.hold_off_max_ms;
        if agreed_down && was_down.is_some() && (can_grow || self.times_down == 0) {
            self.times_down += 1;
        }
    }
}

#[cfg(test)]
mod tests;
