//! What does a write transaction do to the tables?

use redb::{ReadableTable, Table, WriteTransaction};

use crate::store::index::IndexError;
use crate::store::record::{BodyId, Place, Record};
use crate::store::replica::change::{Pools, Shard};
use crate::store::replica::doomed::{Step, step};
use crate::store::tables::{BODIES, FACTS, FILES, OBJECTS, Totals};

/// A write transaction at work.
pub struct Change<'t> {
    objects: Table<'t, &'static [u8], &'static [u8]>,
    bodies: Bodies<'t>,
    facts: Table<'t, &'static str, &'static [u8]>,
    pools: Pools<'t>,
    totals: Totals,
    changed: bool,
}

/// The bodies of all keys.
pub(super) struct Bodies<'t> {
    bodies: Table<'t, u64, &'static [u8]>,
    files: Table<'t, u64, ()>,
}

impl Bodies<'_> {
    /// Notes a body; `bytes` unless it is a file.
    pub(super) fn insert(
        &mut self,
        place: Place,
        id: BodyId,
        bytes: &[u8],
    ) -> Result<(), IndexError> {
        match place {
            Place::Index => drop(self.bodies.insert(id.0, bytes)?),
            Place::File => drop(self.files.insert(id.0, ())?),
        }
        Ok(())
    }

    /// Forgets a body. A file is the caller's to remove, after the commit.
    pub(super) fn remove(&mut self, place: Place, id: BodyId) -> Result<(), IndexError> {
        match place {
            Place::Index => drop(self.bodies.remove(id.0)?),
            Place::File => drop(self.files.remove(id.0)?),
        }
        Ok(())
    }
}

/// What is to become of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It changed nothing.
    Abort,
    /// It is to be committed.
    Commit,
    /// It is to be committed durably, however the store syncs.
    CommitDurably,
}

impl<'t> Change<'t> {
    pub(super) fn new(tx: &'t WriteTransaction) -> Result<Self, IndexError> {
        let facts = tx.open_table(FACTS)?;
        Ok(Self {
            objects: tx.open_table(OBJECTS)?,
            bodies: Bodies { bodies: tx.open_table(BODIES)?, files: tx.open_table(FILES)? },
            pools: Pools::new(tx)?,
            totals: Totals::read(&facts)?,
            facts,
            changed: false,
        })
    }

    /// The pools that the store is a shard of.
    pub(super) fn pools(&mut self) -> &mut Pools<'t> {
        &mut self.pools
    }

    /// What this store holds of a pool; `None` while it is no shard of it.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(super) fn shard(&mut self, pool: &str) -> Result<Option<Shard<'_, 't>>, IndexError> {
        let tables = self.pools.open(pool)?;
        Ok(tables.map(|tables| Shard::new(tables, &mut self.bodies)))
    }

    /// Takes some of what dropped pools left behind; `None` if nothing is left.
    ///
    /// # Errors
    /// When the index cannot be changed.
    pub(super) fn drop_some(&mut self, rows_max: usize) -> Result<Option<Step>, IndexError> {
        let step = step(self.pools.transaction(), &mut self.bodies, rows_max)?;
        if step.is_some() {
            self.pools.note_change();
        }
        Ok(step)
    }

    /// The record of a key, with what this transaction has done to it.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn record(&self, key: &[u8]) -> Result<Option<Record>, IndexError> {
        let Some(row) = self.objects.get(key)? else { return Ok(None) };
        Ok(Some(Record::decode(row.value())?))
    }

    /// Gives `key` the value `record`, whose bytes are `body` unless they are in a file. Answers
    /// the record that was replaced; if its body is a file, that is the caller's to remove, after
    /// the commit.
    ///
    /// # Errors
    /// When the index cannot be read or changed.
    pub fn put(
        &mut self,
        key: &[u8],
        record: &Record,
        body: &[u8],
    ) -> Result<Option<Record>, IndexError> {
        let old = self.remove(key)?;
        self.objects.insert(key, &record.encode()[..])?;
        self.bodies.insert(record.place, record.body, body)?;
        self.totals.objects += 1;
        self.totals.bytes += record.size;
        self.changed = true;
        Ok(old)
    }

    /// Forgets `key` and answers its record; a file is the caller's to remove as in
    /// [`Change::put`].
    ///
    /// # Errors
    /// When the index cannot be read or changed.
    pub fn remove(&mut self, key: &[u8]) -> Result<Option<Record>, IndexError> {
        let old = match self.objects.remove(key)? {
            Some(row) => Record::decode(row.value())?,
            None => return Ok(None),
        };
        self.bodies.remove(old.place, old.body)?;
        self.totals.objects = self.totals.objects.saturating_sub(1);
        self.totals.bytes = self.totals.bytes.saturating_sub(old.size);
        self.changed = true;
        Ok(Some(old))
    }

    /// Ends the work on the tables.
    pub(super) fn finish(mut self) -> Result<Ending, IndexError> {
        if self.changed {
            self.facts.insert("totals", &self.totals.encode()[..])?;
        }
        Ok(match self.pools.finish()? {
            Ending::Abort if self.changed => Ending::Commit,
            ending => ending,
        })
    }
}
