//! How does a node without a cluster keep its epochs?
//!
//! `state.json` in the node's `data_dir` holds the agreed state with a checksum before it. A start
//! or a reload computes the commands that lead to what the file desires and applies them to a copy
//! ([`Standalone::prepare`]). Whoever serves the topology builds all that hangs on it, and only
//! then is the copy made durable and put in force ([`Standalone::commit`]): all of a change or
//! nothing.
//!
//! The file `standalone` beside it says as whom the node speaks to stores that keep data: an id that
//! was drawn, so that two such nodes before the same stores do not pass for one, and a *generation*. A
//! node whose `state.json` was lost begins at epoch 1, and would be refused by every store that was told
//! a later one; so what it begins anew is of the next generation, as after the rescue of a cluster.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cluster::{
    ClusterState, Command, Desired, Identity, Refusal, Report, StateError, Topology, changes,
    report,
};
use crate::disk::atomic;
use crate::disk::lock::{FolderLock, LockError};
use crate::ids::{ClusterId, Generation};

/// Where the state is kept within the node's folder.
const STATE_FILE: &str = "state.json";

/// Where it is kept as whom the node speaks to stores.
pub const NAME_FILE: &str = "standalone";

/// What that file begins with; the id and the generation follow. It may be written by hand.
const NAME_MAGIC: &str = "ringway-standalone";

/// The file's first line is this, followed by the BLAKE3 of all that comes behind the line.
const MAGIC: &str = "ringway-state blake3 ";

/// A node's agreed state, alone.
#[derive(Debug)]
pub struct Standalone {
    path: PathBuf,
    state: ClusterState,
    topology: Arc<Topology>,
    /// Held as long as the state may be written.
    _lock: FolderLock,
}

/// A change that can be made and is not made yet. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Prepared {
    state: ClusterState,
    topology: Arc<Topology>,
    report: Report,
}

impl Prepared {
    /// What requests will read.
    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }
}

/// Why a node cannot begin, or a reload is refused. What was in force stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another process has the folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The state cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The state is there and is not what was written.
    #[error(
        "{}: the file is damaged ({what}): put its newest copy back, or move it away: the node then \
         begins anew, and takes over what the stores of its pools keep, if its file lists their shards \
         as they were",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The count of the node's starts is there and is not what was written.
    #[error(
        "{}: the file is damaged: bring it back from a backup, or move it away, which is safe if \
         this node's clock is right: it alone tells versions apart then",
        path.display()
    )]
    Incarnation {
        /// Which file.
        path: PathBuf,
    },
    /// The node's name is there and is not what was written.
    #[error(
        "{}: the file is damaged: it is one line, `{NAME_MAGIC} ID GENERATION`; the ID stands in the \
         state of every store that keeps data for this node (`GET /_ringway/replica/POOL/state`), and \
         a GENERATION above all that were used is good",
        path.display()
    )]
    Name {
        /// Which file.
        path: PathBuf,
    },
    /// The change may not be made.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The state has no topology, which applied commands exclude.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Standalone {
    /// Takes the folder, reads what was in force, and brings it to what is desired.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed.
    pub fn open(data_dir: &Path, desired: &Desired) -> Result<(Self, Report), ControlError> {
        let lock = FolderLock::take(data_dir)?;
        let path = data_dir.join(STATE_FILE);
        let state = match read(&path)? {
            Some(state) => {
                bring_back_name(data_dir, &state);
                state
            }
            None => {
                let mut state = ClusterState::default();
                state.begin_alone(begin(data_dir)?);
                state
            }
        };
        let topology = Arc::new(Topology::build(&state, None)?);
        let mut standalone = Self { path, state, topology, _lock: lock };
        let prepared = standalone.prepare(desired)?;
        let report = standalone.commit(prepared)?;
        Ok((standalone, report))
    }

    /// What requests read.
    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// What is in force.
    #[must_use]
    pub fn state(&self) -> &ClusterState {
        &self.state
    }

    /// Finds out how the state comes to what is desired. Changes nothing.
    ///
    /// # Errors
    /// [`ControlError`] when that may not be.
    pub fn prepare(&self, desired: &Desired) -> Result<Prepared, ControlError> {
        let mut state = self.state.clone();
        for command in changes(&self.state, desired) {
            let command = state.planned(command);
            state.apply_command(&command)?;
        }
        let report = report(&self.state, &state)?;
        let topology = Topology::build(&state, Some(&self.topology))?;
        Ok(Prepared { state, topology: Arc::new(topology), report })
    }

    /// Finds out what a command does. Changes nothing.
    ///
    /// # Errors
    /// [`ControlError`] when it may not be.
    pub fn prepare_command(&self, command: &Command) -> Result<Prepared, ControlError> {
        let mut state = self.state.clone();
        let command = state.planned(command.clone());
        state.apply_command(&command)?;
        let report = report(&self.state, &state)?;
        let topology = Topology::build(&state, Some(&self.topology))?;
        Ok(Prepared { state, topology: Arc::new(topology), report })
    }

    /// Puts in force what was prepared last, durably. Tells what that changed.
    ///
    /// # Errors
    /// [`ControlError::Io`]; what was in force stays in force.
    pub fn commit(&mut self, prepared: Prepared) -> Result<Report, ControlError> {
        let Prepared { state, topology, report } = prepared;
        assert!(state.revision() >= self.state.revision(), "only what was prepared last");
        if state != self.state {
            write(&self.path, &state)?;
        }
        self.state = state;
        self.topology = topology;
        Ok(report)
    }
}

