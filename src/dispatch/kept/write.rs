//! How is one write carried out?

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::super::outcome::{Failure, KeptFailure, Note};
use super::super::seam::{Body, BodyError, Part, Passage};
use super::exchanges::{Exchanges, Reply};
use super::job::{ByPipe, Content, Job};
use super::tail::{Tails, go_on_writing};
use super::window::Window;
use crate::cluster::lease::Held;
use crate::disk::hints::HintSink;
use crate::drivers::native::{Fault as NativeFault, syncing};
use crate::level::Level;
use crate::net::timers::Timer;
use crate::net::wire::Turn;
use crate::protocol::holding::Effect;
use crate::protocol::quorum::{Set, needed};
use crate::protocol::write::{Fault, Outcome, Output, Write};
use crate::version::Version;

/// How long a round may take whose body is complete, in milliseconds: as long as an operation may be
/// pinned to an epoch. Stores have longer for a body that passed through, to bring it to their disks:
/// while they do, the operation is not pinned.
const ROUND_MS: u64 = 5_000;

/// How long a write waits, all in all, for uploads that hold it up though its level can do without
/// them, in milliseconds. A hint costs a copy of the whole body later, and a disk that flushes holds
/// an upload up for some hundred milliseconds now and then.
const LAG_MS: u64 = 1_000;

/// The part of a long upload that it may wait so. Equal stores take turns in being the slowest: of a
/// gigabyte, a second in all would leave one behind nearly every time.
const LAG_PART: u64 = 4;

/// A load of less is copied, and not spread over pipes.
const LOAD_BYTES_MIN: usize = 16 * 1024;

/// Bytes that are copied after there were no pipes for a load. To take a load in, and find that out, costs
/// more than to copy it from the first.
const COPIED_BYTES: u64 = 1024 * 1024;

/// What a write waits for.
pub(super) enum Event {
    /// A replica has answered.
    Reply(usize, Reply),
    /// The client's body is complete, or broke off.
    Fed(Result<(), BodyError>),
    /// These hold the others up, and are not waited for any more.
    Behind(Set),
    /// Nothing came in time.
    Late,
}

/// One write under way.
pub(super) struct Writing {
    pub(super) job: Rc<Job>,
    machine: Write,
    level: Level,
    replicas: usize,
    exchanges: Exchanges,
    hints: Option<HintSink>,
    /// The operation's pin, from its commit on.
    held: Option<Held>,
    has_begun: bool,
    /// Until when a round waits; `u64::MAX` while the body comes.
    until_ms: u64,
    begun_ms: u64,
    lag_since_ms: Option<u64>,
    lag_ms: u64,
}

impl Writing {
    pub(super) fn new(
        job: Rc<Job>,
        machine: Write,
        level: Level,
        replicas: usize,
        hints: Option<HintSink>,
    ) -> Self {
        let passes = matches!(job.content, Content::Passing { .. });
        let begun_ms = job.means.timers.now_ms();
        let until_ms = if passes { u64::MAX } else { begun_ms + ROUND_MS };
        Self {
            job,
            machine,
            level,
            replicas,
            exchanges: Exchanges::default(),
            hints,
            held: None,
            has_begun: false,
            until_ms,
            begun_ms,
            lag_since_ms: None,
            lag_ms: 0,
        }
    }

    /// How many have acknowledged, by now.
    pub(super) fn acks(&self) -> usize {
        self.machine.acks().len()
    }

    /// Does what the machine wants, until it waits; gives the outcome when it is told.
    pub(super) fn drain(&mut self) -> Option<Outcome> {
        let mut told = None;
        loop {
            let kept = &self.job.kept;
            let output = self.machine.poll(&mut kept.clock().borrow_mut(), kept.unix_ms());
            match output {
                None => return told,
                Some(Output::CheckLease) => self.check_lease(),
                Some(Output::Done(outcome)) => {
                    // What goes on is late, and counts in nobody's answer.
                    self.held = None;
                    told = Some(outcome);
                }
                Some(output) => self.carry_out(output),
            }
        }
    }

