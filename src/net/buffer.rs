//! Where do bytes stay between two system calls?
//!
//! A connection that waits for its next request holds no buffer; one that reads a head holds a
//! small one; only a body that is under way holds a large one. Buffers go back to their worker's
//! [`Buffers`] and are used again, so that a request allocates nothing once the worker is warm.

use std::cell::RefCell;
use std::rc::Rc;

/// The size that reading begins with: nearly every head, with a small body behind it.
pub const SMALL_BYTES: usize = 8 * 1024;

/// The size for bodies. The most of a stream that is ever held, per direction.
pub const LARGE_BYTES: usize = 64 * 1024;

/// Free small buffers and vectors kept: what some hundred requests in flight need. More go back to
/// the allocator, so that a burst of connections does not hold its memory for ever.
const SMALL_KEPT_MAX: usize = 256;

/// Free large buffers kept.
const LARGE_KEPT_MAX: usize = 32;

/// Free vectors kept: a request in flight has up to three.
const TEXT_KEPT_MAX: usize = 512;

#[derive(Default)]
struct Free {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    text: Vec<Vec<u8>>,
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
        ReadBuffer { bytes, start: 0, end: 0, home: self.clone() }
    }

    fn large_bytes(&self) -> Box<[u8]> {
        let bytes = self.free.borrow_mut().large.pop();
        bytes.unwrap_or_else(|| vec![0; LARGE_BYTES].into_boxed_slice())
    }

    /// An empty vector to write a head into.
    #[must_use]
    pub fn text(&self) -> TextBuffer {
        let text = self.free.borrow_mut().text.pop().unwrap_or_else(|| Vec::with_capacity(2048));
        TextBuffer { text, home: self.clone() }
    }

    fn take_back(&self, bytes: Box<[u8]>) {
        let mut free = self.free.borrow_mut();
        let (shelf, kept_max) = match bytes.len() {
            SMALL_BYTES => (&mut free.small, SMALL_KEPT_MAX),
            LARGE_BYTES => (&mut free.large, LARGE_KEPT_MAX),
            // A head that outgrew both sizes: rare, not kept.
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
        let size = (self.bytes.len() * 2).min(bytes_max);
        if size <= self.bytes.len() {
            return false;
        }
        self.replace(vec![0; size].into_boxed_slice());
        true
    }

    /// Makes the buffer [`LARGE_BYTES`] long, to take a body.
    pub fn enlarge(&mut self) {
        if self.bytes.len() < LARGE_BYTES {
            let bytes = self.home.large_bytes();
            self.replace(bytes);
        }
    }

    fn replace(&mut self, mut bytes: Box<[u8]>) {
        let held = self.end - self.start;
        bytes[..held].copy_from_slice(&self.bytes[self.start..self.end]);
        let old = std::mem::replace(&mut self.bytes, bytes);
        (self.start, self.end) = (0, held);
        self.home.take_back(old);
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.take_back(bytes);
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
        read_in(&mut buffer, b"hello world");
        buffer.consume(6);
        buffer.enlarge();
        assert_eq!((buffer.filled(), buffer.capacity()), (&b"world"[..], LARGE_BYTES));
        buffer.consume(5);
        assert!(buffer.is_empty());
        assert_eq!(buffer.room().len(), LARGE_BYTES);
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
