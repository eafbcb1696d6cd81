//! How does the table of a balanced pool get into what is agreed?
//!
//! A table depends on the one before it, and a release may plan otherwise than the next. So nobody
//! plans when a command is applied: the *leader* plans, right before it puts the command into the log,
//! and the entry bears for each pool whose sets change the table that it was planned on, the
//! difference, and the digest of what comes out ([`Command::Placed`]). To
//! apply it is to add the difference to the very same table, and to look at the digest.
//!
//! - The table is another than the one it was planned on: another change came between. The command
//!   is refused on every node alike, and whoever gave it gives it again.
//! - The digest of what comes out is another: *this node* does not compute what the leader did. It
//!   must not go on ([`Refusal::TableMismatch`]); the others do.
//!
//! What is kept of a table is its difference from the plain ring, which is a tenth of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::command::{Change, Command};
use super::draft::{Checked, Draft};
use super::pool::{Placement, PoolState};
use super::refusal::Refusal;
use super::state::ClusterState;
use crate::ids::{Epoch, PoolName, ShardId};
use crate::ring::slots::{DeltaError, SlotTable, plan};

/// Bytes that travel, and are kept, as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexBytes(pub Vec<u8>);

/// A text that is no such bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bytes are written as pairs of hexadecimal digits")]
pub struct NoHexBytes;

impl TryFrom<String> for HexBytes {
    type Error = NoHexBytes;

    fn try_from(text: String) -> Result<Self, NoHexBytes> {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(NoHexBytes),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if !rest.is_empty() {
            return Err(NoHexBytes);
        }
        let byte = |[high, low]: &[u8; 2]| Ok(digit(*high)? << 4 | digit(*low)?);
        pairs.iter().map(byte).collect::<Result<_, _>>().map(Self)
    }
}

impl From<HexBytes> for String {
    fn from(bytes: HexBytes) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = |byte: &u8| [byte >> 4, byte & 15].map(|d| char::from(DIGITS[usize::from(d)]));
        bytes.0.iter().flat_map(digits).collect()
    }
}

/// The table of a pool at one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    /// Which epoch.
    pub(super) epoch: Epoch,
    /// The table's digest.
    pub(super) digest: HexBytes,
    /// Its difference from the plain ring.
    delta: HexBytes,
    /// The table itself; computed when it is read.
    #[serde(skip)]
    table: Option<Arc<SlotTable>>,
}

/// A table that a pool shall have from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableChange {
    /// Which pool.
    pub pool: PoolName,
    /// The epoch and the digest of the table that it was planned on; `None` for the first one, which
    /// is planned on the plain ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<(Epoch, HexBytes)>,
    /// The difference from there.
    pub delta: HexBytes,
    /// The digest of what comes out.
    pub digest: HexBytes,
}

impl Slots {
    fn of(epoch: Epoch, table: SlotTable, pool: &PoolState) -> Result<Self, DeltaError> {
        let delta = HexBytes(table.delta_from(None, &pool.ring_spec())?);
        let digest = HexBytes(table.digest().0.to_vec());
        Ok(Self { epoch, digest, delta, table: Some(Arc::new(table)) })
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> Option<&Arc<SlotTable>> {
        self.table.as_ref()
    }

    /// Computes the table from what was kept of it. `pool` is the pool that has it.
    fn restored(&self, pool: &PoolState) -> Result<Self, String> {
        let table = SlotTable::apply_delta(None, &pool.ring_spec(), &self.delta.0);
        let table = table.map_err(|error| error.to_string())?;
        if table.digest().0[..] != self.digest.0[..] {
            return Err("the table that was kept is another by its digest".to_owned());
        }
        Ok(Self { table: Some(Arc::new(table)), ..self.clone() })
    }
}

impl PoolState {
    /// The table, of a balanced pool.
    #[must_use]
    pub fn slots(&self) -> Option<&Slots> {
        self.slots.as_ref()
    }

    /// Whether it must get another table than it has.
    fn lacks_table(&self) -> bool {
        self.spec.placement == Placement::Balanced
            && self.slots.as_ref().is_none_or(|slots| slots.epoch != self.epoch)
    }

    fn previous_table(&self) -> Option<&SlotTable> {
        self.slots.as_ref().and_then(|slots| slots.table.as_deref())
    }

    /// Computes the table of a pool that was read, if it has one.
    pub(super) fn restore_table(&mut self) -> Result<(), String> {
        if let Some(slots) = &self.slots {
            self.slots = Some(slots.restored(self)?);
        }
        match self.lacks_table() {
            true => Err("it is balanced, and its table is not there".to_owned()),
            false => Ok(()),
        }
    }
}

impl ClusterState {
    /// The command as it is to be put into the log: with the tables of the balanced pools that it
    /// changes, planned on what is agreed now. One that this state refuses comes back as it is, to be
    /// refused, or known for a copy, where it is applied. May take tens of milliseconds.
    #[must_use]
    pub fn planned(&self, command: Command) -> Command {
        let tables = self.drafted_by(&command).and_then(|checked| self.plan_tables(&checked));
        match tables {
            Ok(tables) if !tables.is_empty() => {
                Command::Placed { command: Box::new(command), tables }
            }
            Ok(_) | Err(_) => command,
        }
    }

