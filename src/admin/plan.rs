//! What would a change do, as programs and people read it?

use serde::{Deserialize, Serialize};

use crate::cluster::{Change, Plan, PoolReport};
use crate::ids::{PlanId, PoolName};
use crate::ring::Ratio;

/// What some changes would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanDocument {
    /// Its id: a digest of where it begins, what it changes, and where it leads.
    pub id: PlanId,
    /// What shall be done.
    pub changes: Vec<Change>,
    /// What becomes of the pools that it touches.
    pub pools: Vec<PoolPlan>,
    /// What to look at twice, in sentences.
    pub warnings: Vec<String>,
}

/// What becomes of one pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PoolPlan {
    /// The pool.
    pub pool: PoolName,
    /// Its epoch before; absent if it is new.
    pub epoch_before: Option<u64>,
    /// Its epoch after; absent if it goes.
    pub epoch_after: Option<u64>,
    /// The part of the circle whose owner changes, as a percentage; of a balanced pool, the part of
    /// all copies that get another shard.
    pub moved: String,
    /// Whether the pool is balanced, before or after.
    #[serde(default)]
    pub balanced: bool,
    /// The heaviest shard over what its weight says, before and after, as percentages; 100 is
    /// perfectly even. Absent without a ring.
    pub peak_before: Option<String>,
    /// The same afterwards.
    pub peak_after: Option<String>,
    /// Each shard's share of the circle.
    pub shards: Vec<ShareChange>,
    /// What the loss of each zone would do afterwards.
    pub zones: Vec<ZonePlan>,
}

/// One shard's share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShareChange {
    /// The shard.
    pub id: String,
    /// Before, as a percentage.
    pub before: String,
    /// After.
    pub after: String,
}

/// What the loss of one zone would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZonePlan {
    /// The zone.
    pub zone: String,
    /// The part of the circle that would be without its owner, as a percentage.
    pub share: String,
    /// The survivor that would bear most for what it has; absent if nobody survives.
    pub worst: Option<String>,
    /// What it would have then over what it has before, as a percentage.
    pub worst_load: Option<String>,
}

impl PlanDocument {
    /// The plan as a document.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        Self {
            id: plan.id,
            changes: plan.changes.clone(),
            pools: plan.report.iter().map(of_pool).collect(),
            warnings: plan.warnings.iter().map(ToString::to_string).collect(),
        }
    }
}

fn of_pool(report: &PoolReport) -> PoolPlan {
    let peak = |ratio: Ratio| (!ratio.is_zero()).then(|| ratio.to_string());
    let shards = report.shares.iter().map(|(id, (before, after))| ShareChange {
        id: id.to_string(),
        before: before.to_string(),
        after: after.to_string(),
    });
    let zones = report.zones.iter().map(|loss| ZonePlan {
        zone: loss.zone.to_string(),
        share: loss.share.to_string(),
        worst: loss.worst.as_ref().map(|(shard, _)| shard.to_string()),
        worst_load: loss.worst.as_ref().map(|(_, load)| load.to_string()),
    });
    PoolPlan {
        pool: report.pool.clone(),
        epoch_before: report.epoch_before.map(|epoch| epoch.0),
        epoch_after: report.epoch_after.map(|epoch| epoch.0),
        moved: report.moved.to_string(),
        balanced: report.balanced,
        peak_before: peak(report.peak_to_mean.0),
        peak_after: peak(report.peak_to_mean.1),
        shards: shards.collect(),
        zones: zones.collect(),
    }
}
