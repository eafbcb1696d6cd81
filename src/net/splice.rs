//! How does a large body pass without being copied through this process?
//!
//! By `splice(2)`: the kernel moves references to pages out of one socket's queue into a pipe, and
//! on into the other's. The body's bytes are never touched by this process, which costs about a
//! third less than copying (measured on uploads of 1 MiB and answers of 64 MiB) and no memory but
//! the kernel's. It takes clear-text TCP on both sides and a body whose length is known: nothing
//! can be put between bytes that nobody sees, and nobody sees where they end.
//!
//! A pipe belongs to a transfer only while it holds bytes: it is taken from the worker's [`Pipes`]
//! when some have come, and goes back when the last has left. So a few pipes serve many transfers,
//! and one that waits for its source holds none. Where no pipe is to be had, the transfer goes on
//! by copying, piece by piece, and may splice again later.
//!
//! Invariants:
//! 1. A pipe on the shelf is empty. One that is given up with bytes in it is closed, so no byte of
//!    one transfer can come out in another.
//! 2. No more bytes enter a pipe than the caller says are due: what stands behind them in the
//!    socket belongs to another message.
//! 3. Every wait is bounded by the caller's [`Pace`], as if the bytes were copied.
//!
//! `SPLICE_F_MORE` is not used: between pieces it cost a fifth of the throughput. A pipe of
//! 256 KiB was slower than copying, hence [`PIPE_BYTES`].
//!
//! # One body to several connections
//!
//! `tee(2)` has the pages of one pipe stand in another as well, but only from the first one on, and
//! as far as the other has room. So what has come is taken into a *narrow* pipe ([`Pipes::narrow`]),
//! which is spread over the wide ones of all connections ([`Lane`]) at once and is empty again. A pipe
//! has room for so many pieces, however short they are: a wide one for [`LOADS_MAX`] times what a
//! narrow one has, and whoever keeps to that many loads finds room.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice, tee};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;

use super::timers::Timer;
use super::wire::{Pace, Transport, Waiting, Wire, WireError};

/// What a pipe can hold: also the most that an unprivileged process may ask for.
pub const PIPE_BYTES: usize = 1024 * 1024;

/// What a narrow pipe can hold.
const NARROW_BYTES: usize = 256 * 1024;

/// Loads of a narrow pipe that a wide one has room for, whatever pieces they are in.
pub const LOADS_MAX: usize = PIPE_BYTES / NARROW_BYTES;

/// Bodies shorter than this are copied: they fit into a few reads.
pub const SPLICED_BYTES_MIN: u64 = 128 * 1024;

/// Pipes of one worker. Those that are in use at the same moment are few, unless clients are slow.
pub const PIPES_MAX: usize = 16;

/// Pipes of all workers together. Those of an unprivileged user may hold 64 MiB (pipe(7),
/// `pipe-user-pages-soft`), of which this leaves some to others.
const PIPES_OF_ALL_MAX: usize = 48;

/// How many pipes each of `workers` may have.
#[must_use]
pub fn pipes_of_each(workers: usize) -> usize {
    (PIPES_OF_ALL_MAX / workers.max(1)).clamp(2, PIPES_MAX)
}

/// After the kernel refused a pipe: how long none is asked for.
const REFUSED_MS: u64 = 1000;

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

struct Shelf {
    free: RefCell<Vec<Ends>>,
    /// Pipes that there are, on the shelf or in use.
    open: Cell<usize>,
    open_max: usize,
    /// What each can hold.
    bytes: usize,
    ask_from_ms: Cell<u64>,
}

/// One worker's pipes.
#[derive(Clone)]
pub struct Pipes {
    shelf: Rc<Shelf>,
}

impl Pipes {
    /// No pipes yet; at most `open_max` are made, when first needed.
    #[must_use]
    pub fn new(open_max: usize) -> Self {
        Self::of_bytes(open_max, PIPE_BYTES)
    }

