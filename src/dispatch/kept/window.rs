//! How does one body go out by several uploads, in bounded memory?
//!
//! What the client sends is kept until each upload has it, and at most [`WINDOW_BYTES`] of it: then
//! the client is not read any further. So the slowest upload sets the pace. One that would hold up
//! a write whose level the others can reach is *left behind*: its upload ends, and the others go on.
//!
//! Pieces are copied bytes, or *loads* that stand in a pipe of each upload
//! ([`Lane`]) and that this process never touches; both in any order.
//!
//! Everything here is polled by one task, which polls the other side again after one has moved
//! ([`Window::moves`]); nobody is woken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Poll;

use crate::net::splice::{LOADS_MAX, Lane, Pipe, Pipes, spread};
use crate::protocol::quorum::Set;

/// The most that is kept of one body, whatever its size: some hundred uploads at once fit into the
/// memory of a small machine, and a disk's hiccup of a few milliseconds holds nobody up.
const WINDOW_BYTES: usize = 1024 * 1024;

/// The size of a piece: what is gathered into one before the next is begun. One write call each.
const PIECE_BYTES: usize = 128 * 1024;

/// The part of a body that not every upload has yet.
pub(super) struct Window {
    inner: RefCell<Inner>,
    moves: Cell<u64>,
}

struct Inner {
    pieces: VecDeque<Piece>,
    /// The number of the first of them.
    first: u64,
    bytes: usize,
    /// What the client has sent by now.
    pushed: u64,
    /// How many of them are loads.
    loads: usize,
    is_ended: bool,
    /// What each upload takes next, by its place; `None` for one that is over, or left behind.
    next: Vec<Option<u64>>,
    /// The loads of each upload, those that it is sending included.
    lanes: Vec<Rc<Lane>>,
}

enum Piece {
    Copied(Rc<Vec<u8>>),
    /// So many bytes in each lane.
    Load(usize),
}

/// What an upload sends next.
#[derive(Clone)]
pub(super) enum Passing {
    /// Bytes.
    Copied(Rc<Vec<u8>>),
    /// So many bytes of its lane.
    Load(Rc<Lane>, usize),
}

/// Why there is no further piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPiece {
    /// The body is complete.
    End,
    /// The others are too far ahead.
    LeftBehind,
}

impl Window {
    /// Nothing yet, for uploads to these places.
    pub(super) fn new(to: Set) -> Self {
        let places = to.iter().max().map_or(0, |last| last + 1);
        let next = (0..places).map(|place| to.contains(place).then_some(0)).collect();
        let inner = Inner {
            pieces: VecDeque::new(),
            first: 0,
            bytes: 0,
            pushed: 0,
            loads: 0,
            is_ended: false,
            next,
            lanes: (0..places).map(|_| Rc::default()).collect(),
        };
        Self { inner: RefCell::new(inner), moves: Cell::new(0) }
    }

    /// Counts whatever makes it worth polling the other side again.
    pub(super) fn moves(&self) -> u64 {
        self.moves.get()
    }

    fn moved(&self) {
        self.moves.set(self.moves.get() + 1);
    }

    /// Whether more may be read of the client.
    pub(super) fn has_room(&self) -> bool {
        let inner = self.inner.borrow();
        // An upload may be sending one more, which counts here no longer.
        inner.bytes < WINDOW_BYTES && inner.loads < LOADS_MAX - 1
    }

    /// Adds what the client has sent.
    pub(super) fn push(&self, mut bytes: &[u8]) {
        let inner = &mut *self.inner.borrow_mut();
        inner.bytes += bytes.len();
        inner.pushed += bytes.len() as u64;
        // The last piece is added to as long as no upload has taken it: one that has, and is through
        // with it, would miss what came later.
        let end = inner.first + inner.pieces.len() as u64;
        let is_taken = inner.next.iter().flatten().any(|next| *next >= end);
        if let Some(Piece::Copied(last)) = inner.pieces.back_mut()
            && let Some(last) = Rc::get_mut(last)
            && !is_taken
        {
            let room = PIECE_BYTES.saturating_sub(last.len()).min(bytes.len());
            last.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
        }
        for piece in bytes.chunks(PIECE_BYTES) {
            let mut whole = Vec::with_capacity(PIECE_BYTES.min(piece.len().next_power_of_two()));
            whole.extend_from_slice(piece);
            inner.pieces.push_back(Piece::Copied(Rc::new(whole)));
        }
        inner.let_go();
        self.moved();
    }

