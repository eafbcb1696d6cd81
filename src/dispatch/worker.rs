//! What does one worker thread own?

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use super::kept::{Tails, Views};
use super::kept_worker::KeptWorker;
use crate::disk::hints::HintSink;
use crate::drivers::native::Means;
use crate::metrics::Stripe;
use crate::net::buffer::Buffers;
use crate::net::http1::request::RequestHead;
use crate::net::splice::{PIPES_MAX, Pipes};
use crate::net::timers::Timers;
use crate::net::upstream::Upstreams;

/// One thread's clock, buffers and idle connections. Nothing of it is shared with another.
pub struct Worker {
    /// Clock and deadlines.
    pub timers: Rc<Timers>,
    /// Free buffers.
    pub buffers: Buffers,
    /// Pipes that large bodies pass through.
    pub pipes: Pipes,
    /// Narrow ones, by which a body is spread over several uploads. One would do: it is empty again
    /// before anything else happens.
    pub(super) narrow_pipes: Pipes,
    /// Idle connections to shards.
    pub upstreams: Rc<Upstreams>,
    /// What it has for pools that keep data.
    pub kept: Rc<KeptWorker>,
    /// Where it is noted that a replica missed a write; `None`: nowhere.
    pub hints: Option<HintSink>,
    /// Where the present view is found, by who has found that his own is old.
    pub views: Views,
    /// Writes that go on for replicas that were late.
    pub(super) tails: Rc<Tails>,
    /// Stages begun.
    stages: Cell<u64>,
    /// Which stripe of each counter this thread writes.
    pub stripe: Stripe,
    /// Whether the process is going down: answers ask clients to close their connections.
    pub draining: Cell<bool>,
    /// Whether connections without a request are closed.
    pub closing: Cell<bool>,
    /// Heads to parse into, for their vectors.
    spare_request_heads: RefCell<Vec<RequestHead>>,
}

/// Spare heads kept.
const SPARE_HEADS_MAX: usize = 256;

impl Worker {
    /// A worker with nothing yet. `epoch` is where the process's clock begins, one for all
    /// workers.
    #[must_use]
    pub fn new(number: usize, epoch: Instant) -> Self {
        Self {
            timers: Timers::new(epoch),
            buffers: Buffers::new(),
            pipes: Pipes::new(PIPES_MAX),
            narrow_pipes: Pipes::narrow(1),
            upstreams: Rc::default(),
            kept: Rc::new(KeptWorker::without_lease()),
            hints: None,
            views: Rc::new(|| None),
            tails: Rc::default(),
            stages: Cell::new(0),
            stripe: Stripe::of_worker(number),
            draining: Cell::new(false),
            closing: Cell::new(false),
            spare_request_heads: RefCell::default(),
        }
    }

    /// The same, with at most `pipes_max` pipes; with none, all bodies are copied.
    #[must_use]
    pub fn with_pipes(self, pipes_max: usize) -> Self {
        let narrow_pipes = Pipes::narrow(pipes_max.min(1));
        Self { pipes: Pipes::new(pipes_max), narrow_pipes, ..self }
    }

    /// What is lent to whoever speaks to stores that keep copies.
    #[must_use]
    pub fn means(&self) -> Means {
        Means {
            timers: Rc::clone(&self.timers),
            upstreams: Rc::clone(&self.upstreams),
            buffers: self.buffers.clone(),
        }
    }

    /// The same, for pools that keep data too.
    #[must_use]
    pub fn with_kept(self, kept: KeptWorker) -> Self {
        Self { kept: Rc::new(kept), ..self }
    }

    /// The same, with a place for hints, and one where the present view is found.
    #[must_use]
    pub fn with_hints_and_views(self, hints: Option<HintSink>, views: Views) -> Self {
        Self { hints, views, ..self }
    }

    /// A number that this worker has not given to a stage yet.
    pub(super) fn next_stage(&self) -> u64 {
        self.stages.set(self.stages.get() + 1);
        self.stages.get()
    }

    /// A request's head to parse into.
    pub fn spare_request_head(&self) -> RequestHead {
        self.spare_request_heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a request's head back.
    pub fn keep_request_head(&self, head: RequestHead) {
        let mut spare = self.spare_request_heads.borrow_mut();
        if spare.len() < SPARE_HEADS_MAX {
            spare.push(head);
        }
    }
}
