//! How are the sums of slots kept up with every write, and cheaply?
//!
//! A write changes the sum of one slot of 65,536, any one. Changed where they stand, sums would cost
//! each write a page of the index, copied, hashed and written: 10.8 KB instead of 7.3 for a put of
//! 1 KiB at 64 connections. So a transaction appends all its changes as one row to a *journal*, and once the
//! journal has [`JOURNAL_ENTRIES_MAX`] of them it is folded into the table. Who asks for a sum adds
//! both up; a fold costs a few milliseconds each time, half a microsecond a write.
//!
//! Invariant: the sum of a slot is its row in `sums` and its entries in `deltas` together, in every
//! state that is committed.

use redb::{ReadTransaction, ReadableTable, Table, TableHandle, WriteTransaction};

use crate::protocol::replica::{SUM_BYTES, Sum, slot_of};
use crate::store::index::IndexError;
use crate::store::record::RecordError;
use crate::store::replica::pool::PoolFacts;
use crate::store::replica::record::{Kept, split};
use crate::store::tables::{POOLS, PoolTables};

/// Changes that a journal has at most, but for those of one batch: 200 KiB, to be read through by
/// each look at a sum.
const JOURNAL_ENTRIES_MAX: u64 = 8192;

/// Bytes of one change: the slot, little-endian, and the difference.
const ENTRY_BYTES: usize = 2 + SUM_BYTES;

/// What one transaction changes.
#[derive(Debug, Default)]
pub(super) struct Deltas(Vec<u8>);

impl Deltas {
    /// Notes a change of a slot's sum, modulo 2^128 and 2^64.
    pub(super) fn note(&mut self, slot: u16, delta: Sum) {
        self.0.extend_from_slice(&slot.to_le_bytes());
        self.0.extend_from_slice(&delta.to_bytes());
    }

    /// Writes the changes down, and folds the journal if it is long and `may_fold`.
    pub(super) fn write(
        &self,
        tx: &WriteTransaction,
        tables: &PoolTables,
        may_fold: bool,
    ) -> Result<(), IndexError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut journal = tx.open_table(tables.deltas())?;
        // A row is named by how many changes came before it, ever since the last fold.
        let before = match journal.last()? {
            Some((first, row)) => first.value() + entries(row.value()).len() as u64,
            None => 0,
        };
        journal.insert(before, &self.0[..])?;
        if may_fold && before >= JOURNAL_ENTRIES_MAX {
            fold(&mut journal, &mut tx.open_table(tables.sums())?)?;
        }
        Ok(())
    }
}

/// The changes in one row of the journal.
fn entries(row: &[u8]) -> impl ExactSizeIterator<Item = (u16, Sum)> {
    row.chunks_exact(ENTRY_BYTES).map(|entry| {
        let (slot, delta) = entry.split_first_chunk().expect("an entry has a slot");
        let delta = delta.try_into().expect("what follows the slot is a sum");
        (u16::from_le_bytes(*slot), Sum::from_bytes(delta))
    })
}

fn fold(
    journal: &mut Table<'_, u64, &'static [u8]>,
    sums: &mut Table<'_, u16, &'static [u8]>,
) -> Result<(), IndexError> {
    let mut changed = Vec::new();
    for row in journal.iter()? {
        changed.extend(entries(row?.1.value()));
    }
    changed.sort_by_key(|(slot, _)| *slot);
    for of_slot in changed.chunk_by(|a, b| a.0 == b.0) {
        let slot = of_slot[0].0;
        let row = sums.get(slot)?.map(|row| decode(row.value()));
        let mut sum = row.transpose()?.unwrap_or_default();
        of_slot.iter().for_each(|(_, delta)| sum += *delta);
        if sum == Sum::default() {
            sums.remove(slot)?;
        } else {
            sums.insert(slot, &sum.to_bytes()[..])?;
        }
    }
    journal.retain(|_, _| false)?;
    Ok(())
}

fn decode(bytes: &[u8]) -> Result<Sum, IndexError> {
    let bytes: &[u8; SUM_BYTES] = bytes.try_into().map_err(|_| RecordError::Malformed)?;
    Ok(Sum::from_bytes(bytes))
}

