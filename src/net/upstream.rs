//! Which open connections to shards can be used again?
//!
//! One [`Upstreams`] per worker, so that a checkout takes no lock. The connection used last is
//! taken first: it is the likeliest to be warm and alive, and the ones that are not needed grow
//! old and are closed. A connection that became readable while idle was closed by the shard or is
//! out of step, and is dropped.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

use super::timers::Timer;
use super::tls::{ShardRefused, ShardTls};
use super::wire::Wire;
use crate::ids::BaseUrl;

pub use super::upstream_stream::UpstreamStream;

/// Which shard a connection belongs to: a number that is never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UpstreamKey(pub u64);

/// Finds the connections to a shard. Keys are numbers that this process counted up itself, so
/// nothing has to defend against chosen ones, and one multiplication spreads them. (The standard
/// library's hash is some 100 instructions each time, twice a request.)
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Where a connection is opened to.
#[derive(Debug, Clone)]
pub struct Endpoint {
    host: String,
    port: u16,
    /// The address, if `host` is one and no lookup is needed.
    address: Option<SocketAddr>,
    /// Whether bytes go in the clear.
    security: Security,
}

#[derive(Debug, Clone)]
enum Security {
    Clear,
    /// The name that the certificate must have, if the host can be one.
    Tls(Option<ServerName<'static>>),
}

impl Endpoint {
    /// Where a URL leads.
    #[must_use]
    pub fn of(url: &BaseUrl) -> Self {
        let (host, port) = (url.host().to_owned(), url.port());
        let address = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        let security = match url.is_tls() {
            true => Security::Tls(ServerName::try_from(host.clone()).ok()),
            false => Security::Clear,
        };
        Self { host, port, address, security }
    }

    /// Whether bytes go in the clear.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        matches!(self.security, Security::Clear)
    }

    /// Makes of a connection what the URL asks for. Never less: a shard that is to be reached by
    /// TLS is not spoken to in the clear.
    ///
    /// # Errors
    /// [`ConnectError::Tls`].
    pub async fn secure(
        &self,
        tcp: TcpStream,
        tls: &ShardTls,
    ) -> Result<UpstreamStream, ConnectError> {
        match &self.security {
            Security::Clear => Ok(UpstreamStream::Plain(tcp)),
            Security::Tls(name) => {
                // Boxed: its state is many times that of a connection in the clear.
                let stream = Box::pin(tls.connect(name.as_ref(), tcp)).await?;
                Ok(UpstreamStream::Tls(Box::new(stream)))
            }
        }
    }
}

/// Why no connection was opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing answered in time.
    #[error("no answer in time")]
    TimedOut,
    /// The other side refused, or cannot be reached or found.
    #[error(transparent)]
    Failed(io::Error),
    /// This process has no descriptors, ports or memory left: not the shard's doing.
    #[error("this process cannot open more connections: {0}")]
    Local(io::Error),
    /// The other side is there, and is not who it should be, or has no TLS.
    #[error(transparent)]
    Tls(#[from] ShardRefused),
}

impl ConnectError {
    fn of(error: io::Error) -> Self {
        match is_local(&error) {
            true => Self::Local(error),
            false => Self::Failed(error),
        }
    }
}

/// Whether a connection could not be opened for want of something of this process's own:
/// descriptors, ports or memory. That says nothing about the other side.
#[must_use]
pub fn is_local(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    errno.is_some_and(|errno| ours.contains(&errno))
}

/// A connection in use.
pub struct Upstream {
    /// The connection itself.
    pub wire: Wire<UpstreamStream>,
    key: UpstreamKey,
    generation: u64,
    born_ms: u64,
    reused: bool,
}

impl Upstream {
    /// Whether it carried requests before: then it may have been closed at the very moment it was
    /// taken, which says nothing about the shard.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }
}

struct Idle {
    upstream: Upstream,
    since_ms: u64,
}

/// How long idle connections are kept, and how many.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// Idle connections per shard.
    pub idle_max: usize,
    /// Milliseconds that one may be idle.
    pub idle_ms_max: u64,
    /// Milliseconds after its opening until it is replaced.
    pub age_ms_max: u64,
}