    /// Rule 5 of the leases. While a body passes through, the operation is not pinned.
    fn check_lease(&mut self) {
        let (kept, pool) = (&self.job.kept, self.job.pool());
        let held = match self.held.take() {
            Some(held) => kept.check(&held).map(|()| held),
            None => kept.hold(&pool.agreed.name, pool.agreed.epoch),
        };
        let Ok(held) = held else {
            self.machine.lease_lost();
            return;
        };
        let passes = matches!(self.job.content, Content::Passing { .. });
        if self.has_begun || !passes {
            self.held = Some(held);
        }
        self.has_begun = true;
        self.machine.lease_held();
    }

    fn carry_out(&mut self, output: Output) {
        let job = &self.job;
        match output {
            Output::Stage { to } => {
                to.iter().for_each(|at| self.exchanges.begin(at, Rc::clone(job).stage(at)));
            }
            Output::Ask { to } => {
                to.iter().for_each(|at| self.exchanges.begin(at, Rc::clone(job).look_before(at)));
            }
            Output::Commit { version, to } => {
                self.until_ms = job.means.timers.now_ms() + ROUND_MS;
                for at in to.iter() {
                    self.exchanges.begin(at, Rc::clone(job).commit(at, version));
                }
            }
            Output::Put { version, to } => {
                to.iter().for_each(|at| self.exchanges.begin(at, Rc::clone(job).put(at, version)));
            }
            Output::Remove { version, to } => {
                self.until_ms = job.means.timers.now_ms() + ROUND_MS;
                for at in to.iter() {
                    self.exchanges.begin(at, Rc::clone(job).remove(at, version));
                }
            }
            Output::Copy { version, to, from } => {
                self.exchanges.begin(to, Rc::clone(job).copy(to, from, version));
            }
            Output::Hint { version, replica } => {
                job.hint(self.hints.as_ref(), replica, version);
            }
            Output::Abort { to } => {
                for at in to.iter() {
                    self.exchanges.give_up(at);
                    self.exchanges.begin(at, Rc::clone(job).abort(at));
                }
            }
            Output::CheckLease | Output::Done(_) => unreachable!("they are answered before"),
        }
    }

    /// Puts what happened to the machine.
    pub(super) fn take(&mut self, event: Event) {
        let machine = &mut self.machine;
        match event {
            Event::Reply(place, Reply::Staged(Ok(newest))) => machine.staged(place, newest),
            Event::Reply(place, Reply::Staged(Err(_))) => machine.stage_failed(place),
            Event::Reply(place, Reply::Committed(Ok(done))) => {
                let pool = self.job.pool();
                let shard = self.job.shard(&pool, place);
                // What a watermark refused for good is none.
                if done.effect != Effect::Forgotten {
                    pool.shards[shard].metrics.acks.inc(self.job.stripe);
                }
                machine.committed(place, done.effect, done.newest);
            }
            Event::Reply(place, Reply::Committed(Err(fault))) => {
                machine.commit_failed(place, fault_of(&fault));
            }
            Event::Reply(place, Reply::NotStaged) => {
                machine.commit_failed(place, Fault::NotStaged);
            }
            Event::Reply(_, Reply::Held(_) | Reply::Dropped) => {}
            Event::Fed(Ok(())) => {
                let syncing_ms = match &self.job.content {
                    Content::Passing { window, .. } => syncing(window.pushed()).as_millis(),
                    Content::None | Content::Held(_) => 0,
                };
                let syncing_ms = u64::try_from(syncing_ms).unwrap_or(u64::MAX);
                let round_ms = ROUND_MS.saturating_add(syncing_ms);
                self.until_ms = self.job.means.timers.now_ms().saturating_add(round_ms);
            }
            Event::Fed(Err(_)) => {
                machine.cancel();
                self.break_off();
            }
            Event::Behind(places) => {
                for place in places.iter() {
                    // A store takes nothing in of a body that breaks off.
                    self.end_upload(place, Fault::NotDone);
                }
                self.job.pool().metrics.kept.left_behind.inc(self.job.stripe);
            }
            Event::Late => machine.time_is_up(),
        }
    }

