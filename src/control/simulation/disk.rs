//! A disk as bad as disks are: it forgets what was not synced, tears what was half written, and
//! sometimes says no.
//!
//! It stands under redb, so that what is tried is the log store that ships. Every write since the
//! last sync has a fate of its own when the power goes, drawn from the seed: it is there, it is
//! lost, or some of its sectors are; so later ones may survive earlier ones. After a failed sync
//! the fates are drawn at once and the writes count as clean, while reads still see them: what
//! Linux does (Rebello et al., *Can Applications Recover from fsync Failures?*, ATC 2020).
//!
//! What it does not do: sectors that were synced never rot. The snapshot and the identity are
//! files of the real file system, replaced whole, and lose nothing here.

use std::io;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use redb::StorageBackend;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// One disk; clones are the same one.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug)]
struct Platter {
    rng: Rng,
    /// What reads see.
    seen: Vec<u8>,
    /// What is there after the power went.
    durable: Vec<u8>,
    /// What makes the one out of the other, in order.
    unsynced: Vec<Operation>,
    /// Counts ends of its owner: who opened it before the last one reaches it no more.
    powered: u64,
    /// Whether it only says that it syncs.
    lies: bool,
    sync_fails: bool,
    full: bool,
    harm: Harm,
}

/// What it did to its owner, so that a test can tell that it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Harm {
    /// Writes that are not there.
    pub lost: u64,
    /// Writes of which a part is there.
    pub torn: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// Writes for which there was no room.
    pub full: u64,
}

impl AddAssign for Harm {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.torn += other.torn;
        self.failed_syncs += other.failed_syncs;
        self.full += other.full;
    }
}

#[derive(Debug)]
enum Operation {
    Write { offset: usize, bytes: Vec<u8> },
    SetLength(usize),
}

impl Operation {
    fn perform(&self, on: &mut Vec<u8>) {
        match self {
            Self::SetLength(length) => on.resize(*length, 0),
            Self::Write { offset, bytes } => put(on, *offset, bytes),
        }
    }
}

fn put(on: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if on.len() < end {
        on.resize(end, 0);
    }
    on[offset..end].copy_from_slice(bytes);
}

