//! What stands between a new connection and its first request?
//!
//! ```text
//!  accepted ─▶ PROXY header ─▶ TLS handshake ─▶ connection
//! ```
//!
//! Both are the listener's choice; a listener without either goes straight on. Whoever does not
//! come through in the time that a request's head may take is let go. A connection counts from its
//! `accept` on, so those that never come through cannot be more than clients may be.
//!
//! Where nothing can be answered nothing is: a broken header or handshake is counted by its reason,
//! told at the level `debug`, and the connection closed. Only a client that speaks HTTP in the
//! clear to a TLS listener is told so, in the clear, as people do that by mistake.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use rustls::{HandshakeKind, ProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::client::{Caller, Local};
use super::connection::{self, Open};
use super::problem::Problem;
use crate::net::buffer::ReadBuffer;
use crate::net::proxy_protocol::{self, ProxyError};
use crate::net::timers::Timer;
use crate::net::tls::{ListenerTls, Reason};
use crate::net::wire::Wire;

/// How clients come in by one data listener.
#[derive(Default)]
pub struct Door {
    /// How it speaks TLS. `None`: in the clear.
    pub tls: Option<Arc<ListenerTls>>,
    /// Whether each connection must begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

/// What listeners offer by ALPN, the best first.
#[must_use]
pub fn protocols(http2: bool) -> &'static [&'static [u8]] {
    const BOTH: [&[u8]; 2] = [HTTP2, b"http/1.1"];
    if http2 { &BOTH } else { &BOTH[1..] }
}

/// HTTP/2 in ALPN (RFC 9113, section 3.2).
const HTTP2: &[u8] = b"h2";

impl Door {
    /// Whether a connection's first bytes are its first request's.
    pub(super) fn is_open(&self) -> bool {
        self.tls.is_none() && !self.proxy_protocol
    }
}

/// The first byte of a TLS record that begins a handshake (RFC 8446, section 5.1).
pub(super) const TLS_HANDSHAKE: u8 = 22;

/// Serves one client from its first byte on.
pub(super) async fn enter(open: Open, door: Arc<Door>, stream: TcpStream, address: IpAddr) {
    let local = Rc::clone(open.local());
    let timer = local.worker.timers.register();
    let deadline_ms = local.worker.timers.after(local.sites.read().timeouts.head);
    let entry = Entry { local: &local, timer, deadline_ms, wire: Wire::new(stream) };
    let mut caller = Caller { address, secure: false };
    let mut buffer = local.worker.buffers.small();
    if door.proxy_protocol {
        match entry.proxy_header(&mut buffer).await {
            Ok(client) => caller.address = client.unwrap_or(address),
            Err(NoHeader::Ended) => return,
            Err(NoHeader::Bad(what)) => {
                local.metrics.proxy_protocol_fail.inc(local.worker.stripe);
                tracing::debug!(%address, "a connection without a PROXY header: {what}");
                return;
            }
        }
    }
    let Some(tls) = &door.tls else {
        let Entry { wire, timer, .. } = entry;
        drop(timer);
        let first = Some(buffer).filter(|buffer| !buffer.is_empty());
        return connection::serve(open, wire.into_inner(), caller, first).await;
    };
    // Boxed: its state is large, and gone when the handshake is over.
    let entered = Box::pin(entry.handshake(tls, buffer)).await;
    match entered {
        Ok(stream) => {
            count(&local, &stream);
            let caller = Caller { secure: true, ..caller };
            match stream.get_ref().1.alpn_protocol() == Some(HTTP2) {
                true => connection::serve_http2(open, stream, caller, None).await,
                false => connection::serve(open, stream, caller, None).await,
            }
        }
        Err(Refused::InTheClear(stream)) => {
            local.metrics.tls_fail.inc(Reason::NotTls);
            let problem = Problem::tls_wanted();
            connection::refuse_all(open, stream, caller, &problem).await;
        }
        Err(Refused::Failed(error)) => {
            let reason = Reason::of(&error);
            local.metrics.tls_fail.inc(reason);
            let address = caller.address;
            tracing::debug!(%address, reason = reason.label(), "a handshake failed: {error}");
        }
        Err(Refused::Ended) => {}
    }
}

