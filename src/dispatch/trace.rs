//! Which shards was a recorded request put to, when, and what came of it?
//!
//! One span for each try, so that a trace shows a repeat for what it is. On a pool that keeps copies
//! a try is one exchange with one replica. A request that is not recorded has none of this.

use std::cell::{Ref, RefCell};

use super::outcome::Failure;
use crate::net::timers::Timer;
use crate::protocol::health::Class;
use crate::trace::{Ids, SpanId, TRACEPARENT_BYTES, TraceId, traceparent};

/// A request that is being recorded.
#[derive(Debug)]
pub struct Trace {
    /// The trace that it is part of.
    pub id: TraceId,
    /// Its span, which the spans of its tries hang below.
    pub span: SpanId,
    ids: Ids,
    tries: RefCell<Vec<Try>>,
}

/// What is asked of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// To take a body in.
    Stage,
    /// To make what was staged the value.
    Commit,
    /// To take a body in as the value at once.
    Put,
    /// To take a tombstone in.
    Remove,
    /// To forget what was staged.
    Abort,
    /// To tell what it holds.
    Look,
    /// To give what it holds.
    Fetch,
    /// To list keys.
    List,
}

impl Round {
    /// As spans name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Commit => "commit",
            Self::Put => "put",
            Self::Remove => "remove",
            Self::Abort => "abort",
            Self::Look => "look",
            Self::Fetch => "fetch",
            Self::List => "list",
        }
    }

    /// Which health of the replica it is evidence of.
    #[must_use]
    pub fn class(self) -> Class {
        match self {
            Self::Stage | Self::Commit | Self::Put | Self::Remove | Self::Abort => Class::Write,
            Self::Look | Self::Fetch | Self::List => Class::Read,
        }
    }
}

/// One try at one shard.
#[derive(Debug, Clone, Copy)]
pub struct Try {
    /// Its span.
    pub span: SpanId,
    /// The shard's place in the pool.
    pub shard: usize,
    /// What was asked of a replica; `None` where the client's request was passed on.
    pub round: Option<Round>,
    /// What the replica answered, in one word; empty if it did not, or none was asked.
    pub outcome: &'static str,
    /// When it began, on the worker's clock.
    pub begun_micros: u64,
    /// The status of the shard's answer; 0 if there was none.
    pub status: u16,
    /// How it ended; `None` if it goes on.
    pub end: Option<End>,
}

/// How a try ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// When, on the worker's clock.
    pub micros: u64,
    /// What went wrong, in one word.
    pub error: Option<&'static str>,
}

impl Trace {
    /// Without tries. `seed` makes the ids of their spans.
    #[must_use]
    pub fn new(id: TraceId, span: SpanId, seed: u64) -> Self {
        Self { id, span, ids: Ids::new(seed), tries: RefCell::default() }
    }

    /// The tries, in the order in which they began.
    #[must_use]
    pub fn tries(&self) -> Ref<'_, [Try]> {
        Ref::map(self.tries.borrow(), Vec::as_slice)
    }
}

/// A try that goes on and is recorded. Dropped before its end was told, it was given up: the
/// request's own time was over, its client went away, or another shard was faster.
pub(super) struct Trying<'a> {
    trace: &'a Trace,
    /// Its place among the tries.
    number: usize,
    span: SpanId,
    timer: &'a Timer,
}

impl<'a> Trying<'a> {
    /// A try begins.
    pub(super) fn begin(trace: &'a Trace, shard: usize, timer: &'a Timer) -> Self {
        Self::begin_any(trace, shard, None, timer)
    }

    /// An exchange with a replica begins.
    pub(super) fn begin_round(
        trace: &'a Trace,
        shard: usize,
        round: Round,
        timer: &'a Timer,
    ) -> Self {
        Self::begin_any(trace, shard, Some(round), timer)
    }

    fn begin_any(trace: &'a Trace, shard: usize, round: Option<Round>, timer: &'a Timer) -> Self {
        let span = SpanId::of_random(trace.ids.draw());
        let begun_micros = timer.timers().now_micros();
        let mut tries = trace.tries.borrow_mut();
        tries.push(Try { span, shard, round, outcome: "", begun_micros, status: 0, end: None });
        Self { trace, number: tries.len() - 1, span, timer }
    }

    /// The field by which the shard goes on with the trace.
    pub(super) fn traceparent(&self) -> [u8; TRACEPARENT_BYTES] {
        traceparent(self.trace.id, self.span, true)
    }

    /// The shard has answered.
    pub(super) fn answered(&self, status: u16) {
        self.trace.tries.borrow_mut()[self.number].status = status;
    }

    /// The try has ended.
    pub(super) fn end(&self, failure: Option<&Failure>) {
        self.end_with(failure.map(word_for));
    }

    /// The replica has answered, or it is known what went wrong; each in one word.
    pub(super) fn end_round(&self, came: Result<&'static str, &'static str>) {
        if let Ok(outcome) = came {
            self.trace.tries.borrow_mut()[self.number].outcome = outcome;
        }
        self.end_with(came.err());
    }

    /// The first word counts.
    fn end_with(&self, error: Option<&'static str>) {
        let micros = self.timer.timers().refresh();
        self.trace.tries.borrow_mut()[self.number].end.get_or_insert(End { micros, error });
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        self.end_with(Some("cancelled"));
    }
}

/// As `error.type` names it: few and stable words.
fn word_for(failure: &Failure) -> &'static str {
    match failure {
        Failure::Overflow => "overflow",
        Failure::Connect(_) => "connect",
        Failure::Reset => "reset",
        Failure::HeadTimeout | Failure::RequestTimeout => "timeout",
        Failure::BadAnswer(_) => "bad_answer",
        Failure::GatewayError(_) => "gateway_error",
        Failure::Body(_) | Failure::ClientGone => "client_gone",
        Failure::AnswerBroke => "answer_broke",
        Failure::NoneHealthy | Failure::OwnerDown | Failure::CrossShard | Failure::Kept(_) => {
            "no_shard"
        }
    }
}
