//! What does a write transaction do to the tables of a pool?
//!
//! Invariants, after each call and so after each commit:
//! 1. The sum of a slot is that of the records in it.
//! 2. `names` has the keys of `kept`, `graves` its tombstones, and the pool's facts their numbers.
//! 3. A watermark never goes down.
//! 4. `hurt` has the keys of what is damaged, which is a term of its own in the sums.

use redb::{ReadableTable, Table, WriteTransaction};

use crate::ids::{Birth, ClusterId, ShardId, Token};
use crate::protocol::holding::{Held, may_drop};
use crate::protocol::replica::{PoolEpoch, Sum, slot_of};
use crate::store::change::{Bodies, Ending};
use crate::store::index::IndexError;
use crate::store::meta::Meta;
use crate::store::record::{BodyId, Place, RecordError};
use crate::store::replica::doomed::doom;
use crate::store::replica::pool::PoolFacts;
use crate::store::replica::record::{Kept, RowKey, decode_meta};
use crate::store::replica::sums::Deltas;
use crate::store::tables::{POOLS, PoolTables};
use crate::version::{VERSION_BYTES, Version};

type ByBytes<'t, V> = Table<'t, &'static [u8], V>;
type BySlot<'t> = Table<'t, u16, &'static [u8]>;

/// The pools that the store is a shard of, inside a write transaction.
pub struct Pools<'t> {
    tx: &'t WriteTransaction,
    facts: Table<'t, &'static str, &'static [u8]>,
    open: Vec<Tables<'t>>,
    ending: Ending,
    may_fold: bool,
}

/// One pool's tables.
pub struct Tables<'t> {
    name: String,
    facts: PoolFacts,
    is_changed: bool,
    kept: ByBytes<'t, &'static [u8]>,
    names: ByBytes<'t, u64>,
    graves: ByBytes<'t, u64>,
    marks: BySlot<'t>,
    /// Opened where something is damaged.
    hurt: Option<ByBytes<'t, ()>>,
    tx: &'t WriteTransaction,
    deltas: Deltas,
    tables: PoolTables,
    must_be_durable: bool,
}

impl<'t> Pools<'t> {
    pub(in crate::store) fn new(tx: &'t WriteTransaction) -> Result<Self, IndexError> {
        let (open, ending) = (Vec::new(), Ending::Abort);
        Ok(Self { tx, facts: tx.open_table(POOLS)?, open, ending, may_fold: true })
    }

    /// Leaves the journals of sums as they are: there is no room for more than what must be.
    pub(in crate::store) fn fold_later(&mut self) {
        self.may_fold = false;
    }

    /// The tables of a pool; `None` while the store is no shard of it.
    pub(in crate::store) fn open(
        &mut self,
        name: &str,
    ) -> Result<Option<&mut Tables<'t>>, IndexError> {
        let at = match self.open.iter().position(|pool| pool.name == name) {
            Some(at) => at,
            None => {
                let Some(facts) = self.facts(name)? else { return Ok(None) };
                self.open.push(Tables::open(self.tx, name, facts)?);
                self.open.len() - 1
            }
        };
        Ok(Some(&mut self.open[at]))
    }

    fn facts(&self, name: &str) -> Result<Option<PoolFacts>, IndexError> {
        let row = self.facts.get(name)?;
        Ok(row.map(|row| PoolFacts::decode(row.value())).transpose()?)
    }

    /// Makes the store a shard of a pool, of which it must not be one.
    ///
    /// # Errors
    /// When the index cannot be changed.
    pub(in crate::store) fn bind(
        &mut self,
        name: &str,
        cluster: ClusterId,
        shard: ShardId,
        birth: Birth,
    ) -> Result<(), IndexError> {
        let facts = PoolFacts::new(cluster, shard, birth);
        self.facts.insert(name, &facts.encode()[..])?;
        // Opening the tables makes them, so that reads find them.
        let tables = PoolTables::of(name, birth);
        self.tx.open_table(tables.sums())?;
        self.tx.open_table(tables.deltas())?;
        self.open.push(Tables::open(self.tx, name, facts)?);
        self.ending = Ending::CommitDurably;
        Ok(())
    }

    /// Makes the store a shard of a pool that was born later than the one of this name of which it is
    /// one. What it kept of that is out of reach from here on.
    ///
    /// # Errors
    /// When the index cannot be changed.
    pub(in crate::store) fn bind_anew(
        &mut self,
        name: &str,
        before: Birth,
        (cluster, shard, birth): (ClusterId, ShardId, Birth),
    ) -> Result<(), IndexError> {
        doom(self.tx, name, before)?;
        // What this transaction has changed of the former one would be written over the new one.
        self.open.retain(|pool| pool.name != name);
        self.bind(name, cluster, shard, birth)
    }

    /// The transaction.
    pub(in crate::store) fn transaction(&self) -> &'t WriteTransaction {
        self.tx
    }

    /// Notes that rows of no pool here were changed.
    pub(in crate::store) fn note_change(&mut self) {
        if self.ending == Ending::Abort {
            self.ending = Ending::Commit;
        }
    }

    /// Ends the work on the tables.
    pub(in crate::store) fn finish(self) -> Result<Ending, IndexError> {
        let Self { tx, mut facts, open, mut ending, may_fold } = self;
        for pool in open.iter().filter(|pool| pool.is_changed) {
            pool.deltas.write(tx, &pool.tables, may_fold)?;
            facts.insert(&*pool.name, &pool.facts.encode()[..])?;
            if pool.must_be_durable {
                ending = Ending::CommitDurably;
            } else if ending == Ending::Abort {
                ending = Ending::Commit;
            }
        }
        Ok(ending)
    }
}

