//! How does one client connection live?
//!
//! ```text
//!  idle ──first byte──▶ head ──judged──▶ request ──answered──▶ idle
//!   │ keep_alive          │ head timeout     │ not to be used again
//!   ▼                     ▼                  ▼
//!  closed            408, closed        linger, closed
//! ```
//!
//! *Lingering*: a connection closed with unread bytes is reset by the kernel, and the reset can
//! take the answer from the client's buffers before it is read (RFC 9112, section 9.6). So the
//! write side is shut first, and what still comes is read and dropped for a moment.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::ClientAnswer;
use super::body::RequestBody;
use super::client::{Caller, Client, Local};
use super::door::TLS_HANDSHAKE;
use super::exchange::Exchange;
use super::h2;
use super::problem::Problem;
use super::seam::Reply;
use super::site::Site;
use crate::dispatch::seam::Body;
use crate::net::buffer::ReadBuffer;
use crate::net::http1::framing::Framing;
use crate::net::http1::head::Persistence;
use crate::net::http1::request::RequestHead;
use crate::net::http1::scan::Scanner;
use crate::net::timers::Timer;
use crate::net::wire::{Pace, Transport, Wire, WireError};

/// Serves one client until its connection ends. Of its bytes, `first` were read already: one at
/// least, if any.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + Transport>(
    open: Open,
    stream: S,
    caller: Caller,
    first: Option<ReadBuffer>,
) {
    let local = Rc::clone(open.local());
    let connection = Connection {
        wire: Wire::new(stream),
        timer: local.worker.timers.register(),
        local: &local,
        caller,
    };
    if let Some(first) = connection.requests(first).await {
        let stream = connection.wire.into_inner();
        serve_http2(open, stream, caller, Some(first)).await;
    }
}

/// Serves one client that speaks HTTP/2, as ALPN or its first bytes have said; those are `first`.
pub(super) async fn serve_http2<S: AsyncRead + AsyncWrite + Unpin>(
    open: Open,
    stream: S,
    caller: Caller,
    first: Option<ReadBuffer>,
) {
    let limits = open.local().sites.read().limits.http2.clone().unwrap_or_default();
    // Boxed: tasks that speak HTTP/1.1 then have no room for it.
    Box::pin(h2::serve(open, stream, caller, &limits, first)).await;
}

/// Answers whatever a client sends with `problem`, and closes.
pub(super) async fn refuse_all<S: AsyncRead + AsyncWrite + Unpin + Transport>(
    open: Open,
    stream: S,
    caller: Caller,
    problem: &Problem,
) {
    let local = &*open.0;
    let timer = local.worker.timers.register();
    let connection = Connection { wire: Wire::new(stream), timer, local, caller };
    let site = local.sites.read();
    let client = Client::new(local, &site, &connection.wire, &connection.timer);
    let exchange = Exchange::begin(local, &site, &connection.timer, caller);
    if let Next::Close = refuse(&client, &exchange, problem).await {
        connection.linger().await;
    }
}

/// A connection in the count, until dropped: also when its task panics. It is counted when it is
/// accepted and not when its task begins, or a burst would pass the limit, and a drain would not
/// see what was accepted last.
pub(super) struct Open(Rc<Local>);

impl Open {
    pub(super) fn count(local: &Rc<Local>) -> Self {
        local.metrics.connection_opened();
        Self(Rc::clone(local))
    }

    pub(super) fn local(&self) -> &Rc<Local> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics.connection_closed();
    }
}

/// What becomes of the connection.
enum Next {
    /// Another request may come; some of its bytes may be here already.
    Request(Option<ReadBuffer>),
    /// It goes on in HTTP/2, of which these are the first bytes.
    Http2(ReadBuffer),
    /// It ends, but the client may still be sending.
    Close,
    /// It ends, and the client sends nothing more.
    End,
    /// It ends at once, in the middle of something.
    Cut,
    /// It ends at once, and the client is to see that the answer is not complete.
    Reset,
}

struct Connection<'a, S> {
    wire: Wire<S>,
    timer: Timer,
    local: &'a Local,
    caller: Caller,
}

/// What came while a connection was idle.
enum Arrival {
    Bytes(ReadBuffer),
    Ended,
    TimedOut,
}

