//! Which comparisons run or ran, and what did they find?
//!
//! One value that the repairing thread writes and operators read.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::ids::PoolName;
use crate::protocol::replica::SLOTS;

/// Why a pass was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassKind {
    /// By its schedule.
    Scheduled,
    /// An operator asked.
    Asked,
    /// A shard is fresh, or has missed more than hints say.
    Fill,
    /// Something may be missing that no hint tells of.
    Doubt,
}

/// How a pass stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassEnd {
    /// It goes on.
    Running,
    /// It has been through all slots.
    Done,
    /// It was ended by this.
    Failed(String),
}

/// One comparison of a whole pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Counts up.
    pub id: u64,
    /// The pool.
    pub pool: String,
    /// Why it was begun.
    pub kind: PassKind,
    /// Whether it only looks.
    pub dry_run: bool,
    /// How it stands.
    pub end: PassEnd,
    /// When it began, in milliseconds since 1970.
    pub begun_unix_ms: u64,
    /// How long it has taken so far, in milliseconds.
    pub took_ms: u64,
    /// Slots compared, of 65536.
    pub slots: u32,
    /// Slots that differed.
    pub slots_differing: u32,
    /// Keys looked at in those.
    pub keys: u64,
    /// Keys that not all replicas held alike.
    pub keys_differing: u64,
    /// Versions that were brought to a replica.
    pub copied: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Versions that could not be brought.
    pub failed: u64,
    /// Keys of which it found no replica that has the newest value whole any more, while not all of
    /// them knew that. It takes a new write, or a deletion, for them to be readable again; nothing that
    /// a pass could do is left undone.
    #[serde(default)]
    pub lost: u64,
    /// Keys that a replica would not take any more: a defect, told in the log.
    pub stuck: u64,
    /// Shards that could not be asked everywhere.
    pub away: Vec<String>,
    /// The first keys that differed, for people.
    pub examples: Vec<String>,
}

/// Keys that a pass names.
pub(super) const EXAMPLES_MAX: usize = 10;

impl Pass {
    pub(super) fn asked_for(
        id: u64,
        pool: &PoolName,
        kind: PassKind,
        dry_run: bool,
        now_unix_ms: u64,
    ) -> Self {
        Self {
            id,
            pool: pool.to_string(),
            kind,
            dry_run,
            end: PassEnd::Running,
            begun_unix_ms: now_unix_ms,
            took_ms: 0,
            slots: 0,
            slots_differing: 0,
            keys: 0,
            keys_differing: 0,
            copied: 0,
            bytes: 0,
            failed: 0,
            lost: 0,
            stuck: 0,
            away: Vec::new(),
            examples: Vec::new(),
        }
    }

    /// What part of the pool it has been through, in percent.
    #[must_use]
    pub fn percent(&self) -> u32 {
        self.slots * 100 / SLOTS
    }

    /// Whether it has found all replicas alike in the end, of all shards, as far as they can be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.end == PassEnd::Done && self.away.is_empty() && self.failed == 0 && self.stuck == 0
    }
}

/// No pass was begun, since one is under way, and is enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "pool `{0}` is being compared already: see `ringway status`, and ask again when it is done"
)]
pub struct PassRuns(pub PoolName);

/// All pools' passes: the running one, and the last of each kind that ended.
#[derive(Debug, Default)]
pub struct Passes {
    inner: Mutex<Inner>,
    /// Told when one is asked for.
    pub(super) asked: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    pools: BTreeMap<PoolName, Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    present: Option<Pass>,
    /// The last that was not a dry run, and compared all of all shards.
    whole: Option<Pass>,
    /// Waits to be begun.
    asked: Option<Pass>,
}