impl<'t> Tables<'t> {
    fn open(tx: &'t WriteTransaction, name: &str, facts: PoolFacts) -> Result<Self, IndexError> {
        let tables = PoolTables::of(name, facts.birth);
        Ok(Self {
            name: name.to_owned(),
            facts,
            is_changed: false,
            kept: tx.open_table(tables.kept())?,
            names: tx.open_table(tables.names())?,
            graves: tx.open_table(tables.graves())?,
            marks: tx.open_table(tables.marks())?,
            hurt: None,
            tx,
            deltas: Deltas::default(),
            tables,
            must_be_durable: false,
        })
    }

    fn hurt(&mut self) -> Result<&mut ByBytes<'t, ()>, IndexError> {
        if self.hurt.is_none() {
            self.hurt = Some(self.tx.open_table(self.tables.hurt())?);
        }
        Ok(self.hurt.as_mut().expect("it was opened"))
    }
}

/// A pool's shard and the bodies of all, inside a write transaction.
pub struct Shard<'a, 't> {
    pool: &'a mut Tables<'t>,
    bodies: &'a mut Bodies<'t>,
}

impl<'a, 't> Shard<'a, 't> {
    pub(in crate::store) fn new(pool: &'a mut Tables<'t>, bodies: &'a mut Bodies<'t>) -> Self {
        Self { pool, bodies }
    }

    /// Whose shard it is, and how far the fence was raised.
    #[must_use]
    pub fn facts(&self) -> &PoolFacts {
        &self.pool.facts
    }

    /// Raises the fence; to be durable however the store syncs.
    pub fn raise_fence(&mut self, epoch: PoolEpoch) {
        self.pool.facts.epoch = epoch;
        self.pool.is_changed = true;
        self.pool.must_be_durable = true;
    }

