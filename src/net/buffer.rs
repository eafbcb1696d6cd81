//! Where do bytes stay between two system calls?
//!
//! A connection that waits for its next request holds no buffer; one that reads a head holds a
//! small one. A body holds bytes only from a read to the end of the write that passes them on, and
//! none while its source is waited for: so a few *hot* buffers, used over and over and therefore in
//! the processor's cache, serve all bodies. When all of them wait for slow readers, further bodies
//! get by with less. Buffers go back to their worker's [`Buffers`] and are used again, so that a
//! request allocates nothing once the worker is warm.

use std::cell::RefCell;
use std::rc::Rc;

use super::http1::response::ResponseHead;

/// The size that reading begins with: nearly every head, with a small body behind it.
pub const SMALL_BYTES: usize = 8 * 1024;

/// The size for bodies: large enough that system calls do not count, and small enough for the
/// cache next to the core.
const HOT_BYTES: usize = 256 * 1024;

/// Hot buffers in use at once. A body whose reader is slow keeps its buffer meanwhile.
const HOT_LENT_MAX: usize = 8;

/// Free hot buffers kept. The one given back last is the first to be used again, so that only as
/// many are touched as are needed at once.
const HOT_KEPT_MAX: usize = 2;

/// The size for bodies beyond those: the most that a slow reader costs, per direction.
const LARGE_BYTES: usize = 32 * 1024;

/// Free small buffers and vectors kept: what some hundred requests in flight need. More go back to
/// the allocator, so that a burst of connections does not hold its memory for ever.
const SMALL_KEPT_MAX: usize = 256;

/// Free large buffers kept.
const LARGE_KEPT_MAX: usize = 32;

/// Free vectors kept: a request in flight has up to three.
const TEXT_KEPT_MAX: usize = 512;

/// Free heads kept: what some hundred requests in flight need.
const HEADS_KEPT_MAX: usize = 256;

#[derive(Default)]
struct Free {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    hot: Vec<Box<[u8]>>,
    hot_lent: usize,
    text: Vec<Vec<u8>>,
    heads: Vec<ResponseHead>,
}

/// One worker's free buffers.
#[derive(Clone, Default)]
pub struct Buffers {
    free: Rc<RefCell<Free>>,
}

impl Buffers {
    /// No buffers yet; they are made when first asked for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer of [`SMALL_BYTES`].
    #[must_use]
    pub fn small(&self) -> ReadBuffer {
        let bytes = self.free.borrow_mut().small.pop();
        let bytes = bytes.unwrap_or_else(|| vec![0; SMALL_BYTES].into_boxed_slice());
        ReadBuffer { bytes, start: 0, end: 0, is_hot: false, home: self.clone() }
    }

    /// Bytes for a body of which `due` bytes are still to come, and whether they are hot.
    fn body_bytes(&self, due: u64) -> (Box<[u8]>, bool) {
        let free = &mut *self.free.borrow_mut();
        let is_hot = due > LARGE_BYTES as u64 && free.hot_lent < HOT_LENT_MAX;
        let (shelf, size) = if due <= SMALL_BYTES as u64 {
            (&mut free.small, SMALL_BYTES)
        } else if is_hot {
            free.hot_lent += 1;
            (&mut free.hot, HOT_BYTES)
        } else {
            (&mut free.large, LARGE_BYTES)
        };
        (shelf.pop().unwrap_or_else(|| vec![0; size].into_boxed_slice()), is_hot)
    }

    /// An empty vector to write a head into.
    #[must_use]
    pub fn text(&self) -> TextBuffer {
        let text = self.free.borrow_mut().text.pop().unwrap_or_else(|| Vec::with_capacity(2048));
        TextBuffer { text, home: self.clone() }
    }

    /// A head to parse into: one that was, for its vector.
    #[must_use]
    pub fn head(&self) -> ResponseHead {
        self.free.borrow_mut().heads.pop().unwrap_or_default()
    }

