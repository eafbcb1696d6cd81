//! What do reads see of a pool?

use redb::{ReadOnlyTable, ReadTransaction};

use crate::ids::PoolName;
use crate::protocol::holding::Held;
use crate::protocol::replica::slot_of;
use crate::store::index::IndexError;
use crate::store::meta::Meta;
use crate::store::record::RecordError;
use crate::store::replica::change::decode_version;
use crate::store::replica::pool::PoolFacts;
use crate::store::replica::record::{Kept, RowKey, decode_meta};
use crate::store::tables::PoolTables;
use crate::version::Version;

/// One pool after one commit.
pub struct PoolView {
    name: PoolName,
    facts: PoolFacts,
    kept: ReadOnlyTable<&'static [u8], &'static [u8]>,
    marks: ReadOnlyTable<u16, &'static [u8]>,
}

impl PoolView {
    pub(in crate::store) fn open(
        tx: &ReadTransaction,
        name: &str,
        row: &[u8],
    ) -> Result<Self, IndexError> {
        let facts = PoolFacts::decode(row)?;
        let tables = PoolTables::of(name, facts.birth);
        Ok(Self {
            name: PoolName::new(name).map_err(|_| RecordError::Malformed)?,
            facts,
            kept: tx.open_table(tables.kept())?,
            marks: tx.open_table(tables.marks())?,
        })
    }

    /// Which pool it is.
    #[must_use]
    pub fn name(&self) -> &PoolName {
        &self.name
    }

    /// Whose it is, how far the fence was raised, and what is held.
    #[must_use]
    pub fn facts(&self) -> &PoolFacts {
        &self.facts
    }

    /// The names of its tables.
    pub(in crate::store) fn tables(&self) -> PoolTables {
        PoolTables::of(self.name.as_str(), self.facts.birth)
    }

    /// All records.
    pub(super) fn table(&self) -> &ReadOnlyTable<&'static [u8], &'static [u8]> {
        &self.kept
    }

    /// All watermarks.
    pub(super) fn marks(&self) -> &ReadOnlyTable<u16, &'static [u8]> {
        &self.marks
    }

    /// What is held under a key, without its fields.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn held(&self, key: &RowKey) -> Result<Held, IndexError> {
        match self.kept.get(key.bytes())? {
            Some(row) => Ok(Kept::decode(row.value())?.0.held()),
            None => Ok(Held::Absent { watermark: self.watermark(slot_of(key.token()))? }),
        }
    }

    /// The record of a key and its kept fields; or the watermark that stands for it.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn record(&self, key: &RowKey) -> Result<Result<(Kept, Meta), Version>, IndexError> {
        let Some(row) = self.kept.get(key.bytes())? else {
            return Ok(Err(self.watermark(slot_of(key.token()))?));
        };
        let (kept, meta) = Kept::decode(row.value())?;
        Ok(Ok((kept, decode_meta(meta)?)))
    }

    fn watermark(&self, slot: u16) -> Result<Version, IndexError> {
        let row = self.marks.get(slot)?;
        row.map_or(Ok(Version::NONE), |row| decode_version(row.value()))
    }
}