impl Platter {
    /// Draws the fates of what was not synced.
    fn draw_fates(&mut self) {
        for operation in std::mem::take(&mut self.unsynced) {
            match (self.rng.u8(0..4), &operation) {
                (0, _) => self.harm.lost += 1,
                (1, Operation::Write { offset, bytes }) if bytes.len() > SECTOR_BYTES => {
                    self.harm.torn += 1;
                    for (at, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if self.rng.bool() {
                            put(&mut self.durable, offset + at * SECTOR_BYTES, sector);
                        }
                    }
                }
                _ => operation.perform(&mut self.durable),
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.sync_fails) {
            self.harm.failed_syncs += 1;
            self.draw_fates();
            return Err(io::Error::other("a simulated failure of fsync"));
        }
        if !self.lies {
            self.unsynced.drain(..).for_each(|operation| operation.perform(&mut self.durable));
        }
        Ok(())
    }

    fn has_room(&mut self) -> io::Result<()> {
        if self.full {
            self.harm.full += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Disk {
    /// An empty one, which keeps what it says is synced unless it `lies`.
    pub fn new(seed: u64, lies: bool) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            rng: Rng::with_seed(seed),
            seen: Vec::new(),
            durable: Vec::new(),
            unsynced: Vec::new(),
            powered: 0,
            lies,
            sync_fails: false,
            full: false,
            harm: Harm::default(),
        })))
    }

    /// What a process opens. Reaches the disk until its owner ends.
    pub fn open(&self) -> OpenDisk {
        OpenDisk { disk: self.clone(), powered: self.platter().powered }
    }

    /// The same, and what is there is written anew first, as each start of a node does with its
    /// log: aside, synced, and renamed.
    ///
    /// # Errors
    /// When it cannot be; nothing has changed then.
    pub fn open_anew(&self) -> io::Result<OpenDisk> {
        let mut platter = self.platter();
        platter.has_room()?;
        platter.sync()?;
        if !platter.lies {
            platter.durable = platter.seen.clone();
        }
        drop(platter);
        Ok(self.open())
    }

    /// The power goes, and comes back for whoever opens it from now on.
    pub fn lose_power(&self) {
        let mut platter = self.platter();
        platter.draw_fates();
        platter.seen = platter.durable.clone();
        platter.powered += 1;
        platter.sync_fails = false;
    }

    /// The process is gone, and the kernel still has what it wrote.
    pub fn lose_process(&self) {
        self.platter().powered += 1;
    }

    /// The next sync fails.
    pub fn fail_next_sync(&self) {
        self.platter().sync_fails = true;
    }

    /// Whether there is no room for any write.
    pub fn set_full(&self, full: bool) {
        self.platter().full = full;
    }

    /// What it did.
    pub fn harm(&self) -> Harm {
        self.platter().harm
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk as one start of a process has it.
#[derive(Debug)]
pub struct OpenDisk {
    disk: Disk,
    powered: u64,
}

impl OpenDisk {
    fn platter(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.disk.platter();
        if platter.powered == self.powered {
            return Ok(platter);
        }
        Err(io::Error::other("the power went"))
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated disk fits the memory")
}

impl StorageBackend for OpenDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter()?.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter()?;
        let from = place(offset);
        let bytes = platter.seen.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut platter = self.platter()?;
        platter.has_room()?;
        let operation = Operation::SetLength(place(length));
        operation.perform(&mut platter.seen);
        platter.unsynced.push(operation);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.platter()?.sync()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.platter()?;
        platter.has_room()?;
        let operation = Operation::Write { offset: place(offset), bytes: bytes.to_vec() };
        operation.perform(&mut platter.seen);
        platter.unsynced.push(operation);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::{Builder, ReadableDatabase, TableDefinition};

    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("table");

    #[test]
    fn what_was_synced_stays_and_of_the_rest_every_fate_occurs() {
        let (mut kept, mut harm) = (0, Harm::default());
        for seed in 0..100 {
            let disk = Disk::new(seed, false);
            let open = disk.open();
            open.write(0, b"synced").expect("powered");
            open.sync_data().expect("synced");
            open.write(0, b"SYNCED").expect("powered");
            open.write(512, &[1; 4096]).expect("powered");
            disk.lose_power();
            assert!(open.write(0, b"too late").is_err());
            let again = disk.open();
            let mut first = [0; 6];
            again.read(0, &mut first).expect("there");
            assert!([b"synced", b"SYNCED"].contains(&&first));
            kept += u32::from(&first == b"SYNCED");
            harm += disk.harm();
        }
        assert!((50..100).contains(&kept), "{kept} of 100 kept");
        assert!(harm.lost > 20 && harm.torn > 10, "{harm:?}");
    }

    /// What the simulation relies on: redb, which ships under the log, survives what this disk
    /// does, and what it called durable is there.
    #[test]
    fn redb_survives_it() {
        let mut harm = Harm::default();
        for seed in 0..50 {
            let disk = Disk::new(seed, false);
            let mut rng = Rng::with_seed(seed);
            let mut durable = 0;
            for _start in 0..4 {
                let database = Builder::new().create_with_backend(disk.open()).expect("opened");
                if let Ok(read) = database.begin_read()
                    && let Ok(table) = read.open_table(TABLE)
                {
                    let found = table.get(0).expect("read").map_or(0, |value| value.value());
                    assert!(found >= durable, "seed {seed}: {found}, but {durable} was durable");
                    durable = found;
                }
                for _ in 0..rng.u64(1..20) {
                    if rng.u8(0..20) == 0 {
                        disk.fail_next_sync();
                    }
                    let write = || -> Result<(), redb::Error> {
                        let write = database.begin_write()?;
                        let mut table = write.open_table(TABLE)?;
                        table.insert(0, durable + 1)?;
                        for row in 1..50 {
                            table.insert(row + 50 * (durable % 40), durable)?;
                        }
                        drop(table);
                        Ok(write.commit()?)
                    };
                    // What a failed commit left is unknown.
                    if write().is_err() {
                        break;
                    }
                    durable += 1;
                }
                disk.lose_power();
                drop(database);
            }
            harm += disk.harm();
        }
        assert!(harm.lost > 0 && harm.failed_syncs > 10, "{harm:?}");
    }
}