/// Writes down as whom the node speaks, if only its state says so any more: with both gone its stores
/// would take it for another. It serves without, so that a full disk is no reason not to.
fn bring_back_name(data_dir: &Path, state: &ClusterState) {
    let path = data_dir.join(NAME_FILE);
    let Some(own) = state.speaks_as() else { return };
    if !matches!(path.try_exists(), Ok(false)) {
        return;
    }
    match write_name(&path, own) {
        Ok(()) => tracing::warn!("{} was missing, and is written again", path.display()),
        Err(error) => tracing::warn!(
            "{} is missing, and cannot be written: {error}: if `{STATE_FILE}` is lost as well, the \
             stores of this node will take it for another",
            path.display()
        ),
    }
}

fn write_name(path: &Path, own: Identity) -> io::Result<()> {
    let line = format!("{NAME_MAGIC} {} {}\n", own.id, own.generation);
    atomic::replace(path, line.as_bytes(), 0o600)
}

/// As whom a state is begun: the one that the folder had before, or one that is drawn; of a generation
/// of its own. Durable when it returns.
fn begin(data_dir: &Path) -> Result<Identity, ControlError> {
    let path = data_dir.join(NAME_FILE);
    let error = |error| ControlError::Io { path: path.clone(), error };
    let last = match std::fs::read_to_string(&path) {
        Ok(text) => parse_name(&text).ok_or_else(|| ControlError::Name { path: path.clone() })?,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let mut id = [0; 16];
            let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut id));
            random.map_err(error)?;
            Identity { id: ClusterId(id), generation: Generation(0) }
        }
        Err(other) => return Err(error(other)),
    };
    let own = Identity { generation: last.generation.next(), ..last };
    write_name(&path, own).map_err(error)?;
    Ok(own)
}

fn parse_name(text: &str) -> Option<Identity> {
    let mut words = text.strip_prefix(NAME_MAGIC)?.split_whitespace();
    let (id, generation) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(Identity { id, generation: Generation(generation) })
}

/// The state that was in force; `None` without a file.
fn read(path: &Path) -> Result<Option<ClusterState>, ControlError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        // A node's first start, or its file was lost.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ControlError::Io { path: path.to_owned(), error }),
    };
    let damaged =
        |what: &str| ControlError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let (line, rest) = match memchr::memchr(b'\n', &bytes) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => return Err(damaged("its first line is missing")),
    };
    let sum = line.strip_prefix(MAGIC.as_bytes()).ok_or_else(|| damaged("no such file of ours"))?;
    if sum != blake3::hash(rest).to_hex().as_bytes() {
        return Err(damaged("its checksum is another"));
    }
    ClusterState::decode(rest).map(Some).map_err(|error| damaged(&error.to_string()))
}

