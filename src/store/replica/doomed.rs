//! How is what a dropped pool left behind taken away, without anybody waiting for it?
//!
//! A pool that is made anew under a dropped one's name has empty tables from its first moment
//! ([`Pools::bind_anew`](crate::store::replica::change::Pools::bind_anew)). The old ones are listed in
//! the table `doomed`, and emptied in steps of some rows, each a transaction of its own between those
//! of writes: at a million keys one transaction for all would hold up every write for seconds, and
//! need room for a copy of what it frees.
//!
//! A step is whole or not at all, and begins at what is left: nothing is remembered between two, and a
//! restart goes on.

use redb::{ReadableTable, WriteTransaction};

use crate::ids::Birth;
use crate::store::change::Bodies;
use crate::store::index::IndexError;
use crate::store::record::{BodyId, Place};
use crate::store::replica::record::{Kept, split};
use crate::store::tables::{DOOMED, PoolTables};

/// A file costs as much as so many rows: it is unlinked by the thread that writes.
const FILE_ROWS: usize = 16;

/// What one step did.
#[derive(Debug, Default)]
pub struct Step {
    /// Files that are superfluous once it is durable.
    pub freed: Vec<BodyId>,
    /// The pool of which nothing is left now.
    pub done: Option<String>,
}

/// Lists what a pool has for being taken away.
///
/// # Errors
/// When the index cannot be changed.
pub fn doom(tx: &WriteTransaction, pool: &str, birth: Birth) -> Result<(), IndexError> {
    tx.open_table(DOOMED)?.insert(&*format!("{pool}:{birth}"), ())?;
    Ok(())
}

/// Takes at most `rows_max` rows away; `None` if there are none to be taken.
///
/// # Errors
/// When the index cannot be changed.
pub(in crate::store) fn step(
    tx: &WriteTransaction,
    bodies: &mut Bodies<'_>,
    rows_max: usize,
) -> Result<Option<Step>, IndexError> {
    let mut doomed = tx.open_table(DOOMED)?;
    let Some(place) = doomed.first()?.map(|(place, _)| place.value().to_owned()) else {
        return Ok(None);
    };
    let (pool, birth) = place.rsplit_once(':').unwrap_or((&place, ""));
    let tables = PoolTables::of(pool, birth.parse().unwrap_or_default());
    let mut step = Step::default();
    if !empty(tx, &tables, bodies, rows_max, &mut step)? {
        return Ok(Some(step));
    }
    tx.delete_table(tables.kept())?;
    tx.delete_table(tables.names())?;
    tx.delete_table(tables.graves())?;
    tx.delete_table(tables.sums())?;
    tx.delete_table(tables.deltas())?;
    tx.delete_table(tables.marks())?;
    tx.delete_table(tables.hurt())?;
    doomed.remove(&*place)?;
    step.done = Some(pool.to_owned());
    Ok(Some(step))
}

/// Takes rows out of the tables of a pool. Whether they are empty.
fn empty(
    tx: &WriteTransaction,
    tables: &PoolTables,
    bodies: &mut Bodies<'_>,
    rows_max: usize,
    step: &mut Step,
) -> Result<bool, IndexError> {
    let mut left = rows_max;
    let mut kept = tx.open_table(tables.kept())?;
    let mut names = tx.open_table(tables.names())?;
    let mut graves = tx.open_table(tables.graves())?;
    while left > 0 {
        let Some((key, row)) = kept.pop_first()? else { break };
        left -= 1;
        names.remove(split(key.value()).1)?;
        let value = match Kept::decode(row.value()) {
            Ok((Kept { value: Some(value), .. }, _)) => value,
            Ok((Kept { value: None, .. }, _)) => {
                graves.remove(key.value())?;
                continue;
            }
            // What it names nobody knows; that must not keep the rest.
            Err(error) => {
                tracing::warn!(%error, "a row of a dropped pool does not decode");
                continue;
            }
        };
        bodies.remove(value.place, value.body)?;
        if value.place == Place::File {
            step.freed.push(value.body);
            left = left.saturating_sub(FILE_ROWS - 1);
        }
    }
    while left > 0 && names.pop_first()?.is_some() {
        left -= 1;
    }
    while left > 0 && graves.pop_first()?.is_some() {
        left -= 1;
    }
    let mut sums = tx.open_table(tables.sums())?;
    while left > 0 && sums.pop_first()?.is_some() {
        left -= 1;
    }
    let mut deltas = tx.open_table(tables.deltas())?;
    while left > 0 && deltas.pop_first()?.is_some() {
        left -= 1;
    }
    let mut marks = tx.open_table(tables.marks())?;
    while left > 0 && marks.pop_first()?.is_some() {
        left -= 1;
    }
    let mut hurt = tx.open_table(tables.hurt())?;
    while left > 0 && hurt.pop_first()?.is_some() {
        left -= 1;
    }
    // With rows to spare, it came to the end of each.
    Ok(left > 0)
}
