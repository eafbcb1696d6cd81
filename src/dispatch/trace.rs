//! Which shards was a recorded request put to, when, and what came of it?
//!
//! One span for each try, so that a trace shows a repeat for what it is. A request that is not
//! recorded has none of this.

use std::cell::{Ref, RefCell};

use super::outcome::Failure;
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

/// One try at one shard.
#[derive(Debug, Clone, Copy)]
pub struct Try {
    /// Its span.
    pub span: SpanId,
    /// The shard's place in the pool.
    pub shard: usize,
    /// When it began, on the worker's clock.
    pub begun_micros: u64,
    /// How it ended; `None` if it was given up in its middle, or goes on.
    pub end: Option<End>,
}

/// How a try ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// When, on the worker's clock.
    pub micros: u64,
    /// The status of the shard's answer; 0 if there was none.
    pub status: u16,
    /// What went wrong, in one word.
    pub error: Option<&'static str>,
}

impl Trace {
    /// Without tries. `seed` makes the ids of their spans.
    #[must_use]
    pub fn new(id: TraceId, span: SpanId, seed: u64) -> Self {
        Self { id, span, ids: Ids::new(seed), tries: RefCell::default() }
    }

    /// A try begins; returns its number.
    pub(super) fn begin(&self, shard: usize, begun_micros: u64) -> usize {
        let span = SpanId::of_random(self.ids.draw());
        let mut tries = self.tries.borrow_mut();
        tries.push(Try { span, shard, begun_micros, end: None });
        tries.len() - 1
    }

    /// The field by which the shard of a try goes on with the trace.
    pub(super) fn traceparent(&self, number: usize) -> [u8; TRACEPARENT_BYTES] {
        let span = self.tries.borrow().get(number).map_or(self.span, |asked| asked.span);
        traceparent(self.id, span, true)
    }

    /// A try has ended; the last one unless a number is given.
    pub(super) fn end(
        &self,
        number: Option<usize>,
        micros: u64,
        status: u16,
        failure: Option<&Failure>,
    ) {
        let mut tries = self.tries.borrow_mut();
        let ended = match number {
            Some(number) => tries.get_mut(number),
            None => tries.last_mut(),
        };
        if let Some(last) = ended {
            last.end = Some(End { micros, status, error: failure.map(word_for) });
        }
    }

    /// The tries, in their order.
    #[must_use]
    pub fn tries(&self) -> Ref<'_, [Try]> {
        Ref::map(self.tries.borrow(), Vec::as_slice)
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
        Failure::NoneHealthy | Failure::OwnerDown | Failure::CrossShard => "no_shard",
    }
}