/// A head, or why there is none.
enum Head {
    Complete {
        buffer: ReadBuffer,
        length: usize,
    },
    /// None, but the first bytes of HTTP/2.
    Preface(ReadBuffer),
    Refused(Problem),
    Ended,
    TimedOut,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Transport> Connection<'_, S> {
    /// Serves requests until the connection ends, or is found to be one of HTTP/2.
    async fn requests(&self, first: Option<ReadBuffer>) -> Option<ReadBuffer> {
        let mut rest = first;
        let mut served = 0;
        loop {
            let buffer = match rest.take() {
                Some(buffer) => buffer,
                None => match self.idle(served == 0).await {
                    Arrival::Bytes(buffer) => buffer,
                    Arrival::Ended => {
                        self.wire.farewell().await;
                        return None;
                    }
                    Arrival::TimedOut => {
                        self.local.metrics.idle_timeout.inc(self.local.worker.stripe);
                        self.wire.farewell().await;
                        return None;
                    }
                },
            };
            if served == 0 && buffer.filled().first() == Some(&TLS_HANDSHAKE) {
                self.local.tell_tls_in_the_clear(self.caller.address);
                return None;
            }
            served += 1;
            // Boxed: an idle connection's task then holds a pointer, not a request's state. That is
            // made in its box: given to `Box::pin`, it would be made outside and all of its 4 KiB
            // copied for every request.
            match Box::into_pin(Box::write(Box::new_uninit(), self.one(buffer, served))).await {
                Next::Request(buffer) => rest = buffer,
                Next::Http2(buffer) => return Some(buffer),
                Next::Close => {
                    self.linger().await;
                    return None;
                }
                Next::End => {
                    self.wire.farewell().await;
                    return None;
                }
                Next::Cut => return None,
                Next::Reset => {
                    self.wire.abort();
                    return None;
                }
            }
        }
    }