    /// Ends an upload in its middle: the store sees a cut.
    fn end_upload(&mut self, place: usize, fault: Fault) {
        self.exchanges.give_up(place);
        match self.level {
            Level::One => self.machine.commit_failed(place, fault),
            Level::Quorum | Level::All => self.machine.stage_failed(place),
        }
    }

    /// Whether the client's body is still to come, or broke off.
    fn lacks_body(&self) -> bool {
        matches!(&self.job.content, Content::Passing { window, .. } if !window.is_ended())
    }

    /// Ends all uploads of a body whose rest will never come. They would wait for it with a connection
    /// and a place among the shard's requests each.
    fn break_off(&mut self) {
        let job = Rc::clone(&self.job);
        let Content::Passing { window, .. } = &job.content else { return };
        let ended = window.under_way();
        window.leave_behind(ended);
        // All that was told may have been sent, and only its end be missing.
        ended.iter().for_each(|place| self.end_upload(place, Fault::Unknown));
    }

    /// Polls what is under way with the replicas.
    pub(super) fn poll_exchanges(&mut self, cx: &mut Context<'_>) -> Poll<(usize, Reply)> {
        self.exchanges.poll_next(cx)
    }

    /// Whether anything is still to come.
    pub(super) fn is_under_way(&self) -> bool {
        !self.exchanges.is_empty()
    }

    /// Waits for nobody any more: who is late gets a hint.
    pub(super) fn end(&mut self) {
        self.machine.time_is_up();
        let _told = self.drain();
    }

    /// Waits for whatever comes next.
    fn poll<F: Future<Output = Result<(), BodyError>>>(
        &mut self,
        cx: &mut Context<'_>,
        timer: &Timer,
        feed: &mut Option<Pin<&mut F>>,
    ) -> Poll<Event> {
        let job = Rc::clone(&self.job);
        let window = match &job.content {
            Content::Passing { window, .. } => Some(window),
            Content::None | Content::Held(_) => None,
        };
        let moves = || window.map_or(0, Window::moves);
        loop {
            let before = moves();
            if let Poll::Ready((place, reply)) = self.exchanges.poll_next(cx) {
                return Poll::Ready(Event::Reply(place, reply));
            }
            if let Some(feeding) = feed
                && let Poll::Ready(fed) = feeding.as_mut().poll(cx)
            {
                *feed = None;
                return Poll::Ready(Event::Fed(fed));
            }
            // Who waited for the other side is asked again.
            if moves() == before {
                break;
            }
        }
        if let Some(behind) = window.and_then(|window| self.poll_lag(cx, timer, window)) {
            return Poll::Ready(Event::Behind(behind));
        }
        match self.until_ms {
            u64::MAX => Poll::Pending,
            until_ms if timer.poll_expired(cx, until_ms) => Poll::Ready(Event::Late),
            _ => Poll::Pending,
        }
    }

    /// Those that have held the others up for too long.
    fn poll_lag(&mut self, cx: &Context<'_>, timer: &Timer, window: &Window) -> Option<Set> {
        let now_ms = timer.timers().now_ms();
        let enough = needed(self.level, self.replicas);
        let behind = window.behind();
        let holds_up = !window.has_room() && !behind.is_empty() && window.ahead().len() >= enough;
        if !holds_up {
            if let Some(since_ms) = self.lag_since_ms.take() {
                self.lag_ms += now_ms - since_ms;
            }
            return None;
        }
        let since_ms = *self.lag_since_ms.get_or_insert(now_ms);
        let allowed_ms = LAG_MS.max((since_ms - self.begun_ms) / LAG_PART);
        let left_ms = allowed_ms.saturating_sub(self.lag_ms);
        if !timer.poll_expired(cx, since_ms + left_ms) {
            return None;
        }
        self.lag_since_ms = None;
        window.leave_behind(behind);
        Some(behind)
    }
}

