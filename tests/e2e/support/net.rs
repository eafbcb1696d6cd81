//! Addresses on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The ports that are given, from the first one on.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// Between the first ports of processes that run at the same time, whose ids follow each other.
const APART: u32 = 977;

/// A free address that no outgoing connection is given: for a process that cannot be told to take
/// any free port, or that must have its port again after it was killed.
///
/// The kernel picks ports of outgoing connections, and port 0, from 32768 on (Linux). A server
/// that comes back on such a port may find it taken by a client of its neighbour's. For the same reason
/// no address is given twice: one that nobody listens at is that of another test's store, which was killed
/// and will be back, or one at which nobody is to listen.
pub fn lasting_address() -> SocketAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(APART);
    for _ in 0..COUNT {
        let next = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from(next % u32::from(COUNT)).expect("a remainder below");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}