    /// What is held under a key.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn held(&self, key: &RowKey) -> Result<(Held, Option<Kept>), IndexError> {
        if let Some(row) = self.pool.kept.get(key.bytes())? {
            let (kept, _) = Kept::decode(row.value())?;
            return Ok((kept.held(), Some(kept)));
        }
        let watermark = self.watermark(slot_of(key.token()))?;
        Ok((Held::Absent { watermark }, None))
    }

    /// The watermark of a slot.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn watermark(&self, slot: u16) -> Result<Version, IndexError> {
        let row = self.pool.marks.get(slot)?;
        row.map_or(Ok(Version::NONE), |row| decode_version(row.value()))
    }

    /// The token under which a key is held.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn token_of(&self, key: &[u8]) -> Result<Option<Token>, IndexError> {
        Ok(self.pool.names.get(key)?.map(|row| Token(row.value())))
    }

    /// Puts `kept` in the place of `before`, which [`Shard::held`] answered in this transaction.
    /// Answers the file that this made superfluous, to be removed after the commit.
    ///
    /// # Errors
    /// When the index cannot be changed.
    pub fn put(
        &mut self,
        key: &RowKey,
        before: Option<&Kept>,
        kept: &Kept,
        meta: &Meta,
        body: &[u8],
    ) -> Result<Option<BodyId>, IndexError> {
        let pool = &mut *self.pool;
        pool.is_changed = true;
        pool.kept.insert(key.bytes(), &kept.encode(meta)[..])?;
        if before.is_none() {
            pool.names.insert(key.key(), key.token().0)?;
        }
        match (before.is_some_and(|before| before.value.is_none()), kept.value.is_none()) {
            (false, false) => {}
            (true, false) => drop(pool.graves.remove(key.bytes())?),
            (_, true) => drop(pool.graves.insert(key.bytes(), kept.modified_ms)?),
        }
        let freed = self.forget_body(before)?;
        if let Some(value) = kept.value {
            self.bodies.insert(value.place, value.body, body)?;
        }
        let facts = &mut self.pool.facts;
        match kept.value {
            Some(value) => {
                facts.values += 1;
                facts.bytes += value.size;
            }
            None => facts.tombstones += 1,
        }
        let mut delta = kept.sum(key.key());
        if let Some(before) = before {
            delta -= before.sum(key.key());
        }
        self.pool.deltas.note(slot_of(key.token()), delta);
        match (before.is_some_and(Kept::is_damaged), kept.is_damaged()) {
            (_, true) => drop(self.pool.hurt()?.insert(key.bytes(), ())?),
            (true, false) => drop(self.pool.hurt()?.remove(key.bytes())?),
            (false, false) => {}
        }
        Ok(freed)
    }

    /// Notes that the bytes of a value are lost or spoilt; whether that is news. A value that has
    /// come instead is left as it is.
    ///
    /// # Errors
    /// When the index cannot be read or changed.
    pub fn damage(
        &mut self,
        key: &RowKey,
        version: Version,
        body: BodyId,
    ) -> Result<bool, IndexError> {
        let (mut kept, meta) = match self.pool.kept.get(key.bytes())? {
            Some(row) => {
                let (kept, meta) = Kept::decode(row.value())?;
                (kept, decode_meta(meta)?)
            }
            None => return Ok(false),
        };
        let before = kept.sum(key.key());
        // By both: a repaired value has the version of the one before it, and another body.
        let is_it = kept.version == version;
        let Some(value) = kept.value.as_mut().filter(|value| is_it && value.body == body) else {
            return Ok(false);
        };
        if std::mem::replace(&mut value.is_damaged, true) {
            return Ok(false);
        }
        self.pool.is_changed = true;
        self.pool.kept.insert(key.bytes(), &kept.encode(&meta)[..])?;
        let mut delta = kept.sum(key.key());
        delta -= before;
        self.pool.deltas.note(slot_of(key.token()), delta);
        self.pool.hurt()?.insert(key.bytes(), ())?;
        Ok(true)
    }

    /// Takes what was held out of the bodies and the numbers.
    fn forget_body(&mut self, before: Option<&Kept>) -> Result<Option<BodyId>, IndexError> {
        let facts = &mut self.pool.facts;
        let Some(before) = before else { return Ok(None) };
        let Some(value) = before.value else {
            facts.tombstones = facts.tombstones.saturating_sub(1);
            return Ok(None);
        };
        facts.values = facts.values.saturating_sub(1);
        facts.bytes = facts.bytes.saturating_sub(value.size);
        self.bodies.remove(value.place, value.body)?;
        Ok((value.place == Place::File).then_some(value.body))
    }

    /// Drops the record of a key if it is the tombstone of this version; whether it was.
    ///
    /// # Errors
    /// When the index cannot be read or changed.
    pub fn drop_tombstone(&mut self, key: &RowKey, version: Version) -> Result<bool, IndexError> {
        let (held, before) = self.held(key)?;
        if !may_drop(held, version) {
            return Ok(false);
        }
        self.pool.is_changed = true;
        self.pool.kept.remove(key.bytes())?;
        self.pool.names.remove(key.key())?;
        self.pool.graves.remove(key.bytes())?;
        self.forget_body(before.as_ref())?;
        let mut delta = Sum::default();
        delta -= Sum::of(key.key(), version, true);
        self.pool.deltas.note(slot_of(key.token()), delta);
        Ok(true)
    }

    /// Raises the watermark of a slot; whether it was lower.
    ///
    /// # Errors
    /// When the index cannot be read or changed.
    pub fn raise_watermark(&mut self, slot: u16, version: Version) -> Result<bool, IndexError> {
        if self.watermark(slot)? >= version {
            return Ok(false);
        }
        self.pool.is_changed = true;
        self.pool.marks.insert(slot, &version.to_bytes()[..])?;
        Ok(true)
    }
}

/// Reads a row of `marks`.
pub(super) fn decode_version(bytes: &[u8]) -> Result<Version, IndexError> {
    let bytes: &[u8; VERSION_BYTES] = bytes.try_into().map_err(|_| RecordError::Malformed)?;
    Ok(Version::from_bytes(bytes))
}