    /// The same, with narrow pipes.
    #[must_use]
    pub fn narrow(open_max: usize) -> Self {
        Self::of_bytes(open_max, NARROW_BYTES)
    }

    /// How many there may be at once.
    #[must_use]
    pub fn open_max(&self) -> usize {
        self.shelf.open_max
    }

    fn of_bytes(open_max: usize, bytes: usize) -> Self {
        let (free, open, ask_from_ms) = (RefCell::default(), Cell::new(0), Cell::new(0));
        Self { shelf: Rc::new(Shelf { free, open, open_max, bytes, ask_from_ms }) }
    }

    /// An empty pipe, if there is one to be had.
    fn take(&self, now_ms: u64) -> Option<Pipe> {
        let shelf = &*self.shelf;
        let free = shelf.free.borrow_mut().pop();
        let ends = match free {
            Some(ends) => ends,
            None if shelf.open.get() >= shelf.open_max || now_ms < shelf.ask_from_ms.get() => {
                return None;
            }
            None => match make(shelf.bytes) {
                Ok(ends) => {
                    shelf.open.set(shelf.open.get() + 1);
                    ends
                }
                // Descriptors or the user's share of pipe memory are used up.
                Err(_) => {
                    self.pause(now_ms);
                    return None;
                }
            },
        };
        Some(Pipe { ends: Some(ends), held: 0, home: self.clone() })
    }

    fn pause(&self, now_ms: u64) {
        self.shelf.ask_from_ms.set(now_ms.saturating_add(REFUSED_MS));
    }
}

fn make(bytes: usize) -> rustix::io::Result<Ends> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // A pipe that stays small would be slower than copying.
    fcntl_setpipe_size(&write, bytes)?;
    Ok(Ends { read, write })
}

/// A pipe on loan from its worker, with what a transfer has put into it.
pub struct Pipe {
    /// Always there but in `drop`.
    ends: Option<Ends>,
    held: usize,
    home: Pipes,
}

impl Pipe {
    /// How many bytes it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    fn ends(&self) -> &Ends {
        self.ends.as_ref().expect("there until it is dropped")
    }

    /// Takes out what it holds.
    ///
    /// # Errors
    /// Whatever the kernel says; what was left is lost.
    pub fn into_bytes(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.held];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::io::read(&self.ends().read, &mut bytes[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        self.held = 0;
        Ok(bytes)
    }

    /// Has everything that it holds stand behind what `other` holds, too. False if that did not go,
    /// and `other` has none of it or a part.
    fn copy_to(&self, other: &mut Self) -> bool {
        let (from, to) = (&self.ends().read, &other.ends().write);
        let copied = tee(from, to, self.held, SpliceFlags::NONBLOCK).unwrap_or(0);
        other.held += copied;
        copied == self.held
    }

    /// The same, and is empty then.
    fn pour_into(mut self, other: &mut Self) -> bool {
        while self.held > 0 {
            let (from, to) = (&self.ends().read, &other.ends().write);
            match splice(from, None, to, None, self.held, SpliceFlags::NONBLOCK) {
                Ok(moved @ 1..) => {
                    self.held -= moved;
                    other.held += moved;
                }
                Ok(0) | Err(_) => return false,
            }
        }
        true
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let shelf = &self.home.shelf;
        match self.ends.take() {
            Some(ends) if self.held == 0 => shelf.free.borrow_mut().push(ends),
            _ => shelf.open.set(shelf.open.get() - 1),
        }
    }
}

/// What waits for one of several connections that get the same body: a pipe that is filled behind
/// while it is emptied in front, and is there only while it holds something.
#[derive(Default)]
pub struct Lane {
    pipe: RefCell<Option<Pipe>>,
}

impl Lane {
    /// Takes a pipe, if there is none yet; false if none is to be had.
    fn open(&self, pipes: &Pipes, now_ms: u64) -> bool {
        let mut pipe = self.pipe.borrow_mut();
        if pipe.is_none() {
            *pipe = pipes.take(now_ms);
        }
        pipe.is_some()
    }

