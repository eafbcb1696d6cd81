//! What does the task of a stream send with?
//!
//! The library has one handle until the answer's head is sent and another from then on. Body,
//! answer and whoever watches for a reset share them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Buf;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response};

use super::super::seam::Watch;
use crate::net::buffer::TextBuffer;

/// What a connection's answers hold altogether: given to the library, and not written yet.
///
/// Each stream is bounded by its own window; but a client may open a hundred of them, and take
/// nothing from its socket.
///
/// Who waits for room gets a share of it, and not all: else a hundred answers to one slow client
/// would come in turns of a window each, and the last of them wait so long that it seems to be the
/// client who takes nothing. Who comes while others wait, waits with them: else those who are called
/// by the library would take all that becomes free, and what is held would never come to the half at
/// which the others are called.
pub(super) struct Held {
    bytes: Cell<usize>,
    bytes_max: usize,
    waiting: RefCell<Vec<Waker>>,
    /// How many were told that there is room and did not take it yet.
    called: Cell<usize>,
}

/// The least share: a frame of less would cost more than it carries.
const SHARE_BYTES_MIN: usize = 4 * 1024;

impl Held {
    pub(super) fn new(bytes_max: usize) -> Rc<Self> {
        Rc::new(Self {
            bytes: Cell::new(0),
            bytes_max,
            waiting: RefCell::default(),
            called: Cell::new(0),
        })
    }

    /// How many bytes more may be held; waits for one.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let is_behind = self.called.get() == 0 && !self.waiting.borrow().is_empty();
        match self.bytes_max.saturating_sub(self.bytes.get()) {
            room if room == 0 || is_behind => {
                let mut waiting = self.waiting.borrow_mut();
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
            room => {
                let rivals = self.called.get() + self.waiting.borrow().len();
                self.called.set(self.called.get().saturating_sub(1));
                let share = (self.bytes_max / 2).checked_div(rivals);
                Poll::Ready(share.map_or(room, |share| room.min(share.max(SHARE_BYTES_MIN))))
            }
        }
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        // Not for every few bytes.
        if self.bytes.get() <= self.bytes_max / 2 {
            let mut waiting = self.waiting.borrow_mut();
            self.called.set(self.called.get() + waiting.len());
            waiting.drain(..).for_each(Waker::wake);
        }
    }
}

/// A part of a body on its way out; its buffer goes back to the worker when it was written.
pub(super) struct Piece {
    text: TextBuffer,
    at: usize,
    held: Rc<Held>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.held.give_back(self.text.len());
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.text.len() - self.at
    }

    fn chunk(&self) -> &[u8] {
        &self.text[self.at..]
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "only what is there can be written");
        self.at += count;
    }
}

/// Both handles of a stream's sending half.
pub(super) struct Sender {
    respond: SendResponse<Piece>,
    stream: Option<SendStream<Piece>>,
    held: Rc<Held>,
}

impl Sender {
    pub(super) fn new(respond: SendResponse<Piece>, held: &Rc<Held>) -> RefCell<Self> {
        RefCell::new(Self { respond, stream: None, held: Rc::clone(held) })
    }

    /// Whether the final answer was begun.
    pub(super) fn has_begun(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn interim(&mut self, response: Response<()>) -> Result<(), h2::Error> {
        self.respond.send_informational(response)
    }

    /// Begins the final answer, `end`: and ends it.
    pub(super) fn head(&mut self, response: Response<()>, end: bool) -> Result<(), h2::Error> {
        self.stream = Some(self.respond.send_response(response, end)?);
        Ok(())
    }

    fn stream(&mut self) -> &mut SendStream<Piece> {
        self.stream.as_mut().expect("a body follows its head")
    }

    /// How many of `wanted` bytes may be sent now; waits until there is one.
    pub(super) fn poll_capacity(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Result<usize, h2::Error>> {
        let room = std::task::ready!(self.held.poll_room(cx));
        let wanted = wanted.min(room);
        let stream = self.stream();
        stream.reserve_capacity(wanted);
        loop {
            match stream.capacity() {
                0 => {}
                capacity => return Poll::Ready(Ok(capacity.min(wanted))),
            }
            match std::task::ready!(stream.poll_capacity(cx)) {
                // Told of a change that left nothing: asked again.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(Reason::CANCEL.into())),
            }
        }
    }

    /// Sends bytes that there is capacity for.
    pub(super) fn data(&mut self, text: TextBuffer, end: bool) -> Result<(), h2::Error> {
        self.held.bytes.set(self.held.bytes.get() + text.len());
        let piece = Piece { text, at: 0, held: Rc::clone(&self.held) };
        self.stream().send_data(piece, end)
    }

    pub(super) fn trailers(&mut self, trailers: HeaderMap) -> Result<(), h2::Error> {
        self.stream().send_trailers(trailers)
    }

    /// Ends the stream in a way that nobody takes for an end of the answer.
    pub(super) fn reset(&mut self, reason: Reason) {
        match &mut self.stream {
            Some(stream) => stream.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}

impl Watch for &RefCell<Sender> {
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sender = self.borrow_mut();
        let sender = &mut *sender;
        let reset = match &mut sender.stream {
            Some(stream) => stream.poll_reset(cx),
            None => sender.respond.poll_reset(cx),
        };
        reset.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One took all the room there was, and the hundredth waited until 99 had had a window each.
    #[test]
    fn whoever_waits_for_room_gets_a_share_of_it() {
        let held = Held::new(1024 * 1024);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(held.poll_room(&mut cx), Poll::Ready(1024 * 1024), "nobody waits");
        held.bytes.set(1024 * 1024);
        // Wakers that are all the same count once.
        assert_eq!(held.poll_room(&mut cx), Poll::Pending);
        let others = (0..63).map(|_| Waker::from(std::sync::Arc::new(Nobody)));
        held.waiting.borrow_mut().extend(others);
        held.give_back(600 * 1024);
        held.give_back(100);
        for called in (1..=64).rev() {
            let share = (512 * 1024 / called).min(600 * 1024 + 100);
            assert_eq!(held.poll_room(&mut cx), Poll::Ready(share), "there are {called} of them");
        }
        assert_eq!(held.poll_room(&mut cx), Poll::Ready(600 * 1024 + 100), "and now none");
    }

    /// Some refilled what the client took, and others waited for a half that never came.
    #[test]
    fn whoever_comes_while_others_wait_waits_with_them() {
        let held = Held::new(1024 * 1024);
        let mut cx = Context::from_waker(Waker::noop());
        held.bytes.set(1024 * 1024);
        held.waiting.borrow_mut().push(Waker::from(std::sync::Arc::new(Nobody)));
        held.give_back(200 * 1024);
        assert_eq!(held.poll_room(&mut cx), Poll::Pending, "there is room, and another waits");
        held.give_back(400 * 1024);
        assert_eq!(held.called.get(), 2);
        for _ in 0..2 {
            assert!(held.poll_room(&mut cx).is_ready());
        }
        assert_eq!(held.poll_room(&mut cx), Poll::Ready(600 * 1024), "nobody waits");
    }

    struct Nobody;

    impl std::task::Wake for Nobody {
        fn wake(self: std::sync::Arc<Self>) {}
    }
}