fn write(path: &Path, state: &ClusterState) -> Result<(), ControlError> {
    let json = state.encode();
    let mut bytes = format!("{MAGIC}{}\n", blake3::hash(&json).to_hex()).into_bytes();
    bytes.extend_from_slice(&json);
    atomic::replace(path, &bytes, 0o600)
        .map_err(|error| ControlError::Io { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{AdminState, DesiredPool, Kind, Mode, Placement, PoolSpec, ShardSpec};
    use crate::ids::{BaseUrl, Epoch, PoolName, ShardId, Weight, Zone};

    fn desired(shards: &[&str]) -> Desired {
        let spec = PoolSpec {
            kind: Kind::Cache,
            placement: Placement::Ring,
            hash_seed: "p".to_owned(),
            vnodes: 16,
            immutable: false,
            mode: Mode::Any,
            kept: None,
        };
        let shard = |id: &&str| {
            let url = BaseUrl::parse(&format!("http://{id}.example")).expect("a URL");
            let spec = ShardSpec {
                url,
                zone: Zone::default(),
                weight: Weight::ONE,
                state: AdminState::Ready,
                ketama_name: None,
            };
            (ShardId::new(id).expect("a name"), spec)
        };
        let shards = shards.iter().map(shard).collect();
        [(PoolName::new("p").expect("a name"), DesiredPool { spec, shards })].into()
    }

    fn reload(node: &mut Standalone, desired: &Desired) -> Result<Report, ControlError> {
        let prepared = node.prepare(desired)?;
        node.commit(prepared)
    }

    fn epoch(standalone: &Standalone) -> Epoch {
        standalone.topology().pools()[0].epoch
    }

    #[test]
    fn epochs_survive_restarts_and_move_only_with_the_ring() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut node, _) = Standalone::open(folder.path(), &desired(&["a", "b"])).expect("opened");
        assert_eq!(epoch(&node), Epoch(1));
        let ring = Arc::clone(&node.topology().pools()[0].ring);
        assert!(reload(&mut node, &desired(&["a", "b"])).expect("the same").is_empty());
        assert!(Arc::ptr_eq(&ring, &node.topology().pools()[0].ring));
        assert_eq!(reload(&mut node, &desired(&["a", "b", "c"])).expect("added").len(), 1);
        assert_eq!(epoch(&node), Epoch(2));
        drop(node);
        let (node, report) =
            Standalone::open(folder.path(), &desired(&["a", "b", "c"])).expect("opened again");
        assert_eq!((epoch(&node), report.len()), (Epoch(2), 0));
    }

    /// The process dies after it wrote the new state aside and before the rename: the old state is
    /// in force, the torn file is nobody's, and the next change puts it out of the way.
    #[test]
    fn a_crash_before_the_rename_leaves_the_old_state() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Standalone::open(folder.path(), &desired(&["a", "b"])).expect("opened"));
        let aside = folder.path().join("state.json.new");
        let whole = std::fs::read(folder.path().join(STATE_FILE)).expect("a file");
        std::fs::write(&aside, &whole[..whole.len() / 2]).expect("written");
        let (mut node, report) =
            Standalone::open(folder.path(), &desired(&["a", "b"])).expect("opened again");
        assert_eq!((epoch(&node), report.len()), (Epoch(1), 0));
        reload(&mut node, &desired(&["a", "b", "c"])).expect("added");
        assert!(!aside.exists());
        drop(node);
        let (node, _) = Standalone::open(folder.path(), &desired(&["a", "b", "c"])).expect("again");
        assert_eq!(epoch(&node), Epoch(2));
    }

    #[test]
    fn a_refused_reload_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut node, _) = Standalone::open(folder.path(), &desired(&["a", "b"])).expect("opened");
        let before =
            (node.state().clone(), std::fs::read(folder.path().join(STATE_FILE)).expect("a file"));
        let refused = reload(&mut node, &desired(&[])).expect_err("a pool without shards");
        assert!(matches!(refused, ControlError::Refused(Refusal::Ring { .. })), "{refused}");
        assert_eq!(before.0, *node.state());
        assert_eq!(before.1, std::fs::read(folder.path().join(STATE_FILE)).expect("a file"));
        assert_eq!(node.topology().pools()[0].shards.len(), 2);
    }

    #[test]
    fn a_damaged_state_stops_the_node_and_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Standalone::open(folder.path(), &desired(&["a"])).expect("opened"));
        let path = folder.path().join(STATE_FILE);
        let whole = std::fs::read(&path).expect("a file");
        for damage in [&whole[..whole.len() - 1], b"", b"ringway", &[&whole[..], b" "].concat()] {
            std::fs::write(&path, damage).expect("written");
            let error = Standalone::open(folder.path(), &desired(&["a"])).expect_err("damaged");
            assert!(matches!(error, ControlError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("state.json"), "{error}");
            assert_eq!(std::fs::read(&path).expect("still there"), damage);
        }
    }

    #[test]
    fn what_is_prepared_and_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (node, _) = Standalone::open(folder.path(), &desired(&["a", "b"])).expect("opened");
        let before = std::fs::read(folder.path().join(STATE_FILE)).expect("a file");
        let prepared = node.prepare(&desired(&["a", "b", "c"])).expect("may be");
        assert_eq!(prepared.topology().pools()[0].epoch, Epoch(2));
        drop(prepared);
        assert_eq!(epoch(&node), Epoch(1));
        assert_eq!(before, std::fs::read(folder.path().join(STATE_FILE)).expect("a file"));
    }

    /// What a node has lost it begins anew, as the same node and of a later generation: else its stores
    /// would take it for one that has been left behind, for ever.
    #[test]
    fn a_state_that_is_begun_anew_is_of_the_next_generation() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || {
            let (node, _) = Standalone::open(folder.path(), &desired(&["a"])).expect("opened");
            node.topology().speaks_as().expect("it has a name")
        };
        let first = open();
        assert_eq!((first.generation, open()), (Generation(1), first));
        // Its state knows its name, and writes it down again: with both gone it would be another.
        std::fs::remove_file(folder.path().join(NAME_FILE)).expect("it was there");
        assert_eq!(open(), first);
        std::fs::remove_file(folder.path().join(STATE_FILE)).expect("it was there");
        assert_eq!(open(), Identity { generation: Generation(2), ..first });
        // Its folder was lost, and an operator has looked up who it was.
        std::fs::remove_file(folder.path().join(STATE_FILE)).expect("it was there");
        let by_hand = format!("ringway-standalone {} 7\n", first.id);
        std::fs::write(folder.path().join(NAME_FILE), by_hand).expect("written");
        assert_eq!(open(), Identity { generation: Generation(8), ..first });
        std::fs::remove_file(folder.path().join(STATE_FILE)).expect("it was there");
        std::fs::write(folder.path().join(NAME_FILE), "ringway-standalone 7\n").expect("written");
        let error = Standalone::open(folder.path(), &desired(&["a"])).expect_err("damaged");
        assert!(matches!(error, ControlError::Name { .. }), "{error}");
        let other = tempfile::tempdir().expect("a folder");
        let (other, _) = Standalone::open(other.path(), &desired(&["a"])).expect("opened");
        assert_ne!(other.topology().speaks_as().expect("it has a name").id, first.id);
    }

    #[test]
    fn a_second_process_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let node = Standalone::open(folder.path(), &desired(&["a"])).expect("opened");
        let error = Standalone::open(folder.path(), &desired(&["a"])).expect_err("held");
        assert!(matches!(error, ControlError::Lock(LockError::Held { .. })), "{error}");
        drop(node);
    }
}
