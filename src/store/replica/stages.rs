//! Which bodies were sent and wait for their commit?
//!
//! In memory, with the names of those that are files: a restart forgets them all, and the sweep of
//! `incoming/` takes the files. Bounded in number, in bytes of memory and in age: a node that dies
//! between its two rounds leaves a stage for [`STAGE_MAX_MS`] at most.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntGauge;

use crate::ids::PoolName;
use crate::protocol::replica::StageId;
use crate::protocol::replica::words::STAGE_MAX_MS;
use crate::store::meta::Meta;
use crate::store::replica::record::RowKey;
use crate::store::writer::NewBody;

/// Stages held at once. A store that commits 10,000 a second holds those of half a second.
const STAGES_MAX: usize = 4096;

/// Bytes of bodies and kept fields held in memory for stages: a thousand of the longest that are
/// not files.
const MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A body that waits for its commit.
#[derive(Debug)]
pub struct Stage {
    /// Under which key it is to be kept.
    pub key: RowKey,
    /// The fields to be kept with it.
    pub meta: Meta,
    /// Its bytes, whole, and on the disk if they are a file.
    pub body: NewBody,
    /// Since when.
    pub since: Instant,
}

impl Stage {
    /// What it takes of the memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let body = match &self.body {
            NewBody::Small(bytes, _) => bytes.len(),
            NewBody::Large(_) => 0,
        };
        self.meta.len_bytes() + body
    }
}

/// There are as many already as are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// The bodies that wait.
#[derive(Debug)]
pub struct Stages {
    held: Mutex<Held>,
    count: IntGauge,
    memory: IntGauge,
}

#[derive(Debug, Default)]
struct Held {
    stages: BTreeMap<(PoolName, StageId), Stage>,
    memory_bytes: usize,
}

impl Stages {
    /// None, shown by `count` and `memory` (bytes).
    #[must_use]
    pub fn new(count: IntGauge, memory: IntGauge) -> Self {
        let stages = Self { held: Mutex::default(), count, memory };
        stages.show(&stages.held());
        stages
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, held: &Held) {
        self.count.set(i64::try_from(held.stages.len()).unwrap_or(i64::MAX));
        self.memory.set(i64::try_from(held.memory_bytes).unwrap_or(i64::MAX));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held().stages.len()
    }

    /// Whether there is room for one more, as far as that is known before its body came.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn admit(&self) -> Result<(), TooMany> {
        let mut held = self.held();
        if held.is_full(0) {
            held.forget_before(Instant::now());
            self.show(&held);
        }
        if held.is_full(0) { Err(TooMany) } else { Ok(()) }
    }

    /// Keeps a stage. One of the same id, which is a repeat, gives way.
    ///
    /// # Errors
    /// [`TooMany`]; the stage is dropped.
    pub fn put(&self, pool: PoolName, id: StageId, stage: Stage) -> Result<(), TooMany> {
        let bytes = stage.memory_bytes();
        let mut held = self.held();
        if held.is_full(bytes) {
            return Err(TooMany);
        }
        held.memory_bytes += bytes;
        let before = held.stages.insert((pool, id), stage);
        held.memory_bytes -= before.as_ref().map_or(0, Stage::memory_bytes);
        self.show(&held);
        drop(held);
        // A file is let go without the lock.
        drop(before);
        Ok(())
    }

    /// What a commit of this stage will take of the index, in bytes; 0 if there is none.
    #[must_use]
    pub fn memory_bytes(&self, pool: &PoolName, id: StageId) -> usize {
        self.held().stages.get(&(pool.clone(), id)).map_or(0, Stage::memory_bytes)
    }

    /// Takes a stage out, if there is one and it is of this key.
    pub fn take(&self, pool: &PoolName, id: StageId, key: &RowKey) -> Option<Stage> {
        let of = (pool.clone(), id);
        let mut held = self.held();
        if held.stages.get(&of)?.key != *key {
            return None;
        }
        let stage = held.stages.remove(&of)?;
        held.memory_bytes -= stage.memory_bytes();
        self.show(&held);
        Some(stage)
    }

    /// Gives back what was taken out and not committed after all.
    pub fn give_back(&self, pool: PoolName, id: StageId, stage: Stage) {
        let mut held = self.held();
        held.memory_bytes += stage.memory_bytes();
        let before = held.stages.insert((pool, id), stage);
        held.memory_bytes -= before.map_or(0, |before| before.memory_bytes());
        self.show(&held);
    }

    /// Drops those of a pool that is no more.
    pub fn forget_pool(&self, pool: &PoolName) {
        let mut held = self.held();
        let (gone, stay) =
            std::mem::take(&mut held.stages).into_iter().partition(|((own, _), _)| own == pool);
        held.stages = stay;
        let gone: BTreeMap<_, Stage> = gone;
        held.memory_bytes -= gone.values().map(Stage::memory_bytes).sum::<usize>();
        self.show(&held);
        drop(held);
        // Files are let go without the lock.
        drop(gone);
    }

    /// Drops what is too old. To be called now and then.
    pub fn forget_old(&self, now: Instant) {
        let mut held = self.held();
        held.forget_before(now);
        self.show(&held);
    }
}

