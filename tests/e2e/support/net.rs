//! Addresses on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A free address that no outgoing connection is given: for a process that cannot be told to take
/// any free port, or that must have its port again after it was killed.
///
/// The kernel picks ports of outgoing connections, and port 0, from 32768 on (Linux). A server
/// that comes back on such a port may find it taken by a client of its neighbour's.
pub fn lasting_address() -> SocketAddr {
    for _ in 0..1000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(10_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}