/// Why there is no PROXY header.
enum NoHeader {
    /// There is nothing else either: see [`Refused::Ended`].
    Ended,
    /// What came is none, or not in time.
    Bad(String),
}

/// Why there is no TLS session.
enum Refused {
    /// HTTP in the clear.
    InTheClear(TcpStream),
    /// As rustls says, or because of the time.
    Failed(io::Error),
    /// The client closed before it sent a byte, as checks of ports do; or the process is ending.
    Ended,
}

struct Entry<'a> {
    local: &'a Local,
    timer: Timer,
    deadline_ms: u64,
    wire: Wire<TcpStream>,
}

impl Entry<'_> {
    /// Reads on. False at the end of the connection.
    async fn more(&self, buffer: &mut ReadBuffer) -> io::Result<bool> {
        let reading = poll_fn(|cx| {
            // No request has come, so none is lost.
            if self.local.worker.closing.get() {
                return Poll::Ready(Ok(0));
            }
            self.wire.poll_read(cx, buffer)
        });
        let read = self.timer.limit(self.deadline_ms, pin!(reading)).await;
        Ok(read.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))? > 0)
    }

    /// Reads a PROXY header; what came behind it stays in the buffer.
    async fn proxy_header(&self, buffer: &mut ReadBuffer) -> Result<Option<IpAddr>, NoHeader> {
        loop {
            match proxy_protocol::parse(buffer.filled()) {
                Ok(Some(header)) => {
                    buffer.consume(header.length);
                    return Ok(header.client);
                }
                Ok(None) => {}
                Err(
                    error @ (ProxyError::Missing | ProxyError::TooLong | ProxyError::Malformed),
                ) => {
                    return Err(NoHeader::Bad(error.to_string()));
                }
            }
            match self.more(buffer).await {
                Ok(true) => {}
                Ok(false) if buffer.is_empty() || self.local.worker.closing.get() => {
                    return Err(NoHeader::Ended);
                }
                Ok(false) => return Err(NoHeader::Bad("it ended before it".to_owned())),
                Err(error) => return Err(NoHeader::Bad(error.to_string())),
            }
        }
    }

    async fn handshake(
        self,
        tls: &ListenerTls,
        mut buffer: ReadBuffer,
    ) -> Result<TlsStream<TcpStream>, Refused> {
        if buffer.is_empty() && !self.more(&mut buffer).await.map_err(Refused::Failed)? {
            return Err(Refused::Ended);
        }
        let Self { timer, deadline_ms, wire, local } = self;
        // Every method begins with a letter.
        if buffer.filled()[0].is_ascii_uppercase() {
            return Err(Refused::InTheClear(wire.into_inner()));
        }
        let mut accepting = pin!(tls.accept(wire.into_inner(), buffer.filled()));
        let accepted = poll_fn(|cx| match accepting.as_mut().poll(cx) {
            Poll::Pending if local.worker.closing.get() => Poll::Ready(None),
            polled => polled.map(Some),
        });
        match timer.limit(deadline_ms, pin!(accepted)).await {
            Some(Some(accepted)) => accepted.map_err(Refused::Failed),
            Some(None) => Err(Refused::Ended),
            None => Err(Refused::Failed(io::ErrorKind::TimedOut.into())),
        }
    }
}

fn count(local: &Local, stream: &TlsStream<TcpStream>) {
    let session = stream.get_ref().1;
    let old = session.protocol_version() == Some(ProtocolVersion::TLSv1_2);
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    let counter = &local.metrics.tls_handshakes[usize::from(old)][usize::from(resumed)];
    counter.inc(local.worker.stripe);
}
