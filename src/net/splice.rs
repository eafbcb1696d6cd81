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

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;

use super::timers::Timer;
use super::wire::{Pace, Transport, Waiting, Wire, WireError};

/// What a pipe can hold: also the most that an unprivileged process may ask for.
pub const PIPE_BYTES: usize = 1024 * 1024;

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
        let (free, open, ask_from_ms) = (RefCell::default(), Cell::new(0), Cell::new(0));
        Self { shelf: Rc::new(Shelf { free, open, open_max, ask_from_ms }) }
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
            None => match make() {
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

fn make() -> rustix::io::Result<Ends> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // A pipe that stays small would be slower than copying.
    fcntl_setpipe_size(&write, PIPE_BYTES)?;
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
        let bytes_max = usize::try_from(due).unwrap_or(usize::MAX).min(PIPE_BYTES);
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
                let step = self.with_tcp(|tcp| poll_empty(cx, tcp, pipe));
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

/// Sends from the pipe as much as the socket takes.
fn poll_empty(cx: &mut Context<'_>, tcp: &TcpStream, pipe: &Pipe) -> Poll<io::Result<Step<usize>>> {
    ready!(tcp.poll_write_ready(cx))?;
    let sent = tcp.try_io(Interest::WRITABLE, || {
        Ok(splice(&pipe.ends().read, None, tcp, None, pipe.held, SpliceFlags::NONBLOCK)?)
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
