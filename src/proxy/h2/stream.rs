//! How is the request of one stream answered?
//!
//! In a task of its own, so that requests of one connection do not wait for each other; the task is
//! one that served another stream before, if such a one is free (see [`super::servers`]). What an
//! exchange needs is made here; what it leaves decides how the stream ends. An answer that broke is
//! reset, never ended: its client must not take a part for the whole.

use std::cell::Cell;
use std::rc::Rc;

use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::COOKIE;
use http::{HeaderMap, Request};

use super::super::client::{Caller, Local};
use super::super::connection::Open;
use super::super::exchange::Exchange;
use super::super::problem::Problem;
use super::super::seam::Reply;
use super::super::site::Site;
use super::answer::StreamAnswer;
use super::body::StreamBody;
use super::request::write_head;
use super::sender::{Held, Piece, Sender};
use crate::net::http1::request::RequestHead;
use crate::net::http1::scan::{ScanError, Scanner};
use crate::net::wire::Pace;

/// What the tasks of one connection share.
pub(super) struct Shared {
    open: Open,
    caller: Caller,
    /// Streams whose task has not ended.
    active: Cell<usize>,
    /// When the last of them ended.
    idle_since_ms: Cell<u64>,
    /// Streams that were answered to their ends, since this was asked last.
    answered: Cell<u64>,
    /// How much of its connection's work was not in vain so far; see [`Self::turn_streams_max`].
    trust: Cell<usize>,
    held: Rc<Held>,
}

/// Streams that a turn begins in the first ones of a connection, and in those of one that gives up
/// what it asks for.
const TURN_STREAMS_MIN: usize = 1;

/// Streams that one turn of a connection may come to begin.
const TURN_STREAMS_MAX: usize = 32;

/// Answers after which a connection's turns may begin one stream more.
const ANSWERS_PER_TRUST: usize = 4;

impl Shared {
    /// `held_bytes_max`: of all its answers together.
    pub(super) fn new(open: Open, caller: Caller, held_bytes_max: usize) -> Rc<Self> {
        let idle_since_ms = Cell::new(open.local().worker.timers.now_ms());
        Rc::new(Self {
            open,
            caller,
            active: Cell::new(0),
            idle_since_ms,
            answered: Cell::new(0),
            trust: Cell::new(0),
            held: Held::new(held_bytes_max),
        })
    }

    pub(super) fn local(&self) -> &Rc<Local> {
        self.open.local()
    }

    /// How many streams one turn of the connection may begin. A request that is given up as soon as
    /// it was begun costs its client two small frames, and us a shard's connection: a turn of a
    /// hundred would keep others waiting for milliseconds. So a connection begins few at a time,
    /// and more the more answers it takes.
    pub(super) fn turn_streams_max(&self) -> usize {
        (TURN_STREAMS_MIN + self.trust.get() / ANSWERS_PER_TRUST).min(TURN_STREAMS_MAX)
    }

    /// Streams that were answered to their ends since this was asked last.
    pub(super) fn take_answered(&self) -> u64 {
        self.answered.take()
    }

    /// Takes down how a stream ended: answered, or in vain.
    pub(super) fn ended(&self, answered: bool) {
        let trust = self.trust.get();
        self.answered.set(self.answered.get() + u64::from(answered));
        self.trust.set(match answered {
            true => (trust + 1).min((TURN_STREAMS_MAX - TURN_STREAMS_MIN) * ANSWERS_PER_TRUST),
            false => trust.saturating_sub(ANSWERS_PER_TRUST),
        });
    }

    /// How long the connection has been without a stream: since when. `None`: it is not.
    pub(super) fn idle_since_ms(&self) -> Option<u64> {
        (self.active.get() == 0).then(|| self.idle_since_ms.get())
    }
}

/// A stream in the count, until dropped.
struct Active(Rc<Shared>);

impl Active {
    fn count(shared: &Rc<Shared>) -> Self {
        shared.active.set(shared.active.get() + 1);
        Self(Rc::clone(shared))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.idle_since_ms.set(self.0.local().worker.timers.now_ms());
    }
}

/// Begins to serve a request. `has_hash`: its path had a `#`, and what stood behind it.
pub(super) fn begin(
    shared: &Rc<Shared>,
    request: Request<RecvStream>,
    respond: SendResponse<Piece>,
    has_hash: bool,
) {
    let active = Active::count(shared);
    shared.local().stream_servers.serve(Stream { active, request, respond, has_hash });
}

