//! How does a process listen, once per worker, and alone?
//!
//! Each worker has a listening socket of its own on the same address (`SO_REUSEPORT`), so the
//! kernel spreads connections and no worker wakes for another's. The same option would let a
//! *second process* of the same user share the port and take half of the connections unseen, so
//! [`bind_all`] first binds without it, which fails when anybody else listens.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait for their `accept`. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds `count` sockets to one address; port 0 picks a free port, the same for all.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when another process listens there, and what else `bind` and
/// `listen` say.
pub fn bind_all(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // The probe never listens, so no client can reach it, and it is closed before the others bind.
    let probe = socket(address)?;
    probe.bind(&address.into())?;
    let address = probe
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the kernel named no socket address"))?;
    drop(probe);
    (0..count.max(1))
        .map(|_| {
            let socket = socket(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        })
        .collect()
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restarted process bind while its predecessor's connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted connections inherit it, which saves a system call for each. Answers are written in
    // as few pieces as can be; none waits for another.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_does_not_delay_its_answers() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let listener = bind_all(any, 1).expect("a free port").remove(0);
        listener.set_nonblocking(false).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let _client = std::net::TcpStream::connect(address).expect("it listens");
        let (accepted, _) = listener.accept().expect("a client");
        assert!(accepted.nodelay().expect("a TCP socket"));
    }

    #[test]
    fn workers_share_an_address_and_a_stranger_is_refused() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let listeners = bind_all(any, 3).expect("a free port");
        let address = listeners[0].local_addr().expect("bound");
        assert!(listeners.iter().all(|l| l.local_addr().is_ok_and(|other| other == address)));
        let refused = bind_all(address, 1).expect_err("somebody listens there");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
