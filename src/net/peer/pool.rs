//! Which open connection to a node can carry the next request?
//!
//! The one used last: it is the likeliest to be alive, and those that are not needed grow old.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::sync::Semaphore;
use tokio::time::Instant;

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

/// The connections to one node.
pub(super) struct Peer {
    pub(super) permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

impl Peer {
    fn new() -> Self {
        Self { permits: Semaphore::new(IN_FLIGHT_MAX), idle: Mutex::default() }
    }

    /// The connection used last that is ready for a request.
    pub(super) async fn checkout(&self) -> Option<Connection> {
        loop {
            let now = Instant::now();
            let mut connection = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        idle.push(Idle { connection, since: Instant::now() });
    }

    /// Closes what is idle: one of them turned out to be dead, and the others are older.
    pub(super) fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The connections to all nodes.
#[derive(Default)]
pub(super) struct Pool {
    peers: Mutex<BTreeMap<PeerAddress, Arc<Peer>>>,
}

impl Pool {
    pub(super) fn peer(&self, address: &PeerAddress) -> Arc<Peer> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
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
