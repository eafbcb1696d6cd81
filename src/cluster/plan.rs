//! What would be done, under which name, and what should the operator know of it?
//!
//! A plan is shown first and made later, perhaps by another person at another node, and what is
//! made must be what was shown. So a plan's name is a digest of all that decides its outcome: where
//! it starts, what it changes, where it leads. Whoever applies a plan computes the name again, and
//! refuses if it is another.

use std::sync::Arc;

use serde::Serialize;

use super::command::Change;
use super::draft::Checked;
use super::placed::HexBytes;
use super::pool::{PoolSpec, PoolState, ShardSpec};
use super::refusal::Refusal;
use super::report::{Report, report_pool};
use super::state::ClusterState;
use super::warning::{Warning, warnings};
use crate::ids::{Epoch, PlanId, PoolName, ShardId, StoreId};

/// What some changes would do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub id: PlanId,
    /// What shall be done.
    pub changes: Vec<Change>,
    /// What becomes of the pools that it touches.
    pub report: Report,
    /// What the operator should look at twice.
    pub warnings: Vec<Warning>,
}

/// A pool as far as a plan's name depends on it. What is observed of it is not in it, nor is its
/// barrier: those change by themselves, and keys do not move with them.
#[derive(Serialize)]
struct Side<'a> {
    epoch: Epoch,
    spec: &'a PoolSpec,
    shards: Vec<(&'a ShardId, &'a ShardSpec)>,
    /// The digest of a balanced pool's table.
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<&'a HexBytes>,
    /// The stores of a pool that keeps data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stores: Vec<(&'a ShardId, Option<StoreId>)>,
}

impl<'a> Side<'a> {
    fn of(pool: &'a Arc<PoolState>) -> Self {
        Self {
            epoch: pool.epoch,
            spec: &pool.spec,
            shards: pool.shards.iter().collect(),
            slots: pool.slots.as_ref().map(|slots| &slots.digest),
            stores: pool.stores.iter().map(|(id, state)| (id, state.store)).collect(),
        }
    }
}

impl ClusterState {
    /// The plan of what is staged.
    ///
    /// # Errors
    /// [`Refusal::NothingStaged`], or [`Refusal::Staged`] when it cannot be done any more.
    pub fn plan(&self) -> Result<Plan, Refusal> {
        if self.staged.is_empty() {
            return Err(Refusal::NothingStaged);
        }
        self.plan_of(&self.staged).map_err(|refusal| Refusal::Staged(Box::new(refusal)))
    }

    /// The plan of `changes`, were they staged alone. Builds rings, which may take milliseconds
    /// for each pool.
    ///
    /// # Errors
    /// [`Refusal`] when they cannot be done.
    pub fn plan_of(&self, changes: &[Change]) -> Result<Plan, Refusal> {
        let checked = self.drafted_and_planned(changes)?;
        let mut report = Report::new();
        for (name, after) in &checked {
            report.push(report_pool(name, self.pools.get(name), after.as_ref())?);
        }
        Ok(Plan {
            id: self.plan_id(changes, &checked),
            changes: changes.to_vec(),
            warnings: warnings(self, &checked, &report),
            report,
        })
    }

    /// The name of a plan. The bytes are part of what nodes of two releases must agree on; `tests`
    /// pins them.
    pub(super) fn plan_id(&self, changes: &[Change], checked: &Checked) -> PlanId {
        let pools: Vec<(&PoolName, Option<Side<'_>>, Option<Side<'_>>)> = checked
            .iter()
            .map(|(name, after)| {
                (name, self.pools.get(name).map(Side::of), after.as_ref().map(Side::of))
            })
            .collect();
        let bytes = serde_json::to_vec(&(changes, pools))
            .expect("names, numbers and texts are always JSON");
        let mut id = [0; 8];
        let mut hasher = blake3::Hasher::new_derive_key("ringway plan v1: id");
        hasher.update(&bytes).finalize_xof().fill(&mut id);
        PlanId(id)
    }
}
