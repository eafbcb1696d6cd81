//! What does a store hold, what does a kill take from it, and what does it refuse?
//!
//! A write is applied when it is on disk, and answered then: nobody sees a record that could still be
//! lost. Stages are in memory alone.

use std::collections::{BTreeMap, BTreeSet};

use ringway::protocol::holding::{Decision, Effect, Held, decide, decide_damaged, may_drop};
use ringway::protocol::read::Record;
use ringway::version::Version;

use super::rules::{Rule, Rules};

/// One of a few keys, all in one slot.
pub type Key = u8;

/// What a proxy asks of a store.
#[derive(Debug, Clone)]
pub enum Request {
    Stage,
    Commit(Version),
    Abort,
    Bring(Record),
    /// That there is a value of this version which nobody can give.
    Lost(Version),
    Ask,
    /// Nothing but the epoch that it comes with.
    Tell,
    List,
    Raise(Vec<(Key, Version)>),
}

impl Request {
    /// Whether it changes what must be on disk.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Commit(_) | Self::Bring(_) | Self::Lost(_) | Self::Raise(_))
    }
}

/// What a store answers.
#[derive(Debug, Clone)]
pub enum Reply {
    Staged(Version),
    Held(Held),
    Committed {
        effect: Effect,
        newest: Version,
    },
    NotStaged,
    /// An older epoch than the highest that it was told.
    Stale,
    Told,
    Listed(Listing),
}

/// What a store has, as it tells it.
#[derive(Debug, Clone)]
pub struct Listing {
    pub records: BTreeMap<Key, Record>,
    pub damaged: BTreeSet<Key>,
    pub watermark: Version,
}

/// What is kept.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    pub records: BTreeMap<Key, Record>,
    pub watermark: Version,
    /// Values whose bytes it has lost.
    pub damaged: BTreeSet<Key>,
    /// The highest epoch that it was told.
    pub fence: u64,
}

#[derive(Debug, Default)]
pub struct Store {
    /// What it acts by.
    pub live: Kept,
    /// What a kill leaves.
    pub disk: Kept,
    /// Operation and key.
    pub staged: BTreeSet<(u64, Key)>,
    /// Changes when the store is replaced by another.
    pub identity: u64,
    pub is_up: bool,
    /// Which start of it this is.
    pub starts: u64,
    pub stopped_until_us: u64,
    pub side: u8,
}

impl Kept {
    pub fn held(&self, key: Key) -> Held {
        match self.records.get(&key) {
            Some(Record { version, is_tombstone: true }) => Held::Tombstone(*version),
            Some(Record { version, .. }) if self.damaged.contains(&key) => Held::Damaged(*version),
            Some(Record { version, is_tombstone: false }) => Held::Value(*version),
            None => Held::Absent { watermark: self.watermark },
        }
    }
}

impl Store {
    pub fn new() -> Self {
        Self { identity: 1, is_up: true, ..Self::default() }
    }

    pub fn kill(&mut self) {
        self.live = self.disk.clone();
        self.staged.clear();
        self.starts += 1;
        self.is_up = false;
    }

    /// A fresh store stands in its place, which has nothing.
    pub fn replace(&mut self) {
        let (identity, starts) = (self.identity + 1, self.starts + 1);
        *self = Self { identity, starts, ..Self::new() };
    }

    /// Whether it holds a value whose bytes it has.
    pub fn has_bytes(&self, key: Key) -> bool {
        matches!(self.disk.held(key), Held::Value(_)) && self.live.held(key) == self.disk.held(key)
    }

    /// Its disk has lost the bytes of a value.
    pub fn rot(&mut self, key: Key) {
        self.live.damaged.insert(key);
        self.disk.damaged.insert(key);
    }

    pub fn sync(&mut self) {
        self.disk = self.live.clone();
    }

    /// Whether a request of this epoch is taken. A higher one is on disk before the answer.
    pub fn admits(&mut self, epoch: u64, rules: Rules) -> bool {
        if epoch < self.live.fence {
            return !rules.keep(Rule::StoresFence);
        }
        self.live.fence = epoch;
        self.disk.fence = epoch;
        true
    }

    /// Does what is asked; of a write, when its time on disk has come.
    pub fn act(&mut self, operation: u64, key: Key, request: &Request) -> Option<Reply> {
        let held = self.live.held(key);
        Some(match request {
            Request::Stage => {
                self.staged.insert((operation, key));
                Reply::Staged(held.newest())
            }
            Request::Ask => Reply::Held(held),
            Request::Commit(version) => {
                let is_staged = self.staged.remove(&(operation, key));
                if !is_staged && !held.covers(*version) {
                    return Some(Reply::NotStaged);
                }
                self.take(key, Record { version: *version, is_tombstone: false })
            }
            Request::Bring(record) => self.take(key, *record),
            Request::Lost(version) => {
                let decision = decide_damaged(held, *version);
                if decision == Decision::Apply {
                    let record = Record { version: *version, is_tombstone: false };
                    self.live.records.insert(key, record);
                    self.live.damaged.insert(key);
                }
                let newest = self.live.held(key).newest();
                Reply::Committed { effect: decision.effect(), newest }
            }
            Request::Abort => {
                self.staged.remove(&(operation, key));
                return None;
            }
            Request::Tell => Reply::Told,
            Request::List => {
                let Kept { records, damaged, watermark, .. } = self.live.clone();
                Reply::Listed(Listing { records, damaged, watermark })
            }
            Request::Raise(collected) => {
                for (key, version) in collected {
                    self.live.watermark = self.live.watermark.max(*version);
                    if may_drop(self.live.held(*key), *version) {
                        self.live.records.remove(key);
                    }
                }
                return None;
            }
        })
    }

    fn take(&mut self, key: Key, record: Record) -> Reply {
        let decision = decide(self.live.held(key), record.version);
        if decision == Decision::Apply {
            self.live.records.insert(key, record);
            self.live.damaged.remove(&key);
        }
        let newest = self.live.held(key).newest();
        Reply::Committed { effect: decision.effect(), newest }
    }
}
