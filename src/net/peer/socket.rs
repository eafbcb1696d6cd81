//! Where do connections between nodes come from?
//!
//! [`Dial`] opens them and [`Accept`] takes them in: once on TCP and once, for tests, in a
//! simulated network. Behind them there is only a [`Stream`].

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::ids::PeerAddress;

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What [`Dial::dial`] returns.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Opens connections to other nodes.
pub trait Dial: Send + Sync + 'static {
    /// Opens one. Dropping the future gives up.
    fn dial<'a>(&'a self, address: &'a PeerAddress) -> Dialing<'a>;
}

/// Takes in connections of other nodes.
pub trait Accept: Send + 'static {
    /// The next one, and where it is from. Dropping the future loses no connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Box<dyn Stream>, SocketAddr)>> + Send;
}

// A node that lost its power sends nothing, not even a refusal. Every call has a timeout of its
// own, so what these find are connections that nobody is calling on: 3 + 3 × 1 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(3);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_RETRIES: u32 = 3;

/// How long sent bytes may stay unacknowledged: the same for a connection that is in use, where
/// keep-alive is silent (RFC 5482). Longer than the longest pause of a node that still counts.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))
}

/// Connections over TCP.
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial<'a>(&'a self, address: &'a PeerAddress) -> Dialing<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((address.host(), address.port())).await?;
            prepare(&stream)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// A listening TCP socket.
pub struct TcpPeers(pub TcpListener);

impl Accept for TcpPeers {
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, from) = self.0.accept().await?;
        // A connection that broke already is found by whoever reads it.
        drop(prepare(&stream));
        Ok((Box::new(stream), from))
    }
}