    /// Gives the pipe back if it is empty.
    fn rest(&self) {
        self.pipe.borrow_mut().take_if(|pipe| pipe.held == 0);
    }

    /// Drops what waits.
    pub fn clear(&self) {
        drop(self.pipe.take());
    }
}

/// Puts a load, taken in by a narrow pipe, behind what each of `lanes` has, where less than
/// [`LOADS_MAX`] loads wait. Those at whose end it does not stand whole are given back: nothing
/// more may be sent from them.
///
/// # Errors
/// The load: there are not pipes enough, and nothing was done.
pub fn spread<'l>(
    load: Pipe,
    pipes: &Pipes,
    now_ms: u64,
    lanes: &[&'l Lane],
) -> Result<Vec<&'l Lane>, Pipe> {
    if !lanes.iter().all(|lane| lane.open(pipes, now_ms)) {
        lanes.iter().for_each(|lane| lane.rest());
        return Err(load);
    }
    let mut torn = Vec::new();
    let into = |lane: &Lane, put: &mut dyn FnMut(&mut Pipe) -> bool| {
        put(lane.pipe.borrow_mut().as_mut().expect("it was opened"))
    };
    // The last one gets the pages themselves.
    let Some((last, others)) = lanes.split_last() else { return Ok(torn) };
    let others = others.iter().copied();
    torn.extend(others.filter(|lane| !into(lane, &mut |pipe| load.copy_to(pipe))));
    let mut load = Some(load);
    let mut pour = |pipe: &mut Pipe| load.take().is_some_and(|load| load.pour_into(pipe));
    if !into(last, &mut pour) {
        torn.push(last);
    }
    Ok(torn)
}

/// What came of a wish to splice.
pub enum Spliced {
    /// Bytes, at least one.
    Piped(Pipe),
    /// The peer has ended.
    Ended,
    /// No pipe is to be had now: read instead.
    NoPipe,
}