    /// Takes a head back.
    pub fn keep_head(&self, head: ResponseHead) {
        let heads = &mut self.free.borrow_mut().heads;
        if heads.len() < HEADS_KEPT_MAX {
            heads.push(head);
        }
    }

    fn take_back(&self, bytes: Box<[u8]>, is_hot: bool) {
        let free = &mut *self.free.borrow_mut();
        let (shelf, kept_max) = match bytes.len() {
            _ if is_hot => {
                free.hot_lent -= 1;
                (&mut free.hot, HOT_KEPT_MAX)
            }
            SMALL_BYTES => (&mut free.small, SMALL_KEPT_MAX),
            LARGE_BYTES => (&mut free.large, LARGE_KEPT_MAX),
            // Nothing was lent, or a head outgrew its buffer: rare, not kept.
            _ => return,
        };
        if shelf.len() < kept_max {
            shelf.push(bytes);
        }
    }
}

/// A vector on loan from its worker.
pub struct TextBuffer {
    text: Vec<u8>,
    home: Buffers,
}

impl std::ops::Deref for TextBuffer {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.text
    }
}

impl std::ops::DerefMut for TextBuffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }
}

impl Drop for TextBuffer {
    fn drop(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        let mut free = self.home.free.borrow_mut();
        if free.text.len() < TEXT_KEPT_MAX && text.capacity() <= SMALL_BYTES {
            text.clear();
            free.text.push(text);
        }
    }
}

/// Bytes that were read and not yet used, with room behind them.
///
/// Always `start <= end <= bytes.len()`; what was read stands in `start..end`.
pub struct ReadBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// Whether `bytes` are among the few that are hot.
    is_hot: bool,
    home: Buffers,
}