/// One worker's idle connections.
#[derive(Default)]
pub struct Upstreams {
    idle: RefCell<HashMap<UpstreamKey, Vec<Idle>, BuildHasherDefault<KeyHasher>>>,
}

impl Upstreams {
    /// Takes the connection to `key` that was used last, if a usable one is left. `generation`
    /// moves when the shard failed: connections from before are dropped unseen. `surely` asks the
    /// kernel whether the connection is alive, for a request that cannot be repeated.
    pub fn checkout(
        &self,
        key: UpstreamKey,
        generation: u64,
        now_ms: u64,
        surely: bool,
        keep: &Keep,
    ) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(&key)?;
        while let Some(Idle { mut upstream, since_ms }) = stack.pop() {
            let fresh = upstream.generation == generation
                && now_ms - since_ms <= keep.idle_ms_max
                && now_ms - upstream.born_ms <= keep.age_ms_max;
            let stale = |wire: &Wire<UpstreamStream>| {
                if surely { wire.is_stale_now() } else { wire.is_stale() }
            };
            if fresh && !stale(&upstream.wire) {
                upstream.reused = true;
                return Some(upstream);
            }
        }
        None
    }

    /// Gives a connection back whose last answer was read to its end.
    pub fn put_back(&self, upstream: Upstream, now_ms: u64, keep: &Keep) {
        if now_ms - upstream.born_ms > keep.age_ms_max {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let stack = idle.entry(upstream.key).or_default();
        if stack.len() < keep.idle_max {
            stack.push(Idle { upstream, since_ms: now_ms });
        }
    }

    /// Closes what has been idle or open for too long, and all of shards that left or failed.
    /// `keep_of` gives a shard's present generation and bounds, `None` for one that left. Called by
    /// the worker's ticker.
    pub fn sweep(&self, now_ms: u64, mut keep_of: impl FnMut(UpstreamKey) -> Option<(u64, Keep)>) {
        self.idle.borrow_mut().retain(|&key, stack| {
            let Some((generation, keep)) = keep_of(key) else { return false };
            stack.retain(|Idle { upstream, since_ms }| {
                upstream.generation == generation
                    && now_ms - since_ms <= keep.idle_ms_max
                    && now_ms - upstream.born_ms <= keep.age_ms_max
            });
            !stack.is_empty()
        });
    }

    /// Closes all idle connections.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}

/// Opens a connection, names looked up anew each time, and shakes hands if the endpoint asks for
/// TLS; all of it before the deadline.
///
/// # Errors
/// [`ConnectError`]; nothing was sent of a request.
pub async fn connect(
    endpoint: &Endpoint,
    tls: &ShardTls,
    key: UpstreamKey,
    generation: u64,
    timer: &Timer,
    deadline_ms: u64,
) -> Result<Upstream, ConnectError> {
    // Boxed, since it is rare and large: a session's handshake has a few KiB, which would lie in
    // every request's future.
    let mut opening = Box::pin(async {
        let opened = match endpoint.address {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await,
        };
        let tcp = opened.map_err(ConnectError::of)?;
        // Head and body may leave in two writes; the second must not wait for an acknowledgement.
        tcp.set_nodelay(true).map_err(ConnectError::of)?;
        endpoint.secure(tcp, tls).await
    });
    let opened = timer.limit(deadline_ms, opening.as_mut()).await;
    let stream = opened.ok_or(ConnectError::TimedOut)??;
    let born_ms = timer.timers().now_ms();
    Ok(Upstream { wire: Wire::new(stream), key, generation, born_ms, reused: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn what_this_process_lacks_is_not_the_shards_doing() {
        let of = |errno: Errno| is_local(&io::Error::from(errno));
        assert!(of(Errno::MFILE) && of(Errno::ADDRNOTAVAIL) && of(Errno::NOMEM));
        assert!(!of(Errno::CONNREFUSED) && !of(Errno::HOSTUNREACH) && !of(Errno::TIMEDOUT));
        assert!(!is_local(&io::Error::other("no such name")));
    }
}