    /// Bytes that the client has sent by now.
    pub(super) fn pushed(&self) -> u64 {
        self.inner.borrow().pushed
    }

    /// Adds what the client has sent and a narrow pipe holds, where [there is
    /// room](Self::has_room). The pipe comes back if there are not enough for all uploads; what it
    /// holds is to be copied then.
    pub(super) fn push_load(&self, load: Pipe, pipes: &Pipes, now_ms: u64) -> Result<(), Pipe> {
        let inner = &mut *self.inner.borrow_mut();
        let bytes = load.held();
        let live = inner.next.iter().zip(&inner.lanes);
        let live: Vec<&Lane> =
            live.filter(|(next, _)| next.is_some()).map(|(_, lane)| &**lane).collect();
        let torn = spread(load, pipes, now_ms, &live)?;
        let is_torn = |lane: &Lane| torn.iter().any(|torn| std::ptr::eq(*torn, lane));
        for (next, lane) in inner.next.iter_mut().zip(&inner.lanes) {
            if is_torn(lane) {
                *next = None;
            }
        }
        inner.pieces.push_back(Piece::Load(bytes));
        inner.bytes += bytes;
        inner.pushed += bytes as u64;
        inner.loads += 1;
        inner.let_go();
        self.moved();
        Ok(())
    }

    /// The client has sent all.
    pub(super) fn end(&self) {
        self.inner.borrow_mut().is_ended = true;
        self.moved();
    }

    /// Whether an upload to this place may begin: nothing of the body was taken for it. What was is
    /// gone, so that a second try would send the rest of the body as the whole.
    pub(super) fn is_whole_for(&self, place: usize) -> bool {
        self.inner.borrow().next.get(place) == Some(&Some(0))
    }

    /// The next piece for an upload, which has sent those before. Pending until the client has sent
    /// more.
    pub(super) fn poll_next(&self, place: usize) -> Poll<Result<Passing, NoPiece>> {
        let inner = &mut *self.inner.borrow_mut();
        let Some(Some(next)) = inner.next.get(place).copied() else {
            return Poll::Ready(Err(NoPiece::LeftBehind));
        };
        let at = usize::try_from(next - inner.first).expect("a window is small");
        let piece = match inner.pieces.get(at) {
            Some(Piece::Copied(bytes)) => Passing::Copied(Rc::clone(bytes)),
            Some(Piece::Load(bytes)) => Passing::Load(Rc::clone(&inner.lanes[place]), *bytes),
            None if inner.is_ended => return Poll::Ready(Err(NoPiece::End)),
            None => return Poll::Pending,
        };
        inner.next[place] = Some(next + 1);
        inner.let_go();
        self.moved();
        Poll::Ready(Ok(piece))
    }

    /// Ends an upload: it failed, or has all.
    pub(super) fn leave(&self, place: usize) {
        let inner = &mut *self.inner.borrow_mut();
        if let Some(next) = inner.next.get_mut(place) {
            *next = None;
            inner.lanes[place].clear();
            inner.let_go();
            self.moved();
        }
    }

    /// Those that have taken all that there is.
    pub(super) fn ahead(&self) -> Set {
        let inner = self.inner.borrow();
        let end = inner.first + inner.pieces.len() as u64;
        let places = inner.next.iter().enumerate();
        places.filter(|(_, next)| **next == Some(end)).map(|(place, _)| place).collect()
    }