impl ReadBuffer {
    /// What was read and not yet used.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether nothing is left to use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Marks the first `n` bytes as used.
    ///
    /// # Panics
    /// When fewer than `n` bytes are there.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.end - self.start, "only what was read can be used");
        self.start += n;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The room to read into. Empty when the buffer is full: then [`grow`](Self::grow).
    pub fn room(&mut self) -> &mut [u8] {
        if self.start > 0 && self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// Marks the first `n` bytes of the room as read.
    ///
    /// # Panics
    /// When the room is smaller.
    pub fn fill(&mut self, n: usize) {
        assert!(n <= self.bytes.len() - self.end, "only the room can be filled");
        self.end += n;
    }

    /// How many bytes the buffer can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Doubles a small buffer's size, up to `bytes_max`; returns whether there is more room now.
    pub fn grow(&mut self, bytes_max: usize) -> bool {
        let size = (self.bytes.len() * 2).max(SMALL_BYTES).min(bytes_max);
        if size <= self.bytes.len() {
            return false;
        }
        self.replace((vec![0; size].into_boxed_slice(), false));
        true
    }

    /// Gives a buffer that gathers what is to be sent the room of a body that is not hot.
    pub fn enlarge(&mut self) {
        if self.bytes.len() < LARGE_BYTES {
            let large = self.home.body_bytes(LARGE_BYTES as u64);
            self.replace(large);
        }
    }

    /// Gives an empty buffer room for a body of which `due` bytes are still to come. Asked before
    /// each read; costs little if it has that room already.
    pub(super) fn lend(&mut self, due: u64) {
        let enough = due.min(LARGE_BYTES as u64);
        if self.is_empty() && (self.bytes.len() as u64) < enough {
            self.release();
            (self.bytes, self.is_hot) = self.home.body_bytes(due);
        }
    }

    /// Gives the room of an empty buffer back, for others to use while nothing is there to read.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            let is_hot = std::mem::take(&mut self.is_hot);
            self.home.take_back(std::mem::take(&mut self.bytes), is_hot);
        }
    }

    /// Moves what was read into a small buffer if it fits: behind a body, the next request's head
    /// is to hold no more than any head.
    pub fn shrink(&mut self) {
        if self.bytes.len() > SMALL_BYTES && self.end - self.start <= SMALL_BYTES {
            let small = self.home.body_bytes(SMALL_BYTES as u64);
            self.replace(small);
        }
    }

    fn replace(&mut self, (mut bytes, is_hot): (Box<[u8]>, bool)) {
        let held = self.end - self.start;
        bytes[..held].copy_from_slice(&self.bytes[self.start..self.end]);
        let old = std::mem::replace(&mut self.bytes, bytes);
        let was_hot = std::mem::replace(&mut self.is_hot, is_hot);
        (self.start, self.end) = (0, held);
        self.home.take_back(old, was_hot);
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.take_back(bytes, self.is_hot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in(buffer: &mut ReadBuffer, bytes: &[u8]) {
        buffer.room()[..bytes.len()].copy_from_slice(bytes);
        buffer.fill(bytes.len());
    }

    #[test]
    fn bytes_survive_growth_and_moves() {
        let buffers = Buffers::new();
        let mut buffer = buffers.small();
        buffer.lend(u64::MAX);
        assert_eq!(buffer.capacity(), HOT_BYTES);
        read_in(&mut buffer, b"hello world");
        buffer.consume(6);
        buffer.lend(1);
        buffer.shrink();
        assert_eq!((buffer.filled(), buffer.capacity()), (&b"world"[..], SMALL_BYTES));
        buffer.enlarge();
        buffer.enlarge();
        assert_eq!((buffer.filled(), buffer.capacity()), (&b"world"[..], LARGE_BYTES));
        buffer.shrink();
        assert_eq!((buffer.filled(), buffer.capacity()), (&b"world"[..], SMALL_BYTES));
        assert!(buffer.grow(SMALL_BYTES * 2));
        assert_eq!(buffer.filled(), b"world");
        buffer.release();
        assert_eq!(buffer.filled(), b"world", "what holds bytes is not given back");
        buffer.consume(5);
        buffer.release();
        assert_eq!(buffer.capacity(), 0);
        assert!(buffer.grow(SMALL_BYTES) && buffer.room().len() == SMALL_BYTES);
    }

    #[test]
    fn slow_readers_of_many_bodies_hold_little_each() {
        let buffers = Buffers::new();
        let mut bodies: Vec<_> = (0..100).map(|_| buffers.small()).collect();
        for body in &mut bodies {
            body.lend(1_000_000);
            read_in(body, b"x");
        }
        let held: usize = bodies.iter().map(ReadBuffer::capacity).sum();
        assert_eq!(held, HOT_LENT_MAX * HOT_BYTES + (100 - HOT_LENT_MAX) * LARGE_BYTES);
        drop(bodies);
        let free = buffers.free.borrow();
        assert_eq!((free.hot_lent, free.hot.len()), (0, HOT_KEPT_MAX));
        drop(free);
        let mut next = buffers.small();
        next.lend(SMALL_BYTES as u64 + 1);
        assert_eq!(next.capacity(), LARGE_BYTES, "a body that fits into less takes less");
    }

    #[test]
    fn a_full_buffer_has_no_room_until_bytes_are_used_or_it_grows() {
        let buffers = Buffers::new();
        let mut buffer = buffers.small();
        read_in(&mut buffer, &[7; SMALL_BYTES]);
        assert!(buffer.room().is_empty());
        buffer.consume(10);
        assert_eq!(buffer.room().len(), 10);
        assert!(buffer.grow(SMALL_BYTES * 4));
        assert_eq!(buffer.filled().len(), SMALL_BYTES - 10);
        assert!(buffer.grow(SMALL_BYTES * 4) && !buffer.grow(SMALL_BYTES * 4));
    }

    #[test]
    fn buffers_are_used_again() {
        let buffers = Buffers::new();
        let first = buffers.small().bytes.as_ptr();
        assert_eq!(buffers.small().bytes.as_ptr(), first);
        drop(buffers.text());
        assert_eq!(buffers.free.borrow().text.len(), 1);
    }
}