    /// Waits for the first byte of a request. No buffer is held meanwhile.
    async fn idle(&self, first: bool) -> Arrival {
        let worker = &self.local.worker;
        let timeouts = &self.local.sites.read().timeouts;
        let wait = if first { timeouts.head } else { timeouts.keep_alive };
        let deadline_ms = worker.timers.after(wait);
        poll_fn(|cx| {
            if worker.closing.get() {
                return Poll::Ready(Arrival::Ended);
            }
            let mut buffer = worker.buffers.small();
            match self.wire.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Arrival::Ended),
                Poll::Ready(Ok(_)) => Poll::Ready(Arrival::Bytes(buffer)),
                Poll::Pending if self.timer.poll_expired(cx, deadline_ms) => {
                    Poll::Ready(Arrival::TimedOut)
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Serves one request, of which `buffer` holds the first bytes; number `served` on this
    /// connection, counted from 1.
    async fn one(&self, buffer: ReadBuffer, served: u32) -> Next {
        let (local, worker) = (self.local, &self.local.worker);
        let site = local.sites.read();
        let client = Client::new(local, &site, &self.wire, &self.timer);
        let exchange = Exchange::begin(local, &site, &self.timer, self.caller);
        let mut head = worker.spare_request_head();
        // In a session ALPN says it, or nothing does (RFC 9113, section 3.3).
        let may_be_http2 = served == 1 && !self.caller.secure && site.limits.http2.is_some();
        match self.head(buffer, &site, &mut head, may_be_http2).await {
            Head::Ended => Next::Cut,
            Head::TimedOut => {
                local.metrics.head_timeout.inc(worker.stripe);
                refuse(&client, &exchange, &Problem::head_timeout()).await
            }
            Head::Refused(problem) => {
                local.metrics.protocol_error.inc(worker.stripe);
                refuse(&client, &exchange, &problem).await
            }
            Head::Preface(buffer) => Next::Http2(buffer),
            Head::Complete { buffer, length } => {
                let last = served >= site.limits.requests_per_connection_max;
                let next = answer(&client, &exchange, &head, buffer, length, last).await;
                worker.keep_request_head(head);
                next
            }
        }
    }

    /// Reads on until the head is complete, and judges it.
    async fn head(
        &self,
        mut buffer: ReadBuffer,
        site: &Site,
        head: &mut RequestHead,
        may_be_http2: bool,
    ) -> Head {
        if let Some(length) = head.parse_at_once(buffer.filled(), &site.head_limits) {
            return Head::Complete { buffer, length };
        }
        let deadline_ms = self.local.worker.timers.after(site.timeouts.head);
        let mut pace = Pace::until(deadline_ms);
        let mut scanner = Scanner::default();
        let mut empty_line_allowed = true;
        loop {
            // One empty line before a request is an old habit that does no harm (RFC 9112, 2.2).
            if empty_line_allowed && buffer.filled().starts_with(b"\r\n") {
                buffer.consume(2);
                scanner = Scanner::default();
                empty_line_allowed = false;
            }
            empty_line_allowed &= buffer.filled().len() < 2;
            match scanner.scan(buffer.filled(), &site.head_limits) {
                Ok(Some(length)) => {
                    return match head.parse(&buffer.filled()[..length]) {
                        Ok(()) => Head::Complete { buffer, length },
                        Err(_) if may_be_http2 && is_preface(&buffer) => Head::Preface(buffer),
                        Err(error) => Head::Refused(Problem::of_request(error)),
                    };
                }
                Ok(None) => {}
                Err(error) => return Head::Refused(Problem::of_scan(error)),
            }
            if buffer.room().is_empty() {
                // One byte beyond the limit, so that the scanner can see it exceeded.
                buffer.grow(site.head_limits.head_bytes_max + 1);
            }
            match self.wire.read(&self.timer, &mut buffer, &mut pace).await {
                Ok(0) | Err(WireError::Broken(_)) => return Head::Ended,
                Ok(_) => {}
                Err(WireError::TimedOut) => return Head::TimedOut,
            }
        }
    }

    /// Ends a connection whose client may still be sending, without losing it the answer.
    async fn linger(&self) {
        let deadline_ms = self.local.worker.timers.after(self.local.sites.read().timeouts.linger);
        self.wire.shutdown(&self.timer, deadline_ms).await;
        let mut pace = Pace::until(deadline_ms);
        let mut buffer = self.local.worker.buffers.small();
        let drain = pin!(async {
            // The time is asked here as well: a client that never pauses is never waited for.
            while self.timer.timers().now_ms() < deadline_ms {
                match self.wire.read(&self.timer, &mut buffer, &mut pace).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                let held = buffer.filled().len();
                buffer.consume(held);
                // Left to itself the runtime would have a hundred such reads done before others'.
                tokio::task::yield_now().await;
            }
        });
        drain.await;
    }
}

/// Whether a client with prior knowledge speaks HTTP/2 (RFC 9113, section 3.3). What it says first
/// was made to look like a head that no server of HTTP/1.1 takes; the rest of the preface, the
/// library looks at.
fn is_preface(buffer: &ReadBuffer) -> bool {
    let begin = b"PRI * HTTP/2.0\r\n\r\n";
    debug_assert!(h2::PREFACE.starts_with(begin));
    buffer.filled().starts_with(begin)
}

/// Answers what could not be read as a request.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin + Transport>(
    client: &Client<'_, S>,
    exchange: &Exchange<'_>,
    problem: &Problem,
) -> Next {
    let mut answer = ClientAnswer::new(client, &exchange.request_id, 1, false, false);
    let told = exchange.refuse(problem, &mut answer).await;
    if told.is_ok() { Next::Close } else { Next::Cut }
}

/// Answers a request. `buffer` holds its head, `length` bytes, and perhaps more; `last` says
/// that it is the last one that the connection may carry.
async fn answer<S: AsyncRead + AsyncWrite + Unpin + Transport>(
    client: &Client<'_, S>,
    exchange: &Exchange<'_>,
    head: &RequestHead,
    mut buffer: ReadBuffer,
    length: usize,
    last: bool,
) -> Next {
    let head_asked = head.method(&buffer.filled()[..length]) == b"HEAD";
    let keep_alive = head.persistence() == Persistence::KeepAlive && !last;
    let mut answer =
        ClientAnswer::new(client, &exchange.request_id, head.minor(), head_asked, keep_alive);
    let framing = head.framing();
    let has_body = framing != Framing::None;
    // With a body, what came behind the head moves to a buffer of its own, since the head is
    // looked at until the end; without one it stays where it is.
    let following = has_body.then(|| {
        let rest = &buffer.filled()[length..];
        let mut following = client.local.worker.buffers.small();
        // A head may be allowed to be so large that more lies behind it than a buffer takes.
        while following.capacity() < rest.len() {
            following.grow(usize::MAX);
        }
        following.room()[..rest.len()].copy_from_slice(rest);
        following.fill(rest.len());
        following
    });
    let mut body = RequestBody::new(client, following, framing, head.expects_continue());

    let whole = &buffer.filled()[..length];
    if exchange.answer(head, whole, &mut body, &mut answer).await.is_err() {
        // What a client does not take, the kernel would keep for it long after the connection.
        let truncated = answer.has_begun() && answer.ends_with_connection();
        return if truncated || answer.was_too_slow() { Next::Reset } else { Next::Cut };
    }
    if !answer.keeps_alive() || !body.is_complete() {
        // A client that asked for the end sends nothing more, so no reset can take its answer.
        // (But for old ones that send an empty line behind a body.)
        let client_ends = head.persistence() == Persistence::Close
            && !has_body
            && buffer.filled().len() == length;
        return if client_ends { Next::End } else { Next::Close };
    }
    match body.into_rest() {
        Some(following) => buffer = following,
        None => buffer.consume(length),
    }
    Next::Request(Some(buffer).filter(|buffer| !buffer.is_empty()))
}
