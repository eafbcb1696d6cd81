//! The simulated network as nodes use it: the twins of [`TcpDial`](super::TcpDial) and
//! [`TcpPeers`](super::TcpPeers) for tests that run a whole cluster in one thread.

use std::io;
use std::net::SocketAddr;

use turmoil::net::{TcpListener, TcpStream};

use super::socket::{Accept, Dial, Dialing, Stream};
use crate::ids::PeerAddress;

/// Connections between the hosts of a simulation.
pub struct SimulatedDial;

impl Dial for SimulatedDial {
    fn dial<'a>(&'a self, address: &'a PeerAddress) -> Dialing<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((address.host(), address.port())).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// A listening socket of a host of a simulation.
pub struct SimulatedPeers(pub TcpListener);

impl Accept for SimulatedPeers {
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, from) = self.0.accept().await?;
        Ok((Box::new(stream), from))
    }
}