/// Adds what is damaged to the sums, which left it out up to layout 3.
///
/// # Errors
/// When the index cannot be read or changed.
pub(in crate::store) fn count_damaged(tx: &WriteTransaction) -> Result<(), IndexError> {
    let there: Vec<String> = tx.list_tables()?.map(|table| table.name().to_owned()).collect();
    for row in tx.open_table(POOLS)?.iter()? {
        let (name, facts) = row?;
        let tables = PoolTables::of(name.value(), PoolFacts::decode(facts.value())?.birth);
        // It is made when the first value is found damaged.
        if !there.iter().any(|table| table == tables.hurt().name()) {
            continue;
        }
        let kept = tx.open_table(tables.kept())?;
        let mut deltas = Deltas::default();
        for row in tx.open_table(tables.hurt())?.iter()? {
            let row = row?;
            let (token, key) = split(row.0.value());
            let Some(held) = kept.get(row.0.value())? else { continue };
            let (held, _) = Kept::decode(held.value())?;
            if held.is_damaged() {
                deltas.note(slot_of(token), held.sum(key));
            }
        }
        deltas.write(tx, &tables, true)?;
    }
    Ok(())
}

/// The sums of the slots `from` to `last`, `fold` slots in each.
pub(super) fn read(
    tx: &ReadTransaction,
    tables: &PoolTables,
    (from, last): (u16, u16),
    fold: u32,
) -> Result<Vec<Sum>, IndexError> {
    let index = |number: u32| usize::try_from(number).expect("a number of slots");
    let count = u32::from(last - from) + 1;
    let mut folded = vec![Sum::default(); index(count.div_ceil(fold))];
    for row in tx.open_table(tables.sums())?.range(from..=last)? {
        let (slot, sum) = row?;
        folded[index(u32::from(slot.value() - from) / fold)] += decode(sum.value())?;
    }
    for row in tx.open_table(tables.deltas())?.iter()? {
        for (slot, delta) in entries(row?.1.value()) {
            if (from..=last).contains(&slot) {
                folded[index(u32::from(slot - from) / fold)] += delta;
            }
        }
    }
    Ok(folded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Birth;
    use redb::{Database, ReadableDatabase, ReadableTableMetadata};
    use std::collections::BTreeMap;

    /// Against sums that are simply changed, over many folds.
    #[test]
    fn journal_and_table_add_up_at_any_time() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let db = Database::create(file.path()).expect("a database");
        let tables = PoolTables::of("p", Birth::default());
        let mut random = fastrand::Rng::with_seed(7);
        let mut model = BTreeMap::<u16, Sum>::new();
        let mut longest = 0;
        for round in 0..120 {
            let tx = db.begin_write().expect("a transaction");
            let mut deltas = Deltas::default();
            for _ in 0..random.u32(1..600) {
                let slot = random.u16(..) & if random.bool() { 0x0f } else { 0xffff };
                let mut delta = Sum { digest: random.u128(..), count: 1 };
                if random.bool() {
                    // An entry goes: of the whole sum, so that slots become empty as well.
                    delta = Sum::default();
                    delta -= model.get(&slot).copied().unwrap_or_default();
                }
                *model.entry(slot).or_default() += delta;
                deltas.note(slot, delta);
            }
            deltas.write(&tx, &tables, round % 50 != 49).expect("written");
            if round == 0 {
                tx.open_table(tables.sums()).expect("the table");
            }
            tx.commit().expect("a commit");
            let tx = db.begin_read().expect("a transaction");
            let journal = tx.open_table(tables.deltas()).expect("the table");
            longest = longest.max(journal.len().expect("a length"));
            if round % 10 == 0 {
                let all = read(&tx, &tables, (0, u16::MAX), 1).expect("read");
                for (slot, sum) in (0..=u16::MAX).zip(all) {
                    assert_eq!(sum, model.get(&slot).copied().unwrap_or_default(), "{slot}");
                }
                let part = read(&tx, &tables, (3, 12), 4).expect("read");
                for (at, folded) in (0..).zip(part) {
                    let mut expected = Sum::default();
                    let slots = 3 + at * 4..(7 + at * 4).min(13);
                    slots
                        .for_each(|slot| expected += model.get(&slot).copied().unwrap_or_default());
                    assert_eq!(folded, expected);
                }
            }
        }
        assert!((10..80).contains(&longest), "it was folded now and then: {longest} rows");
    }
}