/// What a fault of the second round means.
fn fault_of(fault: &NativeFault) -> Fault {
    if fault.is_certain() { Fault::NotDone } else { Fault::Unknown }
}

/// A write whose client may be gone at any moment: what is under way then goes on without.
pub(super) struct Guard {
    /// `None` only while it is dropped.
    writing: Option<Writing>,
    tails: Rc<Tails>,
}

impl Guard {
    pub(super) fn new(writing: Writing, tails: &Rc<Tails>) -> Self {
        Self { writing: Some(writing), tails: Rc::clone(tails) }
    }

    fn writing(&mut self) -> &mut Writing {
        self.writing.as_mut().expect("it is there until the guard is dropped")
    }

    /// Carries the write out, until its outcome is known. What is under way then goes on.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn run<B: Body>(
        mut self,
        timer: &Timer,
        body: &mut B,
        note: &mut Note,
    ) -> Result<(Version, usize), Failure> {
        let job = Rc::clone(&self.writing().job);
        let mut feeding = pin!(async {
            match &job.content {
                Content::Passing { window, by_pipe, .. } => {
                    if feed(body, window, by_pipe.as_ref(), timer).await? {
                        job.pool().metrics.pipe_overflow.inc(job.stripe);
                    }
                    Ok(())
                }
                Content::None | Content::Held(_) => std::future::pending().await,
            }
        });
        let passes = matches!(job.content, Content::Passing { .. });
        let mut feed = passes.then_some(feeding.as_mut());
        let mut broke_off = None;
        let writing = self.writing();
        let outcome = loop {
            if let Some(outcome) = writing.drain() {
                break outcome;
            }
            let mut event = poll_fn(|cx| writing.poll(cx, timer, &mut feed)).await;
            if let Event::Fed(fed) = &mut event
                && fed.is_err()
            {
                broke_off = std::mem::replace(fed, Err(BodyError::Gone)).err();
            }
            writing.take(event);
        };
        let acks = writing.acks();
        note.reached(acks, writing.machine.version());
        let refused = job.refused.get();
        Err(Failure::Kept(match (outcome, broke_off) {
            (Outcome::Acknowledged { version, .. }, _) => return Ok((version, acks)),
            (Outcome::NotApplied(_), Some(error)) => KeptFailure::Body(error),
            (Outcome::NotApplied(reason), None) => KeptFailure::NotApplied(reason, refused),
            (Outcome::Unknown(reason), _) => KeptFailure::Unknown(reason),
        }))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(mut writing) = self.writing.take() else { return };
        let lacks_body = writing.lacks_body();
        if writing.machine.outcome().is_none()
            && (lacks_body || writing.machine.version().is_none())
        {
            // The client left before anything was decided: nobody is to wait for its body. At `one`
            // there is a version from the beginning.
            writing.machine.cancel();
            if lacks_body {
                writing.break_off();
            }
            writing.machine.time_is_up();
            let _told = writing.drain();
        }
        if writing.is_under_way() {
            go_on_writing(&self.tails, writing);
        }
    }
}

