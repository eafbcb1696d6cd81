//! Which tables does the index have, and what are their rows made of?
//!
//! The keys of cache pools, which have no version and no pool:
//!
//! - `objects`: key → [`Record`](crate::store::record::Record), all that HEAD, a condition or a
//!   listing asks for;
//! - `facts`: version of this layout, store id, totals.
//!
//! The bodies of all keys:
//!
//! - `bodies`: body id → bytes, for bodies that are in the index. Apart from the records, so that a
//!   listing does not read through them and a new record beside an old body does not copy it;
//! - `files`: the ids of bodies that are files, so that orphans are known without a full scan.
//!
//! The pools that keep data here, since layout 2:
//!
//! - `pools`: pool → [`PoolFacts`](crate::store::replica::pool::PoolFacts);
//! - and for each of them, [`PoolTables`];
//! - `doomed`, since layout 3: `POOL:BIRTH` of pools whose name another has got, and whose tables are
//!   being emptied. See [`doomed`](crate::store::replica::doomed).

use redb::{ReadableTable, TableDefinition};

use crate::ids::Birth;
use crate::store::record::RecordError;

pub(super) const OBJECTS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("objects");
pub(super) const BODIES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("bodies");
pub(super) const FILES: TableDefinition<'static, u64, ()> = TableDefinition::new("files");
pub(super) const FACTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("facts");
pub(super) const POOLS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("pools");
pub(super) const DOOMED: TableDefinition<'static, &str, ()> = TableDefinition::new("doomed");

/// A table whose rows are bytes by bytes.
pub(super) type ByBytes<'n> = TableDefinition<'n, &'static [u8], &'static [u8]>;

/// The names of one pool's tables: of one that was born, and not of another that has its name before
/// or after. (A name has no `:`.) Those of before births were told bear none.
#[derive(Debug)]
pub(super) struct PoolTables {
    kept: String,
    names: String,
    graves: String,
    sums: String,
    deltas: String,
    marks: String,
    hurt: String,
}

impl PoolTables {
    pub(super) fn of(pool: &str, birth: Birth) -> Self {
        let name = |table: &str| match birth.is_unknown() {
            true => format!("{table}:{pool}"),
            false => format!("{table}:{pool}:{birth}"),
        };
        Self {
            kept: name("kept"),
            names: name("names"),
            graves: name("graves"),
            sums: name("sums"),
            deltas: name("deltas"),
            marks: name("marks"),
            hurt: name("hurt"),
        }
    }

    /// Token, 8 bytes big-endian, and key → [`Kept`](crate::store::replica::record::Kept).
    pub(super) fn kept(&self) -> ByBytes<'_> {
        TableDefinition::new(&self.kept)
    }

    /// Key → token: the order of keys. Written only when a key appears or goes.
    pub(super) fn names(&self) -> TableDefinition<'_, &'static [u8], u64> {
        TableDefinition::new(&self.names)
    }

    /// Token and key, as in `kept`, of each tombstone → when it was written, in milliseconds since
    /// 1970: so that collecting them reads no value.
    pub(super) fn graves(&self) -> TableDefinition<'_, &'static [u8], u64> {
        TableDefinition::new(&self.graves)
    }

    /// Slot → [`Sum`](crate::protocol::replica::Sum) of its entries, but for what `deltas` has; empty
    /// slots have no row. See [`sums`](crate::store::replica::sums).
    pub(super) fn sums(&self) -> TableDefinition<'_, u16, &'static [u8]> {
        TableDefinition::new(&self.sums)
    }

    /// Number of changes before → changes of sums.
    pub(super) fn deltas(&self) -> TableDefinition<'_, u64, &'static [u8]> {
        TableDefinition::new(&self.deltas)
    }

    /// Token and key, as in `kept`, of each value that was found damaged. Made when the first is.
    pub(super) fn hurt(&self) -> TableDefinition<'_, &'static [u8], ()> {
        TableDefinition::new(&self.hurt)
    }

    /// Slot → watermark, a version's persistent form. Apart from `sums`, since few slots ever have
    /// one, and every look for an absent key asks.
    pub(super) fn marks(&self) -> TableDefinition<'_, u16, &'static [u8]> {
        TableDefinition::new(&self.marks)
    }
}

/// What the index holds for cache pools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of values.
    pub objects: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl Totals {
    pub(super) fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.objects.to_le_bytes());
        out[8..].copy_from_slice(&self.bytes.to_le_bytes());
        out
    }

    pub(super) fn read(
        facts: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Self, crate::store::index::IndexError> {
        let row = facts.get("totals")?;
        let bytes = row.as_ref().map(redb::AccessGuard::value);
        let parts = bytes.and_then(|bytes| {
            let (objects, rest) = bytes.split_first_chunk()?;
            Some((u64::from_le_bytes(*objects), u64::from_le_bytes(rest.try_into().ok()?)))
        });
        let (objects, bytes) = parts.ok_or(RecordError::Malformed)?;
        Ok(Self { objects, bytes })
    }
}