impl Held {
    fn is_full(&self, bytes: usize) -> bool {
        self.stages.len() >= STAGES_MAX || self.memory_bytes + bytes > MEMORY_BYTES_MAX
    }

    fn forget_before(&mut self, now: Instant) {
        let age_max = Duration::from_millis(STAGE_MAX_MS);
        let mut freed = 0;
        self.stages.retain(|_, stage| {
            let stays = now.saturating_duration_since(stage.since) < age_max;
            freed += if stays { 0 } else { stage.memory_bytes() };
            stays
        });
        self.memory_bytes -= freed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Digest, Incarnation, NodeId, Token};
    use crate::version::Proposer;

    fn id(sequence: u64) -> StageId {
        let proposer = Proposer { node: NodeId(1), incarnation: Incarnation(1), worker: 0 };
        StageId { proposer, sequence }
    }

    fn stage(length: usize, since: Instant) -> Stage {
        let body = NewBody::Small(vec![0; length].into(), Digest([0; 32]));
        let key = RowKey::new(Token(7), b"k");
        Stage { key, meta: Meta::default(), body, since }
    }

    fn stages() -> (Stages, PoolName) {
        let gauge = || IntGauge::new("g", "test").expect("a gauge");
        (Stages::new(gauge(), gauge()), PoolName::new("p").expect("a name"))
    }

    #[test]
    fn a_stage_is_taken_once_and_only_for_its_key() {
        let (stages, pool) = stages();
        let now = Instant::now();
        assert_eq!(stages.put(pool.clone(), id(1), stage(10, now)), Ok(()));
        assert_eq!(stages.put(pool.clone(), id(1), stage(20, now)), Ok(()));
        assert_eq!((stages.len(), stages.memory.get()), (1, 20), "a repeat gives way");
        let key = RowKey::new(Token(7), b"k");
        assert!(stages.take(&pool, id(1), &RowKey::new(Token(7), b"l")).is_none());
        assert!(stages.take(&pool, id(2), &key).is_none());
        let taken = stages.take(&pool, id(1), &key).expect("it is there");
        assert_eq!((stages.len(), stages.memory.get()), (0, 0));
        stages.give_back(pool.clone(), id(1), taken);
        assert_eq!((stages.len(), stages.memory_bytes(&pool, id(1))), (1, 20));
        assert!(stages.take(&pool, id(1), &key).is_some());
        assert!(stages.take(&pool, id(1), &key).is_none());
    }

    #[test]
    fn there_is_a_limit_to_number_memory_and_age() {
        let (stages, pool) = stages();
        let now = Instant::now();
        for sequence in 0..STAGES_MAX as u64 {
            assert_eq!(stages.put(pool.clone(), id(sequence), stage(0, now)), Ok(()));
        }
        assert_eq!(stages.put(pool.clone(), id(9999), stage(0, now)), Err(TooMany));
        assert_eq!(stages.admit(), Err(TooMany));
        let age = Duration::from_millis(STAGE_MAX_MS);
        let just_before = age.checked_sub(Duration::from_millis(1)).expect("more than that");
        stages.forget_old(now + just_before);
        assert_eq!(stages.len(), STAGES_MAX);
        stages.forget_old(now + age);
        assert_eq!((stages.len(), stages.admit()), (0, Ok(())));
        let half = MEMORY_BYTES_MAX / 2;
        for sequence in 0..2 {
            assert_eq!(stages.put(pool.clone(), id(sequence), stage(half, now)), Ok(()));
        }
        assert_eq!(stages.put(pool.clone(), id(3), stage(1, now)), Err(TooMany));
        assert_eq!(stages.put(pool, id(4), stage(0, now)), Ok(()), "files go on");
    }
}
