//! What do the parts of one client connection share?

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite};

use super::access_log::{BATCH_BYTES, LogSender};
use super::h2::StreamServers;
use super::metrics::ClientMetrics;
use super::site::{Site, SiteReader};
use super::traces::Tracer;
use crate::dispatch::worker::Worker;
use crate::net::splice::Pipe;
use crate::net::timers::Timer;
use crate::net::wire::{Pace, Transport, Wire, WireError};
use crate::trace::Ids;

/// What one worker thread needs to serve clients.
pub struct Local {
    /// Clock, buffers, connections to shards.
    pub worker: Worker,
    /// The site as published.
    pub sites: SiteReader,
    /// What is counted about clients.
    pub metrics: Arc<ClientMetrics>,
    /// Where spans go, if requests are traced.
    pub(super) tracer: Option<Tracer>,
    /// Who serves streams of HTTP/2.
    pub(super) stream_servers: StreamServers,
    log: Option<LogSender>,
    log_lines: RefCell<Vec<u8>>,
    request_ids: Ids,
    date: Cell<(u64, [u8; DATE_BYTES])>,
    /// Until when the log has heard enough of TLS where none is.
    tls_told_until_ms: Cell<u64>,
}

/// How often the log hears that clients speak TLS to a listener without.
const TLS_TOLD_MS: u64 = 10_000;

/// An IMF-fixdate (RFC 9110, section 5.6.7) has always 29 letters.
const DATE_BYTES: usize = 29;

impl Local {
    /// A worker's beginning. `seed` makes its request ids differ from those of other workers and
    /// starts.
    #[must_use]
    pub fn new(
        worker: Worker,
        sites: SiteReader,
        metrics: Arc<ClientMetrics>,
        log: Option<LogSender>,
        tracer: Option<Tracer>,
        seed: u64,
    ) -> Rc<Self> {
        Rc::new(Self {
            worker,
            sites,
            metrics,
            tracer,
            stream_servers: StreamServers::default(),
            log,
            log_lines: RefCell::default(),
            request_ids: Ids::new(seed),
            date: Cell::new((0, [b' '; DATE_BYTES])),
            tls_told_until_ms: Cell::new(0),
        })
    }

    /// Counts a client that spoke TLS to a listener without, and says so now and then.
    pub(super) fn tell_tls_in_the_clear(&self, address: IpAddr) {
        self.metrics.tls_in_the_clear.inc(self.worker.stripe);
        let now_ms = self.worker.timers.now_ms();
        if now_ms >= self.tls_told_until_ms.get() {
            self.tls_told_until_ms.set(now_ms + TLS_TOLD_MS);
            tracing::warn!(
                client = %address,
                "a client speaks TLS to a data listener without: give it `https` at a listener \
                 with `tls`, or `http` here"
            );
        }
    }

    /// A number that names one request: 64 bits that no other request of the fleet has, as far as
    /// chance allows.
    #[allow(clippy::cast_possible_truncation, reason = "four bits are taken")]
    pub(super) fn request_id(&self) -> [u8; 16] {
        let z = self.request_ids.draw();
        let digits = b"0123456789abcdef";
        std::array::from_fn(|at| digits[usize::from((z >> (60 - 4 * at)) as u8 & 15)])
    }

    /// Writes `Date`.
    pub(super) fn write_date(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(&self.date());
        out.extend_from_slice(b"\r\n");
    }

    /// The value of `Date`, made anew when the second changes.
    pub(super) fn date(&self) -> [u8; DATE_BYTES] {
        let (second, mut date) = self.date.get();
        let now = self.worker.timers.now_ms() / 1000 + 1;
        if second != now {
            #[allow(clippy::disallowed_methods, reason = "the field tells the wall clock")]
            let text = httpdate::fmt_http_date(SystemTime::now());
            if let Ok(text) = <[u8; DATE_BYTES]>::try_from(text.as_bytes()) {
                date = text;
            }
            self.date.set((now, date));
        }
        date
    }

