//! Which open connection to a node can carry the next request?
//!
//! The one used last: it is the likeliest to be alive, and those that are not needed grow old.
//!
//! A connection that is being opened outlives the call that wanted it. A heartbeat waits for less
//! time than a handshake over a long line takes; were the handshake given up with it, no heartbeat
//! would ever come to be sent. The next call goes on with what the last one began.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::client::CallError;
use crate::ids::PeerAddress;

/// Requests at once to one node, each on a connection of its own. What waits beyond that waits
/// within its own timeout. The node asked takes more than this from one address, so that the two
/// lanes of several nodes on one machine fit.
const IN_FLIGHT_MAX: usize = 32;

/// Connections kept for later, to one node: more than are in use at once outside a burst.
const IDLE_MAX: usize = 8;

/// How long one is kept unused. Shorter than the other side keeps it, or requests would meet its
/// closing.
const IDLE_FOR_MAX: Duration = Duration::from_secs(30);

/// How old one may get. New certificates are used by new connections, so this is also how long
/// old ones are met after they were replaced.
const AGE_MAX: Duration = Duration::from_secs(600);

/// Nodes with kept connections. A cluster has at most 64 at a time; addresses that nobody is
/// talking to are forgotten beyond this.
const ADDRESSES_MAX: usize = 256;

/// How long calls wait for a connection that others began to open before one more is tried: a
/// first packet that was lost is sent again only after a second. Above the three round trips of a
/// handshake over any line that nodes can work with.
const DIAL_AGAIN: Duration = Duration::from_millis(500);

/// A connection in use.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    born: Instant,
}

impl Connection {
    pub(super) fn new(sender: SendRequest<Full<Bytes>>) -> Self {
        Self { sender, born: Instant::now() }
    }
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection that a task of its own opens.
pub(super) struct Opening {
    opened: oneshot::Receiver<Result<Connection, CallError>>,
    since: Instant,
}

impl Opening {
    pub(super) fn new(opened: oneshot::Receiver<Result<Connection, CallError>>) -> Self {
        Self { opened, since: Instant::now() }
    }
}

/// A call that waits for a connection. When it is dropped, whoever comes next waits on.
struct Waiting<'a> {
    peer: &'a Peer,
    opening: Option<Opening>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(opening) = self.opening.take() {
            lock(&self.peer.left).push(opening);
        }
    }
}

/// The connections to one node.
pub(super) struct Peer {
    pub(super) permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
    /// What calls began to open and did not wait for. Calls begin no more than they may be at
    /// once, and one more each [`DIAL_AGAIN`].
    left: Mutex<Vec<Opening>>,
}

impl Peer {
    fn new() -> Self {
        let permits = Semaphore::new(IN_FLIGHT_MAX);
        Self { permits, idle: Mutex::default(), left: Mutex::default() }
    }

    /// A connection that an earlier call began to open, or else the one that `begin` begins.
    pub(super) async fn open(
        &self,
        begin: impl FnOnce() -> Opening,
    ) -> Result<Connection, CallError> {
        let opening = match self.take_over() {
            Some(Ok(connection)) => return Ok(connection),
            Some(Err(opening)) => opening,
            None => begin(),
        };
        let mut waiting = Waiting { peer: self, opening: Some(opening) };
        let opening = waiting.opening.as_mut().expect("put there above");
        let opened = (&mut opening.opened).await;
        waiting.opening = None;
        // Only the end of the runtime ends that task early.
        opened.unwrap_or_else(|_| Err(CallError::Unreachable(io::ErrorKind::Interrupted.into())))
    }

    /// A connection that was opened when nobody waited any more, or else one that is being opened
    /// and young enough to be waited for. Failures that nobody waited for are forgotten.
    fn take_over(&self) -> Option<Result<Connection, Opening>> {
        let now = Instant::now();
        let mut left = lock(&self.left);
        let mut open = None;
        left.retain_mut(|opening| match opening.opened.try_recv() {
            Err(TryRecvError::Empty) => true,
            Ok(Ok(connection)) => {
                let usable = !connection.sender.is_closed()
                    && now.duration_since(connection.born) < IDLE_FOR_MAX;
                if usable {
                    open.get_or_insert(connection);
                }
                false
            }
            Ok(Err(_)) | Err(TryRecvError::Closed) => false,
        });
        if let Some(connection) = open {
            return Some(Ok(connection));
        }
        let young = |opening: &Opening| now.duration_since(opening.since) < DIAL_AGAIN;
        let youngest = left.iter().rposition(young)?;
        Some(Err(left.swap_remove(youngest)))
    }

    /// The connection used last that is ready for a request.
    pub(super) async fn checkout(&self) -> Option<Connection> {
        loop {
            let now = Instant::now();
            let mut connection = {
                let mut idle = lock(&self.idle);
                idle.retain(|Idle { connection, since }| {
                    !connection.sender.is_closed()
                        && now.duration_since(*since) < IDLE_FOR_MAX
                        && now.duration_since(connection.born) < AGE_MAX
                });
                idle.pop()?.connection
            };
            // Its last answer was read to the end, so this waits for one turn of its task at most.
            if connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn checkin(&self, connection: Connection) {
        let mut idle = lock(&self.idle);
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        idle.push(Idle { connection, since: Instant::now() });
    }

    /// Closes what is idle: one of them turned out to be dead, and the others are older.
    pub(super) fn forget_idle(&self) {
        lock(&self.idle).clear();
    }
}

/// The connections to all nodes.
#[derive(Default)]
pub(super) struct Pool {
    peers: Mutex<BTreeMap<PeerAddress, Arc<Peer>>>,
}

impl Pool {
    pub(super) fn peer(&self, address: &PeerAddress) -> Arc<Peer> {
        let mut peers = lock(&self.peers);
        if let Some(peer) = peers.get(address) {
            return Arc::clone(peer);
        }
        if peers.len() >= ADDRESSES_MAX {
            peers.retain(|_, peer| Arc::strong_count(peer) > 1);
        }
        let peer = Arc::new(Peer::new());
        peers.insert(address.clone(), Arc::clone(&peer));
        peer
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