/// Takes the client's body in, as far as there is room. Tells whether some of it was copied for want
/// of pipes.
async fn feed<B: Body>(
    body: &mut B,
    window: &Window,
    by_pipe: Option<&ByPipe>,
    timer: &Timer,
) -> Result<bool, BodyError> {
    body.ask().await?;
    let (mut turn, mut has_overflowed) = (Turn::default(), false);
    let mut copied_to = 0;
    loop {
        poll_fn(|_| if window.has_room() { Poll::Ready(()) } else { Poll::Pending }).await;
        if let Some(ByPipe { narrow, wide }) = by_pipe
            && window.pushed() >= copied_to
        {
            match body.next_piped(narrow).await? {
                // What a slow client has just sent is little, and a few such loads would fill the
                // window long before its bytes do.
                Passage::Piped(load) if load.held() < LOAD_BYTES_MIN => {
                    let length = load.held();
                    window.push(&load.into_bytes().map_err(|_| BodyError::Gone)?);
                    turn.moved(length).await;
                    continue;
                }
                Passage::Piped(load) => {
                    let length = load.held();
                    let pushed = window.push_load(load, wide, timer.timers().now_ms());
                    if let Err(load) = pushed {
                        has_overflowed = true;
                        copied_to = window.pushed() + COPIED_BYTES;
                        window.push(&load.into_bytes().map_err(|_| BodyError::Gone)?);
                    }
                    turn.moved(length).await;
                    continue;
                }
                Passage::NoPipe => has_overflowed = true,
                Passage::Copied => {}
            }
        }
        match body.next().await? {
            Part::Data(bytes) => {
                let length = bytes.len();
                window.push(bytes);
                turn.moved(length).await;
            }
            Part::End(_) => {
                window.end();
                return Ok(has_overflowed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::dispatch::kept::window::Passing;
    use crate::net::splice::{Pipes, Spliced};
    use crate::net::timers::Timers;
    use crate::net::wire::{Pace, Wire};

    /// What a slow client's socket holds at one moment.
    const LITTLE_BYTES: u64 = 1024;

    /// A body that comes in by pipe, a little at a time.
    struct Slow {
        wire: Wire<TcpStream>,
        timer: Timer,
        left: u64,
        loads: usize,
    }

    impl Body for Slow {
        async fn next(&mut self) -> Result<Part<'_>, BodyError> {
            assert_eq!(self.left, 0, "all of it comes by pipe");
            Ok(Part::End(b""))
        }

        async fn next_piped(&mut self, pipes: &Pipes) -> Result<Passage, BodyError> {
            let due = self.left.min(LITTLE_BYTES);
            if due == 0 {
                return Ok(Passage::Copied);
            }
            let mut pace = Pace::until(u64::MAX);
            match self.wire.splice_in(&self.timer, pipes, due, &mut pace).await {
                Ok(Spliced::Piped(load)) => {
                    self.left -= load.held() as u64;
                    self.loads += 1;
                    Ok(Passage::Piped(load))
                }
                Ok(Spliced::Ended | Spliced::NoPipe) | Err(_) => panic!("it is all there"),
            }
        }

        async fn ask(&mut self) -> Result<(), BodyError> {
            Ok(())
        }

        fn has_more_here(&self) -> bool {
            self.left > 0
        }

        fn is_complete(&self) -> bool {
            self.left == 0
        }
    }

    /// What a slow client had just sent was a load, however little it was, and three loads filled the
    /// window: a store that stood still for a second was left behind by a few kilobytes.
    #[tokio::test]
    async fn little_loads_fill_no_window_whose_uploads_stand_still() {
        let bytes: Vec<u8> = (0..200_u64 * LITTLE_BYTES).map(|at| at.to_le_bytes()[1]).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it");
        let (inlet, _) = listener.accept().await.expect("it comes");
        let sent = bytes.clone();
        let sending = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut client, &sent).await.expect("it is read");
            client
        });
        let timers = Timers::new(Instant::now());
        let (timer, left) = (timers.register(), bytes.len() as u64);
        let mut body = Slow { wire: Wire::new(inlet), timer: timers.register(), left, loads: 0 };
        let by_pipe = ByPipe { narrow: Pipes::narrow(1), wide: Pipes::new(8) };
        let window = Window::new(Set::first(2));
        // Nobody takes anything out of it meanwhile.
        let fed = feed(&mut body, &window, Some(&by_pipe), &timer);
        let fed = tokio::time::timeout(Duration::from_secs(60), fed).await;
        assert!(!fed.expect("there is room").expect("all of it came"), "and pipes enough");
        assert!(body.loads >= 200 && window.has_room(), "{}", body.loads);
        for place in 0..2 {
            let mut got = Vec::new();
            while let Poll::Ready(Ok(piece)) = window.poll_next(place) {
                let Passing::Copied(piece) = piece else { panic!("a pipe for {}", body.loads) };
                got.extend_from_slice(&piece);
            }
            assert!(got == bytes, "{place}: {} bytes", got.len());
        }
        drop(sending.await.expect("it sent all"));
    }
}
