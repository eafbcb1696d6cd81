//! What do reads see?
//!
//! The state after one commit, whole: published by the index after the commit succeeded, used by as
//! many reads as want it.

use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata,
};

use crate::store::index::IndexError;
use crate::store::list::{Page, Query};
use crate::store::record::{BodyId, Record};
use crate::store::replica::view::PoolView;
use crate::store::tables::{BODIES, FACTS, FILES, OBJECTS, POOLS, Totals};

/// The state after one commit, for as many reads as want it.
pub struct View {
    objects: ReadOnlyTable<&'static [u8], &'static [u8]>,
    bodies: ReadOnlyTable<u64, &'static [u8]>,
    files: ReadOnlyTable<u64, ()>,
    totals: Totals,
    pools: Vec<PoolView>,
    /// For tables that few reads ask for.
    tx: ReadTransaction,
}

impl View {
    pub(super) fn new(db: &Database) -> Result<Self, IndexError> {
        let tx = db.begin_read()?;
        let facts = tx.open_table(FACTS)?;
        let pools = tx.open_table(POOLS)?;
        let pools = pools.iter()?.map(|row| {
            let (name, row) = row?;
            PoolView::open(&tx, name.value(), row.value())
        });
        Ok(Self {
            objects: tx.open_table(OBJECTS)?,
            bodies: tx.open_table(BODIES)?,
            files: tx.open_table(FILES)?,
            totals: Totals::read(&facts)?,
            pools: pools.collect::<Result<_, IndexError>>()?,
            tx,
        })
    }

    /// What is held of a pool; `None` while the store is no shard of it.
    #[must_use]
    pub(super) fn pool(&self, name: &str) -> Option<&PoolView> {
        self.pools.iter().find(|pool| pool.name().as_str() == name)
    }

    /// The pools that the store is a shard of.
    pub(super) fn pools(&self) -> impl Iterator<Item = &PoolView> {
        self.pools.iter()
    }

    /// How many values of a pool were found damaged.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(super) fn damaged(&self, pool: &PoolView) -> Result<u64, IndexError> {
        match self.tx.open_table(pool.tables().hurt()) {
            Ok(hurt) => Ok(hurt.len()?),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// The transaction under the view.
    pub(super) fn transaction(&self) -> &ReadTransaction {
        &self.tx
    }

    /// The record of a key.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn record(&self, key: &[u8]) -> Result<Option<Record>, IndexError> {
        let Some(row) = self.objects.get(key)? else { return Ok(None) };
        Ok(Some(Record::decode(row.value())?))
    }

    /// A copy of a body of `size` bytes that is in the index. A copy, because a slow client that
    /// held the page would hold back the reuse of every page freed since.
    ///
    /// # Errors
    /// When the index cannot be read, or has no such body of that length.
    pub fn body(&self, id: BodyId, size: u64) -> Result<Bytes, IndexError> {
        let row = self.bodies.get(id.0)?;
        let bytes = row.as_ref().map(redb::AccessGuard::value);
        let whole = bytes.filter(|bytes| bytes.len() as u64 == size);
        whole.map(Bytes::copy_from_slice).ok_or(IndexError::Body)
    }

    /// One page of the keys.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(&self, query: &Query) -> Result<Page, IndexError> {
        let (start, inclusive) = query.start();
        let mut page = Page::default();
        let mut last: Vec<u8> = Vec::new();
        for row in self.objects.range::<&[u8]>(start..)? {
            let (key, row) = row?;
            let key = key.value();
            if !inclusive && key == start {
                continue;
            }
            if !key.starts_with(&query.prefix) {
                break;
            }
            if page.keys.len() == query.limit {
                page.more_after(&last);
                break;
            }
            page.push(key, &Record::decode(row.value())?);
            key.clone_into(&mut last);
        }
        Ok(page)
    }

    /// Whether a body is known to be a file.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn has_file(&self, id: BodyId) -> Result<bool, IndexError> {
        Ok(self.files.get(id.0)?.is_some())
    }

    /// The ids of all bodies that are files.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn files(&self) -> Result<impl Iterator<Item = Result<BodyId, IndexError>>, IndexError> {
        Ok(self.files.iter()?.map(|row| Ok(BodyId(row?.0.value()))))
    }

    /// An id above that of every body held.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn next_body(&self) -> Result<BodyId, IndexError> {
        let inline = self.bodies.last()?.map_or(0, |(id, _)| id.value() + 1);
        let file = self.files.last()?.map_or(0, |(id, _)| id.value() + 1);
        Ok(BodyId(inline.max(file)))
    }

    /// What is held for cache pools.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }
}