impl Passes {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a pass; gives its number.
    ///
    /// # Errors
    /// [`PassRuns`].
    pub fn ask(
        &self,
        pool: &PoolName,
        kind: PassKind,
        dry_run: bool,
        now_unix_ms: u64,
    ) -> Result<u64, PassRuns> {
        let mut inner = self.inner();
        inner.next_id += 1;
        let id = inner.next_id;
        let slot = inner.pools.entry(pool.clone()).or_default();
        let runs = slot.present.as_ref().is_some_and(|pass| pass.end == PassEnd::Running);
        if runs || slot.asked.is_some() {
            return Err(PassRuns(pool.clone()));
        }
        slot.asked = Some(Pass::asked_for(id, pool, kind, dry_run, now_unix_ms));
        self.asked.notify_one();
        Ok(id)
    }

    /// The next pass that was asked for, which runs from now on.
    pub(super) fn begin(&self) -> Option<(PoolName, Pass)> {
        let mut inner = self.inner();
        let (name, slot) = inner.pools.iter_mut().find(|(_, slot)| slot.asked.is_some())?;
        let pass = slot.asked.take()?;
        slot.present = Some(pass.clone());
        Some((name.clone(), pass))
    }

    /// Shows how a pass stands.
    pub(super) fn show(&self, pool: &PoolName, pass: &Pass) {
        let mut inner = self.inner();
        let slot = inner.pools.entry(pool.clone()).or_default();
        slot.present = Some(pass.clone());
        if pass.is_whole() && !pass.dry_run {
            slot.whole = Some(pass.clone());
        }
    }

    /// Ends a pass that nobody goes on with, if it is not ended.
    pub(super) fn abandon(&self, pool: &PoolName, id: u64) {
        let mut inner = self.inner();
        let present = inner.pools.get_mut(pool).and_then(|slot| slot.present.as_mut());
        if let Some(pass) = present.filter(|pass| pass.id == id && pass.end == PassEnd::Running) {
            pass.end = PassEnd::Failed("it met a defect: see the log of this node".to_owned());
        }
    }

    /// The present pass of a pool, or its last one.
    #[must_use]
    pub fn of(&self, pool: &PoolName) -> Option<Pass> {
        let inner = self.inner();
        let slot = inner.pools.get(pool)?;
        slot.asked.clone().or_else(|| slot.present.clone())
    }

    /// The last pass of a pool that compared all of it and mended what differed.
    #[must_use]
    pub fn whole(&self, pool: &PoolName) -> Option<Pass> {
        self.inner().pools.get(pool)?.whole.clone()
    }

    /// The pools that had one.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolName> {
        self.inner().pools.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_of_a_pool_at_a_time() {
        let passes = Passes::default();
        let pool = PoolName::new("p").expect("a name");
        let ask = |dry_run| passes.ask(&pool, PassKind::Asked, dry_run, 7);
        let first = ask(false).expect("none runs");
        let refused = PassRuns(pool.clone());
        assert_eq!(ask(false), Err(refused.clone()), "it waits");
        let (name, mut pass) = passes.begin().expect("asked for");
        assert_eq!((name, pass.id), (pool.clone(), first));
        assert_eq!(ask(true), Err(refused), "it runs");
        assert!(passes.begin().is_none());
        pass.end = PassEnd::Done;
        passes.show(&pool, &pass);
        assert_eq!(passes.whole(&pool).map(|pass| pass.id), Some(first));
        let second = ask(true).expect("it is done");
        assert!(second > first);
        let (_, mut pass) = passes.begin().expect("asked for");
        passes.abandon(&pool, first);
        assert_eq!(passes.of(&pool).map(|pass| pass.end), Some(PassEnd::Running), "another one");
        pass.end = PassEnd::Done;
        passes.show(&pool, &pass);
        passes.abandon(&pool, second);
        let present = passes.of(&pool).map(|pass| (pass.id, pass.end));
        assert_eq!(present, Some((second, PassEnd::Done)), "it had ended");
        assert_eq!(passes.whole(&pool).map(|pass| pass.id), Some(first), "a look mends nothing");
    }
}