    fn drafted_by(&self, command: &Command) -> Result<Checked, Refusal> {
        let draft = |change: &dyn Fn(&mut Draft<'_>) -> Result<(), Refusal>| {
            let mut draft = Draft::of(self);
            change(&mut draft)?;
            draft.check()
        };
        match command {
            Command::CreatePool { pool, spec, shards } => {
                draft(&|draft| draft.create_pool(pool, spec, shards))
            }
            Command::SetPool { pool, spec } => draft(&|draft| draft.set_pool(pool, spec)),
            Command::SetShards { pool, put, remove } => {
                draft(&|draft| draft.set_shards(pool, put, remove))
            }
            Command::ApplyPlan { .. } => self.drafted(&self.staged),
            Command::ChangeNow { changes } => self.drafted(changes),
            _ => Ok(Checked::new()),
        }
    }

    /// Plans the tables that are missing.
    pub(super) fn plan_tables(&self, checked: &Checked) -> Result<Vec<TableChange>, Refusal> {
        let mut tables = Vec::new();
        for (name, after) in checked {
            let Some(after) = after.as_ref().filter(|after| after.lacks_table()) else { continue };
            let refused = |error| Refusal::Plan { pool: name.clone(), error };
            let (spec, previous) = (after.ring_spec(), after.previous_table());
            let before = self.pools.get(name);
            let is_as_before =
                before.is_some_and(|before| before.ring_spec().deciding() == spec.deciding());
            let table = match previous {
                // The epoch moved for another reason, as where a store is replaced. What the planner
                // of now would have done better is no reason to take copies from where they are.
                Some(previous) if is_as_before => previous.clone(),
                _ => plan(previous, &spec).map_err(refused)?,
            };
            let delta = table.delta_from(previous, &spec).map_err(refused)?;
            tables.push(TableChange {
                pool: name.clone(),
                base: after.slots.as_ref().map(|slots| (slots.epoch, slots.digest.clone())),
                delta: HexBytes(delta),
                digest: HexBytes(table.digest().0.to_vec()),
            });
        }
        Ok(tables)
    }

    /// Gives balanced pools the tables that came with the command, and looks at what replaced stores
    /// leave.
    pub(super) fn with_tables(
        &self,
        mut checked: Checked,
        tables: &[TableChange],
    ) -> Result<Checked, Refusal> {
        let tables: BTreeMap<&PoolName, &TableChange> =
            tables.iter().map(|table| (&table.pool, table)).collect();
        for (name, after) in &mut checked {
            let Some(after) = after else { continue };
            if after.lacks_table() {
                let table = tables.get(name).ok_or_else(|| Refusal::NotPlanned(name.clone()))?;
                let slots = slots_of(name, after, table)?;
                let after = Arc::make_mut(after);
                let before = after.slots.take().and_then(|slots| slots.table);
                if let (Some(before), Some(next)) = (before, &slots.table) {
                    after.keep_way_back(&before, next);
                }
                after.slots = Some(slots);
            } else if after.spec.placement != Placement::Balanced && after.slots.is_some() {
                Arc::make_mut(after).slots = None;
            }
            if let Some(shard) = too_many_fresh(after, self.pools.get(name).map(|pool| &**pool)) {
                return Err(Refusal::TooManyFresh { pool: name.clone(), shard });
            }
        }
        Ok(checked)
    }

    /// What the pools would be after `changes`, with tables as they would be planned.
    pub(super) fn drafted_and_planned(&self, changes: &[Change]) -> Result<Checked, Refusal> {
        let checked = self.drafted(changes)?;
        let tables = self.plan_tables(&checked)?;
        self.with_tables(checked, &tables)
    }
}

fn slots_of(name: &PoolName, after: &PoolState, change: &TableChange) -> Result<Slots, Refusal> {
    let base = after.slots.as_ref().map(|slots| (slots.epoch, slots.digest.clone()));
    if base != change.base {
        return Err(Refusal::TableOvertaken(name.clone()));
    }
    let damaged =
        |error: DeltaError| Refusal::TableDamaged { pool: name.clone(), why: error.to_string() };
    let previous = after.previous_table();
    let table = SlotTable::apply_delta(previous, &after.ring_spec(), &change.delta.0);
    let slots = Slots::of(after.epoch, table.map_err(damaged)?, after).map_err(damaged)?;
    if slots.digest != change.digest {
        return Err(Refusal::TableMismatch { pool: name.clone(), epoch: after.epoch });
    }
    Ok(slots)
}

/// A shard whose store was replaced by this change, though with it some slot has too few stores left
/// that know what was acknowledged.
///
/// What was acknowledged stands on a majority of the N replicas. So one of any N − majority + 1 of
/// them has it, and a fresh store is filled from so many; with fewer, nobody could ever say that it
/// is. An even N leaves a time without quorum until then: of two, the one that is left.
pub(super) fn too_many_fresh(after: &PoolState, before: Option<&PoolState>) -> Option<ShardId> {
    let is_fresh = |id: &ShardId| after.store(id).fresh;
    let was_fresh = |id: &ShardId| before.is_some_and(|before| before.store(id).fresh);
    let replaced = after.stores.keys().find(|id| is_fresh(id) && !was_fresh(id))?;
    let table = after.previous_table()?;
    let fresh: Vec<bool> = table.shards().iter().map(is_fresh).collect();
    let majority = table.replicas() / 2 + 1;
    table.has_slot_with(&fresh, majority).then(|| replaced.clone())
}