/// A stream that is to be served.
pub(super) struct Stream {
    active: Active,
    request: Request<RecvStream>,
    respond: SendResponse<Piece>,
    has_hash: bool,
}

/// Serves a stream to its end.
pub(super) async fn serve(stream: Stream) {
    let Stream { active, request, respond, has_hash } = stream;
    let shared = &active.0;
    let local = shared.local();
    let worker = &local.worker;
    let timer = worker.timers.register();
    let site = local.sites.read();
    let exchange = Exchange::begin(local, &site, &timer, shared.caller);
    let sender = Sender::new(respond, &shared.held);
    let (parts, stream) = request.into_parts();
    let has_body = !stream.is_end_stream();
    let mut whole = worker.buffers.text();
    let mut head = worker.spare_request_head();
    let judged = check_count(&site, &parts.headers)
        .and_then(|()| {
            write_head(&mut whole, &parts, has_hash, has_body).map_err(Problem::of_request)
        })
        .and_then(|()| check_size(&site, &whole))
        .and_then(|()| head.parse(&whole).map_err(Problem::of_request));
    let head_asked = parts.method == http::Method::HEAD;
    drop(parts);
    let pace = pace(&site);
    let mut answer = StreamAnswer::new(&exchange, &timer, &sender, head_asked, pace.clone());
    let done = match judged {
        Ok(()) => answer_judged(&exchange, &head, &whole, stream, pace, &mut answer).await,
        Err(problem) => {
            local.metrics.protocol_error.inc(worker.stripe);
            exchange.refuse(&problem, &mut answer).await
        }
    };
    shared.ended(done.is_ok());
    if done.is_err() {
        let reason = match () {
            () if answer.was_too_slow() => Reason::ENHANCE_YOUR_CALM,
            () if answer.has_begun() => Reason::INTERNAL_ERROR,
            () => Reason::CANCEL,
        };
        sender.borrow_mut().reset(reason);
    }
    drop(answer);
    worker.keep_request_head(head);
}

async fn answer_judged(
    exchange: &Exchange<'_>,
    head: &RequestHead,
    whole: &[u8],
    stream: RecvStream,
    pace: Pace,
    answer: &mut StreamAnswer<'_>,
) -> Result<(), crate::dispatch::seam::ClientGone> {
    let waits = head.expects_continue();
    let (timer, sender) = (answer.timer(), answer.sender());
    let mut body = StreamBody::new(exchange.site, timer, sender, stream, waits, pace);
    exchange.answer(head, whole, &mut body, answer).await
}

/// The limit on fields, of which cookies in pieces are one. It is checked again where the head is
/// written; but to write hundreds of fields only to refuse them is dear.
fn check_count(site: &Site, fields: &HeaderMap) -> Result<(), Problem> {
    let fields_max = site.limits.fields_max;
    let cookies = || fields.get_all(COOKIE).iter().skip(1).count();
    match fields.len() > fields_max && fields.len() - cookies() > fields_max {
        true => Err(Problem::of_scan(ScanError::TooManyFields)),
        false => Ok(()),
    }
}

/// The limits of HTTP/1.1, on what the head would be there.
fn check_size(site: &Site, whole: &[u8]) -> Result<(), Problem> {
    match Scanner::default().scan(whole, &site.head_limits) {
        Ok(Some(length)) if length == whole.len() => Ok(()),
        // The library lets no line's end into a field; this would be one.
        Ok(_) => Err(Problem::of_scan(ScanError::BareLf)),
        Err(error) => Err(Problem::of_scan(error)),
    }
}

/// The largest frame of content that we take, and that the library gives to us whole.
const FRAME_BYTES: u64 = 16 * 1024;

/// How slowly a body may move. As in HTTP/1.1, but that bytes are seen a frame at a time: the time
/// that one frame takes at the least rate comes on top.
fn pace(site: &Site) -> Pace {
    let (limits, timeouts) = (&site.limits, &site.timeouts);
    let rate = limits.rate_bytes_per_second_min;
    let frame_ms = (FRAME_BYTES * 1000).checked_div(rate).unwrap_or(0);
    let frame = std::time::Duration::from_millis(frame_ms);
    Pace::idle(timeouts.body_idle).at_least(rate, timeouts.rate_grace.saturating_add(frame))
}