    /// Those that have not.
    pub(super) fn behind(&self) -> Set {
        let inner = self.inner.borrow();
        let end = inner.first + inner.pieces.len() as u64;
        let places = inner.next.iter().enumerate();
        let is_behind = |next: Option<u64>| next.is_some_and(|next| next < end);
        places.filter(|(_, next)| is_behind(**next)).map(|(place, _)| place).collect()
    }

    /// Whether the client has sent all.
    pub(super) fn is_ended(&self) -> bool {
        self.inner.borrow().is_ended
    }

    /// The uploads that have begun or may begin, and are not over.
    pub(super) fn under_way(&self) -> Set {
        let inner = self.inner.borrow();
        let places = inner.next.iter().enumerate();
        places.filter(|(_, next)| next.is_some()).map(|(place, _)| place).collect()
    }

    /// Nobody is waited for who has not taken all that there is.
    pub(super) fn leave_behind(&self, places: Set) {
        places.iter().for_each(|place| self.leave(place));
    }
}

impl Inner {
    /// Drops the pieces that every upload has.
    fn let_go(&mut self) {
        let end = self.first + self.pieces.len() as u64;
        let least = self.next.iter().flatten().copied().min().unwrap_or(end);
        while self.first < least {
            match self.pieces.pop_front().expect("it lies before the end") {
                Piece::Copied(bytes) => self.bytes -= bytes.len(),
                Piece::Load(bytes) => {
                    self.bytes -= bytes;
                    self.loads -= 1;
                }
            }
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(window: &Window, place: usize) -> Option<Vec<u8>> {
        match window.poll_next(place) {
            Poll::Ready(Ok(Passing::Copied(bytes))) => Some(bytes.to_vec()),
            Poll::Ready(Ok(Passing::Load(..))) => panic!("no loads here"),
            Poll::Ready(Err(none)) => panic!("{none:?}"),
            Poll::Pending => None,
        }
    }

    #[test]
    fn each_upload_gets_every_byte_and_the_window_forgets_what_all_have() {
        let window = Window::new([0, 2].into_iter().collect());
        window.push(b"ab");
        window.push(b"cd");
        assert!(window.is_whole_for(0) && !window.is_whole_for(1));
        assert_eq!(next(&window, 0).as_deref(), Some(&b"abcd"[..]));
        assert!(!window.is_whole_for(0) && window.is_whole_for(2));
        assert_eq!(next(&window, 0), None);
        // The piece is being sent: it is not added to.
        window.push(b"ef");
        assert_eq!(next(&window, 2).as_deref(), Some(&b"abcd"[..]));
        assert_eq!(next(&window, 2).as_deref(), Some(&b"ef"[..]));
        assert_eq!(window.inner.borrow().bytes, 2);
        assert_eq!((window.ahead(), window.behind()), (Set::only(2), Set::only(0)));
        window.end();
        let none = |place| match window.poll_next(place) {
            Poll::Ready(Err(none)) => Some(none),
            _ => None,
        };
        assert_eq!((window.pushed(), none(2)), (6, Some(NoPiece::End)));
        assert_eq!(next(&window, 0).as_deref(), Some(&b"ef"[..]));
        assert_eq!((none(0), none(1)), (Some(NoPiece::End), Some(NoPiece::LeftBehind)));
    }

    #[test]
    fn a_window_is_full_until_the_slowest_is_served_or_left_behind() {
        let window = Window::new(Set::first(2));
        let piece = vec![7; 300_000];
        let mut pushed = 0;
        while window.has_room() {
            window.push(&piece);
            pushed += piece.len();
            while next(&window, 0).is_some() {}
        }
        assert!((WINDOW_BYTES..WINDOW_BYTES + piece.len()).contains(&pushed));
        assert_eq!(window.behind(), Set::only(1));
        let moves = window.moves();
        window.leave_behind(window.behind());
        assert!(window.has_room() && window.moves() > moves);
        assert!(matches!(window.poll_next(1), Poll::Ready(Err(NoPiece::LeftBehind))));
        assert_eq!(window.inner.borrow().bytes, 0);
    }
}