    /// Adds a line to the access log, if there is one.
    pub(super) fn log(&self, write: impl FnOnce(u64, &mut Vec<u8>)) {
        if self.log.is_none() {
            return;
        }
        #[allow(clippy::disallowed_methods, reason = "the log tells the wall clock")]
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        write(unix_ms, &mut self.log_lines.borrow_mut());
        if self.log_lines.borrow().len() >= BATCH_BYTES {
            self.flush_log();
        }
    }

    /// Hands the lines so far to the writer. Called by the worker's ticker as well.
    pub fn flush_log(&self) {
        let lines = std::mem::take(&mut *self.log_lines.borrow_mut());
        let Some(log) = self.log.as_ref().filter(|_| !lines.is_empty()) else { return };
        let count = memchr::memchr_iter(b'\n', &lines).count() as u64;
        if !log.send(lines) {
            self.metrics.log_dropped.add(self.worker.stripe, count);
        }
    }
}

/// Who asks, as far as the connection tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    /// The client's address: of the connection, or as a balancer before us names it in the
    /// connection's first bytes.
    pub(super) address: IpAddr,
    /// Whether the connection is encrypted.
    pub(super) secure: bool,
}

impl Caller {
    /// The scheme of the URLs that it asks for.
    pub(super) fn scheme(self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

/// One client connection: what its body and its answer share.
pub(super) struct Client<'a, S> {
    pub(super) local: &'a Local,
    pub(super) site: &'a Site,
    pub(super) wire: &'a Wire<S>,
    pub(super) timer: &'a Timer,
    /// Whether somebody is in the middle of writing. Two parts of one task may want to: the body
    /// its `100 Continue`, the answer an interim answer of the shard's.
    writing: Cell<bool>,
    /// A write was given up in its middle: whatever followed would be misread.
    torn: Cell<bool>,
    /// Who waits for its turn to write.
    waiting: Cell<Option<Waker>>,
}

/// The turn to write. Given up before the write is done, it leaves the connection torn.
struct Turn<'a> {
    writing: &'a Cell<bool>,
    torn: &'a Cell<bool>,
    waiting: &'a Cell<Option<Waker>>,
    done: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.writing.set(false);
        self.torn.set(self.torn.get() || !self.done);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin + Transport> Client<'a, S> {
    pub(super) fn new(
        local: &'a Local,
        site: &'a Site,
        wire: &'a Wire<S>,
        timer: &'a Timer,
    ) -> Self {
        let (writing, torn) = (Cell::new(false), Cell::new(false));
        Self { local, site, wire, timer, writing, torn, waiting: Cell::new(None) }
    }

    /// How slowly a body may move.
    pub(super) fn body_pace(&self) -> Pace {
        let (limits, timeouts) = (&self.site.limits, &self.site.timeouts);
        Pace::idle(timeouts.body_idle)
            .at_least(limits.rate_bytes_per_second_min, timeouts.rate_grace)
    }

    /// Writes all of `parts` before anybody else may write.
    pub(super) async fn write<const N: usize>(
        &self,
        parts: [&[u8]; N],
        pace: &mut Pace,
    ) -> Result<(), WireError> {
        let mut turn = self.turn().await?;
        self.wire.write_all(self.timer, parts, pace).await?;
        turn.done = true;
        Ok(())
    }

    /// Writes all that a pipe holds before anybody else may write.
    pub(super) async fn write_piped(
        &self,
        pipe: &mut Pipe,
        pace: &mut Pace,
    ) -> Result<(), WireError> {
        let mut turn = self.turn().await?;
        self.wire.splice_out(self.timer, pipe, pace).await?;
        turn.done = true;
        Ok(())
    }

    /// Waits for the turn to write.
    async fn turn(&self) -> Result<Turn<'_>, WireError> {
        poll_fn(|cx| {
            if self.writing.get() {
                self.waiting.set(Some(cx.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        if self.torn.get() {
            return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
        }
        self.writing.set(true);
        let (writing, torn, waiting) = (&self.writing, &self.torn, &self.waiting);
        Ok(Turn { writing, torn, waiting, done: false })
    }
}
