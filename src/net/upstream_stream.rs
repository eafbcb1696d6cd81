//! What does a connection to a shard run over?
//!
//! Clear TCP or TLS, as the shard's URL says. An enum and no trait object: on the clear path a
//! read or write costs one predictable branch more than on the bare socket, and the socket itself
//! stays within reach for whoever moves bytes in the kernel.

use std::io::{self, IoSlice, Read};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::wire::{Transport, Wire};

/// A connection to a shard.
pub enum UpstreamStream {
    /// In the clear.
    Plain(TcpStream),
    /// By TLS, hands shaken. Boxed: a session has a few KiB, and most connections have none.
    Tls(Box<TlsStream<TcpStream>>),
}

impl UpstreamStream {
    /// Whether the peer has closed, broken or spoken out of turn, as far as the runtime has heard.
    fn is_stale(&mut self) -> bool {
        let mut byte = [0];
        match self {
            // Asks the kernel only if the runtime heard of something, and leaves no waker behind.
            Self::Plain(tcp) => {
                !matches!(tcp.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Tls(tls) => {
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(tls).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_ready()
            }
        }
    }

    /// Whether the peer has closed, broken or spoken out of turn, as the kernel knows it now,
    /// whatever the runtime knows of readiness.
    fn is_stale_now(&mut self) -> bool {
        match self {
            Self::Plain(tcp) => {
                let mut byte = [0u8];
                let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
                !matches!(recv(&*tcp, &mut byte, flags), Err(Errno::AGAIN))
            }
            Self::Tls(tls) => is_session_stale(tls),
        }
    }
}

/// A session may have bytes waiting that are nobody's answer: tickets and key updates (RFC 8446,
/// section 4.6). So what is there is taken in; data, an end or an alert make the session stale.
fn is_session_stale(tls: &mut TlsStream<TcpStream>) -> bool {
    let (tcp, session) = tls.get_mut();
    loop {
        let read = session.read_tls(&mut Now(tcp));
        let Ok(state) = session.process_new_packets() else { return true };
        if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
            return true;
        }
        match read {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// Reads what the kernel has, without waiting and without asking the runtime.
struct Now<'a>(&'a TcpStream);

impl Read for Now<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let (read, _) = recv(self.0, room, RecvFlags::DONTWAIT)?;
        Ok(read)
    }
}

impl Transport for UpstreamStream {
    fn abort(&self) {
        match self {
            Self::Plain(tcp) => tcp.abort(),
            Self::Tls(tls) => tls.get_ref().0.abort(),
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Tls(_) => None,
        }
    }
}

impl AsyncRead for UpstreamStream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, room),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, room),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, parts),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, parts),
        }
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl Wire<UpstreamStream> {
    /// Whether an idle connection has gone stale: closed, broken, or with bytes that nobody asked
    /// for. Costs no system call on a connection of which nothing was heard.
    pub fn is_stale(&self) -> bool {
        self.with(UpstreamStream::is_stale)
    }

    /// Whether the peer has closed, broken or spoken out of turn, as the kernel knows it now: one
    /// system call more certain than [`is_stale`](Self::is_stale), for requests that cannot be
    /// repeated.
    pub fn is_stale_now(&self) -> bool {
        self.with(UpstreamStream::is_stale_now)
    }
}