/// What one poll came to.
enum Step<T> {
    Done(T),
    /// Readiness was out of date: ask again.
    Again,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Transport> Wire<S> {
    /// Whether bytes can be spliced from and to this connection.
    pub fn is_clear(&self) -> bool {
        self.with_tcp(|_| ()).is_some()
    }

    /// Waits for bytes and takes what has come, at most `due` of them, into a pipe. Only for a
    /// connection that [`is_clear`](Self::is_clear).
    ///
    /// # Errors
    /// [`WireError`]; nothing was taken.
    pub async fn splice_in(
        &self,
        timer: &Timer,
        pipes: &Pipes,
        due: u64,
        pace: &mut Pace,
    ) -> Result<Spliced, WireError> {
        let bytes_max = usize::try_from(due).unwrap_or(usize::MAX).min(pipes.shelf.bytes);
        let mut waiting = Waiting::default();
        poll_fn(|cx| {
            loop {
                let step = self.with_tcp(|tcp| {
                    let now_ms = timer.timers().now_ms();
                    poll_fill(cx, tcp, pipes, bytes_max, now_ms)
                });
                match step.unwrap_or(Poll::Ready(Ok(Step::Done(Spliced::NoPipe)))) {
                    Poll::Ready(Ok(Step::Again)) => {}
                    Poll::Ready(Ok(Step::Done(spliced))) => {
                        let held = if let Spliced::Piped(pipe) = &spliced { pipe.held } else { 0 };
                        waiting.moved(timer, pace, held);
                        return Poll::Ready(Ok(spliced));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending if waiting.poll_expired(cx, timer, pace) => {
                        return Poll::Ready(Err(WireError::TimedOut));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Sends everything that the pipe holds. Only for a connection that
    /// [`is_clear`](Self::is_clear).
    ///
    /// # Errors
    /// [`WireError`]; the pipe keeps what was not sent, and is of no more use.
    pub async fn splice_out(
        &self,
        timer: &Timer,
        pipe: &mut Pipe,
        pace: &mut Pace,
    ) -> Result<(), WireError> {
        let mut waiting = Waiting::default();
        poll_fn(|cx| {
            while pipe.held > 0 {
                let step = self.with_tcp(|tcp| poll_empty(cx, tcp, pipe, pipe.held));
                let step = step.unwrap_or_else(|| Poll::Ready(Err(Errno::INVAL.into())));
                match step {
                    Poll::Ready(Ok(Step::Again)) => {}
                    Poll::Ready(Ok(Step::Done(sent))) => {
                        pipe.held -= sent;
                        waiting.moved(timer, pace, sent);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending if waiting.poll_expired(cx, timer, pace) => {
                        return Poll::Ready(Err(WireError::TimedOut));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Sends the next `bytes` of what waits in a lane, in which others may be put meanwhile. Only
    /// for a connection that [`is_clear`](Self::is_clear).
    ///
    /// # Errors
    /// [`WireError`]; how much was sent is then unknown to the caller.
    pub async fn splice_lane(
        &self,
        timer: &Timer,
        lane: &Lane,
        bytes: usize,
        pace: &mut Pace,
    ) -> Result<(), WireError> {
        let (mut waiting, mut left) = (Waiting::default(), bytes);
        poll_fn(|cx| {
            while left > 0 {
                let step = self.with_tcp(|tcp| match &*lane.pipe.borrow() {
                    Some(pipe) if pipe.held > 0 => poll_empty(cx, tcp, pipe, left.min(pipe.held)),
                    // It was cleared.
                    _ => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                });
                let step = step.unwrap_or_else(|| Poll::Ready(Err(Errno::INVAL.into())));
                match step {
                    Poll::Ready(Ok(Step::Again)) => {}
                    Poll::Ready(Ok(Step::Done(sent))) => {
                        left -= sent;
                        if let Some(pipe) = &mut *lane.pipe.borrow_mut() {
                            pipe.held -= sent;
                        }
                        lane.rest();
                        waiting.moved(timer, pace, sent);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending if waiting.poll_expired(cx, timer, pace) => {
                        return Poll::Ready(Err(WireError::TimedOut));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }
}

/// Fills a pipe from the socket, if anything is there.
fn poll_fill(
    cx: &mut Context<'_>,
    tcp: &TcpStream,
    pipes: &Pipes,
    bytes_max: usize,
    now_ms: u64,
) -> Poll<io::Result<Step<Spliced>>> {
    // This is what takes part in the runtime's fairness as well: no turn without it.
    ready!(tcp.poll_read_ready(cx))?;
    let Some(mut pipe) = pipes.take(now_ms) else {
        return Poll::Ready(Ok(Step::Done(Spliced::NoPipe)));
    };
    let write = &pipe.ends().write;
    let taken = tcp.try_io(Interest::READABLE, || {
        Ok(splice(tcp, None, write, None, bytes_max, SpliceFlags::NONBLOCK)?)
    });
    Poll::Ready(match taken {
        Ok(0) => Ok(Step::Done(Spliced::Ended)),
        Ok(taken) => {
            pipe.held = taken;
            Ok(Step::Done(Spliced::Piped(pipe)))
        }
        Err(error) if is_not_now(&error) => Ok(Step::Again),
        // Not on this kernel, or not allowed by a filter of system calls.
        Err(error) if is_refused(&error) => {
            pipes.pause(now_ms);
            Ok(Step::Done(Spliced::NoPipe))
        }
        Err(error) => Err(error),
    })
}

/// Sends from the pipe as much as the socket takes, at most `bytes_max`.
fn poll_empty(
    cx: &mut Context<'_>,
    tcp: &TcpStream,
    pipe: &Pipe,
    bytes_max: usize,
) -> Poll<io::Result<Step<usize>>> {
    ready!(tcp.poll_write_ready(cx))?;
    let sent = tcp.try_io(Interest::WRITABLE, || {
        Ok(splice(&pipe.ends().read, None, tcp, None, bytes_max, SpliceFlags::NONBLOCK)?)
    });
    Poll::Ready(match sent {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Ok(sent) => Ok(Step::Done(sent)),
        Err(error) if is_not_now(&error) => Ok(Step::Again),
        Err(error) => Err(error),
    })
}

fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn is_refused(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::ACCESS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe_with(pipes: &Pipes, bytes: &[u8]) -> Pipe {
        let mut pipe = pipes.take(0).expect("a pipe");
        pipe.held = rustix::io::write(&pipe.ends().write, bytes).expect("room");
        assert_eq!(pipe.held, bytes.len());
        pipe
    }

    fn bytes_of(lane: &Lane) -> Vec<u8> {
        lane.pipe.take().map_or_else(Vec::new, |pipe| pipe.into_bytes().expect("what it holds"))
    }

    /// As many loads of as many pieces as a narrow pipe takes: pieces of one byte that the kernel
    /// does not put together, so that room runs out in pieces and not in bytes.
    #[test]
    fn so_many_loads_find_room_whatever_pieces_they_are_in() {
        let (wide, narrow) = (Pipes::new(3), Pipes::narrow(1));
        let lanes: [Lane; 3] = Default::default();
        let lanes: Vec<&Lane> = lanes.iter().collect();
        // A byte behind bytes that are shared is a piece of its own.
        let source = pipe_with(&wide, b"x");
        let mut sent = Vec::new();
        for _ in 0..LOADS_MAX {
            let mut load = narrow.take(0).expect("a pipe");
            while source.copy_to(&mut load) {}
            assert!(load.held >= NARROW_BYTES / 4096, "a piece for each page: {}", load.held);
            sent.extend(std::iter::repeat_n(b'x', load.held));
            let torn = spread(load, &Pipes::new(3), 0, &lanes);
            assert!(matches!(torn, Ok(torn) if torn.is_empty()));
        }
        for lane in lanes {
            assert_eq!(bytes_of(lane), sent);
        }
        assert_eq!(narrow.shelf.free.borrow().len(), 1, "the narrow pipe is empty again");
    }

    #[test]
    fn without_pipes_for_all_nothing_is_done() {
        let (wide, narrow) = (Pipes::new(2), Pipes::narrow(1));
        let lanes: [Lane; 3] = Default::default();
        let lanes: Vec<&Lane> = lanes.iter().collect();
        let load = pipe_with(&narrow, b"hello");
        let Err(load) = spread(load, &wide, 0, &lanes) else { panic!("there are two pipes") };
        assert!(lanes.iter().all(|lane| lane.pipe.borrow().is_none()));
        assert_eq!(wide.shelf.free.borrow().len(), 2);
        assert_eq!(load.into_bytes().expect("what it holds"), b"hello");
        let torn = spread(pipe_with(&narrow, b"hello"), &wide, 0, &lanes[1..]);
        assert!(matches!(torn, Ok(torn) if torn.is_empty()));
        assert_eq!(
            (bytes_of(lanes[1]), bytes_of(lanes[2])),
            (b"hello".to_vec(), b"hello".to_vec())
        );
    }

    /// Where there is no room after all, that lane is said to be torn, and the others have all.
    #[test]
    fn a_lane_without_room_is_torn_and_the_others_are_whole() {
        let (wide, narrow) = (Pipes::new(3), Pipes::narrow(1));
        let lanes: [Lane; 2] = Default::default();
        let source = pipe_with(&wide, b"x");
        let mut full = wide.take(0).expect("a pipe");
        while source.copy_to(&mut full) {}
        lanes[0].pipe.replace(Some(full));
        let all: Vec<&Lane> = lanes.iter().collect();
        let Ok(torn) = spread(pipe_with(&narrow, b"hello"), &wide, 0, &all) else { panic!() };
        assert!(torn.len() == 1 && std::ptr::eq(torn[0], &raw const lanes[0]));
        assert_eq!(bytes_of(&lanes[1]), b"hello");
    }
}
